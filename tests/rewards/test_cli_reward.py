"""The reward commands as a user meets them, on a configuration and on a run folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from radiograd.cli import cli
from radiograd.config import load_config
from radiograd.errors import DataError, RadiogradError, RunError, UsageError
from radiograd.runs import write_json, write_jsonl
from radiograd.types import Sections, Study

REPORTS = (
    ("The heart is mildly enlarged. Small left pleural effusion.", "Mild cardiomegaly. Small left effusion."),
    ("Large right pneumothorax. The heart is normal.", "Large right pneumothorax is seen."),
    ("Mild right basilar atelectasis. No effusion.", "Mild right basilar atelectasis without effusion."),
)
STUDIES = [Study(f"s{k}", f"p{k}", "toy", Sections(findings=f, impression=i)) for k, (f, i) in enumerate(REPORTS)]


def longer(cases):
    from radiograd import Score

    return [Score(float(len(c.candidate.split()))) for c in cases]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rows = [["study_id", "findings", "impression"]]
    rows += [[s.study_id, s.sections.findings, s.sections.impression] for s in STUDIES]
    table = tmp_path / "reports.csv"
    table.write_text("\n".join(",".join(row) for row in rows) + "\n", encoding="utf-8")
    path = tmp_path / "mine.yaml"
    values = {"name": "mine", "data": {"source": "csv", "path": str(table)}, "align": {"reward": "hierarchical"}}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture
def run(config: Path, tmp_path: Path) -> Path:
    """A run whose policy writes every side the wrong way round."""
    folder = tmp_path / "runs" / "mine"
    write_json(folder / "config.json", load_config(config).model_dump(mode="json"))
    for name in ("train", "test"):
        write_jsonl(folder / "data" / f"{name}.jsonl", [study.to_json() for study in STUDIES])
    texts = [
        "Mild cardiomegaly. Small right effusion.",
        "Large left pneumothorax is seen.",
        "Mild left basilar atelectasis without effusion.",
    ]
    rows = [{"study_id": s.study_id, "row": "sft", "text": t} for s, t in zip(STUDIES, texts, strict=True)]
    write_jsonl(folder / "eval" / "test" / "predictions.jsonl", rows)
    return folder


def call(*args: object):
    return CliRunner().invoke(cli, ["reward", *map(str, args)])


def test_check_of_a_configuration(config: Path):
    done = call("check", config)
    assert done.exit_code == 0, done.output
    assert "3 references (impression), x 100 [95% interval]" in done.output
    assert "judge=rules" in done.output
    assert done.output.count(" loses") == 9
    assert "effusion" not in done.output


def test_check_fails_naming_the_hacks_that_beat_the_reference(config: Path):
    done = call("check", config, f"align.reward={{{__name__}:longer: 1.0}}")
    assert isinstance(done.exception, RadiogradError)
    assert done.exception.exit_code == 1
    for name in ("stuffing", "repetition", "rare_words", "laterality_flip"):
        assert name in str(done.exception)
    assert "empty" not in str(done.exception)
    assert "FAILS (gains)" in done.output


def test_check_of_a_whole_report_task_and_of_reports_of_the_users_own(config: Path, tmp_path: Path):
    path = tmp_path / "own.jsonl"
    write_jsonl(path, [{"id": s.study_id, "text": s.sections.report} for s in STUDIES])
    done = call("check", config, "task=report", "--reports", path, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert (found["section"], found["references"], found["failed"], found["policy"]) == ("report", 3, [], None)
    by_hack = {one["hack"]: one for one in found["probes"]}
    assert by_hack["header_omission"]["verdict"] == "loses"
    assert by_hack["header_omission"]["difference"]["high"] < -0.5


def test_check_of_a_run_warns_of_what_its_policy_would_gain_by(run: Path):
    done = call("check", run)
    assert done.exit_code == 0, done.output
    assert "the same hacks of what sft wrote for 3 held-out studies" in done.output
    [line] = [line for line in done.output.splitlines() if line.startswith("laterality_flip") and "WOULD" in line]
    assert "WOULD GAIN" in line


def test_explain_of_a_run_takes_the_prediction(run: Path):
    done = call("explain", run, "--study", "s0", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["candidate"] == "Mild cardiomegaly. Small right effusion."
    assert found["changes"][0]["by"] == "Small left effusion."
    assert call("explain", run, "--study", "s0", "--row", "sft", "--json").output == done.output


def test_explain_of_a_configuration_takes_a_text(config: Path):
    done = call("explain", config, "--study", "s1", "--candidate", "No acute disease.")
    assert done.exit_code == 0, done.output
    assert "study s1, impression" in done.output
    assert "blanket denial" in done.output
    typed = CliRunner().invoke(
        cli, ["reward", "explain", str(config), "--study", "s1", "--candidate", "-"], input="No acute disease.\n"
    )
    assert typed.output == done.output


@pytest.mark.parametrize(
    ("args", "kind", "said"),
    [
        (["CONFIG", "--study", "s9", "--candidate", "x"], DataError, "no study has the id 's9' among 3"),
        (["CONFIG", "--study", "s1"], UsageError, "give --candidate"),
        (["RUN", "--study", "s1", "--row", "stf"], UsageError, "Did you mean 'sft'"),
        (["RUN", "--study", "s1", "--candidate", "x", "--row", "sft"], UsageError, "leave it out with --candidate"),
        (["RUN", "--study", "s1", "--set", "val"], RunError, "radiograd generate .* --set val"),
        (["RUN", "--study", "s9"], DataError, "'s9' is not in the test set"),
        (["RUN", "align.reward={rougeL: 1}", "--study", "s1"], UsageError, "keeps its configuration"),
    ],
)
def test_wrong_use_says_what_to_type(config: Path, run: Path, args: list[str], kind: type, said: str):
    done = call("explain", *[{"CONFIG": config, "RUN": run}.get(arg, arg) for arg in args])
    assert isinstance(done.exception, kind)
    with pytest.raises(kind, match=said):
        raise done.exception


def test_terms_that_count_documents_are_shown_the_references(config: Path):
    done = call("explain", config, "align.reward={tfidf_overlap: 1.0}", "--study", "s0", "--candidate", "Effusion.")
    assert done.exit_code == 0, done.output
