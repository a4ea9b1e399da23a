"""What both trainers share: arguments, resuming, saving, cost."""

from __future__ import annotations

import logging
import resource
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, ProgressCallback

from radiograd import models
from radiograd.config import DPOConfig, FineTuning, ModelConfig, RunConfig
from radiograd.runs import Run, is_terminal
from radiograd.train import checkpoints

log = logging.getLogger(__name__)


def common(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Trainer arguments that do not depend on the method."""
    return {
        "output_dir": str(folder),
        "seed": config.seed,
        "data_seed": config.seed,
        "bf16": False,  # scoring sets the precision itself; adapters stay in float32
        "use_cpu": models.device_of(config.model) == "cpu",
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "report_to": "none",
        "disable_tqdm": not is_terminal(),
        "dataloader_num_workers": 0,
        "remove_unused_columns": False,
        "gradient_checkpointing": False,  # TRL's default is on; it would silently switch the key/value cache off
    }


def by_rows(how: FineTuning | DPOConfig, steps: int) -> dict[str, Any]:
    """Trainer arguments of what takes its rows in the order given, ``steps`` optimiser steps along a cosine."""
    return {
        "max_steps": steps,
        "learning_rate": how.lr,
        "warmup_steps": round(how.warmup * steps),
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "per_device_train_batch_size": how.micro_batch,
        "gradient_accumulation_steps": how.batch_size // how.micro_batch,
        "save_steps": how.checkpoint_every,
        "train_sampling_strategy": "sequential",
        "max_length": None,
    }


def renamed(logs: Mapping[str, Any], names: Mapping[str, str], ours: tuple[str, ...]) -> dict[str, float]:
    """TRL's log line with its ``names`` in our words and what starts as ``ours``; unknown values left out, and all of a
    line without a loss."""
    row = {name: float(logs[theirs]) for theirs, name in names.items() if logs.get(theirs) is not None}
    row.update({k: float(v) for k, v in logs.items() if k.startswith(ours) and v is not None})
    return row if "loss" in row else {}


def quiet(trainer: Any) -> None:
    """No dicts printed between progress bars: the numbers go to metrics.jsonl."""
    trainer.remove_callback(PrinterCallback)
    if not is_terminal():
        trainer.remove_callback(ProgressCallback)


def one_device(arguments: Any) -> Any:
    """Keep a process to one GPU: several visible ones would make transformers split batches behind our back."""
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def train(trainer: Any, run: Run, stage: str, folder: Path, before: int = 0) -> None:
    """Train from the newest whole checkpoint, or from the start; metrics rows after it are written again.

    ``before``: steps of the stage that came before this trainer's first.
    """
    newest = checkpoints.latest(folder)
    run.rewind_metrics(stage, before + (checkpoints.step_of(newest) if newest else 0))
    if newest:
        log.info("%s: resuming from step %d", stage, checkpoints.step_of(newest))
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)


def save_adapter(trainer: Any, folder: Path) -> None:
    """The trained adapter in ``folder``, whole or not there."""
    if trainer.is_world_process_zero():
        write_adapter(trainer.accelerator.unwrap_model(trainer.model), folder)


def write_adapter(model: Any, folder: Path) -> None:
    """The adapter of a PEFT ``model`` as it is now in ``folder``, whole or not there."""
    beside = folder.with_name(folder.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    for peft_config in model.peft_config.values():
        if isinstance(peft_config.target_modules, set):  # PEFT would write them in the order of this process's hashes
            peft_config.target_modules = sorted(peft_config.target_modules)
    model.save_pretrained(str(beside), safe_serialization=True)
    (beside / "README.md").unlink(missing_ok=True)
    put_in_place(beside, folder)


def put_in_place(beside: Path, folder: Path) -> None:
    """``beside`` becomes ``folder``; an older one is removed first."""
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def facts(config: ModelConfig, tokens: int) -> dict[str, Any]:
    """What a stage's numbers must be quoted with: tokens trained on, device, precision, peak memory since its start."""
    import torch

    device = models.device_of(config)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    dtype = str(models.dtype_of(config)).removeprefix("torch.")
    return {"tokens": tokens, "device": name, "dtype": dtype, "peak_gib": round(peak_bytes() / 2**30, 2)}


def forget_peak() -> None:
    """Start the peak of resident memory anew, where the system allows it (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """Peak resident memory of this process, since :func:`forget_peak` where that works, else since it started."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 2**10
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 2**10
