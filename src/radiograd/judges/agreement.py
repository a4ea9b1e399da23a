"""How far a judge can be trusted: its answers held against answers that are known.

Pairs come from harmful edits of a radiologist's impression (``text.edits``: the unedited one must win) or from a file
of expert preferences. A tie where a side must win counts as no agreement, and the ties are counted apart. Which side is
called a is drawn by chance, so that a judge that always says a agrees in half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from radiograd import assets
from radiograd.data.openi import read as read_openi
from radiograd.errors import DataError
from radiograd.judges.counting import MOST_UNSCORED, ask_in_blocks, total_usage, unscored_reasons
from radiograd.judges.protocol import Duel, Judge, Preference, Question, Usage, Verdict, Winner
from radiograd.lines import Required, read_line
from radiograd.stats import bootstrap_counts, interval
from radiograd.text.edits import EDITS
from radiograd.types import Study

EXPERT: Final = "expert"
ALL: Final = "all"
RESAMPLES: Final = 1000
BOM: Final = b"\xef\xbb\xbf"
SHORTEST: Final = 3
"""Words that an OpenI impression must exceed to be edited."""
CONTRADICTING: Final = ("negation_flip", "laterality_flip", "severity_flip", "hallucination")
"""Edits after which an impression no longer follows from its findings; the others leave it incomplete or clumsy."""
DUEL: Final[Required] = {"id": (str, int), "findings": str, "a": str, "b": str}
_WINNERS: Final[tuple[Winner, ...]] = ("a", "b", "tie")


@dataclass(frozen=True, slots=True)
class Report:
    """What probes are made of. ``normal``: what annotators coded, None where they did not."""

    study_id: str
    findings: str
    impression: str
    normal: bool | None = None


@dataclass(frozen=True, slots=True)
class KnownDuel:
    """A duel whose ``winner`` is known, and where from: the name of an edit, or "expert"."""

    duel: Duel
    winner: Winner
    kind: str


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """A question whose answer is known, and where from: the name of an edit, "unedited", or "codes"."""

    question: Question
    value: bool
    kind: str


@dataclass(frozen=True, slots=True)
class Row:
    """Agreement on one kind: share of ``n`` scored answers, its 95% bootstrap interval by study, ties, unscored."""

    kind: str
    n: int
    agreement: float | None
    low: float | None
    high: float | None
    ties: int
    unscored: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """All that is known of a judge after it was asked.

    ``contradicted``: share of scored duels in which its two orders named different sides. ``first_place``: of all its
    answers that named a side, the share that named the one shown first; 0.5 is none the better. ``same_again``: share
    of duels with the same winner when asked anew, 1 by construction for a deterministic judge, None when not asked.
    """

    signature: str
    rows: tuple[Row, ...]
    reasons: tuple[tuple[str, int], ...]
    usage: Usage
    contradicted: float | None = None
    first_place: float | None = None
    same_again: float | None = None
    deterministic: bool = False


# ---- known answers ---------------------------------------------------------------------------------------------------


def openi_reports(limit: int, *, abnormal_only: bool = True) -> list[Report]:
    """The first ``limit`` OpenI studies with findings and an impression of more than three words, without redactions.

    Raises AssetError without the OpenI reports.
    """
    found: list[Report] = []
    for study in read_openi(assets.locate("openi"), {}):
        if len(found) == limit:
            break
        if not isinstance(study, Study) or study.normal is None or (abnormal_only and study.normal):
            continue
        findings, impression = study.sections.findings or "", study.sections.impression or ""
        if findings.strip() and len(impression.split()) > SHORTEST and "XXXX" not in impression:
            found.append(Report(study.study_id, findings, impression, study.normal))
    return found


def probe_duels(reports: Sequence[Report], *, show_reference: bool = False, seed: int = 0) -> list[KnownDuel]:
    """Every harmful edit of every impression against the impression itself, which must win.

    Harmless edits (another order, other words) are duels that must end in a tie. ``show_reference`` gives the judge
    the unedited impression as the reference: a judge that sees it and misses an edit would miss it anywhere.
    """
    rng = np.random.default_rng(seed)
    known: list[KnownDuel] = []
    for edit in EDITS.values():
        for report in reports:
            made = edit.make(report.impression, rng)
            if made is None:
                continue
            swapped = bool(rng.integers(2))
            a, b = (made, report.impression) if swapped else (report.impression, made)
            reference = report.impression if show_reference else None
            right: Winner = "tie" if not edit.harmful else "b" if swapped else "a"
            known.append(KnownDuel(Duel(report.study_id, report.findings, a, b, reference), right, edit.name))
    return known


def probe_consistency(reports: Sequence[Report], seed: int = 0) -> list[KnownAnswer]:
    """Each impression with its own findings (True), and after each edit that contradicts or invents (False)."""
    rng = np.random.default_rng(seed)
    known = [KnownAnswer(Question(r.study_id, r.impression, r.findings), True, "unedited") for r in reports]
    for name in CONTRADICTING:
        for report in reports:
            made = EDITS[name].make(report.impression, rng)
            if made is not None:
                known.append(KnownAnswer(Question(report.study_id, made, report.findings), False, name))
    return known


def coded_criticality(reports: Sequence[Report]) -> list[KnownAnswer]:
    """Each whole report that annotators coded; critical where their codes are not exactly "normal"."""
    return [KnownAnswer(Question(r.study_id, whole(r)), not r.normal, "codes") for r in reports if r.normal is not None]


def whole(report: Report) -> str:
    """Findings and impression under their headers."""
    return f"Findings: {report.findings.strip()}\nImpression: {report.impression.strip()}"


def expert_duels(path: Path, limit: int | None, complain: Callable[[str], None]) -> list[KnownDuel]:
    """Lines ``{"id", "findings", "a", "b", "winner"[, "reference"]}``; a line that cannot be used is complained of.

    Raises DataError without a usable line.
    """
    known: list[KnownDuel] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if limit is not None and len(known) == limit:
                break
            if not line.strip():
                continue
            try:
                row = read_line(line.removeprefix(BOM) if number == 1 else line, {**DUEL, "winner": str})
                if row["winner"] not in _WINNERS:
                    raise DataError('\'winner\' must be "a", "b" or "tie"')
                known.append(KnownDuel(duel_from(row), row["winner"], EXPERT))
            except DataError as error:
                complain(f"{path}, line {number}: {error}")
    if not known:
        raise DataError(f"{path}: holds no preference that can be used")
    return known


def duel_from(row: Mapping[str, Any]) -> Duel:
    """A duel from a JSON object with the keys of :data:`DUEL`. DataError for a reference that is no text."""
    reference = row.get("reference")
    if reference is not None and not isinstance(reference, str):
        raise DataError("'reference' must be a string or null")
    return Duel(str(row["id"]), row["findings"], row["a"], row["b"], reference)


# ---- asking and counting ---------------------------------------------------------------------------------------------


def agreement(
    judge: Judge,
    known: Sequence[KnownDuel],
    *,
    ask_again: bool = False,
    max_unscored: float = MOST_UNSCORED,
    seed: int = 7,
) -> Agreement:
    """Ask for every duel and count. ``ask_again`` asks all of them a second time, past any cache.

    A judge with ``again()`` is asked through what that gives; one without is simply asked again. A judge that calls
    itself ``deterministic`` is not asked twice. Raises DataError without duels, and JudgeError when a larger share
    than ``max_unscored`` stays unscored: what is left would be no fair sample.
    """
    if not known:
        raise DataError("there is no pair to ask about; give --pairs FILE, or raise --limit")
    duels = [one.duel for one in known]
    answers = ask_in_blocks(judge.prefer, duels, max_unscored)
    deterministic = bool(getattr(judge, "deterministic", False))
    again = None
    if ask_again and not deterministic:
        other: Judge = judge.again() if hasattr(judge, "again") else judge
        again = ask_in_blocks(other.prefer, duels, max_unscored)
    correct = [None if p.winner is None else p.winner == k.winner for p, k in zip(answers, known, strict=True)]
    ties = [p.winner == "tie" for p in answers]
    kinds = [k.kind for k in known]
    harmless = {edit.name for edit in EDITS.values() if not edit.harmful}
    groups = {ALL: set(kinds) - harmless, **{kind: {kind} for kind in dict.fromkeys(kinds)}}
    rows = _rows(groups, kinds, correct, ties, [d.study_id for d in duels], seed)
    both = [(p, q) for p, q in zip(answers, again or (), strict=False) if p.winner is not None and q.winner is not None]
    same = 1.0 if deterministic else sum(p.winner == q.winner for p, q in both) / len(both) if both else None
    return Agreement(
        signature=judge.signature,
        rows=rows,
        reasons=tuple(unscored_reasons(answers)),
        usage=total_usage([*answers, *(again or ())]),
        contradicted=_contradicted(answers),
        first_place=_first_place(answers),
        same_again=same,
        deterministic=deterministic,
    )


def yes_no_agreement(
    judge: Judge, known: Sequence[KnownAnswer], task: str, *, max_unscored: float = MOST_UNSCORED, seed: int = 7
) -> Agreement:
    """As :func:`agreement` for ``task`` "consistent" or "critical". Raises DataError without questions."""
    if not known:
        raise DataError("there is no report to ask about; raise --limit")
    questions = [one.question for one in known]
    ask = judge.consistent if task == "consistent" else judge.critical
    answers: list[Verdict] = ask_in_blocks(ask, questions, max_unscored)
    correct = [None if v.value is None else v.value == k.value for v, k in zip(answers, known, strict=True)]
    kinds = [k.kind for k in known]
    groups = {ALL: set(kinds), **{kind: {kind} for kind in dict.fromkeys(kinds)}}
    if task == "critical":
        kinds = [f"coded {'abnormal' if k.value else 'normal'}" for k in known]
        groups = {ALL: set(kinds), **{kind: {kind} for kind in dict.fromkeys(kinds)}}
    return Agreement(
        signature=judge.signature,
        rows=_rows(groups, kinds, correct, [False] * len(known), [q.study_id for q in questions], seed),
        reasons=tuple(unscored_reasons(answers)),
        usage=total_usage(answers),
        deterministic=bool(getattr(judge, "deterministic", False)),
    )


def _rows(
    groups: Mapping[str, set[str]],
    kinds: Sequence[str],
    correct: Sequence[bool | None],
    ties: Sequence[bool],
    studies: Sequence[str],
    seed: int,
) -> tuple[Row, ...]:
    rows = []
    for name, members in groups.items():
        at = [k for k, kind in enumerate(kinds) if kind in members]
        if not at:
            continue
        values = np.array([np.nan if (right := correct[k]) is None else float(right) for k in at])
        parts = {"sum": values, "n": np.where(np.isnan(values), np.nan, 1.0)}
        counts = bootstrap_counts([studies[k] for k in at], RESAMPLES, np.random.default_rng(seed))
        found = interval(parts, _mean, counts)
        tied = sum(ties[k] for k in at)
        rows.append(Row(name, found.n, found.value, found.low, found.high, tied, found.unscored))
    return tuple(rows)


def _mean(sums: Mapping[str, Any]) -> Any:
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums["sum"] / sums["n"]


def _contradicted(answers: Iterable[Preference]) -> float | None:
    asked = [p.contradicted for p in answers if p.winner is not None and len(p.by_order) == 2]
    return sum(asked) / len(asked) if asked else None


def _first_place(answers: Iterable[Preference]) -> float | None:
    named = [
        winner == shown_first
        for p in answers
        if p.winner is not None and len(p.by_order) == 2
        for winner, shown_first in zip(p.by_order, ("a", "b"), strict=True)
        if winner != "tie"
    ]
    return sum(named) / len(named) if named else None


# ---- showing ---------------------------------------------------------------------------------------------------------


def as_json(found: Agreement) -> dict[str, Any]:
    """One plain object, every number unrounded."""
    rows = {
        row.kind: {
            "n": row.n,
            "agreement": row.agreement,
            "low": row.low,
            "high": row.high,
            "ties": row.ties,
            "unscored": row.unscored,
        }
        for row in found.rows
    }
    return {
        "signature": found.signature,
        "agreement": rows,
        "contradicted": found.contradicted,
        "first_place": found.first_place,
        "same_again": found.same_again,
        "deterministic": found.deterministic,
        "unscored": dict(found.reasons),
        "usage": {
            "asked": found.usage.asked,
            "prompt_tokens": found.usage.prompt_tokens,
            "completion_tokens": found.usage.completion_tokens,
        },
    }
