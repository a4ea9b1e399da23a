"""Whether a reward is being gamed: a panel of metrics that it does not pay for, an alarm, and what each step's texts
look like.

A policy that is optimised for a number finds ways to raise the number alone (over-optimisation, arXiv:2210.10760). The
panel stands for what the number was meant to say; when it falls on validation studies while the reward rises, the
reward is being gamed. Pure: who decodes and who stops the training is :mod:`radiograd.train.guard`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from radiograd.config import GRPOConfig, RunConfig
from radiograd.errors import ConfigError
from radiograd.metrics import Metric, load_metric
from radiograd.metrics.builtin import METRICS
from radiograd.text.labels import RuleLabeler
from radiograd.types import Case, Score, Status
from radiograd.variety import commonest, distinct, words_of

# ---- the panel -------------------------------------------------------------------------------------------------------

PANEL = ("statements", "tfidf_overlap", "label_f1_14_example", "factgraph_complete", "rougeL")
"""Gold metrics in the order they are taken: one of each family that is computed without weights of any kind. Which
mistakes each of them sees is measured in docs/metrics.md."""
FEWEST_GOLD = 2
"""A single metric is one more number that can be gamed by chance."""

_STATEMENTS = ("keywords", "statements", "laterality", "severity", "negation", "hallucinated_prior")
FAMILIES: Mapping[str, Sequence[str]] = {
    "words": (
        *("bleu1", "bleu2", "bleu3", "bleu4", "rouge1", "rouge2", "rougeL", "meteor"),
        *("radcliq_v0", "radcliq_v1", "syntax"),
    ),
    "rare words": ("tfidf_overlap", "cider"),
    "length": ("length_ratio", "fidelity"),
    "statements": (*_STATEMENTS, "fidelity"),
    "facts": (*(name for name in METRICS if name.startswith("factgraph")), "fidelity", "domain"),
    "labels": (
        *(name for name in METRICS if name.startswith("label_f1")),
        "impression_f1",
        "impression_f1_all",
        "diagnostic_f1",
    ),
    "consistency": ("consistency", "consistent"),
    "format": ("report_format",),
    "chance": ("chance",),
    "embeddings": ("bertscore", "embedscore", "radcliq_v0", "radcliq_v1"),
    "chexbert": ("chexbert_f1_14", "chexbert_f1_5", "sembscore", "radcliq_v0", "radcliq_v1"),
    "radgraph": ("radgraph_simple", "radgraph_partial", "radgraph_complete", "radcliq_v0", "radcliq_v1"),
    "green": ("green",),
    "ratescore": ("ratescore",),
}
"""What is counted -> the built-in metrics and reward terms that count it. Two that share a family rise together: a gain
in one is no evidence from the other."""


def families(name: str) -> frozenset[str]:
    """What a metric or reward term counts; over one section of a report (``impression/NAME``) the same as over all.

    One of the user's own (``package.module:attr``) shares nothing with others: by its name that cannot be known.
    """
    whole = name.rpartition("/")[2]
    found = frozenset(family for family, members in FAMILIES.items() if whole in members)
    return found or frozenset({name})


def paid_for(align: GRPOConfig) -> dict[str, str]:
    """Family -> the reward term with a weight that counts it. Length control counts length."""
    paid = {family: term for term in align.paid for family in sorted(families(term))}
    return {**({"length": "length_control"} if align.length_control else {}), **paid}


def panel_names(align: GRPOConfig) -> tuple[str, ...]:
    """The names of the gold panel: ``guard.gold``, else those of :data:`PANEL` that the reward does not pay for.

    Raises ConfigError for a metric of ``guard.gold`` that shares a family with a reward term, for one named twice, and
    when fewer than two of the default metrics are left.
    """
    paid = paid_for(align)
    if align.guard.gold is None:
        left = tuple(name for name in PANEL if not families(name) & paid.keys())
        if len(left) < FEWEST_GOLD:
            raise ConfigError(
                f"the reward pays for {', '.join(sorted(paid))}, which leaves {len(left)} of the guard's own metrics "
                f"({', '.join(PANEL)}). Name others in align.guard.gold, e.g. [bertscore, embedscore], or switch the "
                "guard off: align.guard.every=0"
            )
        return left
    if not align.guard.gold or len(set(align.guard.gold)) < len(align.guard.gold):
        raise ConfigError("align.guard.gold: name at least one metric, and none twice; null takes the default panel")
    for name in align.guard.gold:
        shared = sorted(families(name) & paid.keys())
        if shared:
            raise ConfigError(
                f"align.guard.gold: {name} is no independent judge of this reward: it counts {shared[0]}, and the "
                f"reward pays for that by {paid[shared[0]]}. Name another metric, or null for the default panel"
            )
    return align.guard.gold


def gold_panel(config: RunConfig) -> dict[str, Metric]:
    """The metrics of the gold panel by name, resolved and not yet prepared; none where the guard is switched off.

    Raises ConfigError (see :func:`panel_names`), and for a metric that has no lowest and highest value.
    """
    if not config.grpo.guard.every:
        return {}
    panel = {name: load_metric(name) for name in panel_names(config.grpo)}
    for name, metric in panel.items():
        if not all(math.isfinite(end) for end in _ends(metric)):
            raise ConfigError(
                f"align.guard.gold: {name} has no lowest and highest value, so it makes no mean with others"
            )
    return panel


def panel_values(panel: Mapping[str, Metric], scores: Mapping[str, Sequence[Score]]) -> list[float | None]:
    """The mean over the panel for each case, in [0, 1], higher better; None where no metric scored it.

    ``scores``: metric -> one Score a case. Each value is moved from its metric's bounds to [0, 1] and turned round
    where lower is better. Which metrics score a case follows from its reference (a study without findings has no
    statements), so that looks at the same study compare alike.
    """
    columns = [[unit_value(panel[name], score) for score in found] for name, found in scores.items()]
    cases = [[value for value in row if value is not None] for row in zip(*columns, strict=True)]
    return [math.fsum(known) / len(known) if known else None for known in cases]


def unit_value(metric: Metric, score: Score) -> float | None:
    """A Score's value as a share of the way from the worst to the best of its metric; None when unscored."""
    if score.value is None:
        return None
    low, high = _ends(metric)
    share = min(1.0, max(0.0, (score.value - low) / (high - low)))
    return share if metric.higher_is_better else 1.0 - share


