"""Metrics over statements: key words, sides, severities, denials, and claims of a prior that was not shown.

All read both texts with ``text.findings.read`` and compare findings of the fine ontology. The paper that names
KeyWordMatch (RadFlow, section 5.2) publishes neither list nor code: the definition here is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from radiograd.metrics import Array, MeanOverCases, mean_of, mean_score, no_reference
from radiograd.text.findings import Statement, read_in_place
from radiograd.text.labels import mentioned
from radiograd.text.lexicon import fingerprint
from radiograd.types import Case, Score, Status

REMEMBERED = 4096
Pairs = frozenset[tuple[str, str]]


class _Compared(MeanOverCases):
    """F1 of two sets of pairs, mean over cases; unscored where the reference states none of them."""

    name: str
    what: str

    def __init__(self) -> None:
        self.signature = f"{self.name}|{fingerprint()}|{self.what}|f1, mean over reports"

    def pairs(self, text: str) -> Pairs:
        """What is compared."""
        raise NotImplementedError

    def one(self, case: Case) -> Score:
        """In [0, 1]."""
        theirs = self.pairs(case.reference or "")
        if not theirs:
            return Score(None, why=f"the reference {case.section} states no {self.what}")
        ours = self.pairs(case.candidate)
        return mean_score(2 * len(theirs & ours) / (len(theirs) + len(ours)))


class Keywords(_Compared):
    """KeyWordMatch, our definition: findings of the fine ontology (chest, devices, carotid) with their status."""

    name, what = "keywords", "finding"

    def pairs(self, text: str) -> Pairs:
        """(finding, status) of every finding mentioned."""
        return _keywords(text)


class Laterality(_Compared):
    """Findings present, each with the sides it is said to be on."""

    name, what = "laterality", "side"

    def pairs(self, text: str) -> Pairs:
        """(finding, side); both sides named apart count as bilateral does."""
        return _attributes(text, "side")


class Severity(_Compared):
    """Findings present, each with how severe or how large it is said to be."""

    name, what = "severity", "severity"

    def pairs(self, text: str) -> Pairs:
        """(finding, severity or size in words)."""
        sizes = {(finding, size) for finding, size in _attributes(text, "size") if size.isalpha()}
        return _attributes(text, "severity") | sizes


class Statements(_Compared):
    """All that is said of findings: each with its status, its sides, and how severe or large it is."""

    name, what = "statements", "finding"

    def pairs(self, text: str) -> Pairs:
        """(finding, status), (finding, side), (finding, severity or size in words)."""
        said = {
            (finding, value)
            for category in ("side", "severity", "size")
            for finding, value in _attributes(text, category, said_now=False)
            if value.isalpha()
        }
        return _keywords(text) | said


class Negation:
    """Of the findings that both texts mention, the share said to be there, or not to be there, alike."""

    name = "negation"
    higher_is_better = True
    part_names: tuple[str, ...] = ("agreed", "shared")

    def __init__(self) -> None:
        self.signature = f"negation|{fingerprint()}|shared findings|agreed over all reports"

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case; an empty candidate 0; unscored when the texts share no finding."""
        return [self._one(case) for case in cases]

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """Agreed over shared, summed over cases."""
        return mean_of({"sum": sums["agreed"], "n": sums["shared"]})

    def _one(self, case: Case) -> Score:
        unscored = no_reference(case)
        if unscored is not None:
            return unscored
        theirs, ours = dict(_keywords(case.reference or "")), dict(_keywords(case.candidate))
        if theirs and not case.candidate.strip():
            return Score(0.0, {"agreed": 0.0, "shared": float(len(theirs))})
        shared = theirs.keys() & ours.keys()
        if not shared:
            return Score(None, why="the texts share no finding")
        agreed = sum(theirs[finding] == ours[finding] for finding in shared)
        return Score(agreed / len(shared), {"agreed": float(agreed), "shared": float(len(shared))})


class HallucinatedPrior(MeanOverCases):
    """1 where the candidate claims a change from an earlier film that it was not shown; lower is better.

    A claim is a finding with a change ("unchanged", "new", "increased"). It is no hallucination when the study has a
    prior, or when the reference claims a change itself.
    """

    name = "hallucinated_prior"
    higher_is_better = False

    def __init__(self) -> None:
        self.signature = f"hallucinated_prior|{fingerprint()}|share of reports|lower is better"

    def one(self, case: Case) -> Score:
        """0 or 1."""
        known = case.study.prior is not None or bool(_attributes(case.reference or "", "change", said_now=False))
        return mean_score(float(not known and bool(_attributes(case.candidate, "change", said_now=False))))


@lru_cache(maxsize=REMEMBERED)
def _read(text: str) -> tuple[Statement, ...]:
    return tuple(read_in_place(text))


@lru_cache(maxsize=REMEMBERED)
def _keywords(text: str) -> Pairs:
    return frozenset((finding, status.value) for finding, status in mentioned(_read(text)).items())


_SIDES = {frozenset({"left", "right"}): frozenset({"bilateral"})}


def _attributes(text: str, category: str, said_now: bool = True) -> Pairs:
    found: dict[str, set[str]] = {}
    for statement in _read(text):
        if said_now and (statement.status is not Status.PRESENT or statement.context != "current"):
            continue
        found.setdefault(statement.finding, set()).update(statement.attributes.get(category, ()))
    return frozenset(
        (finding, value) for finding, values in found.items() for value in _SIDES.get(frozenset(values), values)
    )
