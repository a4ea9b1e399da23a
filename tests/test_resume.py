"""Kill -9 at any point, then the same command: the run folder ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import tiny
from tests.encoder_fixture import write_bert

# 42 of the 70 studies train: 11 SFT steps, a checkpoint every 4; 14 rollouts of 4 studies and two updates each are 28
# steps, a checkpoint every 4, and the studies are gone through more than once (42 // 4 = 10 rollouts). The guard looks
# after every third rollout, so that looks and checkpoints fall together now and then.
OVERRIDES: dict[str, Any] = {
    "name": "killed",
    "data": {"source": "csv", "split": {"val": 0.2, "test": 0.2}},
    "model": {"device": "cpu", "dtype": "float32", "lora": {"rank": 4, "alpha": 8, "dropout": 0.1}},
    "sft": {"batch_size": 4, "micro_batch": 2, "checkpoint_every": 4, "lr": 2e-2},
    "align": {
        "reward": {"rougeL": 1.0, "length_ratio": 1.0},
        "rollouts": 14,
        "prompts": 4,
        "group_size": 4,
        "micro_batch": 8,
        "max_new_tokens": 8,
        "checkpoint_every": 2,
        "log_rollouts_every": 3,
        "guard": {"every": 3, "studies": 8, "fall": 99.0},
        "lr": 1e-2,
        "beta": 0.04,
    },
    "generate": {"batch_size": 1, "max_new_tokens": 64},
    "evaluate": {"resamples": 100},
}
PASSING = ("time", "attempt", "seconds", "peak_gib", "kib")
"""Facts of the process, not of the result."""


@pytest.fixture(scope="module")
def config(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration file of every run here."""
    folder = tmp_path_factory.mktemp("resume")
    values = json.loads(json.dumps(OVERRIDES))
    values["data"]["path"] = str(tiny.write_table(folder / "reports.csv", 70))
    values["model"]["name"] = str(tiny_model)
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(config: Path) -> Path:
    """The folder of a run nobody touched."""
    return _finish(config, config.parent / "undisturbed")


