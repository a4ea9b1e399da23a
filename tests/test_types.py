from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.types import SECTION_NAMES, Case, Image, Score, Sections, Status, Study

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MAYBE = st.none() | TEXT
SPANS = st.dictionaries(st.sampled_from(SECTION_NAMES), st.tuples(st.integers(0, 99), st.integers(0, 99)))
IMAGES = st.lists(
    st.builds(Image, TEXT, st.none() | st.sampled_from([Path("a/b.png"), Path("/c.png")]), MAYBE), max_size=3
).map(tuple)
STUDIES = st.builds(
    Study,
    study_id=TEXT,
    patient_id=TEXT,
    source=TEXT,
    sections=st.builds(Sections, MAYBE, MAYBE, MAYBE, SPANS, st.booleans()),
    split=MAYBE,
    images=IMAGES,
    prior=MAYBE,
    indication=MAYBE,
    codes=st.lists(TEXT, max_size=3).map(tuple),
    normal=st.none() | st.booleans(),
)


@given(STUDIES)
def test_a_study_comes_back_equal_from_one_json_line(study: Study) -> None:
    line = json.dumps(study.to_json(), ensure_ascii=False)
    assert "\n" not in line
    assert Study.from_json(json.loads(line)) == study


def test_absent_and_empty_sections_stay_apart_in_json() -> None:
    study = Study("s1", "p1", "synthetic", Sections(findings="", impression=None))
    back = Study.from_json(json.loads(json.dumps(study.to_json())))
    assert back.sections.findings == ""
    assert back.sections.impression is None


def test_a_json_study_without_a_field_is_a_key_error() -> None:
    row = Study("s1", "p1", "synthetic", Sections()).to_json()
    del row["patient_id"]
    with pytest.raises(KeyError, match="patient_id"):
        Study.from_json(row)


def test_a_section_is_found_by_name_and_another_name_is_told() -> None:
    sections = Sections(findings="Clear.", impression="Normal.")
    assert [sections.text(name) for name in SECTION_NAMES] == ["Clear.", "Normal.", None]
    with pytest.raises(KeyError, match="no section 'spans'; sections are findings, impression, comparison"):
        sections.text("spans")


def test_a_case_is_held_against_the_section_it_names() -> None:
    study = Study("s1", "p1", "synthetic", Sections(findings="Clear.", impression=None))
    assert Case(study, "text").reference is None
    assert Case(study, "text", "findings").reference == "Clear."


def test_a_score_has_a_value_or_a_reason() -> None:
    assert Score(0.0).why is None
    assert Score(None, why="no reference").value is None
    for value, why in ((None, None), (1.0, "and a reason")):
        with pytest.raises(ValueError, match="exactly one of value and why"):
            Score(value, why=why)
    assert Score(None, why="no header", skipped=True).skipped
    with pytest.raises(ValueError, match="skipped has no value"):
        Score(0.0, skipped=True)


def test_nouns_are_frozen() -> None:
    study = Study("s1", "p1", "synthetic", Sections())
    with pytest.raises(FrozenInstanceError):
        study.study_id = "s2"  # type: ignore[misc]


def test_a_status_is_written_as_its_word() -> None:
    assert json.dumps([*Status]) == '["present", "absent", "uncertain", "unmentioned"]'
