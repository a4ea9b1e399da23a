"""Readers for tables with one study a row: CSV, JSON lines, Parquet.

``columns`` maps Study fields to the table's columns; a field that is not mapped is looked for under its own name.
``study_id``, ``findings`` and ``impression`` must be there. Without a ``patient_id`` column every study is taken for
its own patient, which is logged.

Values: None, NaN and the words nan, none, null, <na> mean "absent". An empty CSV cell does too, because CSV cannot
tell absent from empty; in JSON lines and Parquet "" stays "" (present and empty). ``normal`` takes true/false, yes/no,
1/0; any other word leaves the study in with ``normal`` unknown and yields a Problem that says so.

Films: ``images`` is one path, several with ; or | between them, a list, or a list in JSON; ``views``, ``width`` and
``height`` (pixels as taken) likewise, one for each path. What cannot be read leaves the study in without it and yields
a Problem. ``prior`` is the study_id of the patient's study before.
"""

from __future__ import annotations

import csv
import gzip
import json
import logging
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from radiograd.data import DUPLICATE_ID
from radiograd.data.views import view_name
from radiograd.errors import ConfigError, DataError, MissingExtra, did_you_mean
from radiograd.types import Image, Problem, Sections, Study

log = logging.getLogger(__name__)

REQUIRED = ("study_id", "findings", "impression")
FILM_FIELDS = ("images", "views", "width", "height")
FIELDS = (*REQUIRED, "patient_id", "comparison", "indication", "prior", "normal", "split", *FILM_FIELDS)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can escape one; no file can store it
_NAME = re.compile(r"(?!\d)[\w \-./]{0,39}[\w\-/]|")  # of a column; a cell of text is longer or ends like a sentence
_ABSENT = {"nan", "none", "null", "<na>"}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

Row = tuple[str, Mapping[str, Any]]
"""Where the row is (file and line), and its cells by column."""


def read_csv(path: Path, columns: Mapping[str, str]) -> Iterator[Study | Problem]:
    """Studies of a comma-separated file with a header, plain or .gz. Quoted cells may span lines.

    Raises DataError for a file that is empty, is not UTF-8, lacks a column or has a quote that is never closed.
    """
    lines = _lines(path)
    header_line = next(lines, None)
    if header_line is None:
        raise DataError(f"{path} is empty; it needs a header line and one line per study")
    reader = csv.reader(_chain(header_line, lines), strict=True)
    header = _header(path, reader)
    chosen = choose_columns(header, columns, path)
    found = False
    for row in studies(_csv_rows(path, reader, header), chosen, "csv"):
        found = True
        yield row
    if not found:
        raise DataError(f"{path} holds a header and nothing below it; it needs one line per study")


def read_jsonl(path: Path, columns: Mapping[str, str]) -> Iterator[Study | Problem]:
    """Studies of a file with one JSON object a line, plain or .gz. A key missing from one object is an absent value.

    Raises DataError for a file that is empty, is not UTF-8, holds no object or lacks a key in every object.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    for row in _json_rows(path):
        if isinstance(row, Problem):
            problems.append(row)
        else:
            rows.append(row)
    if not rows and not problems:
        raise DataError(f"{path} is empty; it needs one JSON object per line")
    if not rows:
        raise DataError(f"{path}: no line is a JSON object ({problems[0].where} {problems[0].why})")
    keys = dict.fromkeys(key for _, row in rows for key in row)
    chosen = choose_columns(list(keys), columns, path)
    yield from problems
    yield from studies(rows, chosen, "jsonl")


def read_parquet(path: Path, columns: Mapping[str, str]) -> Iterator[Study | Problem]:
    """Studies of a Parquet file. Raises MissingExtra without pyarrow, DataError for a file it cannot read."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("Parquet reading", "parquet") from None
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError):
        raise DataError(f"{path}: not a readable Parquet file") from None
    with file:
        chosen = choose_columns(list(file.schema_arrow.names), columns, path)
        if file.metadata.num_rows == 0:
            raise DataError(f"{path} holds no rows; it needs one per study")
        yield from studies(_parquet_rows(path, file, sorted(set(chosen.values()))), chosen, "parquet")


