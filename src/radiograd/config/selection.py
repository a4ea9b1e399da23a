"""Which studies are aligned on, and which of them are critical."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from radiograd.config.section import Section


class AllConfig(Section):
    """Align on every study that alignment may use."""

    by: Literal["all"] = "all"


class RandomConfig(Section):
    """Align on a draw: the control of every selection."""

    by: Literal["random"] = "random"
    share: float = Field(default=0.1, gt=0.0, le=1.0)
    """Share of the studies that alignment may use."""


class HardestConfig(Section):
    """Align on the studies that the fine-tuned model is worst at (RadFlow's target exploration, section 4.1)."""

    by: Literal["hardest"] = "hardest"
    share: float = Field(default=0.1, gt=0.0, le=1.0)
    """Share of the studies that alignment may use, from the bottom (the paper's bottom-k%)."""
    threshold: float | None = None
    """Instead of the share: every study whose combined score is below this (the paper's tau)."""
    metrics: dict[str, float] = Field(
        default_factory=lambda: {"bleu2": 1.0, "bertscore": 1.0, "factgraph_partial": 1.0}
    )
    """Metric -> weight in the combined score."""
    normalise: Literal["rank", "zscore", "minmax"] = "rank"
    """What each metric goes through before they are added: its rank in [0, 1], z-score, or position from min to max."""
    folds: int = Field(default=0, ge=0)
    """Fine-tune this many models, each without one part of the studies, and predict each part with the model that has
    not seen it (0 = predict with the run's own SFT model, which has memorised its training studies)."""

    @model_validator(mode="after")
    def _can_rank(self) -> HardestConfig:
        if not any(self.metrics.values()) or min(self.metrics.values()) < 0:
            raise ValueError("metrics: give weights of 0 or more, at least one above 0")
        if self.folds == 1:
            raise ValueError("folds: 0, or 2 and more; one part would leave nothing to fine-tune on")
        return self


class SampledConfig(Section):
    """What selections have in common that look at several completions of the fine-tuned model for each study."""

    share: float = Field(default=0.2, gt=0.0, le=1.0)
    """Share of the studies that alignment may use (the paper's 20 %)."""
    rollouts: int = Field(default=8, ge=2)
    """Completions that the fine-tuned model samples for each study (K)."""
    temperature: float = Field(default=1.0, gt=0.0)
    """Sampling temperature of those completions."""

    @property
    def samples(self) -> bool:
        """Whether completions are sampled at all."""
        return True


class DiverseConfig(SampledConfig):
    """Align on studies that the fine-tuned model is unsure of and that together hold many findings: our reading of
    DEER's DDSampling, for which its authors give no formulas (docs/decisions/0013)."""

    by: Literal["diverse"] = "diverse"
    mode: Literal["both", "reference_labels", "rollout_labels"] = "both"
    """What counts: the labels of the references (coverage), those of the completions (uncertainty), or both.
    reference_labels samples nothing."""
    coverage: float = Field(default=0.1, ge=0.0)
    """Weight of the coverage of labels and their combinations against the uncertainty (lambda), in mode both. 0 = none;
    from about 1 on the uncertainty hardly counts."""
    signatures: float = Field(default=0.1, ge=0.0)
    """Within coverage, weight of distinct combinations of labels against single labels (eta)."""
    min_std: float = Field(default=0.02, ge=0.0)
    """Least standard deviation of the diagnostic F1 over the completions of a study: below it a group teaches
    nothing."""
    words: tuple[int, int] = (5, 300)
    """Fewest and most words of the findings."""
    normal: tuple[float, float] = (0.1, 0.5)
    """Least and largest share of studies without any finding among the chosen, where there are enough of them."""

    @property
    def samples(self) -> bool:
        """Whether completions are sampled at all."""
        return self.mode != "reference_labels"

    @model_validator(mode="after")
    def _in_order(self) -> DiverseConfig:
        if not 0 <= self.words[0] <= self.words[1]:
            raise ValueError("words: give the fewest and the most, e.g. [5, 300]")
        if not 0 <= self.normal[0] <= self.normal[1] <= 1:
            raise ValueError("normal: give the least and the largest share, from 0 to 1, e.g. [0.1, 0.5]")
        return self


class RewardStdConfig(SampledConfig):
    """Align on the studies whose completions differ most in diagnostic F1: a baseline of the other selections."""

    by: Literal["reward_std"] = "reward_std"


SELECTIONS: Mapping[
    str, type[AllConfig] | type[RandomConfig] | type[HardestConfig] | type[DiverseConfig] | type[RewardStdConfig]
] = {
    "all": AllConfig,
    "random": RandomConfig,
    "hardest": HardestConfig,
    "diverse": DiverseConfig,
    "reward_std": RewardStdConfig,
}
"""``select.by`` -> what ``select`` then holds. ``select: hardest`` alone is that one with its defaults."""


def kind_of_selection(value: Any) -> str:
    """``select.by`` of a section that is not validated yet."""
    return str(value.get("by", "all") if isinstance(value, Mapping) else getattr(value, "by", value))


def named_selection(value: Any) -> Any:
    """``select: hardest`` -> ``{by: hardest}``; anything else as it is."""
    return {"by": value} if isinstance(value, str) else value


SelectConfig = Annotated[
    Annotated[AllConfig, Tag("all")]
    | Annotated[RandomConfig, Tag("random")]
    | Annotated[HardestConfig, Tag("hardest")]
    | Annotated[DiverseConfig, Tag("diverse")]
    | Annotated[RewardStdConfig, Tag("reward_std")],
    Discriminator(kind_of_selection),
]


class CriticalityConfig(Section):
    """What makes a reference report critical. Asked once, before training."""

    source: Literal["judge", "labels", "urgent_list"] = "judge"
    """judge: does it describe any abnormal, pathological or clinically significant finding (the paper's question);
    labels: does it state a finding as present or uncertain, by our rules; urgent_list: one of those that cannot wait
    (pneumothorax, large effusion, misplaced tube, ...)."""
    judge: str = "rules"
    """Who answers: rules, another judge by name, or your own package.module:name."""
    judge_options: dict[str, Any] = Field(default_factory=dict)
    """What the judge is made with. See docs/judges.md."""
