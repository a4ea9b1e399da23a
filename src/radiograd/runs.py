"""One folder per experiment: config, manifest, status, metrics, attempts, and how a killed run goes on.

Whole files are written beside and renamed; logs are appended line by line and a torn last line is dropped on the next
open. A lock held by the operating system keeps a second process out and is free again the moment its holder dies.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import logging
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from radiograd import __version__
from radiograd.config import RunConfig, difference, digest, parse_config
from radiograd.errors import RadiogradError, RunError

log = logging.getLogger(__name__)

_FRAMES = logging.getLogger("radiograd.failure")
LOG_NOTE = "written to "
"""Begins the note on an unexpected exception that names the attempt's log."""
STAGES = ("data", "sft", "annotate", "select", "classifier", "pairs", "align", "generate", "evaluate", "report")
_PACKAGES = ("radiograd", "torch", "transformers", "trl", "peft", "accelerate", "numpy", "sacrebleu", "rouge-score")


# ---- files that are whole or not there -------------------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """Write a whole file beside its place and rename it there: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON, written whole."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, written whole."""
    write_text(path, "".join(_line(row) for row in rows))


def append_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append lines in one write and flush them to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(_line(row) for row in rows))
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> Any:
    """The JSON value in ``path``; RunError when the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} is missing; run the step that writes it first") from None
    except ValueError:
        raise RunError(f"{path} is damaged; delete it and run the step that writes it again") from None


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON-lines file. A torn last line (a killed writer) is passed over; any other is a RunError."""
    if not path.exists():
        raise RunError(f"{path} is missing; run the step that writes it first")
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError:
                if line.endswith("\n"):
                    raise RunError(f"{path}:{number} is not JSON; delete the line or the file and run again") from None


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = (*(os.strerror(code) for code in _FULL), "iostream error", "PytorchStreamWriter failed writing")


