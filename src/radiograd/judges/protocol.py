"""What every judge answers, whoever it is: a comparison of two impressions, a yes or no about one report. Pure.

A judge never raises for one question that it could not answer: the verdict is then unscored and says why. Errors are
for a judge that cannot work at all (no key, no endpoint, no model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from radiograd.types import Study

Winner = Literal["a", "b", "tie"]
CRITERIA: Final = ("accuracy", "relevance", "clarity")
"""What an impression is judged by (RGRO, section on preference construction)."""


@dataclass(frozen=True, slots=True)
class Duel:
    """Two candidate impressions of the same findings, or two reports. ``reference`` None keeps the radiologist's own
    from the judge."""

    study_id: str
    findings: str
    a: str
    b: str
    reference: str | None = None


def duel_of(study: Study, a: str, b: str, section: str, sees_reference: bool) -> Duel:
    """Two texts written for ``study``. Whole reports are held against the radiologist's findings too: these stand for
    what is to be seen. ``section`` names the reference that is shown if ``sees_reference``."""
    reference = study.sections.text(section) if sees_reference else None
    return Duel(study.study_id, study.sections.findings or "", a, b, reference)


@dataclass(frozen=True, slots=True)
class Question:
    """One report to be asked about; ``text`` is the impression (consistency) or the whole report (criticality)."""

    study_id: str
    text: str
    findings: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost. ``asked``: requests really sent (0 = from the cache). Tokens as the endpoint counts them."""

    asked: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.asked + other.asked,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of two is better. ``winner`` or, when it cannot be known, ``why`` not: exactly one of the two.

    ``by_order`` is the winner (in the duel's own a and b) when a was shown first and when b was: a judge that
    contradicts itself has answered a tie, and :attr:`contradicted` says so. ``scores``: per side and criterion, such as
    ``{"a": {"accuracy": 4.0}}``; empty when the judge gives none.
    """

    winner: Winner | None
    why: str | None = None
    by_order: tuple[Winner, ...] = ()
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rationale: str = ""
    prompt_hash: str = ""
    usage: Usage = Usage()

    def __post_init__(self) -> None:
        if (self.winner is None) == (self.why is None):
            raise ValueError("a Preference has exactly one of winner and why")

    @property
    def contradicted(self) -> bool:
        """Whether the two orders named different sides: the judge looked at the place and not at the text."""
        return set(self.by_order) == {"a", "b"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Yes (True) or no about one report or, when it cannot be known, ``why`` not: exactly one of the two."""

    value: bool | None
    why: str | None = None
    rationale: str = ""
    prompt_hash: str = ""
    usage: Usage = Usage()

    def __post_init__(self) -> None:
        if (self.value is None) == (self.why is None):
            raise ValueError("a Verdict has exactly one of value and why")


class Judge(Protocol):
    """Questions in, one answer each out, in order. ``signature`` names the judge, its model and its prompts' hashes."""

    signature: str

    def prefer(self, duels: Sequence[Duel]) -> list[Preference]:
        """Which impression of each duel is better; each is asked in both orders."""
        ...

    def consistent(self, questions: Sequence[Question]) -> list[Verdict]:
        """Whether each impression follows from its findings and contradicts none (RadFlow's R_consistent)."""
        ...

    def critical(self, questions: Sequence[Question]) -> list[Verdict]:
        """Whether each report describes any abnormal, pathological or clinically significant finding (CAPO)."""
        ...
