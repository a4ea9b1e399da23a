"""Completions -> what each of their tokens weighs, by the kind of weight that is configured."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from radiograd.config import TokenWeightConfig
from radiograd.errors import ConfigError
from radiograd.labelers import load_labeler
from radiograd.rl import token_weights
from radiograd.weighting import layout
from radiograd.weighting.completion import Completion, Weighted
from radiograd.weighting.gradients import Differentiable, Gradients
from radiograd.weighting.tfidf import WordValues

if TYPE_CHECKING:
    from radiograd.labelers.classifier import FindingClassifier

_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]


class _OfText(NamedTuple):
    """What the characters of one text are: headers as spans, the rest (len(text),)."""

    headers: list[layout.Span]
    evidence: _Bools
    tfidf: _Floats | None
    unseen: _Bools
    gradient: _Floats | None


class TokenWeigher:
    """Weights of tokens as ``settings`` ask for them; ``references`` are the texts of the training studies.

    ``seconds`` is what the last :meth:`weigh` took, ``seconds_classifier`` what the classifier took of that.
    ConfigError when a gradient is asked for and there is no classifier.
    """

    def __init__(
        self,
        settings: TokenWeightConfig,
        references: Sequence[str],
        *,
        classifier: Differentiable | None = None,
        seed: int,
    ) -> None:
        if settings.needs_classifier and classifier is None:
            raise ConfigError(
                f"align.token_weight.by={settings.by} takes the gradient of a classifier and there is none; "
                "give token_weight.labeler_options a folder, or set by: tfidf or uniform"
            )
        self.seconds = self.seconds_classifier = 0.0
        self._settings, self._seed = settings, seed
        self._words = WordValues(references) if settings.by in ("tfidf", "combined", "shuffled") else None
        asks = settings.needs_classifier and classifier is not None
        self._gradients = Gradients(classifier, settings.gradient) if asks and classifier is not None else None

    def weigh(self, completions: Sequence[Completion], references: Sequence[str]) -> list[Weighted]:
        """One :class:`Weighted` for each completion; ``references[i]`` is the radiologist's text for completion i.

        A completion's weights depend on its text, tokens and reference, and when shuffled on its study and the seed:
        not on what else is weighed, but for the rounding of the classifier's batches.
        """
        started = time.perf_counter()
        keys = [(c.text, reference) for c, reference in zip(completions, references, strict=True)]
        known = dict(zip(unique := list(dict.fromkeys(keys)), self._read(unique), strict=True))
        found = [self._weighted(c, known[key]) for c, key in zip(completions, keys, strict=True)]
        self.seconds = time.perf_counter() - started
        return found

    # ---- inside ----

    def _read(self, pairs: Sequence[tuple[str, str]]) -> list[_OfText]:
        gradients: list[_Floats | None] = [None] * len(pairs)
        self.seconds_classifier = 0.0
        if self._gradients is not None:
            gradients = [*self._gradients.of([text for text, _ in pairs], [reference for _, reference in pairs])]
            self.seconds_classifier = self._gradients.seconds
        known = {text: self._read_text(text) for text in dict.fromkeys(text for text, _ in pairs)}
        return [known[text]._replace(gradient=of_text) for (text, _), of_text in zip(pairs, gradients, strict=True)]

    def _read_text(self, text: str) -> _OfText:
        headers = layout.header_spans(text)
        values: tuple[_Floats | None, _Bools] = (None, np.zeros(len(text), dtype=bool))
        if self._words is not None:
            values = self._words.of(text, headers)
        return _OfText(headers, layout.inside(text, layout.evidence_spans(text)), *values, None)

    def _weighted(self, completion: Completion, of_text: _OfText) -> Weighted:
        offsets = completion.offsets
        fixed = layout.fixed_tokens(completion.text, offsets, of_text.headers)
        tfidf = None if of_text.tfidf is None else layout.largest(of_text.tfidf, offsets)
        gradient = None if of_text.gradient is None else layout.largest(of_text.gradient, offsets)
        free = ~fixed
        weights = np.ones(len(offsets))
        if free.any():
            unseen = layout.touches(of_text.unseen, offsets)
            found = self._weights(tfidf, gradient, free, unseen, completion)
            weights[free] = found[free]
        return Weighted(completion, weights, tfidf, gradient, fixed, layout.touches(of_text.evidence, offsets))

    def _weights(
        self, tfidf: _Floats | None, gradient: _Floats | None, free: _Bools, unseen: _Bools, completion: Completion
    ) -> _Floats:
        """(T,) weights; those of the free tokens have mean 1."""
        bounds = (self._settings.eta, self._settings.low, self._settings.high)
        if tfidf is not None and gradient is not None:
            weights = token_weights.combined([tfidf], [gradient], [free], *bounds, held_B_T=[unseen])
            if self._settings.by == "shuffled":
                weights = token_weights.shuffled(weights, [free], self._lot(completion))
        elif tfidf is not None or gradient is not None:
            weights = token_weights.normalise([gradient if tfidf is None else tfidf], [free], *bounds)
        else:
            weights = np.ones((1, len(free)))
        of_row: _Floats = weights[0]
        return of_row

    def _lot(self, completion: Completion) -> np.random.Generator:
        """A generator of its own for each seed, study and text: a resumed run draws the same."""
        key = f"{self._seed}\0{completion.study_id}\0{completion.text}".encode("utf-8", "surrogatepass")
        return np.random.default_rng(list(hashlib.sha256(key).digest()))


def load_classifier(settings: TokenWeightConfig, folder: Path | None) -> FindingClassifier:
    """The classifier whose gradient is taken: the embedded one that the run trained in ``folder``, else that of
    ``settings.labeler_options``. ConfigError when neither says which, and for a labeler that has no gradient."""
    from radiograd.labelers.classifier import FindingClassifier

    options = dict(settings.labeler_options)
    if settings.labeler == "embedded" and folder is not None:
        options["folder"] = str(folder)
    if settings.labeler == "embedded" and "folder" not in options:
        raise ConfigError(
            "align.token_weight takes the gradient of the embedded labeler and no folder holds one; run the stage "
            "classifier, or give token_weight.labeler_options: {folder: ...}"
        )
    labeler = load_labeler(settings.labeler, options)
    if not isinstance(labeler, FindingClassifier):
        raise ConfigError(f"align.token_weight.labeler: {settings.labeler!r} has no gradient; use embedded or chexbert")
    return labeler
