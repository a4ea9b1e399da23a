"""What became of one study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """``rank``: 1 = the worst, the first drawn or the first chosen; None = it has no place in an order.

    ``score``: S of the hardest, the standard deviation of reward_std, what a study of a diverse choice added when it
    was chosen.
    """

    study_id: str
    selected: bool
    rank: int | None
    reason: str
    score: float | None = None
    scores: Mapping[str, float | None] | None = None
    normalised: Mapping[str, float | None] | None = None
