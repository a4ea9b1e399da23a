"""What each row scored: the order of rows and metrics, the tables of means with intervals, and their plots.

``evaluation`` is always the content of ``eval/test/summary.json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from radiograd.charts import Interval, interval_plot
from radiograd.report.wording import (
    GROUPS,
    METRIC_LABELS,
    ROW_LABELS,
    hundredths,
    interval,
    listed,
    metric_group,
    row_notes,
)
from radiograd.types import POLICIES

STRATA = ("all", "abnormal", "normal")


def row_order(
    rows: Iterable[str], baselines: Sequence[str], pool: int | None = None, section: str = "impression"
) -> list[dict[str, Any]]:
    """Models first (SFT, aligned, then others), then the baselines in the order of the configuration.

    ``pool``: how many studies the retrieval row searches, said in its note; ``section``: what the rows write.
    """
    known = [*POLICIES, *(r for r in rows if r not in POLICIES and r not in baselines), *baselines]
    present = set(rows)
    notes = row_notes(section)
    if pool is not None:
        notes = {**notes, "retrieval": f"{notes['retrieval'].removesuffix('.')}, of {pool:,} studies."}
    return [
        {"name": r, "label": ROW_LABELS.get(r, r), "note": notes.get(r, ""), "model": r not in baselines}
        for r in known
        if r in present
    ]


def pool(evaluation: Mapping[str, Any]) -> int | None:
    """How many train studies the baselines were built from; None when whoever made the summary did not say."""
    found: int | None = evaluation["counts"]["pool"]
    return found


def reward_text(terms: Mapping[str, float]) -> str:
    """The reward as a formula, and how its values differ from the table's: (1 × ROUGE-L + 0.5 × BLEU-2) / 1.5."""
    labels = {term: METRIC_LABELS.get(term, term) for term in terms}
    total = sum(terms.values())
    weighted = " + ".join(f"{weight:g} × {labels[term]}" for term, weight in terms.items())
    formula = f"({weighted}) / {total:g}" if len(terms) > 1 else labels[next(iter(terms))]
    bleu = [label for label in labels.values() if label.startswith("BLEU")]
    if not bleu:
        return f"{formula}, of one text at a time."
    return (
        f"{formula}, of one text at a time: {listed(bleu)} in it is sentence BLEU with effective order, "
        "while the BLEU columns of the table are corpus BLEU."
    )


def lower_is_better(evaluation: Mapping[str, Any] | None, metric: str) -> bool:
    """Whether a low value of ``metric`` is a good one."""
    rows = evaluation["rows"].values() if evaluation else ()
    return any(not row[metric]["higher_is_better"] for row in rows if metric in row)


def metric_order(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every metric of any row, the reward first, otherwise as stored."""
    names = dict.fromkeys(metric for row in rows.values() for metric in row)
    return sorted(names, key=lambda m: m != "reward")


def metric_groups(metrics: Sequence[str], reward_terms: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The metrics in groups that make a table each: clinical content, wording, others; empty groups left out.

    The reward stands with what all its terms measure, else with wording; alone it is a group of its own.
    """
    of_terms = {metric_group(term) for term in reward_terms}
    place = {m: metric_group(m) for m in metrics if m != "reward"}
    if "reward" in metrics:
        home = of_terms.pop() if len(of_terms) == 1 else "wording"
        place["reward"] = home if home in place.values() else next((g for g in GROUPS if g in place.values()), "other")
    groups = []
    for name, title in GROUPS.items():
        held = [m for m in metrics if place[m] == name]
        if held:
            title = "Reward" if held == ["reward"] else f"Reward and {title.lower()}" if "reward" in held else title
            groups.append({"name": name, "title": title, "metrics": held})
    return groups


def stratum_tables(
    evaluation: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """For each stratum its tables, one a group of metrics."""
    made: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        for table in result_tables(evaluation, rows, group["metrics"]):
            heads = [{"label": METRIC_LABELS.get(m, m)} for m in group["metrics"]]
            made.setdefault(table["stratum"], []).append({**table, "title": group["title"], "metrics": heads})
    return [{"stratum": name, "tables": tables} for name, tables in made.items()]


def stratum(evaluation: Mapping[str, Any], name: str) -> Mapping[str, Mapping[str, Any]]:
    """Row -> metric -> entry of ``all``, ``abnormal`` or ``normal``; empty when the summary has no such cases."""
    found: Mapping[str, Mapping[str, Any]] = (
        evaluation["rows"] if name == "all" else evaluation.get("strata", {}).get(name, {})
    )
    return found


def result_tables(
    evaluation: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """One table a stratum: mean x 100 with its interval per row and metric, the best mean of each metric marked."""
    tables = []
    for name in STRATA:
        values = stratum(evaluation, name)
        if not values:
            continue
        best = {m: _best(values, m) for m in metrics}
        lines = []
        for row in rows:
            entries = values.get(row["name"], {})
            cells = [result_cell(entries.get(m), best[m]) for m in metrics]
            held = [entries[m] for m in metrics if m in entries]
            lines.append(
                {
                    **row,
                    "cells": cells,
                    "n": _span(e["n"] for e in held),
                    "unscored": _span(e["unscored"] for e in held),
                }
            )
        tables.append({"stratum": name, "lines": lines})
    return tables


def result_cell(entry: Mapping[str, Any] | None, best: float | None) -> dict[str, Any]:
    """``mean`` and ``interval`` as text; a dash where nothing was scored."""
    if entry is None or entry["mean"] is None:
        return {"mean": "–", "interval": "", "best": False, "low": False}
    return {
        "mean": hundredths(entry["mean"]),
        "interval": interval(entry["low"], entry["high"]),
        "best": entry["mean"] == best,
        "low": not entry["higher_is_better"],
    }


def _best(values: Mapping[str, Mapping[str, Any]], metric: str) -> float | None:
    entries = [row[metric] for row in values.values() if metric in row and row[metric]["mean"] is not None]
    pick = max if all(e["higher_is_better"] for e in entries) else min
    return pick((e["mean"] for e in entries), default=None)


def _span(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    if not found:
        return "–"
    return str(found[0]) if len(found) == 1 else f"{found[0]}–{found[-1]}"


def signatures(evaluation: Mapping[str, Any], metrics: Sequence[str]) -> list[tuple[str, str]]:
    """(metric label, signature) for every signature that occurs in the table."""
    found = dict.fromkeys(
        (METRIC_LABELS.get(m, m), str(row[m].get("signature", "")))
        for m in metrics
        for row in evaluation["rows"].values()
        if m in row
    )
    return [(label, text) for label, text in found if text]


def mean_plots(evaluation: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, str]]:
    """Interval plots of one metric over all rows, for all and for abnormal cases."""
    plots = []
    for name in STRATA[:2]:
        values = stratum(evaluation, name)
        bars = []
        for row in rows:
            entry = values.get(row["name"], {}).get(metric)
            if entry and None not in (entry["mean"], entry["low"], entry["high"]):
                mean, low, high = (100 * entry[key] for key in ("mean", "low", "high"))
                text = f"{hundredths(entry['mean'])} {interval(entry['low'], entry['high'])}"
                bars.append(Interval(row["label"], mean, low, high, text, row["model"]))
        if bars:
            title = f"{METRIC_LABELS.get(metric, metric)}, {name} cases"
            plots.append({"title": title, "svg": interval_plot(bars, title)})
    return plots
