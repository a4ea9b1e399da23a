"""A finished (or half-finished) run folder -> one self-contained ``report.html``. Reads files only; no model.

What the page says is computed here by small functions and laid out by ``templates/report.html.j2``. Report text is
untrusted: the template escapes everything, and the page's own policy forbids scripts and any outside request.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from radiograd import __version__
from radiograd.charts import Interval, Series, interval_plot, line_chart
from radiograd.runs import STAGES, Run, read_json, read_jsonl, write_text
from radiograd.tables import hundredfold, p_value
from radiograd.types import POLICIES, Study
from radiograd.worddiff import Piece, diff_words

STRATA = ("all", "abnormal", "normal")
MAIN_METRIC = "rougeL"
CASES = {"abnormal": 7, "normal": 3}
EXTREMES = 3

ROW_LABELS = {
    "sft": "SFT",
    "aligned": "Aligned",
    "constant": "Constant sentence",
    "retrieval": "Retrieval",
    "other_patient": "Another patient",
    "copy_findings": "Copied findings",
}
ROW_NOTES = {
    "sft": "Fine-tuned on the radiologists' impressions.",
    "aligned": "The SFT model after policy optimisation on the reward.",
    "constant": "The commonest impression of the whole train split, for every study.",
    "retrieval": "The impression of the study with the nearest findings in the whole train split.",
    "other_patient": "The impression of some other study.",
    "copy_findings": "The findings, repeated as the impression.",
}
ROW_PHRASES = {
    "constant": "the constant sentence",
    "retrieval": "retrieval",
    "other_patient": "another patient's impression",
    "copy_findings": "the copied findings",
    "sft": "the SFT model",
    "aligned": "the aligned model",
}
METRIC_LABELS = {
    "reward": "Reward",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "bleu4": "BLEU-4",
    "length_ratio": "Length ratio",
}
SHARES = {"share", "frac"}
_ORDINARY = {"stage", "step", "attempt", "time"}
_SPARSE = 0.8


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the run folder holds. Parts that do not exist yet are empty or None."""

    run: Run
    manifest: Mapping[str, Any]
    status: Mapping[str, Any]
    counts: Mapping[str, Any]
    done: Mapping[str, Mapping[str, Any]]
    attempts: Sequence[Mapping[str, Any]]
    metrics: Sequence[Mapping[str, Any]]
    evaluation: Mapping[str, Any] | None
    scores: Mapping[tuple[str, str], Mapping[str, float | None]]
    texts: Mapping[tuple[str, str], str]
    studies: Sequence[Study]


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of a minus b in metric units, with its 95 % interval; None where nothing could be compared."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    higher_is_better: bool

    @property
    def sign(self) -> int:
        """1 or -1 when the interval lies above or below 0, else 0."""
        if self.low is not None and self.low > 0:
            return 1
        return -1 if self.high is not None and self.high < 0 else 0

    @property
    def better(self) -> int:
        """1 or -1 when the interval says that a is better or worse than b, else 0."""
        return self.sign if self.higher_is_better else -self.sign


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


def read_inputs(run: Run) -> Inputs:
    """Everything the page needs from the run folder. RunError names a damaged file."""
    test = run.path / "eval" / "test"
    lines = [line for name in ("predictions", "baselines") for line in _lines(test / f"{name}.jsonl")]
    return Inputs(
        run=run,
        manifest=_json(run.path / "manifest.json") or {},
        status=_json(run.path / "STATUS.json") or {},
        counts=_json(run.path / "data" / "summary.json") or {},
        done={stage: run.facts(stage) for stage in STAGES if stage != "report" and run.done(stage)},
        attempts=[
            {"number": int(p.parent.name), **read_json(p)} for p in sorted(run.path.glob("attempts/[0-9]*/env.json"))
        ],
        metrics=run.metrics(),
        evaluation=_json(test / "summary.json"),
        scores={(r["row"], r["study_id"]): r["scores"] for r in _lines(test / "scores.jsonl")},
        texts={(r["row"], r["study_id"]): r["text"] for r in lines},
        studies=[Study.from_json(row) for row in _lines(run.path / "data" / "test.jsonl")],
    )


