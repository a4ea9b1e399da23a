"""Metrics: one file each. A metric's per-case ``score`` is also a reward term."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from radiograd.errors import ConfigError, did_you_mean
from radiograd.metrics.builtin import METRICS
from radiograd.naming import resolve
from radiograd.types import Case, Score

Array = NDArray[np.float64]


class Metric(Protocol):
    """Scores cases one by one and says how a set of them makes one number.

    ``part_names`` are the keys of ``Score.parts`` that :meth:`combine` needs, summed over cases; ``combine`` is
    vectorised over leading axes, so one call gives every bootstrap resample. All values lie in [0, 1] unless the
    signature says otherwise. A metric whose value per case is computed otherwise than its corpus value says how in
    ``case_signature``, which is optional; rewards quote that one. Optional too: ``bounds`` (lowest and highest value
    when these are not 0 and 1) and ``prepare(references)``, called once with the references of a set before scoring
    it, by metrics that weigh words by how many documents hold them; and ``start()`` by those that ask a program of its
    own, which brings it up, so that its name and version stand in the signature before anything is scored.
    """

    name: str
    higher_is_better: bool

    @property
    def signature(self) -> str:
        """How the number was made: tokeniser, smoothing, model, averaging, versions."""
        ...

    @property
    def part_names(self) -> tuple[str, ...]:
        """Keys of ``Score.parts`` that ``combine`` needs."""
        ...

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case; independent of batch and order. Missing reference: unscored with a reason."""
        ...

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """Corpus value from part sums: each (...,) -> (...,). NaN where nothing was scored."""
        ...


def load_metric(name: str) -> Metric:
    """The built-in metric of that name, or the user's own ``package.module:attr`` (called when it is a class).

    ``findings/NAME`` and ``impression/NAME`` are that metric over one section of whole reports. Raises ConfigError when
    there is no such thing or when it lacks a part of :class:`Metric`.
    """
    section, slash, inner = name.partition("/")
    if slash:
        from radiograd.metrics.of_section import SECTIONS, OfSection

        if section not in SECTIONS:
            raise ConfigError(
                f"metric {name!r}: before the / stands findings or impression.{did_you_mean(section, SECTIONS)}"
            )
        return OfSection(section, load_metric(inner))
    target = resolve("metric", name, METRICS)
    metric: Metric = target() if isinstance(target, type) else target
    lacking = [part for part in METRIC_ATTRIBUTES if not hasattr(metric, part)]
    if lacking:
        raise ConfigError(f"metric {name!r} lacks {', '.join(lacking)}; see radiograd.metrics.Metric")
    return metric


def prepare(metrics: Iterable[Metric], references: Sequence[str]) -> None:
    """Give the references of a set to those metrics that need a document frequency (cider, tfidf_overlap)."""
    for metric in metrics:
        counted: Callable[[Sequence[str]], None] | None = getattr(metric, "prepare", None)
        if counted is not None:
            counted(references)


def start(metrics: Iterable[Metric]) -> None:
    """Bring up the programs behind those metrics that have one. ModelError when one does not come up."""
    for metric in metrics:
        bring_up: Callable[[], None] | None = getattr(metric, "start", None)
        if bring_up is not None:
            bring_up()


def beside(metric: Metric, mean: float | None) -> dict[str, float]:
    """What is printed beside the corpus value: {"inverse_mean": ...} for RadCliQ; nothing for most metrics."""
    tell: Callable[[float], dict[str, float]] | None = getattr(metric, "beside", None)
    return {} if tell is None or mean is None else tell(mean)


METRIC_ATTRIBUTES = ("name", "higher_is_better", "signature", "part_names", "score", "combine")


# ---- metrics whose corpus value is the mean over cases ---------------------------------------------------------------

MEAN_PARTS = ("sum", "n")


def mean_score(value: float) -> Score:
    """A Score of a metric whose corpus value is the mean over the scored cases."""
    return Score(value, {"sum": value, "n": 1.0})


def mean_of(sums: Mapping[str, Array]) -> Array:
    """``combine`` of such a metric: sum / n, each (...,) -> (...,); NaN where n is 0."""
    total, n = np.asarray(sums["sum"], dtype=np.float64), np.asarray(sums["n"], dtype=np.float64)
    mean: Array = np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)
    return mean


class MeanOverCases:
    """A metric that scores each case with a reference by itself (:meth:`one`) and whose corpus value is the mean."""

    higher_is_better = True
    part_names: tuple[str, ...] = MEAN_PARTS

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case; unscored when the reference is missing."""
        return [no_reference(case) or self.one(case) for case in cases]

    def combine(self, sums: Mapping[str, Array]) -> Array:
        """The mean over scored cases."""
        return mean_of(sums)

    def one(self, case: Case) -> Score:
        """The Score of a case that has a reference."""
        raise NotImplementedError


def no_reference(case: Case, words: int | None = None) -> Score | None:
    """The unscored Score of a case whose reference is missing, empty or (``words`` = 0) without a word; else None."""
    reference = case.reference
    if reference is None:
        return Score(None, why=f"the study has no {case.section}")
    if not reference.strip():
        return Score(None, why=f"the reference {case.section} is empty")
    if words == 0:
        return Score(None, why=f"the reference {case.section} holds no word")
    return None
