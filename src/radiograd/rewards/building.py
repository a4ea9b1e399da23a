"""Names and weights of a configuration -> a reward that is ready, or an error before anything is scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from radiograd.config import GRPOConfig, RunConfig
from radiograd.errors import ConfigError, did_you_mean
from radiograd.judges.builtin import prepare_judge
from radiograd.judges.protocol import Judge
from radiograd.metrics import load_metric
from radiograd.metrics.builtin import METRICS
from radiograd.naming import resolve
from radiograd.rewards.builtin import TERMS
from radiograd.rewards.engine import CombinedReward, Term, signature_of
from radiograd.rewards.groups import COMBINATIONS, Combine
from radiograd.types import Case, Score

KNOWN = {**METRICS, **TERMS}
"""Every name that a reward term can have without being the user's own."""


def build_reward(
    terms: Mapping[str, float],
    *,
    judge: Callable[[], Judge] | None = None,
    combine: Combine = "mean",
    spread: float = 1.0,
    format_penalty: float = 0.5,
    length_control: bool = False,
) -> CombinedReward:
    """Resolve reward term -> weight. A term is a built-in metric, one of ``rewards.builtin.TERMS``, or your own
    ``package.module:attr``: a function (cases) -> list of Score, a metric, or a class of one.

    ``judge`` makes the judge of the term ``consistent``; it is called when the first case is scored (or the signature
    is asked for), and never when no term needs it. The others are the keys of ``align`` (``rewards.groups.Recipe``).
    Weights are finite and not negative, one at least above 0. Raises ConfigError before anything is scored.
    """
    if not terms:
        raise ConfigError("a reward needs at least one term, e.g. {rougeL: 1.0}")
    for name, weight in terms.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ConfigError(f"reward term {name!r}: weight {weight} is not a number of 0 or more")
    if not any(terms.values()):
        raise ConfigError("a reward needs at least one term with a weight above 0")
    if combine not in COMBINATIONS:
        raise ConfigError(f"terms are not combined by {combine!r}.{did_you_mean(combine, COMBINATIONS)}")
    return CombinedReward(
        [_term(name, float(weight), judge) for name, weight in terms.items()],
        combine=combine,
        spread=spread,
        format_penalty=format_penalty,
        length_control=length_control,
    )


Phase = Literal["first", "last", "both"]


def phase_weights(align: GRPOConfig, phase: Phase) -> dict[str, float]:
    """Term -> weight in a phase of the reward, over all terms of ``align``; without a schedule all phases are one.

    both: the mean of the two, each with weights that sum to 1: what rises when either does.
    """
    later = align.reward if align.reward_schedule is None else align.reward_schedule.reward
    if phase != "both" or later is align.reward:
        named = align.reward if phase == "first" else later
        return {term: named.get(term, 0.0) for term in align.terms}
    totals = [math.fsum(weights.values()) or 1.0 for weights in (align.reward, later)]
    return {
        term: (align.reward.get(term, 0.0) / totals[0] + later.get(term, 0.0) / totals[1]) / 2 for term in align.terms
    }


def reward_of(config: RunConfig, phase: Phase = "first") -> CombinedReward:
    """The reward that ``config.align`` describes, with the weights of a phase: the terms of all phases are computed.

    Its judge is checked now where a term needs one; one that loads a model is loaded with the first case.

    Raises ConfigError for a run without GRPO, for an unknown name or option, and for an endpoint that credentialed
    reports may not be sent to; and what the judge itself raises.
    """
    grpo = config.grpo
    judge: Callable[[], Judge] | None = None
    if "consistent" in grpo.terms:
        judge = prepare_judge(grpo.judge, grpo.judge_options, credentialed=not config.data.public)
    return build_reward(
        phase_weights(grpo, phase),
        judge=judge,
        combine=grpo.combine,
        spread=grpo.spread,
        format_penalty=grpo.format_penalty,
        length_control=grpo.length_control,
    )


class _Judged:
    """A term that is made with its judge when it is first needed."""

    def __init__(self, make: Callable[[Judge], Any], judge: Callable[[], Judge]) -> None:
        self._make, self._judge = make, judge

    @cached_property
    def term_with_judge(self) -> Any:
        """The term itself."""
        return self._make(self._judge())

    @property
    def signature(self) -> str:
        """The term's."""
        found: str = self.term_with_judge.signature
        return found

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """The term's."""
        found: list[Score] = self.term_with_judge.score(cases)
        return found


def _term(name: str, weight: float, judge: Callable[[], Judge] | None) -> Term:
    made: Any = load_metric(name) if name in METRICS or "/" in name else resolve("reward term", name, KNOWN)
    target = made
    if name == "consistent":
        if judge is None:
            raise ConfigError(
                "reward term 'consistent' needs a judge: rewards.reward_of(config), or "
                'build_reward(..., judge=lambda: load_judge("rules"))'
            )
        target = _Judged(made, judge)
    elif isinstance(made, type):
        target = made()
    if not getattr(target, "higher_is_better", True):
        raise ConfigError(f"reward term {name!r} is better when lower; wrap it in a function that turns it round")
    reward = getattr(target, "score", target)
    if not callable(reward):
        raise ConfigError(f"reward term {name!r} is neither a function (cases) -> list of Score nor a metric")
    return Term(
        name,
        reward,
        weight,
        said=signature_of(target, name) if reward is target else name,
        metric=None if reward is target else target,
        lowest=getattr(made, "lowest", getattr(target, "bounds", (0.0,))[0]),
        skips=getattr(made, "skips", False),
        background=getattr(made, "background", False),
    )
