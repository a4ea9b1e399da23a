"""Metrics: one file each. A metric's per-case ``score`` is also a reward term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from radiograd.metrics.builtin import METRICS
from radiograd.naming import resolve
from radiograd.types import Case, Score

Array = NDArray[np.float64]


class Metric(Protocol):
    """Scores cases one by one and says how a set of them makes one number.

    ``part_names`` are the keys of ``Score.parts`` that :meth:`combine` needs, summed over cases; ``combine`` is
    vectorised over leading axes, so one call gives every bootstrap resample. All values lie in [0, 1] unless the
    signature says otherwise.
    """

    name: str
    higher_is_better: bool
    signature: str
    part_names: tuple[str, ...]

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case; independent of batch and order. Missing reference: unscored with a reason."""
        ...

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """Corpus value from part sums: each (...,) -> (...,). NaN where nothing was scored."""
        ...


def load_metric(name: str) -> Metric:
    """The built-in metric of that name, or the user's own ``package.module:attr`` (called when it is a class)."""
    target = resolve("metric", name, METRICS)
    metric: Metric = target() if callable(target) else target
    return metric
