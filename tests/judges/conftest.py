"""Servers on loopback and chat judges that ask them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import Served, serve


@pytest.fixture
def served() -> Iterator[Served]:
    """A server whose counts are the test's own."""
    with serve() as one:
        yield one


@pytest.fixture
def slow() -> Iterator[Served]:
    """The same, a tenth of a second late."""
    with serve(0.1) as one:
        yield one


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    """One server for all tests of a file that count nothing."""
    with serve() as one:
        yield one


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes a chat judge: ``chat(served, "model", option=...)``; its replies are kept for the length of the test."""
    from radiograd.judges.builtin import load_judge

    made: list[Any] = []

    def make(where: Served, model: str, *, credentialed: bool = False, **options: Any) -> Any:
        given = {"base_url": where.base_url, "model": model, "cache": str(tmp_path / "replies.sqlite"), **options}
        made.append(load_judge("chat", given, credentialed=credentialed))
        return made[-1]

    yield make
    for judge in made:
        judge.close()
