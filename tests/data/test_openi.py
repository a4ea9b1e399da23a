import io
import tarfile
from pathlib import Path

import pytest
from studies_fixture import part, xml

from radiograd.data.openi import parse, read
from radiograd.errors import ConfigError, DataError
from radiograd.types import Problem, Study

WHOLE = xml(
    "CXR2",
    part("COMPARISON", None)
    + part("INDICATION", "Cough")
    + part("FINDINGS", " Clear &amp; dry. ")
    + part("IMPRESSION", "Normal chest."),
    images=("CXR2_IM-1", "CXR2_IM-2"),
)


def folder(path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (path / name).write_text(text, encoding="utf-8")
    return path


def archive(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"reports/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def parsed(text: str) -> Study:
    row = parse(text.encode(), "1.xml")
    assert isinstance(row, Study)
    return row


def test_a_file_becomes_one_study_with_all_it_says():
    study = parsed(WHOLE)
    assert (study.study_id, study.patient_id, study.source) == ("CXR2", "CXR2", "openi")
    assert study.sections.findings == "Clear & dry."
    assert study.sections.impression == "Normal chest."
    assert study.indication == "Cough"
    assert study.codes == ("normal",)
    assert [image.image_id for image in study.images] == ["CXR2_IM-1", "CXR2_IM-2"]


def test_an_empty_section_is_empty_text_and_a_missing_one_is_none():
    study = parsed(xml("CXR1", part("FINDINGS", None) + part("IMPRESSION", " ")))
    assert study.sections.findings == ""
    assert study.sections.impression == ""
    assert study.sections.comparison is None
    assert study.indication is None


@pytest.mark.parametrize(
    ("majors", "normal"),
    [
        (("normal",), True),
        (("Normal",), True),
        (("normal", "Cardiomegaly/mild"), False),
        (("Lung/abnormal",), False),
        (("No Indexing",), None),  # the annotators did not code this one
        ((), None),
    ],
)
def test_normal_means_that_the_only_major_is_normal(majors, normal):
    assert parsed(xml("CXR1", "", majors=majors)).normal is normal


def test_studies_come_by_ascending_number_from_folder_and_archive(tmp_path):
    files = {f"{k}.xml": xml(f"CXR{k}", part("FINDINGS", "x")) for k in (10, 9, 100, 1)}
    (tmp_path / "unpacked").mkdir()
    from_folder = list(read(folder(tmp_path / "unpacked", files), {}))
    from_archive = list(read(archive(tmp_path / "reports.tgz", files), {}))
    assert from_folder == from_archive
    assert [study.study_id for study in from_folder] == ["CXR1", "CXR9", "CXR10", "CXR100"]


def test_a_malformed_file_is_a_problem_that_names_it_and_the_rest_is_read(tmp_path):
    rows = list(read(archive(tmp_path / "r.tgz", {"3.xml": WHOLE[:-20], "2.xml": WHOLE}), {}))
    assert isinstance(rows[0], Study)
    assert isinstance(rows[1], Problem)
    assert rows[1].where.endswith("r.tgz:reports/3.xml")
    assert "not well-formed" in rows[1].why


def test_a_file_without_an_identifier_is_a_problem():
    assert parse(b"<eCitation/>", "5.xml") == Problem("5.xml", "has no uId")


@pytest.mark.parametrize("system", ['"file:///etc/hostname"', '"http://localhost/x"'])
def test_entities_are_never_declared_or_fetched(system):
    text = f'<!DOCTYPE e [<!ENTITY a SYSTEM {system}>]><eCitation><uId id="CXR1"/>&a;</eCitation>'
    row = parse(text.encode(), "1.xml")
    assert isinstance(row, Problem)
    assert "DOCTYPE" in row.why


def test_an_unknown_encoding_is_a_problem():
    row = parse(b'<?xml version="1.0" encoding="klingon"?><e/>', "1.xml")
    assert isinstance(row, Problem)


def test_a_damaged_archive_says_to_fetch_again(tmp_path):
    path = archive(tmp_path / "r.tgz", {f"{k}.xml": WHOLE * 50 for k in range(20)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"r\.tgz.*fetch openi"):
        list(read(path, {}))
    path.write_bytes(b"no archive at all")
    with pytest.raises(DataError, match=r"r\.tgz.*fetch openi"):
        list(read(path, {}))


def test_a_folder_without_xml_is_refused(tmp_path):
    with pytest.raises(DataError, match="no XML files"):
        list(read(tmp_path, {}))


def test_columns_are_refused_because_there_are_none(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.columns"):
        list(read(tmp_path, {"findings": "x"}))
