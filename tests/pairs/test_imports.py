from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radiograd.config import ImportConfig
from radiograd.errors import DataError
from radiograd.pairs.imports import Imported, check_import, read_imports
from radiograd.types import Sections, Study

SECRET = "Sekret"


def study(study_id: str, findings: str) -> Study:
    return Study(study_id, study_id, "test", Sections(findings=findings, impression="Clear."))


TRAIN = [study("t1", "The heart is large."), study("t2", "The lungs are clear.")]
POOL = [*TRAIN, study("p1", "A nodule lies over the left lung.")]
HELD_OUT = [study("h1", "There is a small right effusion with atelectasis at the base.")]


def imported(path: Path, kind: str = "expert", weight: float = 1.0, **fields: Any) -> Imported:
    given: dict[str, Any] = {"train": TRAIN, "pool": POOL, "held_out": HELD_OUT, "number": 0, **fields}
    file = ImportConfig.model_validate({"path": str(path), "kind": kind, "weight": weight})
    return read_imports([file], near_duplicate=0.7, seed=7, **given)


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def row(study_id: Any = "t1", **fields: Any) -> dict[str, Any]:
    return {"study_id": study_id, "chosen": "Large heart.", "rejected": "Clear.", **fields}


def test_a_preferred_text_and_a_verdict_are_read_from_csv(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(
        "study_id,a,b,winner,weight,reader,seconds\n"
        't1,"Large heart, no edema.",Clear.,a,2,r1,40\n'
        "t2,Nodule.,Clear lungs.,B,,r2,10\n"
        "t2,Nodule.,Mass.,tie,,r2,11\n",
        encoding="utf-8",
    )
    found = imported(path, weight=0.5)
    first, second = found.pairs
    assert (first.chosen, first.rejected, first.weight) == ("Large heart, no edema.", "Clear.", 1.0)  # 2 x 0.5
    assert (second.chosen, second.rejected, second.weight) == ("Clear lungs.", "Nodule.", 0.5)
    assert (first.chosen_source, first.rejected_source, first.findings) == ("expert", "expert", None)
    assert first.provenance == {"file": f"{path}:2", "reader": "r1"}
    assert (found.ties, found.problems) == (1, [])


def test_an_edit_prefers_what_was_signed_to_its_draft(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "edits.jsonl",
        {"study_id": "t1", "draft": "Clear.", "final": "Large heart."},
        {"study_id": "t2", "draft": "Clear lungs.", "final": "clear  lungs"},
    )
    found = imported(path, "edits", number=2)
    (pair,) = found.pairs
    assert (pair.chosen, pair.rejected) == ("Large heart.", "Clear.")
    assert (pair.chosen_source, pair.rejected_source, pair.round) == ("edit", "edit", 2)
    assert found.unchanged == 1


def test_bad_rows_are_named_by_file_and_line_and_the_good_ones_survive(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "pairs.jsonl",
        row(),
        SECRET,
        f'["{SECRET}"]',
        "",
        {"study_id": "t1", "chosen": SECRET},
        row(chosen=SECRET, rejected=f" {SECRET} "),
        row(weight="often"),
        row(weight=-1),
        row("elsewhere"),
        row(findings=SECRET),
        row(chosen=f"{SECRET} XXXX"),
        row("h1"),
        {"study_id": "t1", "a": SECRET, "b": "x", "winner": SECRET},
        {"chosen": SECRET, "rejected": "x"},
        row("t2", chosen=7),
        row("t2"),
    )
    found = imported(path)
    assert [pair.study_id for pair in found.pairs] == ["t1", "t2"]
    assert [(problem.where.removeprefix(f"{path}:"), problem.why) for problem in found.problems] == [
        ("2", "is not valid JSON"),
        ("3", "is not a JSON object"),
        ("5", "rejected is missing"),
        ("6", "chosen and rejected are the same text"),
        ("7", "weight is not a number"),
        ("8", "weight -1.0 is not a finite number above 0"),
        ("9", "study elsewhere is not among the training studies; give its findings"),
        ("10", "study t1 has other findings in the training data; leave findings out or use another id"),
        ("11", "the better text holds a redaction mark (XXXX), which would be learnt"),
        ("12", "study h1 is held out (val or test); it would spoil the evaluation"),
        ("13", "winner is none of a, b and tie"),
        ("14", "study_id is missing"),
        ("15", "chosen is a int, not text"),
    ]
    assert SECRET not in repr(found.problems)


def test_findings_come_from_the_row_or_from_the_studies_that_the_limits_left_out(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "pairs.jsonl",
        row("t1", findings="The heart  is large."),
        row("p1"),
        row("reader-7", findings="Both apices are scarred."),
        row(8, findings="Wires lie in the midline."),
    )
    found = imported(path)
    assert found.problems == []
    assert [(pair.study_id, pair.findings) for pair in found.pairs] == [
        ("t1", None),
        ("p1", "A nodule lies over the left lung."),
        ("reader-7", "Both apices are scarred."),
        ("8", "Wires lie in the midline."),
    ]


def test_findings_of_a_held_out_study_under_another_name_are_refused(tmp_path: Path) -> None:
    # 10 of the 11 different words of h1
    near = "There is a small right effusion with atelectasis at base"
    path = lines(tmp_path / "pairs.jsonl", row("mine", findings=near), row("other", findings="Clear."))
    found = imported(path)
    assert [pair.study_id for pair in found.pairs] == ["other"]
    (problem,) = found.problems
    assert problem.where == f"{path}:1"
    assert "held-out study or nearly" in problem.why


def test_a_study_from_elsewhere_has_one_text_of_findings(tmp_path: Path) -> None:
    path = lines(tmp_path / "pairs.jsonl", row("mine", findings="One."), row("mine", findings="Two."))
    found = imported(path)
    assert len(found.pairs) == 1
    assert [problem.why for problem in found.problems] == ["its study_id stood in an earlier row with other findings"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("pairs.csv", "", r"pairs\.csv is empty; it needs a header line"),
        (
            "pairs.csv",
            "study_id,text\nt1,x\n",
            r"holds no row with study_id, chosen, .*winner is missing",
        ),
        ("pairs.txt", "x", r"pairs\.txt: a table ends in \.csv or \.jsonl"),
        ("pairs.jsonl", "{}\n", r"holds no row with study_id, chosen, rejected"),
    ],
)
def test_a_file_that_cannot_be_used_is_found_before_the_run_starts(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        check_import(ImportConfig(path=str(path), kind="expert"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: cannot be read \(No such file or directory\)"):
        check_import(ImportConfig(path=str(tmp_path / "nowhere.csv"), kind="edits"))