def render(page: Mapping[str, Any]) -> str:
    """The page as HTML; every value is escaped except the charts, which escape their own text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html: str = environment.get_template("report.html.j2").render(page)
    return html


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


# ---- results ---------------------------------------------------------------------------------------------------------


def row_order(rows: Iterable[str], baselines: Sequence[str], pool: int | None = None) -> list[dict[str, Any]]:
    """Models first (SFT, aligned, then others), then the baselines in the order of the configuration.

    ``pool``: how many studies the retrieval row searches, said in its note.
    """
    known = [*POLICIES, *(r for r in rows if r not in POLICIES and r not in baselines), *baselines]
    present = set(rows)
    notes = ROW_NOTES
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
        f"{formula}, of one text at a time: {_and(bleu)} in it is sentence BLEU with effective order, "
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


# ---- differences -----------------------------------------------------------------------------------------------------


def find_difference(evaluation: Mapping[str, Any], a: str, b: str, metric: str, name: str) -> Difference | None:
    """The stored paired difference a - b, turned round when it is stored as b - a; None when it is not stored."""
    for entry in evaluation.get("paired", []):
        if (entry["metric"], entry["stratum"]) != (metric, name):
            continue
        value, low, high = (entry[key] for key in ("difference", "low", "high"))
        rest = (entry["p"], entry["n"], entry["higher_is_better"])
        if (entry["a"], entry["b"]) == (a, b):
            return Difference(value, low, high, *rest)
        if (entry["a"], entry["b"]) == (b, a):
            return Difference(_negated(value), _negated(high), _negated(low), *rest)
    return None


def _negated(value: float | None) -> float | None:
    return None if value is None else -value


def difference_cell(found: Difference | None) -> dict[str, Any]:
    """One difference as text, with a word and a sign that say what its interval says; ``better``: 1, 0 or -1."""
    if found is None or found.difference is None:
        return {"value": "–", "interval": "", "p": "", "word": "", "sign": 0, "better": 0}
    word = {1: "higher", -1: "lower", 0: "no clear difference"}[found.sign]
    if found.sign and not found.higher_is_better:
        word += {1: ", better", -1: ", worse"}[found.better]
    return {
        "value": signed(found.difference),
        "interval": interval(found.low, found.high),
        "p": p_text(found.p),
        "word": word,
        "sign": found.sign,
        "better": found.better,
    }


def difference_tables(
    evaluation: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], main: str
) -> list[dict[str, Any]]:
    """Aligned against SFT on every metric; every model against every baseline on the main metric and the reward."""
    names = {row["name"] for row in rows}
    tables: list[dict[str, Any]] = []
    if set(POLICIES) <= names:
        lines = [(METRIC_LABELS.get(m, m), _across(evaluation, "aligned", "sft", m)) for m in metrics]
        tables.append({"title": "Aligned − SFT", "first": "Metric", "lines": lines})
    for metric in dict.fromkeys((main, "reward")):
        lines = [
            (f"{a['label']} − {b['label']}", _across(evaluation, a["name"], b["name"], metric))
            for a in reversed([r for r in rows if r["model"]])
            for b in rows
            if not b["model"]
        ]
        title = f"Models − baselines, {METRIC_LABELS.get(metric, metric)}"
        if not tables or lines != tables[-1]["lines"]:  # a reward that is the main metric alone says it once
            tables.append({"title": title, "first": "Comparison", "lines": lines})
    kept = ({**t, "lines": [x for x in t["lines"] if any(c["value"] != "–" for c in x[1])]} for t in tables)
    return [t for t in kept if t["lines"]]


def _across(evaluation: Mapping[str, Any], a: str, b: str, metric: str) -> list[dict[str, Any]]:
    return [difference_cell(find_difference(evaluation, a, b, metric, name)) for name in STRATA]


def difference_plot(
    evaluation: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], metric: str
) -> dict[str, str] | None:
    """The furthest-trained model against every other row, abnormal cases; None when nothing is stored."""
    models = [row for row in rows if row["model"]]
    bars = []
    for other in rows:
        found = find_difference(evaluation, models[-1]["name"], other["name"], metric, "abnormal") if models else None
        if found and found.difference is not None and found.low is not None and found.high is not None:
            text = f"{signed(found.difference)} {interval(found.low, found.high)}"
            span = (100 * found.difference, 100 * found.low, 100 * found.high)
            bars.append(Interval(f"− {other['label']}", *span, text, found.sign != 0))
    if not bars:
        return None
    title = f"{models[-1]['label']} minus each other row, {METRIC_LABELS.get(metric, metric)}, abnormal cases"
    return {"title": title, "svg": interval_plot(bars, title, zero=True)}


def verdict(
    evaluation: Mapping[str, Any] | None, rows: Sequence[str], models: Sequence[str], main: str
) -> dict[str, Any]:
    """A headline, its tone (good | even | bad | none) and sentences, from the stored differences alone.

    A reward that rose while the main metric got worse in some stratum is "even", not "good".
    """
    if evaluation is None:
        return {"tone": "none", "headline": "No result yet: the evaluation has not finished.", "sentences": []}
    sentences = []
    headline, tone = "The table below compares the rows; no alignment has been evaluated yet.", "none"
    if set(POLICIES) <= set(rows):
        metric = "reward" if find_difference(evaluation, "aligned", "sft", "reward", "all") else main
        found = find_difference(evaluation, "aligned", "sft", metric, "all")
        if found and found.difference is not None:
            word = {1: "raised", 0: "did not measurably change", -1: "lowered"}[found.sign]
            what = "the reward" if metric == "reward" else METRIC_LABELS.get(metric, metric)
            headline = (
                f"Alignment {word} {what} on held-out studies: "
                f"{signed(found.difference)} {interval(found.low, found.high)}"
            )
            tone = {1: "good", 0: "even", -1: "bad"}[found.better]
            others = [find_difference(evaluation, "aligned", "sft", main, name) for name in STRATA]
            if tone == "good" and any(other is not None and other.better < 0 for other in others):
                tone = "even"
        sentences = [text for name in ("abnormal", "all") if (text := _against_sft(evaluation, main, name))]
    baselines = [row for row in rows if row not in models]
    sentences += [text for m in reversed(models) if (text := _against_baselines(evaluation, m, baselines, main))]
    return {"tone": tone, "headline": headline, "sentences": sentences}


def _against_sft(evaluation: Mapping[str, Any], metric: str, name: str) -> str | None:
    found = find_difference(evaluation, "aligned", "sft", metric, name)
    if found is None or found.difference is None:
        return None
    says = "the interval excludes 0" if found.sign else "the interval includes 0, so no difference is shown"
    return (
        f"Aligned against SFT on {METRIC_LABELS.get(metric, metric)}{_direction(found)}, {name} cases (n = {found.n}): "
        f"{signed(found.difference)} {interval(found.low, found.high)}; {says}."
    )


def _against_baselines(evaluation: Mapping[str, Any], model: str, baselines: Sequence[str], metric: str) -> str | None:
    groups: dict[int, list[str]] = {1: [], 0: [], -1: []}
    direction = ""
    for other in baselines:
        found = find_difference(evaluation, model, other, metric, "abnormal")
        if found is not None and found.difference is not None:
            label, direction = ROW_PHRASES.get(other, other), _direction(found)
            groups[found.sign].append(f"{label} ({signed(found.difference)} {interval(found.low, found.high)})")
    words = {1: "above", 0: "not distinguishable from", -1: "below"}
    parts = [f"{words[sign]} {_and(labels)}" for sign, labels in groups.items() if labels]
    if not parts:
        return None
    subject = ROW_PHRASES.get(model, model)
    return f"On abnormal cases, by {METRIC_LABELS.get(metric, metric)}{direction}, {subject} is {'; '.join(parts)}."


def _direction(found: Difference) -> str:
    return "" if found.higher_is_better else " (lower is better)"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# ---- training --------------------------------------------------------------------------------------------------------


def training(inputs: Inputs, stage: str) -> dict[str, Any] | None:
    """The charts of one training stage; None when it logged nothing."""
    rows = sorted((r for r in inputs.metrics if r["stage"] == stage), key=lambda r: r["step"])
    present = dict.fromkeys(k for r in rows for k, v in r.items() if k not in _ORDINARY and _is_number(v))
    charts = []
    resumed = [b["step"] for a, b in pairwise(rows) if b["attempt"] != a["attempt"]]
    for keys, title, unit, zero_based in chart_plan(list(present), list(inputs.run.config.align.reward)):
        factor = 100.0 if unit.startswith("%") else 1.0
        series = [Series(k.removeprefix("seconds/"), points(rows, k, factor)) for k in keys]
        svg = line_chart(series, title, unit, "step", zero_based, resumed)
        charts.append({"title": title, "unit": unit, "svg": svg})
    if not charts:
        return None
    title = {"sft": "Supervised fine-tuning", "align": "Alignment"}[stage]
    return {"stage": stage, "title": title, "steps": len(rows), "charts": charts, "resumed": len(resumed)}


def chart_plan(keys: Sequence[str], terms: Sequence[str]) -> Iterator[tuple[list[str], str, str, bool]]:
    """(keys, title, unit, axis from 0) for every logged key: those we know in reading order, then the rest as named."""
    term_keys = [f"reward/{t}" for t in terms]
    term_keys += [k for k in keys if k.startswith("reward/") and k not in (*term_keys, *_REWARD_FACTS)]
    labels = [k.removeprefix("reward/") for k in term_keys]
    plan = [
        (["reward/total"], "Reward, weighted mean of its terms", "", False),
        *(([k], f"Reward term: {METRIC_LABELS.get(t, t)}", "", False) for k, t in zip(term_keys, labels, strict=True)),
        (["loss"], "Loss", "", False),
        *_KNOWN_CHARTS,
        ([k for k in keys if k.startswith("seconds/")], "Time per step", "s", True),
    ]
    used: set[str] = set()
    for wanted, title, unit, zero_based in plan:
        found = [k for k in wanted if k in keys]
        used.update(found)
        if found:
            yield found, title, unit, zero_based
    for key in keys:
        if key not in used:
            yield [key], key, "% of all" if is_share(key) else "", False


_REWARD_FACTS = ("reward/total", "reward/total_std", "reward/unscored_frac")
_KNOWN_CHARTS: list[tuple[list[str], str, str, bool]] = [
    (["kl"], "KL to the SFT model", "nats per token", False),
    (["entropy"], "Entropy", "nats per token", False),
    (["words_mean"], "Length", "words", False),
    (["tokens_mean"], "Length", "tokens", False),
    (["clip_share"], "Clipped tokens", "% of tokens", True),
    (["ratio_max"], "Largest |ratio − 1|", "", False),
    (["dead_groups"], "Dead groups", "% with equal rewards", True),
    (["distinct_frac"], "Distinct completions", "% of completions", True),
    (["truncated_frac"], "Cut at the token limit", "% of completions", True),
    (["reward/unscored_frac"], "Unscored completions", "% of completions", True),
    (["reward/total_std"], "Spread of the reward (std)", "", True),
    (["grad_norm"], "Gradient norm", "", True),
    (["lr"], "Learning rate", "", True),
]


def points(rows: Sequence[Mapping[str, Any]], key: str, factor: float = 1.0) -> list[tuple[float, float | None]]:
    """(step, value) of one key. A value missing from a key that is logged nearly every row is a gap; a key logged now
    and then has only the points it has."""
    found = [(float(r["step"]), factor * r[key] if _is_number(r.get(key)) else None) for r in rows]
    known = [point for point in found if point[1] is not None]
    return found if len(known) >= _SPARSE * len(found) else known


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# ---- cases -----------------------------------------------------------------------------------------------------------


def kind(study: Study) -> str:
    """normal | abnormal | unlabelled, as the source's codes say."""
    return {True: "normal", False: "abnormal", None: "unlabelled"}[study.normal]


