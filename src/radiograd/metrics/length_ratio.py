"""How close the candidate's length is to the reference's."""

from __future__ import annotations

from radiograd.metrics import MeanOverCases, mean_score
from radiograd.types import Case, Score


class LengthRatio(MeanOverCases):
    """min(|c| / |r|, |r| / |c|) in words split at white space; 1 is equal length, an empty candidate 0."""

    name = "length_ratio"
    signature = "length_ratio|words at white space|raw|mean over cases"

    def one(self, case: Case) -> Score:
        """In [0, 1]."""
        candidate, reference = len(case.candidate.split()), len((case.reference or "").split())
        return mean_score(min(candidate, reference) / max(candidate, reference))
