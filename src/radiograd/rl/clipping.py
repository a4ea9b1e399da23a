"""Clip ranges per case."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def critical_aware(critical_B: Any, eps: float = 0.2, factor: float = 4.0) -> NDArray[np.float64]:
    """Clip half-width per case: eps / factor where the reference report is critical (RadFlow, CAPO), else eps.

    ``critical_B``: (B,) bool. Returns (B,) float.
    """
    return np.where(np.asarray(critical_B, dtype=bool), eps / factor, eps)
