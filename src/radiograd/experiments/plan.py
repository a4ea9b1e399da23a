"""An experiment file -> the runs it asks for. Strict like a configuration: what is not known is an error that says so.

Precedence for the configuration of a cell: its base < ``set`` of the experiment < ``set`` of the cell < the command
line < name and seed. A key of ``set`` is replaced whole: ``align: {type: none}`` leaves nothing of the base's align,
``align.beta: 0.2`` changes one key of it.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from radiograd.config import (
    JUDGES_OF_IMPRESSIONS,
    SHIPPED_CONFIGS,
    Positive,
    RunConfig,
    Section,
    apply_override,
    keys_of,
    parse_config,
    read_values,
    shipped,
)
from radiograd.errors import ConfigError, UsageError, did_you_mean
from radiograd.types import POLICIES

SHIPPED = Path(__file__).parent
STRATA = ("all", "normal", "abnormal")
SITE = "site: "
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class CellConfig(Section):
    """One setting of the experiment: a run for each of its seeds."""

    name: str = Field(pattern=NAME)
    set: dict[str, Any] = Field(default_factory=dict)
    """Key of a run's configuration, dotted or not -> value. Goes over ``set`` of the experiment."""
    seeds: tuple[int, ...] | None = None
    """Null = those of the experiment."""
    rows: dict[str, str] = Field(default_factory=dict)
    """System of the run (sft, aligned, or a baseline) -> the label of its row in the table."""
    note: str | None = None
    """Shown below the table."""


class JudgeConfig(Section):
    """Who says which of two impressions is better, for each pair in ``compare``; asked in both orders."""

    judge: str = "rules"
    """rules, chat, local, or your own package.module:name."""
    options: dict[str, Any] = Field(default_factory=dict)
    label: str | None = None
    """What the table calls it; null = its name."""
    sees_reference: bool = True
    """Whether it is shown the radiologist's own impression."""
    max_unscored: float = Field(default=0.2, ge=0.0, le=1.0)
    """Share of duels it may leave unscored. A tie is an answer."""

    @property
    def name(self) -> str:
        """Its label."""
        return self.label or self.judge


class PaperConfig(Section):
    """What a paper reports for the same rows; shown beside ours and never mixed with it."""

    source: str
    rows: dict[str, dict[str, float]]
    """Label of a row of ours -> column -> the paper's number, as printed."""
    beside: bool = True
    """Whether its rows are ours; false: they are other rows, shown by themselves."""
    note: str = ""
    """Why the two cannot be compared."""


class CurveConfig(Section):
    """Some rows as lines over a number, e.g. the share of the data that each was trained on."""

    x: str
    """What the number is."""
    lines: dict[str, dict[float, str]]
    """Name of a line -> x (above 0) -> label of a row."""
    level: str | None = None
    """A row drawn across, e.g. SFT."""
    metrics: tuple[str, ...] = ()
    """Columns that are drawn, one file each; none = the first."""

    @field_validator("lines")
    @classmethod
    def _has_points(cls, value: dict[str, dict[float, str]]) -> dict[str, dict[float, str]]:
        if not value or not all(value.values()) or min(x for line in value.values() for x in line) <= 0:
            raise ValueError(
                "lines: name at least one, each with points at x above 0, e.g. {random: {20: random 20 %}}"
            )
        return value


