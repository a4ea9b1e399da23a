"""Decoders warn of what they mend; here a film is read or it is not. pydicom's warnings may name the patient."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_inside = 0
_logger = logging.getLogger("pydicom")
_held: warnings.catch_warnings[None] | None = None


@contextmanager
def no_warnings() -> Iterator[None]:
    """Python's warnings and pydicom's log are off inside, in every thread, until the last one leaves.

    ``warnings.catch_warnings`` alone restores the wrong filters when two threads overlap.
    """
    global _inside, _held
    with _lock:
        if _inside == 0:
            _held = warnings.catch_warnings()
            _held.__enter__()
            warnings.simplefilter("ignore")
            _logger.propagate = False  # to what listens at the root; pydicom's own handler says nothing
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _held is not None:
                _held.__exit__(None, None, None)
                _logger.propagate = True
                _held = None
