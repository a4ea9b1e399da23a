"""The terms of RadFlow's hierarchical reward (section 4.2, eqs. 4 to 7), for whole reports and for impressions alone,
and DEER's diagnostic F1.

A case of section "report" holds a whole generated report; ``text.generated`` cuts it, and what has no header is not
looked for. A case of section "impression" holds an impression of findings that are given, so there the facts and the
consistency are those of the impression, and nothing is ever skipped.

The paper lets a report without headers count whole in its global terms. Here it does not (``domain`` is then 0,
``consistent`` -1): leaving a header out must not be a way to be judged by another, easier rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from radiograd.judges.protocol import Judge, Question
from radiograd.metrics import no_reference
from radiograd.metrics.bleu import Bleu4
from radiograd.metrics.factgraph import Complete
from radiograd.metrics.label_f1 import LabelF1
from radiograd.metrics.rouge import RougeL
from radiograd.text.generated import cut, sides
from radiograd.text.labels import RuleLabeler
from radiograd.text.lexicon import fingerprint
from radiograd.types import REPORT, Case, Score, Status, Study

REMEMBERED: Final = 4096
"""Texts whose labels are kept."""
NO_FINDINGS: Final = "the study has no findings"


class Syntax:
    """R_syntax: (smoothed BLEU-4 + ROUGE-L) / 2 on the whole text, in [0, 1]. The paper names BLEU and ROUGE-L only as
    examples; their mean is ours."""

    name = "syntax"

    def __init__(self) -> None:
        self.bleu, self.rouge = Bleu4(), RougeL()
        self.signature = f"syntax|mean of two|{self.bleu.case_signature}|{self.rouge.signature}"

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case; unscored without a reference."""
        pairs = zip(self.bleu.score(cases), self.rouge.score(cases), strict=True)
        return [_mean_of(bleu, rouge) for bleu, rouge in pairs]


def _mean_of(bleu: Score, rouge: Score) -> Score:
    if bleu.value is None or rouge.value is None:
        return Score(None, why=bleu.why or rouge.why)
    return Score((bleu.value + rouge.value) / 2, {"bleu4": bleu.value, "rougeL": rouge.value})


class Domain:
    """R_domain: F1 of facts by our own graph at the complete level (docs/metrics.md: the one level that sees sides), in
    [0, 1]. Of the generated Findings against the study's; for an impression alone, of the impression.

    0 for a report without a Findings header. Unscored when the study itself has no findings (or no impression).
    """

    name = "domain"

    def __init__(self) -> None:
        self.metric = Complete()
        self.signature = f"domain|findings of a report, else impression|{self.metric.signature}"

    def case(self, case: Case) -> Case:
        """What is really compared: a case of the findings, or the case itself."""
        if case.section != REPORT:
            return case
        return Case(case.study, cut(case.candidate).findings or "", "findings")

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case."""
        return self.metric.score([self.case(case) for case in cases])


class Consistent:
    """R_consistent: +1 when the judge says that the impression follows from the findings, else -1 (eq. after 5).

    A report: its own Impression from its own Findings. An impression alone: from the findings that were given. -1
    without an impression or, in a report, without findings (ours: the paper does not say). A judge that cannot answer
    leaves the case unscored, and so does a study whose given findings are missing.
    """

    name = "consistent"
    lowest = -1.0
    background = True

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.signature = f"consistent|+1 or -1|{judge.signature}"

    def question(self, case: Case) -> Question | Score:
        """What the judge is asked of a case, or the Score that needs no judge."""
        findings, impression = sides(case)
        if case.section != REPORT and not findings.strip():
            return Score(None, why=NO_FINDINGS)
        if not findings.strip() or not impression.strip():
            return Score(-1.0)
        return Question(case.study.study_id, impression, findings)

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case; the same findings with the same impression are asked once."""
        asked = [self.question(case) for case in cases]
        questions = {(q.findings, q.text): q for q in asked if isinstance(q, Question)}
        verdicts = dict(zip(questions, self.judge.consistent(list(questions.values())), strict=True))
        found = []
        for one in asked:
            if isinstance(one, Score):
                found.append(one)
                continue
            verdict = verdicts[one.findings, one.text]
            if verdict.value is None:
                found.append(Score(None, why=f"the judge: {verdict.why}"))
            else:
                found.append(Score(1.0 if verdict.value else -1.0))
        return found


