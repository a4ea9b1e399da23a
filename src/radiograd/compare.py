"""Finished runs, or files of score lines, against one another: paired differences from cached parts, without a model.

Reads ``eval/<set>/{scores.jsonl,summary.json}`` and ``data/<set>.jsonl`` of runs, and what ``radiograd score --out``
wrote. The systems must have been scored on the same cases; that is checked, never made so by leaving cases out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from radiograd import tables
from radiograd.errors import ConfigError, RunError, UsageError, did_you_mean
from radiograd.metrics import MEAN_PARTS, Metric, load_metric, mean_of
from radiograd.runs import read_json, read_jsonl
from radiograd.scorefile import done_lines, meta_path
from radiograd.stats import Combine, holm
from radiograd.tally import Tally, differences, estimates
from radiograd.types import Study

OURS = "ours"


@dataclass(frozen=True, slots=True)
class Column:
    """How one metric of a system was computed."""

    metric: str
    convention: str
    signature: str
    higher_is_better: bool


@dataclass(slots=True)
class System:
    """One system's scores: per case an id, a patient and the parts of each metric, in one order."""

    name: str
    source: str
    columns: dict[str, Column]
    ids: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    normal: list[bool | None] = field(default_factory=list)
    sites: list[str | None] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    """What each candidate was held against, as a digest."""
    tallies: dict[str, Tally] = field(default_factory=dict)


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_systems(paths: Sequence[Path], eval_set: str = "test", row: str = "aligned") -> list[System]:
    """Each path a run folder, of which ``row`` on ``eval_set`` is taken, or a file of score lines.

    Raises UsageError for fewer than two paths, RunError for a run that has not been evaluated or lacks the row.
    """
    if len(paths) < 2:
        raise UsageError("a comparison needs two runs or files of scores, e.g. radiograd compare runs/a runs/b")
    names = _names(paths)
    return [
        read_run(path, name, eval_set, row) if path.is_dir() else _read_file(path, name)
        for path, name in zip(paths, names, strict=True)
    ]


def _names(paths: Sequence[Path]) -> list[str]:
    short = [path.resolve().name if path.is_dir() else path.stem for path in paths]
    if len(set(short)) == len(paths):
        return short
    names = [str(path) for path in paths]
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if twice is not None:
        raise UsageError(f"{twice} is named twice; compare it with something else")
    return names


def read_run(path: Path, name: str, eval_set: str, row: str) -> System:
    """The scores of ``row`` of a run, called ``name``. RunError when it has not been evaluated or lacks the row."""
    folder = path / "eval" / eval_set
    if not (folder / "summary.json").exists():
        raise RunError(f"{path} has no summary of its {eval_set} set; run: radiograd evaluate {path} --set {eval_set}")
    rows = read_json(folder / "summary.json")["rows"]
    if row not in rows:
        raise RunError(f"{path} has no row {row!r}; choose --row from: {', '.join(rows)}")
    columns = {
        metric: Column(metric, OURS, entry["signature"], entry["higher_is_better"])
        for metric, entry in rows[row].items()
    }
    system = System(name, str(path), columns)
    studies = {line["study_id"]: Study.from_json(line) for line in read_jsonl(path / "data" / f"{eval_set}.jsonl")}
    lines = (line for line in read_jsonl(folder / "scores.jsonl") if line["row"] == row)
    _fill(system, (_of_run(line, studies, path) for line in lines))
    if len(system.ids) < len(studies):
        raise RunError(f"{path}: row {row!r} misses {len(studies) - len(system.ids)} studies; evaluate again")
    return system


def _of_run(line: Mapping[str, Any], studies: Mapping[str, Study], path: Path) -> dict[str, Any]:
    study = studies.get(line["study_id"])
    if study is None:
        raise RunError(f"{path}: study {line['study_id']} has scores but is not in the set; evaluate again")
    texts = [study.sections.findings, study.sections.impression]
    reference = blake2b(json.dumps(texts).encode(), digest_size=8).hexdigest()
    return {
        "id": study.study_id,
        "patient": study.patient_id,
        "normal": study.normal,
        "site": study.site,
        "reference": reference,
        "parts": line["parts"],
    }


def _read_file(path: Path, name: str) -> System:
    if not path.exists():
        raise RunError(f"{path}: no such run folder or file of scores")
    if not meta_path(path).exists():
        raise RunError(f"{path} has no {meta_path(path).name} beside it; make it with: radiograd score --out {path}")
    columns = {key: Column(**facts) for key, facts in read_json(meta_path(path))["metrics"].items()}
    system = System(name, str(path), columns)
    lines = done_lines(path, path.stat().st_size)
    _fill(system, ({**line, "reference": line["digest"][:8]} for line in lines))
    return system


