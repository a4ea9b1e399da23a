"""Values of tokens -> weights of tokens: within bounds, and of mean 1 in every sequence (DEER's DiTPO).

Such weights move the advantage of a sequence between its tokens and do nothing else: with mean 1 they are no hidden
learning rate, and being above 0 they never turn a sign. DEER's authors give no formulas; these are ours. Every function
takes numpy arrays, lists or torch tensors; for a tensor it gives back a tensor of its device and type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CAP = 95.0
"""Percentile of a row above which no value counts for more."""
_NOTHING = 1e-12
"""At and below which a value of mean 1 is 0: no scale should have to bring it into bounds."""
_HALVINGS = 64
"""Of the interval that holds the logarithm of the scale: from at most 1,500 to less than a float64 can tell."""

_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]


def normalise(values_B_T: Any, mask_B_T: Any, eta: float = 0.5, low: float = 0.5, high: float = 3.0) -> Any:
    """N(v): values >= 0 -> weights in [``low``, ``high``] whose mean over the mask is 1; 0 outside the mask.

    Each row is capped at its 95th percentile over the mask, divided by its mean, mixed with uniform weight (share
    ``eta``) and multiplied by the one s for which mean(clip(s v, low, high)) is 1: clipping first and rescaling then
    would leave the bounds again. Order is kept. A row of zeros gives ones, a row without a mask zeros.

    (B, T), (B, T) bool -> (B, T) float. ValueError for a value in the mask that is negative or not finite, other shapes
    or bounds that do not hold 1. Where the 95th percentile of a row is 0 though some of its values are not, the
    percentile is that of the values above 0.
    """
    _check(eta, low, high)
    values, mask = _rows(values_B_T, mask_B_T)
    return _like(_normalise(values, mask, eta, low, high), values_B_T)


def combined(
    a_B_T: Any,
    b_B_T: Any,
    mask_B_T: Any,
    eta: float = 0.5,
    low: float = 0.5,
    high: float = 3.0,
    *,
    held_B_T: Any = None,
) -> Any:
    """N(0.5 a' + 0.5 b'), a' and b' capped and divided by their means; shapes and errors as in :func:`normalise`.

    Uniform weight is mixed in once, at the end: N of each part and of their sum would leave a quarter of what tells
    tokens apart at ``eta`` 0.5.

    ``held_B_T``: (B, T) bool, tokens that may not weigh more than the heaviest of the others of their row.
    """
    _check(eta, low, high)
    a, mask = _rows(a_B_T, mask_B_T)
    b, _ = _rows(b_B_T, mask_B_T)
    mean = 0.5 * _even(a, mask) + 0.5 * _even(b, mask)
    if held_B_T is not None:
        mean = held_down(mean, mask, held_B_T)
    return _like(_normalise(mean, mask, eta, low, high), a_B_T)


def held_down(values_B_T: Any, mask_B_T: Any, held_B_T: Any) -> Any:
    """The values with those of ``held_B_T`` (B, T) bool at most the largest of the others of their row; 0 off the mask.

    A row in which all are held becomes 0: nothing in it can be told apart.
    """
    values, mask = _rows(values_B_T, mask_B_T)
    held = _mask(held_B_T, values.shape)
    ceiling = np.where(mask & ~held, values, 0.0).max(axis=1, initial=0.0)
    return _like(np.where(held, np.minimum(values, ceiling[:, None]), values), values_B_T)


def shuffled(weights_B_T: Any, mask_B_T: Any, rng: np.random.Generator) -> Any:
    """The weights dealt anew by lot among the tokens of the mask of each row; the others keep theirs.

    The histogram of a row stays what it is, so what the weights do by their spread alone stays too: the control.
    (B, T), (B, T) bool -> (B, T). The masked tokens' values as in :func:`normalise`.
    """
    weights = _array(weights_B_T).copy()
    mask = _mask(mask_B_T, weights.shape)
    for row, movable in zip(weights, mask, strict=True):
        row[movable] = rng.permutation(row[movable])
    return _like(weights, weights_B_T)


def effective_share(weights_B_T: Any, mask_B_T: Any) -> Any:
    """(sum w)^2 / (T sum w^2) over the T tokens of the mask: (B,) in (0, 1], 1 for uniform weights.

    NaN for a row without a token or without weight.
    """
    weights = _array(weights_B_T)
    mask = _mask(mask_B_T, weights.shape)
    kept = np.where(mask, weights, 0.0)
    squares = mask.sum(axis=1) * (kept**2).sum(axis=1)
    shares = np.full(len(kept), np.nan)
    np.divide(kept.sum(axis=1) ** 2, squares, out=shares, where=squares > 0)
    return _like(shares, weights_B_T)


def capped(values_B_T: Any, mask_B_T: Any) -> Any:
    """The first step of :func:`normalise`: no value above its row's 95th percentile; 0 outside the mask."""
    values, mask = _rows(values_B_T, mask_B_T)
    return _like(_capped(values, mask), values_B_T)


