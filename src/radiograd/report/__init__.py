"""A finished (or half-finished) run folder -> one self-contained ``report.html``. Reads files only; no model.

What the page says is computed in this package by small functions and laid out by ``templates/report.html.j2``. Report
text is untrusted: the template escapes everything, and the page's own policy forbids scripts and any outside request.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from radiograd import __version__
from radiograd.report.cases import biggest_moves, case_rule, case_view, choose_cases
from radiograd.report.conclusion import verdict
from radiograd.report.curves import training
from radiograd.report.differences import difference_plot, difference_tables
from radiograd.report.inputs import Inputs, read_inputs
from radiograd.report.provenance import counts_blocks, missing_parts, stage_view, status
from radiograd.report.results import (
    lower_is_better,
    mean_plots,
    metric_order,
    pool,
    result_tables,
    reward_text,
    row_order,
    signatures,
)
from radiograd.report.wording import METRIC_LABELS, moment
from radiograd.runs import STAGES, Run, write_text

MAIN_METRIC = "rougeL"


def report_run(run: Run) -> dict[str, Any]:
    """Write ``report.html`` into the run folder; the facts of the stage.

    Reads config, manifest, STATUS, done/, attempts/, metrics.jsonl, data/ and eval/test/; what is not there yet is
    said on the page. RunError when a file is damaged.
    """
    page = build_page(read_inputs(run))
    html = render(page)
    write_text(run.path / "report.html", html)
    return {
        "page": "report.html",
        "kib": round(len(html.encode()) / 1024, 1),
        "cases": len(page["cases"]),
        "charts": sum(len(group["charts"]) for group in page["training"]),
    }


def build_page(inputs: Inputs) -> dict[str, Any]:
    """The values the template lays out."""
    run, evaluation = inputs.run, inputs.evaluation
    rows = row_order(evaluation["rows"], run.config.evaluate.baselines, pool(evaluation)) if evaluation else []
    models = [row for row in rows if row["model"]]
    metrics = metric_order(evaluation["rows"]) if evaluation else []
    main = MAIN_METRIC if MAIN_METRIC in metrics else next((m for m in metrics if m != "reward"), "reward")
    shown = [row["name"] for row in models] + (["retrieval"] if any(r["name"] == "retrieval" for r in rows) else [])
    chosen = choose_cases(inputs.studies, run.config.seed)
    moved = biggest_moves(inputs.studies, inputs.scores, main, lower_is_better(evaluation, main))
    return {
        "name": run.config.name,
        "config": run.config,
        "version": __version__,
        "status": status(inputs),
        "verdict": verdict(evaluation, [r["name"] for r in rows], [r["name"] for r in models], main),
        "rows": rows,
        "metrics": [{"name": m, "label": METRIC_LABELS.get(m, m)} for m in metrics],
        "main": METRIC_LABELS.get(main, main),
        "tables": result_tables(evaluation, rows, metrics) if evaluation else [],
        "plots": mean_plots(evaluation, rows, main) if evaluation else [],
        "signatures": signatures(evaluation, metrics) if evaluation else [],
        "differences": difference_tables(evaluation, rows, metrics, main) if evaluation else [],
        "difference_plot": difference_plot(evaluation, rows, main) if evaluation else None,
        "training": [group for stage in ("sft", "align") if (group := training(inputs, stage))],
        "missing": missing_parts(inputs),
        "cases": [case_view(s, shown, inputs, metrics) for s in chosen],
        "case_rule": case_rule(chosen, run.config.seed),
        "moves": [
            {"title": title, "cases": [(change, case_view(s, shown, inputs, metrics)) for change, s in found]}
            for title, found in (("Biggest gains", moved[0]), ("Biggest losses", moved[1]))
            if found
        ],
        "counts": counts_blocks(inputs.counts),
        "stages": [stage_view(stage, inputs.done.get(stage)) for stage in STAGES if stage != "report"],
        "attempts": [{**a, "started_text": moment(a.get("started"))} for a in inputs.attempts],
        "manifest": inputs.manifest,
        "created": moment(inputs.manifest.get("created")),
        "config_text": yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        "reward_text": reward_text(run.config.align.reward),
        "folder": str(run.path),
        "typed_folder": shlex.quote(str(run.path)),
        "typed_config": shlex.quote(str(run.path / "config.json")),
    }


def render(page: Mapping[str, Any]) -> str:
    """The page as HTML; every value is escaped except the charts, which escape their own text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parents[1] / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html: str = environment.get_template("report.html.j2").render(page)
    return html
