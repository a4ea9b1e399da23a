"""Every knob, its default and its meaning. Strict and frozen: an unknown key is an error with a suggestion.

Order of precedence: defaults here < the YAML file < ``dotted.key=value`` on the command line. Nothing here imports
torch; names (readers, metrics, reward terms) are resolved by :mod:`radiograd.stages` before a model loads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from radiograd.errors import ConfigError, UsageError, did_you_mean
from radiograd.tasks import TASKS
from radiograd.types import POLICIES

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """One part of the configuration."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )


class SplitConfig(Section):
    """How studies are divided. By patient and by group of near-duplicate findings, never by row."""

    val: Fraction = 0.08
    """Share of studies for validation."""
    test: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Share of studies for the held-out test; without one there is nothing to report."""
    near_duplicate: float = Field(default=0.7, gt=0.0, le=1.0)
    """Word Jaccard of two findings at and above which both studies stay in the same split; 1.0 = exact copies only."""
    use_given: bool = False
    """Take the split the source itself names instead of drawing one (leaks are then reported, not mended)."""
    seed: int | None = Field(default=None, ge=0)
    """Draws splits and limits (null = the run's seed). Set it, and runs of several seeds are tested on the same."""

    @model_validator(mode="after")
    def _leaves_train(self) -> SplitConfig:
        if self.val + self.test >= 1.0:
            raise ValueError("val + test must leave something to train on")
        return self


class LimitConfig(Section):
    """At most this many studies of each split (null = all), drawn with the seed. For quick runs."""

    train: Positive | None = None
    val: Positive | None = None
    test: Positive | None = None
    train_per_group: Positive | None = None
    """At most this many studies of one near-duplicate group are trained on (null = all): less template, more findings
    for the same time."""


class SourceConfig(Section):
    """One further source of studies: a site of its own."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the site; put before the ids of its studies and patients."""
    source: str
    """A reader, as in data.source."""
    path: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)


class SitesConfig(Section):
    """Which studies count as one place, and which places are trained on. Every place is tested on."""

    rule: Literal["source", "style"] = "source"
    """source: each source is a site. style: data.source is divided by how its findings are written (data/sites.py)."""
    count: int = Field(default=2, ge=2, le=9)
    """Sites that style makes: style-1 (telegrams) to style-<count> (whole sentences)."""
    train: tuple[str, ...] = ()
    """Sites to train and validate on ([] = all)."""


class DataConfig(Section):
    """Where the studies come from and how they are divided."""

    source: str = "openi"
    """A reader: openi | csv | jsonl | parquet, or your own package.module:function(path, columns) -> studies."""
    path: str | None = None
    """File or folder for the reader. openi: null = the fetched archive."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Study field -> column of your table, e.g. {study_id: accession, findings: Findings, impression: Conclusion}."""
    more: tuple[SourceConfig, ...] = ()
    """Further sources, each a site."""
    sites: SitesConfig = SitesConfig()
    split: SplitConfig = SplitConfig()
    limit: LimitConfig = LimitConfig()

    @property
    def site_names(self) -> tuple[str, ...]:
        """The sites there are, in order; () where there is only one."""
        if self.sites.rule == "style":
            own = tuple(f"style-{number}" for number in range(1, self.sites.count + 1))
        else:
            own = (self.source,)
        names = (*own, *(source.name for source in self.more))
        return names if len(names) > 1 else ()

    @property
    def public(self) -> bool:
        """Whether all reports are the public ones that we fetch; any other is taken for credentialed."""
        return all(source == "openi" for source in (self.source, *(one.source for one in self.more)))

    @model_validator(mode="after")
    def _sites_are_known(self) -> DataConfig:
        names = self.site_names
        if len(set(names)) < len(names):
            raise ValueError(f"two sites have the same name; there are {', '.join(names)}")
        for name in self.sites.train:
            if name not in names:
                known = did_you_mean(name, names) if names else " There is only one site."
                raise ValueError(f"sites.train: no site is called {name!r}.{known}")
        return self


