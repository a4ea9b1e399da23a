"""Studies from files. A reader is ``read(path, columns) -> iterator of Study | Problem``.

Good rows survive: a row that cannot be used becomes a Problem that names the file and line (or the id), and the rest
is still read. A file that cannot be read at all raises DataError.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from radiograd.config import DataConfig, SourceConfig
from radiograd.data.builtin import READERS
from radiograd.errors import ConfigError, DataError
from radiograd.naming import resolve
from radiograd.types import Problem, Study

log = logging.getLogger(__name__)

DUPLICATE_ID = "its study_id was seen before"
"""The ``why`` of every Problem about a repeated study_id."""


class Reader(Protocol):
    """``path``: file or folder. ``columns``: Study field -> column, for sources that have columns."""

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
    from it, AssetError when the OpenI archive has not been fetched.
    """
    loaded = _load_one(data)
    for source in data.more:
        further, name = _load_one(source), source.name
        loaded.studies.extend(
            replace(s, study_id=f"{name}:{s.study_id}", patient_id=f"{name}:{s.patient_id}", site=name)
            for s in further.studies
        )
        loaded.problems.extend(Problem(f"{name}:{problem.where}", problem.why) for problem in further.problems)
    return loaded if not data.more else collect([*loaded.problems, *loaded.studies], data.source)


def _load_one(data: DataConfig | SourceConfig) -> Loaded:
    reader: Reader = resolve("reader", data.source, READERS)
    if not callable(reader):
        raise ConfigError(f"data.source {data.source!r} is not a function read(path, columns)")
    path = source_path(data)
    loaded = collect(reader(path, data.columns), data.source)
    if not loaded.studies:
        first = f" (first: {loaded.problems[0].where}: {loaded.problems[0].why})" if loaded.problems else ""
        raise DataError(f"{path}: no study could be read, {len(loaded.problems)} rows were passed over{first}")
    log.info("%s: %d studies read, %d rows passed over", path, len(loaded.studies), len(loaded.problems))
    return loaded


def fingerprint(data: DataConfig) -> dict[str, Any]:
    """What tells one state of the sources from another: size in bytes and SHA-256 of a file; of a folder the number of
    files, their size and the SHA-256 of their sorted names and sizes; of further sources the same under ``more``.
    Raises as :func:`load` for a missing path, and OSError for a file that cannot be read."""
    more = {source.name: _fingerprint_one(source) for source in data.more}
    return {**_fingerprint_one(data), **({"more": more} if more else {})}


def _fingerprint_one(data: DataConfig | SourceConfig) -> dict[str, Any]:
    path = source_path(data)
    if not path.is_dir():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"size": path.stat().st_size, "sha256": digest}
    sizes = {p.relative_to(path).as_posix(): p.stat().st_size for p in path.rglob("*") if p.is_file()}
    listing = "".join(f"{name}\0{size}\n" for name, size in sorted(sizes.items()))
    digest = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
    return {"files": len(sizes), "size": sum(sizes.values()), "sha256": digest}


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
        return "openi"
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
