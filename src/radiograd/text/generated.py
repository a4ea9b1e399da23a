"""A report that a model wrote, cut into findings and impression: once, for every metric and reward that asks."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from radiograd.text.sections import as_sections
from radiograd.types import REPORT, Case

REMEMBERED = 8192
"""Reports whose cut is kept."""


class Cut(NamedTuple):
    """What stands under each header: None = there is no such header, "" = nothing stands under it.

    ``ambiguous``: the text can be cut in more than one way (no header at all, a header twice, findings and impression
    under one header); what is given is then one reading of several.
    """

    findings: str | None
    impression: str | None
    ambiguous: bool

    @property
    def whole(self) -> bool:
        """Whether both sections hold text and it can be cut in one way only."""
        return bool(self.findings) and bool(self.impression) and not self.ambiguous


@lru_cache(maxsize=REMEMBERED)
def cut(text: str) -> Cut:
    """Findings and impression of ``text`` by its headers, as :mod:`radiograd.text.sections` reads any report."""
    sections = as_sections(text)
    return Cut(sections.findings, sections.impression, sections.ambiguous)


def sides(case: Case) -> tuple[str, str]:
    """Findings and impression that are to agree: a report's own two sections, or the given findings and the impression
    that was written for them. "" where there is none."""
    if case.section == REPORT:
        mine = cut(case.candidate)
        return mine.findings or "", mine.impression or ""
    return case.study.sections.findings or "", case.candidate
