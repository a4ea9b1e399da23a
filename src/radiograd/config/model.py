"""The policy and how it is fine-tuned."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from radiograd.config.section import Fraction, Positive, Section
from radiograd.tasks import TASKS


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
