"""configs/report.yaml with a tiny model, from reports to the page; the same task by preference and in an experiment."""

from __future__ import annotations

import csv
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

from radiograd import stages
from radiograd.config import SHIPPED_CONFIGS, TASK_DEFAULTS, RunConfig, digest, parse_config
from radiograd.errors import ConfigError
from radiograd.experiments.plan import load_plan
from radiograd.runs import Run, read_json, read_jsonl, stages_of
from radiograd.text.generated import cut
from tests import tiny


def write_table(path: Path, n: int) -> Path:
    """The tiny studies with an indication and a comparison; every third says neither, one report holds a mark."""
    columns = ["study_id", "patient_id", "findings", "impression", "normal", "indication", "comparison"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for number, s in enumerate(tiny.studies(n)):
            findings = f"XXXX {s.sections.findings}" if number % 5 == 0 else s.sections.findings
            given = ["", ""] if number % 3 == 0 else [f"Cough for {number} days.", "None." if number % 2 else ""]
            writer.writerow([s.study_id, s.patient_id, findings, s.sections.impression, s.normal, *given])
    return path


def config_of(folder: Path, model: Path, **align: Any) -> RunConfig:
    """The shipped configuration with the tiny model, sixty studies and a few steps."""
    values = yaml.safe_load((SHIPPED_CONFIGS / "report.yaml").read_text(encoding="utf-8"))
    values["data"] = {"source": "csv", "path": str(write_table(folder / "rows.csv", 60)), "limit": {"test": 8}}
    values["model"] = {"name": str(model), "dtype": "float32", "device": "cpu", "lora": {"rank": 4, "alpha": 8}}
    values["sft"] |= {"epochs": 1.0, "fraction": 0.5}
    small = {"rollouts": 2, "prompts": 2, "group_size": 4, "micro_batch": 8, "log_rollouts_every": 1}
    values["align"] = (align or {**values["align"], **small}) | {"max_new_tokens": 12}
    values["generate"] = {"max_new_tokens": 12}
    values["evaluate"] = {"resamples": 100}
    return parse_config(values, "test")


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("report")
    return tiny.finish(config_of(folder, tiny_model), folder / "runs")


# ---- a run -----------------------------------------------------------------------------------------------------------


def test_every_stage_is_done_and_every_row_is_held_against_whole_reports(finished: Run) -> None:
    assert all(finished.done(stage) for stage in stages_of(finished.config))
    summary = read_json(finished.path / "eval" / "test" / "summary.json")
    assert summary["section"] == "report"
    assert list(summary["rows"]) == ["sft", "aligned", "constant", "retrieval", "other_patient"]
    assert set(summary["rows"]["sft"]) == {*TASK_DEFAULTS["report"]["evaluate"]["metrics"], "reward"}
    # a radiologist's report always keeps the format; what the random model writes never does
    kept = {row: entry["report_format"]["mean"] for row, entry in summary["rows"].items()}
    assert kept == {"sft": 0.0, "aligned": 0.0, "constant": 1.0, "retrieval": 1.0, "other_patient": 1.0}
    assert {finished.facts("generate")[f"format_kept_{row}"] for row in ("sft", "aligned")} == {0}


def test_alignment_leaves_no_study_out_and_pays_by_reports(finished: Run) -> None:
    facts = finished.facts("align")
    assert (facts["studies"], facts["left_out_redacted"]) == (facts["studies"], 0)
    rows = [row for path in finished.path.glob("rollouts/*.jsonl") for row in read_jsonl(path)]
    assert set(rows[0]["terms"]) == {"rougeL", "factgraph_partial", "impression/label_f1_14"}
    assert all(row["terms"]["impression/label_f1_14"] == 0.0 for row in rows if not cut(row["completion"]).impression)


def test_the_trivial_rows_are_reports(finished: Run) -> None:
    rows = list(read_jsonl(finished.path / "eval" / "test" / "baselines.jsonl"))
    assert {row["row"] for row in rows} == {"constant", "retrieval", "other_patient"}
    assert all(cut(row["text"]).whole for row in rows)


def test_data_counts_the_marks_of_whole_reports(finished: Run) -> None:
    counts = read_json(finished.path / "data" / "summary.json")
    assert counts["redacted_report_share"] == pytest.approx(12 / 60)
    assert "redacted_impression_share" not in counts


def test_the_page_shows_reports_by_section_and_what_they_were_written_from(finished: Run) -> None:
    html = (finished.path / "report.html").read_text(encoding="utf-8")
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<style>.*?</style>", " ", html))).split())
    assert "indication and comparison to report" in text
    assert "Radiologist’s report Findings" in text
    assert "cannot be cut into findings and impression" in text
    assert "The report of the study with the nearest indication and comparison" in text
    assert "guessed: it is the control for a model that sees them" in text
    assert "Words per report: median, 5 % to 95 %" in text
    assert "Impression: Label F1-14" in text
    assert "Format kept" in text
    assert "Radiologist’s impression" not in text
    assert "Indication not given" in text
    assert "Indication Cough for" in text


def test_a_run_done_again_gives_the_same_files(finished: Run, tmp_path: Path) -> None:
    again = tiny.finish(finished.config, tmp_path / "runs")
    for name in ("eval/test/predictions.jsonl", "eval/test/baselines.jsonl", "eval/test/summary.json"):
        assert (again.path / name).read_bytes() == (finished.path / name).read_bytes()


def test_preferences_are_made_of_reports_and_never_of_one_with_a_mark(tiny_model: Path, tmp_path: Path) -> None:
    dpo = {"type": "dpo", "candidates": 2, "rejected_source": "both", "prompts": 6, "batch_size": 8}
    run = tiny.finish(config_of(tmp_path, tiny_model, **dpo), tmp_path / "runs")
    pairs = list(read_jsonl(run.path / "pairs.jsonl"))
    assert pairs
    assert all(cut(pair["chosen"]).whole and "XXXX" not in pair["chosen"] for pair in pairs)
    assert run.done("report")


def test_the_rules_compare_whole_reports(tiny_model: Path, tmp_path: Path) -> None:
    from radiograd.judges.protocol import duel_of
    from radiograd.judges.rules import Rules

    study = next(s for s in tiny.studies(20) if s.normal is False)
    report = study.sections.report
    assert report is not None
    normal = "Findings: Heart size is normal. The lungs are clear.\nImpression: No acute abnormality."
    seen, unseen = duel_of(study, report, normal, "report", True), duel_of(study, normal, report, "report", False)
    assert (seen.reference, unseen.reference) == (report, None)
    assert [answer.winner for answer in Rules().prefer([seen, unseen])] == ["a", "b"]


# ---- the configuration -----------------------------------------------------------------------------------------------


def test_the_task_changes_defaults_and_nothing_that_was_given() -> None:
    default = parse_config({"task": "report"}, "test")
    assert (default.grpo.max_new_tokens, default.generate.max_new_tokens) == (192, 192)
    assert default.evaluate.baselines == ("constant", "retrieval", "other_patient")
    assert default.model.system_prompt.startswith("You are a radiologist. Write the report")
    given = {
        "task": "report",
        "model": {"system_prompt": "Report."},
        "align": {"type": "dpo", "max_new_tokens": 7},
        "generate": {"max_new_tokens": 9},
        "evaluate": {"metrics": ["rougeL"], "baselines": []},
    }
    config = parse_config(given, "test")
    assert (config.dpo.max_new_tokens, config.generate.max_new_tokens) == (7, 9)
    assert (config.model.system_prompt, config.evaluate.metrics, config.evaluate.baselines) == (
        "Report.",
        ("rougeL",),
        (),
    )
    for kind in ("none", "sft"):
        assert parse_config({"task": "report", "align": {"type": kind}}, "test").align.type == kind


def test_made_in_python_it_has_the_same_defaults() -> None:
    from radiograd.config import DPOConfig, GenerateConfig, ModelConfig

    made = RunConfig(task="report", model=ModelConfig(), generate=GenerateConfig(batch_size=8), align=DPOConfig())
    read = parse_config({"task": "report", "generate": {"batch_size": 8}, "align": {"type": "dpo"}}, "test")
    assert made == read
    assert digest(made) == digest(read)


def test_the_other_task_is_as_it_was() -> None:
    assert digest(parse_config({"task": "findings_to_impression"}, "test")) == digest(RunConfig())
    assert RunConfig().generate.max_new_tokens == 64
    assert "copy_findings" in RunConfig().evaluate.baselines


def test_a_stored_configuration_comes_back_as_it_was() -> None:
    config = parse_config({"task": "report", "generate": {"max_new_tokens": 64}}, "test")
    again = parse_config(json.loads(json.dumps(config.model_dump(mode="json"))), "config.json")
    assert (again, digest(again)) == (config, digest(config))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"evaluate": {"baselines": ["copy_findings"]}}, "copy_findings repeats the findings"),
        (
            {"align": {"type": "dpo", "imports": [{"path": "e.csv", "kind": "expert"}]}},
            r"align\.imports hold impressions",
        ),
        ({"align": {"type": "dpo", "judge": "chat"}}, r"align\.judge chat is asked about impressions"),
        ({"evaluate": {"metrics": ["summary/rougeL"]}}, "before the / stands findings or impression"),
    ],
)
def test_what_does_not_go_with_whole_reports_is_refused_at_once(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        stages.check_names(parse_config({"task": "report", **values}, "test"))


def test_a_judge_of_impressions_may_stand_where_it_is_not_asked() -> None:
    values = {"task": "report", "align": {"type": "dpo", "judge": "chat", "rejected_source": "random"}}
    assert parse_config(values, "test").dpo.judge == "chat"


# ---- an experiment ---------------------------------------------------------------------------------------------------


def test_an_experiment_takes_the_task_as_any_other_key(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "name": "blind",
        "title": "Text-blind",
        "base": "openi",
        "set": {"task": "report", "align": {"type": "none"}, "generate": {}},
        "metrics": ["report_format", "impression/label_f1_14"],
        "cells": [{"name": "sft", "rows": {"sft": "SFT"}}],
    }
    path = tmp_path / "blind.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    [planned] = load_plan(path).runs
    assert (planned.config.task, planned.config.section) == ("report", "report")
    assert planned.config.generate.max_new_tokens == 192
    assert "impression/label_f1_14" in planned.config.evaluate.metrics
    impressions = dict(values, set={"align": {"type": "none"}})
    path.write_text(yaml.safe_dump(impressions), encoding="utf-8")
    assert load_plan(path).runs[0].shared_key != planned.shared_key
    path.write_text(yaml.safe_dump({**values, "judges": [{"judge": "chat"}]}), encoding="utf-8")
    with pytest.raises(ConfigError, match="chat is asked about impressions, and cell 'sft' writes whole reports"):
        load_plan(path)
