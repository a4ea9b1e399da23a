"""Whether a text has the form that was asked for: a whole report can be cut into findings and impression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from radiograd.metrics import MEAN_PARTS, Array, mean_of, mean_score, no_reference
from radiograd.text.generated import cut
from radiograd.types import REPORT, Case, Score


class ReportFormat:
    """1 where both headers stand once with text under both, else 0. Of a single section only a text is asked."""

    name = "report_format"
    higher_is_better = True
    signature = "report_format|findings and impression, once, not empty|share of reports"
    part_names: tuple[str, ...] = MEAN_PARTS

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case, 0 or 1."""
        return [_score(case) for case in cases]

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """The share of scored cases."""
        return mean_of(sums)


def _score(case: Case) -> Score:
    unscored = no_reference(case)
    if unscored is not None:
        return unscored
    return mean_score(float(cut(case.candidate).whole if case.section == REPORT else bool(case.candidate.strip())))