class LoraConfig(Section):
    """Low-rank adapters (PEFT). Scale is alpha / rank; the second factor starts at 0."""

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Fraction = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    """all-linear, or module names such as [q_proj, v_proj]."""


class ModelConfig(Section):
    """The policy. One line changes it."""

    name: str = "smollm2-135m"
    """smollm2-135m (embedded), a hub id, or a local folder of any causal language model."""
    revision: str | None = None
    """Hub revision (commit or tag) to pin."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """auto: bfloat16 where the device computes in it natively, else float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    lora: LoraConfig = LoraConfig()
    system_prompt: str = TASKS["findings_to_impression"].instruction
    """Instruction put before what is shown (as the system turn when the model has a chat template that takes one). For
    task: report the default is that task's."""
    max_prompt_tokens: Positive = 384
    """A longer prompt loses the end of what it shows (findings; with task: report comparison, then indication);
    counted and reported."""


class FineTuning(Section):
    """How supervised fine-tuning is done, wherever it stands in a run."""

    epochs: float = Field(default=1.0, gt=0.0)
    lr: float = Field(default=5e-4, gt=0.0)
    warmup: Fraction = 0.05
    """Share of the steps over which the learning rate rises; it then falls along a cosine to a tenth."""
    batch_size: Positive = 16
    """Studies per optimiser step."""
    micro_batch: Positive = 8
    """Studies per forward pass; batch_size must be a multiple."""
    loss_reduction: Literal["token_mean", "sequence_sum"] = "token_mean"
    """token_mean, or sequence_sum (the RGRO paper's formula)."""
    checkpoint_every: Positive = 50
    """Optimiser steps between checkpoints."""

    @model_validator(mode="after")
    def _divides(self) -> FineTuning:
        if self.batch_size % self.micro_batch:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of micro_batch {self.micro_batch}")
        return self


class SFTConfig(FineTuning):
    """Supervised fine-tuning on prompt -> reference; loss on the reference only."""

    fraction: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of the training studies to fine-tune on; below 1, alignment works on the others (else on all)."""


class SamplerConfig(Section):
    """Who writes the completions of a rollout."""

    engine: Literal["builtin", "vllm", "vllm_server"] = "builtin"
    """builtin (the policy itself), vllm (in the training process, on its GPU), vllm_server (one that reads the same
    disk). vLLM gets the adapter alone and caches shared prompts; log-probabilities are computed here all the same."""
    url: str = Field(default="http://127.0.0.1:8000", pattern=r"^https?://")
    """Address of the server. Prompts go there: for text that may not leave the building, one in the building."""
    gpu_memory: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of the GPU's memory that vLLM in the training process takes."""
    timeout_s: float = Field(default=600.0, gt=0.0)
    """Longest wait for the completions of a rollout."""


REWARD_PRESETS: Mapping[str, Mapping[str, float]] = {
    "hierarchical": {"syntax": 1.0, "domain": 1.0, "consistent": 1.0, "impression_f1": 1.0},
    "hierarchical_balanced": {"syntax": 1.0, "domain": 1.0, "consistent": 0.5, "impression_f1": 1.0},
}
"""Reward by name -> its terms and weights. hierarchical: RadFlow's eqs. 4 and 5 with gamma 1, read literally: its
consistency term is +1 or -1 and so spans twice what the others do; balanced halves it."""


class GuardConfig(Section):
    """What watches a policy while it is optimised: metrics that are no part of its reward, on validation studies."""

    every: int = Field(default=10, ge=0)
    """Rollouts between looks; 0 = nobody looks."""
    studies: Positive = 64
    """Validation studies that are looked at, drawn with the seed at their natural prevalence."""
    gold: tuple[str, ...] | None = None
    """Metrics of the panel (null = those of monitor.PANEL that share nothing with the reward)."""
    fall: float = Field(default=3.0, gt=0.0)
    """Standard errors by which the panel may fall below its best while the reward rises. With 1, two of three healthy
    runs of four looks would be stopped by chance; with 3, one in ninety (docs/decisions/0012)."""
    kl_stop: float | None = Field(default=None, gt=0.0)
    """Nats of KL(policy || SFT policy) a completion at which training stops (null = never)."""


