from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from radiograd import stages
from radiograd.config import RunConfig, digest, parse_config
from radiograd.errors import ConfigError, DataError, MissingExtra, ModelError, RunError
from radiograd.runs import STAGES, Run, find_run, open_run, read_json, read_jsonl, run_stages, write_jsonl
from radiograd.types import SPLITS, Study
from tests import tiny


@pytest.fixture
def config(tiny_model: Path, tmp_path: Path) -> RunConfig:
    """Sixty synthetic studies, the tiny model, a few steps."""
    values: dict[str, Any] = {
        "name": "small",
        "data": {"source": "csv", "path": str(tiny.write_table(tmp_path / "rows.csv", 60)), "limit": {"train": 20}},
        "model": {"name": str(tiny_model), "dtype": "float32", "max_prompt_tokens": 76},
        "sft": {"epochs": 1.5, "batch_size": 8, "micro_batch": 4},
        "align": {"rollouts": 3, "prompts": 2, "group_size": 4, "micro_batch": 8, "max_new_tokens": 8},
    }
    return parse_config(values, "test")


def test_the_programs_are_the_stages_of_a_run_in_their_order() -> None:
    assert tuple(stages.PROGRAMS) == STAGES
    assert set(stages.CHEAP) <= set(STAGES)


# ---- names -----------------------------------------------------------------------------------------------------------


