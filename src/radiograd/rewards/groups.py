"""Terms of a group of completions -> one number a completion, and which term moves it. Pure numpy.

P prompts, G completions of each, K terms. NaN = unscored. A term that was *skipped* has nothing to look at in a
completion (a report without an Impression header): that is neither 0 nor unscored, and it must not pay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Combine = Literal["mean", "worst", "mean_less_spread"]
COMBINATIONS: Final[tuple[str, ...]] = get_args(Combine)
_FLAT: Final = 1e-12
"""Variance of a total at and below which nothing varies."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the values of K terms become one number; the keys of ``align`` that say so.

    ``lowest``: the least that each term can be. A term of weight 0 is only looked at.
    """

    weights: tuple[float, ...]
    lowest: tuple[float, ...]
    combine: Combine = "mean"
    spread: float = 1.0
    format_penalty: float = 0.5
    length_control: bool = False


def totals(values_P_G_K: ArrayLike, skipped_P_G_K: ArrayLike, length_P_G: ArrayLike, recipe: Recipe) -> Array:
    """One number a completion, (P, G); NaN where a term with a weight above 0 is unscored.

    ``values_P_G_K``: NaN = unscored or skipped; ``skipped_P_G_K``: bool; ``length_P_G``: words over words of the
    reference, NaN = unknown (looked at by length control only, which then leaves the completion unscored).

    combine: ``mean`` sum(w v) / sum(w); ``worst`` the lowest of the terms; ``mean_less_spread`` mean - spread x std,
    both weighted, std of a population.

    A skipped term (RadFlow, section 4.2) gets the mean of its group's scored values, or ``lowest`` when its group has
    none; with ``worst`` and ``mean_less_spread`` always ``lowest``, because a lone bad term costs more there than any
    penalty. ``format_penalty`` comes off a completion that skips, once. With ``mean``, skipping a term never pays as
    long as the penalty is at least the term's share of the weights times its span. Imputing and penalty are ours.

    Length control takes the share 1 - 1 / L of |total| off, L = max(length, 1): a total above 0 is divided by L; one
    below 0 falls towards twice itself, so that no length ever raises a total. ValueError for shapes that do not fit.
    """
    parts = contributions(values_P_G_K, skipped_P_G_K, length_P_G, recipe)
    return parts[..., -1]


def variance_shares(values_P_G_K: ArrayLike, skipped_P_G_K: ArrayLike, length_P_G: ArrayLike, recipe: Recipe) -> Array:
    """Each term's share of the variance of the total inside groups, (K,): what the policy is really moved by.

    share_k = sum cov(c_k, total) / sum var(total), the sums over groups and c_k what term k adds to the total
    (:func:`contributions`). They sum to 1; one can be below 0 (a term that works against the others) or above 1.
    Unscored completions are left out. All 0 when no group varies. Arguments as of :func:`totals`.
    """
    parts = contributions(values_P_G_K, skipped_P_G_K, length_P_G, recipe)
    scored = ~np.isnan(parts[..., -1])
    known = np.where(scored[..., None], parts, 0.0)
    n = np.maximum(scored.sum(axis=1), 1)[:, None, None]
    centred = np.where(scored[..., None], known - known.sum(axis=1, keepdims=True) / n, 0.0)
    total = centred[..., -1]
    variance = float((total**2).sum())
    if variance <= _FLAT * max(1, scored.sum()):
        return np.zeros(len(recipe.weights))
    shares: Array = (centred[..., :-1] * total[..., None]).sum(axis=(0, 1)) / variance
    return shares


def contributions(values_P_G_K: ArrayLike, skipped_P_G_K: ArrayLike, length_P_G: ArrayLike, recipe: Recipe) -> Array:
    """What each term adds to a completion's total, and the total itself last: (P, G, K + 1); NaN rows = unscored.

    mean: w v / sum(w); worst: the lowest term adds all; mean_less_spread: w (v - spread (v - mean)^2 / std) / sum(w).
    The penalty counts with the terms that skipped; length control scales all alike. Arguments as of :func:`totals`.
    """
    values, skipped, length = _checked(values_P_G_K, skipped_P_G_K, length_P_G, recipe)
    weighed = [k for k, weight in enumerate(recipe.weights) if weight > 0]
    added = np.zeros((*values.shape[:2], len(recipe.weights) + 1))
    if values.size:
        filled = _imputed(values, skipped, recipe)
        added[..., weighed], combined = _combined(filled[..., weighed], recipe, [recipe.weights[k] for k in weighed])
        skips = skipped[..., weighed].sum(axis=-1)
        penalty = np.where(skips > 0, recipe.format_penalty, 0.0)
        added[..., weighed] -= skipped[..., weighed] * (penalty / np.maximum(skips, 1))[..., None]
        added[..., -1] = combined - penalty
    if recipe.length_control:
        longer = np.maximum(length, 1.0)  # NaN stays NaN
        added *= np.where(added[..., -1:] >= 0, 1 / longer[..., None], 2 - 1 / longer[..., None])
    return np.where(np.isnan(added[..., -1:]), np.nan, added)


def _checked(values: Any, skipped: Any, length: Any, recipe: Recipe) -> tuple[Array, NDArray[np.bool_], Array]:
    values, skipped, length = np.asarray(values, float), np.asarray(skipped, bool), np.asarray(length, float)
    terms = len(recipe.weights)
    if values.ndim != 3 or values.shape[-1] != terms or skipped.shape != values.shape:
        raise ValueError(f"values and skipped must be (prompts, group, {terms}), not {values.shape}, {skipped.shape}")
    if length.shape != values.shape[:2]:
        raise ValueError(f"length must be (prompts, group) = {values.shape[:2]}, not {length.shape}")
    if recipe.combine not in COMBINATIONS or not any(weight > 0 for weight in recipe.weights):
        raise ValueError(f"combine is one of {', '.join(COMBINATIONS)}, and one weight above 0")
    return values, skipped, length


def _imputed(values: Array, skipped: NDArray[np.bool_], recipe: Recipe) -> Array:
    """``values`` with what stands for a skipped term."""
    there = ~np.isnan(values) & ~skipped
    n = there.sum(axis=1, keepdims=True)
    mean = np.where(there, values, 0.0).sum(axis=1, keepdims=True) / np.maximum(n, 1)
    instead = np.where((n > 0) & (recipe.combine == "mean"), mean, np.asarray(recipe.lowest))
    filled: Array = np.where(skipped, instead, values)
    return filled


def _combined(values: Array, recipe: Recipe, weights: list[float]) -> tuple[Array, Array]:
    """What each of the weighed terms adds (P, G, K'), and their combination (P, G)."""
    if recipe.combine == "worst":
        lowest = np.take_along_axis(values, values.argmin(axis=-1)[..., None], axis=-1)  # NaN counts as the lowest
        first = np.arange(values.shape[-1]) == values.argmin(axis=-1)[..., None]
        return np.where(first, lowest, 0.0), lowest[..., 0]
    added = values * weights
    total = sum(weights)
    mean = np.add.accumulate(added, axis=-1)[..., -1] / total  # in the order of sum(weights): equal terms stay exact
    if recipe.combine == "mean":
        return added / total, mean
    off = (values - mean[..., None]) ** 2 * weights / total
    std = np.sqrt(off.sum(axis=-1))
    share = np.divide(off, std[..., None], out=np.zeros_like(off), where=std[..., None] > 0)
    return added / total - recipe.spread * share, mean - recipe.spread * std
