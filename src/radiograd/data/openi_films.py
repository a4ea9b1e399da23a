"""Which films belong to which OpenI report, in the three ways they are handed out.

- a table beside the films or in the folder above: ``manifest.csv`` (uid, file, xml_image_id, view, dicom_rows,
  dicom_cols, r2gen_split), Kaggle's ``indiana_projections.csv`` (uid, filename, projection), or
  ``nlmcxr_dicom_metadata.csv`` (imageid, View Position, Rows, Columns; out of the package torchxrayvision)
- the official archives NLMCXR_png and NLMCXR_dcm, unpacked: CXR1_1_IM-0001-3001.png, 1/1_IM-0001-3001.dcm. The reports
  name the films; nobody says which view a film is, unless the third table lies there too.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from radiograd.data.films import film_files
from radiograd.data.layout import Names, documented_rows, id_of, pixels, text_of
from radiograd.data.views import view_name
from radiograd.errors import DataError
from radiograd.types import Image, Problem, Study

log = logging.getLogger(__name__)

TABLES = ("manifest.csv", "indiana_projections.csv", "nlmcxr_dicom_metadata.csv", "nlmcxr_dicom_metadata.csv.gz")
_FIELDS: Names = {
    "uid": ("uid",),
    "file": ("file", "filename"),
    "image_id": ("xml_image_id", "imageid"),
    "view": ("view", "projection", "View Position"),
    "sides": ("Patient Orientation",),
    "height": ("dicom_rows", "Rows"),
    "width": ("dicom_cols", "Columns"),
    "split": ("r2gen_split", "split"),
}
_ROWS_OF = {"['l', 'f']": "Frontal", "['r', 'f']": "Frontal", "['a', 'f']": "Lateral", "['p', 'f']": "Lateral"}
"""Patient Orientation (0020,0020) of a film whose View Position is empty: along a row to the left = seen from front."""


@dataclass(slots=True)
class _Table:
    """What a table says: films by study in its order, facts by stem of the film's file name, splits by study."""

    films: dict[str, list[tuple[str, Image]]]
    splits: dict[str, str]
    by_stem: dict[str, Image]


def table_of(folder: Path) -> Path | None:
    """The table that belongs to the films in ``folder``, if there is one."""
    tables = (place / name for place in (folder, folder.parent) for name in TABLES)
    return next((table for table in tables if table.is_file()), None)


def with_films(rows: Iterable[Study | Problem], folder: Path) -> Iterator[Study | Problem]:
    """``rows`` with paths below ``folder``, views and sizes on their films, and the table's split on the studies.

    Where a table gives files by study, those are the study's films; what the report names besides keeps a path at
    which nothing lies, so that it is counted as missing. Raises DataError when ``folder`` is none or holds no film,
    or when the table lacks a column.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check data.images (relative paths start at {Path.cwd()})")
    files = film_files(folder)
    if not files:
        raise DataError(f"{folder}: no film in it; data.images is the folder of the unpacked films")
    table = _Table({}, {}, {})
    file = table_of(folder)
    if file is not None:
        yield from _read(file, table)
    seen: set[str] = set()
    for row in rows:
        if isinstance(row, Problem):
            yield row
            continue
        seen.add(row.study_id)
        listed = table.films.get(row.study_id, ())
        films = [replace(image, path=Path(files.get(_stem(name), name))) for name, image in listed]
        taken = {image.image_id for image in films} | {_stem(name) for name, _ in listed}
        for image in row.images:
            if image.image_id not in taken and not taken & set(_stems(image.image_id)):
                films.append(_named(image, files, table.by_stem))
        yield replace(row, images=tuple(films), split=table.splits.get(row.study_id))
    left = sum(len(films) for study_id, films in table.films.items() if study_id not in seen)
    if left:
        log.info("%s: %d films belong to no report", folder, left)


def _named(image: Image, files: Mapping[str, str], facts: Mapping[str, Image]) -> Image:
    """A film that the report names, where it lies and with what a table says of it."""
    stem = next((stem for stem in _stems(image.image_id) if stem in files), None)
    known = next((facts[stem] for stem in _stems(image.image_id) if stem in facts), image)
    path = Path(f"{image.image_id}.png" if stem is None else files[stem])
    return replace(image, path=path, view=known.view, width=known.width, height=known.height)


def _stems(image_id: str) -> tuple[str, ...]:
    """What the file of CXR1_1_IM-0001-3001 may be called, without its ending: so, or 1_IM-0001-3001."""
    without = image_id.removeprefix("CXR")
    return image_id, without, re.sub(r"^(\d+)_\1_", r"\1_", without)


def _stem(name: str) -> str:
    stem = Path(name).stem
    return stem.removesuffix(".dcm")


def _read(file: Path, table: _Table) -> Iterator[Problem]:
    films: dict[str, list[tuple[str, Image]]] = defaultdict(list)
    by_image = "nlmcxr" in file.name
    for row in documented_rows(file, _FIELDS, ("image_id",) if by_image else ("uid", "file"), {}):
        if isinstance(row, Problem):
            yield row
            continue
        where, cells = row
        name, uid = text_of(cells["image_id" if by_image else "file"]), id_of(cells.get("uid"))
        if name is None or (uid is None and not by_image):
            yield Problem(where, "names no film or no study")
            continue
        image_id = text_of(cells.get("image_id")) or _stem(name)
        view = view_name(cells.get("view")) or _ROWS_OF.get((text_of(cells.get("sides")) or "").lower())
        image = Image(image_id, None, view, pixels(cells.get("width")), pixels(cells.get("height")))
        if by_image:
            table.by_stem[name] = image
            continue
        study_id = f"CXR{(uid or '').removeprefix('CXR')}"
        films[study_id].append((name, image))
        split = text_of(cells.get("split"))
        if split is not None:
            table.splits[study_id] = split
    table.films = dict(films)