def read_rows(path: Path) -> Iterator[Row | Problem]:
    """Rows of a CSV (.csv) or JSON-lines (.jsonl, .ndjson) file, plain or .gz, before a column is given a meaning.

    Raises DataError for a file of another kind, and as :func:`read_csv` and :func:`read_jsonl` do.
    """
    ending = "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()
    kind = ending.removesuffix(".gz")
    if kind in (".jsonl", ".ndjson"):
        yield from _json_rows(path)
    elif kind == ".csv":
        lines = _lines(path)
        header_line = next(lines, None)
        if header_line is None:
            raise DataError(f"{path} is empty; it needs a header line")
        reader = csv.reader(_chain(header_line, lines), strict=True)
        yield from _csv_rows(path, reader, _header(path, reader))
    else:
        raise DataError(f"{path}: a table ends in .csv or .jsonl, with .gz behind it or not")


def choose_columns(there: list[str], columns: Mapping[str, str], path: Path) -> dict[str, str]:
    """Study field -> column, for the fields this table has.

    Raises ConfigError for a mapped field that does not exist, DataError for a required or mapped column that is
    missing or occurs twice. The message lists the columns only where all look like names: without a header the first
    line holds report text.
    """
    for field in columns:
        if field not in FIELDS:
            raise ConfigError(f"data.columns: {field!r} is not a study field.{did_you_mean(field, FIELDS)}")
    chosen: dict[str, str] = {}
    for field in FIELDS:
        column = columns.get(field, field)
        if there.count(column) > 1:
            raise DataError(f"{path}: column {column!r} occurs more than once; rename one of them")
        if column in there:
            chosen[field] = column
        elif field in REQUIRED or field in columns:
            raise DataError(
                f"{path}: no column {column!r} for {field}; {column_names(column, there)} "
                f"Set data.columns.{field}=COLUMN"
            )
    if "patient_id" not in chosen:
        log.info("%s: no patient_id column; every study is taken for its own patient", path)
    return chosen


def column_names(wanted: str, there: list[str]) -> str:
    """What the table has instead of ``wanted``, as a sentence without report text."""
    if not all(_NAME.fullmatch(name) for name in there):
        return f"it has {len(there)} columns; is the first line a header?"
    near = did_you_mean(wanted, there)
    return f"it has: {', '.join(there)}.{near if 'Did you mean' in near else ''}"


def studies(rows: Iterable[Row | Problem], columns: Mapping[str, str], source: str) -> Iterator[Study | Problem]:
    """Rows as studies, Problems passed on. A repeated study_id is a Problem for the later row."""
    seen: set[str] = set()
    for row in rows:
        if isinstance(row, Problem):
            yield row
            continue
        where, cells = row
        try:
            texts = {f: _text(cells.get(c), f) for f, c in columns.items() if f not in FILM_FIELDS}
            study, notes = _study(texts, source)
            images, more = films({f: cells.get(columns[f]) for f in FILM_FIELDS if f in columns})
        except _BadCell as error:
            yield Problem(where, str(error))
            continue
        if study.study_id in seen:
            yield Problem(where, DUPLICATE_ID)
            continue
        seen.add(study.study_id)
        yield replace(study, images=images) if images else study
        yield from (Problem(where, why) for why in (*notes, *more))


class _BadCell(Exception):
    """One cell that makes its row unusable; the message holds no text of the cell."""


def _study(values: Mapping[str, str | None], source: str) -> tuple[Study, list[str]]:
    """A study, and what was odd in its row."""
    study_id = values["study_id"]
    if not study_id:
        raise _BadCell("study_id is missing")
    patient_id = values.get("patient_id", study_id)
    if not patient_id:
        raise _BadCell("patient_id is missing")
    normal = (values.get("normal") or "").lower()
    study = Study(
        study_id=study_id,
        patient_id=patient_id,
        source=source,
        sections=Sections(
            findings=values["findings"], impression=values["impression"], comparison=values.get("comparison")
        ),
        split=values.get("split") or None,
        prior=values.get("prior"),
        indication=values.get("indication"),
        normal=_TRUTH.get(normal),
    )
    known = normal in _TRUTH or not normal
    return study, [] if known else [
        "normal is none of true, false, yes, no, 1, 0; the study is kept with normal unknown"
    ]


