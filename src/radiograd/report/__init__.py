"""A finished (or half-finished) run folder -> one self-contained ``report.html``. Reads files only; no model.

What the page says is computed in this package by small functions and laid out by ``templates/report.html.j2``. Report
text is untrusted: the template escapes everything, and the page's own policy forbids scripts and any outside request.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from radiograd import __version__
from radiograd.config import GRPOConfig, RunConfig
from radiograd.report.cases import best_and_worst, biggest_moves, case_metrics, case_rule, case_view, choose_cases
from radiograd.report.chosen import chosen_panel
from radiograd.report.collapse import collapse_panel
from radiograd.report.conclusion import verdict
from radiograd.report.curves import training
from radiograd.report.differences import difference_plot, difference_tables
from radiograd.report.findings import finding_panel, read_labels
from radiograd.report.guard import guard_panel
from radiograd.report.heat import heat_panel
from radiograd.report.inputs import Inputs, read_inputs
from radiograd.report.pairs import pairs_panel
from radiograd.report.profile import profile
from radiograd.report.provenance import counts_blocks, missing_parts, stage_view, status
from radiograd.report.results import (
    lower_is_better,
    mean_plots,
    metric_groups,
    metric_order,
    pool,
    reward_text,
    row_order,
    signatures,
    stratum_tables,
)
from radiograd.report.systems import systems_panel
from radiograd.report.wording import METRIC_LABELS, ROW_PHRASES, listed, moment
from radiograd.runs import Run, stages_of, write_text
from radiograd.tasks import TASKS
from radiograd.text.explain import visible

MAIN_METRIC = "rougeL"
CLINICAL_METRICS = ("fidelity", "factgraph_partial", "label_f1_14")
"""The first of these that a run has speaks for clinical content."""


def report_run(run: Run) -> dict[str, Any]:
    """Write ``report.html`` into the run folder; the facts of the stage.

    Reads config, manifest, STATUS, done/, attempts/, metrics.jsonl, data/ and eval/test/; what is not there yet is
    said on the page. RunError when a file is damaged.
    """
    page = build_page(read_inputs(run))
    html = render(page)
    write_text(run.path / "report.html", html)
    none: dict[str, Any] = {"charts": ()}
    return {
        "page": "report.html",
        "kib": round(len(html.encode()) / 1024, 1),
        "cases": len(page["cases"]),
        "charts": sum(
            len(group["charts"]) for group in (*page["training"], page["heat"] or none, page["gamed"] or none)
        ),
    }


def build_page(inputs: Inputs) -> dict[str, Any]:
    """The values the template lays out."""
    run, evaluation = inputs.run, inputs.evaluation
    rows = (
        row_order(evaluation["rows"], run.config.evaluate.baselines, pool(evaluation), run.config.section)
        if evaluation
        else []
    )
    models = [row for row in rows if row["model"]]
    metrics = metric_order(evaluation["rows"]) if evaluation else []
    main = MAIN_METRIC if MAIN_METRIC in metrics else next((m for m in metrics if m != "reward"), "reward")
    clinical = next((m for m in CLINICAL_METRICS if m in metrics), None)
    mains = list(dict.fromkeys(m for m in (main, clinical) if m is not None))
    shown = [row["name"] for row in models] + (["retrieval"] if any(r["name"] == "retrieval" for r in rows) else [])
    terms = run.config.reward or {}
    scored = case_metrics(metrics, mains)
    chosen = choose_cases(inputs.studies, run.config.seed)
    collapse = collapse_panel(inputs)
    concluded = verdict(evaluation, [r["name"] for r in rows], [r["name"] for r in models], main, clinical)
    if evaluation and collapse and collapse["sentences"] and collapse["sentences"][-1]["tone"] != "varied":
        concluded["sentences"] = [*concluded["sentences"], collapse["sentences"][-1]["text"]]
    gamed = guard_panel(inputs)
    if gamed and gamed["stopped"]:
        concluded["sentences"] = [*concluded["sentences"], gamed["sentences"][0]["text"]]
    return {
        "name": run.config.name,
        "section": run.config.section,
        "shown": listed([label.lower() for label, _ in TASKS[run.config.task].shown]),
        "config": run.config,
        "version": __version__,
        "status": status(inputs),
        "verdict": concluded,
        "rows": rows,
        "results": stratum_tables(evaluation, rows, metric_groups(metrics, terms)) if evaluation else [],
        "plots": [plot for m in reversed(mains) for plot in mean_plots(evaluation, rows, m)] if evaluation else [],
        "signatures": signatures(evaluation, metrics) if evaluation else [],
        "differences": difference_tables(evaluation, rows, metrics, mains) if evaluation else [],
        "difference_plots": [plot for m in reversed(mains) if (plot := difference_plot(evaluation, rows, m))]
        if evaluation
        else [],
        "findings": finding_panel(read_labels(inputs), run.config.seed, run.config.evaluate.resamples),
        "systems": systems_panel(inputs, run.config.seed, scored),
        "collapse": collapse,
        "chosen": chosen_panel(inputs),
        "pairs": pairs_panel(inputs, run.config.seed),
        "heat": heat_panel(inputs),
        "gamed": gamed,
        "training": [group for stage in ("sft", "align") if (group := training(inputs, stage))],
        "profile": profile(inputs.metrics),
        "missing": missing_parts(inputs),
        "cases": [case_view(s, shown, inputs, scored) for s in chosen],
        "case_rule": case_rule(chosen, run.config.seed),
        "extremes": [
            {**part, "cases": [(change, case_view(s, shown, inputs, scored)) for change, s in part["found"]]}
            for part in _extremes(inputs, [row["name"] for row in models], main, clinical)
        ],
        "counts": counts_blocks(inputs.counts),
        "stages": [stage_view(stage, inputs.done.get(stage)) for stage in stages_of(run.config) if stage != "report"],
        "attempts": [{**a, "started_text": moment(a.get("started"))} for a in inputs.attempts],
        "manifest": inputs.manifest,
        "created": moment(inputs.manifest.get("created")),
        "config_text": yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        "reward_text": _reward_text(run.config),
        "folder": str(run.path),
        "typed_folder": shlex.quote(str(run.path)),
        "typed_config": shlex.quote(str(run.path / "config.json")),
    }


def _reward_text(config: RunConfig) -> str:
    """The reward as the page tells it; of a run with two phases both, and where the second begins."""
    if not isinstance(config.align, GRPOConfig):
        return ""
    first, later = config.align.reward, config.align.reward_schedule
    if later is None:
        return reward_text(first)
    return f"{reward_text(first)} From {100 * later.after:g} % of the rollouts on: {reward_text(later.reward)}"


def _extremes(inputs: Inputs, models: Sequence[str], main: str, clinical: str | None) -> list[dict[str, Any]]:
    """The best and the worst cases of the furthest-trained model, and those alignment moved most."""
    parts: list[dict[str, Any]] = []
    if models:
        row, metric = models[-1], clinical or main
        label, lower = METRIC_LABELS.get(metric, metric), lower_is_better(inputs.evaluation, metric)
        best, worst = best_and_worst(inputs.studies, inputs.scores, row, metric, lower, inputs.section)
        title = f"of {ROW_PHRASES.get(row, row)}, by {label}"
        parts += [
            {"title": f"Worst cases {title}", "metric": label, "found": worst},
            {"title": f"Best cases {title}", "metric": label, "found": best},
        ]
    label = METRIC_LABELS.get(main, main)
    gains, losses = biggest_moves(inputs.studies, inputs.scores, main, lower_is_better(inputs.evaluation, main))
    parts += [
        {"title": f"Biggest gains in {label}, aligned − SFT", "metric": label, "found": gains},
        {"title": f"Biggest losses in {label}, aligned − SFT", "metric": label, "found": losses},
    ]
    return [part for part in parts if part["found"]]


def render(page: Mapping[str, Any], template: str = "report.html.j2") -> str:
    """The page as HTML by one of ``templates/``; every value is escaped except the charts, which escape their own text.

    Characters that HTML forbids or that turn the order of what follows are made visible.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parents[1] / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html: str = environment.get_template(template).render(page)
    return visible(html)
