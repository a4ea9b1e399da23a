"""What a report says of each finding: every statement with its evidence, status and attributes.

A sentence is read in four steps: known phrases (``clauses.read_items``), clauses (``clauses.cut``), which part of the
body each observation belongs to (``_parts``), and what is asserted of it (``assertion.assert_item``). The lexicon's
rules then say which finding an observation at a part makes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from radiograd.text.assertion import CURRENT, HISTORICAL, assert_item
from radiograd.text.clauses import Clauses, Item, cut, length_of, read_items
from radiograd.text.lexicon import ANATOMY, CUE, GRAMMAR, MODIFIER, OBSERVATION, Lexicon, Rule, load
from radiograd.text.measures import place, size_of
from radiograd.text.sections import parse
from radiograd.text.sentences import sentence_spans
from radiograd.text.words import split
from radiograd.types import Status

SKIPPED_SECTIONS = frozenset(
    {"indication", "comparison", "technique", "recommendation", "notification", "other", "summary"}
)
"""Sections that do not state what this examination shows."""
CACHED_SENTENCES = 16_384
"""Sentences whose reading is kept: about 2 KB each."""
_JOINTS = frozenset({"and", "or", "comma"})
_DIGIT = re.compile(r"\d")
_REACH = 3
"""Unknown words that may stand between an observation and the part it belongs to ("opacity in the very left base")."""


class Statement(NamedTuple):
    """One finding stated once. Positions are characters of the text read.

    ``status`` is what is said of it now; ``context`` other than "current" (historical, hypothetical, other person)
    means that it is not said of this examination. ``rule`` tells why: observation, part and cue.
    """

    finding: str
    status: Status
    context: str
    start: int
    end: int
    rule: str
    sentence: tuple[int, int]
    cue: tuple[int, int] | None = None
    cue_name: str = ""
    attributes: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    section: str | None = None

    def moved(self, by: int, section: str | None) -> Statement:
        """The same statement read ``by`` characters further on."""
        a, b = self.sentence
        return Statement(
            self.finding,
            self.status,
            self.context,
            self.start + by,
            self.end + by,
            self.rule,
            (a + by, b + by),
            None if self.cue is None else (self.cue[0] + by, self.cue[1] + by),
            self.cue_name,
            self.attributes,
            section,
        )


class Seen(NamedTuple):
    """One observation of a sentence with what belongs to it: items by number, attributes, what is asserted."""

    item: int
    parts: tuple[int, ...]
    qualities: tuple[int, ...]
    modifiers: tuple[int, ...]
    status: Status
    context: str
    cue: int | None


class Sentence(NamedTuple):
    """A sentence read: its words' positions, its items and clauses, and the observations among them."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    items: tuple[Item, ...]
    clauses: tuple[int, ...]
    seen: tuple[Seen, ...]
    statements: tuple[Statement, ...]


def read(text: str, lexicon_folder: Path | None = None) -> list[Statement]:
    """Every statement of a finding in a report or a part of one, in text order.

    Headers are recognised; indication, comparison, technique and the like are passed over.
    """
    return [
        statement.moved(start, section)
        for section, start, sentence in read_sentences(text, lexicon_folder)
        for statement in sentence.statements
    ]


def read_sentences(text: str, lexicon_folder: Path | None = None) -> Iterator[tuple[str | None, int, Sentence]]:
    """The sentences that :func:`read` reads, in text order: section, where it starts in ``text``, and what it says."""
    for section, start, end in _read_sections(text):
        for a, b in sentence_spans(text, start, end):
            yield section, a, read_sentence(text[a:b], lexicon_folder)


def read_in_place(text: str, lexicon_folder: Path | None = None) -> Iterator[Statement]:
    """The statements of :func:`read`, but with positions in their own sentence: enough for labels, and quicker."""
    for _, _, sentence in read_sentences(text, lexicon_folder):
        yield from sentence.statements