class GRPOConfig(Section):
    """Group-relative policy optimisation (arXiv:2402.03300) from the SFT policy."""

    type: Literal["grpo"] = "grpo"
    reward: dict[str, float] = Field(default_factory=lambda: {"rougeL": 1.0})
    """Reward term -> weight, or the name of a preset (hierarchical, hierarchical_balanced). Every term is logged by
    itself; the policy sees the weighted mean."""
    combine: Literal["mean", "worst", "mean_less_spread"] = "mean"
    """How the terms become one number: their weighted mean, the lowest of them, or the mean less spread x their
    standard deviation (weighted terms are then an ensemble that must agree)."""
    spread: float = Field(default=1.0, ge=0.0)
    """Standard deviations taken off by mean_less_spread."""
    format_penalty: float = Field(default=0.5, ge=0.0)
    """Taken off a report whose missing or ambiguous headers make a term skip it; the term itself gets the mean of its
    group, so that skipping never pays."""
    length_control: bool = False
    """Divide the reward by max(1, words / words of the reference)."""
    judge: str = "rules"
    """Who answers for the term consistent: rules, another judge by name, or your own package.module:name."""
    judge_options: dict[str, Any] = Field(default_factory=dict)
    """What the judge is made with: model, base_url, temperature, ... See docs/judges.md."""
    rollouts: Positive = 40
    """Times fresh completions are sampled."""
    prompts: Positive = 4
    """Studies per rollout (P)."""
    group_size: int = Field(default=8, ge=2)
    """Completions per study (G)."""
    updates_per_rollout: Positive = 2
    """Optimiser steps on each rollout. With 1 the ratio is exactly 1 and the clip range does nothing."""
    lr: float = Field(default=1e-4, gt=0.0)
    warmup: Fraction = 0.1
    beta: float = Field(default=0.01, ge=0.0)
    """Weight of the k3 estimate of KL(policy || SFT policy)."""
    eps: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Clip half-width of the probability ratio."""
    clip: Literal["constant", "critical"] = "constant"
    """constant: eps for every case; critical: eps / clip_factor where the reference is critical (RadFlow's CAPO)."""
    clip_factor: float = Field(default=4.0, ge=1.0)
    """How much narrower the clip range of a critical case is."""
    guard: GuardConfig = GuardConfig()
    temperature: float = Field(default=1.0, gt=0.0)
    """Sampling temperature. No top-p or top-k: they bias the log-probabilities."""
    sampler: SamplerConfig = SamplerConfig()
    max_new_tokens: Positive = 64
    micro_batch: Positive = 32
    """Completions per forward pass; prompts * group_size must be a multiple."""
    checkpoint_every: Positive = 10
    """Rollouts between checkpoints (a checkpoint never falls inside a rollout)."""
    log_rollouts_every: Positive = 10
    """Rollouts between samples written to rollouts/."""

    @field_validator("reward", mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in REWARD_PRESETS:
            raise ValueError(
                f"no reward is called {value!r}.{did_you_mean(value, REWARD_PRESETS)} Or name terms: {{rougeL: 1.0}}"
            )
        return dict(REWARD_PRESETS[value])

    @field_validator("reward")
    @classmethod
    def _has_terms(cls, value: dict[str, float]) -> dict[str, float]:
        if not value:
            raise ValueError("name at least one reward term, e.g. {rougeL: 1.0}")
        return value

    @model_validator(mode="after")
    def _clip_acts(self) -> GRPOConfig:
        if self.clip == "critical" and self.updates_per_rollout < 2:
            raise ValueError(
                "clip: critical does nothing with updates_per_rollout 1: the ratio of a policy to itself is 1. "
                "Set updates_per_rollout to 2 or more, or clip: constant"
            )
        return self

    @model_validator(mode="after")
    def _divides(self) -> GRPOConfig:
        if (self.prompts * self.group_size) % self.micro_batch:
            raise ValueError(
                f"prompts * group_size = {self.prompts * self.group_size} is not a multiple of "
                f"micro_batch {self.micro_batch}"
            )
        return self


class ImportConfig(Section):
    """Preferences of radiologists, to be mixed with the pairs that a run makes itself."""

    path: str
    """CSV (.csv, with a header) or JSON lines (.jsonl), plain or .gz. Columns: docs/rgro.md."""
    kind: Literal["expert", "edits"]
    """expert: which of two impressions a radiologist preferred; edits: a draft and what it was corrected to."""
    weight: float = Field(default=1.0, gt=0.0)
    """How often each of them counts; multiplied with a weight column when there is one."""


class DPOConfig(Section):
    """Direct preference optimisation (arXiv:2305.18290) from the SFT policy, on pairs.jsonl; RGRO's second step."""

    type: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0.0)
    """How strongly the policy is held to the SFT policy; it also scales the implicit reward."""
    length_normalised: bool = False
    """Compare the mean log-probability of a token instead of their sum (arXiv:2411.15124). beta is then larger: 5."""
    anchor: Literal["none", "sft", "dpop"] = "none"
    """What keeps chosen from becoming unlikely: none (the paper's loss), sft (plus the negative log-likelihood of
    chosen, per token; arXiv:2404.19733) or dpop (minus what chosen has lost, inside the sigmoid; arXiv:2402.13228)."""
    anchor_weight: float = Field(default=1.0, gt=0.0)
    """Weight of the anchor: alpha of sft, lambda of dpop (whose paper takes up to 50). Without an anchor unused."""
    epochs: float = Field(default=1.0, gt=0.0)
    """Passes over the pairs, in each round."""
    lr: float = Field(default=5e-5, gt=0.0)
    warmup: Fraction = 0.1
    """Share of the steps over which the learning rate rises; it then falls along a cosine to a tenth."""
    batch_size: Positive = 16
    """Pairs per optimiser step."""
    micro_batch: Positive = 8
    """Pairs per forward pass; batch_size must be a multiple."""
    rounds: Positive = 1
    """Times pairs are made and trained on. Each round samples from the newest policy; the reference stays SFT."""
    checkpoint_every: Positive = 20
    """Optimiser steps between checkpoints."""
    drift_alarm: float = Field(default=0.5, gt=0.0)
    """Nats a token by which chosen may fall below the SFT policy, in the mean of a step, before it is told."""
    candidates: int = Field(default=2, ge=2)
    """Impressions sampled for each study, of which the judge takes a loser."""
    prompts: int | None = Field(default=None, ge=0)
    """Studies that pairs are made for, in each round (null = all that alignment may use; 0 = none, imports alone)."""
    temperature: float = Field(default=1.0, gt=0.0)
    """Sampling temperature of the candidates."""
    max_new_tokens: Positive = 64
    chosen_source: Literal["reference", "judge_winner"] = "reference"
    """The better side of a pair: the radiologist's own impression (the paper), or the candidate that the judge took."""
    rejected_source: Literal["judge_loser", "both", "random"] = "judge_loser"
    """The worse side: the candidate that the judge found worse, every candidate, or one drawn without a judge."""
    judge: str = "rules"
    """Who compares candidates: rules, another judge by name, or your own package.module:name."""
    judge_options: dict[str, Any] = Field(default_factory=dict)
    """What the judge is made with: model, base_url, temperature, ... See docs/judges.md."""
    judge_sees_reference: bool = True
    """Whether the judge is shown the radiologist's own impression."""
    max_unscored: float = Field(default=0.2, ge=0.0, le=1.0)
    """Share of the studies that the judge may leave unscored before the run stops. A tie is an answer."""
    imports: tuple[ImportConfig, ...] = ()
    """Files of expert preferences and of edits, mixed into the pairs of every round."""

    @model_validator(mode="after")
    def _divides(self) -> DPOConfig:
        if self.batch_size % self.micro_batch:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of micro_batch {self.micro_batch}")
        if self.chosen_source == "judge_winner" and self.rejected_source != "judge_loser":
            raise ValueError(
                f"rejected_source {self.rejected_source} would reject the judge's own winner; "
                "chosen_source: judge_winner needs rejected_source: judge_loser"
            )
        if self.prompts == 0 and not self.imports:
            raise ValueError("prompts 0 makes no pairs; name files in imports, or give prompts a number")
        return self


class MoreSFTConfig(FineTuning):
    """More supervised fine-tuning, on the studies that are left to alignment: the control that sees what it sees.

    A fresh adapter on the SFT policy, like every other alignment.
    """

    type: Literal["sft"] = "sft"


class NoAlignConfig(Section):
    """No alignment: the run ends with the SFT policy."""

    type: Literal["none"] = "none"


ALIGNMENTS: Mapping[str, type[GRPOConfig] | type[DPOConfig] | type[MoreSFTConfig] | type[NoAlignConfig]] = {
    "grpo": GRPOConfig,
    "dpo": DPOConfig,
    "sft": MoreSFTConfig,
    "none": NoAlignConfig,
}
"""``align.type`` -> what ``align`` then holds. Without a type it is grpo."""


def _kind_of_alignment(value: Any) -> str:
    return str(value.get("type", "grpo") if isinstance(value, Mapping) else getattr(value, "type", "grpo"))


AlignConfig = Annotated[
    Annotated[GRPOConfig, Tag("grpo")]
    | Annotated[DPOConfig, Tag("dpo")]
    | Annotated[MoreSFTConfig, Tag("sft")]
    | Annotated[NoAlignConfig, Tag("none")],
    Discriminator(_kind_of_alignment),
]


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


def _kind_of_selection(value: Any) -> str:
    return str(value.get("by", "all") if isinstance(value, Mapping) else getattr(value, "by", value))


def _named_selection(value: Any) -> Any:
    return {"by": value} if isinstance(value, str) else value


SelectConfig = Annotated[
    Annotated[AllConfig, Tag("all")]
    | Annotated[RandomConfig, Tag("random")]
    | Annotated[HardestConfig, Tag("hardest")],
    Discriminator(_kind_of_selection),
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


class GenerateConfig(Section):
    """Greedy texts for held-out studies."""

    batch_size: Positive = 64
    max_new_tokens: Positive = 64


class EvaluateConfig(Section):
    """What the table holds."""

    metrics: tuple[str, ...] = (
        *("fidelity", "label_f1_14", "label_f1_5", "factgraph_partial"),
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
                *("report_format", "fidelity", "label_f1_14", "label_f1_5", "impression/label_f1_14"),
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
        if name == "align" and _kind_of_alignment(part) not in ("grpo", "dpo"):
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
        return _named_selection(value)

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
        """The terms of the run's reward and their weights; None when it is aligned without one."""
        return self.align.reward if isinstance(self.align, GRPOConfig) else None


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in a YAML or JSON file with ``dotted.key=value`` overrides applied.

    ``path`` may also be the bare name of a shipped configuration (``quickstart``). Raises ConfigError naming the file,
    the key and the nearest known key.
    """
    path = shipped(str(path)) or Path(path)
    names = ", ".join(sorted(p.stem for p in SHIPPED_CONFIGS.glob("*.yaml")))
    values = read_values(path, f"no such configuration file or run folder. Shipped by name: {names}")
    for override in overrides:
        apply_override(values, override)
    return parse_config(values, f"{path} with overrides" if overrides else str(path))


def read_values(path: Path, missing: str) -> dict[str, Any]:
    """The keys and values of a YAML or JSON file. ConfigError naming file and line, and ``missing`` when there is no
    such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: {missing}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder, not a configuration file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where} is not valid YAML: {problem}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


SHIPPED_CONFIGS = Path(__file__).parent / "configs"


def shipped(name: str) -> Path | None:
    """The path of the shipped configuration called ``name`` (with or without ``configs/`` and ``.yaml``), or None."""
    if Path(name).is_file():
        return None
    candidate = SHIPPED_CONFIGS / (Path(name).name.removesuffix(".yaml") + ".yaml")
    known = Path(name).parent in (Path(), Path("configs"))
    return candidate if known and candidate.exists() else None


def parse_config(values: Mapping[str, Any], where: str) -> RunConfig:
    """``values`` as a RunConfig; ConfigError with every wrong key of ``where``, one line."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(e) for e in error.errors())) from None


def digest(config: RunConfig) -> str:
    """Twelve hex digits that change when anything that can change a result changes (the name cannot)."""
    values = config.model_dump(mode="json", exclude={"name"})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def difference(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``key: old -> new`` for every leaf that differs between two dumped configurations."""
    lines: list[str] = []
    for key in sorted(a.keys() | b.keys()):
        old, new = a.get(key), b.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += difference(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: {json.dumps(old)} -> {json.dumps(new)}")
    return lines


def apply_override(values: dict[str, Any], override: str) -> None:
    """Put one ``dotted.key=value`` into nested ``values``; UsageError when it is not of that form.

    The value is YAML. What YAML 1.1 takes for text but a number is asked for (1e-4) becomes one in validation.
    """
    key, equals, raw = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UsageError(f"override {override!r} is not of the form dotted.key=value, e.g. sft.lr=0.0003")
    try:
        value = yaml.safe_load(raw) if raw else None
    except (yaml.YAMLError, ValueError):
        raise UsageError(f"override {key!r}: its value is not valid YAML; put it in quotes") from None
    *parents, leaf = key.split(".")
    for parent in parents:
        values = keys_of(values, parent)
        if not isinstance(values, dict):
            raise UsageError(f"override {key!r}: {parent!r} holds a value, not keys")
    values[leaf] = value


def keys_of(values: dict[str, Any], part: str) -> Any:
    """What ``values`` holds under ``part``, made when it is not there; ``select: random`` becomes ``{by: random}``."""
    if part == "select" and isinstance(values.get(part), str):
        values[part] = {"by": values[part]}
    return values.setdefault(part, {})


_UNIONS: Mapping[str, Mapping[str, type[Section]]] = {"align": ALIGNMENTS, "select": SELECTIONS}
_TAGS = {"align": ("type", "alignment"), "select": ("by", "selection")}


def _explain(error: Any) -> str:
    location = [str(part) for part in error["loc"]] or [""]
    known = _UNIONS.get(location[0], {})
    if error["type"] == "union_tag_invalid":
        tag, (discriminator, what) = error["ctx"]["tag"], _TAGS[location[0]]
        return f"{'.'.join(location)}.{discriminator}: no {what} is called {tag!r}.{did_you_mean(tag, known)}"
    member: Any = None
    if known and len(location) > 1:
        member = known[location.pop(1)]  # behind the union's key, pydantic names its member: that is no key
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        others = [n for n, other in known.items() if member not in (None, other) and location[1] in other.model_fields]
        if others and len(location) == 2:
            return f"unknown key {key!r}: it belongs to {location[0]}.{_TAGS[location[0]][0]}={others[0]}"
        return f"unknown key {key!r}.{did_you_mean(location[-1], _known_keys(location[:-1], member))}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_type" and isinstance(error["input"], (int, float, date)):
        message += "; put it in quotes"
    return f"{key}: {message}" if key else message


def _known_keys(location: Iterable[str], member: Any) -> list[str]:
    model: Any = RunConfig
    for part in location:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is None:
            return []
        model = member if model is RunConfig and part in _UNIONS else field.annotation
    return list(getattr(model, "model_fields", {}))
