"""How much may stay unscored."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from radiograd.errors import JudgeError
from radiograd.judges.counting import BLOCK, ask_in_blocks, check_unscored, total_usage, unscored_reasons
from radiograd.judges.protocol import Question, Usage, Verdict

YES = Verdict(True, usage=Usage(1, 100, 20, 0.5))
ANSWERS = [YES, Verdict(None, why="slow"), Verdict(None, why="odd"), Verdict(None, why="slow"), YES]


def test_reasons_are_counted_the_commonest_first() -> None:
    assert unscored_reasons(ANSWERS) == [("slow", 2), ("odd", 1)]


def test_a_share_above_the_limit_stops_with_the_reasons() -> None:
    check_unscored(ANSWERS, 0.6)  # 3 of 5 is not more than 0.6
    with pytest.raises(JudgeError, match=r"left 3 of 5 unscored, more than the 50% allowed: 2 x slow; 1 x odd"):
        check_unscored(ANSWERS, 0.5)
    check_unscored([], 0.0)


def test_costs_are_added() -> None:
    assert total_usage(ANSWERS) == Usage(2, 200, 40, 1.0)


def test_a_judge_that_fails_is_found_out_after_the_first_block() -> None:
    asked = []

    def ask(questions: Sequence[Question]) -> list[Verdict]:
        asked.append(len(questions))
        return [Verdict(None, why="down") for _ in questions]

    questions = [Question(str(k), "x") for k in range(2 * BLOCK + 1)]
    with pytest.raises(JudgeError, match=f"left {BLOCK} of {BLOCK}"):
        ask_in_blocks(ask, questions, 0.2)
    assert asked == [BLOCK]
    assert len(ask_in_blocks(ask, questions, 1.0)) == 2 * BLOCK + 1