def _fill(system: System, lines: Iterable[Mapping[str, Any]]) -> None:
    """Lines with id, reference and parts, and where known patient and normal. RunError for an id that stands twice."""
    seen: set[str] = set()
    for line in lines:
        case_id = str(line["id"])
        if case_id in seen:
            raise RunError(f"{system.source}: case {case_id} has scores twice; give every case its own id")
        seen.add(case_id)
        patient = line.get("patient")
        system.ids.append(case_id)
        system.patients.append(f"case {case_id}" if patient is None else f"patient {patient}")
        system.normal.append(line.get("normal"))
        system.sites.append(line.get("site"))
        system.references.append(line["reference"])
        for key in system.columns:
            parts = line["parts"].get(key)
            if key not in system.tallies:
                if parts is None:
                    continue
                system.tallies[key] = Tally(tuple(parts))
                for _ in system.ids[1:]:
                    system.tallies[key].add(None)
            system.tallies[key].add(parts)
    if not system.ids:
        raise RunError(f"{system.source} holds no scores")
    for key in system.columns:
        if key not in system.tallies:
            system.tallies[key] = Tally(MEAN_PARTS)
            for _ in system.ids:
                system.tallies[key].add(None)


# ---- comparing -------------------------------------------------------------------------------------------------------


def compare(
    systems: Sequence[System],
    *,
    metrics: Sequence[str] | None = None,
    resamples: int = 10_000,
    seed: int = 7,
    level: float = 0.95,
) -> dict[str, Any]:
    """Means of each system, and for each pair a - b with interval, p and Holm's p, on all and by stratum.

    Holm's correction runs over everything that was tested in a stratum: metrics times pairs. A metric that is not in
    every system, or was computed otherwise, is left out and named with the reason. Raises RunError unless the cases,
    their references, patients and strata coincide, ConfigError for a name in ``metrics`` that no system has.
    """
    systems = align_systems(systems)
    shared, left_out = _shared(systems, metrics)
    if not shared:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise RunError(f"no metric was computed in the same way in all of them ({reasons})")
    first = systems[0]
    combines = {key: combine_of(_scored_in(systems, key), key) for key in shared}
    patients = np.unique(first.patients, return_inverse=True)[1]
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    paired: list[dict[str, Any]] = []
    members_of = strata(first.normal, first.sites)
    for number, (stratum, members) in enumerate(members_of.items()):
        if not len(members):
            continue
        draw: dict[str, Any] = {"members": members, "resamples": resamples, "seed": [seed, number], "level": level}
        rows[stratum] = {
            system.name: _entries(first, estimates({k: system.tallies[k] for k in shared}, combines, patients, **draw))
            for system in systems
        }
        paired += _with_holm(_paired(systems, combines, patients, stratum, draw))
    return {
        "systems": {system.name: system.source for system in systems},
        "counts": {
            "cases": len(first.ids),
            "patients": len(set(first.patients)),
            **{name: len(members) for name, members in members_of.items() if name != "all"},
        },
        "bootstrap": {"by": "patient", "resamples": resamples, "level": level, "seed": seed},
        "rows": rows.pop("all"),
        "strata": rows,
        "paired": paired,
        "left_out": left_out,
    }


def strata(normal: Sequence[bool | None], sites: Sequence[str | None] = ()) -> dict[str, NDArray[np.intp]]:
    """Stratum -> places of its cases; a case of which it is not known is in ``all`` only. Of several sites each is a
    stratum ("site: NAME")."""
    names = sorted({site for site in sites if site is not None})
    return {
        "all": np.arange(len(normal)),
        "normal": np.flatnonzero([n is True for n in normal]),
        "abnormal": np.flatnonzero([n is False for n in normal]),
        **{f"site: {name}": np.flatnonzero([site == name for site in sites]) for name in names if len(names) > 1},
    }