def _launch(config: Path, root: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "radiograd.cli", "run", str(config), *overrides, "--runs", str(root)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(config: Path, root: Path, *overrides: str) -> Path:
    process = _launch(config, root, *overrides)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return root / OVERRIDES["name"]


def _kill(config: Path, root: Path, reached: Callable[[Path], bool], *overrides: str) -> None:
    """Start the run and kill it the moment ``reached`` holds of its folder."""
    process = _launch(config, root, *overrides)
    try:
        while not reached(root / OVERRIDES["name"]):
            if process.poll() is not None:
                pytest.fail(f"ended before it could be killed: {process.stderr and process.stderr.read()}")
            time.sleep(0.001)
    finally:
        process.kill()
        process.communicate()


def _lines(path: Path, part: str = "") -> int:
    if not path.exists():
        return 0
    return sum(part in line for line in path.read_text(encoding="utf-8").splitlines())


def _rows(stage: str, count: int) -> Callable[[Path], bool]:
    return lambda run: _lines(run / "metrics.jsonl", f'"stage": "{stage}"') >= count


def _exists(name: str) -> Callable[[Path], bool]:
    return lambda run: (run / name).exists()


def _predicted(row: str, count: int) -> Callable[[Path], bool]:
    return lambda run: _lines(run / "eval" / "test" / "predictions.jsonl", f'"row": "{row}"') >= count


POINTS: dict[str, Callable[[Path], bool]] = {
    "before the reports are read": _exists("config.json"),
    "while loading, before any step": _exists("done/data.json"),
    "in SFT before a checkpoint": _rows("sft", 2),
    "while an SFT checkpoint is written": _exists("sft/checkpoints/checkpoint-4"),
    "just after an SFT checkpoint": _exists("sft/checkpoints/step_000008/DONE"),
    "in SFT after its last checkpoint": _rows("sft", 10),
    "as the SFT adapter is written": _exists("sft/adapter.part"),
    "between SFT and alignment": _exists("done/sft.json"),
    "between the two updates of a rollout": _rows("align", 7),
    "just after a look": lambda run: _lines(run / "guard.jsonl") >= 3,
    "while an alignment checkpoint is written": _exists("align/checkpoints/checkpoint-8"),
    "just after an alignment checkpoint": _exists("align/checkpoints/step_000012/DONE"),
    "in the second pass over the studies": _rows("align", 25),
    "as the aligned adapter is written": _exists("align/adapter.part"),
    "just after the aligned adapter": _exists("align/adapter"),
    "in the impressions of the first model": _predicted("sft", 2),
    "in the impressions of the second model": _predicted("aligned", 3),
    "between impressions and scores": _exists("done/generate.json"),
}


def test_killed_twice_and_resumed_is_as_if_never_killed(config: Path, undisturbed: Path, tmp_path: Path) -> None:
    _kill(config, tmp_path, POINTS["in the second pass over the studies"])
    _kill(config, tmp_path, POINTS["in the impressions of the second model"])
    _assert_same(_finish(config, tmp_path), undisturbed)


RADFLOW = (
    "select={by: hardest, share: 0.5, metrics: {bleu2: 1, factgraph_partial: 1}}",
    "align.reward=hierarchical",
    "align.clip=critical",
)
RADFLOW_POINTS: dict[str, Callable[[Path], bool]] = {
    "between annotation and selection": _exists("criticality.jsonl"),
    "in the predictions that studies are chosen by": lambda run: _lines(run / "select" / "predictions.jsonl") >= 5,
    "between the two updates of a rollout": _rows("align", 7),
    "in the second pass over the studies": _rows("align", 25),
}


@pytest.mark.slow
def test_radflow_killed_while_choosing_and_while_aligning_is_as_if_never_killed(config: Path, tmp_path: Path) -> None:
    undisturbed = _finish(config, tmp_path / "undisturbed", *RADFLOW)
    for point in ("in the predictions that studies are chosen by", "between the two updates of a rollout"):
        _kill(config, tmp_path / "killed", RADFLOW_POINTS[point], *RADFLOW)
    _assert_same(_finish(config, tmp_path / "killed", *RADFLOW), undisturbed)
    assert "critical/clip_share" in (undisturbed / "metrics.jsonl").read_text(encoding="utf-8")


MIXED = (
    "align.clip=critical",
    "select={by: diverse, share: 0.5, rollouts: 3, min_std: 0.0}",
    "align.reward=hierarchical",
    "align.reward_schedule={after: 0.5, reward: diagnostic_bleu}",
    "align.token_weight.by=shuffled",
)


def test_all_methods_mixed_and_killed_while_aligning_is_as_if_never_killed(config: Path, tmp_path: Path) -> None:
    mixed = (*MIXED, f"align.token_weight.encoder={write_bert(tmp_path / 'bert')}")
    undisturbed = _finish(config, tmp_path / "undisturbed", *mixed)
    for point in ("between SFT and alignment", "in the second pass over the studies"):
        _kill(config, tmp_path / "killed", POINTS[point], *mixed)
    _assert_same(_finish(config, tmp_path / "killed", *mixed), undisturbed)
    rows = (undisturbed / "metrics.jsonl").read_text(encoding="utf-8")
    assert '"reward/phase": 2.0' in rows
    assert "critical/clip_share" in rows
    assert '"tokens"' in (undisturbed / "rollouts" / "step_000000.jsonl").read_text(encoding="utf-8")


@pytest.mark.slow
def test_radflow_killed_at_every_point_in_turn_is_as_if_never_killed(config: Path, tmp_path: Path) -> None:
    undisturbed = _finish(config, tmp_path / "undisturbed", *RADFLOW)
    for reached in RADFLOW_POINTS.values():
        _kill(config, tmp_path / "killed", reached, *RADFLOW)
    _assert_same(_finish(config, tmp_path / "killed", *RADFLOW), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_and_resumed_is_as_if_never_killed(
    config: Path, undisturbed: Path, tmp_path: Path, point: str
) -> None:
    _kill(config, tmp_path, POINTS[point])
    _assert_same(_finish(config, tmp_path), undisturbed)


@pytest.mark.slow
def test_killed_at_every_point_in_turn_is_as_if_never_killed(config: Path, undisturbed: Path, tmp_path: Path) -> None:
    for reached in POINTS.values():
        _kill(config, tmp_path, reached)
    _assert_same(_finish(config, tmp_path), undisturbed)


@pytest.mark.slow
def test_a_bfloat16_run_resumes_the_same_too(config: Path, tmp_path: Path) -> None:
    undisturbed = _finish(config, tmp_path / "undisturbed", "model.dtype=bfloat16")
    for point in ("just after an SFT checkpoint", "in the second pass over the studies"):
        _kill(config, tmp_path / "killed", POINTS[point], "model.dtype=bfloat16")
    _assert_same(_finish(config, tmp_path / "killed", "model.dtype=bfloat16"), undisturbed)


# ---- what "the same" means -------------------------------------------------------------------------------------------


def _assert_same(run: Path, other: Path) -> None:
    """Equal file for file; in metrics and facts, equal but for times, attempts and memory."""
    ours, theirs = _files(run), _files(other)
    assert ours == theirs, f"only in one: {sorted(ours ^ theirs)}"
    for name in sorted(ours):
        if name in ("manifest.json", "report.html", ".lock"):
            continue
        if name == "metrics.jsonl" or name.startswith("done/"):
            assert _lasting(run / name) == _lasting(other / name), name
        else:
            assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert json.loads((run / "STATUS.json").read_text())["state"] == "finished"


def _files(run: Path) -> set[str]:
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith("attempts/")}


def _lasting(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]
    return [{k: v for k, v in row.items() if not k.startswith(PASSING)} for row in rows]
