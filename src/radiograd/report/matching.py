"""Which findings a text shares with its reference, which it misses and which it invents, and the words that say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from radiograd.report.evidence import POSITIVE, SAID, evidence_of
from radiograd.text.explain import SIGNS, Evidence, Span
from radiograd.text.labels import label_set
from radiograd.types import Status

SET = "chexpert14"
COLOURS = 6
"""Colours of shared findings; the seventh has the first again, its letter is its own."""
MISSED, INVENTED = "▽", "△"
_STRENGTH = {Status.ABSENT: 0, Status.UNCERTAIN: 1, Status.PRESENT: 2}


@dataclass(frozen=True, slots=True)
class Mark:
    """Words of one text that say something of a finding, or the cue ("no", "possible") that decides what they say.

    ``kind``: shared | missed | invented | quiet (said of the past, denied by one text alone, or outvoted by another
    statement of the same text). ``colour``: 0 to COLOURS - 1 for what is shared. ``sign``: what stands behind the
    words: the letter of a shared finding with "?" where it is uncertain and "−" where it is denied, else the sign of
    its kind; "" for quiet and for cues.
    """

    span: Span
    kind: str
    sign: str
    colour: int | None
    title: str


@dataclass(frozen=True, slots=True)
class Note:
    """One finding for the list below the two texts. ``spans``: the words that say it in the text itself."""

    kind: str
    sign: str
    colour: int | None
    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Matched:
    """The marks of both texts in text order, and a note for each finding: shared, missed, invented."""

    reference: tuple[Mark, ...]
    candidate: tuple[Mark, ...]
    notes: tuple[Note, ...]


def match_findings(reference: str, candidate: str) -> Matched:
    """Hold the findings of ``candidate`` against those of ``reference``; both are read by our rules.

    A finding goes by its label among the 14 or, outside them, by its own name, and counts as its strongest statement
    of this examination: present over uncertain over absent, as in :func:`radiograd.text.labels.roll_up`. Present and
    uncertain agree with each other, absent with absent. Shared: both texts say the same; missed: the reference states
    it and the text does not; invented: the other way round. Findings that the same words say in both texts are one.
    """
    theirs, ours = _Side.read(reference), _Side.read(candidate)
    groups: dict[tuple[str, _Said, _Said], list[str]] = {}
    for name in dict.fromkeys([*theirs.said, *ours.said]):
        they, we = theirs.of(name), ours.of(name)
        kind = _kind(they.status, we.status)
        if kind != "quiet":
            groups.setdefault((kind, they, we), []).append(name)
    notes: list[Note] = []
    marked: dict[str, _Look] = {}
    for (kind, they, we), names in sorted(groups.items(), key=lambda one: _ORDER[one[0][0]]):
        look = _shared(len(notes)) if kind == "shared" else _Look(kind, MISSED if kind == "missed" else INVENTED, None)
        marked.update(dict.fromkeys(names, look))
        notes.append(Note(*look, _told(kind, ", ".join(names), they, we), we.spans))
    return Matched(tuple(theirs.marks(marked)), tuple(ours.marks(marked)), tuple(notes))


_ORDER = {"shared": 0, "missed": 1, "invented": 2}


class _Look(NamedTuple):
    """How a finding is marked."""

    kind: str
    sign: str
    colour: int | None


class _Said(NamedTuple):
    """What one text says of one finding, by the statements that decide it."""

    status: Status
    spans: tuple[Span, ...] = ()
    sides: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Side:
    """One text: its statements in text order and, for each finding of this examination, its strongest status."""

    statements: Sequence[tuple[Evidence, tuple[str, ...]]]
    said: Mapping[str, Status]

    @classmethod
    def read(cls, text: str) -> _Side:
        statements = [(one, _names(one)) for one in evidence_of(text)]
        said: dict[str, Status] = {}
        for one, names in statements:
            for name in names if one.current else ():
                if name not in said or _STRENGTH[one.status] > _STRENGTH[said[name]]:
                    said[name] = one.status
        return cls(statements, said)

    def of(self, name: str) -> _Said:
        if name not in self.said:
            return _Said(Status.UNMENTIONED)
        found = [one for one, names in self.statements if name in names and self._decides(one, name)]
        sides = frozenset(side for one in found for side in one.attributes.get("side", ()))
        return _Said(self.said[name], tuple(one.span for one in found), sides)

    def marks(self, looks: Mapping[str, _Look]) -> Iterator[Mark]:
        for one, names in self.statements:
            found = {looks[name] for name in names if name in looks and self._decides(one, name)}
            for look in sorted(found, key=lambda each: (_ORDER[each.kind], each.sign)):
                extra = SIGNS[one.status] if look.kind == "shared" and one.status is not Status.PRESENT else ""
                yield Mark(one.span, look.kind, look.sign + extra, look.colour, one.title)
                if one.cue is not None:
                    yield Mark(one.cue, look.kind, "", look.colour, f"cue of {', '.join(one.findings)}")
            if not found:
                yield Mark(one.span, "quiet", "", None, one.title)

    def _decides(self, one: Evidence, name: str) -> bool:
        return one.current and (one.status in POSITIVE) == (self.said[name] in POSITIVE)


def _shared(number: int) -> _Look:
    """The look of the shared finding of that number, from 0: A to Z, then A2, B2, ..."""
    letter = chr(ord("A") + number % 26) + (str(number // 26 + 1) if number >= 26 else "")
    return _Look("shared", letter, number % COLOURS)


def _kind(theirs: Status, ours: Status) -> str:
    if theirs in POSITIVE:
        return "shared" if ours in POSITIVE else "missed"
    if ours in POSITIVE:
        return "invented"
    return "shared" if theirs is ours is Status.ABSENT else "quiet"


def _told(kind: str, names: str, theirs: _Said, ours: _Said) -> str:
    they, we = SAID[theirs.status], SAID[ours.status]
    if kind == "missed":
        return f"{'denies' if ours.status is Status.ABSENT else 'misses'} {names} (reference: {they})"
    if kind == "invented":
        return f"says {names}{', as uncertain' if ours.status is Status.UNCERTAIN else ''} (reference: {they})"
    told = names if ours.status is theirs.status is Status.PRESENT else f"{names}: {we}"
    if ours.status is not theirs.status:
        told += f" (reference: {they})"
    if theirs.sides and ours.sides and theirs.sides != ours.sides and ours.status in POSITIVE:
        told += f"; {_listed(ours.sides)}, in the reference {_listed(theirs.sides)}"
    return told


def _listed(sides: frozenset[str]) -> str:
    return " and ".join(sorted(sides))


def _names(one: Evidence) -> tuple[str, ...]:
    """What the findings of a statement are called here: labels of the 14, or their own names."""
    labels = _labels()
    return tuple(dict.fromkeys(label for finding in one.findings for label in labels.get(finding, (finding,))))


@lru_cache(maxsize=1)
def _labels() -> Mapping[str, tuple[str, ...]]:
    """Finding -> the labels of the set that it makes."""
    found: dict[str, tuple[str, ...]] = {}
    for label, sources in label_set(SET).labels.items():
        for source in sources:
            found[source] = (*found.get(source, ()), label)
    return found
