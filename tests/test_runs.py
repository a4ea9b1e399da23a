from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd import __version__
from radiograd.config import RunConfig, digest
from radiograd.errors import ConfigError, DataError, RadiogradError, RunError
from radiograd.runs import (
    Run,
    append_jsonl,
    environment,
    find_run,
    is_disk_full,
    log_of,
    manifest,
    open_run,
    read_json,
    read_jsonl,
    run_path,
    run_stages,
    write_json,
    write_jsonl,
    write_text,
)

CONFIG = RunConfig(name="x")
COMMAND = "radiograd run x.yaml"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes: what a full disk looks like to one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def nothing(run: Run) -> Mapping[str, Any]:
    return {}


# ---- files that are whole or not there -------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text(path, "old\n")
    write_text(path, "new: é\n")
    assert path.read_bytes() == "new: é\n".encode()
    assert names(path.parent) == ["b.txt"]


def test_a_write_without_room_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with largest_file(1000), pytest.raises(OSError, match="File too large") as error:
        write_text(path, "n" * 5000)
    assert is_disk_full(error.value)
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "\ud800")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["a.txt"]


def test_numbers_that_json_has_no_word_for_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_a_missing_or_damaged_json_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"a\.json is missing; run the step that writes it first"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'{"a": \xff')
    with pytest.raises(RunError, match=r"a\.json is damaged; delete it"):
        read_json(tmp_path / "a.json")


def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a" / "rows.jsonl"
    append_jsonl(path, [{"a": "line\nbreak"}, {"a": "separator\u2028"}])
    append_jsonl(path, [{"a": None}])
    assert list(read_jsonl(path)) == [{"a": "line\nbreak"}, {"a": "separator\u2028"}, {"a": None}]
    write_jsonl(path, [])
    assert list(read_jsonl(path)) == []


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": ', encoding="utf-8")
    assert list(read_jsonl(path)) == [{"a": 1}, {"a": 2}]


def test_a_torn_line_in_the_middle_is_told_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n', encoding="utf-8")
    with pytest.raises(RunError, match=r"rows\.jsonl:2 is not JSON"):
        list(read_jsonl(path))


def test_a_missing_lines_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"rows\.jsonl is missing"):
        list(read_jsonl(tmp_path / "rows.jsonl"))


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers(), max_size=2)), st.data())
def test_a_file_cut_anywhere_gives_back_its_first_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "rows.jsonl"
    write_jsonl(path, rows)
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    back = list(read_jsonl(path))
    assert back == rows[: len(back)]
    assert len(back) >= content[:cut].count(b"\n")  # every line that is whole is there


# ---- what a full disk looks like -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "any words"), True),
        (OSError(errno.EDQUOT, "any words"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (Exception("No space left on device (os error 28)"), True),  # tokenizers
        (RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file"), True),
        (RuntimeError("PytorchStreamReader failed reading zip archive"), False),
        (ValueError("words"), False),
    ],
)
def test_a_full_disk_is_known_by_its_number_or_by_the_words_of_libraries(error: Exception, full: bool) -> None:
    assert is_disk_full(error) is full
    later = RuntimeError("unexpected pos 36416 vs 36304")
    later.__context__ = error
    assert is_disk_full(later) is full


# ---- opening, resuming, refusing -------------------------------------------------------------------------------------


def test_an_opened_run_has_its_config_manifest_and_attempt(tmp_path: Path) -> None:
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        assert read_json(run.path / "STATUS.json")["state"] == "running"
        assert find_run(run.path).config == CONFIG
    assert run.path == run_path(CONFIG, tmp_path) == tmp_path / "x"
    kept = read_json(run.path / "manifest.json")
    assert (kept["digest"], kept["seed"], kept["radiograd"]) == (digest(CONFIG), 7, __version__)
    assert kept["packages"]["numpy"]
    assert set(kept) >= {"git", "created", "python", "platform", "cores"}
    environment_file = read_json(run.path / "attempts" / "001" / "env.json")
    assert environment_file["command"] == COMMAND


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radiograd.runs._PACKAGES", ("numpy", "no-such-package-here"))
    assert environment()["packages"]["no-such-package-here"] is None
    assert manifest(CONFIG)["packages"].keys() == {"numpy", "no-such-package-here"}


def test_the_same_name_and_digest_resume_and_attempts_are_numbered(tmp_path: Path) -> None:
    attempts = []
    for _ in range(3):
        with open_run(CONFIG, tmp_path, COMMAND) as run:
            attempts.append(run.attempt)
            run_stages(run, {"data": nothing})
    assert attempts == [1, 2, 3]
    assert names(run.path / "attempts") == ["001", "002", "003"]


def test_another_digest_is_refused_with_the_difference_and_changes_nothing(tmp_path: Path) -> None:
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, {"data": nothing})
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    other = RunConfig(name="x", seed=8, data={"source": "csv"})
    with pytest.raises(RunError) as error, open_run(other, tmp_path, COMMAND):
        pytest.fail("was opened")
    assert error.value.exit_code == 1
    assert 'x belongs to another configuration (data.source: "openi" -> "csv"; seed: 7 -> 8)' in str(error.value)
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_a_folder_in_which_nothing_was_made_yet_takes_another_configuration(tmp_path: Path) -> None:
    def fails(run: Run) -> Mapping[str, Any]:
        raise DataError("nope.csv: no such file or folder")

    wrong = RunConfig(name="x", data={"source": "csv", "path": "nope.csv"})
    with pytest.raises(DataError), open_run(wrong, tmp_path, COMMAND) as run:
        run_stages(run, {"data": fails})
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, {"data": nothing})
    assert find_run(run.path).config == CONFIG
    assert read_json(run.path / "manifest.json")["digest"] == digest(CONFIG)
    assert run.attempt == 2


