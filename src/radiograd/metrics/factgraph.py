"""Factgraph F1: facts of the candidate against facts of the reference, by our own rules; never called RadGraph F1."""

from __future__ import annotations

from functools import lru_cache

from radiograd.metrics import MeanOverCases, mean_score
from radiograd.text.graph import Level, facts
from radiograd.text.lexicon import fingerprint
from radiograd.types import Case, Score

REMEMBERED = 4096
"""Texts whose facts are kept: a reference is read once, not with every candidate."""


class Factgraph(MeanOverCases):
    """F1 over the sets of facts at one level (``text.graph.items``); 0 when either side states none."""

    name: str
    level: Level

    def __init__(self) -> None:
        self.signature = f"{self.name}|{fingerprint()}|{self.level}|mean over reports"

    def one(self, case: Case) -> Score:
        """In [0, 1]."""
        theirs, ours = facts_of(case.reference or "", self.level), facts_of(case.candidate, self.level)
        both = len(theirs) + len(ours)
        return mean_score(2 * len(theirs & ours) / both if theirs and ours else 0.0)


class Simple(Factgraph):
    """Entities with their status."""

    name, level = "factgraph_simple", "simple"


class Partial(Factgraph):
    """Entities with their status and whether they have a relation."""

    name, level = "factgraph_partial", "partial"


class Complete(Factgraph):
    """One fact per relation: entity, status, relation, target."""

    name, level = "factgraph_complete", "complete"


@lru_cache(maxsize=REMEMBERED)
def facts_of(text: str, level: Level) -> frozenset[tuple[str | bool, ...]]:
    """What a text states, as :func:`radiograd.text.graph.facts` reads it."""
    return facts(text, level)
