"""Reader for ReXGradient-160K: metadata/{train,valid,test}_metadata_view_position.json beside deid_png/.

Zhang et al. 2025, arXiv:2505.00228, huggingface.co/datasets/rajpurkarlab/ReXGradient-160K. A file maps the id of a
study to PatientID, StudyDate, Indication, Comparison, Findings, Impression and the lists ImagePath
("../deid_png/<patient>/<accession>/studies/.../<film>.png") and ImageViewPosition. Where the sections are not in it
they are read from {train,valid,test}_metadata.csv, which names the same ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from radiograd.data import DUPLICATE_ID
from radiograd.data.layout import Names, choose, documented_rows, id_of, number_of, read_json, text_of
from radiograd.data.priors import with_priors
from radiograd.data.views import view_name
from radiograd.errors import DataError
from radiograd.types import Image, Problem, Sections, Study

FIELDS: Names = {
    "study_id": ("id", "study_id"),
    "patient_id": ("PatientID", "patient_id"),
    "date": ("StudyDate", "study_date"),
    "findings": ("Findings",),
    "impression": ("Impression",),
    "indication": ("Indication",),
    "comparison": ("Comparison",),
    "images": ("ImagePath", "image_path"),
    "views": ("ImageViewPosition", "view_position"),
    "split": ("split",),
}
_SECTIONS = ("findings", "impression", "comparison")
_OF_THE_CSV = (*_SECTIONS, "indication", "date", "patient_id")


def read(path: Path, columns: Mapping[str, str], images: Path | None = None) -> Iterator[Study | Problem]:
    """The studies of one metadata file (.json, .jsonl, .csv), or of those in a folder, by their official split.

    ``images``: the folder ``deid_png`` or the one that holds it. The prior is the patient's study before it by
    StudyDate, also out of another file. ``columns``: field of :data:`FIELDS` -> key. Raises DataError for a missing
    file or key.
    """
    root = images.name if images is not None else ""
    studies: dict[str, Study] = {}
    when: dict[str, float] = {}
    for file in _files(path):
        for row in _rows(file, columns):
            if isinstance(row, Problem):
                yield row
                continue
            where, cells = row
            study_id, patient = id_of(cells.get("study_id")), id_of(cells.get("patient_id"))
            if study_id is None or patient is None:
                yield Problem(where, "has no id or no PatientID")
                continue
            if study_id in studies:
                yield Problem(study_id, DUPLICATE_ID)
                continue
            films, problem = _films(cells, where, root)
            if problem is not None:
                yield problem
            findings, impression, comparison = (text_of(cells.get(name)) for name in _SECTIONS)
            sections = Sections(findings, impression, comparison)
            split = text_of(cells.get("split")) or _split_of(file)
            indication = text_of(cells.get("indication"))
            studies[study_id] = Study(study_id, patient, "rexgradient", sections, split, films, indication=indication)
            date = number_of(cells.get("date"))
            if date is not None:
                when[study_id] = date
    yield from with_priors(list(studies.values()), when)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    for folder in (path, path / "metadata"):
        for ending in ("_metadata_view_position.json", "_metadata.json", "_metadata.csv"):
            files = [folder / f"{split}{ending}" for split in ("train", "valid", "test")]
            if any(file.is_file() for file in files):
                return [file for file in files if file.is_file()]
    raise DataError(f"{path}: neither it nor its folder metadata holds train_metadata_view_position.json or the like")


def _split_of(file: Path) -> str | None:
    name = file.name.partition("_")[0].lower()
    return name if name in ("train", "valid", "test") else None


def _rows(file: Path, columns: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]] | Problem]:
    """Each row of ``file`` under our fields; texts it lacks out of the CSV beside it."""
    needed: tuple[str, ...] = ("study_id", "patient_id", "findings", "impression")
    if file.suffix.lower() != ".json":
        yield from documented_rows(file, FIELDS, needed, columns)
        return
    content = read_json(file)
    if isinstance(content, dict):
        entries = [(f"{file}:{key}", _with_id(key, value)) for key, value in content.items()]
    elif isinstance(content, list):
        entries = [(f"{file}[{k}]", value) for k, value in enumerate(content)]
    else:
        raise DataError(f"{file}: neither an object by study nor a list of studies")
    keys = list(dict.fromkeys(key for _, value in entries if isinstance(value, dict) for key in value))
    beside = file.with_name(file.name.replace("_view_position", "").removesuffix(".json") + ".csv")
    texts: dict[str, Mapping[str, Any]] = {}
    if not {name.lower() for name in FIELDS["findings"]} & {key.lower() for key in keys} and beside.is_file():
        for row in documented_rows(beside, FIELDS, ("study_id", "findings", "impression"), {}):
            if isinstance(row, Problem):
                yield row
            else:
                texts[id_of(row[1]["study_id"]) or ""] = row[1]
        needed = ("study_id",)
    chosen = choose(keys, FIELDS, needed, columns, file)
    for where, value in entries:
        if not isinstance(value, dict):
            yield Problem(where, "is not an object")
            continue
        cells = {field: value.get(key) for field, key in chosen.items()}
        more = texts.get(id_of(cells.get("study_id")) or "", {})
        yield where, {**{field: more[field] for field in _OF_THE_CSV if field in more}, **cells}


def _with_id(key: str, value: Any) -> Any:
    return {"id": key, **value} if isinstance(value, dict) else value


def _films(cells: Mapping[str, Any], where: str, root: str) -> tuple[tuple[Image, ...], Problem | None]:
    """The films of one study, and what is wrong with them. Their paths are made to start in ``root``."""
    paths, views = cells.get("images"), cells.get("views")
    paths = [paths] if isinstance(paths, str) else paths or []
    views = [views] if isinstance(views, str) or views is None else views
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        return (), Problem(where, "ImagePath is not a list of paths; the study is kept without films")
    known = isinstance(views, list) and len(views) == len(paths)
    given: Iterable[Any] = views if known else [None] * len(paths)
    films = tuple(
        Image(PurePosixPath(path).stem, Path(_below(path, root)), view_name(text_of(view)))
        for path, view in zip(paths, given, strict=True)
    )
    if known or not paths or cells.get("views") is None:
        return films, None
    return films, Problem(where, "has another number of views than of films; the views are unknown")


def _below(path: str, root: str) -> str:
    """ "../deid_png/a/b.png" as a path below the folder ``root``, or below the one that holds deid_png."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("..", "/")]
    if parts and parts[0] == root:
        parts = parts[1:]
    return "/".join(parts)
