"""The studies that alignment used: how hard they were, what they hold beside the others, who called them critical."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radiograd.choice_figures import choice_figures
from radiograd.config import GRPOConfig
from radiograd.report.inputs import Inputs
from radiograd.report.wording import METRIC_LABELS, hundredths, interval
from radiograd.tables import CRITICALITY_SOURCES, cut_text, normal_text, reached_text

NEARLY_ALL = 0.9
"""Share of critical studies above which a clip range by case is hardly one."""
WAYS = {
    "hardest": "the hardest for the fine-tuned model",
    "random": "drawn by lot",
    "diverse": "those that together hold most",
    "reward_std": "those whose completions by the fine-tuned model differ most in diagnostic F1",
}
MODES = {
    "both": "uncertainty of the fine-tuned model and coverage of labels",
    "reference_labels": "coverage of labels (nothing was sampled)",
    "rollout_labels": "uncertainty of the fine-tuned model",
}


def chosen_panel(inputs: Inputs) -> dict[str, Any] | None:
    """Plot, inside/outside table, agreement on criticality and warnings; None where nothing was chosen or annotated."""
    selection, criticality = inputs.selection, inputs.criticality
    if selection is None and criticality is None:
        return None
    return {
        "lead": None if selection is None else _lead(selection),
        "warnings": _warnings(inputs),
        "docs": "docs/deer.md" if selection is not None and "prevalence" in selection else "docs/radflow.md",
        "figures": [] if selection is None else choice_figures(inputs.choices, selection),
        "said": [] if selection is None or "prevalence" not in selection else _said(selection),
        "table": None if selection is None else _table(selection),
        "correlation": [] if selection is None else _correlation(selection),
        "sources": [] if criticality is None else _sources(criticality),
        "agreement": [] if criticality is None else _agreement(criticality),
        "counts": None if criticality is None else CRITICALITY_SOURCES[criticality["source"]],
        "unanswered": 0 if criticality is None else criticality["sources"][criticality["source"]]["unanswered"],
        "urgent": [] if criticality is None else list(criticality["urgent_findings"].items()),
    }


def critical_share(inputs: Inputs) -> float | None:
    """Share of critical studies among those that alignment used; None where none was annotated."""
    if inputs.selection is not None:
        share: float | None = inputs.selection["critical"]["inside"]["share"]
        return share
    if inputs.criticality is None:
        return None
    of_all: float | None = inputs.criticality["sources"][inputs.criticality["source"]]["share"]
    return of_all


def _lead(selection: Mapping[str, Any]) -> str:
    said: str = f"{selection['selected']:,} of {selection['studies']:,} studies that alignment may use, "
    said += WAYS.get(selection["by"], selection["by"])
    if "mode" in selection:
        said += f" {MODES[selection['mode']]}"
    said += cut_text(selection)
    if selection.get("rollouts"):
        said += (
            f"; {selection['rollouts']:,} completions were sampled, {selection['distinct_texts']:,} of them distinct"
        )
    if selection["unscored"]:
        said += f"; {selection['unscored']:,} could not be scored and were not chosen"
    if selection.get("folds"):
        said += f"; predicted by {selection['folds']} models, each on the part it had not seen"
    return said + "."


def _warnings(inputs: Inputs) -> list[str]:
    share, align = critical_share(inputs), inputs.run.config.align
    if share is None or share <= NEARLY_ALL or not isinstance(align, GRPOConfig) or align.clip != "critical":
        return []
    return [
        f"{100 * share:.0f} % of the studies that alignment used are critical: CAPO is then nearly GRPO with "
        f"eps/{align.clip_factor:g}. Compare it with that before its clip range by case is called the reason for "
        "anything."
    ]


def _said(selection: Mapping[str, Any]) -> list[str]:
    """What a reader must know of a choice by completions: who was refused, the quota, what was reached."""
    gates = [f"{count:,} {reason}" for reason, count in selection["gates"].items()]
    return [f"{said[0].upper()}{said[1:]}." for said in (*gates, normal_text(selection), reached_text(selection))]


def _table(selection: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Lines of (name, [chosen, not chosen]): counts, percentages, means x 100; without labels that no study has."""
    critical = selection["critical"]
    sides = ("inside", "outside")
    lines = [
        ("Studies", [f"{critical[side]['studies']:,}" for side in sides]),
        ("Critical, %", [_shown(critical[side]["share"]) for side in sides]),
    ]
    lines += [
        (f"{label}, %", [_shown(of[side]["share"]) for side in sides])
        for label, of in selection["labels"].items()
        if any(of[side]["studies"] for side in sides)
    ]
    lines += [
        (f"{METRIC_LABELS.get(name, name)}, mean × 100", [_shown(of[side]) for side in sides])
        for name, of in selection["metrics"].items()
    ]
    return lines


def _correlation(selection: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            f"{METRIC_LABELS.get(row['a'], row['a'])} and {METRIC_LABELS.get(row['b'], row['b'])}",
            "–" if row["rho"] is None else f"{row['rho']:.2f}".replace("-", "−"),
        )
        for row in selection["correlation"]
    ]


def _sources(criticality: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    return [
        (CRITICALITY_SOURCES[name], [f"{of['critical']:,}", _shown(of["share"]), f"{of['unanswered']:,}"])
        for name, of in criticality["sources"].items()
    ]


def _agreement(criticality: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    return [
        (
            f"{CRITICALITY_SOURCES[row['a']]} and {CRITICALITY_SOURCES[row['b']]}",
            [
                *(f"{row[key]:,}" for key in ("both", "first", "second", "neither")),
                *(_with_interval(row[name]) for name in ("agreement", "kappa")),
            ],
        )
        for row in criticality["agreement"]
    ]


def _with_interval(found: Mapping[str, float | None]) -> str:
    value = found["value"]
    return "–" if value is None else f"{hundredths(value)} {interval(found['low'], found['high'])}"


def _shown(value: float | None) -> str:
    return "–" if value is None else hundredths(value)
