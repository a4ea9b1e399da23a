from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from radiograd.config import RunConfig
from radiograd.runs import Run
from radiograd.train import checkpoints


def _checkpoint(folder: Path, name: str, done: bool = True) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(b"weights")
    if done:
        (path / "DONE").write_text("")
    return path


def _keeper(tmp_path: Path, rows=lambda logs: dict(logs)) -> checkpoints.Keeper:
    return checkpoints.Keeper(Run(tmp_path, RunConfig(), attempt=3), "sft", rows)


def _event(tmp_path: Path, step: int, of: int = 100) -> tuple[SimpleNamespace, SimpleNamespace, SimpleNamespace]:
    arguments = SimpleNamespace(output_dir=str(tmp_path / "checkpoints"))
    state = SimpleNamespace(global_step=step, max_steps=of, is_world_process_zero=True)
    return arguments, state, SimpleNamespace(should_save=True)


def test_without_a_folder_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path / "none") is None


def test_the_newest_finished_checkpoint_is_found(tmp_path: Path) -> None:
    _checkpoint(tmp_path, "step_000900")
    newest = _checkpoint(tmp_path, "step_001000")
    assert checkpoints.latest(tmp_path) == newest
    assert checkpoints.step_of(newest) == 1000


def test_unfinished_checkpoints_are_removed_and_never_taken(tmp_path: Path) -> None:
    whole = _checkpoint(tmp_path, "step_000010")
    _checkpoint(tmp_path, "step_000020", done=False)  # killed between the rename and the mark
    _checkpoint(tmp_path, "checkpoint-30", done=False)  # killed while the trainer wrote
    assert checkpoints.latest(tmp_path) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["step_000010"]


def test_a_folder_of_unfinished_checkpoints_holds_none(tmp_path: Path) -> None:
    _checkpoint(tmp_path, "checkpoint-5", done=False)
    assert checkpoints.latest(tmp_path) is None


def test_a_saved_checkpoint_is_renamed_marked_and_alone(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    _checkpoint(folder, "step_000010")
    _checkpoint(folder, "checkpoint-20", done=False)
    _keeper(tmp_path).on_save(*_event(tmp_path, 20))
    assert [path.name for path in folder.iterdir()] == ["step_000020"]
    assert (folder / "step_000020" / "DONE").exists()
    assert (folder / "step_000020" / "adapter_model.safetensors").read_bytes() == b"weights"


def test_a_checkpoint_written_again_replaces_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    (_checkpoint(folder, "step_000020") / "stale").write_text("")
    _checkpoint(folder, "checkpoint-20", done=False)
    _keeper(tmp_path).on_save(*_event(tmp_path, 20))
    assert not (folder / "step_000020" / "stale").exists()


@pytest.mark.parametrize(("step", "saves"), [(99, True), (100, False)])
def test_the_last_step_is_not_checkpointed(tmp_path: Path, step: int, saves: bool) -> None:
    arguments, state, control = _event(tmp_path, step)
    _keeper(tmp_path).on_step_end(arguments, state, control)
    assert control.should_save is saves


def test_only_the_first_process_touches_files(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    _checkpoint(folder, "checkpoint-20", done=False)
    arguments, state, control = _event(tmp_path, 20)
    state.is_world_process_zero = False
    keeper = _keeper(tmp_path)
    keeper.on_save(arguments, state, control)
    keeper.on_log(arguments, state, control, logs={"loss": 1.0})
    assert [path.name for path in folder.iterdir()] == ["checkpoint-20"]
    assert not (tmp_path / "metrics.jsonl").exists()


def test_each_log_line_becomes_a_row_under_our_names(tmp_path: Path) -> None:
    keeper = _keeper(tmp_path, rows=lambda logs: {"loss": logs["loss"]} if "loss" in logs else {})
    keeper.on_log(*_event(tmp_path, 7), logs={"loss": 1.5, "epoch": 0.1})
    keeper.on_log(*_event(tmp_path, 7), logs={"train_runtime": 3.0})  # the trainer's last line has no loss
    [row] = Run(tmp_path, RunConfig()).metrics("sft")
    assert {key: row[key] for key in ("stage", "step", "attempt", "loss")} == {
        "stage": "sft",
        "step": 7,
        "attempt": 3,
        "loss": 1.5,
    }


def test_discarded_checkpoints_lose_their_marks_before_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _checkpoint(tmp_path / "checkpoints", "step_000010")
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.shutil, "rmtree", lambda *_, **__: None)  # killed at this point
        checkpoints.discard(tmp_path / "checkpoints")
    assert checkpoints.latest(tmp_path / "checkpoints") is None
    checkpoints.discard(tmp_path / "checkpoints")
    assert not (tmp_path / "checkpoints").exists()
