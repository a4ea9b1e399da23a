"""configs/rgro.yaml with a tiny model, from reports to the page: rounds, resuming, pairs of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from radiograd import stages
from radiograd.config import SHIPPED_CONFIGS, RunConfig, parse_config
from radiograd.errors import ConfigError, DataError, RunError
from radiograd.runs import Run, open_run, read_json, read_jsonl, run_stages, stages_of
from tests import tiny


def config_of(folder: Path, model: Path, **align: Any) -> RunConfig:
    """The shipped configuration with the tiny model, sixty studies and a few steps."""
    values = yaml.safe_load((SHIPPED_CONFIGS / "rgro.yaml").read_text(encoding="utf-8"))
    values["data"] = {"source": "csv", "path": str(tiny.write_table(folder / "rows.csv", 60)), "limit": {"test": 8}}
    values["model"] = {"name": str(model), "dtype": "float32", "device": "cpu", "lora": {"rank": 4, "alpha": 8}}
    values["sft"] |= {"epochs": 1.0, "fraction": 0.5}
    values["align"] |= {"max_new_tokens": 8, "candidates": 2, "rejected_source": "both", "prompts": 6, **align}
    values["generate"]["max_new_tokens"] = 8
    values["evaluate"] = {"resamples": 100}
    return parse_config(values, "test")


def pairs_in(run: Run) -> list[dict[str, Any]]:
    return list(read_jsonl(run.path / "pairs.jsonl"))


def table(run: Run) -> dict[str, Any]:
    rows: dict[str, Any] = read_json(run.path / "eval" / "test" / "summary.json")["rows"]
    return rows


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two rounds, every stage."""
    folder = tmp_path_factory.mktemp("rgro")
    return tiny.finish(config_of(folder, tiny_model, rounds=2), folder / "runs")


def test_the_shipped_configuration_is_the_papers() -> None:
    config = parse_config(yaml.safe_load((SHIPPED_CONFIGS / "rgro.yaml").read_text(encoding="utf-8")), "rgro")
    dpo = config.dpo
    assert (dpo.chosen_source, dpo.rejected_source, dpo.judge_sees_reference) == ("reference", "judge_loser", True)
    assert (dpo.beta, dpo.anchor, dpo.length_normalised) == (0.1, "none", False)
    assert stages_of(config) == ("data", "sft", "pairs", "align", "generate", "evaluate", "report")
    stages.check_names(config)


def test_every_stage_is_done_and_every_round_has_its_pairs(finished: Run) -> None:
    assert all(finished.done(stage) for stage in stages_of(finished.config))
    rounds = [row["round"] for row in pairs_in(finished)]
    assert rounds == sorted(rounds)
    first, second = rounds.count(0), rounds.count(1)
    assert first == finished.facts("pairs")["pairs"]
    assert second == finished.facts("pairs_round_1")["pairs"]
    assert finished.facts("align")["pairs"] == first + second
    steps = [row["step"] for row in finished.metrics("align")]
    assert steps == list(range(1, finished.facts("align")["steps"] + 1))
    assert set(table(finished)) >= {"sft", "aligned"}
    assert (finished.path / "report.html").stat().st_size > 10_000


def test_pairs_are_of_studies_that_were_neither_fine_tuned_on_nor_held_out(finished: Run) -> None:
    from radiograd.selection import share_train
    from radiograd.types import Study

    train = [Study.from_json(row) for row in read_jsonl(finished.path / "data" / "train.jsonl")]
    seen = {study.study_id for study in share_train(train, 0.5, finished.config.seed)[0]}
    named = {row["study_id"] for row in pairs_in(finished)}
    assert named <= {study.study_id for study in train} - seen


