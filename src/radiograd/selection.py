"""Which training studies each stage sees. Pure."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from radiograd.types import Study

Array = NDArray[np.float64]


def share_train(studies: Sequence[Study], fraction: float, seed: int) -> tuple[list[Study], list[Study]]:
    """(studies to fine-tune on, studies to align on), both in the order given.

    With ``fraction`` 1 both are all of them. Below 1 they are disjoint (RGRO's data fractions): alignment then works on
    studies that the fine-tuned model has not memorised. The draw depends on the seed and the ids, not on their order;
    at least one study stays on each side.
    """
    if fraction >= 1.0:
        return list(studies), list(studies)
    drawn = by_lot([study.study_id for study in studies], seed, "share")
    chosen = set(drawn[: max(1, min(len(drawn) - 1, round(fraction * len(drawn))))])
    return [s for s in studies if s.study_id in chosen], [s for s in studies if s.study_id not in chosen]


def lot(name: str, seed: int, what: str) -> bytes:
    """SHA-256 of ``seed:what:name``: a draw that depends on nothing else."""
    return hashlib.sha256(f"{seed}:{what}:{name}".encode("utf-8", "surrogatepass")).digest()


def by_lot(names: Sequence[str], seed: int, what: str) -> list[str]:
    """``names`` in the order of their lots."""
    return sorted(names, key=lambda name: lot(name, seed, what))


# ---- the hardest -----------------------------------------------------------------------------------------------------
#
# RadFlow, section 4.1, takes the bottom k % or all below tau of a combined score after "metric-specific normalisation".
# It does not say which; rank, z-score and min-max here, and the weighted mean of them, are ours.


def ranks(values_N: Array) -> Array:
    """(N,) -> (N,): 1 for the smallest; equal values share the mean of their ranks."""
    values = np.asarray(values_N, dtype=np.float64)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def normalise(values_N: Array, how: Literal["rank", "zscore", "minmax"]) -> Array:
    """One metric, higher is better, on a scale that can be added to others: (N,) finite -> (N,).

    rank: (average rank - 1) / (N - 1), in [0, 1]; zscore: (value - mean) / population standard deviation; minmax:
    (value - min) / (max - min). A metric that is the same everywhere says nothing: 0.5 of rank and minmax, 0 of zscore.
    """
    values = np.asarray(values_N, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("only finite values can be normalised; leave unscored studies out")
    middle = 0.0 if how == "zscore" else 0.5
    if not len(values) or values.min() == values.max():
        return np.full(len(values), middle)
    if how == "rank":
        return (ranks(values) - 1) / (len(values) - 1)
    if how == "minmax":
        low, high = values.min(), values.max()
        return np.asarray((values / 2 - low / 2) / (high / 2 - low / 2))  # halves: the span of two floats may overflow
    spread = values.std()
    return np.zeros(len(values)) if spread == 0 else np.asarray((values - values.mean()) / spread)


def combined(normalised: Mapping[str, Array], weights: Mapping[str, float]) -> Array:
    """S, the weighted mean over metrics: (N,) each -> (N,). Metrics of weight 0 are only looked at."""
    used = {name: weight for name, weight in weights.items() if weight > 0}
    total = math.fsum(used.values())
    parts_M_N = [np.asarray(normalised[name]) * (weight / total) for name, weight in used.items()]
    return np.asarray(np.sum(parts_M_N, axis=0), dtype=np.float64)


def from_worst(study_ids: Sequence[str], scores_N: Array, seed: int) -> list[int]:
    """Places of the studies from the lowest S to the highest; equal ones by lot, so never by the order of rows."""
    # rounded: S of equal studies may differ in the last place by the order in which metrics were added
    keyed = [
        (round(float(score), 12), lot(study_id, seed, "select"))
        for study_id, score in zip(study_ids, scores_N, strict=True)
    ]
    return sorted(range(len(keyed)), key=keyed.__getitem__)


def bottom_count(share: float, n: int) -> int:
    """ceil(share * n), but 3 of 30 for 0.1: 0.1 * 30 is a little above 3 in floating point."""
    return min(n, math.ceil(round(share * n, 9)))


def parts(groups: Sequence[str], count: int, seed: int) -> list[int]:
    """A part (0 to ``count`` - 1) for each study, for cross-fitting: whole groups, parts of like size.

    ``groups``: the name of each study's group; studies of one group stay together (a patient, near-duplicates), or a
    model would be judged on what it has read. The largest groups come first and equal ones by lot, each into the part
    that holds least so far. The result does not depend on the order of rows.
    """
    sizes = Counter(groups)
    held = [0] * count
    part_of: dict[str, int] = {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], lot(name, seed, "part"))):
        part_of[group] = min(range(count), key=lambda part: (held[part], part))
        held[part_of[group]] += sizes[group]
    return [part_of[group] for group in groups]


def rank_correlation(a_N: Array, b_N: Array) -> float | None:
    """Spearman's rho of two metrics over the same studies; None where one of them is the same everywhere."""
    a, b = ranks(a_N), ranks(b_N)
    if len(a) < 2 or a.min() == a.max() or b.min() == b.max():
        return None
    return float(np.corrcoef(a, b)[0, 1])