def _paired(
    systems: Sequence[System],
    combines: Mapping[str, Combine],
    patients: NDArray[np.intp],
    stratum: str,
    draw: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    for a, b in combinations(systems, 2):
        for key, found in differences(a.tallies, b.tallies, combines, patients, **draw).items():
            yield {
                "a": a.name,
                "b": b.name,
                "metric": key,
                "stratum": stratum,
                "higher_is_better": a.columns[key].higher_is_better,
                **asdict(found),
            }


def _with_holm(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of one stratum with ``p_holm``; an entry without p is not counted among the tests."""
    found = list(entries)
    adjusted = iter(holm([entry["p"] for entry in found if entry["p"] is not None]))
    return [{**entry, "p_holm": None if entry["p"] is None else next(adjusted)} for entry in found]


def _entries(system: System, found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        key: {
            "mean": entry.value,
            "low": entry.low,
            "high": entry.high,
            "n": entry.n,
            "unscored": entry.unscored,
            "higher_is_better": system.columns[key].higher_is_better,
            "signature": system.columns[key].signature,
        }
        for key, entry in found.items()
    }


def combine_of(system: System, key: str) -> Combine:
    """How part sums make the corpus value; a mean needs no metric to be loaded."""
    if set(system.tallies[key].part_names) == set(MEAN_PARTS):
        return mean_of
    column = system.columns[key]
    metric = load_metric(column.metric)
    change = getattr(metric, "with_convention", None)
    if column.convention != OURS and change is not None:
        metric = cast("Metric", change(column.convention))
    if set(metric.part_names) != set(system.tallies[key].part_names):
        raise RunError(f"{system.source}: metric {key!r} has other parts today; score the cases again")
    return metric.combine


def _scored_in(systems: Sequence[System], key: str) -> System:
    """The first system with a score, whose parts are known; any when none has one."""
    return next((system for system in systems if system.tallies[key].scored.any()), systems[0])


def align_systems(systems: Sequence[System]) -> list[System]:
    """All systems in the order of the first one's cases. RunError unless their cases coincide."""
    first = systems[0]
    place = {case_id: k for k, case_id in enumerate(first.ids)}
    aligned = [first]
    for other in systems[1:]:
        missing, unknown = place.keys() - set(other.ids), set(other.ids) - place.keys()
        if missing or unknown:
            raise RunError(
                f"{other.source} was not scored on the cases of {first.source}: {len(missing)} missing, "
                f"{len(unknown)} unknown (first: {min(missing | unknown)}). Compare runs on the same split and set"
            )
        order = np.empty(len(place), dtype=np.intp)
        for k, case_id in enumerate(other.ids):
            order[place[case_id]] = k
        aligned.append(_reordered(other, order))
        _check_same(first, aligned[-1])
    return aligned


def _reordered(system: System, order: NDArray[np.intp]) -> System:
    if np.array_equal(order, np.arange(len(order))):
        return system
    places = order.tolist()
    return System(
        system.name,
        system.source,
        system.columns,
        [system.ids[k] for k in places],
        [system.patients[k] for k in places],
        [system.normal[k] for k in places],
        [system.sites[k] for k in places],
        [system.references[k] for k in places],
        {key: tally.reordered(order) for key, tally in system.tallies.items()},
    )


def _check_same(a: System, b: System) -> None:
    for what, of_a, of_b in (
        ("reference", a.references, b.references),
        ("patient", a.patients, b.patients),
        ("stratum", a.normal, b.normal),
    ):
        differing = [case_id for case_id, x, y in zip(a.ids, of_a, of_b, strict=True) if x != y]
        if differing:
            raise RunError(
                f"{len(differing)} cases have another {what} in {b.source} than in {a.source} "
                f"(first: {differing[0]}); compare what was scored on the same data"
            )


def _shared(systems: Sequence[System], metrics: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """Metrics computed in the same way everywhere, and why each other one is left out."""
    known = dict.fromkeys(key for system in systems for key in system.columns)
    for name in metrics or ():
        if name not in known:
            raise ConfigError(f"no metric {name!r} was computed.{did_you_mean(name, known)}")
    shared, left_out = [], {}
    for key in known if metrics is None else metrics:
        lacking = [system.name for system in systems if key not in system.columns]
        if lacking:
            left_out[key] = f"not in {', '.join(lacking)}"
        elif len({system.columns[key].signature for system in systems}) > 1:
            left_out[key] = "its signatures differ"
        elif len({frozenset(s.tallies[key].part_names) for s in systems if s.tallies[key].scored.any()}) > 1:
            left_out[key] = "its parts differ"
        else:
            shared.append(key)
    return shared, left_out


# ---- showing ---------------------------------------------------------------------------------------------------------


def render(found: Mapping[str, Any], as_markdown: bool = False) -> str:
    """The tables of :func:`compare`: each system's values, then the differences, on all cases and by stratum.

    Below them how each metric was computed, and what was left out.
    """
    blocks = []
    table = tables.markdown if as_markdown else tables.text
    for stratum in tables.strata_of(found):
        title = f"{tables.STRATA_TITLES.get(stratum, stratum)} cases, x 100 [95% interval]".replace(
            "95", f"{100 * found['bootstrap']['level']:g}"
        )
        blocks.append((title, tables.scores_grid(found, stratum)))
        blocks.append((f"Paired differences, {stratum} cases", _paired_grid(found, stratum)))
    shown = [f"### {title}\n\n{table(grid)}" if as_markdown else f"{title}\n{table(grid)}" for title, grid in blocks]
    listed = "".join(f"- {f'`{line}`' if as_markdown else line}\n" for line in tables.signatures(found))
    shown.append(f"### Signatures\n\n{listed}" if as_markdown else f"Signatures\n{listed}")
    if found["left_out"]:
        shown.append("Left out: " + "; ".join(f"{key} ({why})" for key, why in found["left_out"].items()) + "\n")
    return "\n".join(shown)


def _paired_grid(found: Mapping[str, Any], stratum: str) -> tables.Grid:
    grid = [["a", "b", "metric", "a - b", "p", "p (Holm)", "n"]]
    for entry in found["paired"]:
        if entry["stratum"] == stratum:
            cells = [tables.difference_cell(entry), tables.p_value(entry["p"]), tables.p_value(entry["p_holm"])]
            grid.append([entry["a"], entry["b"], entry["metric"], *cells, str(entry["n"])])
    return grid
