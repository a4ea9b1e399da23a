"""Preferences and edits of radiologists, from tables. A bad row is named by file and line; the good ones survive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from radiograd.config import ImportConfig
from radiograd.data.splits import near_duplicate_groups
from radiograd.data.table import read_rows
from radiograd.errors import DataError
from radiograd.preferences import Pair, normalised
from radiograd.prompts import REDACTED
from radiograd.types import Problem, Study

ROWS: Final = 'study_id, chosen, rejected (or study_id, a, b, winner = "a", "b" or "tie")'
EDITS: Final = "study_id, draft, final"
_WINNERS: Final = ("a", "b", "tie")


@dataclass(slots=True)
class Imported:
    """``ties``: rows in which neither was preferred; ``unchanged``: drafts that were signed as they were."""

    pairs: list[Pair] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ties: int = 0
    unchanged: int = 0


class _Bad(Exception):
    """A row that cannot be used; the message holds none of its text."""


class _Nothing(Exception):
    """A row that is right and prefers nothing; its message is the counter."""


def read_imports(
    files: Sequence[ImportConfig],
    *,
    train: Sequence[Study],
    pool: Sequence[Study],
    held_out: Sequence[Study],
    number: int,
    near_duplicate: float,
    seed: int,
) -> Imported:
    """The pairs of all ``files`` for round ``number``, in the order given.

    ``train`` and ``pool`` (what the limits on train left out): the studies that a row may name without giving findings.
    Never a row of a held-out study, nor one from elsewhere whose findings are a near duplicate of held-out ones: the
    split would have kept them together.
    Raises DataError for a file that cannot be read, or that holds not one row of its kind.
    """
    known = {study.study_id: study for study in (*pool, *train)}
    trained = {study.study_id for study in train}
    held = {study.study_id for study in held_out}
    imported = Imported()
    found: list[tuple[str, Pair]] = []
    for file in files:
        rows = 0
        for row in read_rows(Path(file.path)):
            rows += 1
            if isinstance(row, Problem):
                imported.problems.append(row)
                continue
            where, cells = row
            try:
                if _id(cells) in held:
                    raise _Bad(f"study {_id(cells)} is held out (val or test); it would spoil the evaluation")
                found.append((where, _pair(cells, file, where, known, trained, number)))
            except _Nothing as nothing:
                setattr(imported, str(nothing), getattr(imported, str(nothing)) + 1)
            except (_Bad, ValueError) as error:
                imported.problems.append(Problem(where, str(error)))
        if not rows:
            raise DataError(f"{file.path} holds no row; it needs {ROWS if file.kind == 'expert' else EDITS}")
    foreign = [pair.findings for _, pair in found if pair.findings is not None and pair.study_id not in known]
    leaking = _near_held_out(foreign, held_out, near_duplicate, seed)
    elsewhere: dict[str, str] = {}
    for where, pair in found:
        findings = pair.findings
        if findings is not None and normalised(findings) in leaking:
            why = "its findings are those of a held-out study or nearly; training on them would spoil the evaluation"
            imported.problems.append(Problem(where, why))
        elif findings is not None and elsewhere.setdefault(pair.study_id, findings) != findings:
            imported.problems.append(Problem(where, "its study_id stood in an earlier row with other findings"))
        else:
            imported.pairs.append(pair)
    return imported


def check_import(file: ImportConfig) -> None:
    """DataError when a file is not there, cannot be read, or none of its rows has the columns of its kind."""
    wanted = EDITS if file.kind == "edits" else ROWS
    problems: list[Problem] = []
    for row in read_rows(Path(file.path)):
        if isinstance(row, Problem):
            problems.append(row)
            continue
        try:
            _sides(row[1], file.kind)
        except _Nothing:
            return
        except _Bad as error:
            problems.append(Problem(row[0], str(error)))
        else:
            return
    first = f"; {problems[0].where}: {problems[0].why}" if problems else ""
    raise DataError(f"{file.path} holds no row with {wanted}{first}")


def _pair(
    cells: Mapping[str, Any],
    file: ImportConfig,
    where: str,
    known: Mapping[str, Study],
    trained: set[str],
    number: int,
) -> Pair:
    study_id = _id(cells)
    chosen, rejected = _sides(cells, file.kind)
    if REDACTED in chosen:
        raise _Bad(f"the better text holds a redaction mark ({REDACTED}), which would be learnt")
    source = "expert" if file.kind == "expert" else "edit"
    reader = cells.get("reader")
    return Pair(
        study_id=study_id,
        chosen=chosen,
        rejected=rejected,
        weight=file.weight * _weight(cells.get("weight")),
        chosen_source=source,
        rejected_source=source,
        round=number,
        findings=_findings(cells, study_id, known.get(study_id), study_id in trained),
        provenance={"file": where, **({} if reader is None else {"reader": str(reader)})},
    )


def _sides(cells: Mapping[str, Any], kind: str) -> tuple[str, str]:
    """Better and worse text. _Nothing("ties" | "unchanged") when there is none."""
    if kind == "edits":
        draft, final = _text(cells, "draft"), _text(cells, "final")
        if normalised(draft) == normalised(final):
            raise _Nothing("unchanged")
        return final, draft
    if "chosen" in cells or "rejected" in cells:
        return _text(cells, "chosen"), _text(cells, "rejected")
    winner = _text(cells, "winner").lower()
    if winner not in _WINNERS:
        raise _Bad("winner is none of a, b and tie")
    a, b = _text(cells, "a"), _text(cells, "b")
    if winner == "tie":
        raise _Nothing("ties")
    return (a, b) if winner == "a" else (b, a)


def _id(cells: Mapping[str, Any]) -> str:
    value = cells.get("study_id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(cells, "study_id")


def _text(cells: Mapping[str, Any], name: str) -> str:
    value = cells.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise _Bad(f"{name} is missing")
    if not isinstance(value, str):
        raise _Bad(f"{name} is a {type(value).__name__}, not text")
    return value.strip()


def _weight(value: Any) -> float:
    if value is None or value == "":
        return 1.0
    try:
        return float(value)
    except (TypeError, ValueError):
        raise _Bad("weight is not a number") from None


def _findings(cells: Mapping[str, Any], study_id: str, study: Study | None, trained: bool) -> str | None:
    """What the prompt is made from, None where data/train.jsonl says; findings that both give must be the same."""
    given = None if cells.get("findings") in (None, "") else _text(cells, "findings")
    if study is None:
        if given is None:
            raise _Bad(f"study {study_id} is not among the training studies; give its findings")
        return given
    own = study.sections.findings or ""
    if given is not None and given.split() != own.split():
        raise _Bad(f"study {study_id} has other findings in the training data; leave findings out or use another id")
    return None if trained else own


def _near_held_out(findings: Sequence[str], held_out: Sequence[Study], threshold: float, seed: int) -> set[str]:
    """The findings, normalised, that share a near-duplicate group with held-out ones."""
    foreign = list(dict.fromkeys(findings))
    if not foreign or not held_out:
        return set()
    theirs = [study.sections.findings or "" for study in held_out]
    groups = near_duplicate_groups([*foreign, *theirs], threshold, seed)
    spoilt = set(groups[len(foreign) :])
    return {normalised(text) for text, group in zip(foreign, groups, strict=False) if group in spoilt}
