"""Overlap of words weighted by how rare they are: F1 over TF-IDF weights. Ours; no published implementation exists.

With tf the counts of a word in candidate c and reference r, and w its weight,

    P = sum_v w_v min(tf_c, tf_r) / sum_v w_v tf_c,    R = the same over sum_v w_v tf_r,    F1 = 2 P R / (P + R)

where w_v is how much the word v tells by the N references given to :meth:`TfidfOverlap.prepare` (``text/rarity.py``).
These are the word weights of token-level credit too, so that metric and credit agree on which words matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from radiograd.errors import UsageError
from radiograd.metrics import MEAN_PARTS, Array, mean_of, mean_score, no_reference
from radiograd.text.rarity import CAP, FEWEST, NUMBER, Weights, weigh, words
from radiograd.types import Case, Score


class TfidfOverlap:
    """F1 of shared words by weight."""

    name = "tfidf_overlap"
    higher_is_better = True
    part_names: tuple[str, ...] = MEAN_PARTS

    def __init__(self) -> None:
        self._weights: Weights | None = None
        self.signature = self._signature("not prepared")

    def prepare(self, references: Sequence[str]) -> None:
        """Weigh words by ``references``; call it once, before scoring, with the references of the set."""
        self._weights = weigh(references)
        self.signature = self._signature(f"{self._weights.n} references")

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case, in [0, 1]; an empty candidate 0; unscored when the reference holds no word.

        UsageError before :meth:`prepare`.
        """
        weights = self._weights
        if weights is None:
            if cases:
                raise UsageError(
                    "tfidf_overlap needs the references of the set: call prepare(references) before score(cases)"
                )
            return []
        return [_score(case, weights) for case in cases]

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """The mean over scored cases."""
        return mean_of(sums)

    def _signature(self, documents: str) -> str:
        return f"{self.name}|f1|case:lc|numbers:{NUMBER}|idf:smooth,df>={FEWEST},cap:p{CAP:g}|df:{documents}"


def overlap(candidate: Mapping[str, int], reference: Mapping[str, int], weights: Weights) -> float:
    """F1 in [0, 1] of word counts by weight; 0 when no word is shared."""
    both = candidate.keys() & reference.keys()
    shared = math.fsum(weights.of(word) * min(candidate[word], reference[word]) for word in both)
    if not shared:
        return 0.0
    in_candidate, in_reference = (
        math.fsum(weights.of(word) * n for word, n in counts.items()) for counts in (candidate, reference)
    )
    return 2 * shared / (in_candidate + in_reference)


def _score(case: Case, weights: Weights) -> Score:
    reference = words(case.reference or "")
    unscored = no_reference(case, words=reference.total())
    if unscored is not None:
        return unscored
    return mean_score(overlap(words(case.candidate), reference, weights))
