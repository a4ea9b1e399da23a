"""A real HTTP server on loopback for the chat judge, in a process of its own; see server.py for how it behaves."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("server.py")


class Served:
    """The server as a test sees it."""

    def __init__(self, port: int) -> None:
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def counts(self) -> dict[str, Any]:
        """Everything counted since the server was started."""
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/counts", timeout=10) as answer:
            counts: dict[str, Any] = json.load(answer)
        return counts


@contextmanager
def serve(delay_s: float = 0.0) -> Iterator[Served]:
    """A server until the end of the block."""
    command = [sys.executable, str(SERVER), "--delay", str(delay_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Served(int(process.stdout.readline()))
