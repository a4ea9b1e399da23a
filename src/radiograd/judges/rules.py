"""``rules``: a judge without a model. Deterministic, offline, free; what it reads is what our lexicons know.

It is no language model and never called one: its name and signature say ``rules``. Each side of a duel is scored
alone, so which one is shown first cannot matter.

Accuracy (weight 0.7), in [0, 1]:
    with a reference      0.75 agreement with the reference + 0.25 faithfulness to the findings
    without one           0.5 coverage of what the findings state as present + 0.5 faithfulness to them
  agreement: 0.7 weighted F1 of statements + 0.3 F1 of facts of the fact graph (complete level)
  faithfulness: 1 - contradictions of the findings over findings stated (``judges.conflicts``); 0 for an empty text
Relevance (0.2): of what the side states as present or uncertain, the share that findings or reference state too (of the
  same finding, or of one that makes the same CheXpert label), less 0.25 for changes claimed that neither speaks of.
Clarity (0.1): 1 for a text no longer than its reference (else the findings) and without repetition; falls to 0 at three
  times that length, and by the share of its sentences that were said before.

Statements weigh 1 where present or uncertain, 0.25 where absent ("no effusion" is said or not by habit), sides and
severities 0.5. "Nothing abnormal" is a statement of its own. The weights are ours, set by hand, and were looked at on
harmful edits of OpenI impressions (docs/judges.md); no human preference was fitted. Totals less than ``MARGIN`` apart
are a tie. Scores are given on the scale 1 to 5 that chat judges use: 1 + 4 x.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from radiograd.judges.conflicts import Conflict, conflicts, denies_everything, is_said_now
from radiograd.judges.protocol import CRITERIA, Duel, Preference, Question, Verdict, Winner
from radiograd.text.findings import Statement, read_in_place
from radiograd.text.graph import facts
from radiograd.text.labels import label_set
from radiograd.text.lexicon import fingerprint
from radiograd.text.sentences import sentence_spans
from radiograd.types import Status

VERSION: Final = "1"
"""Raised with every change of a weight or a rule: it stands in the signature."""
WEIGHTS: Final[Mapping[str, float]] = {"accuracy": 0.7, "relevance": 0.2, "clarity": 0.1}
MARGIN: Final = 0.01
"""Totals (0 to 1) nearer than this are a tie."""
_REMEMBERED = 8192
_SAID: Final = (Status.PRESENT, Status.UNCERTAIN)
_WORD = re.compile(r"[^\W_]+")
_NOTHING = ("nothing abnormal", "present")
_DEVICES = frozenset(label_set("chexpert14").labels["Support Devices"])


class _Reading(NamedTuple):
    """A text as the rules see it; ``pairs``: (finding, what is said of it) -> weight."""

    text: str
    words: int
    repeated: float
    blanket: bool
    statements: tuple[Statement, ...]
    pairs: Mapping[tuple[str, str], float]
    said: frozenset[str]
    changes: frozenset[str]


class Rules:
    """Judges by statements, fact graph and length. Needs no model; satisfies judges.protocol.Judge."""

    name = "rules"
    deterministic = True

    def __init__(self) -> None:
        self.signature = f"judge=rules|version={VERSION}|margin={MARGIN}|{fingerprint()}"

    def prefer(self, duels: Sequence[Duel]) -> list[Preference]:
        """The side with the higher total; a tie within ``MARGIN`` and for texts equal but for case and punctuation."""
        return [self._prefer(duel) for duel in duels]

    def consistent(self, questions: Sequence[Question]) -> list[Verdict]:
        """False where the impression contradicts its findings as ``judges.conflicts`` reads both, True otherwise.

        True means that no contradiction was found, not that the impression follows: what is not compared is listed
        there. Unscored without findings.
        """
        return [self._consistent(question) for question in questions]

    def critical(self, questions: Sequence[Question]) -> list[Verdict]:
        """Whether the report states any abnormal finding as present or uncertain, support devices apart.

        Uncertain counts: "possible pneumonia" describes something clinically significant. Unscored for an empty report.
        """
        return [self._critical(question) for question in questions]

    def _prefer(self, duel: Duel) -> Preference:
        if normalised(duel.a) == normalised(duel.b):
            return _answer("tie", {}, "the same but for case, spaces and punctuation")
        findings = _read(duel.findings)
        reference = None if duel.reference is None or not duel.reference.strip() else _read(duel.reference)
        sides = {name: _score(_read(text), findings, reference) for name, text in (("a", duel.a), ("b", duel.b))}
        total = {name: sum(WEIGHTS[c] * scores[c] for c in CRITERIA) for name, scores in sides.items()}
        gap = total["a"] - total["b"]
        winner: Winner = "tie" if abs(gap) < MARGIN else "a" if gap > 0 else "b"
        shown = {name: {c: round(1 + 4 * scores[c], 3) for c in CRITERIA} for name, scores in sides.items()}
        return _answer(winner, shown, f"total {total['a']:.3f} for a, {total['b']:.3f} for b")

    def _consistent(self, question: Question) -> Verdict:
        if question.findings is None or not question.findings.strip():
            return Verdict(None, why="no findings to hold the impression against")
        if not question.text.strip():
            return Verdict(None, why="the impression is empty")
        claim = _read(question.text)
        found = conflicts(claim.statements, claim.blanket, _read(question.findings).statements)
        return Verdict(not found, rationale=_told(found) or "no contradiction found")

    def _critical(self, question: Question) -> Verdict:
        if not question.text.strip():
            return Verdict(None, why="the report is empty")
        found = sorted(_read(question.text).said - _DEVICES)
        return Verdict(bool(found), rationale=", ".join(found) or "no abnormal finding read")


def normalised(text: str) -> str:
    """Words in lower case with single blanks between: what two texts must share to be the same."""
    return " ".join(_WORD.findall(text.lower()))


# ---- scores of one side ----------------------------------------------------------------------------------------------


def _score(side: _Reading, findings: _Reading, reference: _Reading | None) -> dict[str, float]:
    """Each criterion in [0, 1]; an empty text has 0 in all."""
    if not side.words:
        return dict.fromkeys(CRITERIA, 0.0)
    faithful = _faithful(side, findings)
    if reference is not None:
        accuracy = 0.75 * _agreement(side, reference) + 0.25 * faithful
    else:
        accuracy = 0.5 * _covered(side, findings) + 0.5 * faithful
    known = [findings] if reference is None else [findings, reference]
    length = (reference or findings).words
    return {"accuracy": accuracy, "relevance": _relevance(side, known), "clarity": _clarity(side, length)}


def _agreement(side: _Reading, reference: _Reading) -> float:
    ours, theirs = facts(side.text, "complete"), facts(reference.text, "complete")
    shared = 2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours or theirs else 1.0
    return 0.7 * _weighted_f1(side.pairs, reference.pairs) + 0.3 * shared


def _weighted_f1(ours: Mapping[tuple[str, str], float], theirs: Mapping[tuple[str, str], float]) -> float:
    both = sum(weight for pair, weight in ours.items() if pair in theirs)
    return 2 * both / (sum(ours.values()) + sum(theirs.values()))


def _covered(side: _Reading, findings: _Reading) -> float:
    wanted = findings.said - _DEVICES
    if not wanted:
        return float(not side.said - _DEVICES)
    labels = _labels(side.said)
    return sum(name in side.said or not labels.isdisjoint(_labels({name})) for name in wanted) / len(wanted)


def _faithful(side: _Reading, findings: _Reading) -> float:
    found = {conflict.finding for conflict in conflicts(side.statements, side.blanket, findings.statements)}
    stated = {s.finding for s in side.statements if is_said_now(s)}
    return 1 - min(1.0, len(found) / max(1, len(stated)))


def _relevance(side: _Reading, known: Sequence[_Reading]) -> float:
    there = frozenset().union(*(reading.said for reading in known))
    labels = _labels(there)
    supported = sum(name in there or not labels.isdisjoint(_labels({name})) for name in side.said)
    share = supported / len(side.said) if side.said else 1.0
    invented = bool(side.changes) and not any(reading.changes for reading in known)
    return max(0.0, share - 0.25 * invented)


def _clarity(side: _Reading, length: int) -> float:
    longer = max(0.0, side.words / max(length, 5) - 1) / 2
    return max(0.0, 1 - longer) * (1 - side.repeated)


# ---- reading ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=_REMEMBERED)
def _read(text: str) -> _Reading:
    statements = tuple(read_in_place(text))
    now = [s for s in statements if is_said_now(s)]
    said = frozenset(s.finding for s in now if s.status in _SAID)
    sentences = [normalised(text[a:b]) for a, b in sentence_spans(text)]
    counted = Counter(sentence for sentence in sentences if sentence)
    repeated = 1 - len(counted) / counted.total() if counted else 0.0
    return _Reading(
        text=text,
        words=len(_WORD.findall(text)),
        repeated=repeated,
        blanket=denies_everything(text),
        statements=statements,
        pairs=_pairs(now, said),
        said=said,
        changes=frozenset(value for s in now for value in s.attributes.get("change", ())),
    )


def _pairs(now: Sequence[Statement], said: frozenset[str]) -> dict[tuple[str, str], float]:
    pairs: dict[tuple[str, str], float] = {}
    for statement in now:
        name = statement.finding
        if statement.status in _SAID:
            pairs[name, statement.status.value] = 1.0
            for category in ("side", "severity", "size"):
                for value in statement.attributes.get(category, ()):
                    pairs[name, value] = 0.5
        elif name not in said:
            pairs[name, "absent"] = 0.25
    if not said - _DEVICES:
        pairs[_NOTHING] = 1.0
    return pairs


@lru_cache(maxsize=1)
def _label_of() -> dict[str, frozenset[str]]:
    of: dict[str, set[str]] = {}
    for label, sources in label_set("chexpert14").labels.items():
        for source in sources:
            of.setdefault(source, set()).add(label)
    return {source: frozenset(labels) for source, labels in of.items()}


def _labels(findings: frozenset[str] | set[str]) -> frozenset[str]:
    """CheXpert labels that the findings make; a finding that makes none stands for itself."""
    of = _label_of()
    return frozenset().union(*(of.get(name, frozenset({name})) for name in findings))


def _told(found: Sequence[Conflict]) -> str:
    return "; ".join(f"{conflict.kind}: {conflict.finding}" for conflict in found)


def _answer(winner: Winner, scores: Mapping[str, Mapping[str, float]], rationale: str) -> Preference:
    return Preference(winner, by_order=(winner, winner), scores=scores, rationale=rationale)
