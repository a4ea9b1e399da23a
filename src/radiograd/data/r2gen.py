"""Reader for the layout of R2Gen: annotation.json beside a folder of images.

{"train" | "val" | "test": [{"id", "report", "image_path": [...], "split"}]}; Chen et al., EMNLP 2020, arXiv:2010.16056,
github.com/zhjohnchan/R2Gen. In its IU X-Ray file a row is a study ("CXR2384_IM-0942" with 0.png and 1.png); in its
MIMIC-CXR file a row is a film and names subject_id and study_id. The reports are findings alone, the splits leak
(docs/data.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from radiograd.data.layout import id_of, parse_report, read_json
from radiograd.errors import ConfigError, DataError
from radiograd.types import SPLITS, Image, Problem, Study

FILE = "annotation.json"

_OPENI_ID = re.compile(r"(CXR\d+)_")


def read(path: Path, columns: Mapping[str, str], images: Path | None = None) -> Iterator[Study | Problem]:
    """The studies of annotation.json, given by itself or by its folder, each with the split whose list it is in.

    Films of one study_id become one study. A report without headers is findings. ``patient_id`` is subject_id, the
    CXR number of an IU X-Ray id, else the id. Nobody says which view a film is. ``images``: the folder that the paths
    start in, or one that holds it as ``images``. Raises DataError for a file that is not of this layout, ConfigError
    when ``columns`` are given.
    """
    if columns:
        raise ConfigError("data.columns has no meaning for data.source=r2gen; leave it out")
    file = path / FILE if path.is_dir() else path
    content = read_json(file)
    if not isinstance(content, dict) or not any(isinstance(content.get(split), list) for split in SPLITS):
        keys = ", ".join(map(str, content)) if isinstance(content, dict) and len(content) < 20 else "no object"
        raise DataError(f"{file}: it needs lists called train, val and test; it has: {keys}")
    below = "images" if images is not None and (images / "images").is_dir() else ""
    studies: dict[str, Study] = {}
    films: dict[str, dict[str, Image]] = {}
    for split in SPLITS:
        for number, row in enumerate(content.get(split) or []):
            where = f"{file}:{split}[{number}]"
            study = _study(row, split, where)
            if isinstance(study, Problem):
                yield study
                continue
            first = studies.setdefault(study.study_id, study)
            if replace(study, images=()) != first:
                yield Problem(where, f"{study.study_id} came with another split, patient or report; passed over")
                continue
            named = row.get("image_path") or []
            of_study = films.setdefault(study.study_id, {})
            for name in [named] if isinstance(named, str) else named:
                if isinstance(name, str) and name.strip():
                    of_study.setdefault(name, Image(name, Path(below, name)))
                else:
                    yield Problem(where, "image_path holds something that is not a path; the study is kept")
    for study_id, study in studies.items():
        yield replace(study, images=tuple(films.get(study_id, {}).values()))


def _study(row: Any, split: str, where: str) -> Study | Problem:
    if not isinstance(row, dict):
        return Problem(where, "is not an object")
    own, study_id, report = id_of(row.get("id")), id_of(row.get("study_id")), row.get("report")
    study_id = study_id or own
    if study_id is None:
        return Problem(where, "has neither id nor study_id")
    if not isinstance(report, str) or not report.strip():
        return Problem(where, f"{study_id} has no report")
    openi = _OPENI_ID.match(study_id)
    patient = id_of(row.get("subject_id")) or (openi.group(1) if openi else study_id)
    sections, indication = parse_report(report)
    return Study(study_id, patient, "r2gen", sections, split=split, indication=indication)