def choose_cases(studies: Iterable[Study], seed: int) -> list[Study]:
    """Ten held-out studies by a draw that knows nothing of any model: 7 abnormal and 3 normal where there are so many.

    The order of the draw is that of SHA-256("seed:study_id"), so it does not depend on row order or library versions.
    """
    drawn = sorted(studies, key=lambda s: hashlib.sha256(f"{seed}:{s.study_id}".encode()).digest())
    chosen = [s for name, count in CASES.items() for s in [d for d in drawn if kind(d) == name][:count]]
    chosen += [s for s in drawn if s not in chosen][: sum(CASES.values()) - len(chosen)]
    order = ("abnormal", "unlabelled", "normal")
    return sorted(chosen, key=lambda s: order.index(kind(s)))


def case_rule(chosen: Sequence[Study], seed: int) -> str:
    """How the cases were drawn, for the page."""
    kinds = [kind(s) for s in chosen]
    held = _and([f"{kinds.count(k)} {k}" for k in ("abnormal", "normal", "unlabelled") if k in kinds] or ["0"])
    return (
        f"{len(chosen)} held-out studies ({held}), drawn without looking at any output: test studies in the order of "
        f'SHA-256("{seed}:study id"), the first 7 abnormal and the first 3 normal, filled up from the rest.'
    )


