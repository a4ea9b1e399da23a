"""Characters -> tokens: headers, the words our rules rest a label on, and values that tokens take from characters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from radiograd.text.findings import read
from radiograd.text.labels import LabelSet, label_set
from radiograd.text.sections import parse

Span = tuple[int, int]
LABELS = "chexpert14"
"""The labels that a completion is rewarded and read by."""
_HEADED = frozenset({"findings", "impression", "findings_and_impression"})


def header_spans(text: str) -> list[Span]:
    """Where the headers of findings and impression stand, each at the beginning of its section."""
    return [
        (section.header_start, section.header_end)
        for section in parse(text).sections
        if section.name in _HEADED and section.header_start < section.header_end
    ]


def evidence_spans(text: str) -> list[Span]:
    """Words that a label of this examination rests on by our rules: what is stated, and the cue that says how."""
    sources = _findings(LABELS)
    found: list[Span] = []
    for statement in read(text):
        if statement.context == "current" and statement.finding in sources:
            found.append((statement.start, statement.end))
            if statement.cue is not None:
                found.append(statement.cue)
    return found


@lru_cache(maxsize=2)
def _findings(name: str) -> frozenset[str]:
    labels: LabelSet = label_set(name)
    return frozenset(source for sources in labels.labels.values() for source in sources)


def inside(text: str, spans: Sequence[Span]) -> NDArray[np.bool_]:
    """(len(text),) whether a character lies in one of the spans; blanks lie in none."""
    marked = np.zeros(len(text), dtype=bool)
    for start, end in spans:
        marked[start:end] = True
    return marked & written(text)


def written(text: str) -> NDArray[np.bool_]:
    """(len(text),) whether a character is no blank."""
    return np.array([not character.isspace() for character in text], dtype=bool)


def largest(of_text: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """The largest value >= 0 among the characters of each token: (len(text),), (T, 2) -> (T,); 0 without any."""
    return np.array([of_text[start:end].max(initial=0.0) for start, end in offsets.tolist()], dtype=np.float64)


def touches(marked: NDArray[np.bool_], offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(T,) whether a token wrote a marked character."""
    return np.array([bool(marked[start:end].any()) for start, end in offsets.tolist()], dtype=bool)


def fixed_tokens(text: str, offsets: NDArray[np.int64], headers: Sequence[Span]) -> NDArray[np.bool_]:
    """(T,) tokens that always weigh 1: those that wrote nothing, and those that wrote of a header and nothing else."""
    header = inside(text, headers)
    fixed: NDArray[np.bool_] = (offsets[:, 0] == offsets[:, 1]) | (
        touches(header, offsets) & ~touches(written(text) & ~header, offsets)
    )
    return fixed