def _read_sections(text: str) -> Iterable[tuple[str | None, int, int]]:
    parsed = parse(text)
    return [
        (section.name, section.start, section.end)
        for section in parsed.sections
        if section.name not in SKIPPED_SECTIONS
    ]


@lru_cache(maxsize=CACHED_SENTENCES)
def read_sentence(sentence: str, lexicon_folder: Path | None = None) -> Sentence:
    """Read one sentence. The last ones are kept: reports repeat themselves."""
    lexicon = load(lexicon_folder)
    words = split(sentence)
    items = read_items(words.words, lexicon)
    measured = _DIGIT.search(sentence) is not None
    if measured:
        items = place(items, words.words, lexicon.observations)
    clauses = cut(items, length_of(words.words))
    seen: list[Seen] = []
    statements: list[Statement] = []
    for k, item in enumerate(items):
        if item.term.kind != OBSERVATION:
            continue
        found = _see(clauses, k)
        if found is None:
            continue
        seen.append(found)
        rules = lexicon.rules.get(item.term.name)
        if rules:
            hits = _matching(rules, found, items, lexicon)
            if hits:
                attributes = _attributes(found, items, words.words if measured else ())
                for rule, why in hits:
                    statement = _statement(rule, why, found, items, words.starts, words.ends, attributes, len(sentence))
                    if statement is not None:
                        statements.append(statement)
    return Sentence(
        tuple(words.starts), tuple(words.ends), tuple(items), tuple(clauses.of), tuple(seen), tuple(statements)
    )


# ---- which part, which qualities -------------------------------------------------------------------------------------


def _see(clauses: Clauses, k: int) -> Seen | None:
    """The observation at item ``k`` with what belongs to it; None for an adjective that only describes a noun."""
    items, of, _ = clauses
    modifiers: list[int] = []
    qualities: list[int] = []
    if items[k].term.adjective:
        parts = _parts_right(items, of, k, modifiers, qualities)
        if parts is None:
            return None
        _describing_left(items, of, k, modifiers)
        qualities.extend(_described(items, of, k))
        if not parts:
            parts = _subject(items, of, k) or _subject_before_stop(items, of, k)
    else:
        parts = _parts_left(items, of, k, modifiers, qualities)
        parts = [*parts, *_parts_after(items, of, k, modifiers, qualities)]
        if not parts:
            parts = _subject_with_verb(items, of, min(k, *qualities) if qualities else k)
    if not parts:
        parts = _heading(items, of, k)
    modifiers.extend(_beside(items, parts))
    status, context, cue = assert_item(clauses, k)
    if status is Status.PRESENT and items[k].term.says == "abnormal" and _called_normal(items, of, k):
        status = Status.ABSENT
    return Seen(k, tuple(parts), tuple(qualities), tuple(modifiers), status, context, cue)


def _called_normal(items: list[Item], of: list[int], k: int) -> bool:
    """Whether the predicate of the noun at ``k`` is that it is normal: "vascular engorgement is within limits"."""
    if items[k].term.adjective:
        return False
    verb = False
    for j in range(k + 1, len(items)):
        term = items[j].term
        if of[j] != of[k] or term.kind in (ANATOMY, CUE):
            return False
        if term.kind == OBSERVATION:
            return verb and term.adjective and term.says == "normal"
        if term.kind == GRAMMAR:
            if term.name != "be":
                return False  # "opacities are seen in the well aerated lung"
            verb = True
    return False


