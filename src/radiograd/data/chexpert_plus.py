"""Reader for CheXpert Plus: df_chexpert_plus_240401.csv, a row for each film.

Chambon et al. 2024, arXiv:2405.19538, stanfordaimi.azurewebsites.net. Columns read: path_to_image, frontal_lateral,
ap_pa, deid_patient_id, patient_report_date_order, report, section_findings, section_impression,
section_clinical_history, section_history, section_comparison, split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from radiograd.data.layout import Names, documented_rows, id_of, number_of, parse_report, table_in, text_of
from radiograd.data.priors import with_priors
from radiograd.data.views import view_name
from radiograd.types import Image, Problem, Sections, Study

FIELDS: Names = {
    "image": ("path_to_image",),
    "view": ("frontal_lateral",),
    "ap_pa": ("ap_pa",),
    "patient_id": ("deid_patient_id", "patient_id"),
    "order": ("patient_report_date_order",),
    "report": ("report",),
    "findings": ("section_findings", "findings"),
    "impression": ("section_impression", "impression"),
    "indication": ("section_clinical_history", "clinical_history"),
    "history": ("section_history", "history"),
    "comparison": ("section_comparison", "comparison"),
    "split": ("split",),
}
NEEDED = ("image", "patient_id", "findings", "impression")

_STUDY = re.compile(r"(?:^|/)(patient\d+)/(study\d+)/")


def read(path: Path, columns: Mapping[str, str]) -> Iterator[Study | Problem]:
    """The studies of the table, given by itself or by its folder, each with all its films.

    ``study_id`` is "patient42142/study5" out of the film's path. The indication is the clinical history, else the
    history. Where a row has neither findings nor impression its ``report`` is read by our section reader. The prior is
    the study before it by patient_report_date_order. ``columns``: field of :data:`FIELDS` -> column. Raises DataError
    for a missing file or column.
    """
    file = table_in(path, "df_chexpert_plus*.csv*")
    studies: dict[str, Study] = {}
    films: dict[str, dict[str, Image]] = {}
    when: dict[str, float] = {}
    for row in documented_rows(file, FIELDS, NEEDED, columns):
        if isinstance(row, Problem):
            yield row
            continue
        where, cells = row
        film, patient, order = text_of(cells["image"]), id_of(cells["patient_id"]), number_of(cells.get("order"))
        found = _STUDY.search(film or "")
        if film is None or patient is None or found is None:
            yield Problem(where, "has no patient, or no path_to_image like train/patient1/study1/view1_frontal.jpg")
            continue
        study_id = "/".join(found.groups())
        first = studies.get(study_id)
        if first is None:
            first = studies[study_id] = _study(study_id, patient, cells)
            if order is not None:
                when[study_id] = order
        if first.patient_id != patient:
            yield Problem(where, f"{study_id} stands under another patient; the film is passed over")
            continue
        films.setdefault(study_id, {}).setdefault(film, Image(film, Path(film), _view(cells)))
    yield from with_priors([replace(s, images=tuple(films[s.study_id].values())) for s in studies.values()], when)


def _view(cells: Mapping[str, Any]) -> str | None:
    given = view_name(text_of(cells.get("view")))
    nearer = view_name(text_of(cells.get("ap_pa")))
    return nearer if given in ("Frontal", None) and nearer in ("PA", "AP") else given


def _study(study_id: str, patient: str, cells: Mapping[str, Any]) -> Study:
    findings, impression, comparison = (text_of(cells.get(name)) for name in ("findings", "impression", "comparison"))
    indication, report = text_of(cells.get("indication")) or text_of(cells.get("history")), text_of(cells.get("report"))
    sections = Sections(findings, impression, comparison)
    if findings is None and impression is None and report is not None:
        sections, own = parse_report(report)
        indication = indication or own
    split = text_of(cells.get("split"))
    return Study(study_id, patient, "chexpert-plus", sections, split=split, indication=indication)
