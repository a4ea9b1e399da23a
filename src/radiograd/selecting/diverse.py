"""Choices that look at several completions of each study: diverse (DEER's DDSampling, our reading) and reward_std."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from radiograd.config import DiverseConfig, RewardStdConfig
from radiograd.coverage import (
    Array,
    Bools,
    Coverage,
    Ints,
    choose_greedily,
    label_weights,
    quota_of,
    uncertainty,
)
from radiograd.selecting.choice import Choice
from radiograd.selecting.gates import refusals
from radiograd.selecting.rollouts import LABELS, Diagnosed
from radiograd.selection import bottom_count, by_lot
from radiograd.text.labels import label_set
from radiograd.types import Labels, Status, Study

log = logging.getLogger(__name__)

POINTS = 50
"""Most points of a coverage curve beside its start."""


@lru_cache(maxsize=1)
def counted_labels() -> tuple[str, ...]:
    """The labels whose coverage and uncertainty count: all of the set but "No Finding"."""
    labels = label_set(LABELS)
    return tuple(name for name in labels.names if name != labels.no_finding)


@dataclass(frozen=True, slots=True)
class Pool:
    """The N studies that could be chosen. ``said_N``: labels of their references. ``present_N_C``: which of
    :func:`counted_labels` are present; ``weights_C``: how much each counts. ``normal_N``: "No Finding" is present.
    ``ties_N``: a different number for each, by lot. ``drawn``: places in the order in which a random choice takes
    them."""

    studies: Sequence[Study]
    said_N: Sequence[Labels]
    present_N_C: Bools
    weights_C: Array
    normal_N: Bools
    ties_N: Ints
    drawn: Sequence[int]

    @classmethod
    def of(cls, studies: Sequence[Study], said_N: Sequence[Labels], seed: int) -> Pool:
        """``said_N``: total label mappings of the set."""
        names, none = counted_labels(), label_set(LABELS).no_finding
        present = np.array([[said[name] is Status.PRESENT for name in names] for said in said_N], dtype=np.bool_)
        ids = [study.study_id for study in studies]
        place = {name: k for k, name in enumerate(ids)}
        ties = np.empty(len(ids), dtype=np.int64)
        ties[[place[name] for name in by_lot(ids, seed, "select")]] = np.arange(len(ids))
        return cls(
            studies,
            said_N,
            present.reshape(len(ids), len(names)),
            label_weights(present.reshape(len(ids), len(names))),
            np.array([none is not None and said[none] is Status.PRESENT for said in said_N], dtype=np.bool_),
            ties,
            [place[name] for name in by_lot(ids, seed, "random")],
        )


def choose_diverse(
    pool: Pool, diagnosed: Diagnosed | None, config: DiverseConfig, section: str, near_duplicate: float, split_seed: int
) -> tuple[list[Choice], dict[str, Any]]:
    """The share that adds most to uncertainty and coverage, one study at a time, and what the summary tells of it.

    ``diagnosed`` is None in mode reference_labels, which samples nothing, and in no other (ValueError): the uncertainty
    is then 0 everywhere and lambda has nothing to weigh against. The share is of all studies, the refused among them;
    where fewer pass the gates, all of these are chosen.
    """
    if config.samples is (diagnosed is None):
        raise ValueError(f"select.mode={config.mode} needs {'completions' if config.samples else 'no completions'}")
    studies, n = pool.studies, len(pool.studies)
    std = None if diagnosed is None else diagnosed.std_N
    why = refusals(studies, pool.said_N, std, pool.ties_N, config, section, near_duplicate, split_seed)
    passed = np.flatnonzero([not reason for reason in why])
    asked = bottom_count(config.share, n)
    count = min(asked, len(passed))
    if count < asked:
        log.warning("select: %d of %d studies pass the gates, fewer than the %d asked for", count, n, asked)
    u = np.zeros(n) if diagnosed is None else uncertainty(diagnosed.shares_N_C, pool.weights_C)
    order, gains, filled = _greedy(pool, u, passed, count, config)
    rank = {place: number for number, place in enumerate(order, 1)}
    said, f1 = _REASONS[config.mode], _f1_of(diagnosed, n)
    choices = [
        Choice(
            study.study_id,
            k in rank,
            rank.get(k),
            said if k in rank else why[k],
            gains[rank[k] - 1] if k in rank else None,
            {"uncertainty": None if diagnosed is None else float(u[k]), **f1[k]},
        )
        for k, study in enumerate(studies)
    ]
    return choices, {
        "cut": None,
        "mode": config.mode,
        "lambda": {"both": config.coverage, "reference_labels": None, "rollout_labels": 0.0}[config.mode],
        "asked": asked,
        "gates": dict(Counter(reason for reason in why if reason).most_common()),
        **describe_choice(pool, order, config.signatures, config.normal, filled),
    }


_REASONS = {
    "both": "adds most to uncertainty and coverage",
    "reference_labels": "adds most to coverage",
    "rollout_labels": "among the most uncertain",
}


def _greedy(
    pool: Pool, u: Array, passed: Ints, count: int, config: DiverseConfig
) -> tuple[list[int], list[float], str | None]:
    """Places of the chosen in the order of choice, their gains, and who took places that the quota had for others."""
    if not count:
        return [], [], None
    normal = pool.normal_N[passed]
    quota = quota_of(config.normal, int(normal.sum()), int((~normal).sum()), count)
    if quota.filled is not None:
        log.warning(
            "select: select.normal=[%g, %g] cannot be kept: %d normal studies and %d others pass the gates, %d are to "
            "be chosen; filled with %s",
            *config.normal,
            int(normal.sum()),
            int((~normal).sum()),
            count,
            quota.filled,
        )
    coverage = Coverage(pool.present_N_C[passed], pool.weights_C, config.signatures, count)
    weight = {"both": config.coverage, "reference_labels": 1.0, "rollout_labels": 0.0}[config.mode]
    found = choose_greedily(coverage, weight, u[passed], pool.ties_N[passed], normal, quota)
    return [int(passed[k]) for k in found.order], found.gains, quota.filled


def choose_reward_std(
    pool: Pool, diagnosed: Diagnosed | None, config: RewardStdConfig
) -> tuple[list[Choice], dict[str, Any]]:
    """The share whose completions differ most in diagnostic F1, and what the summary tells of it; ties by lot.

    A study without a reference is not chosen; the share is of all studies, these among them. ValueError when nothing
    was sampled.
    """
    if diagnosed is None:
        raise ValueError("reward_std needs completions")
    std = diagnosed.std_N
    known = np.flatnonzero(~np.isnan(std))
    ranked = known[np.lexsort((pool.ties_N[known], -std[known]))].tolist()
    chosen = ranked[: bottom_count(config.share, len(std))]
    rank = {place: number for number, place in enumerate(ranked, 1)}
    f1 = _f1_of(diagnosed, len(std))
    said = f"among the {config.share:.4g} whose completions differ most in diagnostic F1"
    choices = [
        Choice(
            study.study_id,
            k in rank and rank[k] <= len(chosen),
            rank.get(k),
            "unscored: no reference" if k not in rank else said if rank[k] <= len(chosen) else "",
            float(std[k]) if k in rank else None,
            f1[k],
        )
        for k, study in enumerate(pool.studies)
    ]
    told = describe_choice(pool, chosen, DiverseConfig().signatures, None)
    return choices, {"cut": min((float(std[k]) for k in chosen), default=None), "gates": {}, **told}


def _f1_of(diagnosed: Diagnosed | None, n: int) -> list[dict[str, float | None]]:
    """Mean and standard deviation of the F1 of each of the ``n`` studies; None where they are not known."""
    if diagnosed is None:
        return [{"f1_mean": None, "f1_std": None} for _ in range(n)]
    found = zip(diagnosed.mean_N.tolist(), diagnosed.std_N.tolist(), strict=True)
    return [{"f1_mean": None if m != m else m, "f1_std": None if s != s else s} for m, s in found]


def describe_choice(
    pool: Pool, order: Sequence[int], eta: float, quota: tuple[float, float] | None, filled: str | None = None
) -> dict[str, Any]:
    """Prevalence before and after, the share of normal studies, F along the order and along a draw, what is reached.

    ``order``: places of the chosen in the order of choice. ``filled``: who took places that the quota had for others.
    A share of no studies is None.
    """
    names, places = counted_labels(), np.asarray(order, dtype=np.int64)
    before, after = pool.present_N_C.sum(axis=0), pool.present_N_C[places].sum(axis=0)
    n, m = len(pool.studies), len(order)
    normal = int(pool.normal_N[places].sum())
    found: dict[str, Any] = {
        "eta": eta,
        "weights": {name: float(weight) for name, weight in zip(names, pool.weights_C, strict=True)},
        "prevalence": {
            name: {
                "natural": {"studies": int(b), "share": _share(b, n)},
                "chosen": {"studies": int(a), "share": _share(a, m)},
                "times": None if not b or not m else (a / m) / (b / n),
            }
            for name, b, a in zip(names, before.tolist(), after.tolist(), strict=True)
        },
        "normal": {
            "natural": {"studies": int(pool.normal_N.sum()), "share": _share(int(pool.normal_N.sum()), n)},
            "chosen": {"studies": normal, "share": _share(normal, m)},
            "quota": None if quota is None else list(quota),
            "filled_with": filled,
        },
        "coverage": [],
    }
    if m:
        coverage = Coverage(pool.present_N_C, pool.weights_C, eta, m)
        sizes = sorted({round(m * k / POINTS) for k in range(POINTS + 1)})
        curves = zip(sizes, coverage.along(order, sizes), coverage.along(pool.drawn[:m], sizes), strict=True)
        found["coverage"] = [{"studies": k, "chosen": ours, "random": theirs} for k, ours, theirs in curves]
    signatures = Coverage(pool.present_N_C, pool.weights_C, eta, 1).signatures
    drawn = np.asarray(pool.drawn[:m], dtype=np.int64)
    found["reached"] = {
        "labels": {
            "natural": int((before > 0).sum()),
            "chosen": int((after > 0).sum()),
            "random": int(pool.present_N_C[drawn].any(axis=0).sum()),
            "missed": [name for name, b, a in zip(names, before, after, strict=True) if b and not a],
        },
        "signatures": {
            "natural": len(np.unique(signatures)),
            "chosen": len(np.unique(signatures[places])),
            "random": len(np.unique(signatures[drawn])),
        },
    }
    return found


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
