"""summary.json -> tables for people. The only place where numbers are rounded: values x 100, one decimal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Summary = Mapping[str, Any]
"""What :func:`radiograd.evaluate.summarise` returns."""

Grid = list[list[str]]
"""Header line first; every line equally long."""

UNKNOWN = "–"
STRATA_TITLES = {"all": "All", "normal": "Normal", "abnormal": "Abnormal"}


def summary_markdown(summary: Summary) -> str:
    """Every table of a summary as Markdown."""
    tables = [
        (f"{STRATA_TITLES.get(stratum, stratum)} studies ({summary['set']})", scores_grid(summary, stratum))
        for stratum in strata_of(summary)
    ]
    tables += [
        (f"Paired differences, {STRATA_TITLES.get(stratum, stratum).lower()} studies", grid)
        for stratum in strata_of(summary)
        if len(grid := paired_grid(summary, stratum)) > 1
    ]
    blocks = [f"### {title}, x 100 [95% interval]\n\n{markdown(grid)}" for title, grid in tables]
    blocks.append("### Signatures\n\n" + "".join(f"- `{line}`\n" for line in signatures(summary)))
    return "\n".join(blocks)


BRIEF = ("rougeL", "bleu2", "length_ratio", "reward")
"""Metrics of :func:`brief_text`, as far as the summary has them."""


def brief_text(summary: Summary) -> str:
    """What fits a terminal: main metrics on all and abnormal studies, and the differences that matter."""
    blocks = []
    for stratum in (name for name in strata_of(summary) if name != "normal"):
        title = f"{STRATA_TITLES.get(stratum, stratum)} studies ({summary['set']}), x 100 [95% interval]"
        blocks.append(f"{title}\n{text(scores_grid(summary, stratum, BRIEF))}")
        models = paired_grid(summary, stratum, BRIEF)
        header, *lines = models
        lines = [line for line in lines if line[:2] == ["aligned", "sft"] or line[2] == "rougeL"]
        if lines:
            blocks.append(f"Paired differences\n{text([header, *lines])}")
    return "\n".join(blocks)


CRITICALITY_SOURCES = {
    "judge": "judge",
    "labels": "labels",
    "urgent_list": "urgent list",
    "codes": "source's codes",
}
"""Who says which reports are critical -> how a table calls it."""


def annotation_text(summary: Summary) -> str:
    """criticality_summary.json for a terminal: what each source calls critical, and how far every two agree."""
    counts, agreement = criticality_grid(summary), agreement_grid(summary)
    title = f"Critical among {summary['studies']} studies; what counts: {CRITICALITY_SOURCES[summary['source']]}"
    return f"{title}\n{text(counts)}\nAgreement, x 100 [95% interval]\n{text(agreement)}"


def criticality_grid(summary: Summary) -> Grid:
    """Each source with the studies it calls critical and those it could not answer for."""
    grid = [["source", "critical", "share %", "answered", "unanswered"]]
    for name, found in summary["sources"].items():
        counts = [str(found["critical"]), hundredfold(found["share"]), str(found["answered"]), str(found["unanswered"])]
        grid.append([CRITICALITY_SOURCES[name], *counts])
    return grid


def agreement_grid(summary: Summary) -> Grid:
    """Every two sources: the 2 x 2 table, raw agreement and Cohen's kappa."""
    grid = [["a", "b", "n", "both", "a only", "b only", "neither", "agreement", "kappa"]]
    for row in summary["agreement"]:
        counts = [str(row[key]) for key in ("n", "both", "first", "second", "neither")]
        cells = [
            _with_interval(*(hundredfold(row[name][key]) for key in ("value", "low", "high")))
            for name in ("agreement", "kappa")
        ]
        grid.append([CRITICALITY_SOURCES[row["a"]], CRITICALITY_SOURCES[row["b"]], *counts, *cells])
    return grid


