"""How near the chat judge comes to what an endpoint could give: requests a second against the ideal rate.

An endpoint on loopback answers every request after a set delay (tests/judges/server.py, a process of its own). With c
requests under way at a time no client can be faster than c / delay; the ratio is the measured rate over that one.
Prompts are rendered, sent, read, parsed and kept on disk, as in a run. Prints one JSON object.
Run: python benchmarks/judges.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from radiograd.judges.builtin import load_judge
from radiograd.judges.protocol import Duel

SERVER = Path(__file__).parent.parent / "tests" / "judges" / "server.py"
FLOOR = 0.8
SENTENCES = (
    "The heart is mildly enlarged.",
    "There is a small left pleural effusion with adjacent atelectasis.",
    "No pneumothorax is seen.",
    "The mediastinal contours are within normal limits.",
    "Degenerative changes of the thoracic spine are noted.",
)


def main() -> None:
    """Parse the command line, measure, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=3200)
    options.add_argument("--concurrency", type=int, default=64)
    options.add_argument("--delay", type=float, default=0.1, help="seconds until the endpoint answers")
    given = options.parse_args()
    sys.stdout.write(json.dumps(measure(given.requests, given.concurrency, given.delay), indent=1) + "\n")


def measure(requests: int, concurrency: int, delay_s: float) -> dict[str, Any]:
    """Both rates and their ratio; the second pass over the same questions must ask nothing."""
    duels = [Duel(str(k), " ".join(SENTENCES), f"Effusion {k}.", f"No effusion {k}.") for k in range(requests // 2)]
    with tempfile.TemporaryDirectory() as folder, _server(delay_s) as server:
        assert server.stdout is not None
        address = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        cache = str(Path(folder) / "replies.sqlite")
        judge: Any = load_judge(
            "chat", {"base_url": address, "model": "longer", "concurrency": concurrency, "cache": cache}
        )
        started, busy = time.perf_counter(), time.process_time()
        found = judge.prefer(duels)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        started = time.perf_counter()
        again = judge.prefer(duels)
        again_s = time.perf_counter() - started
        judge.close()
    asked = sum(answer.usage.asked for answer in found)
    if asked != 2 * len(duels) or any(answer.usage.asked for answer in again):
        raise SystemExit(f"{asked} requests for {2 * len(duels)} questions: this is no measurement")
    ideal = concurrency / delay_s
    return {
        "what": "judge",
        "ours": {
            "requests": asked,
            "seconds": seconds,
            "requests_per_second": asked / seconds,
            "processor_ms_per_request": 1000 * busy / asked,
            "seconds_from_cache": again_s,
        },
        "peer": {"name": "ideal", "concurrency": concurrency, "delay_s": delay_s, "requests_per_second": ideal},
        "ratio": asked / seconds / ideal,
        "floor_ratio": FLOOR,
        "device": "cpu",
        "cores": os.cpu_count(),
    }


def _server(delay_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, str(SERVER), "--delay", str(delay_s)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    main()