# ---- inside: float64 rows, 0 off the mask ---------------------------------------------------------------------------


def _normalise(values: _Floats, mask: _Bools, eta: float, low: float, high: float) -> _Floats:
    mixed = eta + (1.0 - eta) * _even(values, mask)
    return _into_bounds(np.where(mask & (mixed > _NOTHING), mixed, 0.0), mask, low, high)


def _even(values: _Floats, mask: _Bools) -> _Floats:
    """Capped and divided by their mean over the mask: mean 1; a row of zeros becomes ones."""
    count = np.maximum(mask.sum(axis=1, keepdims=True), 1)
    largest = values.max(axis=1, initial=0.0)[:, None]
    alive = largest > 0
    # by the largest first: sums of values near the largest float would overflow
    scaled = _capped(np.divide(values, largest, out=np.zeros_like(values), where=alive), mask)
    mean = scaled.sum(axis=1, keepdims=True) / count
    even: _Floats = np.divide(scaled, mean, out=mask.astype(np.float64), where=alive)
    return even


def _capped(values: _Floats, mask: _Bools) -> _Floats:
    out = values.copy()
    for row, real in zip(out, mask, strict=True):
        kept = row[real]
        if kept.size and kept.max() > 0:
            cap = np.percentile(kept, CAP)
            np.minimum(row, cap if cap > 0 else np.percentile(kept[kept > 0], CAP), out=row)
    return out


def _into_bounds(values: _Floats, mask: _Bools, low: float, high: float) -> _Floats:
    """clip(s v, low, high) with the s of each row that gives mean 1, 0 outside the mask.

    The mean grows with s from ``low`` to what it is when every positive value is at ``high``. Where that is below 1,
    because most values are 0, the zeros share what is lacking: the limit of values that are not quite 0.
    """
    count = mask.sum(axis=1)
    positive = mask & (values > 0)
    n = positive.sum(axis=1)
    most = n * high + (count - n) * low
    spare = np.divide(count - n * high, count - n, out=np.full(len(values), low), where=(most < count) & (count > n))
    floor = np.maximum(spare, low)[:, None]

    def at(log_s: _Floats) -> _Floats:
        with np.errstate(over="ignore"):
            weights = np.clip(values * np.exp(log_s)[:, None], low, high)
        return np.where(positive, weights, np.where(mask, floor, 0.0))

    as_given = at(np.zeros(len(values)))
    fits = np.abs(as_given.sum(axis=1) - count) <= 1e-12 * count
    if fits.all():
        return as_given  # mean 1 and within bounds already, as nearly always
    inside = np.where(positive, values, 1.0)
    left = np.log(low) - np.log(inside.max(axis=1, initial=1.0))
    right = np.log(high) - np.log(inside.min(axis=1, initial=1.0))
    for _ in range(_HALVINGS):
        middle = 0.5 * (left + right)
        over = at(middle).sum(axis=1) > count
        left, right = np.where(over, left, middle), np.where(over, middle, right)
    return np.where(fits[:, None], as_given, at(right))


def _check(eta: float, low: float, high: float) -> None:
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta is a share from 0 to 1, not {eta}")
    if not 0.0 < low <= 1.0 <= high < np.inf:
        raise ValueError(f"weights of mean 1 need 0 < low <= 1 <= high, not low {low} and high {high}")


def _rows(values_B_T: Any, mask_B_T: Any) -> tuple[_Floats, _Bools]:
    values = _array(values_B_T)
    mask = _mask(mask_B_T, values.shape)
    values = np.where(mask, values, 0.0)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("values of tokens must be finite and not below 0")
    return values, mask


def _array(values_B_T: Any) -> _Floats:
    if hasattr(values_B_T, "detach"):
        values_B_T = values_B_T.detach().cpu().double().numpy()
    values = np.asarray(values_B_T, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"values must be (sequences, tokens), not {values.shape}")
    return values


def _mask(mask_B_T: Any, shape: tuple[int, ...]) -> _Bools:
    if hasattr(mask_B_T, "detach"):
        mask_B_T = mask_B_T.detach().cpu().numpy()
    mask = np.asarray(mask_B_T).astype(bool)
    if mask.shape != shape:
        raise ValueError(f"mask must be of the values' shape {shape}, not {mask.shape}")
    return mask


def _like(found: _Floats, given: Any) -> Any:
    """``found`` as what was ``given``: a tensor of its device and floating type for a tensor, else the array."""
    if not hasattr(given, "new_tensor"):
        return found
    return (given if given.is_floating_point() else given.float()).detach().new_tensor(found)
