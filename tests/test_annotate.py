"""Critical cases by three sources, their agreement, and a judge that is stopped and goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radiograd import annotate
from radiograd.annotate import annotate_run, reference_report, summarise
from radiograd.config import RunConfig
from radiograd.errors import JudgeError, RunError
from radiograd.runs import Run, read_json, read_jsonl, write_jsonl
from radiograd.studies import aligned_on, candidates
from radiograd.types import Sections, Study
from tests import tiny
from tests.critical_fake import SaysLeft

OWN = "tests.critical_fake:SaysLeft"


def study(number: int, findings: str, impression: str, normal: bool | None = None) -> Study:
    return Study(f"s{number}", f"p{number}", "test", Sections(findings=findings, impression=impression), normal=normal)


STUDIES = [
    study(0, "The lungs are clear.", "Normal chest.", True),
    study(1, "Tiny left pneumothorax.", "Pneumothorax.", False),
    study(2, "Small left pleural effusion.", "Small effusion.", False),
    study(3, "Degenerative change of the spine.", "No acute disease.", False),
    study(4, "Right hemidiaphragm is elevated.", "Elevated diaphragm.", None),
    study(5, "Low lung volumes.", "No acute disease.", True),
]


@pytest.fixture(autouse=True)
def _nobody_asked() -> Iterator[None]:
    SaysLeft.asked, SaysLeft.killed_after = [], None
    yield
    SaysLeft.killed_after = None


def run_of(folder: Path, studies: list[Study] = STUDIES, **criticality: Any) -> Run:
    values = {"criticality": criticality, "align": {"clip": "critical"}, "evaluate": {"resamples": 100}}
    run = Run(folder, RunConfig.model_validate(values))
    write_jsonl(folder / "data" / "train.jsonl", [s.to_json() for s in studies])
    run.mark_done("data")
    return run


def lines(run: Run) -> list[dict[str, Any]]:
    return list(read_jsonl(run.path / "criticality.jsonl"))


# ---- what is written -------------------------------------------------------------------------------------------------


def test_every_source_answers_for_every_study_and_the_chosen_one_counts(tmp_path: Path) -> None:
    run = run_of(tmp_path, source="urgent_list")
    facts = annotate_run(run)
    rows = lines(run)
    assert [row["study_id"] for row in rows] == [s.study_id for s in STUDIES]
    assert rows[1] == {
        "study_id": "s1",
        "critical": True,
        "source": "urgent_list",
        "judge": True,
        "judge_why": None,
        "labels": True,
        "urgent": True,
        "urgent_findings": ["Pneumothorax"],
    }
    # low lung volumes are a finding to the judge, but no label and none of what rules "No Finding" out
    assert [row["judge"] for row in rows] == [False, True, True, True, True, True]
    assert [row["labels"] for row in rows] == [False, True, True, True, True, False]
    assert [row["urgent"] for row in rows] == [False, True, False, False, False, False]
    assert [row["critical"] for row in rows] == [row["urgent"] for row in rows]
    assert (facts["studies"], facts["critical"], facts["unanswered"], facts["source"]) == (6, 1, 0, "urgent_list")
    assert facts["critical_share"] == pytest.approx(1 / 6)


def test_the_summary_holds_tables_of_every_two_sources_and_of_the_sources_own_codes(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    annotate_run(run)
    summary = read_json(run.path / "criticality_summary.json")
    assert summary["sources"]["codes"] == {"answered": 5, "unanswered": 1, "critical": 3, "share": 0.6}
    tables = {(row["a"], row["b"]): row for row in summary["agreement"]}
    assert len(tables) == 6
    against = tables["judge", "codes"]
    # s0 neither; s1, s2, s3 both; s5 the judge alone; s4 is not coded
    assert [against[key] for key in ("n", "both", "first", "second", "neither")] == [5, 3, 1, 0, 1]
    assert against["agreement"]["value"] == pytest.approx(0.8)
    # by chance: .8 * .6 + .2 * .4 = .56
    assert against["kappa"]["value"] == pytest.approx((0.8 - 0.56) / (1 - 0.56))
    assert against["agreement"]["low"] <= 0.8 <= against["agreement"]["high"]
    assert summary["urgent_findings"] == {"Pneumothorax": 1}
    assert set(summary["signatures"]) == {"judge", "labels", "urgent_list"}
    assert not [s for s in STUDIES if (s.sections.findings or "") in json.dumps(summary)]


def test_a_judge_that_is_not_free_is_asked_only_where_it_counts(tmp_path: Path) -> None:
    run = run_of(tmp_path, source="labels", judge=OWN)
    annotate_run(run)
    assert SaysLeft.asked == []
    assert {row["judge"] for row in lines(run)} == {None}
    assert "judge" not in read_json(run.path / "criticality_summary.json")["sources"]


def test_the_judge_sees_the_whole_report() -> None:
    assert reference_report(STUDIES[2]) == "Findings: Small left pleural effusion.\nImpression: Small effusion."
    assert reference_report(replace(STUDIES[2], sections=Sections(impression="Clear."))) == "Impression: Clear."


def test_only_studies_that_alignment_may_use_are_annotated(tmp_path: Path) -> None:
    studies = tiny.studies(20)
    run = run_of(tmp_path, studies)
    config = run.config.model_copy(update={"sft": run.config.sft.model_copy(update={"fraction": 0.75})})
    annotate_run(Run(tmp_path, config))
    assert len(lines(run)) == 5


# ---- what a judge does not answer ------------------------------------------------------------------------------------


def test_what_a_judge_cannot_answer_stays_unknown_and_is_counted(tmp_path: Path) -> None:
    run = run_of(tmp_path, judge=OWN, judge_options={"puzzled_by": "spine"})
    facts = annotate_run(run)
    rows = lines(run)
    assert [row["critical"] for row in rows] == [False, True, True, None, False, False]
    assert rows[3]["judge_why"] == "the reply cannot be read"
    assert (facts["critical"], facts["unanswered"], facts["critical_share"]) == (2, 1, pytest.approx(0.4))
    assert read_json(run.path / "criticality_summary.json")["judge_unanswered"] == {"the reply cannot be read": 1}
    run.mark_done("annotate")
    assert [s.critical for s in aligned_on(run)] == [False, True, True, None, False, False]


def test_more_than_a_fifth_unanswered_is_an_error_and_the_rest_is_kept(tmp_path: Path) -> None:
    run = run_of(tmp_path, judge=OWN, judge_options={"puzzled_by": "No acute"})
    with pytest.raises(JudgeError, match=r"left 2 reports unanswered, of 6 asked and 6 in all.*2 x the reply cannot"):
        annotate_run(run)
    assert not (run.path / "criticality.jsonl").exists()
    SaysLeft.asked = []
    annotate_run(run_of(tmp_path, judge=OWN))
    assert SaysLeft.asked == ["s3", "s5"]


# ---- stopped and started ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [2, 4])
def test_killed_between_batches_it_asks_only_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(annotate, "AT_ONCE", 2)
    whole = run_of(tmp_path / "whole", judge=OWN)
    expected = annotate_run(whole)
    SaysLeft.asked, SaysLeft.killed_after = [], after
    run = run_of(tmp_path / "killed", judge=OWN)
    with pytest.raises(KeyboardInterrupt):
        annotate_run(run)
    path = run.path / "criticality" / "answers.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '{"study_id": "s', encoding="utf-8")  # a torn line
    SaysLeft.killed_after = None
    assert annotate_run(run) == expected
    assert sorted(SaysLeft.asked) == [s.study_id for s in STUDIES]
    for name in ("criticality.jsonl", "criticality_summary.json", "criticality/answers.jsonl"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_answers_about_another_text_are_not_taken(tmp_path: Path) -> None:
    annotate_run(run_of(tmp_path, judge=OWN))
    SaysLeft.asked = []
    changed = [*STUDIES[:5], study(5, "Left nodule.", "Nodule.")]
    run = run_of(tmp_path, changed, judge=OWN)
    annotate_run(run)
    assert SaysLeft.asked == ["s5"]
    assert lines(run)[5]["critical"] is True


# ---- stored with the study -------------------------------------------------------------------------------------------


def test_before_the_stage_is_done_there_are_no_candidates(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    with pytest.raises(RunError, match=r"stage 'annotate' has not finished; run: radiograd annotate"):
        candidates(run)


def test_a_file_that_lacks_a_study_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    annotate_run(run)
    run.mark_done("annotate")
    write_jsonl(run.path / "criticality.jsonl", lines(run)[1:])
    with pytest.raises(RunError, match=r"lacks 1 studies \(first: s0\).*radiograd annotate"):
        candidates(run)


def test_nothing_answered_is_unknown_and_not_zero() -> None:
    found = summarise({"judge": [None], "labels": [True]}, STUDIES[4:5], "judge", 100, 7)
    assert found["sources"]["judge"]["share"] is None
    assert found["agreement"][0]["agreement"] == {"value": None, "low": None, "high": None}
