"""Direct preference optimisation from the SFT policy, through TRL by subclass.

What is ours: the loss (:mod:`radiograd.rl.preference`), log-probabilities that pay for a prompt once
(:mod:`radiograd.train.scoring`), reference log-probabilities computed once and kept in the run folder. What is TRL's:
the adapter, the optimiser loop, the averaging of what is logged. Overridden methods are pinned by a contract test.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import load_peft_weights, set_peft_model_state_dict
from transformers import set_seed
from trl import DPOConfig as TRLConfig
from trl import DPOTrainer

from radiograd import models
from radiograd.config import DPOConfig, RunConfig
from radiograd.errors import RunError
from radiograd.preferences import Pairs, fingerprint, parse_pairs
from radiograd.prompts import Prompter
from radiograd.rl import preference
from radiograd.runs import Run, write_jsonl
from radiograd.train import checkpoints, scoring, settings
from radiograd.train.order import length_grouped
from radiograd.train.pair_rows import Collator, choose, completion_logps, encode, tokens_of, with_reference
from radiograd.types import Study

log = logging.getLogger(__name__)


def train_dpo(run: Run, train: Sequence[Study], held_out: Collection[str] = (), number: int = 0) -> dict[str, Any]:
    """Align the SFT policy of ``run`` on the pairs of round ``number`` in ``pairs.jsonl``; writes the adapter.

    ``train``: the studies that pairs may name without giving findings; ``held_out``: ids of studies that no pair may
    be of. The reference is the SFT policy in every round; a later round goes on from the adapter of the one before.
    Resumes from the last checkpoint. Lines that cannot be trained on go to ``problems.jsonl``; RunError when none is
    left.
    """
    config, dpo = run.config, run.config.dpo
    folder = run.round_folder(number)
    settings.forget_peak()
    set_seed(config.seed + 1)
    tokenizer = models.load_tokenizer(config.model)
    chosen = choose(_read(run.path / "pairs.jsonl"), train, held_out, number, config.section)
    write_jsonl(folder / "problems.jsonl", [{"where": where, "why": why} for where, why in chosen.problems])
    if not chosen.pairs:
        first = f"; {chosen.problems[0][0]}: {chosen.problems[0][1]}" if chosen.problems else ""
        raise RunError(f"{run.path / 'pairs.jsonl'} holds no pair of round {number} to train on{first}")
    if chosen.problems:
        where, why = chosen.problems[0]
        log.warning("%d lines of pairs.jsonl are left out, the first %s: %s", len(chosen.problems), where, why)
    rows, cut = encode(Prompter(tokenizer, config.model, config.task), chosen.pairs, chosen.studies)
    model = models.load_policy(config.model, merged=[run.path / "sft" / "adapter"])
    scoring.attach_scoring(model)
    rows = with_reference(model, rows, folder / "reference.jsonl", dpo.micro_batch, tokenizer.pad_token_id)
    lengths = [len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows]
    order = length_grouped(lengths, dpo.batch_size, dpo.epochs, np.random.default_rng([config.seed, 3, number]))
    before = _steps_before(run, number)
    trainer = PreferenceTrainer(
        dpo=dpo,
        model=model,
        args=settings.one_device(arguments(config, folder / "checkpoints", steps=-(-len(order) // dpo.batch_size))),
        train_dataset=Dataset.from_list([rows[place] for place in order]),
        data_collator=Collator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        peft_config=models.lora_config(config.model.lora),
        callbacks=[checkpoints.Keeper(run, "align", metrics_row, before)],
    )
    models.prepare_adapters(trainer.model)
    if number:
        previous = run.round_folder(number - 1) / "adapter"
        set_peft_model_state_dict(trainer.model, load_peft_weights(str(previous), device="cpu"))
    settings.quiet(trainer)
    settings.train(trainer, run, "align", folder / "checkpoints", before)
    settings.save_adapter(trainer, folder / "adapter")
    checkpoints.discard(folder / "checkpoints")
    return {
        "pairs": len(rows),
        "fingerprint": fingerprint(chosen.pairs),
        "left_out": len(chosen.problems),
        "of_other_rounds": chosen.of_other_rounds,
        "prompts_cut": cut,
        "steps": trainer.state.global_step,
        **drift_facts(run, before),
        **settings.facts(config.model, sum(tokens_of(rows[place]) for place in order)),
    }


def keep_as_aligned(run: Run, number: int) -> None:
    """The adapter of round ``number`` as ``align/adapter``, whole or not there."""
    source, target = run.round_folder(number) / "adapter", run.path / "align" / "adapter"
    if source == target:
        return
    beside = target.with_name(target.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(source, beside)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def _steps_before(run: Run, number: int) -> int:
    return sum(int(run.facts(f"align_round_{earlier}")["steps"]) for earlier in range(number))


# ---- the trainer -----------------------------------------------------------------------------------------------------


class PreferenceTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's trainer with our loss and log-probabilities, on rows that are tokens already and taken in their order."""

    loss_is_scaled_for_ga = True  # our loss divides by the pairs of the whole step: it must not be divided again

    def __init__(self, *, dpo: DPOConfig, **kwargs: Any) -> None:
        self.dpo = dpo
        self._step_began = 0.0
        self._warned = False
        super().__init__(**kwargs)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        return dataset

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step and its number of pairs, over all processes."""
        self._step_began = time.perf_counter()
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        pairs = torch.tensor(sum(len(batch["weight"]) for batch in batches), device=self.accelerator.device)
        return batches, self.accelerator.gather(pairs).sum()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Sum over pairs of weight x loss, divided by the pairs of the step."""
        started = time.perf_counter()
        pairs = len(inputs["weight"]) if num_items_in_batch is None else num_items_in_batch
        logps = completion_logps(model, inputs)
        losses, noted = pair_losses(logps, inputs["mask"], inputs["ref_chosen"], inputs["ref_rejected"], self.dpo)
        mode = "train" if self.model.training else "eval"
        # what is noted is averaged over the passes of a step; so scaled, that is the mean over its pairs
        passes = self.current_gradient_accumulation_steps if self.model.training else 1
        sums = torch.stack([values.detach().float().sum() for values in noted.values()])
        totals = self.accelerator.gather(sums.unsqueeze(0)).sum(0) / pairs
        for name, mean in zip(noted, totals.tolist(), strict=True):
            self._metrics[mode][name].append(mean * passes)
        self._metrics[mode]["seconds/forward"].append((time.perf_counter() - started) * passes)
        # the count is over all processes, whose gradients are averaged
        return (losses * inputs["weight"]).sum() / pairs * self.accelerator.num_processes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the time of the step and the drift alarm; tell the alarm once."""
        drifts = self._metrics["train"].get("chosen_drift_token")
        if self.model.training and drifts:
            drift = sum(drifts) / len(drifts)
            logs["seconds/step"] = time.perf_counter() - self._step_began
            logs["drift_alarm"] = float(drift < -self.dpo.drift_alarm)
            if logs["drift_alarm"] and not self._warned:
                self._warned = True
                log.warning(
                    "step %d: chosen impressions are %.2f nats a token less likely than under the SFT policy "
                    "(align.drift_alarm is %g); try align.anchor=sft or dpop, a lower align.lr or a higher align.beta",
                    self.state.global_step,
                    -drift,
                    self.dpo.drift_alarm,
                )
        super().log(logs, start_time)


def pair_losses(
    logps_2B_T: torch.Tensor,
    mask_2B_T: torch.Tensor,
    ref_chosen_B: torch.Tensor,
    ref_rejected_B: torch.Tensor,
    dpo: DPOConfig,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of each pair (B,) under the settings of a run, and what is logged of it, each (B,).

    Rows are chosen before rejected. References are sums over tokens, in nats.
    """
    sums = preference.sequence_logps(logps_2B_T, mask_2B_T)
    chosen, rejected = sums.chunk(2)
    tokens, rejected_tokens = (part.to(sums.dtype).clamp(min=1) for part in mask_2B_T.sum(-1).chunk(2))
    if dpo.length_normalised:
        compared = (
            *(chosen / tokens, rejected / rejected_tokens),
            *(ref_chosen_B / tokens, ref_rejected_B / rejected_tokens),
        )
    else:
        compared = (chosen, rejected, ref_chosen_B, ref_rejected_B)
    losses = preference.dpo(*compared, dpo.beta, dpo.anchor_weight if dpo.anchor == "dpop" else 0.0)
    margins = preference.margins(*compared, dpo.beta)
    noted = {
        "margin": margins,
        "accuracy": (margins > 0).to(sums.dtype),
        "chosen_logp": chosen,
        "rejected_logp": rejected,
        "chosen_logp_token": chosen / tokens,
        "rejected_logp_token": rejected / rejected_tokens,
        "chosen_drift": chosen - ref_chosen_B,
        "rejected_drift": rejected - ref_rejected_B,
        "chosen_drift_token": (chosen - ref_chosen_B) / tokens,
        "rejected_drift_token": (rejected - ref_rejected_B) / rejected_tokens,
    }
    if dpo.anchor == "sft":
        likelihood = -chosen / tokens
        losses = losses + dpo.anchor_weight * likelihood
        noted["anchor"] = likelihood
    elif dpo.anchor == "dpop":
        noted["anchor"] = preference.shortfall(compared[0], compared[2])
    return losses, noted


