"""What stands in ``pairs.jsonl``: pairs of impressions of which one is better. Pure.

Several programs meet through this file: sampling and judging, reader studies and edits write it, preference
optimisation reads it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

CHOSEN_SOURCES: Final = ("reference", "judge_winner", "expert", "edit")
REJECTED_SOURCES: Final = ("judge_loser", "both", "random", "expert", "edit")
_ESCAPED = re.compile("[\udc80-\udcff]")
_WORD = re.compile(r"[^\W_]+")
FIELDS: Final = (
    *("study_id", "chosen", "rejected", "weight", "chosen_source", "rejected_source", "round", "findings"),
    "provenance",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two impressions of one study: ``chosen`` is better than ``rejected``.

    ValueError, without report text, for a pair that cannot be trained on.
    """

    study_id: str
    chosen: str
    rejected: str
    weight: float = 1.0
    """How often the pair counts: 2 is the same as having it twice."""
    chosen_source: str = "reference"
    rejected_source: str = "judge_loser"
    round: int = 0
    """The round of preference optimisation it was made for."""
    findings: str | None = None
    """Only for a study that is not in data/train.jsonl: what the prompt is made from."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Who preferred it and how: judge, prompt hash, reader, ... Kept, not interpreted."""

    def __post_init__(self) -> None:
        if not self.study_id:
            raise ValueError("study_id is empty")
        if not self.chosen.strip() or not self.rejected.strip():
            raise ValueError(f"{'rejected' if self.chosen.strip() else 'chosen'} is empty")
        if self.chosen.split() == self.rejected.split():
            raise ValueError("chosen and rejected are the same text")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"weight {self.weight} is not a finite number above 0")
        if self.round < 0:
            raise ValueError(f"round {self.round} is below 0")
        if self.chosen_source not in CHOSEN_SOURCES:
            raise ValueError(f"chosen_source {self.chosen_source!r} is none of {', '.join(CHOSEN_SOURCES)}")
        if self.rejected_source not in REJECTED_SOURCES:
            raise ValueError(f"rejected_source {self.rejected_source!r} is none of {', '.join(REJECTED_SOURCES)}")
        if self.findings is not None and not self.findings.strip():
            raise ValueError("findings is empty; leave it out for a study of the run's own training data")

    def to_json(self) -> dict[str, Any]:
        """A plain dict for one line; :meth:`from_json` gives back an equal Pair."""
        row: dict[str, Any] = {name: getattr(self, name) for name in FIELDS if name not in ("findings", "provenance")}
        if self.findings is not None:
            row["findings"] = self.findings
        return {**row, "provenance": dict(self.provenance)}

    @classmethod
    def from_json(cls, row: Any) -> Pair:
        """The pair in one decoded line. ValueError names the field that is missing, unknown or of the wrong kind."""
        if not isinstance(row, Mapping):
            raise ValueError("not a JSON object")
        unknown = sorted(row.keys() - set(FIELDS))
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}; known: {', '.join(FIELDS)}")
        values = {name: _checked(name, row[name]) for name in FIELDS if name in row}
        missing = [name for name in ("study_id", "chosen", "rejected") if name not in values]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        return cls(**{name: value for name, value in values.items() if name != "findings" or value is not None})


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that is no pair: its number, from 1, and why not. Never its text."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of a file with the line of each, and the lines that are none."""

    pairs: tuple[Pair, ...]
    lines: tuple[int, ...]
    problems: tuple[Problem, ...]


def parse_pairs(lines: Iterable[str]) -> Pairs:
    """The pairs in the lines of a ``pairs.jsonl``. A bad line is a problem with its number, and the rest survive;
    blank lines are passed over. Open the file with ``errors="surrogateescape"``: a line that is not UTF-8 is then known
    from one that holds the replacement character, as a sampled text may."""
    pairs, numbers, problems = [], [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            pairs.append(Pair.from_json(_decoded(line)))
            numbers.append(number)
        except ValueError as error:
            problems.append(Problem(number, str(error)))
    return Pairs(tuple(pairs), tuple(numbers), tuple(problems))


def normalised(text: str) -> str:
    """Words in lower case with single blanks between: two texts with the same are the same for a reader."""
    return " ".join(_WORD.findall(text.lower()))


def fingerprint(pairs: Sequence[Pair]) -> str:
    """Twelve hex digits that change with anything in ``pairs`` that training sees, and with their order."""
    seen = [[p.study_id, p.chosen, p.rejected, p.weight, p.round, p.findings] for p in pairs]
    return hashlib.sha256(json.dumps(seen, ensure_ascii=False).encode()).hexdigest()[:12]


def _decoded(line: str) -> Any:
    if _ESCAPED.search(line):
        raise ValueError("not UTF-8")
    try:
        return json.loads(line)
    except ValueError:  # its message may quote the line
        raise ValueError("not JSON") from None


def _checked(name: str, value: Any) -> Any:
    """``value`` if it is of the kind that field ``name`` holds."""
    if name == "weight":
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"weight is of type {type(value).__name__}, not a number")
        return float(value)
    if name == "findings" and value is None:
        return None
    kind = {"round": int, "provenance": dict}.get(name, str)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} is of type {type(value).__name__}, not {kind.__name__}")
    return value
