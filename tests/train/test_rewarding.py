"""Rewards of a rollout: begun early, imputed by group, shares of the variance."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from tests import tiny

from radiograd.judges.protocol import Question, Verdict
from radiograd.rewards import CombinedReward, Term, build_reward
from radiograd.train.rewarding import RolloutReward
from radiograd.types import Case, Score

STUDIES = {study.study_id: study for study in tiny.studies(4)}
ALONE = SimpleNamespace(device="cpu", process_index=0, gather=lambda value: value)


def _half(cases: Sequence[Case]) -> list[Score]:
    return [Score(len(case.candidate) / 10) for case in cases]


def _picky(cases: Sequence[Case]) -> list[Score]:
    """Skips what does not begin with a capital."""
    return [
        Score(float(case.candidate.count("!")))
        if case.candidate[:1].isupper()
        else Score(None, why="no header", skipped=True)
        for case in cases
    ]


def _reward() -> CombinedReward:
    return CombinedReward(
        [Term("half", _half, 1.0, "half"), Term("picky", _picky, 1.0, "picky", skips=True)], format_penalty=0.5
    )


def test_a_skipped_term_is_imputed_by_its_own_group_and_costs_the_penalty() -> None:
    rewards = RolloutReward(_reward(), STUDIES, "impression")
    first, second = list(STUDIES)[:2]
    rewards.collect([first, first, second, second], ["A!", "bb", "CC!!", "D!!!!"])
    found = rewards.totals(ALONE, 2)
    # group 1: (0.2 + 1) / 2; the skipped one gets its group's mean 1: (0.2 + 1) / 2 - 0.5
    # group 2: (0.4 + 2) / 2; (0.5 + 4) / 2
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.1], [1.2, 2.25]]))
    scores = rewards.scores()
    assert [score.value for score in scores] == pytest.approx([0.6, 0.1, 1.2, 2.25])
    assert scores[1].parts == {"half": pytest.approx(0.2)}
    assert rewards.skipped() == 0.25


def test_shares_of_the_variance_by_hand() -> None:
    rewards = RolloutReward(_reward(), STUDIES, "impression")
    first = next(iter(STUDIES))
    rewards.collect([first, first], ["A!", "ABC!!!"])
    rewards.totals(ALONE, 2)
    # halves 0.2 and 0.6, picky 1 and 3: the parts of the total differ by 0.2 and 1, so 1/6 and 5/6
    assert rewards.shares == pytest.approx({"half": 1 / 6, "picky": 5 / 6})


class Slow:
    """A judge of 0.3 s, which counts what it was asked."""

    signature = "judge=slow"

    def __init__(self) -> None:
        self.asked = 0

    def consistent(self, questions: Sequence[Question]) -> list[Verdict]:
        self.asked += len(questions)
        time.sleep(0.3)
        return [Verdict(True) for _ in questions]


def test_what_was_begun_early_is_not_asked_again_nor_waited_for() -> None:
    judge = Slow()
    rewards = RolloutReward(build_reward({"consistent": 1.0}, judge=lambda: judge), STUDIES, "impression")
    ids, texts = list(STUDIES), ["a", "b ", "c", "d"]
    rewards.begin(ids, texts)
    time.sleep(0.35)  # model work
    rewards.collect(ids, ["a", "b", "c", "d"])
    assert judge.asked == 4
    assert rewards.seconds < 0.2
    rewards.collect(ids, ["a", "b", "c", "e"])  # begun by nobody: asked now, of the new text alone
    assert judge.asked == 5
    assert rewards.seconds > 0.25


def test_texts_that_are_not_those_begun_are_asked_about_anew() -> None:
    judge = Slow()
    rewards = RolloutReward(build_reward({"consistent": 1.0}, judge=lambda: judge), STUDIES, "impression")
    first, second = list(STUDIES)[:2]
    rewards.begin([first], ["a"])
    rewards.collect([second], ["a"])
    assert [case.study.study_id for case in rewards.cases] == [second]
    assert rewards.totals(ALONE, 1).tolist() == [[1.0]]
