"""The runs of an experiment, one after another: skip what is finished, go on with what was killed, outlive a failure.

Each run is a run folder like any other (:mod:`radiograd.runs`); nothing is known of an experiment that does not stand
in those folders, but ``experiment.json`` (what was asked for) and ``preferences/`` (what judges said).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from radiograd import stages
from radiograd.config import digest
from radiograd.errors import ConfigError, RadiogradError, RunError, did_you_mean
from radiograd.experiments.plan import Plan, Planned, column
from radiograd.experiments.preferring import ask_judges
from radiograd.experiments.sharing import existing, find_source, take_over, take_over_choice
from radiograd.judges.builtin import JUDGES
from radiograd.metrics import load_metric
from radiograd.naming import resolve
from radiograd.runs import find_run, frames, log_of, open_run, read_json, run_stages, stages_of, write_json

log = logging.getLogger(__name__)

ASKED_FOR = "experiment.json"


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run came. ``state``: finished | waiting | running | interrupted | failed | other; ``why`` if not."""

    state: str
    why: str | None = None


def check_plan(plan: Plan, runs: Sequence[Planned]) -> None:
    """Resolve every name, extra and model of ``runs`` and the judges before anything is trained; a judge that loads a
    model is not loaded yet. Raises what the checks raise."""
    for name in plan.experiment.metrics:
        metric, part = column(name)
        known = load_metric(metric).part_names
        if part is not None and not {part, "n"} <= set(known):
            raise ConfigError(f"column {name!r}: metric {metric!r} has no mean of {part!r}.{did_you_mean(part, known)}")
    for judge in plan.experiment.judges:
        resolve("judge", judge.judge, JUDGES)
    for planned in runs:
        try:
            stages.check_names(planned.config)
            stages.check_model(planned.config)
        except RadiogradError as error:
            if planned.cell.name not in str(error):
                error.args = (f"cell {planned.cell.name!r}: {error}", *error.args[1:])
            raise


def run_experiment(
    plan: Plan,
    runs: Sequence[Planned],
    root: Path,
    command: str,
    say: Callable[[str], None],
    after_each: Callable[[], None] = lambda: None,
) -> list[str]:
    """Do the ``runs`` of ``plan`` that are not finished, below ``root``; the names of those that failed.

    A run that fails is said and passed over. Ctrl-C and a kill stop everything; the same command goes on. RunError
    when ``root`` holds runs that were made with other overrides.
    """
    root.mkdir(parents=True, exist_ok=True)
    _refuse_other_overrides(plan, root)
    told = {"overrides": list(plan.overrides), "of_runs": list(plan.of_runs)}
    write_json(root / ASKED_FOR, {**told, **plan.experiment.model_dump(mode="json")})
    failed: list[str] = []
    unanswered: list[str] = []
    asked = False
    for number, planned in enumerate(runs, 1):
        place = f"[{number}/{len(runs)}] {planned.name}"
        if status(planned, root).state == "finished":
            say(f"{place}: already finished")
            continue
        say(f"{place} ...")
        if _outlived(partial(_run, planned, plan, root, command), place, say):
            say(f"{place}: finished")
        else:
            failed.append(planned.name)
        unanswered = _ask(plan, root, say)
        asked = True
        _outlived(after_each, "table", say)
    if not asked:
        unanswered = _ask(plan, root, say)
    return [*failed, *unanswered]


def _outlived(do: Callable[[], None], what: str, say: Callable[[str], None]) -> bool:
    """Whether ``do`` came to its end; a failure is said, without what an unexpected one says: that may be report text.
    Ctrl-C goes through."""
    try:
        do()
    except RadiogradError as error:
        say(f"{what}: FAILED: {' '.join(str(error).split())}")
        return False
    except Exception as error:  # noqa: BLE001 - the other runs go on
        where = log_of(error)
        if where is None:
            log.warning("the way to the %s of %s\n%s", type(error).__name__, what, frames(error))
        said = f"details without text in {where}" if where else "the lines above say where, without text"
        say(f"{what}: FAILED: unexpected {type(error).__name__}; {said}")
        return False
    return True


