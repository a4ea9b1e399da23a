"""The plots of a selection, from its summary and lines: for files of the run folder and for its page alike. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from radiograd.charts import Series, histogram, line_chart, paired_bars


class Figure(NamedTuple):
    """``file``: what it is called in the run folder; ``note``: what its values are."""

    file: str
    title: str
    note: str
    svg: str


def choice_figures(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> list[Figure]:
    """Prevalence and coverage of a choice by completions, else the distribution of S; without those that have nothing
    to show. ``rows``: lines of selection.jsonl, looked at for S alone; ``summary``: selection_summary.json."""
    if "prevalence" not in summary:
        return _distribution(rows, summary["cut"])
    return [*_prevalence(summary), *_coverage(summary)]


def _distribution(rows: Sequence[Mapping[str, Any]], cut: float | None) -> list[Figure]:
    groups = {
        name: [row["score"] for row in rows if row["score"] is not None and row["selected"] is side]
        for name, side in (("chosen", True), ("not chosen", False))
    }
    if not any(groups.values()):
        return []
    title = "Combined score S"
    return [Figure("selection.svg", title, "studies; dashed: the cut", histogram(groups, title, "S", cut))]


def _prevalence(summary: Mapping[str, Any]) -> list[Figure]:
    pairs = {
        name: (of["natural"]["share"], of["chosen"]["share"] or 0.0)
        for name, of in summary["prevalence"].items()
        if of["natural"]["studies"]
    }
    if not pairs:
        return []
    title = "Prevalence of labels before and after"
    return [Figure("selection.svg", title, "% of studies", paired_bars(pairs, ("natural", "chosen"), title))]


def _coverage(summary: Mapping[str, Any]) -> list[Figure]:
    if not summary["coverage"]:
        return []
    title = "Coverage of labels and signatures"
    curves = [
        Series(name, [(row["studies"], row[name]) for row in summary["coverage"]]) for name in ("chosen", "random")
    ]
    svg = line_chart(curves, title, "F", "studies", zero_based=True)
    return [Figure("selection_coverage.svg", title, "F of the first k chosen, and of a draw", svg)]
