"""How much each word of a completion tells, by the training references: tf(w) times the capped idf of ``text/rarity``.

Three things keep what a policy may make up from being paid most. A word in fewer than three references weighs as the
median one, a word in none of them never more than the heaviest word of the completion that is in some, and a word that
denies weighs as what it denies, for "no" is common in every report and decides what the rest of it says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from radiograd.text import rarity
from radiograd.text.findings import read_sentences
from radiograd.text.rarity import Word
from radiograd.types import Status
from radiograd.weighting.layout import Span

_DENIES = ("absent", "removed")
"""How the names of the cues begin that say that something is not there (lexicon/assertion.yaml)."""


class WordValues:
    """Values of the words of a completion, by the references of the training studies."""

    def __init__(self, references: Sequence[str]) -> None:
        self._weights = rarity.weigh(references)
        self._seen = frozenset(word for text in references for word in rarity.words(text))

    def of(self, text: str, headers: Sequence[Span] = ()) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(len(text),) what each character's word weighs, 0 between words; and whether no reference has the word.

        Words in ``headers`` are no words of the report: they count for nothing and weigh 0.
        """
        words = [word for word in rarity.places(text) if not any(a < word.end and word.start < b for a, b in headers)]
        often = Counter(word for word, _, _ in words)
        values = [often[word] * self._weights.of(word) for word, _, _ in words]
        unseen = [word not in self._seen for word, _, _ in words]
        denials = [
            ([k for k, word in enumerate(words) if _overlaps(word, [cue])], denied) for cue, denied in _denials(text)
        ]
        cues = {k for places, _ in denials for k in places}
        own = [value for k, value in enumerate(values) if not unseen[k] and k not in cues]
        ceiling = max(own, default=0.0)
        values = [min(value, ceiling) if new else value for value, new in zip(values, unseen, strict=True)]
        for places, denied in denials:
            inherited = [
                value
                for k, (word, value) in enumerate(zip(words, values, strict=True))
                if k not in cues and _overlaps(word, denied)
            ]
            for k in places:
                values[k] = max(inherited, default=values[k])
        of_text = np.zeros(len(text))
        new_in_text = np.zeros(len(text), dtype=bool)
        for (_, start, end), value, new in zip(words, values, unseen, strict=True):
            of_text[start:end] = value
            new_in_text[start:end] = new
        return of_text, new_in_text


def _overlaps(word: Word, spans: Sequence[Span]) -> bool:
    return any(a < word.end and word.start < b for a, b in spans)


def _denials(text: str) -> Iterator[tuple[Span, list[Span]]]:
    """Each cue that denies, with what our rules say it denies: observations, their parts and what describes them."""
    for _, at, sentence in read_sentences(text):
        denied: dict[int, list[int]] = {}
        for seen in sentence.seen:
            cue = seen.cue
            if cue is None or seen.status is not Status.ABSENT:
                continue
            if sentence.items[cue].term.name.startswith(_DENIES):
                denied.setdefault(cue, []).extend((seen.item, *seen.parts, *seen.qualities, *seen.modifiers))
        for cue, items in denied.items():
            cue_span, *spans = (
                (at + sentence.starts[sentence.items[k].start], at + sentence.ends[sentence.items[k].end - 1])
                for k in (cue, *items)
            )
            yield cue_span, spans
