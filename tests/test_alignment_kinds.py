"""align.type none and sft: a run that ends with the SFT policy, and one that goes on with supervised fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from radiograd import stages
from radiograd.config import MoreSFTConfig, NoAlignConfig, RunConfig, parse_config
from radiograd.errors import ConfigError
from radiograd.runs import Run, read_json, read_jsonl, stages_of
from radiograd.selection import share_train
from radiograd.types import Study
from tests import tiny


def config_of(folder: Path, model: Path, name: str, align: dict[str, Any], **changed: Any) -> RunConfig:
    values: dict[str, Any] = {
        "name": name,
        "data": {"source": "csv", "path": str(tiny.write_table(folder / "rows.csv", 60)), "limit": {"test": 8}},
        "model": {"name": str(model), "dtype": "float32", "device": "cpu", "lora": {"rank": 4, "alpha": 8}},
        "sft": {"fraction": 0.5, "batch_size": 8},
        "align": align,
        "generate": {"max_new_tokens": 8},
        "evaluate": {"resamples": 100},
        **changed,
    }
    return parse_config(values, "test")


@pytest.fixture(scope="module")
def none(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("none")
    return tiny.finish(config_of(folder, tiny_model, "none", {"type": "none"}), folder / "runs")


@pytest.fixture(scope="module")
def more(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("more")
    align = {"type": "sft", "batch_size": 8, "lr": 2e-3, "epochs": 2.0, "checkpoint_every": 2}
    return tiny.finish(config_of(folder, tiny_model, "more", align), folder / "runs")


def test_without_alignment_the_run_has_one_policy_and_a_page(none: Run) -> None:
    assert stages_of(none.config) == ("data", "sft", "generate", "evaluate", "report")
    assert none.config.policies == ("sft",)
    rows = read_json(none.path / "eval" / "test" / "summary.json")["rows"]
    assert "sft" in rows
    assert "aligned" not in rows
    assert {line["row"] for line in read_jsonl(none.path / "eval" / "test" / "predictions.jsonl")} == {"sft"}
    page = (none.path / "report.html").read_text(encoding="utf-8")
    assert "No alignment has been logged" not in page
    assert not (none.path / "align").exists()


def test_nothing_can_be_aligned_in_a_run_without_alignment(none: Run) -> None:
    with pytest.raises(ConfigError, match=r"align\.type is none: this run ends with the SFT policy"):
        stages.align(none)


def test_more_fine_tuning_is_done_on_the_studies_left_over(more: Run) -> None:
    train = [Study.from_json(row) for row in read_jsonl(more.path / "data" / "train.jsonl")]
    seen, left = share_train(train, 0.5, more.config.seed)
    assert more.facts("sft")["studies"] == len(seen)
    assert more.facts("align")["studies"] == len(left)
    assert more.facts("align")["steps"] == -(-len(left) * 2 // 8)
    steps = [row["step"] for row in more.metrics("align")]
    assert steps == list(range(1, more.facts("align")["steps"] + 1))
    assert "More supervised fine-tuning" in (more.path / "report.html").read_text(encoding="utf-8")


def test_the_new_adapter_starts_at_the_sft_policy_and_leaves_it(more: Run) -> None:
    from peft import load_peft_weights

    ours, theirs = (load_peft_weights(str(more.path / stage / "adapter"), device="cpu") for stage in ("align", "sft"))
    assert ours.keys() == theirs.keys()
    assert any((ours[name] != theirs[name]).any() for name in ours)
    first = more.metrics("align")[0]["loss"]
    # the SFT policy has learnt something: its loss on new studies is below that of its own first step
    assert first < more.metrics("sft")[0]["loss"]


def test_more_fine_tuning_killed_between_checkpoints_ends_the_same(
    more: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from radiograd.train import checkpoints

    folder = tmp_path / "runs" / "more"
    shutil.copytree(more.path, folder)
    for mark in ("align", "generate", "evaluate", "report"):
        (folder / "done" / f"{mark}.json").unlink()
    shutil.rmtree(folder / "align")
    shutil.rmtree(folder / "eval")
    saved = checkpoints.Keeper.on_save

    def killed(self: Any, *arguments: Any, **keywords: Any) -> None:
        saved(self, *arguments, **keywords)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.Keeper, "on_save", killed)
    with pytest.raises(KeyboardInterrupt):
        tiny.finish(more.config, tmp_path / "runs")
    monkeypatch.setattr(checkpoints.Keeper, "on_save", saved)
    assert (folder / "align" / "checkpoints" / "step_000002" / "DONE").exists()
    again = tiny.finish(more.config, tmp_path / "runs")
    ours, theirs = (read_json(run.path / "eval" / "test" / "summary.json")["rows"] for run in (again, more))
    assert ours == theirs
    assert [row["loss"] for row in again.metrics("align")] == [row["loss"] for row in more.metrics("align")]


@pytest.mark.parametrize(
    ("align", "said"),
    [
        ({"type": "nnoe"}, r"align\.type: no alignment is called 'nnoe'\. Did you mean 'none'\?"),
        ({"type": "none", "beta": 0.1}, r"unknown key 'align\.beta': it belongs to align\.type=grpo"),
        ({"type": "sft", "fraction": 0.5}, r"unknown key 'align\.fraction'\."),
        ({"type": "sft", "epoch": 2}, r"unknown key 'align\.epoch'\. Did you mean 'epochs'\?"),
    ],
)
def test_a_wrong_key_of_the_new_kinds_is_told(align: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config({"align": align}, "test")


def test_the_kinds_are_chosen_by_type() -> None:
    assert parse_config({"align": {"type": "none"}}, "x").align == NoAlignConfig()
    config = parse_config({"align": {"type": "sft", "lr": 1e-3}}, "x")
    assert config.more_sft == MoreSFTConfig(lr=1e-3)
    assert config.reward is None
    with pytest.raises(ConfigError, match=r"align\.type is none, not sft"):
        _ = parse_config({"align": {"type": "none"}}, "x").more_sft


def test_a_dry_run_counts_what_is_trained_on(tiny_model: Path, tmp_path: Path) -> None:
    plan = stages.dry_run(config_of(tmp_path, tiny_model, "none", {"type": "none"}))
    assert (plan["aligned_on_at_most"], plan["optimiser_steps"]["align"]) == (0, 0)
    align = {"type": "sft", "batch_size": 8, "epochs": 2.0}
    plan = stages.dry_run(config_of(tmp_path, tiny_model, "more", align))
    assert plan["optimiser_steps"]["align"] == -(-plan["aligned_on_at_most"] * 2 // 8)
    assert plan["align_tokens"] > 0


def test_a_seed_of_its_own_keeps_the_split_while_the_run_has_another(tiny_model: Path, tmp_path: Path) -> None:
    from radiograd.data.prepare import prepare

    def test_ids(seed: int, split: dict[str, Any]) -> list[str]:
        table = str(tiny.write_table(tmp_path / "rows.csv", 60))
        data = {"source": "csv", "path": table, "split": split, "limit": {"test": 8}}
        return [study.study_id for study in prepare(parse_config({"seed": seed, "data": data}, "x")).test]

    assert test_ids(1, {"seed": 7}) == test_ids(2, {"seed": 7}) == test_ids(7, {})
    assert test_ids(1, {}) != test_ids(2, {})
