"""Consistency: how many impressions do not contradict the findings they belong to, by the rules of ``judges.rules``.

Of a whole report its own two sections are compared; of an impression, the given findings and the impression. The
radiologist's impression is not looked at: a consistent text can still be wrong, and an empty blanket phrase beside
findings without an acute one is consistent. No contradiction found is no proof that the impression follows.
"""

from __future__ import annotations

from radiograd.judges.protocol import Question
from radiograd.judges.rules import Rules
from radiograd.metrics import MeanOverCases, mean_score
from radiograd.text.generated import sides
from radiograd.types import REPORT, Case, Score


class Consistency(MeanOverCases):
    """1 where the rules find no contradiction, else 0; unscored for a study without findings to hold it against, and
    without a reference: the same studies then count as in other metrics."""

    name = "consistency"

    def __init__(self) -> None:
        self._judge = Rules()
        self.signature = f"{self.name}|{self._judge.signature}|mean over cases"

    def one(self, case: Case) -> Score:
        """0 or 1. An empty impression, and a report without either section, is 0."""
        findings, impression = sides(case)
        if case.section != REPORT and not findings.strip():
            return Score(None, why="the study has no findings")
        if not findings.strip() or not impression.strip():
            return mean_score(0.0)
        [verdict] = self._judge.consistent([Question(case.study.study_id, impression, findings)])
        return mean_score(float(bool(verdict.value)))
