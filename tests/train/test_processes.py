"""Two processes do what one does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests import tiny

from radiograd.config import RunConfig
from radiograd.errors import ConfigError
from radiograd.runs import read_jsonl, write_jsonl
from radiograd.train import capo, grpo

ROOT = Path(__file__).parents[2]


def _train(folder: Path, model: Path, processes: int, micro_batch: int, *settings: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.train.replay", str(folder), str(model), str(micro_batch), *settings]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        {**shared, "WORLD_SIZE": str(processes), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        if processes > 1
        else shared
        for rank in range(processes)
    ]
    started = [
        subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for env in ranks
    ]
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0] * processes, "\n".join(said)


@pytest.mark.parametrize(
    ("beta", "reward", "clip"),
    [
        ("0.5", "share_of_e", "critical"),
        ("0.0", "the_same_for_half_the_studies", "constant"),  # one process may have no live row
    ],
)
def test_two_processes_train_what_one_trains(
    sharp_model: Path,
    tmp_path: Path,
    beta: str,
    reward: str,
    clip: str,
) -> None:
    for processes, micro_batch in ((1, 16), (2, 4)):
        _train(tmp_path / str(processes), sharp_model, processes, micro_batch, beta, reward, clip)
    found = [
        (
            list(read_jsonl(tmp_path / str(processes) / "metrics.jsonl")),
            load_file(str(tmp_path / str(processes) / "align" / "adapter" / "adapter_model.safetensors")),
            list(read_jsonl(tmp_path / str(processes) / "rollouts" / "step_000000.jsonl")),
        )
        for processes in (1, 2)
    ]
    (one, weights, rollout), (two, others, split) = found
    assert len(one) == len(two) == 6
    of_kinds = ["critical/share", *(f"{kind}/{name}" for kind in capo.KINDS for name in ("clip_share", "ratio_max"))]
    of_kinds += [*(f"{kind}/{name}" for kind in capo.KINDS for name in ("reward", "kl")), "kl_completion"]
    assert {name in row for row in one for name in ("critical/share", "normal/share")} == {True, False}
    for name in ("loss", "grad_norm", "reward/total", "dead_groups", "kl", *of_kinds):
        for here, there in zip(two, one, strict=True):
            assert (name in here) == (name in there)
            assert here.get(name, 0.0) == pytest.approx(there.get(name, 0.0), abs=1e-4, rel=1e-4), name
    assert any(row["grad_norm"] > 0 for row in one)
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, atol=1e-5, rtol=1e-4)
    assert split == rollout


def test_one_process_looks_and_all_stop_when_it_says_so(sharp_model: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "val.jsonl", [study.to_json() for study in tiny.studies(8, seed=9)])
    guard = json.dumps({"every": 1, "kl_stop": 1e-12})
    _train(tmp_path, sharp_model, 2, 4, "0.5", "share_of_e", "constant", guard)
    assert len(list(read_jsonl(tmp_path / "metrics.jsonl"))) == 2  # of 6 steps
    looks = list(read_jsonl(tmp_path / "guard.jsonl"))
    assert [(look["step"], look["stop"]) for look in looks] == [(0, False), (2, True)]
    best = load_file(str(tmp_path / "align" / "best" / "step_000000" / "adapter" / "adapter_model.safetensors"))
    returned = load_file(str(tmp_path / "align" / "adapter" / "adapter_model.safetensors"))
    assert all(torch.equal(returned[name], weight) for name, weight in best.items())


def test_processes_that_cannot_share_a_rollout_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    config = RunConfig.model_validate({"model": {"device": "cpu"}, "align": {"micro_batch": 8}})
    with pytest.raises(ConfigError, match=r"32 completions are not a multiple of align\.micro_batch 8 x 3 processes"):
        grpo.arguments(config, tmp_path)
