"""Studies that a model is unsure of and that together hold many findings: DEER's DDSampling as we read it. Pure.

The authors give no formulas; these are ours (docs/decisions/0013). For a choice S of m studies::

    sum of u_i over S + lambda * m * F(S)
    F(S) = sum_c w_c log(1 + n_c(S)) + eta / sqrt(m) * sum_g sqrt(n_g(S))

n_c counts the studies of S whose reference has label c, n_g those with signature g (the set of labels present). F is
monotone and submodular, so the greedy choice is at least 1 - 1/e of the best one (Nemhauser, Wolsey and Fisher 1978,
doi:10.1007/BF01588971), with a quota at least half of it (Fisher, Nemhauser and Wolsey 1978, doi:10.1007/BFb0121195).

N studies, C labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST_LABELS = 62
"""A signature is one 64-bit number."""


def label_weights(present_N_C: Bools) -> Array:
    """(C,) weights of the labels, sum 1, proportional to -log of their prevalence.

    The prevalence is (n + 1) / (N + 2): a label that never occurs, or always, keeps a finite weight above 0.
    """
    present = np.asarray(present_N_C, dtype=np.bool_)
    rarity = -np.log((present.sum(axis=0) + 1) / (len(present) + 2))
    return np.asarray(rarity / rarity.sum(), dtype=np.float64)


def uncertainty(shares_N_C: Array, weights_C: Array) -> Array:
    """u (N,) = sum_c w_c h(p_c), h the binary entropy in bits; in [0, 1] for weights that sum to 1.

    ``shares_N_C``: p, the share of a study's completions that state label c as present. Rounded to 12 decimals: equal
    studies must be equal wherever they stand.
    """
    p = np.asarray(shares_N_C, dtype=np.float64)
    bits = np.zeros(p.shape)
    for share in (p, 1 - p):
        inside = share > 0
        bits[inside] -= share[inside] * np.log2(share[inside])
    return np.round(bits @ np.asarray(weights_C), 12) + 0.0


@dataclass(frozen=True, slots=True)
class Coverage:
    """F. ``present_N_C``: labels of the references; ``weights_C``; ``eta``: weight of signatures; ``count``: m, how
    many studies are to be chosen. ValueError for more than 62 labels or a count below 1.

    Without 1 / sqrt(m) the marginal gain of a signature, times m, would grow as sqrt(m) while that of a label does not
    depend on m: with m = 80,000 and eta = 0.5 to a hundred times that of a label (docs/decisions/0013).
    """

    present_N_C: Bools
    weights_C: Array
    eta: float
    count: int

    def __post_init__(self) -> None:
        if self.present_N_C.shape[1] > MOST_LABELS:
            raise ValueError(f"at most {MOST_LABELS} labels make a signature")
        if self.count < 1:
            raise ValueError("at least one study is to be chosen")

    @property
    def signatures(self) -> Ints:
        """(N,) the set of labels of each study as one number; 0 = none."""
        bits = np.left_shift(np.int64(1), np.arange(self.present_N_C.shape[1], dtype=np.int64))
        return np.asarray(self.present_N_C.astype(np.int64) @ bits, dtype=np.int64)

    def value(self, chosen: Sequence[int]) -> float:
        """F of the studies at these places."""
        return self.along(chosen, [len(chosen)])[0]

    def along(self, order: Sequence[int], sizes: Sequence[int]) -> list[float]:
        """F of the first k studies of ``order``, for each k of ``sizes`` (0 to len(order))."""
        places = np.asarray(order, dtype=np.int64)
        held_K_C = np.concatenate([np.zeros((1, len(self.weights_C))), self.present_N_C[places].cumsum(axis=0)])
        nth = _nth_of_its_kind(self.signatures[places])
        roots_K = np.concatenate([[0.0], np.cumsum(np.sqrt(nth) - np.sqrt(nth - 1))])
        at = np.asarray(sizes, dtype=np.int64)
        found = np.log1p(held_K_C[at]) @ self.weights_C + self.eta / math.sqrt(self.count) * roots_K[at]
        return [float(value) for value in found]


def _nth_of_its_kind(kinds_K: Ints) -> Array:
    """(K,) how often each kind has come so far, itself counted."""
    order = np.argsort(kinds_K, kind="stable")
    ordered = kinds_K[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else order
    lengths = np.diff(np.append(first, len(ordered)))
    nth = np.empty(len(kinds_K))
    nth[order] = np.arange(len(kinds_K)) - np.repeat(first, lengths) + 1
    return nth


@dataclass(frozen=True, slots=True)
class Quota:
    """Most studies of each kind. ``filled``: the kind that takes places which the other is too few for, or None."""

    normal: int
    other: int
    filled: str | None = None


def quota_of(share: tuple[float, float], normal: int, other: int, count: int) -> Quota:
    """How many of ``count`` may be normal and how many not, so that the share of the normal ones lies within ``share``.

    ``normal``, ``other``: how many there are; ValueError when they are fewer than ``count`` together. Too few of a kind
    leave places to the other. The least share is rounded up, the largest down, but never below the least.
    """
    if normal + other < count:
        raise ValueError(f"{count} studies cannot be chosen of {normal + other}")
    least = math.ceil(round(share[0] * count, 9))
    most = max(least, math.floor(round(share[1] * count, 9)))
    if normal < least:
        return Quota(normal, count - normal, "others")
    if other < count - most:
        return Quota(count - other, other, "normal")
    return Quota(most, count - least)


@dataclass(frozen=True, slots=True)
class Greedy:
    """``order``: places of the chosen, in the order of choice; ``gains``: what each added when it was chosen."""

    order: list[int]
    gains: list[float]


def choose_greedily(
    coverage: Coverage, weight: float, uncertainty_N: Array, ties_N: Ints, normal_N: Bools, quota: Quota
) -> Greedy:
    """``coverage.count`` studies, each the one that adds most to sum u + ``weight`` * count * F when it is chosen.

    ``weight`` is lambda. ``ties_N``: a different number for each study; of equal gains the smallest wins. ``normal_N``:
    the kind that ``quota`` counts. Exact: lazy (Minoux 1978, doi:10.1007/BFb0006528), and as studies with equal labels
    add equally to F, only the most uncertain one of each set of labels waits in the heap. The result depends on the
    order of rows in nothing but the places it names. O(N log N) and a few looks a choice; ValueError when the quota
    leaves fewer than ``count``.
    """
    count, scale = coverage.count, weight * coverage.count
    kinds = _Kinds.of(coverage, uncertainty_N, ties_N, normal_N)
    log_gain = np.log1p(1 / np.arange(1.0, count + 2)).tolist()  # log(2 + n) - log(1 + n)
    steps = np.sqrt(np.arange(count + 2))
    # sqrt(n + 1) - sqrt(n), written so that in floating point too it never grows with n
    root_gain = (coverage.eta / math.sqrt(count) / (steps[:-1] + steps[1:])).tolist()
    weights = coverage.weights_C.tolist()
    held, now = [0] * len(weights), [w * log_gain[0] for w in weights]
    signed = dict.fromkeys(kinds.signature, 0)
    room = [quota.other, quota.normal]
    at = list(kinds.start)

    def entry(kind: int) -> tuple[float, int, int]:
        covered = root_gain[signed[kinds.signature[kind]]]
        for label in kinds.labels[kind]:
            covered += now[label]
        place = at[kind]
        return -(kinds.uncertainty[place] + scale * covered), kinds.tie[place], kind

    heap = [entry(kind) for kind in range(len(at))]
    heapify(heap)
    chosen = Greedy([], [])
    while len(chosen.order) < count:
        if not heap:
            raise ValueError(f"the quota leaves {len(chosen.order)} of {count} studies to be chosen")
        kind = heap[0][2]
        if not room[kinds.normal[kind]]:
            heappop(heap)
            continue
        best = entry(kind)
        if best > heap[0]:  # gains only fall: what waits is at most as good as it was when it was last looked at
            heapreplace(heap, best)
            if heap[0] != best:
                continue
        room[kinds.normal[kind]] -= 1
        chosen.order.append(kinds.place[at[kind]])
        chosen.gains.append(-best[0])
        signed[kinds.signature[kind]] += 1
        for label in kinds.labels[kind]:
            held[label] += 1
            now[label] = weights[label] * log_gain[held[label]]
        at[kind] += 1
        if at[kind] < kinds.end[kind]:
            heapreplace(heap, entry(kind))
        else:
            heappop(heap)
    return chosen


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Studies by labels and by what the quota counts, the most uncertain first: those of kind k stand at ``start[k]``
    to ``end[k]`` of ``place``, ``tie`` and ``uncertainty``."""

    place: list[int]
    tie: list[int]
    uncertainty: list[float]
    start: list[int]
    end: list[int]
    signature: list[int]
    normal: list[bool]
    labels: list[list[int]]

    @classmethod
    def of(cls, coverage: Coverage, uncertainty_N: Array, ties_N: Ints, normal_N: Bools) -> _Kinds:
        signatures = coverage.signatures
        numbers = 2 * signatures + normal_N
        order = np.lexsort((ties_N, -uncertainty_N, numbers))
        first = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        leaders = order[first]
        return cls(
            order.tolist(),
            ties_N[order].tolist(),
            uncertainty_N[order].tolist(),
            first.tolist(),
            [*first[1:].tolist(), len(order)],
            signatures[leaders].tolist(),
            normal_N[leaders].tolist(),
            [np.flatnonzero(coverage.present_N_C[place]).tolist() for place in leaders],
        )
