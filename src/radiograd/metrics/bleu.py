"""BLEU-1 to BLEU-4 in sacreBLEU's convention: 13a tokens, case kept, exponential smoothing (NIST).

A case's value is its sentence BLEU with *effective order*: orders longer than the candidate are left out of the
geometric mean, so that a short text equal to its reference scores 1. The corpus value is computed from summed counts,
without effective order, and equals ``sacrebleu.corpus_bleu(..., smooth_method="exp")`` with the same largest order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from importlib.metadata import version

import numpy as np

from radiograd.metrics import Array, no_reference
from radiograd.types import Case, Score


class _Bleu:
    """BLEU with n-grams up to ``order`` words."""

    higher_is_better = True
    order: int

    def __init__(self) -> None:
        self.name = f"bleu{self.order}"
        settings = f"{self.name}|nrefs:1|case:mixed|eff:%s|tok:13a|smooth:exp|version:{version('sacrebleu')}"
        self.signature = settings % "no"
        self.case_signature = settings % "yes"
        orders = range(1, self.order + 1)
        self.part_names: tuple[str, ...] = (
            *(f"correct_{n}" for n in orders),
            *(f"total_{n}" for n in orders),
            "sys_len",
            "ref_len",
        )

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case, in [0, 1]; an empty candidate 0; unscored when the reference holds no token."""
        counts = [self._counts(case) for case in cases]
        scored = [c for c in counts if not isinstance(c, Score)]
        values = iter(self._bleu(np.array(scored, dtype=np.float64).T, effective_order=True) if scored else ())
        return [
            c if isinstance(c, Score) else Score(float(next(values)), dict(zip(self.part_names, c, strict=True)))
            for c in counts
        ]

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """Corpus BLEU of summed counts, each (...,) -> (...,); NaN where nothing was scored."""
        return self._bleu(np.stack([np.asarray(sums[name], dtype=np.float64) for name in self.part_names]))

    def _bleu(self, parts: Array, *, effective_order: bool = False) -> Array:
        """parts (2 * order + 2, ...) in the order of ``part_names`` -> (...,)."""
        n = self.order
        return bleu(parts[:n], parts[n : 2 * n], parts[2 * n], parts[2 * n + 1], effective_order=effective_order)

    def _counts(self, case: Case) -> tuple[float, ...] | Score:
        reference, ref_len = ngrams(case.reference or "", self.order)
        unscored = no_reference(case, words=ref_len)
        if unscored is not None:
            return unscored
        candidate, sys_len = ngrams(case.candidate, self.order)
        correct = [0.0] * self.order
        for gram, count in candidate.items():
            if gram in reference:
                correct[len(gram) - 1] += min(count, reference[gram])
        total = (float(max(sys_len - n, 0)) for n in range(self.order))
        return (*correct, *total, float(sys_len), float(ref_len))


class Bleu1(_Bleu):
    """Words."""

    order = 1


class Bleu2(_Bleu):
    """Up to two words in a row."""

    order = 2


class Bleu3(_Bleu):
    """Up to three words in a row."""

    order = 3


class Bleu4(_Bleu):
    """Up to four words in a row."""

    order = 4


def bleu(correct: Array, total: Array, sys_len: Array, ref_len: Array, *, effective_order: bool = False) -> Array:
    """BLEU in [0, 1] from counts. correct, total (order, ...); sys_len, ref_len (...,). Returns (...,).

    NaN where ref_len is 0 (nothing was scored). Precisions of 0 are halved 1 / 2, 1 / 4, ... over the total, order by
    order (method 3 of Chen and Cherry, aclanthology.org/W14-3346); no match of any order is 0. Without effective
    order a text that has no n-gram of the largest order is 0.
    """
    smooth = np.ones(sys_len.shape)
    log_sum = np.zeros(sys_len.shape)
    orders = np.zeros(sys_len.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        for correct_n, total_n in zip(correct, total, strict=True):
            there, missed = total_n > 0, correct_n == 0
            smooth = np.where(there & missed, smooth * 2, smooth)
            precision = np.where(missed, 1 / (smooth * total_n), correct_n / total_n)
            log_sum = log_sum + np.where(there, np.log(precision), 0.0 if effective_order else -np.inf)
            orders = orders + (there if effective_order else 1.0)
        brevity = np.minimum(1 - ref_len / sys_len, 0.0)
        value: Array = np.exp(brevity + log_sum / orders)
    value = np.where((correct > 0).any(axis=0), value, 0.0)
    return np.where(ref_len > 0, value, np.nan)


@lru_cache(maxsize=1 << 14)
def ngrams(text: str, order: int) -> tuple[Counter[tuple[str, ...]], int]:
    """How often each run of 1 to ``order`` 13a tokens stands in ``text``, and its number of tokens."""
    tokens = _tokenizer()(text.rstrip()).split()
    counts: Counter[tuple[str, ...]] = Counter()
    for n in range(1, order + 1):
        counts.update(zip(*(tokens[i:] for i in range(n)), strict=False))
    return counts, len(tokens)


@cache
def _tokenizer() -> Callable[[str], str]:
    from sacrebleu.metrics import BLEU  # 70 ms

    tokenize: Callable[[str], str] = BLEU(tokenize="13a").tokenizer
    return tokenize
