"""ROUGE-1, ROUGE-2 and ROUGE-L: F1 on raw text, equal to ``rouge_score`` with ``use_stemmer=True``.

Words and stems come from rouge_score itself, remembered word by word; the matching is ours because the library's
longest-common-subsequence table is too slow for a reward. Equal to the library to the last bit (tested), so its
conventions hold too: only a-z and 0-9 count, and ROUGE-2 of a one-word text is 0.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from importlib.metadata import version

from radiograd.metrics import MEAN_PARTS, Array, mean_of, mean_score, no_reference
from radiograd.types import Case, Score

Tokens = tuple[str, ...]
_WORD = re.compile("[a-z0-9]+")


class _Rouge:
    """What the three share: tokens, the F1 of ``matches`` and the mean over cases."""

    name: str
    order = 1
    """Words per item that is counted."""
    higher_is_better = True
    part_names: tuple[str, ...] = MEAN_PARTS

    def __init__(self) -> None:
        self.signature = f"{self.name}|rouge_score {version('rouge-score')}|stemmed|f1|raw"

    def matches(self, reference: Tokens, candidate: Tokens) -> int:
        """How many items both hold."""
        return matching_ngrams(reference, candidate, self.order)

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case, in [0, 1]; an empty candidate 0; unscored when the reference holds no word."""
        return [self._one(case) for case in cases]

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """The mean over scored cases."""
        return mean_of(sums)

    def _one(self, case: Case) -> Score:
        reference = tokens(case.reference or "")
        unscored = no_reference(case, words=len(reference))
        if unscored is not None:
            return unscored
        candidate = tokens(case.candidate)
        matched = self.matches(reference, candidate)
        items = self.order - 1
        return mean_score(f1(matched, len(reference) - items, len(candidate) - items))


class Rouge1(_Rouge):
    """F1 of shared words."""

    name = "rouge1"


class Rouge2(_Rouge):
    """F1 of shared pairs of neighbouring words."""

    name = "rouge2"
    order = 2


class RougeL(_Rouge):
    """F1 of the longest common subsequence of words."""

    name = "rougeL"

    def matches(self, reference: Tokens, candidate: Tokens) -> int:
        """Length of the longest common subsequence."""
        return longest_common_subsequence(reference, candidate)


def f1(matched: int, in_reference: int, in_candidate: int) -> float:
    """Harmonic mean of precision and recall; 0 when nothing matches."""
    if not matched:
        return 0.0
    precision, recall = matched / in_candidate, matched / in_reference
    return 2 * precision * recall / (precision + recall)


def matching_ngrams(a: Sequence[str], b: Sequence[str], order: int) -> int:
    """n-grams of ``order`` words in both texts, each counted as often as it stands in the one with fewer."""
    counts_a, counts_b = (Counter(zip(*(t[i:] for i in range(order)), strict=False)) for t in (a, b))
    return sum(min(count, counts_b[gram]) for gram, count in counts_a.items() if gram in counts_b)


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Its length, one machine operation per word of ``b`` and 64 words of ``a``.

    Bit-parallel row update of Hyyrö, "Bit-parallel LCS-length computation revisited" (AWOCA 2004):
    V' = (V + (V & M)) | (V & ~M), where a zero bit of V marks a word of ``a`` that lengthens the subsequence.
    """
    where: dict[str, int] = {}
    for i, word in enumerate(a):
        where[word] = where.get(word, 0) | 1 << i
    everything = (1 << len(a)) - 1
    row = everything
    for word in b:
        hit = row & where.get(word, 0)
        row = ((row + hit) | (row - hit)) & everything
    return len(a) - row.bit_count()


@lru_cache(maxsize=1 << 14)
def tokens(text: str) -> Tokens:
    """The stemmed words of ``text`` as rouge_score sees them."""
    return tuple(stem for word in _WORD.findall(text.lower()) for stem in _stems(word))


@lru_cache(maxsize=1 << 16)
def _stems(word: str) -> Tokens:
    return tuple(_tokenizer()(word))


@cache
def _tokenizer() -> Callable[[str], list[str]]:
    from rouge_score.tokenizers import DefaultTokenizer  # pulls in nltk: a quarter of a second

    tokenize: Callable[[str], list[str]] = DefaultTokenizer(use_stemmer=True).tokenize
    return tokenize
