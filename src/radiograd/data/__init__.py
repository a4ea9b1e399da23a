"""Studies from files. A reader is ``read(path, columns) -> iterator of Study | Problem``.

One that has to know where the films are also takes ``images``, the folder of ``data.images`` or None. Films are named
by paths below that folder; :mod:`radiograd.data.films` finds out which are there.

Good rows survive: a row that cannot be used becomes a Problem that names the file and line (or the id), and the rest
is still read. A file that cannot be read at all raises DataError.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from radiograd.config import DataConfig, SourceConfig
from radiograd.data.builtin import ANY_ENDING, READERS
from radiograd.data.films import is_film, place
from radiograd.errors import ConfigError, DataError
from radiograd.naming import resolve
from radiograd.types import Problem, Study

log = logging.getLogger(__name__)

DUPLICATE_ID = "its study_id was seen before"
"""The ``why`` of every Problem about a repeated study_id."""

_KNOWN_BY = {
    "mimic-cxr-*.csv*": "mimic-cxr",
    "mimic-cxr-reports.zip": "mimic-cxr",
    "df_chexpert_plus*.csv*": "chexpert-plus",
    "PADCHEST*.csv*": "padchest",
    "*_metadata_view_position.json": "rexgradient",
    "annotation.json": "r2gen",
}
"""A file that tells what a folder holds -> its reader."""


class Reader(Protocol):
    """``path``: file or folder. ``columns``: Study field -> column, for sources that have columns. One may take
    ``images`` as well."""

    def __call__(self, path: Path, columns: Mapping[str, str]) -> Iterator[Study | Problem]: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a source held: studies in the source's order, and what was passed over."""

    studies: list[Study]
    problems: list[Problem]


def load(data: DataConfig) -> Loaded:
    """Read everything ``data`` points at. Study ids are unique in the result.

    Studies of further sources carry their site, and its name before the ids of study and patient. Raises ConfigError
    for an unknown reader or a missing ``data.path``, DataError when the path does not exist or nothing could be read
    from it, or none of the films it names is there, AssetError when the OpenI archive has not been fetched.
    """
    loaded = _load_one(data, data)
    for source in data.more:
        further, name = _load_one(source, data), source.name
        ids = {study.study_id for study in further.studies}
        loaded.studies.extend(
            replace(
                s,
                study_id=f"{name}:{s.study_id}",
                patient_id=f"{name}:{s.patient_id}",
                prior=f"{name}:{s.prior}" if s.prior in ids else s.prior,
                site=name,
            )
            for s in further.studies
        )
        loaded.problems.extend(Problem(f"{name}:{problem.where}", problem.why) for problem in further.problems)
    return loaded if not data.more else collect([*loaded.problems, *loaded.studies], data.source)


def _load_one(data: DataConfig | SourceConfig, kept: DataConfig) -> Loaded:
    """One source, with the films that ``kept`` keeps."""
    reader: Callable[..., Iterator[Study | Problem]] = resolve("reader", data.source, READERS)
    if not callable(reader):
        raise ConfigError(f"data.source {data.source!r} is not a function read(path, columns)")
    path, root = source_path(data), None if data.images is None else Path(data.images).expanduser()
    takes_images = "images" in inspect.signature(reader).parameters
    rows = reader(path, data.columns, images=root) if takes_images else reader(path, data.columns)
    loaded = collect(rows, data.source)
    if not loaded.studies:
        first = f" (first: {loaded.problems[0].where}: {loaded.problems[0].why})" if loaded.problems else ""
        raise DataError(f"{path}: no study could be read, {len(loaded.problems)} rows were passed over{first}")
    any_ending = data.source in ANY_ENDING
    placed = place(loaded.studies, root, views=kept.views, most=kept.images_per_study, any_ending=any_ending)
    log.info("%s: %d studies read, %d rows passed over", path, len(loaded.studies), len(loaded.problems))
    if root is not None:
        films = sum(image.path is not None for study in placed.studies for image in study.images)
        log.info("%s: %d films, %d named and not there", root, films, len(placed.problems))
    return Loaded(placed.studies, [*loaded.problems, *placed.problems])


