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
    """A corpus value with its percentile interval; all three None when no case was scored or those make no value."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Cases scored."""
    unscored: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Value of a minus value of b over the cases scored in both, with interval and two-sided p; None if unknown."""

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
    sums, resampled = matrix.sum(axis=0), _as_float(counts) @ matrix
    return estimate(list(parts), sums, resampled, combine, int(scored.sum()), int((~scored).sum()), level)


def paired(a: Parts, b: Parts, combine: Combine, counts: NDArray[np.generic], level: float = 0.95) -> Difference:
    """Difference a - b on the same resamples, over cases scored in both.

    a, b: parts of two systems over the same cases, (n,) each, NaN = unscored; counts: (R, n). p is two-sided: twice
    the share of resamples on the rarer side of 0 (ties on both), each share counted as (k + 1) / (R + 1), at most 1;
    it falls below 0.05 about when the 95% interval leaves 0 out, and is never smaller than 2 / (R + 1).
    """
    matrix_a, scored_a = _matrix(a)
    matrix_b, scored_b = _matrix(b)
    both = scored_a & scored_b
    weights = _as_float(counts)
    of_a, of_b = (np.where(both[:, None], matrix, 0.0) for matrix in (matrix_a, matrix_b))
    return difference(
        list(a),
        (of_a.sum(axis=0), of_b.sum(axis=0)),
        (weights @ of_a, weights @ of_b),
        combine,
        int(both.sum()),
        int((~both).sum()),
        level,
    )


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted for having looked at all of them, in the order given.

    Holm's step-down method (Scandinavian Journal of Statistics 6, 1979): the smallest of m is multiplied by m, the next
    by m - 1, and so on, none smaller than the one before it and none above 1. Rejecting what is at most alpha keeps the
    chance of any false rejection at most alpha, whatever the dependence. Raises ValueError for what is no p-value.
    """
    if not all(0 <= p <= 1 for p in ps):
        raise ValueError("a p-value lies between 0 and 1")
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = largest
    return adjusted


AGREEMENT_PARTS = ("both", "first", "second", "neither")
"""Two answers of yes or no to each case, as four parts of which one is 1."""


def agreement_parts(first_N: Sequence[bool], second_N: Sequence[bool]) -> dict[str, Array]:
    """What :func:`raw_agreement` and :func:`cohens_kappa` are computed from: (N,) each."""
    a, b = np.asarray(first_N, dtype=bool), np.asarray(second_N, dtype=bool)
    columns = (a & b, a & ~b, ~a & b, ~a & ~b)
    return {name: column.astype(np.float64) for name, column in zip(AGREEMENT_PARTS, columns, strict=True)}


def raw_agreement(sums: Mapping[str, Array]) -> Array:
    """Share of the same answers, each part (...,) -> (...,); NaN without cases."""
    both, first, second, neither = (np.asarray(sums[name], dtype=np.float64) for name in AGREEMENT_PARTS)
    total = both + first + second + neither
    return _ratio(both + neither, total)


def cohens_kappa(sums: Mapping[str, Array]) -> Array:
    """Agreement beyond chance, (observed - expected) / (1 - expected), each part (...,) -> (...,).

    Cohen, Educational and Psychological Measurement 20, 1960. NaN where chance alone gives 1: both always said the
    same one thing.
    """
    both, first, second, neither = (np.asarray(sums[name], dtype=np.float64) for name in AGREEMENT_PARTS)
    total = both + first + second + neither
    yes = _ratio(both + first, total) * _ratio(both + second, total)
    no = _ratio(neither + second, total) * _ratio(neither + first, total)
    return _ratio(_ratio(both + neither, total) - (yes + no), 1 - (yes + no))


def _ratio(top: Array, bottom: Array) -> Array:
    top, bottom = np.broadcast_arrays(np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64))
    ratio: Array = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 1e-12)
    return ratio


# ---- many cases ------------------------------------------------------------------------------------------------------
#
# A million cases times a thousand resamples is a matrix of gigabytes; only its product with the parts is wanted.

