"""Finished runs of an experiment -> one table with values, differences, preferences and cost. Files only; no model.

Reads the run folders and ``preferences/`` below the experiment's folder. What is not there yet is said, never left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from radiograd.compare import System, align_systems, combine_of, read_run, strata
from radiograd.config import digest
from radiograd.errors import ConfigError, RunError
from radiograd.experiments import estimates
from radiograd.experiments.estimates import Cases, Draws
from radiograd.experiments.paper import beside
from radiograd.experiments.plan import JudgeConfig, Plan, Planned, column
from radiograd.experiments.preferring import Side, answers, file_of, made_the_pairs, read_sides, sides
from radiograd.experiments.running import Status, status
from radiograd.experiments.sharing import ANSWERS, made_for, taken_over
from radiograd.metrics import load_metric
from radiograd.runs import Run, find_run
from radiograd.stats import Combine, holm
from radiograd.tally import Tally

BOOTSTRAP_SEED = 7
LEVEL = 0.95


@dataclass(slots=True)
class _Row:
    """One row of the table: a system of a cell, with the scores of each seed that is finished."""

    label: str
    cell: str
    system: str
    trivial: bool
    runs: dict[int, Planned]
    """Every seed that was planned."""
    systems: dict[int, System] = field(default_factory=dict)


def build_table(plan: Plan, root: Path) -> dict[str, Any]:
    """Everything the table says, as JSON. RunError for a finished run whose files are damaged."""
    experiment = plan.experiment
    states = {planned.name: status(planned, root) for planned in plan.runs}
    rows = _rows(plan, root, states)
    draws = Draws(experiment.resamples, BOOTSTRAP_SEED, LEVEL)
    combines, left_out = _combines(experiment.metrics, rows)
    shown = [_shown(row, experiment.metrics, experiment.strata, combines, draws, root) for row in rows]
    by_label = {row.label: row for row in rows}
    compared = [_compared(pair, by_label, experiment.strata, combines, draws) for pair in experiment.compare]
    differences = [entry for entries, _ in compared for entry in entries]
    _correct(differences)
    ours: dict[str, Any] = {
        row["label"]: row["strata"].get("all") or next(iter(row["strata"].values()), {}) for row in shown
    }
    return {
        "name": experiment.name,
        "title": experiment.title,
        "question": experiment.question,
        "overrides": list(plan.overrides),
        "metrics": list(experiment.metrics),
        "strata": list(experiment.strata),
        "bootstrap": {"by": "patient", "resamples": draws.resamples, "level": LEVEL, "seed": BOOTSTRAP_SEED},
        "runs": {planned.name: _run_facts(planned, states[planned.name], root) for planned in plan.runs},
        "rows": shown,
        "paired": differences,
        "preferences": [
            entry
            for judge in experiment.judges
            for pair in experiment.compare
            if (entry := _preferred(plan, judge, pair, root, states, draws))
        ],
        "curve": None if experiment.curve is None else experiment.curve.model_dump(mode="json"),
        "paper": None
        if experiment.paper is None
        else {
            "source": experiment.paper.source,
            "note": experiment.paper.note,
            "beside": experiment.paper.beside,
            "rows": beside(experiment.paper.rows, ours),
        },
        "left_out": {**left_out, **dict(why for _, whys in compared for why in whys)},
        "notes": [*experiment.notes, *(f"{cell.name}: {cell.note}" for cell in experiment.cells if cell.note)],
    }


# ---- rows ------------------------------------------------------------------------------------------------------------


def _rows(plan: Plan, root: Path, states: Mapping[str, Status]) -> list[_Row]:
    rows = [
        _Row(label, cell.name, system, system not in ("sft", "aligned"), {p.seed: p for p in plan.of(cell)})
        for label, (cell, system) in plan.experiment.labels.items()
    ]
    finished = [p for p in plan.runs if states[p.name].state == "finished"]
    if finished:
        first = finished[0].cell
        of_first = {p.seed: p for p in finished if p.cell.name == first.name}
        known = finished[0].config.evaluate.baselines
        labels = {row.label for row in rows}
        rows += [
            _Row(name, first.name, name, True, of_first)
            for name in plan.experiment.baselines
            if name in known and name not in labels
        ]
    for row in rows:
        for seed, planned in row.runs.items():
            if states[planned.name].state == "finished":
                name = f"{planned.name}.{row.system}"
                row.systems[seed] = read_run(root / planned.name, name, "test", row.system)
    return rows


def _combines(metrics: Sequence[str], rows: Sequence[_Row]) -> tuple[dict[str, Combine], dict[str, str]]:
    """Column -> how its value is made of part sums; and why a column is left out."""
    systems = [system for row in rows for system in row.systems.values()]
    combines: dict[str, Combine] = {}
    left_out: dict[str, str] = {}
    for name in metrics:
        metric, part = column(name)
        having = [system for system in systems if metric in system.columns]
        scored = next((system for system in having if system.tallies[metric].scored.any()), None)
        if systems and scored is None:
            left_out[name] = "no finished run has a score of it"
        elif len({system.columns[metric].signature for system in having}) > 1:
            left_out[name] = "it was not computed in the same way in all runs (their signatures differ)"
        elif part is not None:
            known = load_metric(metric).part_names if scored is None else scored.tallies[metric].part_names
            if part not in known or "n" not in known:
                raise ConfigError(f"column {name!r}: metric {metric!r} has no part {part!r}; it has {', '.join(known)}")
            combines[name] = estimates.mean_of_part(part)
        elif scored is not None:
            combines[name] = combine_of(scored, metric)
    return combines, left_out


def _shown(
    row: _Row,
    metrics: Sequence[str],
    kinds: Sequence[str],
    combines: Mapping[str, Combine],
    draws: Draws,
    root: Path,
) -> dict[str, Any]:
    tables: dict[str, dict[str, Any]] = {}
    for kind in kinds if row.systems else ():
        found = {}
        for name in metrics:
            metric = column(name)[0]
            by_seed = _cases(row.systems, metric, kind)
            if name in combines and by_seed:
                facts = next(iter(row.systems.values())).columns[metric]
                found[name] = {
                    **estimates.value(by_seed, combines[name], draws),
                    "higher_is_better": facts.higher_is_better,
                    "signature": facts.signature,
                }
        tables[kind] = found
    return {
        "label": row.label,
        "cell": row.cell,
        "system": row.system,
        "trivial": row.trivial,
        "seeds": sorted(row.systems),
        "planned_seeds": sorted(row.runs),
        "strata": tables,
        "cost": None if row.trivial else _cost(row, root),
    }


def _cases(systems: Mapping[int, System], metric: str, kind: str) -> dict[int, Cases]:
    """Seed -> the cases of one stratum; empty where the metric or the stratum is not there."""
    found = {}
    for seed, system in systems.items():
        members = members_of(system, kind)
        if metric not in system.columns or not len(members):
            return {}
        found[seed] = Cases(system.tallies[metric], system.patients, system.ids, members)
    return found


def members_of(system: System, kind: str) -> Any:
    """Places of the cases of a stratum; none of a stratum that is not there."""
    return strata(system.normal, system.sites).get(kind, np.arange(0))


# ---- cost ------------------------------------------------------------------------------------------------------------


def _cost(row: _Row, root: Path) -> dict[str, Any] | None:
    """What it took to train a policy, the mean over seeds: tokens, minutes, and the same by stage.

    Work that was copied from another run counts as if it had been done here.
    """
    by_seed = [
        {stage: _as_if_done_here(run, stage, root) for stage in _trained_by(row.system) if run.done(stage)}
        for seed in row.systems
        for run in [find_run(root / row.runs[seed].name)]
    ]
    if not by_seed:
        return None
    stages = {
        stage: {
            name: float(np.mean([facts[stage][name] for facts in by_seed if stage in facts]))
            for name in ("tokens", "seconds", "studies", "pairs", "steps")
            if all(isinstance(facts[stage].get(name), (int, float)) for facts in by_seed if stage in facts)
        }
        for stage in _trained_by(row.system)
        if any(stage in facts for facts in by_seed)
    }
    first = next(iter(by_seed[0].values()))
    return {
        "tokens": round(sum(of.get("tokens", 0.0) for of in stages.values())),
        "minutes": round(sum(of.get("seconds", 0.0) for of in stages.values()) / 60, 2),
        "device": first.get("device"),
        "stages": stages,
    }


def _as_if_done_here(run: Run, stage: str, root: Path) -> dict[str, Any]:
    """What ``stage`` recorded; its seconds with those of the run that made the predictions or answers it rests on."""
    facts = run.facts(stage)
    what = {"select": made_for(run.config), "annotate": ANSWERS}.get(stage)
    source = taken_over(run.path).get(what) if what else None
    if source is not None:
        facts["seconds"] = max(facts["seconds"], find_run(root / source["run"]).facts(stage)["seconds"])
    return facts


def _trained_by(system: str) -> tuple[str, ...]:
    return ("sft",) if system == "sft" else ("sft", "annotate", "select", "classifier", "pairs", "align")


def _run_facts(planned: Planned, found: Status, root: Path) -> dict[str, Any]:
    return {
        "cell": planned.cell.name,
        "seed": planned.seed,
        "digest": digest(planned.config),
        "state": found.state,
        "why": found.why,
        "took_over": taken_over(root / planned.name),
    }


# ---- differences -----------------------------------------------------------------------------------------------------


def _compared(
    pair: tuple[str, str],
    rows: Mapping[str, _Row],
    kinds: Sequence[str],
    combines: Mapping[str, Combine],
    draws: Draws,
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """The entries of one pair, and why it is left out."""
    a, b = (rows[label] for label in pair)
    what = f"{pair[0]} - {pair[1]}"
    seeds = [seed for seed in a.systems if seed in b.systems]
    if not seeds:
        return [], [(what, "no seed of both is finished")]
    try:
        aligned = {seed: align_systems([a.systems[seed], b.systems[seed]]) for seed in seeds}
    except RunError as error:
        return [], [(what, str(error))]
    entries = []
    for kind in kinds:
        for name, combine in combines.items():
            sides_ = [
                _cases({seed: both[side] for seed, both in aligned.items()}, column(name)[0], kind) for side in (0, 1)
            ]
            if not all(sides_):
                continue
            entries.append(
                {
                    "a": pair[0],
                    "b": pair[1],
                    "metric": name,
                    "stratum": kind,
                    "higher_is_better": a.systems[seeds[0]].columns[column(name)[0]].higher_is_better,
                    **estimates.paired(sides_[0], sides_[1], combine, draws),
                }
            )
    return entries, []


def _correct(entries: Sequence[dict[str, Any]]) -> None:
    """Add ``p_holm``: corrected for everything that was tested in a stratum, metrics times pairs."""
    for kind in dict.fromkeys(entry["stratum"] for entry in entries):
        tested = [entry for entry in entries if entry["stratum"] == kind and entry["p"] is not None]
        for entry, adjusted in zip(tested, holm([entry["p"] for entry in tested]), strict=True):
            entry["p_holm"] = adjusted
    for entry in entries:
        entry.setdefault("p_holm", None)


# ---- preferences -----------------------------------------------------------------------------------------------------


def _preferred(
    plan: Plan,
    judge: JudgeConfig,
    pair: tuple[str, str],
    root: Path,
    states: Mapping[str, Status],
    draws: Draws,
) -> dict[str, Any] | None:
    """What a judge said of a pair; None before it was asked about any seed of it."""
    by_seed: dict[int, Cases] = {}
    unscored = contradicted = 0
    signatures: set[str] = set()
    own: set[str] = set()
    for seed, a, b in sides(plan, pair):
        if not all(states[side.planned.name].state == "finished" for side in (a, b)):
            continue
        studies, texts = read_sides(root, a, b)
        found = answers(file_of(root, judge, a, b), texts)
        if not found:
            continue
        tally = Tally((*estimates.OUTCOMES, "n"))
        for study in studies:
            answer = found.get(study.study_id)
            tally.add(None if answer is None else _outcome(answer["winner"]))
        members = np.arange(len(studies))
        by_seed[seed] = Cases(tally, [s.patient_id for s in studies], [s.study_id for s in studies], members)
        unscored += len(studies) - len(found)
        contradicted += sum(set(answer["by_order"]) == {"a", "b"} for answer in found.values())
        signatures |= {answer["signature"] for answer in found.values()}
        own |= {side.name for side in (a, b) if _is_own(side, root, signatures)}
    if not by_seed:
        return None
    return {
        "judge": judge.name,
        "signatures": sorted(signatures),
        "sees_reference": judge.sees_reference,
        "a": pair[0],
        "b": pair[1],
        "unscored": unscored,
        "contradicted": contradicted,
        "judges_its_own": sorted(own),
        **estimates.outcomes(by_seed, draws),
    }


def _is_own(side: Side, root: Path, signatures: set[str]) -> bool:
    return side.system == "aligned" and any(made_the_pairs(root / side.planned.name, one) for one in signatures)


def _outcome(winner: str) -> dict[str, float]:
    won = {"a": "win", "b": "loss", "tie": "tie"}[winner]
    return {**{name: float(name == won) for name in estimates.OUTCOMES}, "n": 1.0}
