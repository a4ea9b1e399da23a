"""The order of training rows: fixed before training starts, so a resumed run goes on with the same rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_WINDOW = 16  # batches sorted by length together


def length_grouped(lengths: Sequence[int], batch: int, epochs: float, rng: np.random.Generator) -> list[int]:
    """Row numbers for ``epochs`` passes, in batches of rows of like length.

    Each pass holds every row once; the last pass may be partial. Within windows of shuffled rows the rows are sorted
    by length and cut into batches, and the batches are shuffled: little padding, no length curriculum.
    """
    total = max(1, round(len(lengths) * epochs))
    order: list[int] = []
    while len(order) < total:
        shuffled = rng.permutation(len(lengths))
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), batch * _WINDOW):
            window = sorted(shuffled[start : start + batch * _WINDOW].tolist(), key=lambda row: (lengths[row], row))
            batches += [window[i : i + batch] for i in range(0, len(window), batch)]
        full = [b for b in batches if len(b) == batch]
        rest = [b for b in batches if len(b) < batch]
        order += [row for number in rng.permutation(len(full)) for row in full[number]]
        order += [row for b in rest for row in b]
    return order[:total]


def distinct_batches(rows: int, batch: int, batches: int, rng: np.random.Generator) -> list[int]:
    """Row numbers for ``batches`` batches of ``batch`` different rows each, from shuffled passes over ``rows`` rows.

    What is left of a pass when it no longer fills a batch is left out of that pass. Needs ``rows`` >= ``batch``.
    """
    if rows < batch:
        raise ValueError(f"{rows} rows cannot fill a batch of {batch}")
    order: list[int] = []
    while len(order) < batches * batch:
        order += rng.permutation(rows)[: rows - rows % batch].tolist()
    return order[: batches * batch]
