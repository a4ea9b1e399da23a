"""What the chosen studies are like beside the others: counts, shares, correlations, and the distribution of S."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from radiograd.charts import standalone
from radiograd.choice_figures import choice_figures
from radiograd.selection import rank_correlation
from radiograd.text.labels import label_set

LABELS = "chexpert14"
Row = Mapping[str, Any]


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """selection_summary.json from the lines of selection.jsonl. No NaN in it: what is unknown is None.

    ``cut``: the largest S that was chosen. Shares of the critical are of the studies that were annotated; shares of a
    label of all, by what our rules read as present in the reference. Correlations are Spearman's, over the studies that
    have both; of the hardest over scored studies.
    """
    inside, outside = [r for r in rows if r["selected"]], [r for r in rows if not r["selected"]]
    ranked = [row["normalised"] for row in rows if row["normalised"] is not None]
    measured = ranked or [row["scores"] for row in rows if row["scores"] is not None]
    names = [name for name in (measured[0] if measured else ()) if any(row[name] is not None for row in measured)]
    columns = {name: _column(measured, name) for name in names}
    unscored = [row["reason"] for row in rows if row["reason"].startswith("unscored")]
    return {
        "studies": len(rows),
        "selected": len(inside),
        "unscored": len(unscored),
        "unscored_why": dict(Counter(unscored).most_common()),
        "cut": max((row["score"] for row in inside if row["score"] is not None), default=None),
        "critical": {"inside": _critical(inside), "outside": _critical(outside)},
        "labels": {
            label: {"inside": _with_label(inside, label), "outside": _with_label(outside, label)}
            for label in label_set(LABELS).names
        },
        "metrics": {name: {"inside": _mean(inside, name), "outside": _mean(outside, name)} for name in names},
        "correlation": [
            {"a": a, "b": b, "rho": rank_correlation(*_both(columns[a], columns[b]))} for a, b in combinations(names, 2)
        ],
    }


def plots(rows: Sequence[Row], summary: Mapping[str, Any]) -> dict[str, str]:
    """File name -> SVG that stands by itself."""
    return {figure.file: standalone(figure.svg) for figure in choice_figures(rows, summary)}


def _critical(rows: Sequence[Row]) -> dict[str, Any]:
    known = [row["critical"] for row in rows if row["critical"] is not None]
    return {
        "studies": len(rows),
        "annotated": len(known),
        "critical": sum(known),
        "share": sum(known) / len(known) if known else None,
    }


def _with_label(rows: Sequence[Row], label: str) -> dict[str, Any]:
    count = sum(label in row["labels"] for row in rows)
    return {"studies": count, "share": count / len(rows) if rows else None}


def _mean(rows: Sequence[Row], name: str) -> float | None:
    values = [row["scores"][name] for row in rows if row["scores"] is not None and row["scores"][name] is not None]
    return float(np.mean(values)) if values else None


def _column(rows: Sequence[Row], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.nan if row[name] is None else row[name] for row in rows])


def _both(a: Any, b: Any) -> tuple[Any, Any]:
    known = ~(np.isnan(a) | np.isnan(b))
    return a[known], b[known]
