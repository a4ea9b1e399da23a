"""The judge without a model, held against arithmetic done by hand."""

from __future__ import annotations

import pytest

from radiograd.judges.protocol import Duel, Question
from radiograd.judges.rules import Rules

FINDINGS = "Small left pleural effusion. The heart is normal in size. No pneumothorax."
GOOD = "Small left pleural effusion."


def duel(a: str, b: str, reference: str | None = None, findings: str = FINDINGS) -> dict[str, dict[str, float]]:
    """Scores by side, from 1 to 5; sides swapped must give scores swapped."""
    (found,) = Rules().prefer([Duel("s", findings, a, b, reference)])
    (other,) = Rules().prefer([Duel("s", findings, b, a, reference)])
    assert other.scores == {"a": found.scores["b"], "b": found.scores["a"]}
    return {side: dict(scores) for side, scores in found.scores.items()}


def winner(a: str, b: str, reference: str | None = None, findings: str = FINDINGS) -> str | None:
    (found,) = Rules().prefer([Duel("s", findings, a, b, reference)])
    return found.winner


def test_a_whole_and_true_impression_has_five_in_everything_and_an_empty_one_one() -> None:
    assert duel(GOOD, "") == {
        "a": {"accuracy": 5, "relevance": 5, "clarity": 5},
        "b": {"accuracy": 1, "relevance": 1, "clarity": 1},
    }


def test_a_denial_of_what_is_there_covers_nothing_and_is_not_faithful() -> None:
    # coverage 0 of 1, contradictions 1 of 1 stated: accuracy 0.5 * 0 + 0.5 * 0 = 0, on the scale 1
    assert duel(GOOD, "No pleural effusion.")["b"] == {"accuracy": 1, "relevance": 5, "clarity": 5}


def test_the_wrong_side_is_covered_but_not_faithful() -> None:
    # 0.5 * 1 + 0.5 * 0 = 0.5; 1 + 4 * 0.5 = 3
    assert duel(GOOD, "Small right pleural effusion.")["b"]["accuracy"] == 3


def test_an_invented_finding_costs_faith_and_relevance() -> None:
    # covered; 1 of 2 stated contradicts ("no pneumothorax"): 0.5 + 0.5 * 0.5 = 0.75 -> 4; relevant 1 of 2 -> 3
    assert duel(GOOD, f"{GOOD} Large right pneumothorax.")["b"] == {"accuracy": 4, "relevance": 3, "clarity": 5}


def test_what_is_said_twice_costs_clarity_only() -> None:
    # one of two sentences was said before: 1 - 0.5; 8 words are no longer than the findings
    assert duel(GOOD, f"{GOOD} {GOOD}")["b"] == {"accuracy": 5, "relevance": 5, "clarity": 3}


def test_a_text_twice_as_long_as_its_reference_has_half_the_clarity() -> None:
    # reference 5 words ("small left pleural effusion today"); 10 words: 1 - (10/5 - 1)/2 = 0.5 -> 3
    long = "Small left pleural effusion today in the left pleural space."
    assert duel(GOOD, long, "Small left pleural effusion today.")["b"]["clarity"] == 3


def test_with_a_reference_agreement_counts_three_to_one() -> None:
    # statements: effusion 1, left 0.5, small 0.5 on both; the side says right instead of left: shared 1.5 of 2 and 2:
    # F1 = 2 * 1.5 / 4 = 0.75. Facts at complete level: effusion and its two modifiers, not all shared.
    same, other = (duel(GOOD, "Small right pleural effusion.", GOOD)[side]["accuracy"] for side in "ab")
    assert same == 5
    assert 1 < other <= 1 + 4 * (0.75 * (0.7 * 0.75 + 0.3 * 1.0) + 0.25 * 0)


def test_a_change_that_nobody_spoke_of_costs_relevance() -> None:
    # 1 - 0.25 = 0.75 -> 4; where the findings speak of a change it costs nothing
    changed = "Unchanged small left pleural effusion."
    assert duel(GOOD, changed)["b"]["relevance"] == 4
    assert duel(GOOD, changed, findings="Unchanged small left pleural effusion. No mass.")["b"]["relevance"] == 5


def test_words_alone_decide_sameness() -> None:
    (found,) = Rules().prefer([Duel("s", FINDINGS, GOOD, "small LEFT  pleural-effusion")])
    assert (found.winner, found.scores) == ("tie", {})


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (GOOD, "No acute cardiopulmonary abnormality."),
        (GOOD, "Small right pleural effusion."),
        (GOOD, "Large left pleural effusion."),
        (GOOD, f"{GOOD} Right upper lobe mass."),
        (GOOD, ""),
    ],
)
@pytest.mark.parametrize("reference", [None, GOOD])
def test_harm_loses_from_either_side(better: str, worse: str, reference: str | None) -> None:
    assert winner(better, worse, reference) == "a"
    assert winner(worse, better, reference) == "b"


@pytest.mark.parametrize(
    ("impression", "findings", "value", "rationale"),
    [
        (GOOD, FINDINGS, True, "no contradiction found"),
        ("No pleural effusion.", FINDINGS, False, "status: Pleural Effusion"),
        ("Pneumothorax.", FINDINGS, False, "status: Pneumothorax"),
        ("Right pleural effusion.", FINDINGS, False, "side: Pleural Effusion"),
        ("Large left pleural effusion.", FINDINGS, False, "severity: Pleural Effusion"),
        ("No acute cardiopulmonary abnormality.", FINDINGS, False, "blanket denial: Pleural Effusion"),
        ("Pneumonia.", "The lungs are clear.", False, "clear lungs: Pneumonia"),
        ("Pneumonia.", "The lungs are clear. Left base opacity.", True, "no contradiction found"),
        ("Left pleural effusion.", "Bilateral pleural effusions.", True, "no contradiction found"),
        ("Small pneumothorax.", "No large pneumothorax.", True, "no contradiction found"),  # a narrowed denial
        ("History of pneumonia.", "No pneumonia.", True, "no contradiction found"),  # not of today
        ("Moderate effusion.", "Small effusion.", True, "no contradiction found"),  # a step is no contradiction
    ],
)
def test_an_impression_is_consistent_until_it_contradicts(
    impression: str, findings: str, value: bool, rationale: str
) -> None:
    (found,) = Rules().consistent([Question("s", impression, findings)])
    assert found.value is value
    assert found.rationale.split("; ")[0] == rationale


@pytest.mark.parametrize(
    ("report", "value"),
    [
        ("Findings: The lungs are clear. Impression: No acute abnormality.", False),
        ("No effusion.", False),
        ("Pacemaker in place.", False),
        ("Possible pneumonia.", True),
        ("Mild cardiomegaly.", True),
    ],
)
def test_a_report_is_critical_when_it_states_something_abnormal(report: str, value: bool) -> None:
    (found,) = Rules().critical([Question("s", report)])
    assert found.value is value
