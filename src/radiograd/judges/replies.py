"""A judge's reply -> its answer: one JSON object, on its own, in a code fence or among prose. Pure.

Strict about values: what does not say exactly one thing is unread, with a reason that quotes nothing of the reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from radiograd.judges.protocol import CRITERIA

Place = Literal["1", "2", "tie"]
LONGEST: Final = 65_536
"""Characters of a reply that are looked at, from its end."""
_BRACES: Final = 256
"""Opening braces that are tried."""
_REASON: Final = 600
_THOUGHT: Final = re.compile(r"<(/?)(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_YES_NO: Final[Mapping[str, bool]] = {"yes": True, "true": True, "no": False, "false": False}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice:
    """The better place and, when given, scores by place and criterion."""

    better: Place
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class YesNo:
    """Yes (True) or no."""

    value: bool
    reason: str = ""


class Unread(Exception):
    """A reply that says nothing usable; the message is the reason, without any of its text."""


def read_choice(reply: str) -> Choice:
    """``{"better": "1"|"2"|"tie", "scores": {"1": {...}, "2": {...}}, "reason": ...}``; scores may be missing.

    "impression_1" is read as "1": it is what the prompt calls it.

    Raises Unread: no JSON object with "better", a value that is none of the three, scores that are not one number
    from 1 to 5 for each criterion of both sides, two objects that name different places.
    """
    return _agreed(reply, "better", _choice, lambda choice: choice.better)


def read_yes_no(reply: str, key: str) -> YesNo:
    """``{key: true|false, "reason": ...}``; "yes" and "no" are read too. Raises Unread as :func:`read_choice` does."""
    return _agreed(reply, key, lambda row: _yes_no(row, key), lambda answer: answer.value)


def _agreed(reply: str, key: str, read: Callable[[dict[str, Any]], T], gist: Callable[[T], object]) -> T:
    rows = [row for row in _objects(_after_thinking(reply[-LONGEST:])) if key in row]
    if not rows:
        raise Unread("the reply is empty" if not reply.strip() else f"the reply holds no JSON object with {key!r}")
    answers = [read(row) for row in rows]
    if len({gist(answer) for answer in answers}) > 1:
        raise Unread("the reply gives two different answers")
    return answers[-1]


def _after_thinking(reply: str) -> str:
    """What follows the last thought; nothing where it has no end. Some endpoints leave its opening tag out."""
    *_, last = [None, *_THOUGHT.finditer(reply)]
    if last is None:
        return reply
    if not last[1]:
        raise Unread("the reply ends in the middle of a thought")
    return reply[last.end() :]


def _objects(text: str) -> list[dict[str, Any]]:
    """Every JSON object of ``text`` that lies in no other one."""
    found: list[dict[str, Any]] = []
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    at = text.find("{")
    for _ in range(_BRACES):
        if at < 0:
            break
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found.append(value)
        at = text.find("{", end)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise Unread("the reply gives a key twice")
    return row


def _choice(row: dict[str, Any]) -> Choice:
    better = row["better"]
    said = str(better).strip().lower() if isinstance(better, str | int) and not isinstance(better, bool) else ""
    said = said.removeprefix("impression").strip(" _")
    place: Place | None = "1" if said == "1" else "2" if said == "2" else "tie" if said == "tie" else None
    if place is None:
        raise Unread('"better" is none of "1", "2" and "tie"')
    scores = row.get("scores")
    return Choice(place, {} if scores is None else _scores(scores), _reason(row))


def _scores(value: Any) -> dict[str, dict[str, float]]:
    if not isinstance(value, dict) or not {"1", "2"} <= value.keys():
        raise Unread('"scores" is not an object with "1" and "2"')
    return {place: {criterion: _score(value[place], criterion) for criterion in CRITERIA} for place in ("1", "2")}


def _score(side: Any, criterion: str) -> float:
    value = side.get(criterion) if isinstance(side, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 5:
        raise Unread(f"a score for {criterion} is no number from 1 to 5")
    return float(value)


def _yes_no(row: dict[str, Any], key: str) -> YesNo:
    value = row[key]
    if isinstance(value, str):
        value = _YES_NO.get(value.strip().lower())
    if not isinstance(value, bool):
        raise Unread(f"{key!r} is neither true nor false")
    return YesNo(value, _reason(row))


def _reason(row: dict[str, Any]) -> str:
    reason = row.get("reason")
    return " ".join(reason.split())[:_REASON] if isinstance(reason, str) else ""
