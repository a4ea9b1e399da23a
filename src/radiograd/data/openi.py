"""Reader for the OpenI (Indiana University) chest X-ray reports: 3,955 XML files, one study each.

Demner-Fushman et al., JAMIA 2016, doi:10.1093/jamia/ocv080. Licence of the reports: CC BY-NC-ND 4.0.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from radiograd.data.openi_films import with_films
from radiograd.errors import ConfigError, DataError
from radiograd.types import Image, Problem, Sections, Study

_NOT_CODED = {"no indexing"}


def read(path: Path, columns: Mapping[str, str], images: Path | None = None) -> Iterator[Study | Problem]:
    """The studies of the archive (.tgz), or of a folder holding its unpacked XML files, by ascending number.

    ``images``: the folder of the films (:mod:`radiograd.data.openi_films`); None = their identifiers alone.

    ``patient_id`` equals ``study_id``: the collection holds one study per patient. Text is as in the file but for
    white space at its ends. A file that is not well-formed becomes a Problem. Raises DataError for a damaged archive
    or a folder without XML, ConfigError when ``columns`` are given.
    """
    if columns:
        raise ConfigError("data.columns has no meaning for data.source=openi; leave it out")
    rows = _reports(path)
    yield from rows if images is None else with_films(rows, images)


def _reports(path: Path) -> Iterator[Study | Problem]:
    files = _folder(path) if path.is_dir() else _archive(path)
    rows: list[tuple[tuple[float, str], Study | Problem]] = []
    for name, content in files:
        row = parse(content, name)
        rows.append((_order(row.study_id if isinstance(row, Study) else Path(name).name), row))
    if not rows:
        raise DataError(f"{path}: no XML files in it; give the archive NLMCXR_reports.tgz or the folder it unpacks to")
    for _, row in sorted(rows, key=lambda item: item[0]):
        yield row


def parse(content: bytes, name: str) -> Study | Problem:
    """One XML file. ``normal``: its MeSH majors are exactly "normal"; None when annotators did not code it.

    A document type declaration is refused: it is where entities are declared, and no OpenI file has one.
    """
    if b"<!DOCTYPE" in content:
        return Problem(name, "has a DOCTYPE, which OpenI files never have")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        line, column = error.position
        return Problem(name, f"is not well-formed XML (line {line}, column {column})")
    except (ValueError, LookupError):  # an encoding that is unknown or does not fit
        return Problem(name, "is in an encoding that cannot be read")
    uid = root.find("uId")
    study_id = None if uid is None else uid.get("id")
    if not study_id:
        return Problem(name, "has no uId")
    texts: dict[str, str] = {}
    for element in root.iter("AbstractText"):
        label, text = (element.get("Label") or "").upper(), "".join(element.itertext()).strip()
        texts[label] = f"{texts[label]}\n{text}" if label in texts else text
    codes = tuple((element.text or "").strip() for element in root.iterfind("MeSH/major"))
    return Study(
        study_id=study_id,
        patient_id=study_id,
        source="openi",
        sections=Sections(
            findings=texts.get("FINDINGS"), impression=texts.get("IMPRESSION"), comparison=texts.get("COMPARISON")
        ),
        images=tuple(Image(element.get("id", "")) for element in root.iterfind("parentImage") if element.get("id")),
        indication=texts.get("INDICATION"),
        codes=codes,
        normal=_normal(codes),
    )


def _normal(codes: tuple[str, ...]) -> bool | None:
    said = [code.lower() for code in codes if code.lower() not in _NOT_CODED]
    return said == ["normal"] if said else None


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in path.rglob("*.xml"):
        if not file.name.startswith("."):
            yield str(file), file.read_bytes()


def _archive(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = Path(member.name).name
                if member.isfile() and name.endswith(".xml") and not name.startswith("."):
                    content = archive.extractfile(member)
                    if content is not None:
                        yield f"{path}:{member.name}", content.read()
    except (tarfile.TarError, EOFError, zlib.error):
        raise DataError(f"{path}: not a whole tar archive; run 'radiograd fetch openi' again") from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or 'damaged'}); run 'radiograd fetch openi'"
        ) from None


def _order(name: str) -> tuple[float, str]:
    digits = re.search(r"\d+", name)
    return (float(digits.group()) if digits else float("inf"), name)
