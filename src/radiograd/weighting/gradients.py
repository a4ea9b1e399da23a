"""What a classifier of findings looks at in a completion: its gradients to word pieces, laid on characters.

The reward, an F1 of labels, cannot be differentiated. What can is S, the mean log-probability that a classifier gives
its own answers for the labels that the reward is about: those present, by our rules, in completion or reference.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from radiograd.labelers.classifier import NO_FINDING, Mode, PieceGradients, Target
from radiograd.text.labels import RuleLabeler
from radiograd.types import Labels, Status
from radiograd.weighting.layout import LABELS


class Differentiable(Protocol):
    """What is asked of a classifier; :class:`radiograd.labelers.classifier.FindingClassifier` is one."""

    def input_gradients(self, texts: Sequence[str], targets: Sequence[Target], mode: Mode) -> list[PieceGradients]: ...


class Gradients:
    """Values of characters by a classifier's gradients. ``seconds``: what the last call of :meth:`of` took of it."""

    def __init__(self, classifier: Differentiable, mode: Mode) -> None:
        self.seconds = 0.0
        self._classifier, self._mode = classifier, mode
        self._rules = RuleLabeler(LABELS)

    def of(self, texts: Sequence[str], references: Sequence[str]) -> list[NDArray[np.float64]]:
        """For each text (len(text),): the value of the word piece at each character, 0 between them.

        Equal texts with equal targets are asked about once.
        """
        wanted = self.targets(texts, references)
        # sorted, so that batches, and with them rounding, do not depend on the order of the texts
        asked = sorted({(text, names) for text, names in zip(texts, wanted, strict=True) if text})
        started = time.perf_counter()
        found = self._classifier.input_gradients([text for text, _ in asked], [names for _, names in asked], self._mode)
        self.seconds = time.perf_counter() - started
        laid = {key: _on_characters(key[0], pieces) for key, pieces in zip(asked, found, strict=True)}
        return [laid[text, names] if text else np.zeros(0) for text, names in zip(texts, wanted, strict=True)]

    def targets(self, texts: Sequence[str], references: Sequence[str]) -> list[tuple[str, ...]]:
        """The labels present in each text or in its reference by our rules; No Finding when there is none."""
        unique = list(dict.fromkeys((*texts, *references)))
        labels: dict[str, Labels] = dict(zip(unique, self._rules(unique), strict=True))
        return [
            tuple(
                name
                for name in self._rules.labels.names
                if Status.PRESENT in (labels[text][name], labels[reference][name])
            )
            or (NO_FINDING,)
            for text, reference in zip(texts, references, strict=True)
        ]


def _on_characters(text: str, pieces: PieceGradients) -> NDArray[np.float64]:
    values = np.zeros(len(text))
    for (start, end), value in zip(pieces.offsets.tolist(), pieces.values.tolist(), strict=True):
        values[start:end] = np.maximum(values[start:end], value)
    return values
