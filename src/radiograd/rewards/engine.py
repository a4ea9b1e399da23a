"""Weighted terms -> one reward: computed once a text, judges asked in the background while the caller goes on.

``score(cases)`` is all of it at once. A trainer calls ``begin`` as soon as it has texts, does what does not need the
reward, and then calls ``collect``; what the numbers of a group become is :mod:`radiograd.rewards.groups`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from radiograd.errors import RadiogradError
from radiograd.rewards.groups import Array, Combine, Recipe, totals
from radiograd.types import Case, Reward, Score

CACHE_SIZE = 1 << 16

# What broken scoring code raises. MemoryError, KeyboardInterrupt and our own errors go through as they are.
_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


class ScoringError(RadiogradError):
    """A metric or reward term failed or answered something that is not a list of Scores."""


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a reward. ``said`` is the signature of a term that has no ``metric``."""

    name: str
    reward: Reward
    weight: float
    said: str
    metric: Any = None
    """What ``reward`` belongs to, when that is a metric or a term of ours."""
    lowest: float = 0.0
    """The least it can be."""
    skips: bool = False
    """Whether it passes over some texts (``Score.skipped``)."""
    background: bool = False
    """Whether it mostly waits for somebody else, and is therefore begun first."""

    @property
    def signature(self) -> str:
        """How it scores one case."""
        return self.said if self.metric is None else signature_of(self.metric, self.name)


@dataclass(frozen=True, slots=True)
class Table:
    """What is known of B cases and K terms. NaN = not scored; a skipped term is NaN and marked. ``length_B``: words
    over words of the reference, NaN without one. ``scores``: each case as a group of its own (CombinedReward.score)."""

    values_B_K: Array
    skipped_B_K: NDArray[np.bool_]
    length_B: Array
    scores: list[Score]


class _Row(NamedTuple):
    """One text: value (NaN when there is none), skipped, and why there is no value, of each term; its length."""

    values: tuple[float, ...]
    skipped: tuple[bool, ...]
    why: tuple[str | None, ...]
    length: float


_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Pending:
    """Cases that are being scored: what ``begin`` gives and ``collect`` takes, once."""

    cases: tuple[Case, ...]
    keys: tuple[_Key, ...]
    known: Mapping[_Key, _Row]
    new: Mapping[_Key, Case]
    asked: Mapping[int, Future[list[Score]]]
    """Number of the term -> its answers for ``new``, when they are there."""


