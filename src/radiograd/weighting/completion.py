"""One completion as characters and as tokens, and what its tokens weigh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Completion:
    """A text that was sampled for a study, and which of its characters each of its T tokens wrote.

    ``offsets``: (T, 2) int64, [start, end) in ``text``; start == end for a token that wrote nothing of it (the end
    token, white space that was stripped). Tokens that wrote nothing but pieces of one character have equal spans.
    """

    study_id: str
    text: str
    offsets: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Weighted:
    """What the tokens of one completion weigh; every array (T,) over the tokens of its ``offsets``.

    ``weights``: mean 1 over all tokens. ``tfidf``, ``gradient``: the raw values they come from, None where that kind
    was not asked for. ``fixed``: tokens that always weigh 1 (end, headers). ``evidence``: tokens on which our rules
    rest a label.
    """

    completion: Completion
    weights: NDArray[np.float64]
    tfidf: NDArray[np.float64] | None
    gradient: NDArray[np.float64] | None
    fixed: NDArray[np.bool_]
    evidence: NDArray[np.bool_]

    def spans(self) -> list[list[float]]:
        """[[start, end, weight], ...] of the tokens that wrote something: what rollouts/*.jsonl keeps as "tokens"."""
        return [
            [int(start), int(end), round(float(weight), 4)]
            for (start, end), weight in zip(self.completion.offsets, self.weights, strict=True)
            if start < end
        ]
