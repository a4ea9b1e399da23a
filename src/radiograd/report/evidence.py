"""What a text says of findings, word by word and label by label, for the cases of the page.

Marks and colours are those of the page of ``radiograd label --html`` (``templates/evidence.css``); the word diff keeps
to weight and strike, so that both can stand on the same words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from radiograd.text.explain import CONTEXTS, SIGNS, Evidence, read_evidence, segments
from radiograd.text.labels import row
from radiograd.types import Labels, Status
from radiograd.worddiff import Kind, diff_words

NO_FINDING = "No Finding"
LONG, FIRST, LAST = 9, 4, 3
"""Words: a missing run longer than LONG is shown by its first and last."""
_WORD = re.compile(r"\S+")
POSITIVE = (Status.PRESENT, Status.UNCERTAIN)
SAID = {
    Status.PRESENT: "present",
    Status.UNCERTAIN: "uncertain",
    Status.ABSENT: "absent",
    Status.UNMENTIONED: "not mentioned",
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Characters shown in one way. ``kind``: class names, "" for plain text; ``signs``: (kind, sign) of the evidence
    that ends here."""

    text: str
    kind: str = ""
    title: str = ""
    signs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A run of words of one kind of :func:`radiograd.worddiff.diff_words`, cut where evidence starts or ends."""

    kind: Kind
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """One label on which a text and its reference differ. ``tone``: missed | added | shifted | quiet."""

    tone: str
    text: str


def evidence_of(text: str) -> list[Evidence]:
    """Every statement of a finding of the fine ontology in ``text``, with its words."""
    return read_evidence(row({"id": "", "text": text}, name="all", evidence=True), len(text))


def marked(text: str) -> tuple[Stretch, ...]:
    """The whole text, cut where evidence starts or ends."""
    return _cut(text, evidence_of(text), 0, len(text))


def marked_diff(reference: str, candidate: str) -> tuple[Part, ...]:
    """The word diff against ``reference`` with the evidence of ``candidate`` in it.

    What is missing carries none, and long runs of it are shortened: the reference stands beside it in full.
    """
    places = [match.span() for match in _WORD.finditer(candidate)]
    evidence = evidence_of(candidate)
    parts = []
    first = 0
    for piece in diff_words(reference, candidate):
        if piece.kind == "missing":
            parts.append(Part(piece.kind, (Stretch(elided(piece.text)),)))
            continue
        last = first + len(piece.text.split())
        parts.append(Part(piece.kind, _cut(candidate, evidence, places[first][0], places[last - 1][1])))
        first = last
    return tuple(parts)


def elided(text: str) -> str:
    """A long run of words (more than LONG) as its first and its last few."""
    words = text.split()
    return text if len(words) <= LONG else f"{' '.join(words[:FIRST])} … {' '.join(words[-LAST:])}"


def _cut(text: str, evidence: Sequence[Evidence], start: int, end: int) -> tuple[Stretch, ...]:
    """``text[start:end]`` in stretches; evidence that reaches beyond is drawn open at that edge."""
    inside = [one for one in evidence if one.span[0] < end and one.span[1] > start]
    clipped = [(max(one.span[0], start) - start, min(one.span[1], end) - start) for one in inside]
    return tuple(
        _stretch(text[start + a : start + b], start + a, start + b, [inside[i] for i in here])
        for a, b, here in segments(end - start, clipped)
    )


def _stretch(text: str, start: int, end: int, here: Sequence[Evidence]) -> Stretch:
    if not here:
        return Stretch(text)
    strongest = max(here, key=lambda one: (one.strength, -one.number))
    kinds = ["e", strongest.kind]
    kinds += ["opens"] if strongest.span[0] == start else []
    kinds += ["closes"] if strongest.span[1] == end else []
    kinds += ["several"] if len({one.kind for one in here}) > 1 else []
    ending = dict.fromkeys((one.kind, _sign(one)) for one in here if one.span[1] == end)
    return Stretch(text, " ".join(kinds), "\n".join(one.title for one in here), tuple(ending))


def _sign(one: Evidence) -> str:
    return SIGNS[one.status] if one.current else CONTEXTS.get(one.context, one.context)


def label_remarks(reference: Labels, candidate: Labels) -> list[Remark]:
    """Where the labels of a text differ from its reference's: what it misses, adds, is surer or less sure of, and what
    only one of them denies. Positive: present or uncertain. The label "No Finding" follows from the others and is named
    only where no other positive differs."""
    missed, added, shifted = [], [], []
    denied: list[str] = []
    undenied: list[str] = []
    for label, theirs in reference.items():
        ours = candidate[label]
        if label == NO_FINDING or theirs is ours:
            continue
        if theirs in POSITIVE and ours in POSITIVE:
            shifted.append(Remark("shifted", f"{label}: {SAID[ours]} (reference: {SAID[theirs]})"))
        elif theirs in POSITIVE:
            verb = "denies" if ours is Status.ABSENT else "misses"
            missed.append(Remark("missed", f"{verb} {label} (reference: {SAID[theirs]})"))
        elif ours in POSITIVE:
            unsure = ", as uncertain" if ours is Status.UNCERTAIN else ""
            added.append(Remark("added", f"says {label}{unsure} (reference: {SAID[theirs]})"))
        else:
            (denied if ours is Status.ABSENT else undenied).append(label)
    remarks = [*missed, *added, *shifted]
    if not missed and not added and candidate.get(NO_FINDING) is not reference.get(NO_FINDING):
        whole = candidate.get(NO_FINDING) is Status.PRESENT
        remarks.append(
            Remark("missed", "reads as free of findings (reference: does not)")
            if whole
            else Remark("added", "does not read as free of findings (reference: does)")
        )
    if denied:
        remarks.append(Remark("quiet", f"also denies {', '.join(denied)} (reference: not mentioned)"))
    if undenied:
        remarks.append(Remark("quiet", f"silent on {', '.join(undenied)} (reference: absent)"))
    return remarks
