"""Values, differences and preferences over several seeds, from the parts of each case. No files, no models.

The mean over seeds is the mean of each seed's value. Its interval resamples patients: seeds that were tested on the
same studies share each resample, seeds that were not have their own. It tells how the value would move with other
patients; how it moves with other seeds, the values of the seeds tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiograd.stats import Array, Combine, difference, estimate, resampled_sums
from radiograd.tally import Tally

Members = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Cases:
    """One seed's scored cases of one system: parts, whose they are, and which of them are looked at."""

    tally: Tally
    patients: Sequence[str]
    ids: Sequence[str]
    members: Members


@dataclass(frozen=True, slots=True)
class Draws:
    """How resamples are drawn: the same ``seed`` and patients give the same ones."""

    resamples: int
    seed: int
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class _Sums:
    names: tuple[str, ...]
    sums: Array
    resampled: Array
    n: int
    unscored: int


def value(by_seed: Mapping[int, Cases], combine: Combine, draws: Draws) -> dict[str, Any]:
    """Mean over seeds with its interval, n (the fewest), unscored (the most), and each seed's own."""
    found = {
        seed: _summed(cases.tally, cases.tally.scored, cases, draws, place)
        for (seed, cases), place in zip(by_seed.items(), _tested_on(by_seed), strict=True)
    }
    seeds = {
        seed: estimate(one.names, one.sums, one.resampled, combine, one.n, one.unscored, draws.level)
        for seed, one in found.items()
    }
    names, sums, resampled = _joined(found)
    n, unscored = min(one.n for one in found.values()), max(one.unscored for one in found.values())
    mean = estimate(names, sums, resampled, _mean_over(found, combine), n, unscored, draws.level)
    told = asdict(mean)
    return {"mean": told.pop("value"), **told, "seeds": {str(seed): _entry(asdict(one)) for seed, one in seeds.items()}}


def paired(a: Mapping[int, Cases], b: Mapping[int, Cases], combine: Combine, draws: Draws) -> dict[str, Any]:
    """a - b over the cases scored in both: mean over the seeds, and each seed's own.

    Of each seed both sides hold the same cases in the same order.
    """
    of_a: dict[int, _Sums] = {}
    of_b: dict[int, _Sums] = {}
    for seed, place in zip(a, _tested_on(a), strict=True):
        both = a[seed].tally.scored & b[seed].tally.scored
        of_a[seed], of_b[seed] = (_summed(side[seed].tally, both, side[seed], draws, place) for side in (a, b))
    seeds = {
        seed: difference(
            of_a[seed].names,
            (of_a[seed].sums, of_b[seed].sums),
            (of_a[seed].resampled, of_b[seed].resampled),
            combine,
            of_a[seed].n,
            of_a[seed].unscored,
            draws.level,
        )
        for seed in of_a
    }
    names, sums_a, resampled_a = _joined(of_a)
    _, sums_b, resampled_b = _joined(of_b)
    n, unscored = min(one.n for one in of_a.values()), max(one.unscored for one in of_a.values())
    mean = difference(
        names, (sums_a, sums_b), (resampled_a, resampled_b), _mean_over(of_a, combine), n, unscored, draws.level
    )
    return {**asdict(mean), "seeds": {str(seed): asdict(one) for seed, one in seeds.items()}}


OUTCOMES = ("win", "tie", "loss")


def outcomes(by_seed: Mapping[int, Cases], draws: Draws) -> dict[str, Any]:
    """Shares of wins, ties and losses and wins minus losses, each as :func:`value` gives it."""

    def share(name: str) -> Combine:
        return lambda sums: _ratio(sums[name], sums["n"])

    def net(sums: Mapping[str, Array]) -> Array:
        return _ratio(np.asarray(sums["win"]) - np.asarray(sums["loss"]), sums["n"])

    return {
        **{name: value(by_seed, share(name), draws) for name in OUTCOMES},
        "net": value(by_seed, net, draws),
    }


def mean_of_part(part: str) -> Combine:
    """The mean over scored cases of one part of a metric."""
    return lambda sums: _ratio(sums[part], sums["n"])


def _ratio(total: Any, n: Any) -> Array:
    total, n = np.asarray(total, dtype=np.float64), np.asarray(n, dtype=np.float64)
    ratio: Array = np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)
    return ratio


def _entry(told: dict[str, Any]) -> dict[str, Any]:
    return {"mean": told.pop("value"), **told}


def _tested_on(by_seed: Mapping[int, Cases]) -> list[int]:
    """For each seed the number of its test set; seeds that were tested on the same studies have the same."""
    seen: dict[tuple[str, ...], int] = {}
    return [seen.setdefault(tuple(sorted(cases.ids)), len(seen)) for cases in by_seed.values()]


def _summed(tally: Tally, kept: NDArray[np.bool_], cases: Cases, draws: Draws, place: int) -> _Sums:
    members = cases.members
    inside = kept[members]
    columns = [np.where(inside, column[members], 0) for column in tally.columns()]
    patients = np.unique(np.asarray(cases.patients)[members], return_inverse=True)[1]
    resampled = _resampled(columns, patients, draws, place)
    sums = np.array([np.asarray(column, dtype=np.float64).sum() for column in columns])
    return _Sums(tally.part_names, sums, resampled, int(inside.sum()), int((~inside).sum()))


_HELD = 1 << 23
"""Counts that are held at once, at most; above that they are drawn anew each time."""


def _resampled(columns: Sequence[NDArray[Any]], patients: Members, draws: Draws, place: int) -> Array:
    """As ``stats.resampled_sums``, whose draws depend on the number of patients alone: they are kept."""
    size = int(patients.max()) + 1
    if size * draws.resamples > _HELD:
        return resampled_sums(columns, patients, draws.resamples, np.random.default_rng([draws.seed, place]))
    by_patient = [np.bincount(patients, weights=column, minlength=size) for column in columns]
    return _counts(size, draws, place) @ np.stack(by_patient, axis=1)


@lru_cache(maxsize=8)
def _counts(size: int, draws: Draws, place: int) -> Array:
    rng = np.random.default_rng([draws.seed, place])
    return rng.multinomial(size, np.full(size, 1 / size), size=draws.resamples).astype(np.float64)


def _joined(found: Mapping[int, _Sums]) -> tuple[list[str], Array, Array]:
    """The parts of all seeds beside one another, each under its seed's name."""
    names = [f"{seed}/{name}" for seed, one in found.items() for name in one.names]
    sums = np.concatenate([one.sums for one in found.values()])
    return names, sums, np.concatenate([one.resampled for one in found.values()], axis=1)


def _mean_over(found: Mapping[int, _Sums], combine: Combine) -> Callable[[Mapping[str, Array]], Array]:
    def mean(sums: Mapping[str, Array]) -> Array:
        of_seeds = [combine({name: sums[f"{seed}/{name}"] for name in one.names}) for seed, one in found.items()]
        return np.asarray(np.mean(np.stack([np.asarray(one, dtype=np.float64) for one in of_seeds]), axis=0))

    return mean
