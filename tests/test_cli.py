"""The command line as a user meets it: exit codes, one clear line on stderr, files that are whole or not there.

A real process is started where being one is the point (signals, limits, the lock, start-up); elsewhere the same
function that ``main`` calls is called here, which saves five seconds of imports each time.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from radiograd import __version__, assets, cli
from radiograd.config import RunConfig
from radiograd.errors import AssetError
from radiograd.runs import read_json, read_jsonl
from tests import tiny

RADIOGRAD = [sys.executable, "-m", "radiograd.cli"]
SECRETS = ("pleural", "pneumothorax", "atelectasis", "Heart size", "apical", "No acute", "Unremarkable", "view ")
"""Words of the synthetic reports: where they turn up, report text has got out."""
PROGRESS = re.compile(r"[a-z-]+( \.\.\.|: finished in [0-9.]+ s|: already finished)|\S+ is not .*; asking the hub|")
"""What the stages of a run say of themselves on stderr, and the line that click ends where a terminal shows ^C."""


@dataclass(frozen=True)
class Ran:
    """What a command answered."""

    code: int
    out: str
    err: str

    def line(self) -> str:
        """The one line on stderr, for a command that failed with nothing on stdout."""
        assert self.code in (1, 2)
        assert self.out == ""
        assert "Traceback" not in self.err
        (line,) = self.errors()
        assert line.startswith("error: ")
        assert not any(word in line for word in SECRETS)
        return line

    def errors(self) -> list[str]:
        """The lines on stderr but for those of the stages."""
        return [line for line in self.err.splitlines() if not PROGRESS.fullmatch(line)]


def call(*args: str) -> Ran:
    """``radiograd ARGS`` in this process, through the function ``main`` goes through."""
    out, err = io.StringIO(), io.StringIO()
    logger = logging.getLogger("radiograd")
    before = (logger.handlers, logger.level)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = cli._call(lambda: cli.cli.main(args=list(args), prog_name="radiograd", standalone_mode=False))
    finally:
        logger.handlers, logger.level = before
    return Ran(code, out.getvalue(), err.getvalue())


def process(*args: str, command: Sequence[str] = RADIOGRAD, **kwargs: Any) -> Ran:
    """``radiograd ARGS`` in a process of its own."""
    done = subprocess.run([*command, *args], capture_output=True, text=True, timeout=120, check=False, **kwargs)
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_config(folder: Path, model: Path, **changes: Any) -> Path:
    """``small.yaml``: sixty synthetic studies, the tiny model, a few steps."""
    values: dict[str, Any] = {
        "name": "small",
        "data": {"source": "csv", "path": str(tiny.write_table(folder / "rows.csv", 60))},
        "model": {"name": str(model), "dtype": "float32", "lora": {"rank": 4, "alpha": 8}},
        "sft": {"batch_size": 8, "micro_batch": 8, "checkpoint_every": 3},
        "align": {
            "guard": {"every": 0},
            "rollouts": 2,
            "prompts": 2,
            "group_size": 4,
            "micro_batch": 8,
            "max_new_tokens": 8,
            "checkpoint_every": 1,
        },
        "generate": {"max_new_tokens": 8},
        "evaluate": {"resamples": 100},
        **changes,
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture
def config(here: Path, tiny_model: Path) -> Path:
    """The small configuration, in the working folder."""
    return write_config(here, tiny_model)


# ---- help ------------------------------------------------------------------------------------------------------------


def commands(group: click.Group = cli.cli, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_the_help_of_every_command_has_an_example_of_it(words: tuple[str, ...]) -> None:
    ran = call(*words, "--help")
    assert ran.code == 0
    _, example, text = " ".join(ran.out.split()).partition(" Example")
    assert example
    assert f"radiograd {' '.join(words)}" in text


def test_every_command_of_the_fixed_surface_is_there() -> None:
    surface = {
        "run",
        "fetch",
        "sft",
        "align",
        "generate",
        "evaluate",
        "report",
        "doctor",
        "data describe",
        "data check",
    }
    assert surface <= {" ".join(words) for words in commands()}


def test_the_version_is_told() -> None:
    assert call("--version").out == f"radiograd, version {__version__}\n"


@pytest.mark.parametrize("words", [(), ("data",)])
def test_without_a_command_the_help_is_shown_as_it_is_and_the_use_is_wrong(words: tuple[str, ...]) -> None:
    ran = call(*words)
    assert ran.code == 2
    assert ran.err == call(*words, "--help").out
    assert ran.err.startswith("Usage: ")


# ---- wrong use -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["trane"], "No such command 'trane'"),
        (["run", "--dry-rum", "x"], "No such option '--dry-rum'"),
        (["run"], "Missing argument 'CONFIG'. Try: radiograd run --help"),
        (["fetch", "opeini"], "nothing to fetch is called 'opeini'. Did you mean 'openi'?"),
        (["run", "quickstrat"], "quickstrat: no such configuration file or run folder. Shipped by name: "),
        (["evaluate", "runs/nope"], "runs/nope: no such configuration file or run folder"),
        (["run", "quickstart", "algin.lr=1"], "unknown key 'algin'. Did you mean 'align'?"),
        (["run", "quickstart", "align.lr"], "override 'align.lr' is not of the form dotted.key=value"),
        (["run", "quickstart", "sft.lr=fast"], "sft.lr: Input should be a valid number"),
        (["data", "describe", "nope.yaml"], "nope.yaml: no such configuration file"),
        (
            ["run", "quickstart", "data.source=excel"],
            "no reader is called 'excel'. Known: chexpert-plus, csv, jsonl, mimic",
        ),
        (["run", "quickstart", "align.reward={rougL: 1}"], "no reward term is called 'rougL'. Did you mean 'rougeL'?"),
        (["run", "quickstart", "evaluate.metrics=[blue2]"], "no metric is called 'blue2'. Did you mean 'bleu2'?"),
        (
            ["run", "quickstart", "evaluate.baselines=[retreival]"],
            "no baseline is called 'retreival'. Did you mean 'retr",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line_and_exit_code_2(here: Path, args: list[str], said: str) -> None:
    ran = call(*args)
    assert said in ran.line()
    assert ran.code == 2
    assert list(here.iterdir()) == []


def test_a_real_process_tells_wrong_use_the_same_way(here: Path) -> None:
    ran = process("run", "quickstart", "algin.lr=1")
    assert ran.line().endswith("quickstart.yaml with overrides: unknown key 'algin'. Did you mean 'align'?")
    assert ran.code == 2


def test_overrides_cannot_change_a_run_that_is_there(here: Path) -> None:
    (here / "runs" / "a").mkdir(parents=True)
    assert "a run folder keeps its configuration" in call("evaluate", "runs/a", "seed=3").line()


def test_a_folder_without_a_run_is_told(here: Path) -> None:
    (here / "empty").mkdir()
    ran = call("evaluate", "empty")
    assert ran.line() == "error: empty holds no run (no config.json). Start one with: radiograd run CONFIG"
    assert ran.code == 1


# ---- data that cannot be used ----------------------------------------------------------------------------------------

ROW = "a,p,There is a small left pleural effusion.,Left pleural effusion.\n"
HEADER = "study_id,patient_id,findings,impression\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "rows.csv: no such file or folder; check data.path"),
        ("", "rows.csv is empty; it needs a header line"),
        (HEADER, "rows.csv holds a header and nothing below it"),
        (HEADER + ROW, "1 of 1 studies read have both findings and impression"),
        (
            "study_id,findings,Impresion\n" + ROW,
            "no column 'impression' for impression; it has: study_id, findings, Impresion. Did you mean 'Impresion'? "
            "Set data.columns.impression=COLUMN",
        ),
        (HEADER.encode() + b"a,p,\xe9t\xe9,Normal.\n", "rows.csv:2 is not UTF-8"),
        (HEADER + 'a,p,"There is a pleural,x\n' + ROW, "a quote is opened in this row and not closed"),
    ],
    ids=["missing", "empty", "header only", "one row", "no column", "not UTF-8", "open quote"],
)
@pytest.mark.parametrize("command", ["run", "data check"])
def test_data_that_cannot_be_read_is_one_line_and_exit_code_1(
    config: Path, command: str, content: str | bytes | None, said: str
) -> None:
    rows = config.parent / "rows.csv"
    if content is None:
        rows.unlink()
    else:
        rows.write_bytes(content.encode() if isinstance(content, str) else content)
    ran = call(*command.split(), "small.yaml")
    assert ran.code == 1
    if command == "data check" and content == HEADER + ROW:
        assert ran.out.startswith("error        1  studies have both findings and impression; train, val and test")
        return
    assert said in ran.line()
    assert not (config.parent / "runs" / "small" / "data").exists()
    if command == "run":
        assert said in read_json(config.parent / "runs" / "small" / "STATUS.json")["why"]


def test_of_a_table_without_a_header_no_report_text_gets_out(config: Path) -> None:
    rows = config.parent / "rows.csv"
    rows.write_text("".join(rows.read_text(encoding="utf-8").splitlines(keepends=True)[1:]), encoding="utf-8")
    ran = call("run", "small.yaml")
    assert ran.line().endswith(  # which also looks for the words of the reports
        "no column 'study_id' for study_id; it has 5 columns; is the first line a header? "
        "Set data.columns.study_id=COLUMN"
    )
    assert call("report", "runs/small").code == 0
    folder = config.parent / "runs" / "small"
    written = {path.name: path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()}
    assert {"STATUS.json", "report.html", "log.txt"} <= written.keys()
    assert not [name for name, content in written.items() if any(word in content for word in SECRETS)]


def test_after_a_wrong_column_the_corrected_command_may_use_the_same_name(config: Path) -> None:
    assert "no column 'Conclusion'" in call("run", "small.yaml", "data.columns.impression=Conclusion").line()
    ran = call("sft", "small.yaml", "sft.epochs=0.2")
    assert ran.code == 0, ran.err
    assert ran.out == "data, sft: done in runs/small\n"


def test_a_study_without_findings_is_left_out_and_the_rest_is_used(here: Path) -> None:
    rows = tiny.write_table(here / "rows.csv", 20)
    with rows.open("a", encoding="utf-8") as file:
        file.write("late,p-late,,Left pleural effusion.,false\nbroken,one cell too few\n")
    facts = json.loads(call("data", "describe", "rows.csv", "--json").out)
    assert (facts["studies"], facts["usable"], facts["problems"]) == (21, 20, 1)
    ran = call("data", "check", "rows.csv")
    assert ran.code == 0
    assert "1  studies have no findings section  e.g. late" in ran.out
    assert "1  rows or cells could not be read  e.g. rows.csv:23" in ran.out


@pytest.mark.parametrize("args", [["data", "describe"], ["data", "describe", "--json"], ["data", "check"]])
def test_looking_at_data_shows_no_report_text(here: Path, args: list[str]) -> None:
    tiny.write_table(here / "rows.csv", 30)
    ran = call(*args, "rows.csv")
    assert ran.code == 0
    assert ran.out
    assert not any(word in ran.out + ran.err for word in SECRETS)


def test_data_errors_end_in_exit_code_1(here: Path) -> None:
    (here / "rows.csv").write_text(HEADER + ROW * 2, encoding="utf-8")
    ran = call("data", "check", "rows.csv")
    assert ran.code == 1
    assert "error        1  rows repeat a study_id and were passed over  e.g. rows.csv:3" in ran.out


def test_columns_and_seed_of_a_table_can_be_given_on_the_command_line(here: Path) -> None:
    (here / "t.csv").write_text("accession,findings,Conclusion\na,Clear.,Fine.\nb,Large.,Ill.\n", encoding="utf-8")
    overrides = ["data.columns.study_id=accession", "data.columns.impression=Conclusion"]
    assert json.loads(call("data", "describe", "t.csv", *overrides, "--json").out)["usable"] == 2


# ---- models that are not there ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./nope", "error: model folder nope does not exist"),
        ("nobody/never-heard-of-it", "error: model 'nobody/never-heard-of-it' is not in the local cache"),
    ],
)
@pytest.mark.parametrize("command", ["run", "sft"])
def test_a_model_that_is_not_there_is_told_before_the_run_folder_is_made(
    config: Path, command: str, name: str, said: str
) -> None:
    ran = call(command, "small.yaml", f"model.name={name}")
    assert ran.line().startswith(said)
    assert ran.code == 1
    assert not (config.parent / "runs").exists()


def test_a_missing_extra_is_told_before_anything_is_fetched(here: Path) -> None:
    # a cache folder of its own: fetching would be seen there
    code = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
        "from radiograd.cli import main; main(['run', 'quickstart'])"
    )
    env = {**os.environ, "RADIOGRAD_CACHE": str(here / "cache")}
    ran = process(command=[sys.executable, "-c", code], env=env)
    assert ran.line() == "error: Training and generation needs an extra: pip install 'radiograd[train]'"
    assert ran.code == 1
    assert list(here.iterdir()) == []


# ---- a whole run -----------------------------------------------------------------------------------------------------


def test_one_command_goes_from_rows_to_the_page_and_its_steps_can_be_done_again(config: Path) -> None:
    plan = call("run", "small.yaml", "--dry-run")
    assert plan.code == 0
    facts = json.loads(plan.out)
    assert facts["studies"]["train"] + facts["studies"]["val"] + facts["studies"]["test"] == 60
    assert sorted(path.name for path in config.parent.iterdir()) == ["rows.csv", "small.yaml"]

    ran = call("run", "small.yaml")
    assert ran.code == 0, ran.err
    assert ran.errors() == []
    assert ran.out.endswith("page: runs/small/report.html\n")
    folder = config.parent / "runs" / "small"
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")
    assert read_json(folder / "STATUS.json") == {"state": "finished", "stage": "report", "why": None}
    assert read_json(folder / "manifest.json")["digest"] == facts["digest"]
    assert read_json(folder / "done" / "sft.json")["steps"] == facts["optimiser_steps"]["sft"]
    assert len([row for row in read_jsonl(folder / "metrics.jsonl") if row["stage"] == "align"]) == 4  # 2 x 2 updates
    predictions = list(read_jsonl(folder / "eval" / "test" / "predictions.jsonl"))
    assert len(predictions) == 2 * facts["studies"]["test"]
    assert {"sft", "aligned", "constant", "retrieval"} <= read_json(folder / "eval" / "test" / "summary.json")[
        "rows"
    ].keys()

    # nothing is left to do: quick, and every result is as it was
    results = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "attempts" not in path.parts}
    started = time.monotonic()
    again = call("run", "small.yaml")
    assert (again.code, again.out) == (0, ran.out)
    assert time.monotonic() - started < 5  # 0.2 on an idle machine
    assert {path: path.read_bytes() for path in results} == results

    # numbers and page are made again from files alone: here the model is not even there
    moved = folder.with_name("elsewhere")
    folder.rename(moved)
    stored = read_json(moved / "config.json")
    (moved / "config.json").write_text(
        json.dumps({**stored, "model": {**stored["model"], "name": "/no/such/model"}}), encoding="utf-8"
    )
    summary = (moved / "eval" / "test" / "summary.json").read_bytes()
    (moved / "eval" / "test" / "summary.json").unlink()
    (moved / "report.html").unlink()
    evaluated = call("evaluate", "runs/elsewhere")
    assert evaluated.code == 0, evaluated.err
    assert (moved / "eval" / "test" / "summary.json").read_bytes() == summary
    assert call("report", "runs/elsewhere").out == "page: runs/elsewhere/report.html\n"
    assert (moved / "report.html").exists()

    # another configuration under the same name is refused, with the difference
    refused = call("run", "small.yaml", "name=elsewhere", "align.lr=3e-5")
    assert "belongs to another configuration (align.lr: 0.0001 -> 3e-05; model.name: " in refused.line()
    assert refused.code == 1

    # report text stays in data/, rollouts/, eval/ and the page
    for path in [
        *moved.rglob("*.txt"),
        *moved.glob("*.json*"),
        *moved.rglob("done/*"),
        *moved.rglob("attempts/**/*.json"),
    ]:
        content = path.read_text(encoding="utf-8")
        assert not any(word in content for word in SECRETS), path
    assert not any(word in ran.out + evaluated.out for word in SECRETS)


def test_settings_are_chosen_on_the_validation_set(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("sft", "align"):
        assert call(command, "small.yaml").code == 0
    assert (
        call("evaluate", "runs/small", "--set", "val").line().endswith("run: radiograd generate runs/small --set val")
    )
    ran = call("generate", "runs/small", "--set", "val")
    assert (ran.code, ran.out) == (0, "generate-val: done in runs/small\n")
    folder = config.parent / "runs" / "small"
    assert {path.stem for path in (folder / "done").iterdir()} == {"data", "sft", "align", "generate-val"}
    table = call("evaluate", "runs/small", "--set", "val")
    assert table.code == 0, table.err
    assert table.out.startswith("All studies (val), x 100 [95% interval]\nrow ")
    assert {path.name for path in (folder / "eval").iterdir()} == {"val"}
    assert read_json(folder / "eval" / "val" / "summary.json")["counts"]["studies"] == len(
        list(read_jsonl(folder / "data" / "val.jsonl"))
    )
    assert (folder / "done" / "evaluate-val.json").exists()

    markdown = call("evaluate", "runs/small", "--set", "val", "--markdown")
    assert markdown.out.startswith("### All studies (val), x 100 [95% interval]\n\n| row")
    assert "### Signatures" in markdown.out

    assert call("evaluate", "runs/small").line().endswith("run: radiograd generate runs/small")  # test is not done
    monkeypatch.chdir(folder)
    assert call("report", ".").code == 0
    assert (folder / "report.html").exists()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["small"]


def test_a_source_that_was_changed_is_refused_and_what_is_there_can_still_be_shown(config: Path) -> None:
    assert call("sft", "small.yaml", "sft.epochs=0.2").code == 0
    rows = config.parent / "rows.csv"
    content = rows.read_text(encoding="utf-8")
    rows.write_text(content.replace("left", "right"), encoding="utf-8")
    ran = call("run", "small.yaml", "sft.epochs=0.2")
    assert ran.line() == (
        f"error: {rows} has changed since runs/small was made from it. Use another name=..., or put the old file back"
    )
    assert ran.code == 1
    assert call("align", "runs/small").line() == ran.line()
    assert call("report", "runs/small").code == 0
    rows.unlink()
    assert call("sft", "runs/small").code == 0


def test_a_damaged_file_of_the_cache_is_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # of the right size, so that only its hash tells
    fetched = []

    def damaged(name: str) -> Path:
        if name == "smollm2":
            raise AssetError("smollm2 is damaged")
        return Path(name)

    monkeypatch.setattr(assets, "verify", damaged)
    monkeypatch.setattr(assets, "fetch", lambda name, show_progress: fetched.append(name))
    cli._fetch_missing(RunConfig())
    assert fetched == ["smollm2"]


def test_a_step_that_needs_another_says_which_command_makes_it(config: Path) -> None:
    assert call("sft", "small.yaml", "sft.epochs=0.2").code == 0
    ran = call("generate", "runs/small")
    assert ran.line() == "error: runs/small: stage 'align' has not finished; run: radiograd align runs/small"
    assert call("evaluate", "runs/small").line().endswith("run: radiograd generate runs/small")


# ---- a full disk -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "stage"),
    [(8_000, "data"), (26_000, "sft")],  # train.jsonl has about 20 kB; the first checkpoint more than 26
)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(config: Path, size: int, stage: str) -> None:
    ran = process(
        "run",
        "small.yaml",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)),
    )
    assert ran.line() == (
        "error: the disk is full while writing runs/small; free some space and run the same command again: "
        "radiograd run small.yaml"
    )
    assert ran.code == 1
    folder = config.parent / "runs" / "small"
    status = read_json(folder / "STATUS.json")
    assert (status["state"], status["stage"]) == ("failed", stage)
    assert status["why"] == "the disk is full; resume with: radiograd run small.yaml"
    for path in folder.rglob("*.json*"):  # what is there can be read
        list(read_jsonl(path)) if path.suffix == ".jsonl" else read_json(path)
    assert not list(folder.rglob(".*.part"))
    assert not (folder / "done" / f"{stage}.json").exists()

    again = call("run", "small.yaml")
    assert again.code == 0, again.err
    assert read_json(folder / "STATUS.json")["state"] == "finished"


# ---- Ctrl-C, and two at once -----------------------------------------------------------------------------------------


def test_a_running_process_keeps_others_out_and_ctrl_c_says_how_to_resume(here: Path, tiny_model: Path) -> None:
    config = write_config(here, tiny_model)
    folder = here / "runs" / "small"
    endless = ["run", "small.yaml", "align.rollouts=100000"]
    with subprocess.Popen(
        [*RADIOGRAD, *endless], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        try:
            deadline = time.monotonic() + 90
            while not ((folder / "metrics.jsonl").exists() and '"align"' in (folder / "metrics.jsonl").read_text()):
                assert running.poll() is None, running.communicate()
                assert time.monotonic() < deadline, "the alignment did not begin"
                time.sleep(0.1)
            second = call(*endless)
            assert second.line() == (
                "error: runs/small is in use by another process; wait for it, or choose another name=..."
            )
            assert second.code == 1
            assert [path.name for path in (folder / "attempts").iterdir()] == ["001"]
            assert read_json(folder / "STATUS.json") == {"state": "running", "stage": "align", "why": None}
            os.kill(running.pid, signal.SIGINT)
            out, err = running.communicate(timeout=60)
        finally:
            running.kill()
    typed = "radiograd run small.yaml align.rollouts=100000"
    assert Ran(running.returncode, out, err).line() == f"error: interrupted; the same command resumes: {typed}"
    assert running.returncode == 1
    assert read_json(folder / "STATUS.json") == {
        "state": "interrupted",
        "stage": "align",
        "why": f"interrupted; resume with: {typed}",
    }
    assert config.exists()
    steps = [row["step"] for row in read_jsonl(folder / "metrics.jsonl") if row["stage"] == "align"]
    assert steps == list(range(1, len(steps) + 1))


# ---- errors that are nobody's fault ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 1, "error: interrupted; the same command resumes: radiograd"),
        (PermissionError(13, "Permission denied", "runs/x"), 1, "error: runs/x: Permission denied"),
        (OSError(28, "No space left on device"), 1, "error: the disk is full; free some space"),
        (OSError(28, "No space left on device", "runs/x"), 1, "error: the disk is full while writing runs/x; free"),
        (click.Abort(), 1, "error: interrupted"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise error

    assert cli._call(fails) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


@pytest.mark.parametrize("error", [ValueError("small pleural effusion"), OSError("small pleural effusion")])
def test_of_a_fault_of_our_own_kind_and_place_are_shown_and_not_its_message(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise error

    assert cli._call(fails) == 1
    said = capsys.readouterr().err
    assert "pleural" not in said
    assert "in fails\n    raise error\n" in said
    last = said.splitlines()[-1]
    assert last == f"error: unexpected {type(error).__name__}; the lines above say where, without text"


@pytest.mark.parametrize("options", [[], ["-v"]])
def test_a_fault_inside_a_run_is_told_by_its_kind_and_the_log_that_says_where(config: Path, options: list[str]) -> None:
    (config.parent / "faulty.py").write_text(
        "def read(path, columns):\n    raise ValueError('small pleural effusion')\n    yield\n", encoding="utf-8"
    )
    sys.path.insert(0, str(config.parent))
    try:
        ran = call(*options, "run", "small.yaml", "data.source=faulty:read")
    finally:
        sys.path.remove(str(config.parent))
        sys.modules.pop("faulty")
    assert ran.code == 1
    log = "runs/small/attempts/001/log.txt"
    assert ran.errors()[-1] == f"error: unexpected ValueError; details without text in {log}"
    assert ("in read" in ran.err) == bool(options)
    assert len(ran.errors()) == 1 or options
    content = (config.parent / log).read_text(encoding="utf-8")
    assert "failed with ValueError" in content
    assert "in read" in content
    assert "pleural" not in (ran.err + ran.out + content).replace("raise ValueError('small pleural effusion')", "")


def test_output_into_a_closed_pipe_is_no_traceback(here: Path) -> None:
    tiny.write_table(here / "rows.csv", 20)
    line = f"{sys.executable} -m radiograd.cli data describe rows.csv | true"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