class CombinedReward:
    """Several terms as one number, by default their weighted mean: in [0, 1] when every term is.

    If a term with a weight above 0 is unscored so is the whole, and ``why`` names the term; a term with weight 0 is
    only looked at. ``parts`` of a Score holds the raw value of each scored term by name. The same text for the same
    study is scored once; scored answers are remembered up to ``cache_size``, unscored ones are asked again next time.
    The other arguments are those of :class:`radiograd.rewards.groups.Recipe`.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        cache_size: int = CACHE_SIZE,
        *,
        combine: Combine = "mean",
        spread: float = 1.0,
        format_penalty: float = 0.5,
        length_control: bool = False,
    ) -> None:
        if cache_size < 1:
            raise ValueError("cache_size must be at least 1")
        self.terms = tuple(terms)
        self.recipe = Recipe(
            weights=tuple(term.weight for term in terms),
            lowest=tuple(term.lowest for term in terms),
            combine=combine,
            spread=spread,
            format_penalty=format_penalty,
            length_control=length_control,
        )
        self._cache_size = cache_size
        self._cache: OrderedDict[_Key, _Row] = OrderedDict()
        self._one_at_a_time = threading.Lock()
        self._asked = 0
        self._computed = 0
        self._local_s = 0.0
        self._waiting_s = 0.0

    def reweigh(self, weights: Mapping[str, float]) -> None:
        """Give the terms other weights; one that is not named gets 0. ValueError for a name that is no term, and when
        no weight is above 0. What is unscored under the new weights is asked again."""
        unknown = weights.keys() - {term.name for term in self.terms}
        if unknown or not any(weights.values()):
            raise ValueError(f"weights must name terms of the reward, one above 0; unknown: {sorted(unknown)}")
        if all(term.weight == weights.get(term.name, 0.0) for term in self.terms):
            return
        self.terms = tuple(replace(term, weight=float(weights.get(term.name, 0.0))) for term in self.terms)
        self.recipe = replace(self.recipe, weights=tuple(term.weight for term in self.terms))
        self._cache.clear()

    def reweighed(self, weights: Mapping[str, float]) -> CombinedReward:
        """Another reward of the same terms, judge and all, with other weights; see :meth:`reweigh`."""
        recipe = self.recipe
        other = CombinedReward(
            self.terms,
            self._cache_size,
            combine=recipe.combine,
            spread=recipe.spread,
            format_penalty=recipe.format_penalty,
            length_control=recipe.length_control,
        )
        other.reweigh(weights)
        return other

    @property
    def signature(self) -> str:
        """Weights and signatures of the terms, and everything of the recipe that can change a number."""
        recipe = self.recipe
        how = {"mean": "weighted mean", "worst": "lowest", "mean_less_spread": f"weighted mean - {recipe.spread:g} std"}
        parts = [how[recipe.combine]]
        if any(term.skips for term in self.terms):
            parts.append(f"skipped: -{recipe.format_penalty:g}")
        if recipe.length_control:
            parts.append("over words/reference words above 1")
        return "|".join([*parts, " + ".join(f"{t.weight:g} * ({t.signature})" for t in self.terms)])

    def prepare(self, references: Sequence[str]) -> None:
        """Give ``references`` to the terms that count documents (cider, tfidf_overlap); needed before scoring them."""
        for term in self.terms:
            if hasattr(term.metric, "prepare"):
                term.metric.prepare(references)
                self._cache.clear()

    def __call__(self, cases: Sequence[Case]) -> list[Score]:
        """See :meth:`score`."""
        return self.score(cases)

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case, in order; independent of batch and order if the terms are. Raises ScoringError.

        Each case is a group of its own, so that a skipped term counts as the lowest that it can be.
        """
        return self.collect(self.begin(cases)).scores

    def begin(self, cases: Sequence[Case]) -> Pending:
        """Start the terms that wait for a judge, on the texts that are not known yet; nothing else is computed.

        One thread asks; two calls that overlap are answered one after the other. A Pending that is never collected
        costs its answers.
        """
        keys = tuple(_key(case) for case in cases)
        known = {key: self._cache[key] for key in keys if key in self._cache}
        new = {key: case for key, case in zip(keys, cases, strict=True) if key not in known}
        texts = list(new.values())
        background = [k for k, term in enumerate(self.terms) if term.background and texts]
        asked = {
            k: _in_background(partial(self._answer, self.terms[k], texts, self._one_at_a_time)) for k in background
        }
        return Pending(tuple(cases), keys, known, new, asked)

    def collect(self, pending: Pending) -> Table:
        """The local terms, then what ``begin`` started, waited for. Raises ScoringError, also for a judge's failure."""
        started = time.perf_counter()
        texts = list(pending.new.values())
        columns: dict[int, list[Score]] = {
            k: self._answer(term, texts) for k, term in enumerate(self.terms) if k not in pending.asked and texts
        }
        waiting = time.perf_counter()
        for k, future in pending.asked.items():
            columns[k] = _answer_of(self.terms[k], future)
        self._local_s += waiting - started
        self._waiting_s += time.perf_counter() - waiting
        rows = dict(pending.known)
        for place, (key, case) in enumerate(pending.new.items()):
            rows[key] = _row([columns[k][place] for k in range(len(self.terms))], case)
        self._asked += len(pending.cases)
        self._computed += len(pending.new)
        self._remember(rows)
        return self._table([rows[key] for key in pending.keys])

    def stats(self) -> dict[str, float]:
        """``asked`` and ``computed`` cases, ``hit_rate`` = share not computed, ``cached`` texts, and seconds: in local
        terms (``local_s``), and waited for the background after those were done (``waiting_s``)."""
        hits = self._asked - self._computed
        return {
            "asked": self._asked,
            "computed": self._computed,
            "hit_rate": hits / self._asked if self._asked else 0.0,
            "cached": len(self._cache),
            "local_s": self._local_s,
            "waiting_s": self._waiting_s,
        }

    def _answer(self, term: Term, cases: Sequence[Case], lock: threading.Lock | None = None) -> list[Score]:
        what = f"reward term {term.name!r}"
        if lock is None:
            return score_cases(what, term.reward, cases)
        with lock:
            return score_cases(what, term.reward, cases)

    def _table(self, rows: Sequence[_Row]) -> Table:
        shape = (len(rows), len(self.terms))
        values = np.array([row.values for row in rows], dtype=np.float64).reshape(shape)
        skipped = np.array([row.skipped for row in rows], dtype=bool).reshape(shape)
        length = np.array([row.length for row in rows], dtype=np.float64)
        alone = totals(values[:, None], skipped[:, None], length[:, None], self.recipe)[:, 0]
        scores = [self._score(row, total) for row, total in zip(rows, alone.tolist(), strict=True)]
        return Table(values, skipped, length, scores)

    def _score(self, row: _Row, total: float) -> Score:
        parts = {t.name: value for t, value in zip(self.terms, row.values, strict=True) if not math.isnan(value)}
        if not math.isnan(total):
            return Score(total, parts)
        missing = self._missing(row)
        why = "; ".join(f"{self.terms[k].name}: {row.why[k]}" for k in missing)
        return Score(None, parts, why or "length_control: no reference to compare the length with")

    def _missing(self, row: _Row) -> list[int]:
        """The terms that leave the text unscored."""
        return [k for k, t in enumerate(self.terms) if t.weight > 0 and row.why[k] is not None and not row.skipped[k]]

    def _remember(self, rows: Mapping[_Key, _Row]) -> None:
        for key, row in rows.items():
            if not self._missing(row):
                self._cache[key] = row
                self._cache.move_to_end(key)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)


