"""The studies of a run as its files have them: by split, left to alignment, annotated, chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from radiograd.config import RunConfig
from radiograd.errors import RunError
from radiograd.runs import Run, read_jsonl, stages_of
from radiograd.selection import share_train
from radiograd.types import Study

CRITICALITY = "criticality.jsonl"
SELECTION = "selection.jsonl"


def read_split(run: Run, split: str) -> list[Study]:
    """The studies of data/<split>.jsonl. RunError when the file is missing or damaged."""
    return [Study.from_json(row) for row in read_jsonl(run.path / "data" / f"{split}.jsonl")]


def fine_tuned_on(config: RunConfig, train: Sequence[Study]) -> list[Study]:
    """The studies that fine-tuning sees, in the order given: ``sft.fraction`` of them."""
    return share_train(train, config.sft.fraction, config.seed)[0]


def left_to_alignment(config: RunConfig, train: Sequence[Study]) -> list[Study]:
    """The studies that alignment may use, in the order given: with ``sft.fraction`` below 1 those that fine-tuning has
    not seen, else all."""
    return share_train(train, config.sft.fraction, config.seed)[1]


def candidates(run: Run) -> list[Study]:
    """The studies that alignment may use, with ``critical`` as they were annotated.

    RunError when the run annotates its studies and has not done so yet, or has annotated others.
    """
    studies = left_to_alignment(run.config, read_split(run, "train"))
    if "annotate" in stages_of(run.config):
        run.facts("annotate")
    return with_criticality(studies, run.path / CRITICALITY) if run.done("annotate") else studies


def aligned_on(run: Run) -> list[Study]:
    """The studies that alignment uses: those it may use, or the chosen ones of them where the run chooses.

    Each with ``critical`` as it was annotated: None where the run annotates nothing or its judge could not answer (an
    unanswered study is to be treated as critical: a clip range too narrow costs time, one too wide is what the
    annotation is to prevent). RunError when a stage that this rests on has not finished.
    """
    studies = candidates(run)
    if "select" not in stages_of(run.config):
        return studies
    run.facts("select")
    chosen = {row["study_id"] for row in read_jsonl(run.path / SELECTION) if row["selected"]}
    unknown = chosen - {study.study_id for study in studies}
    if unknown:
        raise RunError(
            f"{run.path / SELECTION} names {len(unknown)} studies that alignment may not use ({min(unknown)})"
        )
    return [study for study in studies if study.study_id in chosen]


def with_criticality(studies: Sequence[Study], path: Path) -> list[Study]:
    """``studies`` with ``critical`` from the lines of a criticality.jsonl. RunError when it lacks one of them."""
    known = {row["study_id"]: row["critical"] for row in read_jsonl(path)}
    missing = [study.study_id for study in studies if study.study_id not in known]
    if missing:
        raise RunError(
            f"{path} lacks {len(missing)} studies (first: {missing[0]}); delete done/annotate.json beside it and run: "
            f"radiograd annotate {path.parent}"
        )
    return [replace(study, critical=known[study.study_id]) for study in studies]