def _parts_right(
    items: list[Item], of: list[int], k: int, modifiers: list[int], qualities: list[int]
) -> list[int] | None:
    """Parts that an adjective stands before ("enlarged heart"); None when it stands before an observation instead."""
    parts: list[int] = []
    at = items[k].end
    j = k + 1
    n = len(items)
    while j < n and of[j] == of[k] and items[j].start - at <= (1 if not parts else 2):
        kind, name = items[j].term.kind, items[j].term.name
        if kind == ANATOMY:
            parts.append(j)
        elif kind == MODIFIER:
            if parts:
                break
            modifiers.append(j)
        elif kind == OBSERVATION:
            if not parts and not items[j].term.adjective and not _is_and_between(items, k, j):
                return None
            if parts and not items[j].term.adjective and items[j].start == items[j - 1].end:
                return None  # "prominent hilar lymphadenopathy"
            if parts or not items[j].term.adjective:
                break
        elif kind == GRAMMAR and name in _JOINTS:
            if not parts and not (j + 1 < n and items[j + 1].term.kind == OBSERVATION):
                break
            if parts and not (j + 1 < n and items[j + 1].term.kind in (ANATOMY, MODIFIER)):
                break
        elif kind == GRAMMAR and name == "in" and not parts:
            pass
        else:
            break
        at = items[j].end
        j += 1
    return parts


def _is_and_between(items: list[Item], k: int, j: int) -> bool:
    return any(items[m].term.kind == GRAMMAR for m in range(k + 1, j))


def _describing_left(items: list[Item], of: list[int], k: int, modifiers: list[int]) -> None:
    j = k - 1
    while j >= 0 and of[j] == of[k] and items[j].term.kind == MODIFIER:
        modifiers.append(j)
        j -= 1


def _beside(items: list[Item], parts: Sequence[int]) -> list[int]:
    """Side and place said right before a part: the "left" of "the left ICA is occluded" and of "Left ICA: plaque"."""
    found: list[int] = []
    for part in parts:
        j = part - 1
        while j >= 0 and items[j].term.kind == MODIFIER and items[j + 1].start - items[j].end <= 1:
            if items[j].term.name in ("side", "location"):
                found.append(j)
            j -= 1
    return found


def _described(items: list[Item], of: list[int], k: int) -> list[int]:
    """The noun that a listed or predicate adjective describes: "soft and hard plaques", "the plaque is hypoechoic"."""
    j = k + 1
    while j < len(items) and items[j].start - items[j - 1].end <= 1:
        kind, term = items[j].term.kind, items[j].term
        if kind == OBSERVATION and not term.adjective:
            return [j]
        if kind not in (OBSERVATION, MODIFIER) and term.name not in _JOINTS:
            break
        j += 1
    j = k - 1
    while j >= 0 and of[j] == of[k]:
        if items[j].term.kind == OBSERVATION and not items[j].term.adjective:
            return [j]
        j -= 1
    return []


def _subject(items: list[Item], of: list[int], k: int) -> list[int]:
    """The parts a predicate is said of: those before it in its clause ("heart size and hila are normal")."""
    parts: list[int] = []
    j = k - 1
    while j >= 0 and of[j] == of[k]:
        kind, name = items[j].term.kind, items[j].term.name
        if kind == ANATOMY:
            parts.append(j)
        elif kind == OBSERVATION and (parts or not items[j].term.adjective):
            break  # "heart size is normal lungs are clear"
        elif parts and kind == CUE and name == "absent before":
            break
        j -= 1
    return parts[::-1]


def _subject_before_stop(items: list[Item], of: list[int], k: int) -> list[int]:
    """The parts that the clause before is about, when this one only adds an adjective: "hyperinflated but clear"."""
    j = k - 1
    while j >= 0 and of[j] == of[k] and (items[j].term.kind == MODIFIER or items[j].term.name == "be"):
        j -= 1
    if j < 1 or items[j].term.name != "stop" or (k + 1 < len(items) and of[k + 1] == of[k]):
        return []
    p = j - 2 if items[j - 1].term.name == "comma" and j > 1 else j - 1
    if of[p] != of[j] - 1 or p < 1:
        return []
    if items[p].term.kind == ANATOMY and of[p - 1] == of[p] and items[p - 1].term.adjective:
        return [p]  # "hyperinflated lungs, otherwise clear"
    return _subject(items, of, p) if items[p].term.adjective else []