def biggest_moves(
    studies: Iterable[Study],
    scores: Mapping[tuple[str, str], Mapping[str, float | None]],
    metric: str,
    lower_is_better: bool = False,
) -> tuple[list[tuple[str, Study]], list[tuple[str, Study]]]:
    """The studies aligned gained and lost most on against SFT, with the change as text; ties by study id."""
    moves = []
    for study in studies:
        before = scores.get(("sft", study.study_id), {}).get(metric)
        after = scores.get(("aligned", study.study_id), {}).get(metric)
        if before is not None and after is not None:
            moves.append((after - before, study))
    up = sorted((m for m in moves if m[0] > 0), key=lambda m: (-m[0], m[1].study_id))[:EXTREMES]
    down = sorted((m for m in moves if m[0] < 0), key=lambda m: (m[0], m[1].study_id))[:EXTREMES]
    gains, losses = (down, up) if lower_is_better else (up, down)
    return [(signed(d), s) for d, s in gains], [(signed(d), s) for d, s in losses]


def case_view(study: Study, rows: Sequence[str], inputs: Inputs, metrics: Sequence[str]) -> dict[str, Any]:
    """One study with its texts; ``pieces`` is None where a row has no text for it."""
    reference = study.sections.impression or ""
    texts = []
    for row in rows:
        text = inputs.texts.get((row, study.study_id))
        scores = inputs.scores.get((row, study.study_id), {})
        pieces: tuple[Piece, ...] | None = None if text is None else diff_words(reference, text)
        values = [(METRIC_LABELS.get(m, m), hundredths(v)) for m in metrics if (v := scores.get(m)) is not None]
        texts.append({"label": ROW_LABELS.get(row, row), "pieces": pieces, "empty": text == "", "scores": values})
    return {
        "id": study.study_id,
        "kind": kind(study),
        "codes": study.codes,
        "findings": study.sections.findings,
        "reference": reference,
        "texts": texts,
    }


