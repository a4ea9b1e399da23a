"""Reader for MIMIC-CXR and MIMIC-CXR-JPG.

Johnson et al., Sci Data 2019, doi:10.1038/s41597-019-0322-0; physionet.org/content/mimic-cxr-jpg/2.1.0. Credentialed.

    mimic-cxr-2.0.0-metadata.csv.gz   dicom_id, subject_id, study_id, ViewPosition, Rows, Columns, StudyDate, StudyTime
    mimic-cxr-2.0.0-split.csv.gz      dicom_id, study_id, subject_id, split
    files/p10/p10000032/s50414267.txt                         the report, or in mimic-cxr-reports.zip
    files/p10/p10000032/s50414267/<dicom_id>.jpg (or .dcm)    the films
"""

from __future__ import annotations

import logging
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from radiograd.data.layout import Names, documented_rows, id_of, number_of, parse_report, pixels, text_of
from radiograd.data.priors import with_priors
from radiograd.data.views import view_name
from radiograd.errors import ConfigError, DataError
from radiograd.types import Image, Problem, Study

log = logging.getLogger(__name__)

_IDS: Names = {"subject_id": ("subject_id",), "study_id": ("study_id",)}
_METADATA: Names = {
    **_IDS,
    "dicom_id": ("dicom_id",),
    "view": ("ViewPosition",),
    "height": ("Rows",),
    "width": ("Columns",),
    "date": ("StudyDate",),
    "time": ("StudyTime",),
}
_SPLIT: Names = {**_IDS, "split": ("split",)}
_ARCHIVE = "mimic-cxr-reports.zip"
_REPORT = re.compile(r"(?:^|/)p\d\d/p(\d+)/s(\d+)\.txt$")
_STUDY_FOLDER = re.compile(r"s\d+")


@dataclass(slots=True)
class _Known:
    """What the tables say of one study."""

    patient: str
    split: str | None = None
    films: list[Image] = field(default_factory=list)
    when: tuple[float, float] | None = None


def read(path: Path, columns: Mapping[str, str], images: Path | None = None) -> Iterator[Study | Problem]:
    """The studies below ``path``, with official split, films and the patient's study before.

    ``path`` and ``images`` are folders of the layout above, or its ``files`` folders; each table is looked for in both
    and above. Sections and indication are read by ours out of the report. ``study_id`` is the number without its "s".
    The prior is the patient's latest study before it by StudyDate and StudyTime (days are shifted by patient, the order
    holds). Without the metadata table no film and no prior is known; without the split table no split; either is
    logged. A study of the tables without a report is a Problem; a report that no table names is left out. Raises
    DataError when there are no reports, when films are asked for and the metadata table is missing, and for a column
    that is missing.
    """
    if columns:
        raise ConfigError("data.columns has no meaning for data.source=mimic-cxr; leave it out")
    if not path.is_dir():
        raise DataError(f"{path}: data.path is the folder that holds files/ or mimic-cxr-reports.zip")
    places = [path, path.parent, *([] if images is None else [images, images.parent])]
    metadata, split = _table(places, "metadata"), _table(places, "split")
    if metadata is None and images is not None:
        raise DataError(f"{path}: mimic-cxr-2.0.0-metadata.csv.gz is neither there nor in {images}; it names the films")
    known: dict[str, _Known] = {}
    if metadata is None:
        log.info("%s: no mimic-cxr-2.0.0-metadata.csv.gz; films and prior studies are unknown", path)
    else:
        yield from _read_metadata(metadata, known, "files" if images is None or (images / "files").is_dir() else "")
    if split is None:
        log.info("%s: no mimic-cxr-2.0.0-split.csv.gz; the official split is unknown", path)
    else:
        yield from _read_split(split, known)
    studies: list[Study] = []
    for row in _studies(path, known):
        if isinstance(row, Study):
            studies.append(row)
        else:
            yield row
    yield from with_priors(studies, {key: one.when for key, one in known.items() if one.when is not None})


def _table(places: list[Path], kind: str) -> Path | None:
    found = (file for place in places for file in sorted(place.glob(f"mimic-cxr-*-{kind}.csv*")))
    return next((file for file in found if file.name.endswith((".csv", ".csv.gz"))), None)


