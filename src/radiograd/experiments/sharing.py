"""Work that another run of the experiment has finished already is copied, never done again.

Runs whose data, model, fine-tuning and seed are equal have equal ``data`` and ``sft`` stages; when what they generate
with is equal too, so are the impressions of their SFT policies, and what a selection predicts or samples with them.
Which studies it then chooses is each run's own. A copy is whole or not there: folders are copied beside their place and
renamed, and the stage's mark is written last.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from radiograd.config import HardestConfig, RunConfig, digest
from radiograd.config.selection import SampledConfig
from radiograd.errors import RadiogradError
from radiograd.experiments.plan import Planned
from radiograd.runs import Run, append_jsonl, find_run, read_json, read_jsonl, stages_of, write_jsonl

log = logging.getLogger(__name__)

SHARED = "shared"
"""Mark under which a run records what it took over."""
PREDICTIONS = "predictions of target exploration"
ROLLOUTS = "rollouts of the selection"
ANSWERS = "answers on criticality"
CLASSIFIER = "classifier of token weights"


def find_source(planned: Planned, others: Iterable[Planned], root: Path) -> Run | None:
    """The first other run that has finished fine-tuning on the same data with the same settings; None without one."""
    for other in others:
        if other.name == planned.name or other.shared_key != planned.shared_key:
            continue
        run = existing(other, root)
        if run is not None and run.done("data") and run.done("sft"):
            return run
    return None


def existing(planned: Planned, root: Path) -> Run | None:
    """The run in its folder; None where there is none yet, or one of another configuration."""
    if not (root / planned.name / "config.json").exists():
        return None
    try:
        run = find_run(root / planned.name)
    except RadiogradError:
        return None
    return run if digest(run.config) == digest(planned.config) else None


def take_over(run: Run, source: Run) -> None:
    """Copy into ``run`` what it lacks and ``source`` has: ``data``, ``sft``, and impressions of the SFT policy.

    RunError when the two were made from different reports.
    """
    where = {"run": source.path.name, "digest": digest(source.config)}
    taken = dict(run.facts(SHARED)["from"]) if run.done(SHARED) else {}
    if not run.done("data"):
        _copy_folder(source.path / "data", run.path / "data")
        _mark_copied(run, source, "data", where)
        taken["data"] = where
    same = run.facts("data").get("fingerprint") == source.facts("data").get("fingerprint")
    if not same:
        log.warning("%s was made from other reports than %s; it is fine-tuned anew", run.path, source.path)
        return
    if not run.done("sft"):
        shutil.rmtree(run.path / "sft" / "checkpoints", ignore_errors=True)
        _copy_folder(source.path / "sft" / "adapter", run.path / "sft" / "adapter")
        run.rewind_metrics("sft", 0)
        append_jsonl(run.path / "metrics.jsonl", source.metrics("sft"))
        _mark_copied(run, source, "sft", where)
        taken["sft"] = where
        log.info("data and sft: copied from %s", source.path)
    if _copy_impressions(run, source):
        taken["impressions of sft"] = where
    run.mark_done(SHARED, **{"from": taken})


def take_over_choice(run: Run, planned: Planned, others: Iterable[Planned], root: Path) -> None:
    """Copy into ``run`` what another one predicted or sampled to choose studies, what its judge said of reports, and
    the classifier that it trained.

    Taken from runs with equal data and fine-tuning that finished the stage and made the files themselves.
    """
    if not run.done("data"):
        return
    taken = dict(run.facts(SHARED)["from"]) if run.done(SHARED) else {}
    before = dict(taken)
    for other in others:
        source = existing(other, root)
        if other.name == planned.name or other.shared_key != planned.shared_key or source is None:
            continue
        if not source.done("data") or source.facts("data").get("fingerprint") != run.facts("data").get("fingerprint"):
            continue
        where = {"run": source.path.name, "digest": digest(source.config)}
        if _copy_answers(run, source):
            taken[ANSWERS] = where
        if _copy_predictions(run, source, where):
            taken[made_for(run.config)] = where
        if _copy_classifier(run, source, where):
            taken[CLASSIFIER] = where
    if taken != before:
        run.mark_done(SHARED, **{"from": taken})


def _copy_answers(run: Run, source: Run) -> bool:
    """Whether a judge's answers were copied. A run looks them up by judge and text: another judge's are not its own."""
    ours, theirs = (one.path / "criticality" / "answers.jsonl" for one in (run, source))
    if ours.exists() or not theirs.exists() or not source.done("annotate") or ANSWERS in taken_over(source.path):
        return False
    asked = [one.config.criticality.model_dump(mode="json", exclude={"source"}) for one in (run, source)]
    if "annotate" not in stages_of(run.config) or asked[0] != asked[1]:
        return False
    write_jsonl(ours, read_jsonl(theirs))
    return True


def _copy_predictions(run: Run, source: Run, where: dict[str, str]) -> bool:
    """Whether predictions were copied, with the models of a cross-fitting that made them."""
    wanted = _predicts(run.config)
    if wanted is None or (run.path / "select").exists() or wanted != _predicts(source.config):
        return False
    if not source.done("select") or made_for(source.config) in taken_over(source.path):
        return False
    _copy_folder(source.path / "select", run.path / "select")
    for mark in sorted((source.path / "done").glob("select_fold_*.json")):
        append_jsonl(run.path / "metrics.jsonl", source.metrics(mark.stem))
        _mark_copied(run, source, mark.stem, where)
    log.info("%s: copied from %s", made_for(run.config), source.path)
    return True


def _copy_classifier(run: Run, source: Run, where: dict[str, str]) -> bool:
    """Whether the classifier of token weights was copied: it rests on the reports and the passes over them alone."""
    if not run.config.trains_classifier or run.done("classifier") or not source.config.trains_classifier:
        return False
    if not source.done("classifier") or CLASSIFIER in taken_over(source.path):
        return False
    ours, theirs = (one.config.grpo.token_weight for one in (run, source))
    if (ours.epochs, ours.encoder, ours.reports) != (theirs.epochs, theirs.encoder, theirs.reports):
        return False
    _copy_folder(source.path / "classifier", run.path / "classifier")
    _mark_copied(run, source, "classifier", where)
    return True


def made_for(config: RunConfig) -> str:
    """What the selection of ``config`` has its model write."""
    return ROLLOUTS if isinstance(config.select, SampledConfig) else PREDICTIONS


def _predicts(config: RunConfig) -> str | None:
    """What a selection's predictions or rollouts rest on beside data and fine-tuning; None for a run that makes none.

    Rollouts are of every study that could be chosen, so they are the same for every kind of choice that looks at them.
    """
    select = config.select
    if isinstance(select, HardestConfig):
        return json.dumps([config.section, PREDICTIONS, select.folds, _generation(config)])
    if isinstance(select, SampledConfig) and select.samples:
        return json.dumps([config.section, ROLLOUTS, select.rollouts, select.temperature, _generation(config)])
    return None


def _mark_copied(run: Run, source: Run, stage: str, where: dict[str, str]) -> None:
    facts = {k: v for k, v in source.facts(stage).items() if k not in ("stage", "attempt")}
    run.mark_done(stage, **{"copied_from": where, **facts})


def _copy_folder(source: Path, target: Path) -> None:
    beside = target.with_name(target.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(source, beside)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def _copy_impressions(run: Run, source: Run) -> bool:
    """Start the predictions of ``run`` with those of the SFT policy of ``source``, where nothing was generated yet."""
    ours, theirs = (one.path / "eval" / "test" / "predictions.jsonl" for one in (run, source))
    if ours.exists() or not source.done("generate") or _generation(run.config) != _generation(source.config):
        return False
    write_jsonl(ours, [row for row in read_jsonl(theirs) if row["row"] == "sft"])
    return True


def _generation(config: RunConfig) -> str:
    return json.dumps(config.generate.model_dump(mode="json"), sort_keys=True)


def taken_over(path: Path) -> dict[str, Any]:
    """Stage -> {"run", "digest"} of what the run in ``path`` took over; empty when it did all itself."""
    mark = path / "done" / f"{SHARED}.json"
    return dict(read_json(mark)["from"]) if mark.exists() else {}
