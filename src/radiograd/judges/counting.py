"""How much a judge left unanswered, and when that is too much. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from radiograd.errors import JudgeError
from radiograd.judges.protocol import Preference, Usage, Verdict

NAMED = 3
"""Reasons that an error names."""


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


def total_usage(answers: Sequence[Preference | Verdict]) -> Usage:
    """What all answers cost together; seconds are summed over requests, many of which ran at a time."""
    return sum((answer.usage for answer in answers), Usage())
