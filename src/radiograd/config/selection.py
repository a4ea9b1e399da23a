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


SELECTIONS: Mapping[str, type[AllConfig] | type[RandomConfig] | type[HardestConfig]] = {
    "all": AllConfig,
    "random": RandomConfig,
    "hardest": HardestConfig,
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
    | Annotated[HardestConfig, Tag("hardest")],
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