def selection_text(summary: Summary) -> str:
    """selection_summary.json for a terminal."""
    title = f"{summary['selected']} of {summary['studies']} studies chosen ({summary['by']})"
    unscored = f"; {summary['unscored']} unscored" if summary["unscored"] else ""
    found = f"{title}{cut_text(summary)}{unscored}, % of the chosen and of the others\n{text(chosen_grid(summary))}"
    if "prevalence" not in summary:
        return found
    lines = [f"{count} {reason}" for reason, count in summary["gates"].items()]
    lines += [said for said in (normal_text(summary), reached_text(summary)) if said]
    listed = "".join(f"- {line}\n" for line in lines)
    return f"{found}\nPrevalence of labels before and after, %\n{text(prevalence_grid(summary))}\n{listed}"


def cut_text(summary: Summary) -> str:
    """``, S up to 0.412``: where the cut of a choice by a score lies; nothing where there is none."""
    if summary["cut"] is None:
        return ""
    if summary["by"] == "reward_std":
        return f", standard deviation of the diagnostic F1 from {summary['cut']:.3f}"
    return f", S up to {summary['cut']:.3f}"


def prevalence_grid(summary: Summary) -> Grid:
    """Each label that some study has: its share among all that could be chosen, among the chosen, and their ratio."""
    grid = [["label", "natural", "chosen", "times", "n"]]
    for label, found in summary["prevalence"].items():
        natural, chosen = found["natural"], found["chosen"]
        if natural["studies"]:
            times = UNKNOWN if found["times"] is None else f"{found['times']:.1f}"
            counts = f"{chosen['studies']} of {natural['studies']}"
            grid.append([label, hundredfold(natural["share"]), hundredfold(chosen["share"]), times, counts])
    return grid


def normal_text(summary: Summary) -> str:
    """How many of the chosen are normal, and whether the quota could be kept."""
    found = summary["normal"]
    shares = (
        f"normal studies: {hundredfold(found['natural']['share'])} % before, {hundredfold(found['chosen']['share'])} %"
    )
    if found["quota"] is None:
        return f"{shares} after"
    low, high = (f"{100 * share:g}" for share in found["quota"])
    kept = f"{shares} after, quota {low} to {high} %"
    if found["filled_with"] is None:
        return kept
    few = "normal studies" if found["filled_with"] == "others" else "others"
    return f"{kept}, which could not be kept: too few {few} pass the gates, {found['filled_with']} took their places"


def reached_text(summary: Summary) -> str:
    """How many labels and signatures the chosen hold, beside a draw of as many."""
    labels, signatures = summary["reached"]["labels"], summary["reached"]["signatures"]
    missed = f"; missed: {', '.join(labels['missed'])}" if labels["missed"] else ""
    said = (
        f"{labels['chosen']} of {labels['natural']} labels and {signatures['chosen']} of {signatures['natural']} sets"
    )
    return f"reached: {said} of labels (a draw of as many: {labels['random']} and {signatures['random']}){missed}"


def chosen_grid(summary: Summary) -> Grid:
    """Share of the critical and of each label among the chosen studies and the others, and the mean of each metric.

    A label that no study has is left out.
    """
    critical = summary["critical"]
    grid = [["", "chosen", "not chosen"]]
    grid.append(["studies", *(str(critical[side]["studies"]) for side in ("inside", "outside"))])
    grid.append(["critical %", *(hundredfold(critical[side]["share"]) for side in ("inside", "outside"))])
    for label, found in summary["labels"].items():
        if any(found[side]["studies"] for side in ("inside", "outside")):
            grid.append([f"{label} %", *(hundredfold(found[side]["share"]) for side in ("inside", "outside"))])
    for name, found in summary["metrics"].items():
        grid.append([f"{name}, mean", *(hundredfold(found[side]) for side in ("inside", "outside"))])
    return grid


def scores_grid(summary: Summary, stratum: str = "all", only: Sequence[str] | None = None) -> Grid:
    """Rows x metrics with intervals, of all metrics or of ``only`` some. ``↓`` marks metrics that are better when low.

    ``n`` is the fewest cases scored over the metrics, ``unscored`` the most missed.

    KeyError for a stratum the summary does not have.
    """
    rows = rows_of(summary, stratum)
    found = dict.fromkeys(metric for entries in rows.values() for metric in entries)
    metrics = [metric for metric in found if only is None or metric in only]
    lower = {m for entries in rows.values() for m, entry in entries.items() if not entry["higher_is_better"]}
    grid = [["row", "n", "unscored", *(f"{metric} ↓" if metric in lower else metric for metric in metrics)]]
    for row, entries in rows.items():
        n = min(entry["n"] for entry in entries.values())
        unscored = max(entry["unscored"] for entry in entries.values())
        cells = [value_cell(entries[metric]) if metric in entries else UNKNOWN for metric in metrics]
        grid.append([row, str(n), str(unscored), *cells])
    return grid


