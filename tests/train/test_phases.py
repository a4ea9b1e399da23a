"""A reward that changes on the way: who pays is what the rollout's number says, also for the guard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.train.test_grpo import STUDIES, _run

from radiograd.monitor import panel_names
from radiograd.runs import read_jsonl, write_jsonl
from radiograd.train.grpo import train_grpo
from radiograd.types import Case, Score

E, A = "test_grpo:share_of_e", "test_phases:share_of_a"


def share_of_a(cases: Sequence[Case]) -> list[Score]:
    """Share of letters that are an a."""
    return [Score(case.candidate.count("a") / max(1, len(case.candidate))) for case in cases]


def test_the_second_reward_takes_over_and_both_are_logged_throughout(sharp_model: Path, tmp_path: Path) -> None:
    schedule = {"after": 0.5, "reward": {A: 2.0}}
    run = _run(tmp_path, sharp_model, rollouts=4, updates_per_rollout=2, reward_schedule=schedule, log_rollouts_every=1)
    train_grpo(run, STUDIES)
    files = sorted((run.path / "rollouts").iterdir())
    assert len(files) == 4
    for number, file in enumerate(files):
        pays, other = (E, A) if number < 2 else (A, E)
        for row in read_jsonl(file):
            assert set(row["terms"]) == {pays, other}
            assert row["reward"] == row["terms"][pays]
    logged = [row for row in read_jsonl(run.path / "metrics.jsonl") if row["stage"] == "align"]
    assert [row["reward/phase"] for row in logged if "reward/phase" in row] == [1.0, 1.0, 2.0, 2.0]
    assert all(f"reward/{name}" in row for row in logged for name in (A, E) if "reward/phase" in row)


def test_one_phase_is_what_the_trainer_always_did(sharp_model: Path, tmp_path: Path) -> None:
    same = {"after": 0.5, "reward": {"test_grpo:share_of_e": 3.0}}
    rows = []
    for name, more in {"plain": {}, "scheduled": {"reward_schedule": same}}.items():
        run = _run(tmp_path / name, sharp_model, **more)
        train_grpo(run, STUDIES)
        rows.append([row["loss"] for row in read_jsonl(run.path / "metrics.jsonl") if row["stage"] == "align"])
    assert rows[0] == pytest.approx(rows[1], abs=1e-6)


def test_the_guard_measures_the_rollouts_of_both_phases_alike(sharp_model: Path, tmp_path: Path) -> None:
    run = _run(
        tmp_path,
        sharp_model,
        rollouts=4,
        reward={E: 2.0},
        reward_schedule={"after": 0.5, "reward": {A: 0.5, E: 0.5}},
        guard={"every": 1, "studies": 8, "gold": ["rougeL"]},
    )
    val = [replace(study, study_id=f"v{study.study_id}") for study in STUDIES[:8]]
    write_jsonl(run.path / "data" / "val.jsonl", [study.to_json() for study in val])
    train_grpo(run, STUDIES)
    first, *looks = read_jsonl(run.path / "guard.jsonl")
    logged = [row for row in run.metrics("align") if "reward/phase" in row]
    assert [row["reward/phase"] for row in logged] == [1.0, 1.0, 2.0, 2.0]
    # E pays all of the first phase and half of the second: three quarters of their mean
    both = [0.75 * row[f"reward/{E}"] + 0.25 * row[f"reward/{A}"] for row in logged]
    assert first["rollouts"] is None
    assert [look["rollouts"] for look in looks] == pytest.approx(both, abs=1e-5)
    assert [look["rollouts"] for look in looks] != pytest.approx([row["reward/total"] for row in logged], abs=1e-3)


def test_the_panel_shares_nothing_with_either_phase(sharp_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, sharp_model, reward="diagnostic", reward_schedule={"reward": "diagnostic_bleu"})
    assert panel_names(run.config.grpo) == ("statements", "tfidf_overlap", "factgraph_complete")
