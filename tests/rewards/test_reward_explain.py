from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.config import REWARD_PRESETS
from radiograd.errors import DataError
from radiograd.judges.builtin import load_judge
from radiograd.rewards import build_reward
from radiograd.rewards.explain import explain, render
from radiograd.types import Case, Sections, Study

STUDY = Study(
    "s",
    "p",
    "toy",
    Sections(
        findings="The heart is mildly enlarged. There is a small left pleural effusion. No pneumothorax.",
        impression="Mild cardiomegaly. Small left pleural effusion.",
    ),
)


def explained(candidate, section="impression", terms=REWARD_PRESETS["hierarchical"]):
    reward = build_reward(terms, judge=lambda: load_judge("rules"))
    return reward, explain(reward, Case(STUDY, candidate, section))


def evidence(found):
    return {term["name"]: term["evidence"] for term in found["terms"]}


def test_each_term_says_what_it_rests_on():
    _, found = explained("Small right pleural effusion. Rib fracture.")
    by_term = evidence(found)
    assert by_term["syntax"]["runs of words"] == {"1": "5/8", "2": "2/7", "3": "1/6", "4": "0/5"}
    assert by_term["syntax"]["longest common subsequence"] == "3 of 6 words, 6 of the reference"
    assert by_term["domain"]["only in the reference"] == [
        "cardiomegaly",
        "left modify pleural",
        "mild modify cardiomegaly",
    ]
    assert "right modify pleural" in by_term["domain"]["only in the candidate"]
    assert by_term["consistent"]["answer"] == "not consistent"
    assert "side: Pleural Effusion" in by_term["consistent"]["rationale"]
    assert by_term["impression_f1"] == {
        "labels in both": ["Pleural Effusion"],
        "only in the candidate": ["Fracture"],
        "only in the reference": ["Cardiomegaly"],
    }


def test_metrics_as_terms_say_it_too():
    terms = {"rougeL": 1.0, "label_f1_14": 1.0, "factgraph_partial": 1.0, "bleu2": 1.0, "fidelity": 1.0}
    by_term = evidence(explained("Small left pleural effusion.", terms=terms)[1])
    assert by_term["rougeL"]["longest common subsequence"] == "4 of 4 words, 6 of the reference"
    assert by_term["label_f1_14"]["only in the reference"] == ["Cardiomegaly"]
    assert "effusion (related)" in by_term["factgraph_partial"]["facts in both"]
    assert set(by_term["bleu2"]["runs of words"]) == {"1", "2"}
    assert by_term["fidelity"] == {}


def test_a_metric_over_one_section_of_a_report_says_it_of_that_section():
    terms = {"impression/label_f1_14": 1.0, "findings/factgraph_complete": 1.0}
    by_term = evidence(explained("Findings: Pneumothorax.\nImpression: Cardiomegaly.", "report", terms)[1])
    assert by_term["impression/label_f1_14"]["only in the reference"] == ["Pleural Effusion"]
    assert by_term["findings/factgraph_complete"]["only in the candidate"] == ["pneumothorax"]


def test_changes_are_what_the_reward_really_becomes_best_first():
    reward, found = explained("Small right pleural effusion. Rib fracture.")
    changed = {
        ("drop", "Rib fracture.", None): "Small right pleural effusion.",
        ("drop", "Small right pleural effusion.", None): "Rib fracture.",
        ("replace", "Small right pleural effusion.", "Small left pleural effusion."): (
            "Small left pleural effusion. Rib fracture."
        ),
        ("add", None, "Mild cardiomegaly."): "Small right pleural effusion. Rib fracture. Mild cardiomegaly.",
        ("add", None, "Small left pleural effusion."): (
            "Small right pleural effusion. Rib fracture. Small left pleural effusion."
        ),
    }
    assert {(c["kind"], c["sentence"], c["by"]) for c in found["changes"]} == set(changed)  # "rib" is near to nothing
    for change in found["changes"]:
        text = changed[change["kind"], change["sentence"], change["by"]]
        [score] = reward.score([Case(STUDY, text)])
        assert change["total"] == pytest.approx(score.value - found["total"])
        assert change["terms"]["syntax"] == pytest.approx(score.parts["syntax"] - found["terms"][0]["value"])
    totals = [change["total"] for change in found["changes"]]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > 0


def test_the_reference_can_only_be_made_worse():
    _, found = explained(STUDY.sections.impression)
    assert found["total"] == 1.0
    assert {change["kind"] for change in found["changes"]} == {"drop"}  # nothing to add, nothing to put right
    assert all(change["total"] < 0 for change in found["changes"])


def test_a_report_is_changed_section_by_section():
    _, found = explained("Findings: The heart is enlarged. No pneumothorax.\nImpression: Mild cardiomegaly.", "report")
    told = {(c["kind"], c["section"], c["by"] or c["sentence"]) for c in found["changes"]}
    assert ("add", "impression", "Small left pleural effusion.") in told
    assert ("add", "findings", "There is a small left pleural effusion.") in told
    assert ("replace", "findings", "The heart is mildly enlarged.") in told
    assert not any(kind == "replace" and section == "impression" for kind, section, _ in told)


def test_a_skipped_term_is_said_to_be_and_its_header_is_the_best_change():
    _, found = explained("Findings: The heart is enlarged.", "report")
    term = found["terms"][3]
    assert (term["skipped"], term["value"]) == (True, None)
    assert found["penalty"] == 0.5
    best = found["changes"][0]
    assert (best["kind"], best["section"], best["terms"]["impression_f1"]) == ("add", "impression", None)
    assert best["total"] > 0.5
    assert "is taken off" in render(found)


def test_it_is_json_and_reads_well():
    _, found = explained("Small right pleural effusion.")
    assert json.loads(json.dumps(found)) == found
    shown = render(found, top=2)
    assert "1 x consistent: -100.0" in shown
    assert "best 2 of " in shown
    assert shown.count("\n") < 40


def test_without_a_reference_there_is_nothing_to_explain():
    study = Study("lone", "p", "toy", Sections(findings="Clear."))
    with pytest.raises(DataError, match="study lone has no impression"):
        explain(build_reward({"rougeL": 1.0}), Case(study, "Normal."))


@given(st.text(max_size=40), st.sampled_from(["impression", "report"]))
def test_any_candidate_can_be_explained(text, section):
    reward, found = explained(text, section)
    assert found["total"] == reward.score([Case(STUDY, text, section)])[0].value
    assert json.dumps(found, allow_nan=False)
    assert render(found)
