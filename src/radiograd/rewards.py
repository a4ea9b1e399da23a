"""Reward terms by name and weight -> one combined reward: the only thing a trainer sees."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from radiograd.errors import ConfigError, RadiogradError
from radiograd.metrics import load_metric
from radiograd.metrics.builtin import METRICS
from radiograd.naming import resolve
from radiograd.types import Case, Reward, Score

CACHE_SIZE = 1 << 16

# What broken scoring code raises. MemoryError, KeyboardInterrupt and our own errors go through as they are.
_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


class ScoringError(RadiogradError):
    """A metric or reward term failed or answered something that is not a list of Scores."""


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a reward."""

    name: str
    reward: Reward
    weight: float
    signature: str
    metric: Any = None
    """What ``reward`` belongs to, when that is a metric."""


class CombinedReward:
    """The weighted mean of its terms, sum(weight * term) / sum(weight): in [0, 1] when every term is.

    ``parts`` of a Score holds the raw value of each scored term by name. If a term with a weight above 0 is unscored so
    is the whole, and ``why`` names the term; a term with weight 0 is only looked at. The same text for the same study
    is scored once; scored answers are remembered up to ``cache_size``, unscored ones are asked again next time.
    """

    def __init__(self, terms: Sequence[Term], cache_size: int = CACHE_SIZE) -> None:
        if cache_size < 1:
            raise ValueError("cache_size must be at least 1")
        self.terms = tuple(terms)
        self._total_weight = math.fsum(term.weight for term in self.terms)
        self._cache_size = cache_size
        self._cache: OrderedDict[_Key, Score] = OrderedDict()
        self._asked = 0
        self._computed = 0

    @property
    def signature(self) -> str:
        """Weights and signatures of the terms."""
        return "weighted mean|" + " + ".join(f"{t.weight:g} * ({t.signature})" for t in self.terms)

    def prepare(self, references: Sequence[str]) -> None:
        """Give ``references`` to the terms that count documents (cider, tfidf_overlap); needed before scoring them."""
        prepared = []
        for term in self.terms:
            if hasattr(term.metric, "prepare"):
                term.metric.prepare(references)
                term = replace(term, signature=_signature(term.metric, term.name))
                self._cache.clear()
            prepared.append(term)
        self.terms = tuple(prepared)

    def __call__(self, cases: Sequence[Case]) -> list[Score]:
        """See :meth:`score`."""
        return self.score(cases)

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """One Score per case, in order; independent of batch and order if the terms are. Raises ScoringError."""
        keys = [_key(case) for case in cases]
        answers = {key: self._cache[key] for key in keys if key in self._cache}
        new = {key: case for key, case in zip(keys, cases, strict=True) if key not in answers}
        if new:
            answers.update(zip(new, self._compute(list(new.values())), strict=True))
        self._asked += len(cases)
        self._computed += len(new)
        self._remember(answers)
        return [answers[key] for key in keys]

    def stats(self) -> dict[str, float]:
        """``asked`` and ``computed`` cases, ``hit_rate`` = share not computed, ``cached`` texts."""
        hits = self._asked - self._computed
        return {
            "asked": self._asked,
            "computed": self._computed,
            "hit_rate": hits / self._asked if self._asked else 0.0,
            "cached": len(self._cache),
        }

    def _compute(self, cases: list[Case]) -> list[Score]:
        by_term = [score_cases(f"reward term {term.name!r}", term.reward, cases) for term in self.terms]
        return [self._combine(scores) for scores in zip(*by_term, strict=True)]

    def _combine(self, scores: Sequence[Score]) -> Score:
        parts, weighted, why = {}, [], []
        for term, score in zip(self.terms, scores, strict=True):
            if score.value is not None:
                parts[term.name] = score.value
                weighted.append(term.weight * score.value)
            elif term.weight > 0:
                why.append(f"{term.name}: {score.why}")
        return Score(None, parts, "; ".join(why)) if why else Score(math.fsum(weighted) / self._total_weight, parts)

    def _remember(self, answers: Mapping[_Key, Score]) -> None:
        for key, score in answers.items():
            if score.value is not None:
                self._cache[key] = score
                self._cache.move_to_end(key)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)


_Key = tuple[str, str, str]


def _key(case: Case) -> _Key:
    return (case.study.study_id, case.section, case.candidate)


def build_reward(terms: Mapping[str, float]) -> CombinedReward:
    """Resolve reward term -> weight. A term is a built-in metric or your own ``package.module:attr``: a function
    (cases) -> list of Score, a metric, or a class of one.

    Weights are finite and not negative, one at least above 0. Raises ConfigError before anything is scored.
    """
    if not terms:
        raise ConfigError("a reward needs at least one term, e.g. {rougeL: 1.0}")
    for name, weight in terms.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ConfigError(f"reward term {name!r}: weight {weight} is not a number of 0 or more")
    if not any(terms.values()):
        raise ConfigError("a reward needs at least one term with a weight above 0")
    return CombinedReward([_term(name, float(weight)) for name, weight in terms.items()])


def _term(name: str, weight: float) -> Term:
    target: Any = load_metric(name) if name in METRICS or "/" in name else resolve("reward term", name, METRICS)
    if isinstance(target, type):
        target = target()
    if not getattr(target, "higher_is_better", True):
        raise ConfigError(f"reward term {name!r} is better when lower; wrap it in a function that turns it round")
    reward = getattr(target, "score", target)
    if not callable(reward):
        raise ConfigError(f"reward term {name!r} is neither a function (cases) -> list of Score nor a metric")
    return Term(name, reward, weight, _signature(target, name), None if reward is target else target)


def _signature(target: Any, name: str) -> str:
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