class Experiment(Section):
    """A question, the runs that answer it, and the table they are put in."""

    name: str = Field(pattern=NAME)
    title: str
    question: str = ""
    base: str = "quickstart"
    """A shipped configuration by name, or a file (relative to the experiment's)."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Key of a run's configuration, dotted or not -> value, in every cell."""
    seeds: tuple[int, ...] = (7,)
    metrics: tuple[str, ...] = ("rougeL", "label_f1_14", "fidelity")
    """Columns; the first is plotted. ``bertscore.precision``: the mean of one part of a metric."""
    strata: tuple[str, ...] = ("all", "abnormal")
    """Which studies each table is over: all, normal, abnormal, or "site: NAME"."""
    cells: tuple[CellConfig, ...]
    compare: tuple[tuple[str, str], ...] = ()
    """Pairs of labels: the first minus the second, on the same studies."""
    baselines: tuple[str, ...] = ("constant", "retrieval")
    """Trivial rows, shown once; from the first cell that is finished."""
    judges: tuple[JudgeConfig, ...] = ()
    curve: CurveConfig | None = None
    """More plots: curve-METRIC.svg."""
    paper: PaperConfig | None = None
    notes: tuple[str, ...] = ()
    resamples: Positive = 2000
    """Bootstrap resamples of the table, drawn by patient."""

    @field_validator("cells")
    @classmethod
    def _has_cells(cls, value: tuple[CellConfig, ...]) -> tuple[CellConfig, ...]:
        if not value:
            raise ValueError("name at least one cell")
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> Experiment:
        _refuse_twice("cell", (cell.name for cell in self.cells))
        labels = self.labels
        _refuse_twice("row label", (label for cell in self.cells for label in cell.rows.values()))
        _refuse_twice("judge", (judge.name for judge in self.judges))
        _refuse_twice("metric", self.metrics)
        for name in self.curve.metrics if self.curve else ():
            if name not in self.metrics:
                raise ValueError(f"curve.metrics: {name} is no column.{did_you_mean(name, self.metrics)}")
        if not self.metrics:
            raise ValueError("metrics: name at least one column")
        for seeds in (self.seeds, *(cell.seeds for cell in self.cells if cell.seeds is not None)):
            if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
                raise ValueError("seeds: give different numbers of 0 or more, at least one")
        for kind in self.strata:
            if kind not in STRATA and not kind.startswith(SITE):
                raise ValueError(f"strata: no stratum is called {kind!r}.{did_you_mean(kind, STRATA)}")
        if not self.strata:
            raise ValueError("strata: name at least one, e.g. [all]")
        named = [label for pair in self.compare for label in pair]
        drawn = [] if self.curve is None else [label for line in self.curve.lines.values() for label in line.values()]
        drawn += [self.curve.level] if self.curve and self.curve.level else []
        for label in [*named, *drawn, *(self.paper.rows if self.paper and self.paper.beside else ())]:
            if label not in labels:
                where = "compare" if label in named else "curve" if label in drawn else "paper.rows"
                raise ValueError(f"{where}: no row is labelled {label!r}.{did_you_mean(label, labels)}")
        return self

    @property
    def labels(self) -> dict[str, tuple[CellConfig, str]]:
        """Row label -> its cell and system; the trivial rows are no part of it."""
        return {label: (cell, system) for cell in self.cells for system, label in cell.rows.items()}

    def seeds_of(self, cell: CellConfig) -> tuple[int, ...]:
        """The seeds that ``cell`` is run with."""
        return self.seeds if cell.seeds is None else cell.seeds


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of an experiment."""

    cell: CellConfig
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """Name of the run and of its folder."""
        return self.config.name

    @property
    def shared_key(self) -> str:
        """Equal where data and fine-tuning are: what depends on it alone is done once."""
        values = self.config.model_dump(mode="json", include={"task", "seed", "data", "model", "sft"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Plan:
    """An experiment with its runs in the order in which they are done."""

    experiment: Experiment
    overrides: tuple[str, ...]
    """All that was put over the file."""
    of_runs: tuple[str, ...]
    """Those of them that go over the configuration of every run."""
    runs: tuple[Planned, ...]

    def of(self, cell: CellConfig) -> list[Planned]:
        """The runs of a cell, one a seed."""
        return [planned for planned in self.runs if planned.cell.name == cell.name]


def load_plan(path: Path | str, overrides: Sequence[str] = ()) -> Plan:
    """The experiment in a file or shipped by name, with ``key=value`` put over it, and the run of each cell and seed.

    An override whose first part is a key of the experiment (``metrics=[rougeL]``, or ``seeds=[7,8]``, then for every
    cell) changes that; every other is a key of the runs' configuration. Raises ConfigError naming file, cell, key and
    the nearest known one.
    """
    where = shipped_experiment(str(path)) or Path(path)
    names = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.yaml"))) or "none"
    values = read_values(where, f"no such experiment file. Shipped by name: {names}")
    of_runs = []
    for override in overrides:
        key = override.partition("=")[0].partition(".")[0]
        if key in Experiment.model_fields and key != "name":
            apply_override(values, override)
            if key == "seeds":
                for cell in values.get("cells") or ():
                    if isinstance(cell, dict):
                        cell.pop("seeds", None)
        else:
            of_runs.append(override)
    experiment = parse_experiment(values, str(where))
    base = _base(experiment.base, where)
    runs = [
        Planned(cell, seed, _config(base, experiment, cell, seed, of_runs, str(where)))
        for cell in experiment.cells
        for seed in experiment.seeds_of(cell)
    ]
    for planned in runs:
        _check_rows(planned, str(where))
        _check_strata(planned, experiment.strata, str(where))
        _check_judges(planned, experiment.judges, str(where))
    return Plan(experiment, tuple(overrides), tuple(of_runs), tuple(runs))


def shipped_experiment(name: str) -> Path | None:
    """The file of the shipped experiment called ``name`` (with or without ``.yaml``), or None."""
    if Path(name).is_file() or Path(name).parent not in (Path(), Path("experiments")):
        return None
    candidate = SHIPPED / (Path(name).name.removesuffix(".yaml") + ".yaml")
    return candidate if candidate.exists() else None


def parse_experiment(values: Mapping[str, Any], where: str) -> Experiment:
    """``values`` as an Experiment; ConfigError with everything that is wrong in ``where``, one line."""
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(e, values) for e in error.errors())) from None


def chosen(plan: Plan, only: Sequence[str]) -> list[Planned]:
    """The runs of the named cells (of all without a name). UsageError with the nearest name for an unknown one."""
    known = [cell.name for cell in plan.experiment.cells]
    for name in only:
        if name not in known:
            raise UsageError(f"no cell is called {name!r}.{did_you_mean(name, known)}")
    return [planned for planned in plan.runs if not only or planned.cell.name in only]


def column(name: str) -> tuple[str, str | None]:
    """The metric of a column, and the part of it whose mean the column is; None for the metric's own value."""
    metric, dot, part = name.partition(".")
    return (metric, part) if dot and ":" not in name else (name, None)


