"""Every film below a folder, by its header alone: streamed, in the same order each time."""

from __future__ import annotations

import functools
import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from radiograd.errors import FilmError, printable
from radiograd.films.decode import read_film, read_header
from radiograd.films.dicom import is_dicom
from radiograd.films.film import SUFFIXES, Format
from radiograd.films.workers import spread
from radiograd.types import Problem

HIDDEN, SPECIAL, UNNAMED, SEEN = "hidden", "not a file", "no ending, not DICOM", "folder seen before"
"""Why files and folders are passed over, beside their ending."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """A film file: what its first bytes say it is, and its size in pixels, held upright."""

    path: Path
    format: Format
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Scan:
    """A folder's films in order, what could not be read, and what was passed over: ending or reason -> count."""

    films: list[Indexed]
    problems: list[Problem]
    passed: dict[str, int]


def scan(folder: str | os.PathLike[str], jobs: int = 1, *, verify: bool = False) -> Scan:
    """:func:`index_films` as lists."""
    passed: Counter[str] = Counter()
    films: list[Indexed] = []
    problems: list[Problem] = []
    for row in index_films(folder, jobs=jobs, verify=verify, passed=passed):
        if isinstance(row, Indexed):
            films.append(row)
        else:
            problems.append(row)
    return Scan(films, problems, dict(passed.most_common()))


def index_films(
    folder: str | os.PathLike[str], *, jobs: int = 1, verify: bool = False, passed: Counter[str] | None = None
) -> Iterator[Indexed | Problem]:
    """Films below ``folder``, or what is wrong with one, as they are found; memory holds one folder's names.

    A film is a file with one of SUFFIXES, or with no ending (or a number for one, as in a UID) and the mark of a DICOM
    file. Names are sorted in each folder, files before folders; links to folders come last of all, each real folder
    once. Hidden names and other endings are passed over and counted in ``passed``. ``verify`` decodes every film, and
    names those whose pixels are all the same. ``jobs``: worker processes.

    Raises FilmError when ``folder`` is not a folder that can be listed, MissingExtra as read_film.
    """
    try:
        with os.scandir(folder):
            pass
    except OSError as error:
        raise FilmError(folder, f"is not a folder that can be listed ({error.strerror})") from None
    found = walk(os.fsdecode(folder), Counter() if passed is None else passed)
    return spread(functools.partial(_row, verify=verify), found, jobs, _lost)


def look_at(paths: Iterable[str], *, jobs: int = 1, verify: bool = False) -> Iterator[Indexed | Problem]:
    """The same of given files, in the order given."""
    return spread(functools.partial(_row, verify=verify), paths, jobs, _lost)


def _row(found: str | Problem, verify: bool) -> Indexed | Problem:
    if isinstance(found, Problem):
        return found
    try:
        if not verify:
            header = read_header(found)
            return Indexed(Path(found), header.format, header.width, header.height)
        film = read_film(found)
    except FilmError as error:
        return Problem(error.path, error.why)
    if film.pixels.min() == film.pixels.max():
        return Problem(printable(found), "every pixel has the same value")
    return Indexed(Path(found), film.format, film.width, film.height)


def _lost(found: str | Problem) -> Indexed | Problem:
    if isinstance(found, Problem):
        return found
    return Problem(printable(found), "its decoder crashed or was killed (out of memory?)")


# ---- the folder ------------------------------------------------------------------------------------------------------


def walk(folder: str, passed: Counter[str]) -> Iterator[str | Problem]:
    """Paths of what should be films, and folders that cannot be listed."""
    seen: set[tuple[int, int]] = set()
    linked: deque[str] = deque([folder])
    while linked:
        todo = [linked.popleft()]
        while todo:
            here = todo.pop()
            try:
                facts = Path(here).stat()
                if (facts.st_dev, facts.st_ino) in seen:
                    passed[SEEN] += 1
                    continue
                seen.add((facts.st_dev, facts.st_ino))
                with os.scandir(here) as entries:
                    names = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                yield Problem(printable(here), f"folder cannot be listed ({error.strerror})")
                continue
            folders: list[str] = []
            for entry in names:
                if entry.name.startswith("."):
                    passed[HIDDEN] += 1
                elif _is_folder(entry):
                    (linked if entry.is_symlink() else folders).append(entry.path)
                elif (why := _not_a_film(entry)) is not None:
                    passed[why] += 1
                else:
                    yield entry.path
            todo.extend(reversed(folders))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _not_a_film(entry: os.DirEntry[str]) -> str | None:
    """Why it is passed over; None for what should be a film, broken links included."""
    suffix = Path(entry.name).suffix.lower()
    if suffix in SUFFIXES:
        return None
    try:
        mode = entry.stat().st_mode
    except OSError:
        mode = 0
    if not stat.S_ISREG(mode):
        return SPECIAL
    if suffix and not suffix[1:].isdigit():
        return printable(suffix)
    return None if entry.name != "DICOMDIR" and is_dicom(Path(entry.path)) else UNNAMED
