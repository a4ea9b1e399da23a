"""Predictions -> one column of values a metric, NaN where a study could not be scored, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from radiograd.metrics import load_metric, prepare, start
from radiograd.rewards import score_cases
from radiograd.selection import Array
from radiograd.types import Case, Study


@dataclass(frozen=True, slots=True)
class Scored:
    """``columns``: metric -> (N,), NaN = unscored. ``directions``: 1, or -1 where lower is better. ``why``: for each
    study the first metric of weight above 0 that could not score it, and its reason; None where all could."""

    columns: Mapping[str, Array]
    directions: Mapping[str, int]
    why: Sequence[str | None]
    signatures: Mapping[str, str]

    def value(self, name: str, place: int) -> float | None:
        """The metric's own value for the study at ``place``; None where it could not score it."""
        value = float(self.columns[name][place])
        return None if np.isnan(value) else value


def score_predictions(
    studies: Sequence[Study], texts: Mapping[str, str], weights: Mapping[str, float], section: str
) -> Scored:
    """Score each study's text against its own ``section`` (impression or report) with every metric of ``weights``."""
    metrics = {name: load_metric(name) for name in weights}
    start(metrics.values())
    prepare(metrics.values(), [text for study in studies if (text := study.sections.text(section))])
    cases = [Case(study, texts[study.study_id], section) for study in studies]
    scores = {name: score_cases(f"metric {name!r}", metric.score, cases) for name, metric in metrics.items()}
    why: list[str | None] = [None] * len(studies)
    for name, weight in weights.items():
        for place, score in enumerate(scores[name]):
            if weight > 0 and why[place] is None and score.why is not None:
                why[place] = f"{name}: {score.why}"
    return Scored(
        {
            name: np.array([np.nan if s.value is None else s.value for s in found], dtype=np.float64)
            for name, found in scores.items()
        },
        {name: 1 if metric.higher_is_better else -1 for name, metric in metrics.items()},
        why,
        {name: getattr(metric, "case_signature", metric.signature) for name, metric in metrics.items()},
    )
