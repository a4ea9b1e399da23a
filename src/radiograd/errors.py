"""Errors a user can act on: what happened, to which one, and what to type next.

Messages hold ids, file names, line numbers and keys. They never hold report text.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from os import PathLike, fsdecode


class RadiogradError(Exception):
    """Anything that should end a command with one line on stderr instead of a traceback."""

    exit_code = 1


class UsageError(RadiogradError):
    """The command was called wrongly: a wrong argument, key or path."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration that cannot be used, found before anything expensive starts."""


class DataError(RadiogradError):
    """Input data that cannot be read as it is."""


class FilmError(DataError):
    """A film that cannot be read: ``path`` and ``why`` not. Nothing a file says of its patient is in either."""

    def __init__(self, path: str | PathLike[str], why: str) -> None:
        self.path, self.why = printable(path), why
        super().__init__(f"{self.path}: {why}")

    def __reduce__(self) -> tuple[type[FilmError], tuple[str, str]]:
        return FilmError, (self.path, self.why)  # worker processes send it


class AssetError(RadiogradError):
    """A pinned file (reports, weights) is missing, damaged or could not be fetched."""


class ModelError(RadiogradError):
    """A model that is not there or cannot do what is asked of it."""


class JudgeError(RadiogradError):
    """A judge that cannot work at all, or that left too much unanswered."""


class RunError(RadiogradError):
    """A run folder that is in use, belongs to another configuration, or is incomplete."""


class MissingExtra(RadiogradError):
    """An optional dependency is not installed; the message holds the line that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(f"{what} needs an extra: pip install 'radiograd[{extra}]'")

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return MissingExtra, (self.what, self.extra)  # worker processes send it


def printable(path: str | PathLike[str]) -> str:
    """A path on one line that any terminal and any UTF-8 file takes: what cannot be printed stands as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in fsdecode(path))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` or, without a near match, the list of known words (both start with a blank)."""
    known = sorted(known)
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Known: {', '.join(known)}." if known else ""
