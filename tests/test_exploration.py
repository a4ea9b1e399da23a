"""Target exploration with a tiny model: from reports to the page, cross-fitted, killed, from the command line."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

from radiograd import cli, models, stages
from radiograd.config import RunConfig, parse_config
from radiograd.decoding import decode
from radiograd.errors import ConfigError, DataError, RunError
from radiograd.exploration import folds_of
from radiograd.prompts import Prompter
from radiograd.report import report_run
from radiograd.runs import Run, find_run, open_run, read_json, read_jsonl, run_stages, stages_of
from radiograd.studies import aligned_on, read_split
from radiograd.train import sft as fine_tuning
from tests import tiny

METRICS = {"bleu2": 1.0, "rougeL": 1.0}


def values_of(folder: Path, model: Path, name: str, select: Any, **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "data": {"source": "csv", "path": str(tiny.write_table(folder / "rows.csv", 60)), "limit": {"test": 4}},
        "model": {"name": str(model), "dtype": "float32", "device": "cpu", "lora": {"rank": 4, "alpha": 8}},
        "sft": {"batch_size": 8, "epochs": 1.0, "lr": 2e-2},
        "select": select,
        "align": {
            "clip": "critical",
            "reward": {"rougeL": 1.0},
            "rollouts": 2,
            "prompts": 2,
            "group_size": 2,
            "micro_batch": 4,
            "max_new_tokens": 6,
        },
        "generate": {"max_new_tokens": 6, "batch_size": 8},
        "evaluate": {"resamples": 100, "metrics": ["rougeL"], "baselines": ["constant"]},
        **changed,
    }


def config_of(folder: Path, model: Path, name: str, select: Any, **changed: Any) -> RunConfig:
    return parse_config(values_of(folder, model, name, select, **changed), "test")


def go(config: RunConfig, root: Path, *names: str) -> Run:
    with open_run(config, root, "radiograd run") as run:
        found = stages.programs(config)
        run_stages(run, {name: found[name] for name in names} if names else found)
    return run


def lines(run: Run) -> list[dict[str, Any]]:
    return list(read_jsonl(run.path / "selection.jsonl"))


def chosen(run: Run) -> set[str]:
    return {row["study_id"] for row in lines(run) if row["selected"]}


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("hardest")
    select = {"by": "hardest", "share": 0.2, "metrics": METRICS}
    return go(config_of(folder, tiny_model, "hardest", select), folder / "runs")


# ---- a whole run -----------------------------------------------------------------------------------------------------


def test_a_run_goes_through_every_stage_in_order(finished: Run) -> None:
    whole = ("data", "sft", "annotate", "select", "align", "generate", "evaluate", "report")
    assert stages_of(finished.config) == whole
    assert all(finished.done(stage) for stage in whole)


def test_the_chosen_are_the_worst_predicted_and_alignment_sees_no_others(finished: Run) -> None:
    rows = lines(finished)
    train = read_split(finished, "train")
    assert [row["study_id"] for row in rows] == [study.study_id for study in train]
    count = -(-len(train) // 5)  # a fifth, rounded up
    assert finished.facts("select")["selected"] == len(chosen(finished)) == count
    assert sorted(row["rank"] for row in rows if row["selected"]) == list(range(1, count + 1))
    worst = max(row["score"] for row in rows if row["selected"])
    assert worst == finished.facts("select")["cut"] <= min(row["score"] for row in rows if not row["selected"])
    rolled_out = {
        line["study_id"] for path in (finished.path / "rollouts").glob("*.jsonl") for line in read_jsonl(path)
    }
    assert rolled_out <= chosen(finished)
    assert rolled_out


def test_a_prediction_is_the_greedy_text_of_the_fine_tuned_model(finished: Run) -> None:
    config = finished.config
    tokenizer = models.load_tokenizer(config.model)
    prompter = Prompter(tokenizer, config.model, config.task)
    model = models.load_policy(config.model, merged=[finished.path / "sft" / "adapter"])
    said = {row["study_id"]: row for row in read_jsonl(finished.path / "select" / "predictions.jsonl")}
    for study in read_split(finished, "train")[:3]:
        ids = prompter.ids(prompter.prompt(study).content)
        (tokens,) = decode(model, [ids], max_new_tokens=6, eos=[tokenizer.eos_token_id], pad=0)
        assert said[study.study_id]["text"] == tokenizer.decode(tokens, skip_special_tokens=True).strip()
        assert said[study.study_id]["row"] == "sft"


def test_the_studies_carry_what_they_were_annotated_as(finished: Run) -> None:
    known = {row["study_id"]: row["critical"] for row in read_jsonl(finished.path / "criticality.jsonl")}
    found = aligned_on(finished)
    assert {study.study_id for study in found} == chosen(finished)
    assert [study.critical for study in found] == [known[study.study_id] for study in found]
    assert [row["critical"] for row in lines(finished)] == [known[row["study_id"]] for row in lines(finished)]
    # the synthetic studies name their finding: the rules judge agrees with whoever wrote them
    train = {study.study_id: study for study in read_split(finished, "train")}
    assert all(known[key] is not study.normal for key, study in train.items())


def test_the_page_shows_the_choice(finished: Run) -> None:
    page = (finished.path / "report.html").read_text(encoding="utf-8")
    assert 'id="h-chosen">Studies chosen' in page
    assert "Critical cases" in page
    assert (finished.path / "selection.svg").read_text(encoding="utf-8").startswith("<svg")
    share = read_json(finished.path / "selection_summary.json")["critical"]["inside"]["share"]
    assert ("CAPO is then nearly GRPO with eps/4" in page) == (share > 0.9)


def test_the_page_warns_when_nearly_all_chosen_studies_are_critical(finished: Run) -> None:
    path = finished.path / "selection_summary.json"
    before = path.read_text(encoding="utf-8")
    summary = json.loads(before)
    for share, warned in ((0.91, True), (0.9, False)):
        summary["critical"]["inside"]["share"] = share
        path.write_text(json.dumps(summary), encoding="utf-8")
        report_run(finished)
        page = (finished.path / "report.html").read_text(encoding="utf-8")
        assert ("are critical: CAPO is then nearly GRPO with eps/4" in page) is warned
    summary["critical"]["inside"]["share"] = 1.0
    path.write_text(json.dumps(summary), encoding="utf-8")
    align = finished.config.grpo.model_copy(update={"clip": "constant"})
    report_run(Run(finished.path, finished.config.model_copy(update={"align": align})))
    assert "CAPO" not in (finished.path / "report.html").read_text(encoding="utf-8")
    path.write_text(before, encoding="utf-8")
    report_run(finished)


def test_no_report_text_stands_in_facts_or_summary(finished: Run) -> None:
    names = ("done/select.json", "done/annotate.json", "selection_summary.json", "criticality_summary.json")
    told = "".join((finished.path / name).read_text(encoding="utf-8") for name in names)
    told += (finished.path / "selection.jsonl").read_text(encoding="utf-8")
    assert not [s for s in read_split(finished, "train") if (s.sections.findings or "") in told]


# ---- stopped and started ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 8, 13])
def test_killed_between_batches_it_goes_on_to_the_same_files(
    finished: Run, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("select/predictions.jsonl", "selection.jsonl", "selection_summary.json", "selection.svg")
    before = {name: (finished.path / name).read_bytes() for name in names}
    predicted = before[names[0]].splitlines(keepends=True)
    (finished.path / names[0]).write_bytes(b"".join(predicted[:kept]) + predicted[kept][:7])
    for name in names[1:]:
        (finished.path / name).unlink()
    asked: list[int] = []
    monkeypatch.setattr(
        "radiograd.greedy.decode",
        lambda model, prompts, **more: asked.append(len(prompts)) or decode(model, prompts, **more),
    )
    stages.select(finished)
    assert {name: (finished.path / name).read_bytes() for name in names} == before
    assert sum(asked) == len(predicted) - kept // 8 * 8  # whole batches of 8 are not written again


# ---- cross-fitting ---------------------------------------------------------------------------------------------------


def test_each_study_is_predicted_by_the_model_that_has_not_seen_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[str]] = {}
    train = fine_tuning._train

    def watched(run: Run, place: Any, studies: Any, how: Any) -> dict[str, Any]:
        seen[place.stage] = {study.study_id for study in studies}
        return train(run, place, studies, how)

    monkeypatch.setattr(fine_tuning, "_train", watched)
    select = {"by": "hardest", "share": 0.2, "metrics": METRICS, "folds": 2}
    config = config_of(tmp_path, tiny_model, "folds", select)
    run = go(config, tmp_path / "runs", "data", "sft", "annotate", "select")
    everything = {study.study_id for study in read_split(run, "train")}
    assert seen["sft"] == everything
    assert seen["select_fold_1"] | seen["select_fold_2"] == everything
    assert not seen["select_fold_1"] & seen["select_fold_2"]
    assert abs(len(seen["select_fold_1"]) - len(seen["select_fold_2"])) <= 1
    for row in read_jsonl(run.path / "select" / "predictions.jsonl"):
        assert row["study_id"] not in seen[f"select_{row['row']}"]
    adapters = [load_file(run.path / "select" / f"fold_{k}" / "adapter" / "adapter_model.safetensors") for k in (1, 2)]
    assert any(not bool((adapters[0][name] == adapters[1][name]).all()) for name in adapters[0])
    assert run.facts("select")["folds"] == 2
    assert {row["stage"] for row in run.metrics()} == {"sft", "select_fold_1", "select_fold_2"}

    # killed after the first fold: the second alone is trained again
    before = (run.path / "selection.jsonl").read_bytes()
    (run.path / "done" / "select_fold_2.json").unlink()
    (run.path / "select" / "predictions.jsonl").unlink()
    seen.clear()
    stages.select(run)
    assert set(seen) == {"select_fold_2"}
    assert (run.path / "selection.jsonl").read_bytes() == before


def test_near_duplicates_stay_in_one_part(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from radiograd import exploration

    monkeypatch.setattr("radiograd.train.sft.train_fold", lambda run, studies, number: {})
    rows = ["study_id,patient_id,findings,impression"]
    rows += [f"s{k},p{k},There is a nodule number {k // 3} at place {k // 3}.,Nodule." for k in range(120)]
    path = tmp_path / "near.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    data = {"source": "csv", "path": str(path), "split": {"val": 0.0, "test": 0.2, "near_duplicate": 1.0}}
    select = {"by": "hardest", "metrics": METRICS, "folds": 3}
    run = go(config_of(tmp_path, tiny_model, "near", select, data=data), tmp_path / "runs", "data")
    folds = exploration.train_folds(run)
    for fold in folds:
        assert {int(key[1:]) // 3 for key in fold.unseen}.isdisjoint(
            {int(key[1:]) // 3 for other in folds if other is not fold for key in other.unseen}
        )


def test_folds_are_pointless_where_the_model_has_not_seen_what_it_predicts(caplog: pytest.LogCaptureFixture) -> None:
    config = RunConfig.model_validate({"select": {"by": "hardest", "folds": 4}})
    assert folds_of(config) == 4
    with caplog.at_level(logging.WARNING):
        assert folds_of(config.model_copy(update={"sft": config.sft.model_copy(update={"fraction": 0.8})})) == 0
    assert "select.folds=4 is not needed with sft.fraction=0.8" in caplog.text


# ---- other selections and alignments ---------------------------------------------------------------------------------


def test_a_draw_needs_no_model(tiny_model: Path, tmp_path: Path) -> None:
    select = {"by": "random", "share": 0.25}
    run = go(config_of(tmp_path, tiny_model, "drawn", select), tmp_path / "runs", "data", "annotate", "select")
    assert not (run.path / "sft").exists()
    assert len(chosen(run)) == -(-len(lines(run)) // 4)
    assert not (run.path / "selection.svg").exists()
    assert {row["score"] for row in lines(run)} == {None}
    assert sorted(row["rank"] for row in lines(run) if row["selected"]) == list(range(1, len(chosen(run)) + 1))


def test_pairs_and_more_fine_tuning_are_made_of_the_chosen_too(tiny_model: Path, tmp_path: Path) -> None:
    select = {"by": "random", "share": 0.2}
    pairs = {"type": "dpo", "candidates": 2, "rejected_source": "both", "max_new_tokens": 6}
    run = go(
        config_of(tmp_path, tiny_model, "pairs", select, align=pairs),
        tmp_path / "runs",
        *("data", "sft", "annotate", "select", "pairs"),
    )
    candidates = read_jsonl(run.path / "pairs" / "round_0000" / "candidates.jsonl")
    assert {row["study_id"] for row in candidates} == chosen(run)
    more = {"type": "sft", "batch_size": 8}
    run = go(
        config_of(tmp_path, tiny_model, "more", select, align=more),
        tmp_path / "runs",
        *("data", "sft", "annotate", "select", "align"),
    )
    assert run.facts("align")["studies"] == len(chosen(run))


def test_whole_reports_are_held_against_whole_reports(tiny_model: Path, tmp_path: Path) -> None:
    select = {"by": "hardest", "share": 0.2, "metrics": METRICS}
    rows = ["study_id,patient_id,indication,findings,impression"]
    rows += [f"s{k},p{k},Pain {k},Film {k} is clear of any nodule {k % 7}.,Normal XXXX {k}." for k in range(40)]
    path = tmp_path / "reports.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    data = {"source": "csv", "path": str(path), "split": {"val": 0.0, "test": 0.2, "near_duplicate": 1.0}}
    evaluate = {"resamples": 100, "metrics": ["rougeL"], "baselines": ["constant"]}
    config = config_of(tmp_path, tiny_model, "reports", select, task="report", data=data, evaluate=evaluate)
    run = go(config, tmp_path / "runs", "data", "sft", "annotate", "select")
    # a redaction mark leaves an impression out; whole reports lose the mark alone
    assert len(lines(run)) == len(read_split(run, "train"))
    assert read_json(run.path / "selection_summary.json")["section"] == "report"
    assert len(chosen(run)) == -(-len(lines(run)) // 5)
    assert {study.study_id for study in aligned_on(run)} == chosen(run)


def test_a_threshold_that_leaves_too_few_says_so_and_leaves_the_scores_to_look_at(
    tiny_model: Path, tmp_path: Path
) -> None:
    select = {"by": "hardest", "threshold": -1.0, "metrics": METRICS}
    config = config_of(tmp_path, tiny_model, "few", select)
    run = go(config, tmp_path / "runs", "data", "sft", "annotate")
    with pytest.raises(DataError, match=r"select chose 0 studies, alignment needs align\.prompts=2 or more"):
        stages.select(run)
    assert len(lines(run)) == len(read_split(run, "train"))
    assert not run.done("select")
    with pytest.raises(RunError, match=r"stage 'select' has not finished; run: radiograd select"):
        stages.align(run)


def test_a_share_that_is_too_small_is_found_before_anything_is_trained(tiny_model: Path, tmp_path: Path) -> None:
    select = {"by": "hardest", "share": 0.01}
    with pytest.raises(DataError, match=r"select chose 1 studies.*Raise select\.share=0\.01, or lower align\.prompts"):
        go(config_of(tmp_path, tiny_model, "small", select), tmp_path / "runs", "data")


# ---- before anything is loaded ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"select": {"by": "hardest", "metrics": {"bleu22": 1.0}}},
            r"no metric is called 'bleu22'\. Did you mean 'bleu2'",
        ),
        ({"select": "random", "criticality": {"judge": "rulse"}}, r"no judge is called 'rulse'\. Did you mean 'rules'"),
        (
            {"align": {"clip": "critical"}, "criticality": {"judge": "chat"}},
            r"judge 'chat': option 'base_url' is missing",
        ),
    ],
)
def test_a_wrong_name_is_found_first(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        stages.check_names(parse_config({**values, "model": {"name": "/no/such/model"}}, "test"))


def test_a_judge_that_does_not_count_is_not_looked_for() -> None:
    stages.check_names(parse_config({"select": "random", "criticality": {"source": "labels", "judge": "rulse"}}, "x"))


def test_nothing_is_chosen_where_all_are_taken(tiny_model: Path, tmp_path: Path) -> None:
    run = go(config_of(tmp_path, tiny_model, "all", "all"), tmp_path / "runs", "data")
    assert stages_of(run.config) == ("data", "sft", "annotate", "align", "generate", "evaluate", "report")
    with pytest.raises(ConfigError, match=r"select\.by is all: there is nothing to choose"):
        stages.select(run)


def test_a_dry_run_counts_the_share_the_predictions_and_the_folds(tiny_model: Path, tmp_path: Path) -> None:
    select = {"by": "hardest", "share": 0.2, "metrics": METRICS, "folds": 3}
    plan = stages.dry_run(config_of(tmp_path, tiny_model, "plan", select))
    train = plan["studies"]["train"]
    assert plan["aligned_on_at_most"] == -(-train // 5)
    assert (plan["annotated"], plan["predicted"], plan["fold_models"]) == (train, train, 3)
    assert plan["prediction_new_tokens_at_most"] == train * 6
    assert plan["fold_tokens"] == 2 * plan["sft_tokens"]  # three models, each on two thirds
    everything = stages.dry_run(config_of(tmp_path, tiny_model, "plan", "all", align={"clip": "constant"}))
    assert not {"annotated", "predicted", "fold_models"} & set(everything)


# ---- the command line ------------------------------------------------------------------------------------------------


def test_annotate_and_select_print_their_tables(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    select = {"by": "random", "share": 0.2}
    path.write_text(yaml.safe_dump(values_of(tmp_path, tiny_model, "typed", select)), encoding="utf-8")
    runner = CliRunner()
    done = runner.invoke(cli.cli, ["annotate", str(path), "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 0, done.output
    assert "Critical among" in done.output
    assert "source's codes" in done.output
    done = runner.invoke(cli.cli, ["select", str(tmp_path / "runs" / "typed")])
    assert done.exit_code == 0, done.output
    assert "studies chosen (random)" in done.output
    assert "critical %" in done.output
    assert find_run(tmp_path / "runs" / "typed").done("select")