_BLOCK = 1 << 23
"""Counts that are held at once, at most (unless one resample has more patients)."""
_CELLS = 1 << 20
"""Numbers of either factor of one product."""


def resampled_sums(
    columns: Sequence[NDArray[np.generic]], patients: NDArray[np.integer], resamples: int, rng: np.random.Generator
) -> Array:
    """Part sums of bootstrap resamples, (resamples, K), a block of resamples and a slice of cases at a time.

    columns: K arrays (n,) of any number type, 0 where unscored; patients: (n,), from 0 up without a gap. Equal to
    ``bootstrap_counts(...) @ columns`` up to rounding, with the same draws from the same generator, when the patients
    are numbered in the order of their names. Raises ValueError without cases.
    """
    n = len(patients)
    if n == 0:
        raise ValueError("no cases to resample")
    order = np.argsort(patients, kind="stable")
    size = int(patients[order[-1]]) + 1
    starts = np.append(np.searchsorted(patients[order], np.arange(size)), n)
    by_patient = [np.asarray(column)[order] for column in columns]
    sums = np.zeros((resamples, len(columns)))
    block = min(resamples, max(1, _BLOCK // size))
    step = max(1, _CELLS // max(block, len(columns), 1))
    for first in range(0, resamples, block):
        last = min(first + block, resamples)
        drawn = rng.multinomial(size, np.full(size, 1 / size), size=last - first)
        for patient in range(0, size, step):
            edges = starts[patient : patient + step + 1]
            cases = [np.asarray(column[edges[0] : edges[-1]], dtype=np.float64) for column in by_patient]
            parts = np.add.reduceat(np.stack(cases, axis=1), edges[:-1] - edges[0], axis=0)
            sums[first:last] += drawn[:, patient : patient + step].astype(np.float64) @ parts
    return sums


def estimate(
    names: Sequence[str], sums: Array, resampled: Array, combine: Combine, n: int, unscored: int, level: float = 0.95
) -> Estimate:
    """The value and its percentile interval from part sums.

    sums: (K,) over the ``n`` scored cases and resampled: (R, K), both in the order of ``names``.
    """
    if n == 0:
        return Estimate(None, None, None, 0, unscored)
    value = float(_combined(names, combine, sums))
    if np.isnan(value):
        return Estimate(None, None, None, n, unscored)
    low, high = _percentiles(_combined(names, combine, resampled), value, level)
    return Estimate(value, low, high, n, unscored)


def difference(
    names: Sequence[str],
    sums: tuple[Array, Array],
    resampled: tuple[Array, Array],
    combine: Combine,
    n: int,
    unscored: int,
    level: float = 0.95,
) -> Difference:
    """a - b from part sums over the ``n`` cases scored in both, of a and of b; shapes as in :func:`estimate`."""
    if n == 0:
        return Difference(None, None, None, None, 0, unscored)
    value = float(_combined(names, combine, sums[0]) - _combined(names, combine, sums[1]))
    if np.isnan(value):
        return Difference(None, None, None, None, n, unscored)
    differences = _combined(names, combine, resampled[0]) - _combined(names, combine, resampled[1])
    low, high = _percentiles(differences, value, level)
    return Difference(value, low, high, _two_sided(differences), n, unscored)


def _matrix(parts: Parts) -> tuple[Array, NDArray[np.bool_]]:
    """(n, K) with 0 where unscored, and which cases are scored (n,)."""
    stacked = np.stack([np.asarray(column, dtype=np.float64) for column in parts.values()], axis=1)
    scored: NDArray[np.bool_] = ~np.any(np.isnan(stacked), axis=1)
    return np.where(scored[:, None], stacked, 0.0), scored


def _combined(names: Sequence[str], combine: Combine, sums: Array) -> Array:
    """sums (..., K) in the order of ``names`` -> (...,)."""
    return np.asarray(combine({name: sums[..., k] for k, name in enumerate(names)}), dtype=np.float64)


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
