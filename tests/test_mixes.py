"""Methods mixed in one configuration: every stage for real, with the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radiograd.config import parse_config, read_values
from radiograd.runs import Run, read_json, read_jsonl
from tests import tiny
from tests.encoder_fixture import write_bert

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL: dict[str, dict[str, Any]] = {
    "sft": {"epochs": 3.0, "lr": 2e-2, "batch_size": 4, "micro_batch": 4},
    "select": {"share": 0.5, "rollouts": 3, "min_std": 0.0},
    "align": {"rollouts": 3, "prompts": 4, "group_size": 4, "micro_batch": 8, "max_new_tokens": 12, "lr": 1e-2},
    "generate": {"max_new_tokens": 12},
    "evaluate": {"resamples": 100},
}


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """configs/all.yaml, whole: only sizes, data and models are others."""
    folder = tmp_path_factory.mktemp("mix")
    values = read_values(CONFIGS / "all.yaml", "")
    for part, more in SMALL.items():
        values[part] = {**values.get(part, {}), **more}
    split = {"val": 0.2, "test": 0.2}
    values["data"] = {"source": "csv", "path": str(tiny.write_table(folder / "rows.csv", 70)), "split": split}
    values["model"] = {"name": str(tiny_model), "dtype": "float32", "device": "cpu", "lora": {"rank": 4, "alpha": 8}}
    values["align"]["guard"] = {"every": 2, "studies": 8, "keep": "best"}
    encoder = str(write_bert(folder / "bert"))
    values["align"]["token_weight"] = {"by": "combined", "encoder": encoder}
    values["align"]["log_rollouts_every"] = 1
    return tiny.finish(parse_config(values, "all.yaml"), folder / "runs")


def test_every_part_of_the_mix_did_its_work(finished: Run) -> None:
    chosen = {row["study_id"] for row in read_jsonl(finished.path / "selection.jsonl") if row["selected"]}
    logged = [row for row in read_jsonl(finished.path / "metrics.jsonl") if row["stage"] == "align"]
    rollouts = [row for file in sorted((finished.path / "rollouts").iterdir()) for row in read_jsonl(file)]
    assert read_json(finished.path / "selection_summary.json")["by"] == "diverse"
    assert {row["study_id"] for row in rollouts} <= chosen
    assert set(rollouts[0]["terms"]) == {"syntax", "domain", "consistent", "impression_f1"}
    assert any("tokens" in row for row in rollouts)
    assert any("critical/clip_share" in row or "normal/clip_share" in row for row in logged)
    assert any("weights/effective_share" in row for row in logged)
    assert finished.facts("classifier")["fit"] > 0
    assert json.loads((finished.path / "classifier" / "labeler.json").read_text())["encoder"]["id"] == "bert"
    assert (finished.path / "guard.jsonl").exists()


def test_the_page_shows_every_part_of_the_mix(finished: Run) -> None:
    page = (finished.path / "report.html").read_text(encoding="utf-8")
    for heading in ("Studies chosen", "Which tokens count", "Was the reward gamed?"):
        assert heading in page, heading
