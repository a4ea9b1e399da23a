"""Reader for PadChest: PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv, a row for each film.

Bustos et al., Medical Image Analysis 2020, arXiv:1901.07441, bimcv.cipf.es/bimcv-projects/padchest. Columns read:
ImageID, ImageDir, StudyID, PatientID, StudyDate_DICOM, Projection, Rows_DICOM, Columns_DICOM, Report, Labels. The
reports are Spanish, lower-cased, stemmed, without sections and without an impression.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from radiograd.data.layout import Names, documented_rows, id_of, number_of, parse_report, pixels, table_in, text_of
from radiograd.data.priors import with_priors
from radiograd.data.views import view_name
from radiograd.types import Image, Problem, Sections, Study

FIELDS: Names = {
    "image": ("ImageID",),
    "folder": ("ImageDir",),
    "study_id": ("StudyID",),
    "patient_id": ("PatientID",),
    "date": ("StudyDate_DICOM",),
    "view": ("Projection",),
    "height": ("Rows_DICOM",),
    "width": ("Columns_DICOM",),
    "report": ("Report",),
    "labels": ("Labels",),
}
NEEDED = ("image", "study_id", "patient_id", "report")

_SAYS_NOTHING = {"", "exclude", "unchanged", "suboptimal study"}


def read(path: Path, columns: Mapping[str, str], images: Path | None = None) -> Iterator[Study | Problem]:
    """The studies of the table, given by itself or by its folder, each with all its films.

    The report is findings, unless it has headers. ``codes`` are the labels; ``normal``: they say "normal" and nothing
    else. ``images``: the folder that holds the folders 0 to 54, or all films in one. The prior is the patient's study
    before it by StudyDate_DICOM; of two on one day neither is before the other. ``columns``: field of :data:`FIELDS`
    -> column. Raises DataError for a missing file or column.
    """
    file = table_in(path, "PADCHEST*.csv*")
    studies: dict[str, Study] = {}
    films: dict[str, dict[str, Image]] = {}
    when: dict[str, float] = {}
    is_folder: dict[str, bool] = {}
    for row in documented_rows(file, FIELDS, NEEDED, columns):
        if isinstance(row, Problem):
            yield row
            continue
        where, cells = row
        film, study_id, patient = text_of(cells["image"]), id_of(cells["study_id"]), id_of(cells["patient_id"])
        if film is None or study_id is None or patient is None:
            yield Problem(where, "has no ImageID, StudyID or PatientID")
            continue
        if study_id not in studies:
            studies[study_id] = _study(study_id, patient, cells)
            date = number_of(cells.get("date"))
            if date is not None:
                when[study_id] = date
        if studies[study_id].patient_id != patient:
            yield Problem(where, f"{study_id} stands under another PatientID; the film is passed over")
            continue
        folder = id_of(cells.get("folder")) or ""
        if folder not in is_folder:
            is_folder[folder] = images is None or (images / folder).is_dir()
        below = Path(folder if is_folder[folder] else "", film)
        size = {"width": pixels(cells.get("width")), "height": pixels(cells.get("height"))}
        films.setdefault(study_id, {}).setdefault(film, Image(film, below, view_name(cells.get("view")), **size))
    yield from with_priors([replace(s, images=tuple(films[s.study_id].values())) for s in studies.values()], when)


def _study(study_id: str, patient: str, cells: Mapping[str, Any]) -> Study:
    report, codes = text_of(cells["report"]), _labels(cells.get("labels"))
    sections, indication = (Sections(), None) if report is None else parse_report(report)
    said = [code.lower() for code in codes if code.lower() not in _SAYS_NOTHING]
    normal = said == ["normal"] if said else None
    return Study(study_id, patient, "padchest", sections, indication=indication, codes=codes, normal=normal)


def _labels(cell: Any) -> tuple[str, ...]:
    """The labels of "['normal', 'scoliosis']"; () when the cell is not of this form."""
    try:
        labels = ast.literal_eval(text_of(cell) or "[]")
    except (ValueError, SyntaxError):
        return ()
    return tuple(dict.fromkeys(str(label).strip() for label in labels)) if isinstance(labels, list) else ()