def _read_metadata(file: Path, known: dict[str, _Known], below: str) -> Iterator[Problem]:
    needed = ("subject_id", "study_id", "dicom_id")
    for row in documented_rows(file, _METADATA, needed, {}):
        if isinstance(row, Problem):
            yield row
            continue
        where, cells = row
        patient, study_id, film = id_of(cells["subject_id"]), id_of(cells["study_id"]), text_of(cells["dicom_id"])
        if patient is None or study_id is None or film is None:
            yield Problem(where, "has no subject_id, study_id or dicom_id")
            continue
        one = known.setdefault(study_id, _Known(patient))
        if one.patient != patient:
            yield Problem(where, f"{study_id} stands under another subject_id; the film is passed over")
            continue
        path = Path(below, f"p{patient[:2]}", f"p{patient}", f"s{study_id}", f"{film}.jpg")
        size = {"width": pixels(cells.get("width")), "height": pixels(cells.get("height"))}
        one.films.append(Image(film, path, view_name(cells.get("view")), **size))
        date, time = number_of(cells.get("date")), number_of(cells.get("time"))
        if date is not None:
            when = (date, time or 0.0)
            one.when = when if one.when is None else min(one.when, when)


def _read_split(file: Path, known: dict[str, _Known]) -> Iterator[Problem]:
    for row in documented_rows(file, _SPLIT, tuple(_SPLIT), {}):
        if isinstance(row, Problem):
            yield row
            continue
        where, cells = row
        patient, study_id = id_of(cells["subject_id"]), id_of(cells["study_id"])
        if patient is None or study_id is None:
            yield Problem(where, "has no subject_id or study_id")
            continue
        known.setdefault(study_id, _Known(patient)).split = text_of(cells["split"])


def _studies(path: Path, known: Mapping[str, _Known]) -> Iterator[Study | Problem]:
    """A study for each report; where the tables name studies, a Problem for each of theirs without one."""
    archive = next((one for one in (path / _ARCHIVE, path.parent / _ARCHIVE) if one.is_file()), None)
    found = 0
    for where, patient, study_id, content in _folder(path, known) if archive is None else _archive(archive, known):
        if content is None:
            yield Problem(where, f"{study_id} has no report")
            continue
        found += 1
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            yield Problem(where, "is not UTF-8")
            continue
        one = known.get(study_id) or _Known(patient)
        sections, indication = parse_report(text)
        images = tuple(one.films)
        yield Study(study_id, one.patient, "mimic-cxr", sections, one.split, images, indication=indication)
    if not found:
        raise DataError(f"{path}: no report like files/p10/p10000032/s50414267.txt and no {_ARCHIVE} in it")


_Report = tuple[str, str, str, bytes | None]
"""Where it is, subject_id, study_id, what it holds (None = it is not there)."""


def _folder(path: Path, known: Mapping[str, _Known]) -> Iterator[_Report]:
    bases = [base for base in (path / "files", path / "mimic-cxr-reports" / "files", path) if base.is_dir()]
    for study_id, one in known.items():
        below = Path(f"p{one.patient[:2]}", f"p{one.patient}", f"s{study_id}.txt")
        places = [base / below for base in bases]
        content = next((read for read in map(_bytes, places) if read is not None), None)
        yield str(places[0]), one.patient, study_id, content
    if known:
        return
    for where, folders, files in os.walk(bases[0]):
        folders[:] = sorted(name for name in folders if not _STUDY_FOLDER.fullmatch(name))  # those hold films
        for name in sorted(files):
            file = Path(where, name)
            found = _REPORT.search(file.as_posix())
            if found:
                yield str(file), found.group(1), found.group(2), file.read_bytes()


def _bytes(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


def _archive(file: Path, known: Mapping[str, _Known]) -> Iterator[_Report]:
    try:
        with zipfile.ZipFile(file) as archive:
            found = ((name, _REPORT.search(name)) for name in archive.namelist())
            members = {match.group(2): (name, match.group(1)) for name, match in found if match}
            for study_id in known or members:
                if study_id in members:
                    name, patient = members[study_id]
                    yield f"{file}:{name}", patient, study_id, archive.read(name)
                else:
                    yield str(file), known[study_id].patient, study_id, None
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise DataError(f"{file}: not a whole zip archive; download it again") from None
