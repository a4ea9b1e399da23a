"""The run folder as it stands -> :class:`Inputs`: every file the page is made from, read and not yet interpreted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from radiograd.config import DPOConfig
from radiograd.errors import RunError
from radiograd.preferences import Pair, parse_pairs
from radiograd.runs import STAGES, Run, read_json, read_jsonl
from radiograd.types import Study


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the run folder holds. Parts that do not exist yet are empty or None."""

    run: Run
    manifest: Mapping[str, Any]
    status: Mapping[str, Any]
    counts: Mapping[str, Any]
    done: Mapping[str, Mapping[str, Any]]
    attempts: Sequence[Mapping[str, Any]]
    metrics: Sequence[Mapping[str, Any]]
    evaluation: Mapping[str, Any] | None
    scores: Mapping[tuple[str, str], Mapping[str, float | None]]
    texts: Mapping[tuple[str, str], str]
    studies: Sequence[Study]
    pairs: Sequence[Pair]
    rounds: Sequence[Mapping[str, Any]]
    """What the making of the pairs recorded, round by round."""
    looks: Sequence[Mapping[str, Any]]
    """What the guard saw of the policy while it was optimised."""
    criticality: Mapping[str, Any] | None = None
    """criticality_summary.json."""
    selection: Mapping[str, Any] | None = None
    """selection_summary.json; :attr:`choices` are the lines of selection.jsonl."""
    choices: Sequence[Mapping[str, Any]] = ()
    weighted: Sequence[Mapping[str, Any]] = ()
    """The completions of the last logged rollout that kept what their tokens weigh."""
    rollout_step: int | None = None
    """The optimiser step before which that rollout was sampled."""
    trained: Mapping[str, Study] = field(default_factory=dict)
    """Study id -> the study, of those that :attr:`weighted` names."""

    @property
    def section(self) -> str:
        """What the rows write and are held against."""
        return self.run.config.section

    def written(self, study: Study) -> str:
        """The radiologist's own text for ``study``; "" when there is none."""
        return study.sections.text(self.section) or ""


def read_inputs(run: Run) -> Inputs:
    """Everything the page needs from the run folder. RunError names a damaged file."""
    test = run.path / "eval" / "test"
    step, weighted = _last_rollout(run.path / "rollouts")
    lines = [line for name in ("predictions", "baselines") for line in _lines(test / f"{name}.jsonl")]
    return Inputs(
        run=run,
        manifest=_json(run.path / "manifest.json") or {},
        status=_json(run.path / "STATUS.json") or {},
        counts=_json(run.path / "data" / "summary.json") or {},
        done={stage: run.facts(stage) for stage in STAGES if stage != "report" and run.done(stage)},
        attempts=[
            {"number": int(p.parent.name), **read_json(p)} for p in sorted(run.path.glob("attempts/[0-9]*/env.json"))
        ],
        metrics=run.metrics(),
        evaluation=_json(test / "summary.json"),
        scores={(r["row"], r["study_id"]): r["scores"] for r in _lines(test / "scores.jsonl")},
        texts={(r["row"], r["study_id"]): r["text"] for r in lines},
        studies=[Study.from_json(row) for row in _lines(run.path / "data" / "test.jsonl")],
        pairs=_pairs(run.path / "pairs.jsonl"),
        rounds=[run.facts(stage) for stage in _rounds(run) if run.done(stage)],
        looks=list(_lines(run.path / "guard.jsonl")),
        criticality=_json(run.path / "criticality_summary.json") if run.done("annotate") else None,
        selection=_json(run.path / "selection_summary.json") if run.done("select") else None,
        choices=list(_lines(run.path / "selection.jsonl")) if run.done("select") else (),
        weighted=weighted,
        rollout_step=step,
        trained=_trained(run, {row["study_id"] for row in weighted}),
    )


def _rounds(run: Run) -> list[str]:
    if not isinstance(run.config.align, DPOConfig):
        return []
    return ["pairs", *(f"pairs_round_{number}" for number in range(1, run.config.align.rounds))]


def _last_rollout(folder: Path) -> tuple[int | None, list[dict[str, Any]]]:
    """Step and rows of the newest file, of those rows only that have weights."""
    newest = max(folder.glob("step_[0-9]*.jsonl"), default=None)
    if newest is None:
        return None, []
    return int(newest.stem.removeprefix("step_")), [row for row in read_jsonl(newest) if "tokens" in row]


def _trained(run: Run, wanted: Set[str]) -> dict[str, Study]:
    """The named studies of the train split. RunError when it lacks one of them."""
    if not wanted:
        return {}
    path = run.path / "data" / "train.jsonl"
    found = {row["study_id"]: Study.from_json(row) for row in _lines(path) if row["study_id"] in wanted}
    if missing := wanted - found.keys():
        raise RunError(f"{path} lacks {len(missing)} studies that {run.path / 'rollouts'} names ({min(missing)})")
    return found


def _pairs(path: Path) -> Sequence[Pair]:
    if not path.exists():
        return ()
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        return parse_pairs(file).pairs


def _json(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return read_jsonl(path) if path.exists() else iter(())