def fingerprint(data: DataConfig) -> dict[str, Any]:
    """What tells one state of the sources from another: size in bytes and SHA-256 of a file; of a folder the number of
    files that are no films, their size and the SHA-256 of their sorted names and sizes; of ``data.images`` the number
    of films, the SHA-256 of their sorted names, and that of the tables beside them; of further sources the same under
    ``more``. No film is opened or asked for its size. Raises as :func:`load` for a missing path, and OSError for a file
    that cannot be read."""
    more = {source.name: _fingerprint_one(source) for source in data.more}
    return {**_fingerprint_one(data), **({"more": more} if more else {})}


def _fingerprint_one(data: DataConfig | SourceConfig) -> dict[str, Any]:
    path = source_path(data)
    of_films = {} if data.images is None else {"images": _fingerprint_films(Path(data.images).expanduser())}
    if not path.is_dir():
        return {"size": path.stat().st_size, "sha256": _file_digest(path), **of_films}
    files = [file for file in _files_below(path) if not is_film(file)]
    sizes = {file: (path / file).stat().st_size for file in files}
    digest = _digest("".join(f"{name}\0{size}\n" for name, size in sorted(sizes.items())))
    return {"files": len(sizes), "size": sum(sizes.values()), "sha256": digest, **of_films}


def _fingerprint_films(root: Path) -> dict[str, Any]:
    """Names only: asking 100,000 films for their size takes as long as reading the reports."""
    from radiograd.data.openi_films import table_of

    if not root.is_dir():
        raise DataError(f"{root}: no such folder; check data.images (relative paths start at {Path.cwd()})")
    names = sorted(file for file in _files_below(root) if is_film(file))
    tables = {table.name: _file_digest(table) for table in [table_of(root)] if table is not None}
    return {"films": len(names), "sha256": _digest("".join(f"{name}\n" for name in names)), **tables}


def _files_below(folder: Path) -> Iterator[str]:
    """Paths below ``folder`` of every file in it and its subfolders."""
    for where, _, files in os.walk(folder):
        below = "" if where == str(folder) else f"{Path(where).relative_to(folder).as_posix()}/"
        yield from (f"{below}{file}" for file in files)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(listing: str) -> str:
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()


def collect(rows: Iterable[Study | Problem], source: str) -> Loaded:
    """Studies and problems apart; the second study with an id becomes a Problem. DataError for any other value."""
    studies: dict[str, Study] = {}
    problems: list[Problem] = []
    for row in rows:
        if isinstance(row, Problem):
            problems.append(row)
        elif not isinstance(row, Study):
            raise DataError(f"reader {source!r} gave a {type(row).__name__}; it must give Study or Problem values")
        elif row.study_id in studies:
            problems.append(Problem(row.study_id, DUPLICATE_ID))
        else:
            studies[row.study_id] = row
    return Loaded(list(studies.values()), problems)


def source_of(path: Path) -> str:
    """The built-in reader for a file or folder, by its name. DataError when the name does not tell."""
    if path.is_dir():
        return next((source for pattern, source in _KNOWN_BY.items() if any(path.glob(pattern))), "openi")
    for pattern, source in _KNOWN_BY.items():
        if path.match(pattern):
            return source
    name = path.name.lower().removesuffix(".gz")
    endings = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet", ".tgz": "openi", ".tar": "openi"}
    for ending, source in endings.items():
        if name.endswith(ending):
            return source
    raise DataError(f"{path}: cannot tell its format; name it .csv, .jsonl or .parquet, or set data.source=...")


def source_path(data: DataConfig | SourceConfig) -> Path:
    """The file or folder to read. Raises what :func:`load` raises when there is none."""
    if data.path is None:
        if data.source != "openi":
            raise ConfigError(f"data.source={data.source} needs a file: set data.path=FILE")
        from radiograd.assets import locate

        return locate("openi")
    path = Path(data.path).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check data.path (relative paths start at {Path.cwd()})")
    return path
