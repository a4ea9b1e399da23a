"""How much a judge left unanswered, and when that is too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from radiograd.errors import JudgeError
from radiograd.judges.protocol import Preference, Usage, Verdict

NAMED: Final = 3
"""Reasons that an error names."""
BLOCK: Final = 512
"""Questions asked together."""
MOST_UNSCORED: Final = 0.2
"""Share of unscored answers above which a run stops, where nothing else is said."""
Asked = TypeVar("Asked")
Answered = TypeVar("Answered", Preference, Verdict)


def unscored_reasons(answers: Sequence[Preference | Verdict]) -> list[tuple[str, int]]:
    """Why answers are unscored and how many for each reason, the commonest first."""
    counted = Counter(answer.why for answer in answers if answer.why is not None)
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))


def check_unscored(answers: Sequence[Preference | Verdict], share: float) -> None:
    """JudgeError with the commonest reasons when more than ``share`` (0 to 1) of the answers are unscored.

    What is left is otherwise no fair sample: reports that cannot be judged are not like the others.
    """
    reasons = unscored_reasons(answers)
    unscored = sum(count for _, count in reasons)
    if unscored > share * len(answers):
        named = "; ".join(f"{count} x {why}" for why, count in reasons[:NAMED])
        more = f"; {len(reasons) - NAMED} more reasons" if len(reasons) > NAMED else ""
        raise JudgeError(
            f"the judge left {unscored} of {len(answers)} unscored, more than the {share:.0%} allowed: {named}{more}"
        )


def ask_in_blocks(
    ask: Callable[[Sequence[Asked]], list[Answered]], questions: Sequence[Asked], max_unscored: float
) -> list[Answered]:
    """One answer each, asked for BLOCK at a time; JudgeError after the block that leaves too much unscored.

    A judge that fails on everything is found out after the first block, not after the last.
    """
    answers: list[Answered] = []
    for first in range(0, len(questions), BLOCK):
        answers += ask(questions[first : first + BLOCK])
        check_unscored(answers, max_unscored)
    return answers


def total_usage(answers: Sequence[Preference | Verdict]) -> Usage:
    """What all answers cost together; seconds are summed over requests, many of which ran at a time."""
    return sum((answer.usage for answer in answers), Usage())