def _parts_left(items: list[Item], of: list[int], k: int, modifiers: list[int], qualities: list[int]) -> list[int]:
    """Parts, modifiers and adjectives that stand before a noun in its own phrase ("left basilar opacity")."""
    parts: list[int] = []
    at = items[k].start
    j = k - 1
    listed = False
    while j >= 0 and of[j] == of[k] and at - items[j].end <= 2:
        kind, name = items[j].term.kind, items[j].term.name
        if kind == ANATOMY:
            parts.append(j)
        elif kind == MODIFIER:
            modifiers.append(j)
        elif kind == OBSERVATION and items[j].term.adjective and items[j].term.says == "abnormal":
            qualities.append(j)
        elif (
            kind == GRAMMAR
            and name in _JOINTS
            and not listed
            and (parts or (modifiers and j > 0 and items[j - 1].term.kind == MODIFIER))
        ):
            if j == 0 or items[j - 1].term.kind not in (ANATOMY, MODIFIER):
                break
            listed = True
        else:
            break
        at = items[j].start
        j -= 1
    return parts[::-1]


def _parts_after(items: list[Item], of: list[int], k: int, modifiers: list[int], qualities: list[int]) -> list[int]:
    """Parts named behind a noun ("opacity in the left lung base", "blunting of the costophrenic angles")."""
    parts: list[int] = []
    at = items[k].end
    j = k + 1
    n = len(items)
    joined = False
    while j < n and of[j] == of[k] and items[j].start - at <= _REACH:
        kind, name = items[j].term.kind, items[j].term.name
        if kind == ANATOMY:
            if joined and not parts:
                break
            parts.append(j)
        elif kind == MODIFIER:
            if not (joined and not parts):
                modifiers.append(j)
        elif kind == OBSERVATION:
            while modifiers and joined and j - 1 == modifiers[-1]:
                modifiers.pop()
            while parts and joined and j - 1 == parts[-1]:  # "opacity in the base and pleural effusion"
                parts.pop()
            break
        elif kind == GRAMMAR:
            if name in _JOINTS:
                if not (parts and j + 1 < n and items[j + 1].term.kind in (ANATOMY, MODIFIER)):
                    break
                joined = True
            elif name not in ("in", "seen", "be"):
                break
        else:
            break
        at = items[j].end
        j += 1
    return parts


def _subject_with_verb(items: list[Item], of: list[int], k: int) -> list[int]:
    verb = False
    parts: list[int] = []
    j = k - 1
    while j >= 0 and of[j] == of[k]:
        kind, name = items[j].term.kind, items[j].term.name
        if kind == GRAMMAR and name in ("be", "have"):
            verb = True
        elif kind == ANATOMY and verb:
            parts.append(j)
        elif kind == OBSERVATION and (parts or items[j].term.adjective):
            return []  # "the lungs are clear without effusion"
        j -= 1
    return parts[::-1]


def _heading(items: list[Item], of: list[int], k: int) -> list[int]:
    """Parts of a heading before a colon: "Heart: mildly enlarged"; the nearest one, else the sentence's first."""
    stop = k
    while stop >= 0 and of[stop] == of[k]:
        stop -= 1
    if stop > 0 and items[stop].term.name == "stop" and items[stop].end - items[stop].start == 1:
        before = [j for j in range(stop) if of[j] == of[stop] - 1]
        if before and all(items[j].term.kind in (ANATOMY, MODIFIER, GRAMMAR) for j in before):
            return [j for j in before if items[j].term.kind == ANATOMY]
    first = 0
    while first < len(items) and items[first].term.kind in (ANATOMY, MODIFIER, GRAMMAR) and of[first] == of[0]:
        first += 1
    is_heading = 0 < first < k and items[first].term.kind == CUE and items[first].term.name == "stop"
    if not is_heading or items[first].end - items[first].start != 1:
        return []
    return [j for j in range(first) if items[j].term.kind == ANATOMY]


