"""Whether a text has the form that was asked for: a whole report can be cut into findings and impression."""

from __future__ import annotations

from radiograd.metrics import MeanOverCases, mean_score
from radiograd.text.generated import cut
from radiograd.types import REPORT, Case, Score


class ReportFormat(MeanOverCases):
    """1 where both headers stand once with text under both, else 0. Of a single section only a text is asked."""

    name = "report_format"
    signature = "report_format|findings and impression, once, not empty|share of reports"

    def one(self, case: Case) -> Score:
        """0 or 1."""
        return mean_score(float(cut(case.candidate).whole if case.section == REPORT else bool(case.candidate.strip())))
