"""Which training studies each stage sees. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from radiograd.types import Study


def share_train(studies: Sequence[Study], fraction: float, seed: int) -> tuple[list[Study], list[Study]]:
    """(studies to fine-tune on, studies to align on), both in the order given.

    With ``fraction`` 1 both are all of them. Below 1 they are disjoint (RGRO's data fractions): alignment then works on
    studies that the fine-tuned model has not memorised. The draw depends on the seed and the ids, not on their order;
    at least one study stays on each side.
    """
    if fraction >= 1.0:
        return list(studies), list(studies)

    def lot(study_id: str) -> bytes:
        return hashlib.sha256(f"{seed}:share:{study_id}".encode()).digest()

    drawn = sorted((study.study_id for study in studies), key=lot)
    chosen = set(drawn[: max(1, min(len(drawn) - 1, round(fraction * len(drawn))))])
    return [s for s in studies if s.study_id in chosen], [s for s in studies if s.study_id not in chosen]
