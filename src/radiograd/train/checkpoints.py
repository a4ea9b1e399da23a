"""Checkpoints that are whole or not there, and the rows of metrics.jsonl that belong to them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from radiograd.runs import Run, write_text


def latest(folder: Path) -> Path | None:
    """The newest checkpoint with its DONE mark; anything unfinished beside it is removed."""
    if not folder.exists():
        return None
    whole = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("step_") and (path / "DONE").exists():
            whole.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return whole[-1] if whole else None


def step_of(checkpoint: Path) -> int:
    """The optimiser step in a checkpoint's name."""
    return int(checkpoint.name.removeprefix("step_"))


def discard(folder: Path) -> None:
    """Remove every checkpoint; the DONE marks go first, so that a kill in between leaves none that looks whole."""
    for mark in folder.glob("step_*/DONE"):
        mark.unlink()
    shutil.rmtree(folder, ignore_errors=True)


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Turns the trainer's checkpoints into ``step_000100/DONE`` and keeps the newest only; writes metrics rows."""

    def __init__(
        self, run: Run, stage: str, rows: Callable[[Mapping[str, Any]], dict[str, float]], before: int = 0
    ) -> None:
        self.run, self.stage, self.rows = run, stage, rows
        self.before = before
        """Steps of the stage that came before this trainer's first."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """No checkpoint at the very end: the adapter follows, and a trainer resumed there would take one step more."""
        if state.global_step >= state.max_steps:
            control.should_save = False

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Rename the folder the trainer wrote, mark it done, then drop the older ones."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir)
        kept = folder / f"step_{state.global_step:06d}"
        shutil.rmtree(kept, ignore_errors=True)
        (folder / f"checkpoint-{state.global_step}").rename(kept)
        write_text(kept / "DONE", "")
        for old in folder.glob("step_*"):
            if old != kept:
                shutil.rmtree(old, ignore_errors=True)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """One row of metrics.jsonl per step."""
        if state.is_world_process_zero and logs:
            values = self.rows(logs)
            if values:
                self.run.log_metrics(self.stage, self.before + state.global_step, values)
