"""TRL as it comes, for ``bench`` to time beside ours: its scoring of a rollout, and its trainer on the same rollouts.

As it comes: attention is what transformers chooses, LoRA is PEFT's, and bfloat16 is TRL's own setting (autocast).
Gradient checkpointing, which TRL turns on by itself, is off: it would cost stock a third of its speed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import TrainerCallback, set_seed
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from radiograd import models
from radiograd.config import ModelConfig, RunConfig
from radiograd.prompts import Prompter
from radiograd.rewards import reward_of
from radiograd.runs import Run
from radiograd.train import settings
from radiograd.train.grpo import PolicyTrainer, arguments
from radiograd.train.order import distinct_batches
from radiograd.types import Case, Study


class _Clock(TrainerCallback):  # type: ignore[misc]
    """When each optimiser step ended."""

    def __init__(self) -> None:
        self.ends = [time.perf_counter()]

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.ends = [time.perf_counter()]

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def seconds_of_ours(config: RunConfig, studies: Sequence[Study], folder: Path) -> dict[str, Any]:
    """Seconds per rollout of our trainer, the share of its parts, and what it computed on."""
    common = _common(config, studies, folder)
    trainer = PolicyTrainer(
        run=Run(folder, config),
        reward=reward_of(config),
        studies={study.study_id: study for study in studies},
        **common,
    )
    return _timed(trainer, config)


def seconds_of_stock(config: RunConfig, studies: Sequence[Study], folder: Path) -> dict[str, Any]:
    """The same of TRL's GRPOTrainer as it comes, with the same arguments and reward."""
    reward = reward_of(config)
    by_id = {study.study_id: study for study in studies}

    def rouge(completions: Sequence[Any], study_id: Sequence[str], **_: Any) -> list[float]:
        texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        scores = reward([Case(by_id[i], text.strip()) for i, text in zip(study_id, texts, strict=True)])
        return [score.value or 0.0 for score in scores]

    common = _common(config, studies, folder)
    common["model"] = as_it_comes(common["model"])
    common["args"].bf16 = common["model"].dtype == torch.bfloat16
    return _timed(GRPOTrainer(reward_funcs=[rouge], **common), config)


def as_it_comes(model: Any) -> Any:
    """``model`` with the attention that transformers would choose."""
    model.set_attn_implementation("sdpa")
    return model


def stock_scorer(model: Any, config: ModelConfig) -> tuple[Any, Callable[..., Any]]:
    """A policy as TRL makes it of ``model``, and how TRL scores completions with it: (prompts, their mask, completions,
    their mask), each (B, .), to log-probabilities (B, T)."""
    model = as_it_comes(model)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    policy = get_peft_model(model, models.lora_config(config.lora)).train()

    def score(prompts: Any, prompt_mask: Any, ids: Any, mask: Any) -> Any:
        whole, attention = torch.cat([prompts, ids], 1), torch.cat([prompt_mask, mask], 1)
        labels = whole.masked_fill(attention == 0, -100)
        labels[:, : prompts.shape[1]] = -100
        with models.precision(policy):
            outputs = policy(input_ids=whole, attention_mask=attention, labels=labels, fused_lm_head=True)
        return outputs.log_probs[:, -ids.shape[1] :]

    return policy, score


def _common(config: RunConfig, studies: Sequence[Study], folder: Path) -> dict[str, Any]:
    set_seed(config.seed)
    tokenizer = models.load_tokenizer(config.model)
    prompter = Prompter(tokenizer, config.model, config.task)
    prompts = [prompter.prompt(study) for study in studies]
    rng = np.random.default_rng(config.seed)
    order = distinct_batches(len(studies), config.grpo.prompts, config.grpo.rollouts, rng)
    args = settings.one_device(arguments(config, folder / "checkpoints"))
    args.save_strategy = "no"
    return {
        "model": models.load_policy(config.model),
        "args": args,
        "train_dataset": Dataset.from_list(
            [{"prompt": prompts[i].content, "study_id": prompts[i].study_id} for i in order]
        ),
        "processing_class": tokenizer,
        "peft_config": models.lora_config(config.model.lora),
    }


def _timed(trainer: Any, config: RunConfig) -> dict[str, Any]:
    clock = _Clock()
    trainer.add_callback(clock)
    settings.quiet(trainer)
    settings.forget_peak()
    trainer.train()
    updates = config.grpo.updates_per_rollout
    rollouts = [b - a for a, b in zip(clock.ends[::updates], clock.ends[updates::updates], strict=False)][1:]
    logs = trainer.state.log_history
    lengths = [row["completions/mean_length"] for row in logs if "completions/mean_length" in row]
    found: dict[str, Any] = {
        "seconds_per_rollout": round(float(np.median(rollouts)), 3),
        "peak_gib": round(settings.peak_bytes() / 2**30, 2),
        "tokens_mean": round(float(np.mean(lengths)), 1) if lengths else None,
        "device": str(trainer.model.device),
        "dtype": str(next(trainer.model.parameters()).dtype),
    }
    parts = {name: [row[name] for row in logs if name in row] for name in ("seconds/sampling", "seconds/reward")}
    if any(parts.values()):
        found["parts"] = {name.partition("/")[2]: round(float(np.median(v)), 3) for name, v in parts.items() if v}
    return found