@pytest.mark.parametrize("lost", ["align_round_0", "pairs_round_1", "align_round_1", "pairs"])
def test_a_stage_stopped_before_it_was_marked_is_done_again_to_the_same_end(
    finished: Run, tiny_model: Path, tmp_path: Path, lost: str
) -> None:
    import shutil

    order = ["pairs", "align_round_0", "pairs_round_1", "align_round_1", "align", "generate", "evaluate", "report"]
    folder = tmp_path / "runs" / finished.path.name
    shutil.copytree(finished.path, folder)
    for mark in order[order.index(lost) :]:
        (folder / "done" / f"{mark}.json").unlink()
    shutil.rmtree(folder / "eval")
    shutil.rmtree(folder / "align" / "adapter")
    again = tiny.finish(finished.config, tmp_path / "runs")
    assert pairs_in(again) == pairs_in(finished)
    assert table(again) == table(finished)
    for mark in ("pairs", "pairs_round_1"):
        passing = ("seconds", "attempt")
        ours, theirs = ({k: v for k, v in run.facts(mark).items() if k not in passing} for run in (again, finished))
        assert ours == theirs
        assert ours["given"] is False


def test_pairs_of_ones_own_are_taken_as_they_are(tiny_model: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path, tiny_model)
    with open_run(config, tmp_path / "runs", "radiograd sft") as run:
        run_stages(run, {name: stages.PROGRAMS[name] for name in ("data", "sft")})
    studies = list(read_jsonl(run.path / "data" / "train.jsonl"))[:5]
    rows = [{"study_id": row["study_id"], "chosen": "Clear.", "rejected": "Left nodule."} for row in studies]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    (run.path / "pairs.jsonl").write_text(content, encoding="utf-8")
    tiny.finish(config, tmp_path / "runs")
    assert (run.path / "pairs.jsonl").read_text(encoding="utf-8") == content
    assert (run.facts("pairs")["pairs"], run.facts("pairs")["given"]) == (5, True)
    assert run.facts("align")["pairs"] == 5


def test_pairs_that_changed_after_they_were_recorded_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path, tiny_model)
    with open_run(config, tmp_path / "runs", "radiograd pairs") as run:
        run_stages(run, {name: stages.PROGRAMS[name] for name in ("data", "sft", "pairs")})
    path = run.path / "pairs.jsonl"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]), encoding="utf-8")
    with pytest.raises(RunError, match=r"pairs\.jsonl has changed since"):
        tiny.finish(config, tmp_path / "runs")


def test_without_a_single_pair_the_run_says_why(tiny_model: Path, tmp_path: Path) -> None:
    # a policy that always says the same gives the judge nothing to compare
    config = config_of(tmp_path, tiny_model, rejected_source="judge_loser", temperature=1e-4)
    with pytest.raises(RunError, match=r"no pair was made in round 0.*\(6 x fewer than two different candidates\)"):
        tiny.finish(config, tmp_path / "runs")


@pytest.mark.parametrize(
    ("align", "error", "said"),
    [
        (
            {"rejected_source": "judge_loser", "judge": "ruels"},
            ConfigError,
            r"no judge is called 'ruels'\. Did you mean",
        ),
        (
            {"rejected_source": "judge_loser", "judge": "chat"},
            ConfigError,
            r"judge 'chat': option 'base_url' is missing",
        ),
        ({"rejected_source": "judge_loser", "judge_options": {"a": 1}}, ConfigError, "judge 'rules' has no option 'a'"),
        ({"imports": [{"path": "no.csv", "kind": "edits"}]}, DataError, r"no\.csv: cannot be read"),
    ],
)
def test_a_wrong_judge_or_import_is_found_before_anything_else(
    tiny_model: Path, tmp_path: Path, align: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        stages.check_names(config_of(tmp_path, tiny_model, **align))


def test_a_dry_run_counts_the_pairs(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(
        "study_id,chosen,rejected,findings\nx1,Wires.,Clear.,Wires lie in the midline.\nx2,Wires.,Clear.,\n",
        encoding="utf-8",
    )
    imports = [{"path": str(path), "kind": "expert"}]
    plan = stages.dry_run(config_of(tmp_path, tiny_model, epochs=2.0, rounds=2, imports=imports))
    # 6 studies x 2 candidates, both rejected, and one of the two rows, in each of two rounds; 13 x 2 / 8 a step = 4
    assert plan["pairs_at_most"] == 26
    assert (plan["pairs_imported_each_round"], plan["import_problems"]) == (1, 1)
    assert plan["candidate_new_tokens_at_most"] == 2 * 6 * 2 * 8
    assert plan["optimiser_steps"]["align"] == 8
