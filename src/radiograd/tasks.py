"""What a policy is asked to write and what it is shown for it: the one place where tasks differ.

A task that shows more (films, their views, a prior report) adds to ``shown`` here what is text; what is not text goes
into the user turn that :mod:`radiograd.prompts` lays out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from radiograd.types import REPORT, Study

Given = tuple[tuple[str, str], ...]
"""(label, text) of what a prompt shows, in order. When it is too long, the end of the last goes first."""


@dataclass(frozen=True, slots=True)
class Task:
    """One kind of writing."""

    section: str
    """What is written, as :meth:`radiograd.types.Sections.text` calls it."""
    instruction: str
    """The instruction when the configuration gives none."""
    shown: tuple[tuple[str, Callable[[Study], str | None]], ...]
    """Label -> what a study has under it. Nothing else of a study reaches the policy."""
    nothing: str
    """Stands under the first label when a study has none of it."""
    asks: str
    """Ends the prompt of a model that knows no turns."""

    def given(self, study: Study) -> Given:
        """What the prompt of ``study`` shows: what there is, else the first label with ``nothing``. Never empty."""
        texts = ((label, (read(study) or "").strip()) for label, read in self.shown)
        return tuple((label, text) for label, text in texts if text) or ((self.shown[0][0], self.nothing),)

    def target(self, study: Study) -> str:
        """What the policy should answer; "" when the study has no such section."""
        return (study.sections.text(self.section) or "").strip()


TASKS: Final[Mapping[str, Task]] = {
    "findings_to_impression": Task(
        section="impression",
        instruction="You are a radiologist. Write the impression.",
        shown=(("Findings", lambda study: study.sections.findings),),
        nothing="",
        asks="Impression:",
    ),
    "report": Task(
        section=REPORT,
        instruction="You are a radiologist. Write the report: findings, then impression.",
        shown=(
            ("Indication", lambda study: study.indication),
            ("Comparison", lambda study: study.sections.comparison),
        ),
        nothing="not given",
        asks="Report:",
    ),
}
"""``task`` of a run -> what it is."""