# ---- how the run was made --------------------------------------------------------------------------------------------


def status(inputs: Inputs) -> dict[str, str]:
    """finished when every stage before the page is done; otherwise what STATUS.json says."""
    waiting = [s for s in STAGES if s != "report" and s not in inputs.done]
    if not waiting:
        return {"state": "finished", "text": "finished"}
    state, why = inputs.status.get("state", "unknown"), inputs.status.get("why")
    state = "incomplete" if state == "finished" or inputs.status.get("stage") == "report" else state
    return {"state": state, "text": f"{state}; not done yet: {', '.join(waiting)}" + (f" ({why})" if why else "")}


def missing_parts(inputs: Inputs) -> dict[str, str]:
    """A sentence for each part of the page that the folder cannot fill yet; "" where it can."""
    stages = {row["stage"] for row in inputs.metrics}
    said = dict.fromkeys(("results", "sft", "align", "cases", "data"), "")
    if "sft" not in stages:
        said["sft"] = "No supervised fine-tuning has been logged in this run yet."
    if "align" not in stages:
        said["align"] = "No alignment has been logged in this run yet."
    if inputs.evaluation is None:
        said["results"] = "The test set has not been evaluated yet, so there is no table."
    if not inputs.studies:
        said["cases"] = "The test studies have not been prepared yet."
    elif not inputs.texts:
        said["cases"] = "No impressions have been generated yet; only the radiologists' own are shown."
    if not inputs.counts:
        said["data"] = "The data have not been prepared yet."
    return said