def _run(planned: Planned, plan: Plan, root: Path, command: str) -> None:
    with open_run(planned.config, root, command) as run:
        if not (run.done("sft") and (run.path / "eval").exists()):
            source = find_source(planned, plan.runs, root)
            if source is not None:
                take_over(run, source)
        take_over_choice(run, planned, plan.runs, root)
        stages.check_source(run)
        run_stages(run, stages.programs(planned.config))


def _ask(plan: Plan, root: Path, say: Callable[[str], None]) -> list[str]:
    """Have the judges asked about every pair that is there; the names of the judges that failed."""

    def ready(planned: Planned) -> bool:
        return status(planned, root).state == "finished"

    return [
        f"judge {judge.name}"
        for judge in plan.experiment.judges
        if not _outlived(partial(ask_judges, plan, judge, root, ready), f"judge {judge.name}", say)
    ]


def status(planned: Planned, root: Path) -> Status:
    """How far ``planned`` came below ``root``, by its files."""
    path = root / planned.name
    if not (path / "config.json").exists():
        return Status("waiting", "not run yet")
    run = existing(planned, root)
    if run is None:
        return Status("other", _difference(planned, path))
    if all(run.done(stage) for stage in stages_of(run.config)):
        return Status("finished")
    found = read_json(path / "STATUS.json") if (path / "STATUS.json").exists() else {}
    state, stage = found.get("state", "running"), found.get("stage")
    if state in ("failed", "interrupted"):
        return Status(state, f"{state} in {stage}: {found.get('why')}" if stage else f"{state}: {found.get('why')}")
    return Status("running", f"still running, or killed, in {stage or 'its first stage'}")


def _difference(planned: Planned, path: Path) -> str:
    from radiograd.config import difference

    try:
        stored = find_run(path).config.model_dump(mode="json", exclude={"name"})
    except RadiogradError as error:
        return str(error)
    changed = difference(stored, planned.config.model_dump(mode="json", exclude={"name"}))
    return f"the folder belongs to another configuration ({'; '.join(changed)})"


def overview(plan: Plan, runs: Sequence[Planned], root: Path) -> list[dict[str, Any]]:
    """For each run its name, digest, state, and the run whose fine-tuning it shares."""
    first: dict[str, str] = {}
    for planned in plan.runs:
        first.setdefault(planned.shared_key, planned.name)
    return [
        {
            "run": planned.name,
            "digest": digest(planned.config),
            "state": status(planned, root).state,
            "stages": list(stages_of(planned.config)),
            "shares": None if first[planned.shared_key] == planned.name else first[planned.shared_key],
            "rows": dict(planned.cell.rows),
        }
        for planned in runs
    ]


def overrides_of(root: Path) -> tuple[str, ...]:
    """What was typed over the experiment when it was last run below ``root``."""
    return _asked_for(root, "overrides")


def _refuse_other_overrides(plan: Plan, root: Path) -> None:
    before = _asked_for(root, "of_runs")
    made = any((root / planned.name).exists() for planned in plan.runs)
    if made and (root / ASKED_FOR).exists() and sorted(before) != sorted(plan.of_runs):
        raise RunError(
            f"{root} was run with {' '.join(before) or 'nothing changed'}, now it is to be run with "
            f"{' '.join(plan.of_runs) or 'nothing changed'}; type the same, or give another --dir"
        )


def _asked_for(root: Path, key: str) -> tuple[str, ...]:
    if not (root / ASKED_FOR).exists():
        return ()
    found = read_json(root / ASKED_FOR)
    if not isinstance(found, dict) or not isinstance(found.get(key), list):
        raise RunError(f"{root / ASKED_FOR} is damaged; delete it and run the experiment again")
    return tuple(str(one) for one in found[key])