def _ends(metric: Metric) -> tuple[float, float]:
    low, high = getattr(metric, "bounds", (0.0, 1.0))
    return float(low), float(high)


# ---- the alarm -------------------------------------------------------------------------------------------------------

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a policy on the validation studies."""

    step: int
    gold: Mapping[str, float | None]
    """Study -> mean of the panel in [0, 1]; None = unscored."""
    proxy: float | None
    """Mean reward of the same texts; None when none was scored."""
    rollouts: float | None = None
    """Mean reward of the rollouts since the look before; None before the first."""
    kl: float | None = None
    """KL(policy || SFT policy), nats a completion."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict; :meth:`from_json` gives back an equal Look."""
        return {
            "step": self.step,
            "studies": dict(self.gold),
            "proxy": self.proxy,
            "rollouts": self.rollouts,
            "kl": self.kl,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Look:
        """The inverse of :meth:`to_json`; other keys are passed over."""
        return cls(row["step"], row["studies"], row["proxy"], row["rollouts"], row["kl"])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look means. ``difference`` and its standard error are those to the best look before it (None: no such)."""

    best_step: int
    alarm: bool
    stop: bool
    """The alarm, or a KL beyond its limit."""
    why: str | None
    difference: float | None = None
    se: float | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """The looks so far as far as they matter. Frozen; :meth:`see` gives the next one.

    A resumed run goes on exactly by seeing again the looks that were written down.
    """

    fall: float
    """Standard errors that the panel must fall by."""
    kl_stop: float | None = None
    best: Look | None = None
    rollouts: float | None = None
    """Reward of the rollouts at the best look; where that had none, at the look after it."""

    def see(self, look: Look) -> tuple[Watch, Verdict]:
        """The watch after ``look``, and what it means.

        Alarm: the mean over studies of (this look - the best one) lies more than ``fall`` of its standard errors below
        0, while the reward is above that at the best look: on the same texts, or in the rollouts. Either will do: a
        policy that stuffs labels at the temperature of its rollouts may stuff too few in its greedy text. Best is the
        look whose panel no later one exceeded, the earliest of equals; one beyond ``kl_stop`` is never the best. With
        fewer than two studies scored at both looks there is no alarm.
        """
        far = _too_far(look, self.kl_stop)
        if self.best is None:
            return replace(self, best=look, rollouts=look.rollouts), Verdict(look.step, False, far is not None, far)
        difference, se = paired_difference(look.gold, self.best.gold)
        if _fallen(difference, se, self.fall) and (risen := self._risen(look)):
            gold = f"the gold panel lies {-(difference or 0.0):.4f} (standard error {se:.4f}) below its best, at step"
            return self, Verdict(self.best.step, True, True, f"{gold} {self.best.step}, while {risen}", difference, se)
        if difference is not None and difference > _ROUNDING and far is None:
            after = replace(self, best=look, rollouts=look.rollouts)
            return after, Verdict(look.step, False, False, None, difference, se)
        after = self if self.rollouts is not None else replace(self, rollouts=look.rollouts)
        return after, Verdict(self.best.step, False, far is not None, far, difference, se)

    def _risen(self, look: Look) -> str | None:
        """Where the reward is above that at the best look; None when nowhere."""
        then = self.best.proxy if self.best else None
        for where, now, before in (
            ("on the same texts", look.proxy, then),
            ("in the rollouts", look.rollouts, self.rollouts),
        ):
            if now is not None and before is not None and now > before + _ROUNDING:
                return f"the reward rose {where} from {before:.4f} to {now:.4f}"
        return None


def _fallen(difference: float | None, se: float | None, fall: float) -> bool:
    return difference is not None and se is not None and difference < -fall * se - _ROUNDING


def _too_far(look: Look, limit: float | None) -> str | None:
    if limit is None or look.kl is None or look.kl <= limit:
        return None
    return f"KL to the SFT policy is {look.kl:.3g} nats a completion, above align.guard.kl_stop={limit:g}"


def paired_difference(
    now: Mapping[str, float | None], then: Mapping[str, float | None]
) -> tuple[float | None, float | None]:
    """Mean over studies of now - then, and its standard error: their standard deviation over the root of their number.

    Studies that one of the two does not score are left out; (None, None) when fewer than two are left.
    """
    changes = [value - old for key, value in now.items() if value is not None and (old := then.get(key)) is not None]
    if len(changes) < 2:
        return None, None
    return math.fsum(changes) / len(changes), statistics.stdev(changes) / math.sqrt(len(changes))


def mean_and_error(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """The mean of the known values and its standard error; None for what their number does not give."""
    known = [value for value in values if value is not None]
    mean = math.fsum(known) / len(known) if known else None
    return mean, statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else None


# ---- what the texts look like ----------------------------------------------------------------------------------------

TEMPLATES = 10
"""The commonest texts of the training references that count as templates, at most."""
POSITIVES_BAND = 0.1
"""How far the findings stated may be off the radiologists', as a share of theirs, before it is told."""


class TextMonitor:
    """What the texts of a rollout look like beside their references, by rules and counting alone.

    ``references``: training references, of which the commonest are the templates.
    """

    def __init__(self, references: Sequence[str]) -> None:
        self.templates = frozenset(commonest(references, TEMPLATES))

    def __call__(self, cases: Sequence[Case]) -> dict[str, float]:
        """Numbers by name; one that the texts do not give (no positive reference, no word) is left out.

        ``positives_ratio``: findings of CheXpert's 14 stated as present, over those of the references. ``words_ratio``:
        words over the references' words. ``template_share`` and ``template_share_reference``: texts, and references,
        that are templates. ``distinct_1``, ``distinct_2``: different words, and word pairs, over all. Cases without a
        reference are left out of what is held against one.
        """
        texts = [case.candidate for case in cases]
        paired = [(case.candidate, case.reference) for case in cases if case.reference and case.reference.strip()]
        said = [words_of(text) for text in texts]
        found = {
            "positives_ratio": _ratio(*(sum(map(positives, column)) for column in _columns(paired))),
            "words_ratio": _ratio(*(sum(len(text.split()) for text in column) for column in _columns(paired))),
            "template_share": _ratio(sum(words in self.templates for words in said), len(said)),
            "template_share_reference": _ratio(
                sum(words_of(reference) in self.templates for _, reference in paired), len(paired)
            ),
            "distinct_1": distinct(said, 1),
            "distinct_2": distinct(said, 2),
        }
        return {name: value for name, value in found.items() if value is not None}


def strays(monitors: Mapping[str, float]) -> list[str]:
    """The monitors that are outside the range they are watched for: ``positives_ratio`` more than 10 % off 1."""
    ratio = monitors.get("positives_ratio")
    return ["positives_ratio"] if ratio is not None and abs(ratio - 1.0) > POSITIVES_BAND + _ROUNDING else []


@lru_cache(maxsize=1 << 14)
def positives(text: str) -> int:
    """How many of CheXpert's findings a text states as present, by our rules; "no finding" is none of them."""
    labeler = _labeler()
    return sum(
        status is Status.PRESENT and label != labeler.labels.no_finding for label, status in labeler([text])[0].items()
    )


@lru_cache(maxsize=1)
def _labeler() -> RuleLabeler:
    return RuleLabeler("chexpert14")


def _columns(pairs: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [candidate for candidate, _ in pairs], [reference for _, reference in pairs]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