def _key(case: Case) -> _Key:
    return (case.study.study_id, case.section, case.candidate)


def _row(scores: Sequence[Score], case: Case) -> _Row:
    reference = len((case.reference or "").split())
    return _Row(
        tuple(math.nan if score.value is None else score.value for score in scores),
        tuple(score.skipped for score in scores),
        tuple(score.why for score in scores),
        len(case.candidate.split()) / reference if reference else math.nan,
    )


def _in_background(work: Callable[[], list[Score]]) -> Future[list[Score]]:
    """``work`` in a thread that does not keep the process from ending."""
    future: Future[list[Score]] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 (raised again by whoever collects)
            future.set_exception(error)

    threading.Thread(target=run, name="radiograd reward", daemon=True).start()
    return future


def _answer_of(term: Term, future: Future[list[Score]]) -> list[Score]:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, ScoringError):
        raise error
    why = str(error) if isinstance(error, RadiogradError) else type(error).__name__
    raise ScoringError(f"reward term {term.name!r} failed: {why}") from error


def signature_of(target: Any, name: str) -> str:
    """How ``target`` scores one case, in its own words; ``name`` for what does not say."""
    found: str = getattr(target, "case_signature", getattr(target, "signature", name))
    return found


def score_cases(what: str, scorer: Reward, cases: Sequence[Case]) -> list[Score]:
    """``scorer(cases)``, checked: one Score per case; a value that is not a finite number becomes unscored.

    Raises ScoringError that names ``what`` when the scorer fails or answers anything else.
    """
    try:
        scores = scorer(cases)
    except _FAILURES as error:
        raise ScoringError(
            f"{what} failed with {type(error).__name__} on {_which(cases)}; "
            "a case it cannot score must be answered with Score(None, why=...)"
        ) from error
    if not isinstance(scores, list) or not all(isinstance(score, Score) for score in scores):
        raise ScoringError(f"{what} must return a list of radiograd.Score, one per case")
    if len(scores) != len(cases):
        raise ScoringError(f"{what} returned {len(scores)} scores for {len(cases)} cases")
    return [
        score if score.value is None or math.isfinite(score.value) else Score(None, why="not a finite number")
        for score in scores
    ]


def _which(cases: Sequence[Case]) -> str:
    return f"{len(cases)} cases (first: {cases[0].study.study_id})" if cases else "no cases"
