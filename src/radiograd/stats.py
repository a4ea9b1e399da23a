"""Bootstrap intervals and paired tests over cached per-case values, by patient. Pure; numpy only.

A case's *parts* are the numbers a corpus value is recomputed from (a sum and a count, matched n-grams). They come as
one (n,) array per name, NaN = unscored. Everything a metric can say of a set of cases is a function of part sums, so a
resample is a row of integer counts and all resamples together are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parts = Mapping[str, Array]
Combine = Callable[[Mapping[str, Array]], Array]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A corpus value with its percentile interval; all three None when no case was scored."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Cases scored."""
    unscored: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Value of a minus value of b over the cases scored in both, with interval and two-sided p; None without any."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    unscored: int
    """Cases left out because a or b is unscored."""


def bootstrap_counts(groups: Sequence[str], resamples: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """How often each case stands in each resample: (resamples, n) for n cases, ``groups`` naming each one's patient.

    As many patients as there are are drawn with replacement; all cases of a drawn patient come along, so two studies
    of one patient always have the same count. The draw depends on the set of patients, not on the order of cases.
    Raises ValueError without cases.
    """
    if len(groups) == 0:
        raise ValueError("no cases to resample")
    patients, patient_of_case = np.unique(np.asarray(groups), return_inverse=True)
    drawn = rng.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=resamples)
    return drawn.astype(np.int16)[:, patient_of_case]


def interval(parts: Parts, combine: Combine, counts: NDArray[np.generic], level: float = 0.95) -> Estimate:
    """The corpus value and its percentile bootstrap interval.

    parts: (n,) each, NaN = unscored; counts: (R, n). Unscored cases are left out and counted. Its width follows the
    number of patients, not the number of resamples.
    """
    matrix, scored = _matrix(parts)
    n, unscored = int(scored.sum()), int((~scored).sum())
    if n == 0:
        return Estimate(None, None, None, 0, unscored)
    value = float(_combined(parts, combine, matrix.sum(axis=0)))
    resampled = _combined(parts, combine, _as_float(counts) @ matrix)
    low, high = _percentiles(resampled, value, level)
    return Estimate(value, low, high, n, unscored)


def paired(a: Parts, b: Parts, combine: Combine, counts: NDArray[np.generic], level: float = 0.95) -> Difference:
    """Difference a - b on the same resamples, over cases scored in both.

    a, b: parts of two systems over the same cases, (n,) each, NaN = unscored; counts: (R, n). p is two-sided: twice
    the share of resamples on the rarer side of 0 (ties on both), each share counted as (k + 1) / (R + 1), at most 1;
    it falls below 0.05 about when the 95% interval leaves 0 out, and is never smaller than 2 / (R + 1).
    """
    matrix_a, scored_a = _matrix(a)
    matrix_b, scored_b = _matrix(b)
    both = scored_a & scored_b
    n, unscored = int(both.sum()), int((~both).sum())
    if n == 0:
        return Difference(None, None, None, None, 0, unscored)
    weights = _as_float(counts)
    sides = []
    for parts, matrix in ((a, matrix_a), (b, matrix_b)):
        kept = np.where(both[:, None], matrix, 0.0)
        sides.append((_combined(parts, combine, kept.sum(axis=0)), _combined(parts, combine, weights @ kept)))
    value = float(sides[0][0] - sides[1][0])
    resampled = sides[0][1] - sides[1][1]
    low, high = _percentiles(resampled, value, level)
    return Difference(value, low, high, _two_sided(resampled), n, unscored)


def _matrix(parts: Parts) -> tuple[Array, NDArray[np.bool_]]:
    """(n, K) with 0 where unscored, and which cases are scored (n,)."""
    stacked = np.stack([np.asarray(column, dtype=np.float64) for column in parts.values()], axis=1)
    scored: NDArray[np.bool_] = ~np.any(np.isnan(stacked), axis=1)
    return np.where(scored[:, None], stacked, 0.0), scored


def _combined(parts: Parts, combine: Combine, sums: Array) -> Array:
    """sums (..., K) in the order of ``parts`` -> (...,)."""
    return np.asarray(combine({name: sums[..., k] for k, name in enumerate(parts)}), dtype=np.float64)


def _percentiles(resampled: Array, value: float, level: float) -> tuple[float | None, float | None]:
    """Percentile interval of (R,) values; resamples without a scored case (NaN) are left out."""
    known = resampled[~np.isnan(resampled)]
    if np.isnan(value) or not len(known):
        return None, None
    low, high = (float(q) for q in np.quantile(known, [(1 - level) / 2, (1 + level) / 2]))
    # Sums over resamples are rounded: identical values may come out one unit in the last place off their own mean.
    slack = 1e-12 * max(1.0, abs(value))
    return (value if 0 < low - value < slack else low), (value if 0 < value - high < slack else high)


def _two_sided(resampled: Array) -> float:
    known = resampled[~np.isnan(resampled)]
    rarer = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(known) + 1))


def _as_float(counts: NDArray[np.generic]) -> Array:
    return np.asarray(counts, dtype=np.float64)
