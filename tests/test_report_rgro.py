"""The page's parts on preference optimisation: pairs, their curves, body systems."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from radiograd.config import RunConfig
from radiograd.preferences import Pair
from radiograd.report import report_run
from radiograd.report.curves import training
from radiograd.report.inputs import Inputs, read_inputs
from radiograd.report.pairs import drawn, pairs_panel
from radiograd.report.systems import SYSTEMS, agreement, of_system, said_in, system_of, systems_panel
from radiograd.runs import Run, write_json, write_jsonl
from radiograd.text.lexicon import load
from tests.report_fixture import write_run

LUNGS, HEART, BONES, DEVICES, REST = SYSTEMS


def dpo_run(folder: Path, drift: float = -0.1) -> Run:
    """The fixture's run as if it had been aligned on pairs in two rounds."""
    made = write_run(folder)
    config = made.config.model_dump(mode="json")
    config["align"] = {"type": "dpo", "rounds": 2}
    run = Run(made.path, RunConfig.model_validate(config))
    write_json(run.path / "config.json", run.config.model_dump(mode="json"))
    for number, stage in enumerate(("pairs", "pairs_round_1")):
        run.mark_done(
            stage,
            studies=20,
            candidates=40,
            candidates_cut=1 + number,
            judged=18,
            ties=3,
            unscored=0,
            unscored_why={},
            imported=0,
            contradicted=0,
            pairs=15 - number,
            given=False,
            signature="judge=rules|version=1",
            without_pair={"tie": 3, "fewer than two different candidates": 2 + number},
            left_out={},
            sources={"reference over judge_loser": 15 - number},
            statistics={
                "pairs": 15 - number,
                "words_chosen_mean": 8.25,
                "labels_differ_share": 0.5,
                "labels": {"Edema": {"only_chosen": 1, "only_rejected": 2}},
            },
        )
    pairs = [Pair(f"s{k}", "Clear lungs.", f"Small <b>nodule</b> {k}.", round=k % 2) for k in range(8)]
    write_jsonl(run.path / "pairs.jsonl", [pair.to_json() for pair in pairs])
    rows: list[dict[str, Any]] = [
        {
            "stage": "align",
            "step": step,
            "attempt": 1,
            "time": 1.0,
            "loss": 0.7 - step / 100,
            "margin": step / 10,
            "accuracy": 0.5,
            "chosen_logp": -20.0,
            "rejected_logp": -30.0,
            "chosen_drift_token": drift * step / 4,
            "rejected_drift_token": -step / 4,
            "drift_alarm": 0.0,
        }
        for step in range(1, 5)
    ]
    write_jsonl(run.path / "metrics.jsonl", rows)
    return run


# ---- pairs -----------------------------------------------------------------------------------------------------------


def test_the_pairs_of_every_round_stand_side_by_side(tmp_path: Path) -> None:
    panel = pairs_panel(read_inputs(dpo_run(tmp_path)), seed=7)
    assert panel is not None
    assert panel["rounds"] == ["Round 0", "Round 1"]
    assert panel["judge"] == "judge=rules|version=1"
    lines = dict(panel["lines"])
    assert lines["Pairs"] == ["15", "14"]
    assert lines["Candidates cut at the token limit"] == ["1", "2"]
    assert lines["No pair: fewer than two different candidates"] == ["2", "3"]
    assert lines["reference over judge loser"] == ["15", "14"]
    assert lines["The sides say different findings"] == ["50.0 %", "50.0 %"]
    assert "Imported rows passed over" not in lines  # nothing was imported
    assert panel["labels"] == [("Edema", 2, 4)]


def test_examples_are_drawn_blind_one_a_study() -> None:
    pairs = [Pair(f"s{k % 9}", "Clear.", f"Nodule {k}.") for k in range(30)]
    found = drawn(pairs, seed=7)
    assert len({pair.study_id for pair in found}) == 4
    assert found == drawn(pairs[::-1], seed=7)
    assert found != drawn(pairs, seed=8)


