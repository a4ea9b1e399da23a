"""A judge for tests: known answers on criticality, counted, and told to fail or to be killed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from radiograd.judges.protocol import Duel, Preference, Question, Verdict


class SaysLeft:
    """Calls a report critical when it holds the word "left"; leaves those unanswered that hold ``puzzled_by``."""

    asked: ClassVar[list[str]] = []
    """Ids of all reports that any of them was asked about."""
    killed_after: ClassVar[int | None] = None

    def __init__(self, puzzled_by: str = "\0") -> None:
        self.signature = "judge=says left"
        self.puzzled_by = puzzled_by

    def critical(self, questions: Sequence[Question]) -> list[Verdict]:
        if SaysLeft.killed_after is not None and len(SaysLeft.asked) >= SaysLeft.killed_after:
            raise KeyboardInterrupt
        SaysLeft.asked += [question.study_id for question in questions]
        return [self._critical(question.text) for question in questions]

    def _critical(self, text: str) -> Verdict:
        if self.puzzled_by in text:
            return Verdict(None, why="the reply cannot be read")
        return Verdict("left" in text.lower(), rationale="a word", prompt_hash="0123456789ab")

    def prefer(self, duels: Sequence[Duel]) -> list[Preference]:
        raise AssertionError("not asked about criticality")

    def consistent(self, questions: Sequence[Question]) -> list[Verdict]:
        raise AssertionError("not asked about criticality")
