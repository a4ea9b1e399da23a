"""Where one text contradicts another, by what our rules read in both. Pure.

Compared are findings of the fine ontology, of this examination only (no history, no conditions, nobody else):

- status: one says present, the other absent. A denial that is narrowed ("no large effusion", "no acute infiltrate",
  "no left pneumothorax") denies only what is narrowed alike;
- side: a finding present in both, on a side that the findings do not give it; bilateral holds left and right;
- severity: present in both, at opposite ends (minimal, mild, tiny, small against severe, large);
- a blanket denial ("no acute cardiopulmonary abnormality", "normal chest") where the findings state an acute finding;
- a lung finding that needs an opacity (pneumonia, mass) where the findings call the lungs clear of any.

Not compared: measurements, places other than sides, changes over time, devices' positions, causes, uncertain against
absent or present, and all that our lexicons do not know. No conflict found is therefore no proof of agreement.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from radiograd.text.findings import Statement
from radiograd.types import Status

Kind = Literal["status", "side", "severity", "blanket denial", "clear lungs"]

ACUTE: Final = frozenset(
    {
        "Pneumothorax",
        "Hydropneumothorax",
        "Pleural Effusion",
        "Consolidation",
        "Airspace Disease",
        "Infiltrate",
        "Pneumonia",
        "Edema",
        "Heart Failure",
        "Pneumoperitoneum",
        "Pneumomediastinum",
    }
)
"""Findings that nobody who writes "no acute abnormality" can have meant to leave standing."""
_NEEDS_OPACITY: Final = frozenset({"Pneumonia", "Consolidation", "Infiltrate", "Airspace Disease", "Mass", "Edema"})
_OPACITIES: Final = frozenset(
    {
        "Lung Opacity",
        "Lung Density",
        "Airspace Disease",
        "Consolidation",
        "Infiltrate",
        "Interstitial Markings",
        "Interstitial Opacity",
        "Nodular Opacity",
        "Masslike Opacity",
        "Vascular Congestion",
        "Atelectasis",
        "Volume Loss",
        "Nodule",
        "Edema",
        "Pneumonia",
        "Mass",
    }
)
_NARROWING: Final = ("size", "severity", "age", "change", "side", "location", "character")
_CHRONIC: Final = frozenset({"stable", "old"})
_GRADES: Final = {
    "minimal": 0,
    "mild": 0,
    "tiny": 0,
    "small": 0,
    "moderate": 1,
    "severe": 2,
    "large": 2,
}
_BLANKET: Final = re.compile(
    r"\b(?:no|without|negative for)\s+(?:(?:radiographic|definite|convincing|evidence|of|for|any|an|identified)\s+)*"
    r"(?:acute|active)\s+(?:or\s+active\s+|and\s+active\s+)?(?:(?:cardio\s?pulmonary|cardiac|pulmonary|intrathoracic|"
    r"thoracic|chest|lung|disease|or|and|abnormal|radiographic|cardio-pulmonary|pleural|process|findings?)\W+){0,5}?"
    r"(?:abnormalit(?:y|ies)|disease|process(?:es)?|findings?|patholog(?:y|ies)|infiltrates?|changes?)\b"
    r"|\b(?:normal|unremarkable|negative|clear)\s+(?:(?:two|view|pa|and|lateral|frontal)\s+)*"
    r"(?:chest|study|exam(?:ination)?|radiographs?|x-?rays?|film)\b"
    r"|\bno\s+(?:significant\s+)?abnormalit(?:y|ies)\b",
    re.IGNORECASE,
)


class Conflict(NamedTuple):
    """One contradiction; ``finding`` is a name of the ontology, never text of a report."""

    kind: Kind
    finding: str


def is_said_now(statement: Statement) -> bool:
    """Whether the statement is of this examination."""
    return statement.context == "current"


def denies_everything(text: str) -> bool:
    """Whether ``text`` says in so many words that nothing (acute) is there."""
    return _BLANKET.search(text) is not None


def conflicts(claim: Sequence[Statement], blanket: bool, findings: Sequence[Statement]) -> list[Conflict]:
    """Every contradiction between what ``claim`` states and what ``findings`` state, each finding and kind once.

    ``blanket``: the claim also denies everything acute (:func:`denies_everything`). Sorted by kind and finding.
    """
    ours, theirs = _by_finding(claim), _by_finding(findings)
    found: set[Conflict] = set()
    for name, said in ours.items():
        there = theirs.get(name, ())
        if _status_conflict(said, there):
            found.add(Conflict("status", name))
            continue
        here, elsewhere = _present(said), _present(there)
        if here and elsewhere:
            sides, known = _sides(here), _sides(elsewhere)
            if sides and known and not sides <= known:
                found.add(Conflict("side", name))
            if _opposite(here, elsewhere):
                found.add(Conflict("severity", name))
    if blanket:
        claimed = {name for name, said in ours.items() if _present(said) or _uncertain(said)}
        for name in (ACUTE & theirs.keys()) - claimed:
            if any(_CHRONIC.isdisjoint(_values(s, "change", "age")) for s in _present(theirs[name])):
                found.add(Conflict("blanket denial", name))
    if _lungs_are_clear(theirs):
        for name in _NEEDS_OPACITY & ours.keys():
            if _present(ours[name]):
                found.add(Conflict("clear lungs", name))
    return sorted(found)


def _by_finding(statements: Iterable[Statement]) -> dict[str, list[Statement]]:
    found: dict[str, list[Statement]] = {}
    for statement in statements:
        if is_said_now(statement):
            found.setdefault(statement.finding, []).append(statement)
    return found


def _present(statements: Iterable[Statement]) -> list[Statement]:
    return [s for s in statements if s.status is Status.PRESENT]


def _uncertain(statements: Iterable[Statement]) -> list[Statement]:
    return [s for s in statements if s.status is Status.UNCERTAIN]


def _status_conflict(ours: Sequence[Statement], theirs: Sequence[Statement]) -> bool:
    """The strongest status of each decides: a text that denies on the left and affirms on the right affirms."""
    here, there = _present(ours), _present(theirs)
    if here and not there and not _uncertain(theirs):
        return any(_denies(denial, claim) for denial in theirs for claim in here)
    if there and not here and not _uncertain(ours):
        return any(_denies(denial, claim) for denial in ours for claim in there)
    return False


def _denies(denial: Statement, claim: Statement) -> bool:
    for category in _NARROWING:
        narrowed = set(denial.attributes.get(category, ()))
        if narrowed and narrowed.isdisjoint(claim.attributes.get(category, ())):
            return False
    return denial.status is Status.ABSENT


def _values(statement: Statement, *categories: str) -> set[str]:
    return {value for category in categories for value in statement.attributes.get(category, ())}


def _sides(statements: Iterable[Statement]) -> frozenset[str]:
    sides = {side for statement in statements for side in statement.attributes.get("side", ())}
    return frozenset({"left", "right"} if "bilateral" in sides else sides)


def _opposite(ours: Iterable[Statement], theirs: Iterable[Statement]) -> bool:
    here, there = _grades(ours), _grades(theirs)
    return bool(here and there) and ((max(here) == 0 and min(there) == 2) or (min(here) == 2 and max(there) == 0))


def _grades(statements: Iterable[Statement]) -> set[int]:
    said = {value for s in statements for value in _values(s, "severity", "size")}
    return {_GRADES[value] for value in said if value in _GRADES}


def _lungs_are_clear(theirs: Mapping[str, Sequence[Statement]]) -> bool:
    denied = any(
        s.rule.startswith("clear at lung") and s.status is Status.ABSENT for s in theirs.get("Lung Opacity", ())
    )
    return denied and not any(_present(theirs[name]) or _uncertain(theirs[name]) for name in _OPACITIES & theirs.keys())
