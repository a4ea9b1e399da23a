"""radiograd experiment: two cells end to end with a tiny model; killed, failing, shared; the table against its runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.experiments import small

from radiograd import cli
from radiograd.experiments import showing
from radiograd.experiments.plan import load_plan
from radiograd.experiments.running import status
from radiograd.experiments.table import build_table
from radiograd.runs import find_run, read_json, read_jsonl, write_json

MORE, RGRO = small.MORE, small.RGRO


def call(*arguments: str) -> int:
    return cli._call(lambda: cli.cli.main(args=["experiment", *arguments], standalone_mode=False))


@pytest.fixture(scope="module")
def done(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The file of a finished experiment and its folder; one cell has a second seed."""
    folder = tmp_path_factory.mktemp("experiment")
    values = small.values(folder, tiny_model)
    values["cells"][0] |= {"seeds": [7, 8], "set": {"align.rejected_source": "judge_loser"}}
    file = small.written(folder, values)
    assert call("run", str(file), "--dir", str(folder / "out")) == 0
    return file, folder / "out"


def marks(root: Path) -> dict[str, int]:
    """When each mark of each run was written, in nanoseconds."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(root.glob("*-seed*/done/*.json"))}


# ---- the runs --------------------------------------------------------------------------------------------------------


def test_every_cell_and_seed_is_a_run_folder_of_its_own(done: tuple[Path, Path]) -> None:
    file, root = done
    plan = load_plan(file)
    assert [planned.name for planned in plan.runs] == ["rgro-seed7", "rgro-seed8", "more-seed7"]
    for planned in plan.runs:
        run = find_run(root / planned.name)
        assert run.config == planned.config
        assert (run.path / "report.html").exists()
        assert status(planned, root).state == "finished"
    assert find_run(root / "rgro-seed8").config.seed == 8


def test_the_test_studies_are_the_same_in_every_run(done: tuple[Path, Path]) -> None:
    ids = [
        [row["study_id"] for row in read_jsonl(path / "data" / "test.jsonl")]
        for path in sorted(done[1].glob("*-seed*"))
    ]
    assert ids[0] == ids[1] == ids[2]


def test_equal_fine_tuning_is_copied_and_said(done: tuple[Path, Path]) -> None:
    more, rgro, other = (find_run(done[1] / name) for name in ("more-seed7", "rgro-seed7", "rgro-seed8"))
    assert more.facts("sft")["copied_from"]["run"] == "rgro-seed7"
    assert "copied_from" not in rgro.facts("sft")
    assert "copied_from" not in other.facts("sft")  # another seed is another policy
    assert set(more.facts("shared")["from"]) == {"data", "sft", "impressions of sft"}
    name = "adapter_model.safetensors"
    assert (more.path / "sft/adapter" / name).read_bytes() == (rgro.path / "sft/adapter" / name).read_bytes()
    assert more.facts("sft")["tokens"] == rgro.facts("sft")["tokens"]
    assert more.metrics("sft") == rgro.metrics("sft")
    log = (more.path / "attempts" / "001" / "log.txt").read_text(encoding="utf-8")
    assert "sft: already finished" in log
    ours, theirs = (
        [row for row in read_jsonl(run.path / "eval/test/predictions.jsonl") if row["row"] == "sft"]
        for run in (more, rgro)
    )
    assert ours == theirs


def test_run_again_nothing_is_done_twice(done: tuple[Path, Path]) -> None:
    file, root = done
    before = marks(root)
    assert call("run", str(file), "--dir", str(root)) == 0
    assert marks(root) == before


def test_only_some_cells(done: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, _ = done
    assert call("run", str(file), "--dir", str(tmp_path / "x"), "--only", "mroe") == 2
    assert "no cell is called 'mroe'. Did you mean 'more'?" in capsys.readouterr().err
    assert call("run", str(file), "--dir", str(tmp_path / "x"), "--only", "more", "--dry-run") == 0
    assert [entry["run"] for entry in json.loads(capsys.readouterr().out)] == ["more-seed7"]
    assert not (tmp_path / "x").exists()


def test_a_folder_of_another_configuration_is_a_failure_with_the_difference(
    done: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, root = done
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    values["cells"][1]["set"]["align"]["lr"] = 0.5
    changed = small.written(file.parent, values, "changed.yaml")
    assert call("run", str(changed), "--dir", str(root), "--only", "more") == 1
    assert "more-seed7: FAILED" in (told := capsys.readouterr().err)
    assert "align.lr: 0.01 -> 0.5" in told
    table = read_json(root / "table.json")
    assert table["runs"]["more-seed7"]["state"] == "other"
    assert "align.lr: 0.01 -> 0.5" in table["runs"]["more-seed7"]["why"]
    assert table["runs"]["rgro-seed7"]["state"] == "finished"
    assert call("table", str(file), "--dir", str(root)) == 0
    assert read_json(root / "table.json")["runs"]["more-seed7"]["state"] == "finished"


def test_runs_made_with_other_overrides_are_not_mixed(
    done: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file, root = done
    before = (root / "experiment.json").read_bytes()
    assert call("run", str(file), "--dir", str(root), "sft.epochs=1") == 1
    assert "was run with nothing changed, now it is to be run with sft.epochs=1" in capsys.readouterr().err
    assert (root / "experiment.json").read_bytes() == before


# ---- killed and failing ----------------------------------------------------------------------------------------------


def test_killed_and_run_again_it_goes_on_where_it_stopped(done: tuple[Path, Path], tmp_path: Path) -> None:
    file, finished = done
    root = tmp_path / "out"
    command = [sys.executable, "-m", "radiograd.cli", "experiment", "run", str(file), "--dir", str(root)]
    with (tmp_path / "err.txt").open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=errors
        )
        deadline = time.monotonic() + 60
        while not (root / "rgro-seed7" / "done" / "align.json").exists():
            assert process.poll() is None, (tmp_path / "err.txt").read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (root / "rgro-seed7" / "done" / "report.json").exists()
    before = marks(root)
    assert call("run", str(file), "--dir", str(root)) == 0
    after = marks(root)
    assert {path: when for path, when in after.items() if path in before} == before
    ours, theirs = (read_json(folder / "table.json") for folder in (root, finished))
    for row in (*ours["rows"], *theirs["rows"]):
        row["cost"] = None  # time is not the same
    assert ours == theirs


def test_a_failing_cell_does_not_stop_the_others(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = small.values(tmp_path, tiny_model)
    values["cells"][0]["set"] = {"data.limit.test": 1, "evaluate.baselines": ["other_patient"]}
    values["cells"][1]["set"] |= {"align": {"type": "none"}}
    values["cells"][1]["rows"] = {"sft": MORE}
    file = small.written(tmp_path, values)
    assert call("run", str(file), "--dir", str(tmp_path / "out")) == 1
    told = capsys.readouterr()
    assert (
        "rgro-seed7: FAILED: baseline 'other_patient' needs held-out impressions of at least two patients" in told.err
    )
    assert "failed: rgro-seed7; the same command tries again" in told.err
    table = read_json(tmp_path / "out" / "table.json")
    assert table["runs"]["rgro-seed7"]["state"] == "failed"
    assert table["runs"]["more-seed7"]["state"] == "finished"
    markdown = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "- rgro-seed7: failed in data: baseline 'other_patient' needs" in markdown
    (missing,) = (row for row in table["rows"] if row["label"] == RGRO)
    assert (missing["seeds"], missing["planned_seeds"], missing["strata"]) == ([], [7], {})
    assert f"{RGRO} - {MORE}" in table["left_out"]


# ---- the table -------------------------------------------------------------------------------------------------------


def rows_of(root: Path) -> dict[str, Any]:
    return {row["label"]: row for row in read_json(root / "table.json")["rows"]}


def test_its_values_are_those_of_the_runs(done: tuple[Path, Path]) -> None:
    file, root = done
    rows = rows_of(root)
    for label, (cell, system) in load_plan(file).experiment.labels.items():
        for seed in rows[label]["seeds"]:
            summary = read_json(root / f"{cell.name}-seed{seed}" / "eval" / "test" / "summary.json")
            for kind in ("all", "abnormal"):
                theirs = summary["rows"] if kind == "all" else summary["strata"][kind]
                for metric, entry in rows[label]["strata"][kind].items():
                    assert entry["seeds"][str(seed)]["mean"] == pytest.approx(theirs[system][metric]["mean"], abs=1e-12)
                    assert entry["n"] == theirs[system][metric]["n"]


def test_several_seeds_are_their_mean_and_each_is_listed(done: tuple[Path, Path]) -> None:
    rows = rows_of(done[1])
    assert rows["SFT-50"]["seeds"] == [7, 8]
    entry = rows["SFT-50"]["strata"]["all"]["length_ratio"]
    assert entry["mean"] == pytest.approx((entry["seeds"]["7"]["mean"] + entry["seeds"]["8"]["mean"]) / 2)
    assert rows[MORE]["seeds"] == [7]
    single = rows[MORE]["strata"]["all"]["length_ratio"]
    assert (single["mean"], single["low"]) == (single["seeds"]["7"]["mean"], single["seeds"]["7"]["low"])


def test_differences_are_those_of_compare(done: tuple[Path, Path]) -> None:
    from radiograd.compare import compare, read_run

    _, root = done
    table = read_json(root / "table.json")
    (entry,) = (e for e in table["paired"] if (e["b"], e["metric"], e["stratum"]) == (MORE, "length_ratio", "all"))
    systems = [read_run(root / name, name, "test", "aligned") for name in ("rgro-seed7", "more-seed7")]
    found = compare(systems, metrics=["length_ratio"], resamples=100)
    theirs = next(e for e in found["paired"] if e["stratum"] == "all")
    assert list(entry["seeds"]) == ["7"]  # the only seed that both have
    assert entry["difference"] == pytest.approx(theirs["difference"], abs=1e-12)
    assert entry["n"] == theirs["n"]
    both = [e for e in table["paired"] if (e["b"], e["metric"], e["stratum"]) == ("SFT-50", "length_ratio", "all")]
    mean = sum(one["difference"] for one in both[0]["seeds"].values()) / 2
    assert both[0]["difference"] == pytest.approx(mean, abs=1e-12)


def test_trivial_rows_stand_once(done: tuple[Path, Path]) -> None:
    table = read_json(done[1] / "table.json")
    trivial = [(row["label"], row["cell"], row["cost"]) for row in table["rows"] if row["trivial"]]
    assert trivial == [("constant", "rgro", None), ("retrieval", "rgro", None)]


def test_cost_is_that_of_the_stages_also_where_they_were_copied(done: tuple[Path, Path]) -> None:
    _, root = done
    rows = rows_of(root)
    more = find_run(root / "more-seed7")
    tokens = more.facts("sft")["tokens"] + more.facts("align")["tokens"]
    assert rows[MORE]["cost"]["tokens"] == tokens
    seconds = more.facts("sft")["seconds"] + more.facts("align")["seconds"]
    assert rows[MORE]["cost"]["minutes"] == pytest.approx(seconds / 60, abs=0.006)
    assert set(rows[RGRO]["cost"]["stages"]) == {"sft", "pairs", "align"}
    assert set(rows["SFT-50"]["cost"]["stages"]) == {"sft"}


def test_the_judge_is_asked_about_every_pair_and_its_own_work_is_marked(done: tuple[Path, Path]) -> None:
    _, root = done
    entries = {(e["a"], e["b"]): e for e in read_json(root / "table.json")["preferences"]}
    assert set(entries) == {(RGRO, "SFT-50"), (RGRO, MORE)}
    for entry in entries.values():
        shares = [entry[name]["mean"] for name in ("win", "tie", "loss")]
        assert sum(shares) == pytest.approx(1.0)
        assert entry["net"]["mean"] == pytest.approx(shares[0] - shares[2])
        assert entry["net"]["n"] == 8
        assert "rgro-seed7.aligned" in entry["judges_its_own"]
    markdown = (root / "table.md").read_text(encoding="utf-8")
    assert "rules also made the pairs that rgro-seed7.aligned, rgro-seed8.aligned was trained on" in markdown


def test_a_judges_answer_counts_for_the_texts_it_was_about(done: tuple[Path, Path]) -> None:
    from radiograd.experiments.preferring import answers

    _, root = done
    (path,) = root.glob("preferences/*/rgro-seed7.aligned--more-seed7.aligned.jsonl")
    rows = list(read_jsonl(path))
    texts = {row["study_id"]: ("a", "b") for row in rows}
    assert answers(path, texts) == {}
    assert all(set(row) == {"study_id", "of", "signature", "winner", "why", "by_order"} for row in rows)


def test_the_papers_numbers_stand_apart_with_what_cannot_be(done: tuple[Path, Path]) -> None:
    _, root = done
    paper = read_json(root / "table.json")["paper"]
    (line,) = paper["rows"]
    assert line["paper"] == {"rouge1": 40.0, "rougeL": 41.0}
    assert line["impossible"] == {"rougeL": "ROUGE-L above ROUGE-1"}
    assert line["ours"]["rouge1"] == rows_of(root)[RGRO]["strata"]["all"]["rouge1"]
    assert "41.0 !" in (root / "table.md").read_text(encoding="utf-8")


def test_the_plot_is_an_svg_that_stands_by_itself(done: tuple[Path, Path]) -> None:
    import xml.etree.ElementTree as ET

    svg = ET.fromstring((done[1] / "plot.svg").read_text(encoding="utf-8"))
    said = svg.attrib["aria-label"]
    assert all(label in said for label in ("SFT-50", RGRO, MORE, "constant", "retrieval"))
    assert svg.find("{http://www.w3.org/2000/svg}style") is not None


def test_the_curve_draws_the_rows_that_are_asked_for(done: tuple[Path, Path]) -> None:
    import xml.etree.ElementTree as ET

    file, root = done
    lines = {"aligned": {"5": RGRO, "100": MORE}}
    (file.parent / "curve.yaml").write_text(
        yaml.safe_dump(
            yaml.safe_load(file.read_text())
            | {"curve": {"x": "share, %", "lines": lines, "level": "SFT-50", "metrics": ["rouge1"]}}
        )
    )
    plan = load_plan(file.parent / "curve.yaml")
    drawn = showing.curves(build_table(plan, root))
    said = ET.fromstring(drawn["rouge1"]).attrib["aria-label"]
    assert said.startswith("rouge1, all test studies by share, %: aligned 5: ")
    assert ", 100: " in said
    assert showing.curves(build_table(load_plan(file), root)) == {}


def test_the_table_command_prints_what_it_writes(done: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    file, root = done
    assert call("table", str(file), "--dir", str(root), "--json") == 0
    assert json.loads(capsys.readouterr().out) == read_json(root / "table.json")
    assert call("table", str(file), "--dir", str(root), "--markdown") == 0
    assert capsys.readouterr().out == (root / "table.md").read_text(encoding="utf-8")
    assert call("table", str(file), "--dir", str(root), "--markdown", "--json") == 2
    assert call("table", str(file), "--dir", str(root / "nowhere")) == 2
    assert "no such folder; run: radiograd experiment run" in capsys.readouterr().err


def test_what_was_typed_for_the_run_is_kept_for_the_table(done: tuple[Path, Path]) -> None:
    file, root = done
    plan = load_plan(file, ["metrics=[rouge1]", "strata=[all]"])
    assert list(build_table(plan, root)["rows"][0]["strata"]["all"]) == ["rouge1"]
    stored = read_json(root / "experiment.json")
    write_json(root / "experiment.json", {**stored, "overrides": ["metrics=[rouge1]"]})
    assert call("table", str(file), "--dir", str(root)) == 0
    assert read_json(root / "table.json")["metrics"] == ["rouge1"]
    write_json(root / "experiment.json", stored)
    assert call("table", str(file), "--dir", str(root)) == 0


def test_a_part_of_a_metric_is_a_column(done: tuple[Path, Path]) -> None:
    from radiograd.errors import ConfigError
    from radiograd.experiments.running import check_plan

    file, root = done
    plan = load_plan(file, ["metrics=[length_ratio.sum]"])  # the sum over the number: the metric itself
    check_plan(plan, [])
    (row,) = (row for row in build_table(plan, root)["rows"] if row["label"] == MORE)
    whole = rows_of(root)[MORE]["strata"]["all"]["length_ratio"]
    assert row["strata"]["all"]["length_ratio.sum"]["mean"] == whole["mean"]
    with pytest.raises(ConfigError, match=r"column 'length_ratio\.smu'.*Did you mean 'sum'\?"):
        check_plan(load_plan(file, ["metrics=[length_ratio.smu]"]), [])


# ---- sites -----------------------------------------------------------------------------------------------------------


def test_trained_on_one_site_and_tested_on_each(tiny_model: Path, tmp_path: Path) -> None:
    values = small.values(tmp_path, tiny_model)
    values["set"] |= {"data.sites.rule": "style", "data.limit.test": 9, "align": {"type": "none"}, "sft.epochs": 1}
    values["cells"] = [
        {"name": f"on-{n}", "set": {"data.sites.train": [f"style-{n}"]}, "rows": {"sft": f"on {n}"}} for n in (1, 2)
    ]
    strata = ["all", "site: style-1", "site: style-2"]
    values |= {"strata": strata, "compare": [["on 1", "on 2"]], "paper": None, "judges": []}
    assert call("run", str(small.written(tmp_path, values)), "--dir", str(tmp_path / "out")) == 0
    table = read_json(tmp_path / "out" / "table.json")
    (first,) = (row for row in table["rows"] if row["label"] == "on 1")
    n = [first["strata"][kind]["rougeL"]["n"] for kind in strata]
    assert n[0] == 9 == n[1] + n[2]
    summary = read_json(tmp_path / "out" / "on-1-seed7" / "eval" / "test" / "summary.json")
    for kind in strata[1:]:
        assert first["strata"][kind]["rougeL"]["mean"] == summary["strata"][kind]["sft"]["rougeL"]["mean"]
    assert {(entry["stratum"], entry["n"]) for entry in table["paired"]} == set(zip(strata, n, strict=True))
    trained = read_jsonl(tmp_path / "out" / "on-2-seed7" / "data" / "train.jsonl")
    assert {row["site"] for row in trained} == {"style-2"}
    assert not find_run(tmp_path / "out" / "on-2-seed7").done("shared")
    assert "## site: style-2 test studies" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