# ---- rules and what they say -----------------------------------------------------------------------------------------


def _matching(rules: tuple[Rule, ...], found: Seen, items: list[Item], lexicon: Lexicon) -> list[tuple[Rule, str]]:
    """The rules that fit, one a finding, each with what fitted: "effusion at pleura"."""
    hits: dict[str, tuple[Rule, str]] = {}
    for rule in rules:
        if rule.modifier is not None and not _has(rule.modifier, found, items):
            continue
        if rule.lacks is not None and _has(rule.lacks, found, items):
            continue
        why = rule.head
        if rule.parts is not None:
            if found.parts:
                part = _part_that_fits(rule.parts, found, items, lexicon)
                if part is None:
                    continue
                why = f"{rule.head} at {part}"
            elif "none" not in rule.parts:
                continue
        hits.setdefault(rule.finding, (rule, why))
    return list(hits.values())


def _part_that_fits(parts: frozenset[str], found: Seen, items: list[Item], lexicon: Lexicon) -> str | None:
    for p in found.parts:
        name = items[p].term.name
        if not parts.isdisjoint(lexicon.within[name]):
            return name
    return None


def _has(modifier: str, found: Seen, items: list[Item]) -> bool:
    for j in (*found.qualities, *found.modifiers):
        term = items[j].term
        if modifier in (term.name, term.value) or (term.modifies is not None and modifier == term.modifies[1]):
            return True
    return False


def _statement(
    rule: Rule,
    why: str,
    found: Seen,
    items: list[Item],
    starts: list[int],
    ends: list[int],
    attributes: Mapping[str, tuple[str, ...]],
    length: int,
) -> Statement | None:
    status, context = found.status, found.context
    if rule.opposite:
        if status is Status.ABSENT:
            return None
        status = Status.ABSENT if status is Status.PRESENT else status
    item = items[found.item]
    if item.term.says == "neutral" and context == HISTORICAL:
        context = CURRENT  # a past operation is what the film shows
    involved = [item, *(items[p] for p in found.parts if _is_near(items, p, found.item))]
    first, last = min(i.start for i in involved), max(i.end for i in involved)
    cue, cue_name = None, ""
    if found.cue is not None:
        cue_item = items[found.cue]
        cue = (starts[cue_item.start], ends[cue_item.end - 1])
        cue_name = cue_item.term.name
    return Statement(
        finding=rule.finding,
        status=status,
        context=context,
        start=starts[first],
        end=ends[last - 1],
        rule=f"{why}; {cue_name}" if cue_name else why,
        sentence=(0, length),
        cue=cue,
        cue_name=cue_name,
        attributes=attributes,
    )


def _is_near(items: list[Item], part: int, item: int) -> bool:
    """Whether evidence may run from the observation to the part without swallowing another observation."""
    a, b = sorted((part, item))
    return b - a <= 6 and all(items[j].term.kind != OBSERVATION for j in range(a + 1, b))


def _attributes(found: Seen, items: list[Item], words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Side, severity, size and the like, as far as the sentence states them; ``words`` is empty without a number."""
    values: dict[str, list[str]] = {}
    for j in sorted({found.item, *found.modifiers, *found.qualities}):
        term = items[j].term
        if term.kind == MODIFIER:
            if term.name != "degree":  # "not significantly enlarged", "grossly clear"
                values.setdefault(term.name, []).append(term.value)
        elif term.modifies is not None:
            values.setdefault(term.modifies[0], []).append(term.modifies[1])
    for j in found.parts:
        term = items[j].term
        values.setdefault("part", []).append(term.name)
        if term.value:
            values.setdefault("side", []).append(term.value)
    if words and "size" not in values and (size := size_of(words, items, found.item)):
        values["size"] = [size]
    if items[found.item].term.says == "neutral":
        values.pop("size", None)  # "the tube ends 4 cm above the carina" is a distance
    return {name: tuple(dict.fromkeys(said)) for name, said in values.items()}