class Agreement(NamedTuple):
    """Labels present in both impressions, in the candidate's only, in the reference's only; in the set's order."""

    both: tuple[str, ...]
    invented: tuple[str, ...]
    missed: tuple[str, ...]


class ImpressionF1:
    """R_imp: macro-F1 of the labels of one impression against those of its reference (eqs. 6 and 7), in [0, 1].

    Over the labels present on either side. Of a single report a label's F1 is 1 where both have it and 0 where one has,
    so this is the share of agreement, |both| / |either|. No label on either side: 1. An empty impression: 0.

    CheXpert's 14 labels by our rules; present counts, uncertain does not. A report whose Impression header is missing,
    or whose headers are ambiguous, is skipped (the paper's rule). Unscored when the study has no impression.
    """

    name = "impression_f1"
    skips = True
    counted = "labels of either side, none in either=1"

    def __init__(self) -> None:
        self.signature = f"{self.name}|chexpert14|present only|{self.counted}|empty=0|{fingerprint()}"

    def impression(self, case: Case) -> str | Score:
        """The impression that is read, or the Score of a case that has none."""
        missing = no_reference(Case(case.study, "", "impression"))
        if missing is not None or case.section != REPORT:
            return missing or case.candidate
        mine = cut(case.candidate)
        if mine.impression is None:
            return Score(None, why="the report has no Impression header", skipped=True)
        if mine.ambiguous:
            return Score(None, why="the report's headers are ambiguous", skipped=True)
        return mine.impression

    def agreement(self, study: Study, impression: str) -> Agreement:
        """Which labels the impression and the study's own share, and which they do not."""
        said, true = present(impression), present(study.sections.impression or "")
        return Agreement(
            *(tuple(n for n in _labeler().labels.names if n in s) for s in (said & true, said - true, true - said))
        )

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case."""
        return [self._one(case) for case in cases]

    def _one(self, case: Case) -> Score:
        impression = self.impression(case)
        if isinstance(impression, Score):
            return impression
        found = self.agreement(case.study, impression)
        tp, fp, fn = (len(part) for part in found)
        return Score(self._value(tp, fp, fn) if impression.strip() else 0.0, {"tp": tp, "fp": fp, "fn": fn})

    def _value(self, tp: int, fp: int, fn: int) -> float:
        return tp / (tp + fp + fn) if tp + fp + fn else 1.0


class ImpressionF1All(ImpressionF1):
    """The same macro-F1 over all 14 labels, 0/0 := 1: a label that neither side has counts as found. Near 1 for nearly
    any pair, because most labels are absent from most reports."""

    name = "impression_f1_all"
    counted = "all labels, 0/0=1"

    def _value(self, tp: int, fp: int, fn: int) -> float:
        return 1 - (fp + fn) / len(_labeler().labels.names)


class DiagnosticF1(LabelF1):
    """DEER's reward: example-based F1, 2 tp / (2 tp + fp + fn), of the labels that a text states as present, in [0, 1].

    CheXpert's 14 labels by our rules, over the whole text (a report: findings and impression). No label on either side:
    1. An empty text: 0. Unscored without a reference.
    """

    def __init__(self) -> None:
        super().__init__("diagnostic_f1", average="example", uncertain="absent")


class Chance:
    """A control: a number by lot, uniform in [0, 1), the same for the same text of the same study. What a policy gains
    under it, it gains from being trained at all."""

    name = "chance"
    signature = "chance|sha256 of study and text"

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case."""
        return [Score(_lot(case)) for case in cases]


def _lot(case: Case) -> float:
    drawn = hashlib.sha256(f"{case.study.study_id}\0{case.candidate}".encode("utf-8", "replace")).digest()
    return int.from_bytes(drawn[:6], "big") / 2**48


@lru_cache(maxsize=1)
def _labeler() -> RuleLabeler:
    return RuleLabeler("chexpert14")


@lru_cache(maxsize=REMEMBERED)
def present(impression: str) -> frozenset[str]:
    """The labels that a text states as present; none for an empty one, not even "No Finding"."""
    if not impression.strip():
        return frozenset()
    (labels,) = _labeler()([impression])
    return frozenset(name for name, status in labels.items() if status is Status.PRESENT)
