"""Rows of tables whose columns are documented by those who hand them out, under names of our own."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from radiograd.data.table import column_names, read_rows
from radiograd.errors import ConfigError, DataError, did_you_mean
from radiograd.text.sections import as_sections
from radiograd.types import Problem, Sections

Names = Mapping[str, tuple[str, ...]]
"""Our field -> the column names it goes by, the documented one first."""
_ABSENT = {"", "nan", "none", "null", "<na>", "n/a"}


def documented_rows(
    path: Path, fields: Names, needed: Collection[str], columns: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]] | Problem]:
    """Where a row is, and its cells by our field, for the fields that this table has; cells are text or None in CSV.

    Column names are compared without regard to case. ``columns``: field -> column of this copy, where it is called
    otherwise. Raises ConfigError for a field that is not one of ``fields``, DataError when a ``needed`` or mapped
    column is missing, with the columns there are.
    """
    chosen: dict[str, str] | None = None
    for row in read_rows(path):
        if isinstance(row, Problem):
            yield row
            continue
        where, cells = row
        if chosen is None:
            chosen = choose(list(cells), fields, needed, columns, path)
        yield where, {field: cells.get(column) for field, column in chosen.items()}


def choose(
    there: list[str], fields: Names, needed: Collection[str], columns: Mapping[str, str], path: Path
) -> dict[str, str]:
    """Our field -> the column of this table. Raises as :func:`documented_rows`."""
    for field in columns:
        if field not in fields:
            raise ConfigError(f"data.columns: {field!r} is not read from {path.name}.{did_you_mean(field, fields)}")
    lowered = {name.lower(): name for name in reversed(there)}
    chosen: dict[str, str] = {}
    for field, names in fields.items():
        wanted = (columns[field],) if field in columns else names
        column = next((lowered[name.lower()] for name in wanted if name.lower() in lowered), None)
        if column is not None:
            chosen[field] = column
        elif field in needed or field in columns:
            raise DataError(
                f"{path}: no column {' or '.join(map(repr, wanted))} for {field}; {column_names(wanted[0], there)} "
                f"Set data.columns.{field}=COLUMN"
            )
    return chosen


def table_in(path: Path, pattern: str) -> Path:
    """``path``, or the one file of that pattern in the folder ``path``. DataError when there is none or several."""
    if not path.is_dir():
        return path
    files = sorted(path.glob(pattern))
    if len(files) != 1:
        raise DataError(f"{path}: it holds {len(files)} files like {pattern}; set data.path to the file itself")
    return files[0]


def text_of(value: Any) -> str | None:
    """A cell as text without white space at its ends; None for None, NaN and the words that mean absent."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = value.strip() if isinstance(value, str) else str(value)
    return None if text.lower() in _ABSENT else text


def id_of(value: Any) -> str | None:
    """A cell as an identifier: 12345.0, as tables with gaps write whole numbers, is 12345."""
    text = text_of(value)
    if text is not None and text.endswith(".0") and text[:-2].isdigit():
        return text[:-2]
    return text


def pixels(value: Any) -> int | None:
    """A cell as a number of pixels; None when it is not a whole number above 0."""
    text = id_of(value)
    return int(text) if text is not None and text.isascii() and text.isdigit() and int(text) > 0 else None


def number_of(value: Any) -> float | None:
    """A cell as a finite number, else None."""
    try:
        number = float(text_of(value) or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_json(file: Path) -> Any:
    """What a JSON file holds. DataError when it cannot be read."""
    try:
        content = file.read_bytes()
        value = json.loads(content)
        return _whole(value) if b"\\ud" in content.lower() else value
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; give it, or the folder it lies in, as data.path") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise DataError(f"{file}: not a whole JSON file") from None


def _whole(value: Any) -> Any:
    """``value`` with U+FFFD for half characters, which JSON can escape and no file can store."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_whole(key): _whole(one) for key, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value


def parse_report(text: str) -> tuple[Sections, str | None]:
    """Sections and indication of a report by our section reader. A text without any header is findings.

    The spans are left out: they point into a text that a study does not keep.
    """
    sections = as_sections(text)
    if set(sections.spans) <= {"body"}:
        return Sections(findings=text.strip()), None
    span = sections.spans.get("indication")
    return replace(sections, spans={}), None if span is None else text[slice(*span)]