def test_a_stored_config_with_a_key_of_another_version_is_told(tmp_path: Path) -> None:
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, {"data": nothing})
    write_json(run.path / "config.json", {**CONFIG.model_dump(mode="json"), "sead": 7})
    with pytest.raises(ConfigError, match=r"config\.json: unknown key 'sead'"), open_run(CONFIG, tmp_path, COMMAND):
        pytest.fail("was opened")


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no run \(no config\.json\)\. Start one with: radiograd run CONFIG"):
        find_run(tmp_path)


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path) -> None:
    leftover = tmp_path / "x" / "data" / ".train.jsonl.123.part"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("half", encoding="utf-8")
    with open_run(CONFIG, tmp_path, COMMAND):
        assert not leftover.exists()


# ---- one process at a time -------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from radiograd.config import RunConfig
from radiograd.runs import open_run
with open_run(RunConfig(name="x"), Path(sys.argv[1]), "radiograd run x.yaml"):
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "in\n"
            with pytest.raises(RunError, match=r"x is in use by another process"), open_run(CONFIG, tmp_path, COMMAND):
                pytest.fail("was opened")
            assert names(tmp_path / "x" / "attempts") == ["001"]
        finally:
            os.kill(holder.pid, signal.SIGKILL)
        holder.wait(timeout=30)
    assert read_json(tmp_path / "x" / "STATUS.json")["state"] == "running"  # it had no time to say more
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        assert run.attempt == 2
    assert read_json(tmp_path / "x" / "STATUS.json")["state"] == "finished"


def test_the_folder_is_free_again_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no"), open_run(CONFIG, tmp_path, COMMAND):
        raise RunError("no")
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        assert run.attempt == 2


# ---- STATUS.json -----------------------------------------------------------------------------------------------------


def test_the_status_names_the_stage_and_ends_finished(tmp_path: Path) -> None:
    seen = []

    def look(run: Run) -> Mapping[str, Any]:
        seen.append(read_json(run.path / "STATUS.json"))
        return {}

    with open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, {"data": look, "sft": look})
    assert seen == [{"state": "running", "stage": stage, "why": None} for stage in ("data", "sft")]
    assert read_json(run.path / "STATUS.json") == {"state": "finished", "stage": "sft", "why": None}
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, {"data": look, "sft": look})  # nothing left to do
    assert read_json(run.path / "STATUS.json") == {"state": "finished", "stage": "sft", "why": None}


@pytest.mark.parametrize(
    ("error", "state", "why"),
    [
        (DataError("rows.csv:3 is not UTF-8"), "failed", "rows.csv:3 is not UTF-8"),
        (KeyboardInterrupt(), "interrupted", f"interrupted; resume with: {COMMAND}"),
        (ZeroDivisionError("The heart is enlarged."), "failed", "ZeroDivisionError"),
        (OSError(errno.ENOSPC, "x"), "failed", f"the disk is full; resume with: {COMMAND}"),
    ],
)
def test_the_status_says_why_an_attempt_ended(tmp_path: Path, error: BaseException, state: str, why: str) -> None:
    def fails(run: Run) -> Mapping[str, Any]:
        raise error

    with pytest.raises(type(error)), open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, {"data": nothing, "sft": fails})
    assert read_json(run.path / "STATUS.json") == {"state": state, "stage": "sft", "why": why}
    assert run.done("data")
    assert not run.done("sft")


def test_a_full_disk_in_any_library_ends_in_one_error_that_names_the_folder(tmp_path: Path) -> None:
    def fails(run: Run) -> Mapping[str, Any]:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(OSError, match="No space left") as error, open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, {"data": fails})
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(run.path))


def test_without_room_for_a_new_file_the_status_is_written_over(tmp_path: Path) -> None:
    def fails(run: Run) -> Mapping[str, Any]:
        # a folder where the new file would be written: it cannot be made, as on a full disk
        (run.path / f".STATUS.json.{os.getpid()}.part").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, {"data": fails})
    assert read_json(run.path / "STATUS.json") == {
        "state": "interrupted",
        "stage": "data",
        "why": f"interrupted; resume with: {COMMAND}",
    }


