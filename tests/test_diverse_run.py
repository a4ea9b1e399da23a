"""Choices by completions with a tiny model: from reports to the page, killed, shared between cells, planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from radiograd import cli, sampled, stages
from radiograd.decoding import decode
from radiograd.errors import ConfigError, DataError, RunError
from radiograd.experiments.sharing import ROLLOUTS
from radiograd.runs import Run, find_run, read_json, read_jsonl
from radiograd.studies import read_split
from radiograd.text.labels import RuleLabeler
from tests.experiments import small
from tests.test_exploration import chosen, config_of, go, lines

OPEN = {"min_std": 0.0, "rollouts": 3}
"""The texts of a random model hold no finding, so that their F1 hardly ever differs."""


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("diverse")
    return go(config_of(folder, tiny_model, "diverse", {"by": "diverse", "share": 0.2, **OPEN}), folder / "runs")


def test_a_run_aligns_on_the_chosen_and_shows_them(finished: Run) -> None:
    rows, train = lines(finished), read_split(finished, "train")
    count = -(-len(train) // 5)
    assert len(chosen(finished)) == finished.facts("select")["selected"] == count
    assert sorted(row["rank"] for row in rows if row["selected"]) == list(range(1, count + 1))
    assert {row["rank"] for row in rows if not row["selected"]} == {None}
    rolled_out = {
        line["study_id"] for path in (finished.path / "rollouts").glob("*.jsonl") for line in read_jsonl(path)
    }
    assert rolled_out
    assert rolled_out <= chosen(finished)
    page = (finished.path / "report.html").read_text(encoding="utf-8")
    assert "uncertainty of the fine-tuned model and coverage of labels" in page
    assert "How they are chosen: docs/deer.md." in page
    assert "Prevalence of labels before and after" in page
    assert "Coverage of labels and signatures" in page
    for name in ("selection.svg", "selection_coverage.svg"):
        assert (finished.path / name).read_text(encoding="utf-8").startswith("<svg")


def test_the_summary_can_be_recomputed_from_the_lines(finished: Run) -> None:
    rows, summary = lines(finished), read_json(finished.path / "selection_summary.json")
    inside = [row for row in rows if row["selected"]]
    for label, of in summary["prevalence"].items():
        assert of["natural"]["studies"] == sum(label in row["labels"] for row in rows)
        assert of["chosen"]["studies"] == sum(label in row["labels"] for row in inside)
    assert summary["normal"]["chosen"]["studies"] == sum("No Finding" in row["labels"] for row in inside)
    assert sum(summary["gates"].values()) == sum(row["reason"].startswith("refused") for row in rows)
    assert summary["rollouts"] == 3 * len(rows)
    train = {study.study_id: study for study in read_split(finished, "train")}
    rules = RuleLabeler("chexpert14")
    for row in rows[:5]:
        [said] = rules([train[row["study_id"]].sections.impression or ""])
        assert row["labels"] == [name for name, status in said.items() if status == "present"]


def test_no_report_text_stands_in_what_is_told(finished: Run) -> None:
    names = ("done/select.json", "selection_summary.json", "selection.jsonl", "selection.svg")
    told = "".join((finished.path / name).read_text(encoding="utf-8") for name in names)
    assert not [s for s in read_split(finished, "train") if (s.sections.findings or "") in told]


@pytest.mark.parametrize("kept", [0, 2, 5])
def test_killed_while_sampling_it_goes_on_to_the_same_files(
    finished: Run, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (
        "select/rollouts.jsonl",
        "selection.jsonl",
        "selection_summary.json",
        "selection.svg",
        "selection_coverage.svg",
    )
    before = {name: (finished.path / name).read_bytes() for name in names}
    written = before[names[0]].splitlines(keepends=True)
    (finished.path / names[0]).write_bytes(b"".join(written[:kept]) + written[kept][:9])  # a line torn in its middle
    for name in names[1:]:
        (finished.path / name).unlink()
    asked: list[int] = []
    monkeypatch.setattr(
        sampled,
        "decode",
        lambda model, prompts, **more: asked.append(len(prompts)) or decode(model, prompts, **more),
    )
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    stages.select(finished)
    assert {name: (finished.path / name).read_bytes() for name in names} == before
    assert sum(asked) == len(written) - kept // 2 * 2  # batches of 8 // 3 studies; whole ones are not sampled again
    assert bool((torch.random.get_rng_state() == state).all())


def test_completions_of_a_study_differ(finished: Run) -> None:
    rows = list(read_jsonl(finished.path / "select" / "rollouts.jsonl"))
    assert {len(row["texts"]) for row in rows} == {len(row["cut"]) for row in rows} == {3}
    assert sum(len(set(row["texts"])) > 1 for row in rows) > len(rows) / 2


def test_labels_of_references_alone_need_no_model(tiny_model: Path, tmp_path: Path) -> None:
    select = {"by": "diverse", "mode": "reference_labels", "share": 0.25}
    run = go(config_of(tmp_path, tiny_model, "labels", select), tmp_path / "runs", "data", "annotate", "select")
    assert not (run.path / "sft").exists()
    assert not (run.path / "select").exists()
    found = {label for row in lines(run) if row["selected"] for label in row["labels"]}
    assert found >= {"Pleural Effusion", "Pneumothorax", "Lung Lesion", "Atelectasis"}
    assert {row["scores"]["uncertainty"] for row in lines(run)} == {None}


def test_completions_need_the_fine_tuned_model(tiny_model: Path, tmp_path: Path) -> None:
    run = go(config_of(tmp_path, tiny_model, "early", "reward_std"), tmp_path / "runs", "data", "annotate")
    with pytest.raises(RunError, match=r"stage 'sft' has not finished; run: radiograd sft"):
        stages.select(run)


def test_gates_that_leave_too_few_are_told(tiny_model: Path, tmp_path: Path) -> None:
    select = {"by": "diverse", "mode": "reference_labels", "words": [200, 300]}
    run = go(config_of(tmp_path, tiny_model, "few", select), tmp_path / "runs", "data", "annotate")
    said = r"select chose 0 studies \(\d+ were left out; refused: findings of fewer than 200 words\)"
    with pytest.raises(DataError, match=said):
        stages.select(run)
    assert {row["selected"] for row in lines(run)} == {False}


def test_whole_reports_are_chosen_by_their_own_labels(tiny_model: Path, tmp_path: Path) -> None:
    evaluate = {"resamples": 100, "metrics": ["rougeL"], "baselines": ["constant"]}
    select = {"by": "diverse", "share": 0.2, **OPEN}
    config = config_of(tmp_path, tiny_model, "reports", select, task="report", evaluate=evaluate)
    run = go(config, tmp_path / "runs", "data", "sft", "annotate", "select")
    assert read_json(run.path / "selection_summary.json")["section"] == "report"
    assert len(chosen(run)) == -(-len(lines(run)) // 5)


@pytest.mark.parametrize("by", ["diverse", "reward_std"])
def test_a_dry_run_counts_what_is_sampled(tiny_model: Path, tmp_path: Path, by: str) -> None:
    plan = stages.dry_run(config_of(tmp_path, tiny_model, "plan", {"by": by, "share": 0.2, "rollouts": 4}))
    train = plan["studies"]["train"]
    assert plan["aligned_on_at_most"] == -(-train // 5)
    assert plan["selection_rollouts"] == 4 * train
    assert plan["selection_new_tokens_at_most"] == 4 * train * 6
    assert plan["selection_prompt_tokens"] > train
    assert "predicted" not in plan


def test_a_dry_run_without_sampling_counts_none(tiny_model: Path, tmp_path: Path) -> None:
    plan = stages.dry_run(config_of(tmp_path, tiny_model, "plan", {"by": "diverse", "mode": "reference_labels"}))
    assert "selection_rollouts" not in plan
    assert plan["aligned_on_at_most"] == -(-plan["studies"]["train"] // 5)


def test_the_error_of_a_run_that_takes_all_names_the_kinds(tiny_model: Path, tmp_path: Path) -> None:
    run = go(config_of(tmp_path, tiny_model, "all", "all"), tmp_path / "runs", "data")
    with pytest.raises(ConfigError, match="select=hardest, diverse, reward_std or random"):
        stages.select(run)


# ---- cells of an experiment ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    selections: dict[str, dict[str, Any]] = {
        "wide": {"by": "diverse", "share": 0.5, **OPEN},
        "spread": {"by": "reward_std", "share": 0.2, "rollouts": 3},
        "warm": {"by": "reward_std", "share": 0.2, "rollouts": 3, "temperature": 1.5},
    }
    cells = [{"name": n, "set": {"select": s}, "rows": {"aligned": n}} for n, s in selections.items()]
    values = small.values(folder, tiny_model) | {
        "set": {
            "data.split.seed": 7,
            "sft.fraction": 1.0,
            "sft.epochs": 1.0,
            "align": {"type": "sft", "batch_size": 8, "epochs": 0.5},
        },
        "cells": cells,
        "compare": [["wide", "spread"]],
        "judges": [],
        "paper": None,
    }
    file = small.written(folder, values)
    arguments = ["experiment", "run", str(file), "--dir", str(folder / "out")]
    assert cli._call(lambda: cli.cli.main(args=arguments, standalone_mode=False)) == 0
    return folder / "out"


def test_cells_that_sample_alike_sample_once(shared: Path) -> None:
    run = {name: find_run(shared / f"{name}-seed7") for name in ("wide", "spread", "warm")}
    texts = {name: (run[name].path / "select" / "rollouts.jsonl").read_bytes() for name in run}
    assert run["spread"].facts("shared")["from"][ROLLOUTS]["run"] == "wide-seed7"
    assert texts["spread"] == texts["wide"]
    assert ROLLOUTS not in run["warm"].facts("shared")["from"]
    assert texts["warm"] != texts["wide"]
    assert len(chosen(run["spread"])) < len(chosen(run["wide"]))
    rows = read_json(shared / "table.json")["rows"]
    cost = {row["label"]: row["cost"]["stages"]["select"]["seconds"] for row in rows if row.get("cost")}
    assert cost["spread"] >= run["wide"].facts("select")["seconds"]
