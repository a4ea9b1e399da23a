"""Values -> 256 greys. Pure."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from radiograd.films.film import Grey

Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

LOW, HIGH = 0.5, 99.5
"""Percentiles that become black and white in a film without a window of its own."""
_SAMPLE = 1_000_000


def to_grey(shares: NDArray[Any]) -> Grey:
    """Shares of full white to greys, rounded half to even; below 0 is black, above 1 white. Any shape."""
    grey: Grey = np.rint(np.clip(shares, 0.0, 1.0) * 255.0).astype(np.uint8)
    return grey


def window(values: NDArray[Any], center: float, width: float, function: Function = "LINEAR") -> Grey:
    """Greys of a window, any shape. DICOM PS3.3 C.11.2.1.2 (LINEAR) and C.11.2.1.3 (SIGMOID, LINEAR_EXACT).

    ValueError for a width that the standard does not allow: below 1 for LINEAR, 0 or less for the others.
    """
    if not (width >= 1 if function == "LINEAR" else width > 0) or not np.isfinite([center, width]).all():
        raise ValueError(f"a {function} window cannot be {width} wide around {center}")
    values = np.asarray(values, dtype=np.float32)
    if function == "SIGMOID":
        exponent = np.clip(-4.0 * (values - center) / width, -80.0, 80.0)
        return to_grey(1.0 / (1.0 + np.exp(exponent)))
    if function == "LINEAR" and width == 1:
        return to_grey(values > center - 0.5)
    if function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    return to_grey((values - center) / width + 0.5)


def stretch(values: NDArray[Any], known: NDArray[np.bool_] | None = None) -> Grey:
    """Greys between the LOW and HIGH percentile, any 2-D shape; a film of one value throughout is black.

    Percentiles are those of about a million evenly spaced pixels, of finite ones, and of those that are ``known``
    (None = all; where none is, all). Values that are not numbers become black.
    """
    step = max(1, round((values.size / _SAMPLE) ** 0.5))
    sample = values[::step, ::step].ravel()
    wanted = None if known is None else known[::step, ::step].ravel()
    if values.dtype.kind == "f":
        finite = np.isfinite(sample)
        sample, wanted = sample[finite], None if wanted is None else wanted[finite]
    kept = sample if wanted is None or not wanted.any() else sample[wanted]
    if not kept.size:
        return np.zeros(values.shape, dtype=np.uint8)
    low, high = (float(value) for value in np.percentile(kept, (LOW, HIGH)))
    if low == high:  # a few bright pixels on a flat ground
        low, high = float(kept.min()), float(kept.max())
    if low == high:
        return np.zeros(values.shape, dtype=np.uint8)
    floats: NDArray[Any] = values.astype(np.float64 if values.dtype.itemsize > 2 else np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        shares = (floats - low) / (high - low)
    return to_grey(np.nan_to_num(shares, nan=0.0) if values.dtype.kind == "f" else shares)


def luma(colours: NDArray[Any], white: float) -> Grey:
    """(H, W, 3) red, green, blue up to ``white`` -> (H, W) greys. ITU-R BT.601; equal parts stay what they are."""
    red, green, blue = (colours[..., part].astype(np.float32) for part in range(3))
    return to_grey((0.299 * red + 0.587 * green + 0.114 * blue) / white)


def over_black(grey: Grey, opacity: Grey) -> Grey:
    """What is seen of a film that lets the ground through: ``opacity`` 255 = all of it, 0 = black. Both (H, W)."""
    return to_grey(grey.astype(np.float32) * opacity.astype(np.float32) / (255.0 * 255.0))
