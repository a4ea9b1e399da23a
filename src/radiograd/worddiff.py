"""What one text has that a reference lacks, and the other way round, word by word. Pure; no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["same", "added", "missing"]

_EDGES = re.compile(r"^[^\w]+|[^\w]+$")


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of words of one kind, separated by single blanks.

    same: in both texts, shown as the candidate writes it. added: only in the candidate. missing: only in the reference.
    """

    kind: Kind
    text: str


def diff_words(reference: str, candidate: str) -> tuple[Piece, ...]:
    """The candidate with the words it adds to the reference, and the reference's words it leaves out, in reading order.

    Words are what stands between blanks; they are compared without case and without punctuation at their edges, along
    one longest common subsequence. A word that moved is therefore missing in one place and added in the other. Where
    both happen at one place, the missing words come first.
    """
    theirs, ours = reference.split(), candidate.split()
    pairs = [*_common([_key(w) for w in theirs], [_key(w) for w in ours]), (len(theirs), len(ours))]
    pieces: list[tuple[Kind, str]] = []
    i = j = 0
    for next_i, next_j in pairs:
        pieces += [("missing", word) for word in theirs[i:next_i]]
        pieces += [("added", word) for word in ours[j:next_j]]
        pieces += [("same", word) for word in ours[next_j : next_j + 1]]
        i, j = next_i + 1, next_j + 1
    return _joined(pieces)


def _key(word: str) -> str:
    return _EDGES.sub("", word).casefold() or word


def _common(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs of one longest common subsequence, by the usual table of suffix lengths; O(len(a) * len(b))."""
    length = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) - 1, -1, -1):
        for j in range(len(b) - 1, -1, -1):
            same = a[i] == b[j]
            length[i][j] = 1 + length[i + 1][j + 1] if same else max(length[i + 1][j], length[i][j + 1])
    pairs = []
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif length[i + 1][j] >= length[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _joined(words: Sequence[tuple[Kind, str]]) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    for kind, word in words:
        if pieces and pieces[-1].kind == kind:
            pieces[-1] = Piece(kind, f"{pieces[-1].text} {word}")
        else:
            pieces.append(Piece(kind, word))
    return tuple(pieces)