def is_disk_full(error: BaseException) -> bool:
    """Whether ``error``, or what it came from, is a write for which there was no room.

    safetensors, tokenizers and torch raise kinds of their own for it; those are known by their words.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        if any(words in str(cause) for words in _FULL_WORDS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def stages_of(config: RunConfig) -> tuple[str, ...]:
    """The stages that a run of ``config`` goes through, in order. Pairs are made for preference optimisation only;
    without an alignment nothing is aligned, and where it takes all studies nothing is selected."""
    none = config.align.type == "none"
    left_out = {
        "annotate": not config.asks_criticality,
        "select": none or config.select.by == "all",
        "classifier": not config.trains_classifier,
        "pairs": config.align.type != "dpo",
        "align": none,
    }
    return tuple(stage for stage in STAGES if not left_out.get(stage))


# ---- the run ---------------------------------------------------------------------------------------------------------


class Run:
    """An open run folder. Make one with :func:`open_run`; reading a finished one needs :func:`find_run` only."""

    def __init__(self, path: Path, config: RunConfig, attempt: int = 0) -> None:
        self.path = path
        self.config = config
        self.attempt = attempt

    # -- stages

    def done(self, stage: str) -> bool:
        """Whether ``stage`` has finished."""
        return (self.path / "done" / f"{stage}.json").exists()

    def mark_done(self, stage: str, **facts: Any) -> None:
        """Record that ``stage`` finished; written last, after all its files."""
        write_json(self.path / "done" / f"{stage}.json", {"stage": stage, "attempt": self.attempt, **facts})

    def facts(self, stage: str) -> dict[str, Any]:
        """What ``stage`` recorded when it finished; RunError when it has not."""
        if not self.done(stage):
            name, _, eval_set = stage.partition("-")
            option = f" --set {eval_set}" if eval_set else ""
            raise RunError(f"{self.path}: stage {stage!r} has not finished; run: radiograd {name} {self.path}{option}")
        facts: dict[str, Any] = read_json(self.path / "done" / f"{stage}.json")
        return facts

    def round_folder(self, number: int) -> Path:
        """Where round ``number`` of a preference optimisation keeps its files: ``align`` when there is one round."""
        align = self.path / "align"
        return align if self.config.dpo.rounds == 1 else align / f"round_{number:04d}"

    # -- status and metrics

    def set_status(self, state: str, stage: str | None, why: str | None = None) -> None:
        """STATUS.json: running | finished | failed | interrupted, the stage, and the reason."""
        write_json(self.path / "STATUS.json", {"state": state, "stage": stage, "why": why})

    def log_metrics(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """One row of metrics.jsonl. Values that are not finite numbers are left out: unknown is not zero."""
        row: dict[str, Any] = {"stage": stage, "step": step, "attempt": self.attempt, "time": round(time.time(), 3)}
        row.update({k: v for k, v in values.items() if v == v and abs(v) != float("inf")})
        append_jsonl(self.path / "metrics.jsonl", [row])

    def metrics(self, stage: str | None = None) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, of one stage or of all."""
        path = self.path / "metrics.jsonl"
        rows = list(read_jsonl(path)) if path.exists() else []
        return [row for row in rows if stage in (None, row["stage"])]

    def rewind_metrics(self, stage: str, step: int) -> None:
        """Forget rows of ``stage`` after ``step``: a resumed stage writes them again."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            rows = list(read_jsonl(path))
            write_jsonl(path, [r for r in rows if r["stage"] != stage or r["step"] <= step])


def run_path(config: RunConfig, root: Path) -> Path:
    """Where the run of ``config`` lives."""
    return root / config.name


def find_run(path: Path) -> Run:
    """The run in an existing folder, for reading. RunError when there is none."""
    if not (path / "config.json").exists():
        raise RunError(f"{path} holds no run (no config.json). Start one with: radiograd run CONFIG")
    return Run(path, parse_config(read_json(path / "config.json"), str(path / "config.json")))


@contextmanager
def open_run(config: RunConfig, root: Path, command: str) -> Iterator[Run]:
    """Open or resume the run of ``config`` below ``root`` for writing, and keep every other process out of it.

    ``command`` is what the user typed; it is shown as the way to resume. Writes config.json first, then the manifest;
    STATUS.json says what became of the attempt. Raises RunError when another process holds the folder or when the
    folder belongs to another configuration (with the difference); a folder in which nothing was made yet (a first
    attempt that failed on its input) takes the new one. A full disk ends in OSError(ENOSPC) naming the folder,
    whatever library was writing.
    """
    path = run_path(config, root)
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{path} is in use by another process; wait for it, or choose another name=...") from None
    try:
        _sweep(path)
        _claim(path, config)
        attempt = 1 + max((int(p.name) for p in (path / "attempts").glob("[0-9]*")), default=0)
        run = Run(path, config, attempt)
        folder = path / "attempts" / f"{attempt:03d}"
        folder.mkdir(parents=True)
        write_json(folder / "env.json", {"command": command, "started": _now(), **environment()})
        if not (path / "manifest.json").exists():
            write_json(path / "manifest.json", manifest(config))
        _drop_torn_line(path / "metrics.jsonl")
        with _log_to(folder / "log.txt"):
            yield from _guard(run, command)
    finally:
        lock.release()


def _claim(path: Path, config: RunConfig) -> None:
    config_file = path / "config.json"
    values = config.model_dump(mode="json")
    if not config_file.exists():
        write_json(config_file, values)
        return
    stored = read_json(config_file)
    if not any((path / folder).exists() for folder in ("done", "data")):
        write_json(config_file, values)
        (path / "manifest.json").unlink(missing_ok=True)
    elif digest(parse_config(stored, str(config_file))) != digest(config):
        changed = "; ".join(difference(stored, values))
        raise RunError(f"{path} belongs to another configuration ({changed}). Use another name=..., or delete it")


def _sweep(path: Path) -> None:
    """Remove what a killed writer left beside its place. Only under the lock."""
    for leftover in path.rglob(".*.part"):
        if leftover.is_file():
            leftover.unlink()


def _guard(run: Run, command: str) -> Iterator[Run]:
    run.set_status("running", _stage(run))
    try:
        yield run
    except KeyboardInterrupt:
        _last_status(run, "interrupted", f"interrupted; resume with: {command}")
        raise
    except RadiogradError as error:
        _last_status(run, "failed", str(error))
        raise
    except BaseException as error:
        full = is_disk_full(error)
        _last_status(run, "failed", f"the disk is full; resume with: {command}" if full else type(error).__name__)
        _FRAMES.info("failed with %s\n%s", type(error).__name__, frames(error))
        error.add_note(f"{LOG_NOTE}{run.path / 'attempts' / f'{run.attempt:03d}' / 'log.txt'}")
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run.path)) from error
        raise
    else:
        run.set_status("finished", _stage(run))


def frames(error: BaseException) -> str:
    """The way to ``error`` but not its message, which may hold report text."""
    return "".join(traceback.format_tb(error.__traceback__))


def log_of(error: BaseException) -> str | None:
    """The attempt's log in which the way to ``error`` is written; None for one that met no open run."""
    notes = (note for note in getattr(error, "__notes__", ()) if note.startswith(LOG_NOTE))
    return next((note.removeprefix(LOG_NOTE) for note in notes), None)