def films(cells: Mapping[str, Any]) -> tuple[tuple[Image, ...], list[str]]:
    """The films that the cells ``images``, ``views``, ``width`` and ``height`` name, and what is odd about them."""
    paths, notes = several(cells.get("images")), []
    if paths is None or not all(map(_is_path, paths)):
        return (), ["images holds something that is not a path; the study is kept without films"]
    if not paths:
        return (), []
    columns: dict[str, list[Any]] = {}
    for field in FILM_FIELDS[1:]:
        values = several(cells.get(field), gaps=True)
        if values is None or (values and len(values) != len(paths)):
            notes.append(f"{field} is not one for each of {len(paths)} films; the study is kept with {field} unknown")
            values = []
        columns[field] = values or [None] * len(paths)
    images: dict[str, Image] = {}
    for path, view, width, height in zip(paths, *columns.values(), strict=True):
        size = [_pixels(width), _pixels(height)]
        if None in size and any(value not in (None, "") for value in (width, height)):
            notes.append("width and height are not both numbers of pixels; the study is kept with the size unknown")
            size = [None, None]
        name = path.strip()
        called = None if view is None else _LONE_SURROGATE.sub("\ufffd", str(view))
        images.setdefault(name, Image(name, Path(name), view_name(called), *size))
    return tuple(images.values()), notes


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not _LONE_SURROGATE.search(value)


def several(cell: Any, *, gaps: bool = False) -> list[Any] | None:
    """What a cell lists: a list, a list in JSON, or text with ; or | between its parts. [] = absent; None = another.

    ``gaps``: a part may be empty ("PA;;AP"), else empty parts are left out ("a.png; b.png;").
    """
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return []
    if isinstance(cell, (list, tuple)):
        return list(cell)
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return [cell]
    if not isinstance(cell, str):
        return None
    text = cell.strip()
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return listed if isinstance(listed, list) else None
    if not text or text.lower() in _ABSENT:
        return []
    return [part.strip() for part in re.split(r"[;|]", text) if gaps or part.strip()]


def _pixels(value: Any) -> int | None:
    """A whole number above 0, of whatever type; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() and number > 0 else None


def _text(value: Any, field: str) -> str | None:
    """A cell as text without white space at its ends, None when absent. Numbers only where text is not expected."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        text = value.strip()
        if _LONE_SURROGATE.search(text):
            raise _BadCell(f"{field} holds a \\u escape that is half a character")
        return None if text.lower() in _ABSENT else text
    if field in ("study_id", "patient_id", "prior") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(int(value)) if float(value).is_integer() else str(value)
    if field == "normal" and isinstance(value, (bool, int, float)):
        return str(int(value)) if float(value).is_integer() else str(value)
    raise _BadCell(f"{field} is a {type(value).__name__}, not text")


# ---- files -----------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[str]:
    """Decoded lines with their ends. DataError names the line that is not UTF-8."""
    number = 0
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number} is not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8, "
            f"e.g. iconv -f WINDOWS-1252 -t UTF-8"
        ) from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; give the file") from None
    except (EOFError, zlib.error):
        raise DataError(f"{path}: the compressed file breaks off or is damaged after line {number}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or 'not a gzip file'})") from None


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _header(path: Path, reader: Any) -> list[str]:
    try:
        header: list[str] = next(reader, [])
    except csv.Error:
        raise DataError(f"{path}:1 is not a CSV header; save the file as CSV with ordinary line ends") from None
    names = [name.strip() for name in header]
    if not any(names):
        raise DataError(f"{path}:1 is blank; the first line must name the columns")
    return names


def _json_rows(path: Path) -> Iterator[Row | Problem]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            yield Problem(where, "is not valid JSON")
            continue
        yield (where, value) if isinstance(value, dict) else Problem(where, "is not a JSON object")


def _csv_rows(path: Path, reader: Any, header: list[str]) -> Iterator[Row | Problem]:
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "unexpected end" in str(error) or "field limit" in str(error):
                raise DataError(f"{where}: a quote is opened in this row and not closed; close or double it") from None
            yield Problem(where, "is not valid CSV")
            continue
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) != len(header):
            yield Problem(where, f"has {len(cells)} cells, the header has {len(header)}")
        else:
            yield where, {name: cell.strip() or None for name, cell in zip(header, cells, strict=True)}


def _parquet_rows(path: Path, file: Any, columns: list[str]) -> Iterator[Row]:
    number = 0
    try:
        for batch in file.iter_batches(batch_size=4096, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield f"{path} row {number}", row
    except UnicodeDecodeError:
        raise DataError(f"{path}: text that is not UTF-8 after row {number}; write the file again as UTF-8") from None
    except OSError:
        raise DataError(f"{path}: damaged after row {number}") from None
