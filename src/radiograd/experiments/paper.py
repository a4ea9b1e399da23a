"""A paper's numbers beside ours, and which of them no scores of texts can have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PRECISION, _RECALL = "bertscore.precision", "bertscore.recall"


def impossible(row: Mapping[str, float]) -> dict[str, str]:
    """Column -> why its number cannot stand beside the others of its row.

    Holds for every case and therefore for every mean: a longest common subsequence is no longer than the words in
    common, and a harmonic mean is at most the arithmetic one.
    """
    found: dict[str, str] = {}
    if {"rouge1", "rougeL"} <= row.keys() and row["rougeL"] > row["rouge1"]:
        found["rougeL"] = "ROUGE-L above ROUGE-1"
    if {"bertscore", _PRECISION, _RECALL} <= row.keys():
        f1, p, r = row["bertscore"], row[_PRECISION], row[_RECALL]
        if f1 > max(p, r):
            found["bertscore"] = "F1 above both precision and recall"
        elif f1 > (p + r) / 2 + 0.001:  # printed with three decimals
            found["bertscore"] = "F1 above the mean of precision and recall"
    return found


def beside(paper: Mapping[str, Mapping[str, float]], ours: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each row of the paper: its numbers, those that cannot be, and our entries of the same columns."""
    return [
        {
            "label": label,
            "paper": dict(numbers),
            "impossible": impossible(numbers),
            "ours": {name: ours.get(label, {}).get(name) for name in numbers},
        }
        for label, numbers in paper.items()
    ]
