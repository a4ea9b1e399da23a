"""Judges for tests: known answers, counted, and told to fail."""

from __future__ import annotations

from collections.abc import Sequence

from radiograd.judges.protocol import Duel, Preference, Question, Verdict


class Shorter:
    """Prefers the shorter text by characters; texts of one length tie. Asks no one and counts what it was asked."""

    def __init__(self, broken: int = 0) -> None:
        self.signature = "judge=shorter"
        self.broken = broken
        """Duels at the start that it cannot answer."""
        self.asked: list[Duel] = []

    def prefer(self, duels: Sequence[Duel]) -> list[Preference]:
        return [self._prefer(duel) for duel in duels]

    def _prefer(self, duel: Duel) -> Preference:
        self.asked.append(duel)
        if len(self.asked) <= self.broken:
            return Preference(None, why="the endpoint does not answer")
        if len(duel.a) == len(duel.b):
            return Preference("tie", by_order=("a", "b"), prompt_hash="0123456789ab")
        winner = "a" if len(duel.a) < len(duel.b) else "b"
        return Preference(winner, by_order=(winner, winner), rationale="shorter", prompt_hash="0123456789ab")  # type: ignore[arg-type]

    def consistent(self, questions: Sequence[Question]) -> list[Verdict]:
        raise AssertionError("not asked for pairs")

    critical = consistent
