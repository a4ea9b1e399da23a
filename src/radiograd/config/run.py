"""The configuration of one run, whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from radiograd.config.alignment import (
    AlignConfig,
    DPOConfig,
    GRPOConfig,
    MoreSFTConfig,
    NoAlignConfig,
    kind_of_alignment,
)
from radiograd.config.data import DataConfig
from radiograd.config.model import ModelConfig, SFTConfig
from radiograd.config.section import Positive, Section
from radiograd.config.selection import AllConfig, CriticalityConfig, SelectConfig, named_selection
from radiograd.errors import ConfigError
from radiograd.tasks import TASKS
from radiograd.types import POLICIES


class GenerateConfig(Section):
    """Greedy texts for held-out studies."""

    batch_size: Positive = 64
    max_new_tokens: Positive = 64


class EvaluateConfig(Section):
    """What the table holds."""

    metrics: tuple[str, ...] = (
        *("fidelity", "consistency", "label_f1_14", "label_f1_5", "factgraph_partial"),
        *("rouge1", "rouge2", "rougeL", "bleu2", "bleu4", "length_ratio"),
    )
    """What is said, then how it is worded."""
    baselines: tuple[str, ...] = ("constant", "retrieval", "other_patient", "copy_findings")
    resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples, drawn by patient."""


JUDGES_OF_IMPRESSIONS = ("chat", "local")
"""Their prompts ask which of two impressions is better, so they are not asked about whole reports."""

TASK_DEFAULTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "report": {
        "model": {"system_prompt": TASKS["report"].instruction},
        "align": {"max_new_tokens": 192},
        "generate": {"max_new_tokens": 192},
        "evaluate": {
            "metrics": (
                *("report_format", "fidelity", "consistency"),
                *("label_f1_14", "label_f1_5", "impression/label_f1_14"),
                *("factgraph_partial", "findings/factgraph_partial"),
                *("rouge1", "rouge2", "rougeL", "bleu2", "bleu4", "length_ratio"),
            ),
            "baselines": ("constant", "retrieval", "other_patient"),
        },
    }
}
"""``task`` -> part of the configuration -> defaults that are others there. 192 tokens hold 99.5 % of
OpenI's reports."""


def _with_task_defaults(values: Any) -> Any:
    """``values`` of a run with the defaults of its task where it gives none itself."""
    if not isinstance(values, Mapping) or not isinstance(values.get("task"), str):
        return values
    filled = dict(values)
    for name, defaults in TASK_DEFAULTS.get(values["task"], {}).items():
        part = values.get(name, {})
        if name == "align" and kind_of_alignment(part) not in ("grpo", "dpo"):
            continue  # fine-tuning samples nothing
        if isinstance(part, Mapping):
            filled[name] = {**defaults, **part}
        elif isinstance(part, Section):
            own = part.model_fields_set
            filled[name] = part.model_copy(update={key: v for key, v in defaults.items() if key not in own})
    return filled


class RunConfig(Section):
    """One experiment, from reports to the page."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run folder."""
    seed: int = Field(default=7, ge=0)
    task: Literal["findings_to_impression", "report"] = "findings_to_impression"
    """findings_to_impression, or report: indication and comparison -> findings and impression. Changes the defaults
    named in TASK_DEFAULTS."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    sft: SFTConfig = SFTConfig()
    select: SelectConfig = AllConfig()
    criticality: CriticalityConfig = CriticalityConfig()
    align: AlignConfig = GRPOConfig()
    generate: GenerateConfig = GenerateConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_task(cls, values: Any) -> Any:
        return _with_task_defaults(values)

    @model_validator(mode="after")
    def _baselines_fit_the_task(self) -> RunConfig:
        if self.section == "report" and "copy_findings" in self.evaluate.baselines:
            raise ValueError(
                "evaluate.baselines: copy_findings repeats the findings, which a report is yet to say; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _pairs_fit_the_task(self) -> RunConfig:
        if self.section != "report" or not isinstance(self.align, DPOConfig):
            return self
        if self.align.imports:
            raise ValueError("align.imports hold impressions, and task: report writes whole reports; leave them out")
        if self.align.rejected_source == "judge_loser" and self.align.judge in JUDGES_OF_IMPRESSIONS:
            raise ValueError(
                f"align.judge {self.align.judge} is asked about impressions; for task: report set align.judge: rules, "
                "or align.rejected_source: random"
            )
        return self

    @field_validator("select", mode="before")
    @classmethod
    def _select_by_name(cls, value: Any) -> Any:
        return named_selection(value)

    @property
    def section(self) -> Literal["impression", "report"]:
        """What the policy writes and is held against: a name that ``Case.section`` takes."""
        return "report" if self.task == "report" else "impression"

    @property
    def asks_criticality(self) -> bool:
        """Whether studies are annotated as critical or not before they are aligned on."""
        critical = isinstance(self.align, GRPOConfig) and self.align.clip == "critical"
        return critical or (self.select.by != "all" and self.align.type != "none")

    @property
    def trains_classifier(self) -> bool:
        """Whether the run trains an embedded labeler of its own, for the gradient part of token weights."""
        if not isinstance(self.align, GRPOConfig):
            return False
        weight = self.align.token_weight
        return weight.needs_classifier and weight.labeler == "embedded" and "folder" not in weight.labeler_options

    @property
    def split_seed(self) -> int:
        """What splits and limits are drawn with."""
        return self.seed if self.data.split.seed is None else self.data.split.seed

    @property
    def grpo(self) -> GRPOConfig:
        """``align`` of a run that is aligned by GRPO; ConfigError for another."""
        if not isinstance(self.align, GRPOConfig):
            raise ConfigError(f"align.type is {self.align.type}, not grpo; set align.type=grpo")
        return self.align

    @property
    def dpo(self) -> DPOConfig:
        """``align`` of a run that is aligned by DPO; ConfigError for another."""
        if not isinstance(self.align, DPOConfig):
            raise ConfigError(f"align.type is {self.align.type}, not dpo; set align.type=dpo")
        return self.align

    @property
    def more_sft(self) -> MoreSFTConfig:
        """``align`` of a run whose alignment is more fine-tuning; ConfigError for another."""
        if not isinstance(self.align, MoreSFTConfig):
            raise ConfigError(f"align.type is {self.align.type}, not sft; set align.type=sft")
        return self.align

    @property
    def policies(self) -> tuple[str, ...]:
        """The rows that models of the run write: ``sft`` and, unless it ends there, ``aligned``."""
        return POLICIES[:1] if isinstance(self.align, NoAlignConfig) else POLICIES

    @property
    def reward(self) -> Mapping[str, float] | None:
        """The terms of the run's reward and their weights, of its last phase where it has two (what it is evaluated
        by); None when it is aligned without one."""
        if not isinstance(self.align, GRPOConfig):
            return None
        return self.align.reward if self.align.reward_schedule is None else self.align.reward_schedule.reward