def paired_grid(summary: Summary, stratum: str = "all", metrics: Sequence[str] | None = None) -> Grid:
    """Paired differences of one stratum, of all metrics or the named ones."""
    grid = [["a", "b", "metric", "a - b", "p", "n"]]
    for entry in summary["paired"]:
        if entry["stratum"] == stratum and (metrics is None or entry["metric"] in metrics):
            cells = [difference_cell(entry), p_value(entry["p"]), str(entry["n"])]
            grid.append([entry["a"], entry["b"], entry["metric"], *cells])
    return grid


def signatures(summary: Summary) -> list[str]:
    """How each metric was computed, in table order."""
    found = (entry["signature"] for entries in summary["rows"].values() for entry in entries.values())
    return list(dict.fromkeys(found))


def strata_of(summary: Summary) -> list[str]:
    """``all`` and those of normal and abnormal that the summary has; findings are left to the file and the page."""
    return ["all", *(name for name in summary["strata"] if not name.startswith("finding: "))]


def rows_of(summary: Summary, stratum: str) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """row -> metric -> entry of one stratum. KeyError for a stratum the summary does not have."""
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]]
    rows = summary["rows"] if stratum == "all" else summary["strata"][stratum]
    return rows


def value_cell(entry: Mapping[str, Any]) -> str:
    """``48.2 [45.9, 50.4]``; a dash for what is unknown."""
    return _with_interval(hundredfold(entry["mean"]), hundredfold(entry["low"]), hundredfold(entry["high"]))


def difference_cell(entry: Mapping[str, Any]) -> str:
    """``+1.2 [-0.3, +2.7]``; a dash for what is unknown."""
    return _with_interval(*(hundredfold(entry[key], sign=True) for key in ("difference", "low", "high")))


def hundredfold(value: float | None, *, sign: bool = False) -> str:
    """A value in [0, 1] as people write it: 0.4817 -> 48.2."""
    if value is None:
        return UNKNOWN
    shown = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    return "0.0" if float(shown) == 0 else shown


def p_value(p: float | None) -> str:
    """Three decimals; smaller ones as ``<0.001``."""
    if p is None:
        return UNKNOWN
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def text(grid: Grid) -> str:
    """Columns aligned with blanks: words to the left, the rest to the right; a line under the header."""
    widths = [max(len(line[k]) for line in grid) for k in range(len(grid[0]))]
    words = [not _is_numeric([line[k] for line in grid[1:]]) for k in range(len(grid[0]))]
    lines = [_padded(line, widths, words) for line in grid]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines) + "\n"


def markdown(grid: Grid) -> str:
    """A Markdown table, padded so that the source reads well too."""
    grid = [[cell.replace("|", "\\|") for cell in line] for line in grid]
    widths = [max(3, *(len(line[k]) for line in grid)) for k in range(len(grid[0]))]
    words = [not _is_numeric([line[k] for line in grid[1:]]) for k in range(len(grid[0]))]
    ruler = ["-" * w if left else "-" * (w - 1) + ":" for w, left in zip(widths, words, strict=True)]
    lines = [_cells(line, widths, words) for line in grid]
    lines.insert(1, ruler)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _with_interval(value: str, low: str, high: str) -> str:
    if value == UNKNOWN:
        return UNKNOWN
    return f"{value} [{low}, {high}]"


def _is_numeric(cells: Sequence[str]) -> bool:
    return all(cell == UNKNOWN or cell[:1] in "+-<0123456789" for cell in cells)


def _padded(line: Sequence[str], widths: Sequence[int], words: Sequence[bool]) -> str:
    return "  ".join(_cells(line, widths, words)).rstrip()


def _cells(line: Sequence[str], widths: Sequence[int], words: Sequence[bool]) -> list[str]:
    return [
        cell.ljust(width) if left else cell.rjust(width) for cell, width, left in zip(line, widths, words, strict=True)
    ]