def _last_status(run: Run, state: str, why: str) -> None:
    """STATUS.json of an attempt that ends badly. Without room for a new file the old one is written over."""
    stage = _stage(run)
    try:
        run.set_status(state, stage, why)
    except OSError:
        with suppress(OSError), (run.path / "STATUS.json").open("r+", encoding="utf-8") as file:
            file.write(json.dumps({"state": state, "stage": stage, "why": why}) + "\n")
            file.truncate()


def _stage(run: Run) -> str | None:
    path = run.path / "STATUS.json"
    stage: str | None = read_json(path).get("stage") if path.exists() else None
    return stage


def run_stages(run: Run, programs: Mapping[str, Callable[[Run], Mapping[str, Any]]], again: Iterable[str] = ()) -> None:
    """Call each program in order; skip those that have finished, unless named in ``again``."""
    for stage, program in programs.items():
        if run.done(stage) and stage not in again:
            log.info("%s: already finished", stage)
            continue
        run.set_status("running", stage)
        log.info("%s ...", stage)
        started = time.monotonic()
        facts = dict(program(run))
        _give_back_memory()
        facts["seconds"] = round(time.monotonic() - started, 1)
        run.mark_done(stage, **facts)
        log.info("%s: finished in %.1f s", stage, facts["seconds"])


def _give_back_memory() -> None:
    """Drop what a finished stage left in cycles, and hand freed memory back where the C library can (glibc)."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


# ---- what the run was made with --------------------------------------------------------------------------------------


def manifest(config: RunConfig) -> dict[str, Any]:
    """Digest, seed, code version, package versions and machine facts: what a result must be quoted with."""
    return {
        "digest": digest(config),
        "seed": config.seed,
        "radiograd": __version__,
        "git": _git(),
        "created": _now(),
        **environment(),
    }


def environment() -> dict[str, Any]:
    """Python, platform, cores and package versions. Reads package metadata only: nothing heavy is imported."""
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": versions,
    }


def _git() -> dict[str, Any] | None:
    folder = Path(__file__).parent

    def ask(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if Path(ask("rev-parse", "--show-toplevel")) not in folder.parents:
            return None
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        write_text(path, data[: data.rfind(b"\n") + 1].decode("utf-8", errors="replace"))


class _LogFile(logging.FileHandler):
    """A log that cannot be written (full disk) must not print tracebacks over what the run has to say."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the line out."""

    def close(self) -> None:
        """Close, whatever could not be flushed."""
        with suppress(OSError):
            super().close()


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("radiograd")
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def is_terminal() -> bool:
    """Whether progress bars make sense: standard error is a terminal."""
    return sys.stderr.isatty()