def counts_blocks(counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Nested counts as blocks: a grid where a mapping holds alike mappings (splits), else name and value pairs."""
    loose = {k: v for k, v in counts.items() if not isinstance(v, Mapping)}
    blocks: list[dict[str, Any]] = [{"title": "Overall", "pairs": _pairs(loose)}] if loose else []
    for name, part in counts.items():
        if not isinstance(part, Mapping) or not part:
            continue
        title = _words(name)
        if all(isinstance(v, Mapping) and not any(isinstance(x, Mapping) for x in v.values()) for v in part.values()):
            columns = list(dict.fromkeys(k for v in part.values() for k in v))
            lines = [(_words(k), [count_text(c, v[c]) if c in v else "–" for c in columns]) for k, v in part.items()]
            blocks.append({"title": title, "columns": [_words(c) for c in columns], "lines": lines})
        else:
            blocks.append({"title": title, "pairs": _pairs(part)})
    return blocks


def _pairs(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += _pairs(value, f"{prefix}{_words(key)}: ")
        else:
            pairs.append((prefix + _words(key), count_text(key, value)))
    return pairs


def _words(key: str) -> str:
    return str(key).replace("_", " ")


def is_share(key: str) -> bool:
    """Whether a key names a fraction of 1, by its words: normal_share_used, distinct_frac."""
    return not SHARES.isdisjoint(key.split("_"))


def count_text(key: str, value: Any) -> str:
    """A count, share, list or word for the page. Keys with the word share or frac are fractions, shown as percent."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{100 * value:.1f} %" if is_share(key) else f"{value:,.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(count_text(key, v) for v in value)
    return str(value)


_MEMORY = {"_bytes": 1 / 2**30, "_kib": 1 / 2**20, "_mib": 1 / 2**10, "_gib": 1.0, "_gb": 1e9 / 2**30}


def stage_view(stage: str, facts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Time, peak memory and whatever else a stage recorded."""
    if facts is None:
        return {"stage": stage, "done": False, "time": "–", "memory": "–", "attempt": "–", "other": ""}
    memory = [
        f"{value * factor:.2f} GiB"
        for key, value in facts.items()
        for suffix, factor in _MEMORY.items()
        if "peak" in key and key.endswith(suffix) and _is_number(value)
    ]
    told = ("stage", "attempt", "seconds", "fingerprint")  # the last stands with the data
    plain = {k: v for k, v in facts.items() if k not in told and "peak" not in k}
    return {
        "stage": stage,
        "done": True,
        "time": duration(facts["seconds"]) if _is_number(facts.get("seconds")) else "–",
        "memory": ", ".join(memory) or "–",
        "attempt": facts.get("attempt", "–"),
        "other": "; ".join(f"{k} {v}" for k, v in _pairs(plain)),
    }


# ---- numbers as text -------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Seconds as people say them: 8.3 s, 5 min 02 s, 1 h 07 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(text: str | None) -> str:
    """An ISO time as people write it, to the minute: 2026-01-05 09:30 UTC; a dash for none."""
    if text is None:
        return "–"
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def hundredths(value: float) -> str:
    """A value in [0, 1] as x 100 with one decimal and a true minus sign; never −0.0."""
    return hundredfold(value).replace("-", "−")


def signed(value: float | None) -> str:
    """A difference of values in [0, 1], x 100, with its sign; 0.0 has none."""
    return hundredfold(value, sign=True).replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """``[low, high]`` x 100."""
    return "[–]" if low is None or high is None else f"[{hundredths(low)}, {hundredths(high)}]"


def p_text(p: float | None) -> str:
    """``p = 0.032``, ``p < 0.001``, or nothing when there is none."""
    if p is None:
        return ""
    text = p_value(p)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def _json(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return read_jsonl(path) if path.exists() else iter(())
