"""F1 of clinical labels: what a candidate says of each finding, against what its reference says.

Published numbers differ mostly by what "uncertain" counts as and by how labels are averaged, so both are in the
signature. Positives are compared; absent and unmentioned are both negative. micro and macro follow scikit-learn with
``zero_division=0``: a label, or a set of cases, without any positive is 0. A case without any is 1, scikit-learn's
``average="samples", zero_division=1``. An empty candidate has no label, not even "No Finding".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from radiograd.metrics import MEAN_PARTS, Array, mean_of, no_reference
from radiograd.text.labels import RuleLabeler, label_set
from radiograd.text.lexicon import fingerprint
from radiograd.types import Case, Labels, Score, Status

Average = Literal["micro", "macro", "example"]
Uncertain = Literal["present", "absent", "ignore"]
Labeling = Callable[[Sequence[str]], Sequence[Labels]]

_COUNTS = ("tp", "fp", "fn")
REMEMBERED = 4096
"""Texts whose labels by our rules are kept: a reference is read once, not with every candidate."""


class LabelF1:
    """F1 over the labels of one set by one labeler.

    Per case always the example-based F1, 2 tp / (2 tp + fp + fn): 1 when neither side has a positive, 0 for an empty
    candidate. Corpus value by ``average``: micro (counts summed over cases and labels), macro (mean of the labels' F1,
    each from counts summed over cases), example (mean over cases).

    ``uncertain``: counts as present (f1chexbert, RadEval), as absent (R2GenCMN), or the label is left out of the case
    when either side is uncertain.
    """

    higher_is_better = True
    case_signature: str

    def __init__(
        self,
        name: str,
        labels: str = "chexpert14",
        average: Average = "micro",
        uncertain: Uncertain = "present",
        labeler: Labeling | None = None,
        labeler_name: str | None = None,
    ) -> None:
        self.name = name
        self.average = average
        self.uncertain = uncertain
        self._set = labels
        self._labeler = labeler
        described = f"{labels}|uncertain={uncertain}|{labeler_name or fingerprint()}"
        self.case_signature = f"{name}|example, none in both=1|{described}"
        self.signature = self.case_signature if average == "example" else f"{name}|{average}|{described}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels compared."""
        return label_set(self._set).names

    @property
    def part_names(self) -> tuple[str, ...]:
        """tp, fp, fn; of every label for macro; sum and n for example."""
        if self.average == "micro":
            return _COUNTS
        if self.average == "example":
            return MEAN_PARTS
        return tuple(f"{label}/{count}" for label in self.labels for count in _COUNTS)

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case; unscored when the reference is missing."""
        missing = [no_reference(case) for case in cases]
        scored = [case for case, score in zip(cases, missing, strict=True) if score is None]
        references = iter(self._read([case.reference or "" for case in scored]))
        candidates = iter(self._read([case.candidate for case in scored]))
        return [
            self._one(next(references), next(candidates), bool(case.candidate.strip())) if score is None else score
            for case, score in zip(cases, missing, strict=True)
        ]

    def positives(self, text: str) -> frozenset[str]:
        """The labels that count as present in a text; none in an empty one."""
        if not text.strip():
            return frozenset()
        [said] = self._read([text])
        return frozenset(label for label in self.labels if self._positive(said[label]))

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """Micro, macro or mean over cases, from summed parts."""
        if self.average == "example":
            return mean_of(sums)
        if self.average == "micro":
            return f1_of(*(np.asarray(sums[count], dtype=np.float64) for count in _COUNTS))
        per_label = [
            f1_of(*(np.asarray(sums[f"{label}/{count}"], dtype=np.float64) for count in _COUNTS))
            for label in self.labels
        ]
        mean: Array = np.mean(np.stack(per_label), axis=0)
        return mean

    def _read(self, texts: Sequence[str]) -> Sequence[Labels]:
        if self._labeler is None:
            return [_rule_labels(self._set, text) for text in texts]
        return self._labeler(texts)

    def _one(self, reference: Labels, candidate: Labels, says_something: bool) -> Score:
        counts = {
            label: self._count(reference[label], candidate[label] if says_something else Status.UNMENTIONED)
            for label in self.labels
        }
        tp, fp, fn = (float(sum(column)) for column in zip(*counts.values(), strict=True))
        value = float(f1_of(tp, fp, fn)) if tp + fp + fn else float(says_something)
        if self.average == "micro":
            return Score(value, {"tp": tp, "fp": fp, "fn": fn})
        if self.average == "example":
            return Score(value, {"sum": value, "n": 1.0})
        return Score(
            value,
            {f"{label}/{name}": float(n) for label, c in counts.items() for name, n in zip(_COUNTS, c, strict=True)},
        )

    def _count(self, reference: Status, candidate: Status) -> tuple[int, int, int]:
        if self.uncertain == "ignore" and Status.UNCERTAIN in (reference, candidate):
            return 0, 0, 0
        true, said = self._positive(reference), self._positive(candidate)
        return int(true and said), int(said and not true), int(true and not said)

    def _positive(self, status: Status) -> bool:
        return status is Status.PRESENT or (status is Status.UNCERTAIN and self.uncertain == "present")


@lru_cache(maxsize=REMEMBERED)
def _rule_labels(labels: str, text: str) -> Labels:
    return RuleLabeler(labels)([text])[0]


def f1_of(tp: float | Array, fp: float | Array, fn: float | Array) -> Array:
    """2 tp / (2 tp + fp + fn), elementwise; 0 where there is nothing to count (scikit-learn's zero_division=0)."""
    total = np.asarray(2 * tp + fp + fn, dtype=np.float64)
    value: Array = np.divide(2 * np.asarray(tp, dtype=np.float64), total, out=np.zeros(total.shape), where=total > 0)
    return value


def confusion(
    references: Sequence[Labels], candidates: Sequence[Labels], labels: Sequence[str]
) -> dict[str, dict[Status, dict[Status, int]]]:
    """label -> status in the reference -> status in the candidate -> cases: all four statuses, by name.

    Raises ValueError when the two are not of the same length.
    """
    tables = {label: {true: dict.fromkeys(Status, 0) for true in Status} for label in labels}
    for reference, candidate in zip(references, candidates, strict=True):
        for label in labels:
            tables[label][reference[label]][candidate[label]] += 1
    return tables


def _family(labels: str, name: str) -> dict[str, LabelF1]:
    averages: tuple[Average, ...] = ("micro", "macro", "example")
    policies: tuple[tuple[Uncertain, str], ...] = (("present", ""), ("absent", "_uncertain_absent"))
    found = {}
    for average in averages:
        for policy, suffix in policies:
            key = f"{name}{'' if average == 'micro' else f'_{average}'}{suffix}"
            found[key] = LabelF1(key, labels, average, policy)
    return found


_BY_NAME = {**_family("chexpert14", "label_f1_14"), **_family("chexpert5", "label_f1_5")}


def __getattr__(name: str) -> LabelF1:
    if name in _BY_NAME:
        return _BY_NAME[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
