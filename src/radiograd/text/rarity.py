"""How much each word of a text tells: capped inverse document frequency. One definition for metric and token weights.

idf(w) = ln((1 + N) / (1 + df(w))) + 1 over N texts, at most its 95th percentile. A word in fewer than three of them is
a misprint as likely as a rare finding and weighs the median; median and percentile are taken over the words in three
or more. Numbers count as one word, NUM; a hyphen parts words, so "right-sided" and "right sided" are the same two.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from radiograd.text.words import lower

FEWEST = 3
"""Texts a word must stand in to weigh by its own frequency."""
CAP = 95.0
"""Percentile of the weights above which no word weighs."""
NUMBER = "NUM"
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)*|\w+")


class Word(NamedTuple):
    """One word in lower case, or NUM, that stands at ``text[start:end]``."""

    word: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Weights:
    """Weight of each word in ``FEWEST`` or more of ``n`` texts; any other word weighs ``other``."""

    known: Mapping[str, float]
    other: float
    n: int

    def of(self, word: str) -> float:
        """What ``word`` weighs; always above 0."""
        return self.known.get(word, self.other)


def weigh(texts: Sequence[str]) -> Weights:
    """Capped idf over ``texts``, those without a word left out. All words weigh 1 when none stands in three texts."""
    counts = [words(text) for text in texts]
    documents = Counter(word for count in counts for word in count)
    n = sum(1 for count in counts if count)
    often = sorted(word for word, df in documents.items() if df >= FEWEST)
    if not often:
        return Weights({}, 1.0, n)
    idf = np.log((1 + n) / (1 + np.array([documents[word] for word in often]))) + 1
    capped = np.minimum(idf, np.percentile(idf, CAP))
    return Weights(dict(zip(often, capped.tolist(), strict=True)), float(np.median(idf)), n)


def places(text: str) -> Iterator[Word]:
    """The words of ``text`` in order."""
    for match in _WORD.finditer(lower(text)):
        word = match.group()
        yield Word(NUMBER if word[0].isdigit() else word, *match.span())


@lru_cache(maxsize=1 << 12)
def words(text: str) -> Counter[str]:
    """The words of ``text`` with their counts."""
    return Counter(word for word, _, _ in places(text))
