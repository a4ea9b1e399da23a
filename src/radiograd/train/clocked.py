"""Our trainer and TRL's own on the same rollouts: what ``bench step`` times. Imports TRL: only for that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import TrainerCallback, set_seed
from trl import GRPOTrainer

from radiograd import models
from radiograd.config import RunConfig
from radiograd.prompts import Prompter
from radiograd.rewards import build_reward
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
        reward=build_reward(config.grpo.reward),
        studies={study.study_id: study for study in studies},
        **common,
    )
    return _timed(trainer, config)


def seconds_of_stock(config: RunConfig, studies: Sequence[Study], folder: Path) -> dict[str, Any]:
    """The same of TRL's GRPOTrainer as it comes, with the same arguments and reward."""
    reward = build_reward(config.grpo.reward)
    by_id = {study.study_id: study for study in studies}

    def rouge(completions: Sequence[Any], study_id: Sequence[str], **_: Any) -> list[float]:
        texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        scores = reward([Case(by_id[i], text.strip()) for i, text in zip(study_id, texts, strict=True)])
        return [score.value or 0.0 for score in scores]

    return _timed(GRPOTrainer(reward_funcs=[rouge], **_common(config, studies, folder)), config)


def _common(config: RunConfig, studies: Sequence[Study], folder: Path) -> dict[str, Any]:
    set_seed(config.seed)
    tokenizer = models.load_tokenizer(config.model)
    prompter = Prompter(tokenizer, config.model)
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
