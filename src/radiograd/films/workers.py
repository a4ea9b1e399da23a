"""The same work on many files, in worker processes, in order. A file that kills its worker is named, not fatal."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from radiograd.errors import UsageError

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 64
"""Items handed to a worker at once."""
_AHEAD = 3
"""Chunks per worker that may be waiting; what bounds the memory."""


def spread(work: Callable[[T], R], items: Iterable[T], jobs: int, lost: Callable[[T], R]) -> Iterator[R]:
    """``work(item)`` of every item, in order. One job works in this process, more in that many others.

    ``work`` and items must then be picklable. When a worker dies (a decoder that crashed, the memory that ran out),
    what was waiting is done again, the chunk in question item by item; ``lost(item)`` stands for an item whose worker
    died with it alone. An exception of ``work`` ends it. Workers end soon after this process, however it ends.
    UsageError for jobs below 1.
    """
    if jobs < 1:
        raise UsageError(f"--jobs must be 1 or more, not {jobs}")
    return map(work, items) if jobs == 1 else _spread(work, items, jobs, lost)


def _spread(work: Callable[[T], R], items: Iterable[T], jobs: int, lost: Callable[[T], R]) -> Iterator[R]:
    rest = iter(items)
    waiting: deque[tuple[list[T], Future[list[R]]]] = deque()
    pool = _pool(jobs)
    do = functools.partial(_all, work)
    try:
        while True:
            while len(waiting) < _AHEAD * jobs and (chunk := list(islice(rest, CHUNK))):
                waiting.append((chunk, _submit(pool, do, chunk)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            try:
                results = future.result()
            except BrokenProcessPool:
                pool.shutdown(wait=False)
                results = [_alone(work, item, lost) for item in chunk]
                pool = _pool(jobs)
                waiting = deque((later, _submit(pool, do, later)) for later, _ in waiting)
            yield from results
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, initializer=_begin, initargs=(os.getpid(),))


def _submit(pool: ProcessPoolExecutor, do: Callable[[list[T]], list[R]], chunk: list[T]) -> Future[list[R]]:
    try:
        return pool.submit(do, chunk)
    except BrokenProcessPool as error:  # it broke over an earlier chunk
        broken: Future[list[R]] = Future()
        broken.set_exception(error)
        return broken


def _alone(work: Callable[[T], R], item: T, lost: Callable[[T], R]) -> R:
    with _pool(1) as pool:
        try:
            return pool.submit(work, item).result()
        except BrokenProcessPool:
            return lost(item)


def _all(work: Callable[[T], R], items: list[T]) -> list[R]:
    return [work(item) for item in items]


def _begin(parent: int) -> None:
    """A worker leaves Ctrl-C to its parent, and does not outlive it: the pool's pipes would not tell it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
