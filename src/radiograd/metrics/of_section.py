"""One section of a whole report, measured by any metric: ``impression/label_f1_14``, ``findings/factgraph_partial``.

The candidate is cut by its headers (:mod:`radiograd.text.generated`) and its section held against the same section of
the radiologist's report. A section that the candidate does not have is an empty text, which every metric scores 0: a
missing header must not pay. Of two sections of one name the last counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from radiograd.text.generated import cut
from radiograd.types import REPORT, Case, Score

if TYPE_CHECKING:
    from radiograd.metrics import Array, Metric

SECTIONS: Final = ("findings", "impression")


class OfSection:
    """``metric`` over one section of reports; a case that is that section already goes to it as it is.

    What a metric may have besides (case_signature, bounds, start, beside) is the metric's own.
    """

    def __init__(self, section: str, metric: Metric) -> None:
        if section not in SECTIONS:
            raise ValueError(f"section {section!r} is none of {', '.join(SECTIONS)}")
        self.section = section
        self.name = f"{section}/{metric.name}"
        self.higher_is_better = metric.higher_is_better
        self.part_names = metric.part_names
        self._metric = metric

    @property
    def signature(self) -> str:
        """The metric's own, under the name of the section."""
        return f"{self.section}/{self._metric.signature}"

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case; unscored for a text that is another section, and as the metric leaves it unscored."""
        found = [self._cut(case) for case in cases]
        scored = iter(self._metric.score([case for case in found if isinstance(case, Case)]))
        return [next(scored) if isinstance(case, Case) else case for case in found]

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """As the metric does."""
        return self._metric.combine(sums)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # before __init__, in a copy that is being unpickled
            raise AttributeError(name)
        own = getattr(self._metric, name)
        if name == "prepare":
            return lambda references: own([text for report in references if (text := self._text(report))])
        if name == "with_convention":
            return lambda convention: OfSection(self.section, own(convention))
        return own

    def _text(self, report: str) -> str:
        return getattr(cut(report), self.section) or ""

    def _cut(self, case: Case) -> Case | Score:
        if case.section == REPORT:
            return replace(case, candidate=self._text(case.candidate), section=self.section)
        if case.section == self.section:
            return case
        return Score(None, why=f"the text is no report but its {case.section}")