def _weighing(**keys: Any) -> dict[str, Any]:
    return {"align": {"token_weight": {"by": "combined", **keys}}}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"data": {"source": "cvs"}}, r"no reader is called 'cvs'\. Did you mean 'csv'\?"),
        ({"data": {"source": "nowhere.at_all:read"}}, r"reader 'nowhere\.at_all:read': no module named 'nowhere'"),
        ({"evaluate": {"metrics": ["rougeL", "rouge4"]}}, r"no metric is called 'rouge4'\. Did you mean 'rouge"),
        ({"evaluate": {"baselines": ["constnt"]}}, r"no baseline is called 'constnt'\. Did you mean 'constant'\?"),
        ({"align": {"reward": {"bleu22": 1.0}}}, r"no reward term is called 'bleu22'\. Did you mean 'bleu2'\?"),
        ({"align": {"reward": {"rougeL": -1.0}}}, r"reward term 'rougeL': weight -1\.0 is not a number of 0 or more"),
        ({"align": {"reward": {"rougeL": 0.0}}}, "at least one term with a weight above 0"),
        ({"align": {"reward_schedule": {"reward": {"bleu2": 0.0}}}}, "at least one term with a weight above 0"),
        ({"align": {"reward_schedule": {"reward": {"bleu2": -1.0, "rougeL": 2.0}}}}, r"'bleu2': weight -1\.0 is not"),
        (_weighing(labeler="chexbert"), "labeler 'chexbert': missing a required argument: 'weights'"),
        (_weighing(labeler="chexbert", labeler_options={"weights": "nowhere.pth"}), r"nowhere\.pth does not exist"),
        (_weighing(labeler_options={"folder": "/no/labeler"}), "folder: /no/labeler does not exist"),
        (_weighing(labeler_options={"devise": "cpu"}), "'embedded': got an unexpected keyword argument 'devise'"),
    ],
)
def test_each_wrong_name_is_found_before_anything_else(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        stages.check_names(parse_config({**values, "model": {"name": "/no/such/model"}}, "test"))
    assert error.value.exit_code == 2


def test_the_names_of_the_defaults_are_all_known() -> None:
    stages.check_names(RunConfig())


def test_a_missing_extra_is_found_with_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'radiograd\[train\]'"):
        stages.check_names(RunConfig())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./no-such-folder", "model folder no-such-folder does not exist"),
        ("/no/such/folder", "model folder /no/such/folder does not exist"),
        ("nobody/never-heard-of-it", "is not in the local cache and could not be fetched .*offline mode is on"),
    ],
)
def test_a_model_that_is_not_there_is_found_without_loading_weights(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        stages.check_model(parse_config({"model": {"name": name}}, "test"))


def test_a_folder_that_holds_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json; give the folder save_pretrained wrote"):
        stages.check_model(parse_config({"model": {"name": str(tmp_path)}}, "test"))


def test_an_encoder_of_the_classifier_that_is_no_folder_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    values = {"model": {"name": str(tmp_path)}, **_weighing(encoder="somebody/bert")}
    with pytest.raises(ModelError, match=r"align\.token_weight\.encoder: somebody/bert is no folder"):
        stages.check_model(parse_config(values, "test"))
    stages.check_model(parse_config({**values, **_weighing(encoder=str(tmp_path))}, "test"))


def test_a_model_folder_is_only_looked_at(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("not even JSON", encoding="utf-8")
    stages.check_model(parse_config({"model": {"name": str(tmp_path)}}, "test"))


# ---- dry run ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_counts_what_the_run_would_do(config: RunConfig, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    with open_run(config, tmp_path / "runs", "radiograd run") as run:
        run_stages(run, {"data": stages.data})
    train = [Study.from_json(row) for row in read_jsonl(run.path / "data" / "train.jsonl")]
    tokenizer = AutoTokenizer.from_pretrained(config.model.name)

    def tokens(study: Study) -> int:
        turns = [
            {"role": "system", "content": config.model.system_prompt},
            {"role": "user", "content": f"Findings: {study.sections.findings}"},
        ]
        return len(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"])

    whole = [tokens(study) for study in train]
    cut = sum(n > 76 for n in whole)
    assert 0 < cut < 20  # the test means something: some prompts are cut, some are not

    plan = stages.dry_run(config)

    assert (plan["name"], plan["digest"]) == ("small", digest(config))
    assert plan["studies"] == {split: run.facts("data")[split] for split in ("train", "val", "test")}
    assert plan["studies"]["train"] == 20
    assert plan["problems"] == 0
    assert plan["prompts_cut"] == cut
    assert plan["references_longer_than_generated"] == 0
    # answers: the impression's tokens and one end token; 1.5 epochs. A cut prompt may end up to two tokens short of 76
    answers = sum(len(tokenizer(s.sections.impression or "", add_special_tokens=False)["input_ids"]) + 1 for s in train)
    at_most = sum(min(n, 76) for n in whole)
    assert (at_most - 2 * cut + answers) * 1.5 <= plan["sft_tokens"] <= (at_most + answers) * 1.5
    # 3 rollouts of 2 prompts, each of the mean length of 20
    assert (at_most - 2 * cut) * 6 / 20 - 0.5 <= plan["rollout_prompt_tokens"] <= at_most * 6 / 20 + 0.5
    assert plan["rollout_new_tokens_at_most"] == 192  # 3 rollouts * 2 prompts * 4 completions * 8 tokens
    # SFT: 20 studies * 1.5 epochs / 8 a step = 3.75, so 4. Alignment: 3 rollouts * 2 updates
    assert plan["optimiser_steps"] == {"sft": 4, "align": 6}


def test_a_dry_run_writes_nothing(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    stages.dry_run(config)
    assert sorted(tmp_path.rglob("*")) == before


# ---- data ------------------------------------------------------------------------------------------------------------


def test_the_data_stage_writes_every_study_once_and_what_was_passed_over(config: RunConfig, tmp_path: Path) -> None:
    path = Path(config.data.path or "")
    with path.open("a", encoding="utf-8") as file:
        file.write(",p,Findings without an id.,None.,true\n")
    with open_run(config, tmp_path / "runs", "radiograd run") as run:
        run_stages(run, {"data": stages.data})
    ids = {split: {row["study_id"] for row in read_jsonl(run.path / "data" / f"{split}.jsonl")} for split in SPLITS}
    assert sum(map(len, ids.values())) == len(set().union(*ids.values()))
    assert {split: len(found) for split, found in ids.items()} == {split: run.facts("data")[split] for split in SPLITS}
    assert list(read_jsonl(run.path / "data" / "problems.jsonl")) == [
        {"where": f"{path}:62", "why": "study_id is missing"}  # the header and 60 rows before it
    ]
    summary = read_json(run.path / "data" / "summary.json")
    assert summary["read"] == 60
    pool = {row["study_id"] for row in read_jsonl(run.path / "data" / "pool.jsonl")}
    assert ids["train"] < pool  # the limit takes 20 of the train split
    assert not pool & (ids["val"] | ids["test"])
    assert len(pool) == summary["splits"]["train"]["studies"] == run.facts("data")["pool"]


# ---- data that a later stage could not use ---------------------------------------------------------------------------


def prepared_run(config: RunConfig, root: Path) -> Run:
    with open_run(config, root, "radiograd run") as run:
        run_stages(run, {"data": stages.data})
    return find_run(run.path)


def refused(config: RunConfig, root: Path, how: str, **data: Any) -> str:
    """What the data stage or a dry run says of ``config`` with other data settings."""
    changed = parse_config({**config.model_dump(), "data": {**config.data.model_dump(), **data}}, "test")
    prepare = stages.dry_run if how == "a dry run" else lambda config: prepared_run(config, root)
    with pytest.raises(DataError) as error:
        prepare(changed)
    assert not (root / "small" / "data").exists()
    return str(error.value)


@pytest.mark.parametrize("how", ["the data stage", "a dry run"])
def test_too_few_studies_to_align_on_are_found_before_any_training(config: RunConfig, tmp_path: Path, how: str) -> None:
    rows = tmp_path / "redacted.jsonl"
    lines = [
        {"study_id": s.study_id, "findings": s.sections.findings, "impression": "Seen by XXXX."}
        for s in tiny.studies(60)
    ]
    write_jsonl(rows, lines)
    said = refused(config, tmp_path / "runs", how, source="jsonl", path=str(rows))
    assert said == (
        "alignment needs align.prompts=2 or more training studies whose impression holds no XXXX; there are 0. "
        "Lower align.prompts or give more data"
    )


@pytest.mark.parametrize("how", ["the data stage", "a dry run"])
def test_one_held_out_patient_is_too_few_for_the_row_of_another_patient(
    config: RunConfig, tmp_path: Path, how: str
) -> None:
    said = refused(config, tmp_path / "runs", how, limit={"test": 1})
    assert said.startswith("baseline 'other_patient' needs held-out impressions of at least two patients")
    without = config.model_dump() | {"evaluate": {"baselines": ["constant"]}}
    without["data"] = {**without["data"], "limit": {"test": 1}}
    assert stages.dry_run(parse_config(without, "test"))["studies"]["test"] == 1


# ---- a source that was changed ---------------------------------------------------------------------------------------


def test_the_source_is_known_by_its_fingerprint(config: RunConfig, tmp_path: Path) -> None:
    run = prepared_run(config, tmp_path / "runs")
    stored = run.facts("data")["fingerprint"]
    assert stored["size"] == Path(config.data.path or "").stat().st_size
    assert read_json(run.path / "data" / "summary.json")["fingerprint"] == stored
    stages.check_source(run)


def test_a_source_that_was_changed_is_refused(config: RunConfig, tmp_path: Path) -> None:
    run = prepared_run(config, tmp_path / "runs")
    path = Path(config.data.path or "")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"left", b"LEFT", 1))
    with pytest.raises(RunError) as error:
        stages.check_source(run)
    assert str(error.value) == (
        f"{path} has changed since {run.path} was made from it. Use another name=..., or put the old file back"
    )
    path.write_bytes(content)
    stages.check_source(run)


def test_a_source_that_is_gone_is_not_missed(config: RunConfig, tmp_path: Path) -> None:
    run = prepared_run(config, tmp_path / "runs")
    Path(config.data.path or "").unlink()
    stages.check_source(run)


def test_before_the_data_stage_there_is_nothing_to_compare(config: RunConfig, tmp_path: Path) -> None:
    with open_run(config, tmp_path / "runs", "radiograd run") as run:
        stages.check_source(run)
