"""How uneven weights are and what they agree with: numbers for the log."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radiograd.rl import token_weights
from radiograd.weighting.completion import Weighted


def agreement(weighted: Sequence[Weighted]) -> dict[str, float]:
    """Means over completions; a name is left out where no completion says anything about it.

    ``effective_share``: (sum w)^2 / (T sum w^2) over all tokens. ``correlation``: Pearson's of the TF-IDF and gradient
    values, capped as the weights are, over the tokens that are not fixed, where both vary. ``evidence`` and
    ``rest``: the mean weight of tokens that our rules rest a label on and of the others, fixed ones left out,
    over all tokens of all completions.
    """
    found: dict[str, list[float]] = {}
    evidence: list[np.ndarray] = []
    rest: list[np.ndarray] = []
    for row in weighted:
        free = ~row.fixed
        found.setdefault("effective_share", []).extend(
            token_weights.effective_share([row.weights], [np.ones_like(row.fixed)]).tolist()
        )
        if row.tfidf is not None and row.gradient is not None and free.any():
            a, b = (token_weights.capped([values], [free])[0][free] for values in (row.tfidf, row.gradient))
            if np.ptp(a) > 0 and np.ptp(b) > 0:
                found.setdefault("correlation", []).append(float(np.corrcoef(a, b)[0, 1]))
        evidence.append(row.weights[free & row.evidence])
        rest.append(row.weights[free & ~row.evidence])
    for name, parts in (("evidence", evidence), ("rest", rest)):
        if any(len(part) for part in parts):
            found[name] = np.concatenate(parts).tolist()
    return {name: float(np.nanmean(values)) for name, values in found.items() if not np.isnan(values).all()}
