"""The ways to align a policy: by a reward, by preferences, by more fine-tuning, not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from radiograd.config.model import FineTuning
from radiograd.config.section import Fraction, Positive, Section
from radiograd.errors import did_you_mean


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
    "diagnostic": {"diagnostic_f1": 1.0},
    "diagnostic_bleu": {"diagnostic_f1": 0.5, "bleu2": 0.5},
}
"""Reward by name -> its terms and weights. hierarchical: RadFlow's eqs. 4 and 5 with gamma 1, read literally: its
consistency term is +1 or -1 and so spans twice what the others do; balanced halves it. diagnostic: DEER's F1;
diagnostic_bleu: what its reward may change to (reward_schedule)."""


def named_reward(value: Any) -> Any:
    """The terms of a preset given by name; anything else as it is. ValueError for a name that is no preset."""
    if not isinstance(value, str):
        return value
    if value not in REWARD_PRESETS:
        raise ValueError(
            f"no reward is called {value!r}.{did_you_mean(value, REWARD_PRESETS)} Or name terms: {{rougeL: 1.0}}"
        )
    return dict(REWARD_PRESETS[value])


def _has_terms(value: dict[str, float]) -> dict[str, float]:
    if not value:
        raise ValueError("name at least one reward term, e.g. {rougeL: 1.0}")
    return value


RewardTerms = Annotated[dict[str, float], BeforeValidator(named_reward), AfterValidator(_has_terms)]
"""Reward term -> weight, or the name of a preset."""


class ScheduleConfig(Section):
    """A second reward that takes over on the way (DEER's optional second phase)."""

    after: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Share of the rollouts after which it takes over."""
    reward: RewardTerms = Field(default_factory=lambda: dict(REWARD_PRESETS["diagnostic_bleu"]))
    """Reward term -> weight, or the name of a preset."""


class TokenWeightConfig(Section):
    """How much of a completion's advantage each of its tokens gets (DEER's DiTPO; its authors give no formulas, what
    is meant here stands in docs/deer.md). The weights of a completion have mean 1 whatever is set here."""

    by: Literal["uniform", "tfidf", "gradient", "combined", "shuffled"] = "uniform"
    """uniform (GRPO), tfidf (rare words of the training references), gradient (what moves the labels of a classifier),
    combined (the mean of both), shuffled (combined, dealt to other tokens of the same completion: the control)."""
    eta: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of uniform weight that is mixed in."""
    low: float = Field(default=0.5, gt=0.0, le=1.0)
    """Least weight of a token."""
    high: float = Field(default=3.0, ge=1.0)
    """Largest weight of a token."""
    labeler: Literal["embedded", "chexbert"] = "embedded"
    """The classifier whose gradient is taken. embedded: trained by the run on its own training reports (stage
    classifier), or one that is there already (labeler_options: {folder: ...})."""
    labeler_options: dict[str, Any] = Field(default_factory=dict)
    """What the labeler is made with. See docs/labels.md."""
    gradient: Literal["input_x_grad", "l2norm", "integrated_gradients"] = "input_x_grad"
    """How the gradient at a word piece becomes one number."""
    epochs: Positive = 3
    """Passes over the training reports when the run trains its own classifier."""
    reports: int | None = Field(default=3000, ge=10)
    """At most this many training reports for it, drawn with the seed (null = all). It trains on the CPU: 3,000 take a
    quarter of an hour on two cores, and every report of a large archive would take days."""
    encoder: str = "minilm"
    """What that classifier is made from: minilm, or the folder of another BERT."""

    @property
    def needs_classifier(self) -> bool:
        """Whether a classifier's gradient is a part of the weights."""
        return self.by in ("gradient", "combined", "shuffled")


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
    keep: Literal["last", "best"] = "last"
    """Which policy a training ends with that was not stopped: the last one, or that of the look at which the panel was
    highest (early stopping on validation studies). One that was stopped always ends with the best."""
    kl_stop: float | None = Field(default=None, gt=0.0)
    """Nats of KL(policy || SFT policy) a completion at which training stops (null = never)."""


class GRPOConfig(Section):
    """Group-relative policy optimisation (arXiv:2402.03300) from the SFT policy."""

    type: Literal["grpo"] = "grpo"
    reward: RewardTerms = Field(default_factory=lambda: {"rougeL": 1.0})
    """Reward term -> weight, or the name of a preset (hierarchical, hierarchical_balanced, diagnostic). Every term is
    logged by itself; the policy sees the weighted mean."""
    reward_schedule: ScheduleConfig | None = None
    """Another reward for the last part of the rollouts (null = the same all the way)."""
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
    token_weight: TokenWeightConfig = TokenWeightConfig()
    """Which tokens the advantage goes to; a name stands for that kind with its defaults."""
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

    @field_validator("token_weight", mode="before")
    @classmethod
    def _weight_by_name(cls, value: Any) -> Any:
        return {"by": value} if isinstance(value, str) else value

    @property
    def terms(self) -> tuple[str, ...]:
        """Every term of the reward, those that only a later phase pays for last."""
        later = () if self.reward_schedule is None else tuple(self.reward_schedule.reward)
        return tuple(dict.fromkeys((*self.reward, *later)))

    @property
    def paid(self) -> tuple[str, ...]:
        """The terms that have a weight above 0 at some time."""
        phases = [self.reward] + ([] if self.reward_schedule is None else [self.reward_schedule.reward])
        return tuple(term for term in self.terms if any(phase.get(term, 0.0) > 0 for phase in phases))

    @property
    def second_phase(self) -> int | None:
        """The first rollout (from 0) that the second reward pays for; None without a schedule."""
        later = self.reward_schedule
        return None if later is None else math.ceil(round(later.after * self.rollouts, 9))

    @model_validator(mode="after")
    def _second_phase_begins(self) -> GRPOConfig:
        if self.second_phase is not None and self.second_phase >= self.rollouts:
            raise ValueError(
                f"reward_schedule: after {self.second_phase} of {self.rollouts} rollouts none is left for the second "
                "reward; lower after, or raise rollouts"
            )
        return self

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


def kind_of_alignment(value: Any) -> str:
    """``align.type`` of a section that is not validated yet."""
    return str(value.get("type", "grpo") if isinstance(value, Mapping) else getattr(value, "type", "grpo"))


AlignConfig = Annotated[
    Annotated[GRPOConfig, Tag("grpo")]
    | Annotated[DPOConfig, Tag("dpo")]
    | Annotated[MoreSFTConfig, Tag("sft")]
    | Annotated[NoAlignConfig, Tag("none")],
    Discriminator(kind_of_alignment),
]
