"""How close the candidate's length is to the reference's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from radiograd.metrics import MEAN_PARTS, Array, mean_of, mean_score, no_reference
from radiograd.types import Case, Score


class LengthRatio:
    """min(|c| / |r|, |r| / |c|) in words split at white space; 1 is equal length, an empty candidate 0."""

    name = "length_ratio"
    higher_is_better = True
    signature = "length_ratio|words at white space|raw|mean over cases"
    part_names: tuple[str, ...] = MEAN_PARTS

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case, in [0, 1]; unscored without a reference."""
        return [_score(case) for case in cases]

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """The mean over scored cases."""
        return mean_of(sums)


def _score(case: Case) -> Score:
    unscored = no_reference(case)
    if unscored is not None:
        return unscored
    candidate, reference = len(case.candidate.split()), len((case.reference or "").split())
    return mean_score(min(candidate, reference) / max(candidate, reference))
