"""How long texts are, how different from one another, and how many of them say the same. Pure.

Texts are compared by their words, without case and punctuation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Words = tuple[str, ...]
_WORD = re.compile(r"\w+")


def words_of(text: str) -> Words:
    """The words of a text in lower case: what makes two texts the same."""
    return tuple(_WORD.findall(text.casefold()))


def distinct(texts: Iterable[Words], n: int) -> float | None:
    """distinct-n (arXiv:1510.03055): different runs of ``n`` words over all of them, in (0, 1]; None without any."""
    runs = Counter(run for words in texts for run in zip(*(words[k:] for k in range(n)), strict=False))
    return len(runs) / runs.total() if runs else None


def commonest(texts: Iterable[str], most: int) -> tuple[Words, ...]:
    """The texts said most often, at most ``most`` and each at least twice, the commonest first."""
    counted = Counter(words_of(text) for text in texts)
    often = sorted(
        (words for words, n in counted.items() if n > 1 and words), key=lambda words: (-counted[words], words)
    )
    return tuple(often[:most])


@dataclass(frozen=True, slots=True)
class Variety:
    """What can be said of a row's texts without reading them.

    Shares are of 1; ``distinct_2`` is different word pairs over all word pairs, None without any pair; ``constant``
    and ``constant_abnormal`` are the shares that say the constant row's sentence, None when unknown.
    """

    n: int
    words: tuple[float, float, float]
    """5 %, median, 95 % of the words in a text (white space)."""
    distinct: int
    commonest: str
    commonest_n: int
    distinct_2: float | None
    constant: float | None
    constant_abnormal: float | None

    @property
    def commonest_share(self) -> float:
        """Of all texts."""
        return self.commonest_n / self.n

    @property
    def distinct_share(self) -> float:
        """Different texts over texts."""
        return self.distinct / self.n


def variety(texts: Sequence[str], constant: str | None = None, abnormal: Sequence[bool] = ()) -> Variety:
    """:class:`Variety` of the texts of one row; ``abnormal`` says of each whether its study is. ValueError for none."""
    if not texts:
        raise ValueError("no texts")
    keys = [words_of(text) for text in texts]
    counted = Counter(keys)
    most = min(counted, key=lambda key: (-counted[key], key))
    low, median, high = (float(q) for q in np.quantile([len(text.split()) for text in texts], (0.05, 0.5, 0.95)))
    same = None if constant is None else [key == words_of(constant) for key in keys]
    of_abnormal = [is_same for is_same, odd in zip(same, abnormal, strict=True) if odd] if same and abnormal else []
    return Variety(
        n=len(texts),
        words=(low, median, high),
        distinct=len(counted),
        commonest=texts[keys.index(most)].strip(),
        commonest_n=counted[most],
        distinct_2=distinct(keys, 2),
        constant=None if same is None else sum(same) / len(same),
        constant_abnormal=sum(of_abnormal) / len(of_abnormal) if of_abnormal else None,
    )