def _config(
    base: Mapping[str, Any], experiment: Experiment, cell: CellConfig, seed: int, overrides: Sequence[str], where: str
) -> RunConfig:
    values = copy.deepcopy(dict(base))
    for key, value in [*experiment.set.items(), *cell.set.items()]:
        _put(values, key, copy.deepcopy(value), f"{where}: cell {cell.name!r}")
    for override in overrides:
        apply_override(values, override)
    config = parse_config({**values, "name": f"{cell.name}-seed{seed}", "seed": seed}, f"{where}: cell {cell.name!r}")
    # added to what the run computes anyway: another choice of columns then mostly leaves the runs as they are
    lacking = sorted({column(name)[0] for name in experiment.metrics} - set(config.evaluate.metrics))
    evaluate = config.evaluate.model_copy(update={"metrics": (*config.evaluate.metrics, *lacking)})
    return config.model_copy(update={"evaluate": evaluate})


def _put(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    if not key or not all(key.split(".")):
        raise ConfigError(f"{where}: {key!r} is no key")
    if key.split(".")[0] in ("name", "seed"):
        raise ConfigError(f"{where}: a run's {key} is made from cell and seed; set it there")
    *parents, leaf = key.split(".")
    for parent in parents:
        inner = keys_of(values, parent)
        if not isinstance(inner, dict):
            raise ConfigError(f"{where}: {key!r}: {parent!r} holds a value, not keys")
        values = inner
    values[leaf] = value


def _base(name: str, where: Path) -> dict[str, Any]:
    path = shipped(name) or (where.parent / name if (where.parent / name).is_file() else Path(name))
    names = ", ".join(sorted(p.stem for p in SHIPPED_CONFIGS.glob("*.yaml")))
    return read_values(path, f"base of {where}: no such configuration file. Shipped by name: {names}")


def _check_strata(planned: Planned, kinds: Sequence[str], where: str) -> None:
    names = planned.config.data.site_names
    for kind in kinds:
        site = kind.removeprefix(SITE)
        if kind.startswith(SITE) and site not in names:
            known = did_you_mean(site, names) if names else " There is only one site."
            raise ConfigError(f"{where}: strata: cell {planned.cell.name!r} has no site {site!r}.{known}")


def _check_judges(planned: Planned, judges: Sequence[JudgeConfig], where: str) -> None:
    for judge in judges:
        if planned.config.section == "report" and judge.judge in JUDGES_OF_IMPRESSIONS:
            raise ConfigError(
                f"{where}: judges: {judge.name} is asked about impressions, and cell {planned.cell.name!r} writes "
                "whole reports; take judge: rules"
            )


def _check_rows(planned: Planned, where: str) -> None:
    known = [*planned.config.policies, *planned.config.evaluate.baselines]
    for system in planned.cell.rows:
        if system not in known:
            why = " It is not aligned (align.type: none)." if system in POLICIES else ""
            raise ConfigError(
                f"{where}: cell {planned.cell.name!r}: rows: its runs have no system {system!r}.{why}"
                f"{did_you_mean(system, known)}"
            )


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"two have the same {what} {twice[0]!r}")


_PARTS: Mapping[str, type[Section]] = {"cells": CellConfig, "judges": JudgeConfig, "paper": PaperConfig}


def _explain(error: Any, values: Mapping[str, Any]) -> str:
    location = list(error["loc"])
    model: type[Section] = Experiment
    named: list[str] = []
    if len(location) > 1 and location[0] in _PARTS:
        model, part = _PARTS[location[0]], location.pop(0)
        named = [part]
        if isinstance(location[0], int):
            number = location.pop(0)
            entry = values[part][number]
            name = entry.get("name") or entry.get("label") if isinstance(entry, Mapping) else None
            named = [f"{part}[{number if name is None else repr(name)}]"]
    key = ".".join(str(part) for part in (*named, *location))
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}.{did_you_mean(str(location[-1]), model.model_fields)}"
    if error["type"] == "missing":
        return f"{key} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
