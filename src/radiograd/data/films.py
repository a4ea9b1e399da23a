"""The films that studies name: which of them lie on disk, which are kept, and how many there are.

A reader names films by a path below ``data.images``. Nothing is opened here: a folder of which several films are named
is listed once, so that 100,000 films cost seconds and not one look at the disk each.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from radiograd.data.views import frontal_first, is_wanted, view_kind
from radiograd.errors import DataError
from radiograd.types import Image, Problem, Study

ENDINGS = (".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff")
"""What a film's file name ends in, in any case."""
MISSING = "is named and is not on disk"
"""Ends the ``why`` of every Problem about a film that is not there."""

_LISTED = 2  # from so many films of one folder on, listing it is cheaper than asking for each


@dataclass(frozen=True, slots=True)
class Placed:
    """Studies with the films that are there, and a Problem for each film that is not."""

    studies: list[Study]
    problems: list[Problem]


def place(
    studies: Sequence[Study],
    root: Path | None,
    *,
    views: Collection[str] | None = None,
    most: int | None = None,
    any_ending: bool = False,
) -> Placed:
    """``studies`` with films of the wanted ``views`` that lie on disk, frontal first, at most ``most`` of each.

    Films of other views are not looked for. A relative path is one below ``root``; without a root it is dropped and the
    film keeps its identifier alone. A film whose path is None is kept as it is. ``studies``: of different ids.
    ``any_ending``: a film that lies there under another of ``ENDINGS`` is taken (the same archive is handed out as PNG,
    JPEG and DICOM). A study is never dropped. Raises DataError when ``root`` is no folder, or when films are named and
    not one of them is there.
    """
    if root is not None and not root.is_dir():
        raise DataError(f"{root}: no such folder; check data.images (relative paths start at {Path.cwd()})")
    wanted = {study.study_id: [i for i in study.images if is_wanted(i.view, views)] for study in studies}
    named = {
        str(image.path)
        for images in wanted.values()
        for image in images
        if image.path is not None and (root is not None or image.path.is_absolute())
    }
    found = _on_disk(named, root, any_ending)
    if root is not None and named and not found:
        first = min(named)
        raise DataError(
            f"none of the {len(named)} films that the reports name is there (first: {root / first}); "
            "set data.images to the folder that their paths start in"
        )
    problems: list[Problem] = []
    placed: list[Study] = []
    for study in studies:
        if not study.images:
            placed.append(study)
            continue
        there: list[Image] = []
        for image in wanted[study.study_id]:
            name = str(image.path)
            if image.path is None or name in found:
                there.append(replace(image, path=found.get(name)))
            elif name in named:
                problems.append(Problem(str(Path(root or "", name)), f"film of {study.study_id} {MISSING}"))
            else:
                there.append(replace(image, path=None))
        kept = frontal_first(there)[:most]
        placed.append(study if kept == study.images else replace(study, images=kept))
    return Placed(placed, problems)


def film_counts(studies: Sequence[Study], problems: Sequence[Problem]) -> dict[str, Any] | None:
    """How many films there are, as values JSON can hold; None where no film is on disk and none is missing.

    ``studies``: studies by number of films (0, 1, 2, 3+). ``views``: films by kind of view. ``sizes``: films whose size
    as taken is known. ``without_frontal``: studies with films of known views, none of them frontal.
    """
    of_each = [[image for image in study.images if image.path is not None] for study in studies]
    missing = sum(is_missing(problem) for problem in problems)
    films = [image for images in of_each for image in images]
    if not films and not missing:
        return None
    kinds = [{view_kind(image.view) for image in images} for images in of_each]
    numbers = Counter(min(len(images), 3) for images in of_each)
    return {
        "films": len(films),
        "studies": {label: numbers[n] for n, label in enumerate(("0", "1", "2", "3+"))},
        "views": dict(sorted(Counter(view_kind(image.view) for image in films).items())),
        "sizes": sum(image.width is not None and image.height is not None for image in films),
        "without_frontal": sum(bool(kind) and not kind & {"frontal", "unknown"} for kind in kinds),
        "missing": missing,
    }


def is_missing(problem: Problem) -> bool:
    """Whether the Problem is about a film that is named and not on disk."""
    return problem.why.endswith(MISSING)


def _on_disk(named: Iterable[str], root: Path | None, any_ending: bool) -> dict[str, Path]:
    """Name -> its path, for the names that are there. Relative ones start in ``root``."""
    start = "" if root is None else str(root)
    folders: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in named:
        folder, file = os.path.split(os.path.join(start, name))  # noqa: PTH118 a Path each would cost as much as all else
        folders[folder].append((name, file))
    found: dict[str, Path] = {}
    for folder, members in folders.items():
        if len(members) < _LISTED and not any_ending:
            name, file = members[0]
            if os.path.exists(os.path.join(folder, file)):  # noqa: PTH110, PTH118 says no, where pathlib may raise
                found[name] = Path(folder, file)
            continue
        there = frozenset(listing(folder))
        others: dict[str, str] | None = None
        for name, file in members:
            if file not in there and any_ending:
                others = _by_stem(there) if others is None else others
                file = others.get(Path(file).stem, file)
            if file in there:
                found[name] = Path(folder, file)
    return found


def _by_stem(files: Iterable[str]) -> dict[str, str]:
    """File name without its ending -> the film of that name; of several the first by :data:`ENDINGS`."""
    films = [(ENDINGS.index(Path(file).suffix.lower()), file) for file in files if is_film(file)]
    return {Path(file).stem: file for _, file in sorted(films, reverse=True)}


def is_film(name: str) -> bool:
    """Whether a file name ends like a film."""
    return name.lower().endswith(ENDINGS)


def film_files(folder: Path) -> dict[str, str]:
    """Stem -> path below ``folder`` of every film in it and in its subfolders, by one listing each.

    Kaggle's copies are called 1_IM-0001-4001.dcm.png; their stem is 1_IM-0001-4001 too.
    """
    found: dict[str, str] = {}
    for where, _, files in os.walk(folder):
        below = os.path.relpath(where, folder)
        for file in sorted(files):
            if is_film(file):
                stem = Path(file).stem
                stem = Path(stem).stem if is_film(stem) else stem
                found.setdefault(stem, file if below == "." else os.path.join(below, file))  # noqa: PTH118
    return found


def listing(folder: str | Path) -> list[str]:
    """Names of what lies in a folder; [] when there is none or it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return []