def test_a_run_without_pairs_has_no_such_part(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    report_run(run)
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert 'id="pairs"' not in html
    assert pairs_panel(read_inputs(run), 7) is None


def test_the_page_shows_pairs_and_escapes_them(tmp_path: Path) -> None:
    run = dpo_run(tmp_path)
    report_run(run)
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert 'id="pairs"' in html
    assert "<b>nodule" not in html
    assert "Alignment" in html
    assert "Reward =" not in html  # preference optimisation has none


# ---- curves ----------------------------------------------------------------------------------------------------------


def charts(inputs: Inputs) -> dict[tuple[str, str], str]:
    group = training(inputs, "align")
    assert group is not None
    return {(chart["title"], chart["unit"]): chart["svg"] for chart in group["charts"]}


def test_drift_margin_and_accuracy_have_charts(tmp_path: Path) -> None:
    found = charts(read_inputs(dpo_run(tmp_path)))
    assert {title for title, _ in found} >= {
        "Loss",
        "Margin: implicit reward of chosen − rejected",
        "Chosen above rejected",
        "Change against the SFT model",
        "Log-probability",
    }
    svg = found["Change against the SFT model", "nats per token"]
    assert ">chosen<" in svg
    assert ">rejected<" in svg
    assert ">alarm<" not in svg  # far from it: the line would flatten the curves


def test_the_alarm_is_drawn_once_the_curve_comes_halfway(tmp_path: Path) -> None:
    found = charts(read_inputs(dpo_run(tmp_path, drift=-0.3)))
    assert ">alarm<" in found["Change against the SFT model", "nats per token"]


# ---- body systems ----------------------------------------------------------------------------------------------------


def test_every_finding_of_the_lexicon_belongs_to_one_system_by_its_group() -> None:
    groups = set(load().findings.values())
    named = [group for system in SYSTEMS.values() for group in system]
    assert len(named) == len(set(named))
    assert set(named) == groups
    assert {name: system_of(name) for name in ("Pleural Effusion", "Cardiomegaly", "Fracture", "Pacemaker")} == {
        "Pleural Effusion": LUNGS,
        "Cardiomegaly": HEART,
        "Fracture": BONES,
        "Pacemaker": DEVICES,
    }
    assert system_of("Gallstones") == REST


def test_what_is_denied_is_not_said() -> None:
    said = said_in("Left pleural effusion. No pneumothorax. Possible cardiomegaly. Healed rib fracture.")
    assert of_system(said, LUNGS) == {"Pleural Effusion"}
    assert of_system(said, HEART) == {"Cardiomegaly"}
    assert len(of_system(said, BONES)) == 1


def test_agreement_counts_single_findings() -> None:
    truth = [frozenset({"a", "b"}), frozenset(), frozenset({"c"})]
    said = [frozenset({"a"}), frozenset({"c"}), frozenset({"c"})]
    # 2 found, 1 invented, 1 missed: 2 * 2 / (4 + 2)
    assert agreement(truth, said) == {"f1": "66.7", "found": 2, "invented": 1, "missed": 1, "studies": 3}
    nothing = [frozenset[str]()]
    assert agreement(nothing, nothing)["f1"] == "–"


def test_each_system_has_its_counts_and_one_case_that_speaks_of_it(tmp_path: Path) -> None:
    inputs = read_inputs(write_run(tmp_path))
    panel = systems_panel(inputs, seed=7, metrics=["rougeL"])
    assert panel is not None
    assert panel["rows"] == ["SFT", "Aligned"]
    assert [line["system"] for line in panel["lines"]] == list(SYSTEMS)
    by_id = {study.study_id: study for study in inputs.studies}
    for system, case in panel["cases"]:
        assert of_system(said_in(by_id[case["id"]].sections.impression or ""), system)
    assert len({case["id"] for _, case in panel["cases"]}) == len(panel["cases"])
    lines = {line["system"]: line for line in panel["lines"]}
    assert {system for system, line in lines.items() if line["reference"]} == {system for system, _ in panel["cases"]}
    # the made-up films with a degenerative spine say so in their findings and not in their impressions
    assert lines[BONES]["findings"] > 0
    assert lines[BONES]["reference"] == 0


@pytest.mark.parametrize("rows", [("sft",), ()])
def test_models_without_a_text_for_every_study_are_left_out(tmp_path: Path, rows: tuple[str, ...]) -> None:
    inputs = read_inputs(write_run(tmp_path))
    texts = {key: text for key, text in inputs.texts.items() if key[0] in rows}
    panel = systems_panel(dataclasses.replace(inputs, texts=texts), 7, [])
    assert (panel and panel["rows"]) == (["SFT"] if rows else None)
