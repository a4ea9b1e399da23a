"""A model in process, held to the allowed answers; the likelihoods are those of a plain forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from radiograd.errors import ConfigError, ModelError
from radiograd.judges.builtin import load_judge
from radiograd.judges.local import _ANSWERS, _PLACES, _settled
from radiograd.judges.protocol import Duel, Question

FINDINGS = "Small left pleural effusion. No pneumothorax."
DUELS = [
    Duel("s1", FINDINGS, "Small left pleural effusion.", "No effusion."),
    Duel("s2", "The lungs are clear.", "Nodule.", "No acute abnormality.", reference="No acute abnormality."),
    Duel("s3", FINDINGS * 3, "Effusion.", "Effusion, small and on the left."),
]


def make(folder: Path, **options: Any) -> Any:
    return load_judge("local", {"model": str(folder), "device": "cpu", "dtype": "float32", **options})


@pytest.fixture(scope="module")
def judge(tiny_model: Path) -> Any:
    return make(tiny_model)


def by_hand(judge: Any, ids: list[int], answer: str) -> float:
    """Sum of log p(token | before) over the answer's tokens, one sequence at a time, without padding."""
    import torch

    tokens = judge._answer_ids(answer)
    with torch.no_grad():
        rows = judge._model(input_ids=torch.tensor([ids + tokens])).logits[0].log_softmax(-1)
    return float(sum(rows[len(ids) - 1 + k, token] for k, token in enumerate(tokens)))


@pytest.mark.parametrize("model", ["tiny_model", "plain_model"])
def test_likelihoods_are_those_of_a_plain_forward_pass(model: str, request: pytest.FixtureRequest) -> None:
    judge = make(request.getfixturevalue(model))
    prompts = [judge._ids(text) for text in ("short", "a rather longer prompt about a small left effusion")]
    assert len(judge._answer_ids("tie")) > 1  # the general case: an answer of several tokens
    for answers in (_PLACES, _ANSWERS):
        for ids, found in zip(prompts, judge._log_probabilities(prompts, answers), strict=True):
            assert found == pytest.approx({answer: by_hand(judge, ids, answer) for answer in answers}, abs=1e-4)


def test_the_likeliest_answer_is_taken_in_both_orders(judge: Any) -> None:
    for preference in judge.prefer(DUELS):
        assert preference.winner in ("a", "b", "tie")
        assert preference.rationale.startswith("in the order a, b: A -")


@pytest.mark.parametrize(
    ("first", "second", "winner", "contradicted"),
    [("A", "B", "a", False), ("B", "A", "b", False), ("A", "A", "tie", True), ("tie", "A", "b", False)],
)
def test_two_orders_make_one_winner(first: str, second: str, winner: str, contradicted: bool) -> None:
    from radiograd.judges.asking import prompt

    weights = [{name: -1.0 if name == said else -2.0 for name in _PLACES} for said in (first, second)]
    found = _settled(weights[0], weights[1], prompt("local_prefer"))
    assert (found.winner, found.contradicted) == (winner, contradicted)


def test_batches_change_nothing(tiny_model: Path, judge: Any) -> None:
    alone = make(tiny_model, batch_size=1)
    assert [p.by_order for p in alone.prefer(DUELS)] == [p.by_order for p in judge.prefer(DUELS)]


def test_a_prompt_that_is_too_long_is_unscored_and_the_others_are_not(tiny_model: Path) -> None:
    judge = make(tiny_model)
    long = Question("s", "effusion " * 600, FINDINGS)  # the tiny model has 512 places
    found = judge.critical([Question("s", "No effusion."), long])
    assert found[0].value is not None
    assert found[1].why is not None
    assert "more than the judge reads" in found[1].why
    (duel,) = judge.prefer([Duel("s", FINDINGS, "effusion " * 600, "No effusion.")])
    assert duel.winner is None


def test_calibration_takes_off_what_an_answer_is_likely_anyway(tiny_model: Path, judge: Any) -> None:
    calibrated = make(tiny_model, calibrate=True)
    questions = [Question("s", "No effusion."), Question("s", "Large pneumothorax.")]
    plain, taken = judge.critical(questions), calibrated.critical(questions)
    offsets = []
    for before, after in zip(plain, taken, strict=True):
        values = [dict(pair.split() for pair in v.rationale.split(", ")) for v in (before, after)]
        offsets.append(tuple(round(float(values[1][a]) - float(values[0][a]), 1) for a in _ANSWERS))
    assert offsets[0] == offsets[1] != (0.0, 0.0)
    assert "calibrate=True" in calibrated.signature != judge.signature


def test_options_and_models_that_are_wrong_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="option 'model' is missing"):
        load_judge("local", {})
    with pytest.raises(ModelError, match="does not exist"):
        make(tmp_path / "nowhere")
