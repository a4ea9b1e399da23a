"""Supervised fine-tuning on prompt -> reference through TRL; loss on the reference only."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import set_seed
from trl import SFTConfig as TRLConfig
from trl import SFTTrainer

from radiograd import models
from radiograd.config import FineTuning, RunConfig
from radiograd.prompts import Prompter
from radiograd.runs import Run
from radiograd.train import checkpoints, scoring, settings
from radiograd.train.order import length_grouped
from radiograd.types import Study

log = logging.getLogger(__name__)


def train_sft(run: Run, train: Sequence[Study]) -> dict[str, Any]:
    """Fine-tune a fresh adapter on ``train`` and write it to ``sft/adapter``; resumes from the last checkpoint."""
    return _train(run, _Place("sft", run.path / "sft"), train, run.config.sft)


def train_fold(run: Run, train: Sequence[Study], number: int) -> dict[str, Any]:
    """The same with the same settings on other studies, for a cross-fitting: written to ``select/fold_<number>``."""
    return _train(run, _Place(fold_name(number), fold_folder(run, number)), train, run.config.sft)


def fold_name(number: int) -> str:
    """Under which name a fold's rows stand in metrics.jsonl, and its end in done/."""
    return f"select_fold_{number}"


def fold_folder(run: Run, number: int) -> Path:
    """Where fold ``number`` (from 1) keeps its adapter."""
    return run.path / "select" / f"fold_{number}"


def train_more(run: Run, train: Sequence[Study]) -> dict[str, Any]:
    """The same as an alignment: a fresh adapter on the SFT policy, written to ``align/adapter``."""
    place = _Place("align", run.path / "align", merged=(run.path / "sft" / "adapter",), offset=1, key=4)
    return _train(run, place, train, run.config.more_sft)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a fine-tuning stands in a run: the name of its metrics, its folder, the adapters below it, its seeds."""

    stage: str
    folder: Path
    merged: tuple[Path, ...] = ()
    offset: int = 0
    key: int = 1


def _train(run: Run, place: _Place, train: Sequence[Study], how: FineTuning) -> dict[str, Any]:
    config, stage, folder = run.config, place.stage, place.folder
    settings.forget_peak()
    set_seed(config.seed + place.offset)
    tokenizer = models.load_tokenizer(config.model)
    rows, cut = encode(Prompter(tokenizer, config.model, config.task), train)
    lengths = [len(row["input_ids"]) for row in rows]
    rng = np.random.default_rng([config.seed, place.key])
    order = length_grouped(lengths, how.batch_size, how.epochs, rng)
    model = get_peft_model(models.load_policy(config.model, merged=place.merged), models.lora_config(config.model.lora))
    scoring.attach_scoring(model)
    trainer = _Trainer(
        model=model,
        args=settings.one_device(
            arguments(config, how, folder / "checkpoints", steps=-(-len(order) // how.batch_size))
        ),
        train_dataset=Dataset.from_list([rows[number] for number in order]),
        processing_class=tokenizer,
        callbacks=[checkpoints.Keeper(run, stage, _metrics)],
    )
    trainer.loss_reduction = how.loss_reduction
    trainer.model_accepts_loss_kwargs = True  # our loss divides by the whole step's count, whatever the model's does
    settings.quiet(trainer)
    settings.train(trainer, run, stage, folder / "checkpoints")
    settings.save_adapter(trainer, folder / "adapter")
    checkpoints.discard(folder / "checkpoints")
    return {
        "studies": len(train),
        "prompts_cut": cut,
        "steps": trainer.state.global_step,
        **settings.facts(config.model, sum(lengths[number] for number in order)),
    }


def encode(prompter: Prompter, studies: Sequence[Study]) -> tuple[list[dict[str, list[int]]], int]:
    """Token rows with labels -100 on the prompt and on redaction marks, and how many prompts were cut."""
    rows, cut = [], 0
    for study in studies:
        prompt = prompter.prompt(study)
        prompt_ids = prompter.ids(prompt.content)
        target = prompter.target(study)
        rows.append(
            {
                "input_ids": prompt_ids + prompter.target_ids(target),
                "labels": [-100] * len(prompt_ids) + prompter.target_labels(target),
            }
        )
        cut += prompt.cut
    return rows, cut


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with the loss on the needed positions only and rows taken in the order given."""

    loss_reduction = "token_mean"

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        logps = scoring.score_labels(model, inputs["input_ids"], inputs["attention_mask"], inputs["labels"])
        # the count is over all processes, whose gradients are averaged
        return sequence_loss(logps, num_items_in_batch) * self.accelerator.num_processes

    def get_batch_samples(self, *arguments: Any, **keywords: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step and what its loss is divided by: label tokens, or for sequence_sum sequences."""
        batches, count = super().get_batch_samples(*arguments, **keywords)
        if self.loss_reduction == "sequence_sum":
            rows = torch.tensor(sum(len(batch["input_ids"]) for batch in batches), device=self.accelerator.device)
            count = self.accelerator.gather(rows).sum()
        return batches, count


def sequence_loss(logps_N: Any, count: Any) -> Any:
    """Negative log-likelihood: minus the sum over label tokens, divided by ``count`` (tokens, or sequences)."""
    return -logps_N.sum() / torch.as_tensor(count).clamp(min=1)


def arguments(config: RunConfig, how: FineTuning, folder: Path, steps: int) -> Any:
    """TRL's arguments for a fine-tuning of ``config``; checkpoints go into ``folder``."""
    return TRLConfig(
        **settings.common(config, folder),
        **settings.by_rows(how, steps),
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _metrics(logs: Mapping[str, Any]) -> dict[str, float]:
    names = {"loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm"}
    return {ours: float(logs[theirs]) for theirs, ours in names.items() if theirs in logs}
