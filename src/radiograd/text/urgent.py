"""Which findings of a report cannot wait: the clinical meaning of "critical". Pure; the list is lexicon/urgent.yaml.

The list's categories follow the ACR Actionable Reporting Work Group (doi:10.1016/j.jacr.2013.12.016); which findings it
holds, and the attributes they need, are ours and stand in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from radiograd.errors import ConfigError, did_you_mean
from radiograd.text.assertion import CURRENT
from radiograd.text.findings import Statement, read
from radiograd.text.lexicon import MODIFIERS, fingerprint, load, ours
from radiograd.types import Status

FOLDER: Final = Path(__file__).parent / "lexicon" / "urgent"
"""Words that are known while urgent findings are looked for: malpositions, dissection. No label rests on them."""
_SAID: Final = (Status.PRESENT, Status.UNCERTAIN)


@dataclass(frozen=True, slots=True)
class Entry:
    """When a finding is urgent. ``needs``: attributes of which one value must be said; ``beside``: findings of which
    one must be stated in the same sentence; ``unless``: attributes with which it is known or getting better."""

    finding: str
    category: int
    status: frozenset[Status]
    needs: Mapping[str, frozenset[str]]
    unless: Mapping[str, frozenset[str]]
    beside: frozenset[str]


def urgent(text: str) -> tuple[str, ...]:
    """The urgent findings of a report, each once, in the order of the list; () when nothing is urgent.

    Statements of the past, of conditions and of other people do not count.
    """
    statements = [s for s in read(text, FOLDER) if s.context == CURRENT]
    stated: dict[tuple[int, int], set[str]] = {}
    for s in statements:
        if s.status in _SAID:
            stated.setdefault(s.sentence, set()).add(s.finding)
    entries = urgent_list()
    found = {s.finding for s in statements if s.finding in entries and _is_urgent(s, entries[s.finding], stated)}
    return tuple(name for name in entries if name in found)


def signature() -> str:
    """What read and what decided, with a hash of every file of it."""
    return f"urgent_list|{fingerprint(FOLDER)}"


@lru_cache(maxsize=1)
def urgent_list() -> Mapping[str, Entry]:
    """Finding -> when it is urgent. ConfigError names what is wrong in urgent.yaml."""
    data = ours("urgent")
    findings, categories = load(FOLDER).findings, data["categories"]
    entries = {}
    for name, given in data["findings"].items():
        for finding in (name, *given.get("beside", ())):
            if finding not in findings:
                raise ConfigError(
                    f"urgent.yaml: {name}: no finding is called {finding!r}.{did_you_mean(finding, findings)}"
                )
        if given.get("category") not in categories:
            raise ConfigError(f"urgent.yaml: {name}: category {given.get('category')!r} is not one of the file's")
        category = categories[given["category"]]
        entries[name] = Entry(
            finding=name,
            category=given["category"],
            status=frozenset(Status(status) for status in category["status"]),
            needs=_attributes(given.get("needs", {}), name),
            unless=_attributes({**category.get("unless", {}), **given.get("unless", {})}, name),
            beside=frozenset(given.get("beside", ())),
        )
    return entries


def _attributes(given: Mapping[str, Iterable[Any]], name: str) -> dict[str, frozenset[str]]:
    known = ours("modifiers")
    for category, values in given.items():
        if category not in MODIFIERS:
            raise ConfigError(f"urgent.yaml: {name}: no attribute {category!r}.{did_you_mean(category, MODIFIERS)}")
        for value in values:
            if value not in known[category]:
                raise ConfigError(
                    f"urgent.yaml: {name}: {category} is never {value!r}.{did_you_mean(str(value), known[category])}"
                )
    return {category: frozenset(map(str, values)) for category, values in given.items()}


def _is_urgent(s: Statement, entry: Entry, stated: Mapping[tuple[int, int], set[str]]) -> bool:
    return (
        s.status in entry.status
        and (not entry.needs or _has(s, entry.needs))
        and not _has(s, entry.unless)
        and (not entry.beside or not entry.beside.isdisjoint(stated.get(s.sentence, ())))
    )


def _has(s: Statement, wanted: Mapping[str, frozenset[str]]) -> bool:
    return any(not values.isdisjoint(s.attributes.get(category, ())) for category, values in wanted.items())
