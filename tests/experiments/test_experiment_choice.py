"""Cells that choose their studies: predictions and answers are made once, the choice is each cell's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.critical_fake import SaysLeft
from tests.experiments import small

from radiograd import cli
from radiograd.experiments.plan import load_plan
from radiograd.experiments.table import build_table
from radiograd.runs import Run, find_run, read_jsonl

METRICS = {"bleu2": 1.0, "rougeL": 1.0}


def values(folder: Path, model: Path) -> dict[str, Any]:
    """Three cells on one fine-tuned model: two shares of the hardest, and a draw."""
    found = small.values(folder, model)
    cells = {
        "few": {"select": "hardest", "select.share": 0.1, "select.folds": 2, "select.metrics": METRICS},
        "more": {"select": "hardest", "select.share": 0.5, "select.folds": 2, "select.metrics": METRICS},
        "drawn": {"select": {"by": "random", "share": 0.5}},
    }
    return found | {
        "set": {
            "data.split.seed": 7,
            "sft.fraction": 1.0,
            "sft.epochs": 1.0,
            "align": {"type": "sft", "batch_size": 8},
            "criticality.judge": "tests.critical_fake:SaysLeft",
        },
        "cells": [{"name": name, "set": given, "rows": {"aligned": name}} for name, given in cells.items()],
        "compare": [["few", "drawn"]],
        "judges": [],
        "paper": None,
    }


@pytest.fixture(scope="module")
def done(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("choice")
    SaysLeft.asked, SaysLeft.killed_after = [], None
    file = small.written(folder, values(folder, tiny_model))
    arguments = ["experiment", "run", str(file), "--dir", str(folder / "out")]
    assert cli._call(lambda: cli.cli.main(args=arguments, standalone_mode=False)) == 0
    return file, folder / "out"


def run_of(done: tuple[Path, Path], cell: str) -> Run:
    return find_run(done[1] / f"{cell}-seed7")


def chosen(run: Run) -> set[str]:
    return {row["study_id"] for row in read_jsonl(run.path / "selection.jsonl") if row["selected"]}


def test_predictions_and_folds_are_copied_and_the_choice_is_made_anew(done: tuple[Path, Path]) -> None:
    few, more = run_of(done, "few"), run_of(done, "more")
    name = "select/predictions.jsonl"
    assert (few.path / name).read_bytes() == (more.path / name).read_bytes()
    assert more.facts("select_fold_1")["copied_from"]["run"] == "few-seed7"
    assert more.metrics("select_fold_2") == few.metrics("select_fold_2") != []
    assert set(more.facts("shared")["from"]) >= {"predictions of target exploration", "answers on criticality"}
    assert chosen(few) < chosen(more)
    assert len(chosen(more)) == -(-more.facts("select")["studies"] // 2)


def test_a_draw_takes_no_predictions(done: tuple[Path, Path]) -> None:
    run = run_of(done, "drawn")
    assert not (run.path / "select").exists()
    assert "predictions of target exploration" not in run.facts("shared")["from"]


def test_the_judge_was_asked_once_about_each_report(done: tuple[Path, Path]) -> None:
    annotated = [row["study_id"] for row in read_jsonl(run_of(done, "drawn").path / "criticality.jsonl")]
    assert sorted(SaysLeft.asked) == sorted(annotated)


def test_what_was_copied_costs_as_if_it_had_been_done_here(done: tuple[Path, Path]) -> None:
    table = build_table(load_plan(done[0]), done[1])
    cost = {row["label"]: row["cost"]["stages"] for row in table["rows"] if row.get("cost")}
    seconds = run_of(done, "few").facts("select")["seconds"]
    assert cost["few"]["select"]["seconds"] == seconds
    assert cost["more"]["select"]["seconds"] == max(seconds, run_of(done, "more").facts("select")["seconds"])