def test_a_log_that_cannot_be_written_prints_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "radiograd")
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        with largest_file(10):
            logging.getLogger("radiograd.test").info("a line of more than ten bytes")
        run_stages(run, {"data": nothing})
    assert capfd.readouterr().err == ""
    assert read_json(run.path / "STATUS.json")["state"] == "finished"


# ---- stages and metrics ----------------------------------------------------------------------------------------------


def test_finished_stages_are_skipped_and_those_named_again_are_done_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def call(stage: str, run: Run) -> Mapping[str, Any]:
        calls.append(stage)
        return {"calls": len(calls)}

    programs = {stage: partial(call, stage) for stage in ("data", "sft", "report")}
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, programs)
        run_stages(run, programs, again=("report",))
    assert calls == ["data", "sft", "report", "report"]
    assert run.facts("report")["calls"] == 4
    assert run.facts("sft").keys() == {"stage", "attempt", "calls", "seconds"}


@pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])
def test_a_system_that_cannot_hand_memory_back_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fails(name: None) -> None:
        raise error

    monkeypatch.setattr("ctypes.CDLL", fails)
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, {"data": nothing})
    assert run.done("data")


def test_a_stage_that_failed_is_done_by_the_next_attempt(tmp_path: Path) -> None:
    def fails(run: Run) -> Mapping[str, Any]:
        raise RunError("no")

    with pytest.raises(RunError), open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, {"data": nothing, "sft": fails})
    with pytest.raises(RunError, match=r"stage 'sft' has not finished; run: radiograd sft .*x$"):
        run.facts("sft")
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, {"data": fails, "sft": nothing})  # data is not asked again
    assert run.facts("sft")["attempt"] == 2
    assert run.facts("data")["attempt"] == 1


def test_numbers_that_are_not_finite_are_left_out_of_the_metrics(tmp_path: Path) -> None:
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        run.log_metrics("sft", 1, {"loss": 0.5, "a": float("nan"), "b": float("inf"), "c": -float("inf"), "zero": 0.0})
    (row,) = run.metrics()
    assert row.keys() == {"stage", "step", "attempt", "time", "loss", "zero"}
    assert (row["stage"], row["step"], row["attempt"], row["loss"]) == ("sft", 1, 1, 0.5)


def test_rewinding_forgets_the_later_rows_of_one_stage_only(tmp_path: Path) -> None:
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        run.rewind_metrics("sft", 0)  # nothing there yet
        for stage in ("sft", "align"):
            for step in (1, 2, 3):
                run.log_metrics(stage, step, {"loss": step})
        run.rewind_metrics("sft", 1)
    assert [(row["stage"], row["step"]) for row in run.metrics()] == [
        ("sft", 1),
        ("align", 1),
        ("align", 2),
        ("align", 3),
    ]
    assert [row["step"] for row in run.metrics("sft")] == [1]


def test_a_torn_metrics_line_is_dropped_before_new_ones_are_added(tmp_path: Path) -> None:
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        run.log_metrics("sft", 1, {"loss": 1.0})
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"stage": "sft", "st')
    with open_run(CONFIG, tmp_path, COMMAND) as run:
        run.log_metrics("sft", 2, {"loss": 0.5})
    assert [row["step"] for row in run.metrics()] == [1, 2]


def test_a_stage_of_the_val_set_that_is_missing_is_told_with_its_option(tmp_path: Path) -> None:
    with open_run(CONFIG, tmp_path, COMMAND) as run, pytest.raises(RunError, match=r"radiograd generate .* --set val$"):
        run.facts("generate-val")


# ---- patients first --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, RunError])
def test_report_text_in_an_error_of_a_library_reaches_no_file(
    tmp_path: Path, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "radiograd")
    text = "The heart is enlarged." if not issubclass(error, RadiogradError) else "study s1 has no findings"

    def fails(run: Run) -> Mapping[str, Any]:
        raise error(text)

    with pytest.raises(error) as caught, open_run(CONFIG, tmp_path, COMMAND) as run:
        run_stages(run, {"data": nothing, "sft": fails})
    written = [path.read_text(encoding="utf-8") for path in run.path.rglob("*") if path.is_file()]
    assert not any("enlarged" in content for content in written)
    assert "enlarged" not in caplog.text
    log = (run.path / "attempts" / "001" / "log.txt").read_text(encoding="utf-8")
    assert "data: finished" in log
    assert log_of(caught.value) == (str(run.path / "attempts" / "001" / "log.txt") if error is ValueError else None)
    if error is ValueError:  # the way to the fault is kept, without the message
        assert "failed with ValueError" in log
        assert "in fails" in log