def arguments(config: RunConfig, folder: Path, steps: int) -> Any:
    """TRL's arguments for the preference optimisation of ``config``; checkpoints go into ``folder``."""
    dpo = config.dpo
    return TRLConfig(
        **settings.common(config, folder),
        **settings.by_rows(dpo, steps),
        beta=dpo.beta,
        disable_dropout=True,  # or the policy before its first step would not be the reference
    )


_NAMES = {"loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm"}
_OURS = ("margin", "accuracy", "chosen_", "rejected_", "anchor", "drift_alarm", "seconds/")


def metrics_row(logs: Mapping[str, Any]) -> dict[str, float]:
    """TRL's log line in our names; what is not known yet is left out."""
    return settings.renamed(logs, _NAMES, _OURS)


def drift_facts(run: Run, before: int) -> dict[str, Any]:
    """How far the chosen answers fell at worst in one step after step ``before``, and at how many steps it alarmed."""
    rows = [row for row in run.metrics("align") if row["step"] > before and "chosen_drift_token" in row]
    alarmed = [row["step"] for row in rows if row.get("drift_alarm")]
    worst = min((row["chosen_drift_token"] for row in rows), default=None)
    return {
        "chosen_drift_token_worst": None if worst is None else round(worst, 4),
        "drift_alarm": bool(alarmed),
        "drift_alarm_steps": len(alarmed),
        "drift_alarm_first_step": alarmed[0] if alarmed else None,
    }


def _read(path: Path) -> Pairs:
    if not path.exists():
        raise RunError(f"{path} is missing; run: radiograd pairs {path.parent}, or put your own pairs there")
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        return parse_pairs(file)
