"""table.json -> table.md, what a terminal shows, and plot.svg. Nothing is computed here but what is written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from radiograd import tables
from radiograd.charts import Interval, interval_curves, interval_plot, standalone
from radiograd.runs import write_json, write_text

STRATA = {"all": "All", "normal": "Normal", "abnormal": "Abnormal"}


def write_table(table: Mapping[str, Any], root: Path) -> None:
    """table.json, table.md and, once there is something to draw, plot.svg and the curves, each whole."""
    write_json(root / "table.json", table)
    write_text(root / "table.md", as_markdown(table))
    svg = plot(table)
    if svg is not None:
        write_text(root / "plot.svg", svg)
    for name, drawn in curves(table).items():
        write_text(root / f"curve-{name.replace('/', '-')}.svg", drawn)


def as_markdown(table: Mapping[str, Any]) -> str:
    """Everything, as Markdown."""
    return _render(table, markdown=True)


def as_text(table: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    return _render(table, markdown=False)


def _render(table: Mapping[str, Any], *, markdown: bool) -> str:
    grid_text = tables.markdown if markdown else tables.text
    parts = [_head(table["title"], markdown, 1)]
    if table["question"]:
        parts.append(table["question"] + "\n")
    parts.append(_progress(table))
    for kind in table["strata"]:
        grid = results_grid(table, kind)
        if len(grid) > 1:
            title = f"{_stratum(kind)} test studies, x 100 [95% interval by patient]"
            parts += [_head(title, markdown, 2), grid_text(grid)]
    for kind in table["strata"]:
        grid = paired_grid(table, kind)
        if len(grid) > 1:
            title = f"Paired differences, {_stratum(kind).lower()} test studies, x 100 [95% interval]"
            parts += [_head(title, markdown, 2), grid_text(grid)]
    for title, grid in (("Each seed", seeds_grid(table)), ("Differences of each seed", paired_seeds_grid(table))):
        if len(grid) > 1:
            parts += [
                _head(f"{title}, {_stratum(table['strata'][0]).lower()} test studies", markdown, 2),
                grid_text(grid),
            ]
    grid = preferences_grid(table)
    if len(grid) > 1:
        title = "What judges prefer, share of duels x 100 [95% interval]"
        parts += [_head(title, markdown, 2), grid_text(grid), _judges_note(table)]
    if table["paper"]:
        title = "Beside the paper" if table["paper"]["beside"] else "The paper's own rows"
        parts += [_head(title, markdown, 2), grid_text(paper_grid(table)), _paper_note(table)]
    for title, lines in (
        ("Not there yet", _unfinished(table)),
        ("Left out", [f"{name}: {why}" for name, why in table["left_out"].items()]),
        ("Shared work", _shared(table)),
        ("How to read this", _reading(table)),
    ):
        if lines:
            parts += [_head(title, markdown, 2), "".join(f"- {line}\n" for line in lines)]
    return "\n".join(parts)


def _head(title: str, markdown: bool, level: int) -> str:
    return f"{'#' * level} {title}\n" if markdown else title


def _stratum(kind: str) -> str:
    return STRATA.get(kind, kind)


def _progress(table: Mapping[str, Any]) -> str:
    done = sum(facts["state"] == "finished" for facts in table["runs"].values())
    said = f"{done} of {len(table['runs'])} runs are finished."
    return said + (f" Changed on the command line: {' '.join(table['overrides'])}.\n" if table["overrides"] else "\n")


# ---- grids -----------------------------------------------------------------------------------------------------------


def results_grid(table: Mapping[str, Any], kind: str) -> tables.Grid:
    """Rows x metrics with intervals, and what each policy cost."""
    metrics = [name for name in table["metrics"] if any(name in _of(row, kind) for row in table["rows"])]
    lower = {name for row in table["rows"] for name, entry in _of(row, kind).items() if not entry["higher_is_better"]}
    if not metrics:
        return [[]]
    heads = [f"{name} ↓" if name in lower else name for name in metrics]
    grid = [["row", "seeds", "n", "unscored", *heads, "tokens (M)", "minutes"]]
    for row in table["rows"]:
        found = _of(row, kind)
        n = min((entry["n"] for entry in found.values()), default=None)
        unscored = max((entry["unscored"] for entry in found.values()), default=None)
        cells = [tables.value_cell(found[name]) if name in found else tables.UNKNOWN for name in metrics]
        cost = row["cost"]
        grid.append(
            [
                row["label"],
                _seeds(row),
                tables.UNKNOWN if n is None else str(n),
                tables.UNKNOWN if unscored is None else str(unscored),
                *cells,
                tables.UNKNOWN if cost is None else f"{cost['tokens'] / 1e6:.2f}",
                tables.UNKNOWN if cost is None else f"{cost['minutes']:.1f}",
            ]
        )
    return grid


def seeds_grid(table: Mapping[str, Any]) -> tables.Grid:
    """Each seed's own values, for rows with several."""
    kind = table["strata"][0]
    grid = [["row", "seed", *table["metrics"]]]
    for row in table["rows"]:
        if len(row["seeds"]) < 2:
            continue
        found = _of(row, kind)
        for seed in row["seeds"]:
            of_seed = {name: entry["seeds"][str(seed)] for name, entry in found.items()}
            cells = [
                tables.hundredfold(of_seed[name]["mean"]) if name in of_seed else tables.UNKNOWN
                for name in table["metrics"]
            ]
            grid.append([row["label"], str(seed), *cells])
    return grid


def paired_grid(table: Mapping[str, Any], kind: str) -> tables.Grid:
    """The compared pairs x metrics; ``*`` where p is below 0.05 after Holm's correction."""
    entries = [entry for entry in table["paired"] if entry["stratum"] == kind]
    names = [name for name in table["metrics"] if any(entry["metric"] == name for entry in entries)]
    grid = [["a", "b", "n", *names]]
    for a, b in dict.fromkeys((entry["a"], entry["b"]) for entry in entries):
        found = {entry["metric"]: entry for entry in entries if (entry["a"], entry["b"]) == (a, b)}
        cells = [_difference(found[name]) if name in found else tables.UNKNOWN for name in names]
        grid.append([a, b, str(min(entry["n"] for entry in found.values())), *cells])
    return grid


def _difference(entry: Mapping[str, Any]) -> str:
    sure = entry["p_holm"] is not None and entry["p_holm"] < 0.05
    return tables.difference_cell(entry) + (" *" if sure else "")


def paired_seeds_grid(table: Mapping[str, Any]) -> tables.Grid:
    """Each seed's own differences, for pairs with several."""
    kind = table["strata"][0]
    grid = [["a", "b", "seed", *table["metrics"]]]
    entries = [entry for entry in table["paired"] if entry["stratum"] == kind and len(entry["seeds"]) > 1]
    for a, b in dict.fromkeys((entry["a"], entry["b"]) for entry in entries):
        found = {entry["metric"]: entry for entry in entries if (entry["a"], entry["b"]) == (a, b)}
        for seed in next(iter(found.values()))["seeds"]:
            differences = [
                found[name]["seeds"][seed]["difference"] if name in found else None for name in table["metrics"]
            ]
            grid.append([a, b, seed, *(tables.hundredfold(one, sign=True) for one in differences)])
    return grid


def preferences_grid(table: Mapping[str, Any]) -> tables.Grid:
    """Wins, ties and losses of each compared pair."""
    grid = [["judge", "a", "b", "a wins", "tie", "b wins", "a wins - b wins", "n", "unscored", "contradicted"]]
    for entry in table["preferences"]:
        net = {**entry["net"], "difference": entry["net"]["mean"]}
        cells = [tables.value_cell(entry[name]) for name in ("win", "tie", "loss")]
        mark = " (!)" if entry["judges_its_own"] else ""
        counts = [str(entry["net"]["n"]), str(entry["unscored"]), str(entry["contradicted"])]
        grid.append([entry["judge"] + mark, entry["a"], entry["b"], *cells, tables.difference_cell(net), *counts])
    return grid


def paper_grid(table: Mapping[str, Any]) -> tables.Grid:
    """Each of the paper's numbers with ours beside it; ``!`` marks one that no texts can have."""
    names = list(dict.fromkeys(name for line in table["paper"]["rows"] for name in line["paper"]))
    beside = table["paper"]["beside"]
    whose = ("paper", "ours") if beside else ("paper",)
    grid = [["row", *(f"{name}, {one}" for name in names for one in whose)]]
    for line in table["paper"]["rows"]:
        cells = []
        for name in names:
            printed = line["paper"].get(name)
            mark = " !" if name in line["impossible"] else ""
            cells.append(tables.UNKNOWN if printed is None else f"{printed:.1f}{mark}")
            ours = line["ours"].get(name)
            if beside:
                cells.append(tables.UNKNOWN if ours is None else tables.hundredfold(ours["mean"]))
        grid.append([line["label"], *cells])
    return grid


def _of(row: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = row["strata"].get(kind, {})
    return found


def _seeds(row: Mapping[str, Any]) -> str:
    done, planned = len(row["seeds"]), len(row["planned_seeds"])
    return str(done) if done == planned else f"{done} of {planned}"


# ---- words -----------------------------------------------------------------------------------------------------------


def _judges_note(table: Mapping[str, Any]) -> str:
    lines = []
    for entry in table["preferences"]:
        if entry["judges_its_own"]:
            lines.append(
                f"(!) {entry['judge']} also made the pairs that {', '.join(entry['judges_its_own'])} was trained on: "
                "it judges its own work, and its preference is no independent evidence"
            )
    lines = list(dict.fromkeys(lines))
    blind = sorted({entry["judge"] for entry in table["preferences"] if not entry["sees_reference"]})
    lines += [f"{name} is not shown the radiologist's impression" for name in blind]
    lines.append(
        "Every duel is asked in both orders; a judge that names another side in each is contradicted, and that is a tie"
    )
    return "".join(f"- {line}.\n" for line in lines)


def _paper_note(table: Mapping[str, Any]) -> str:
    paper = table["paper"]
    wrong = [
        f"{line['label']}: {why} ({', '.join(_printed(line['paper'], name) for name in _involved(name))})"
        for line in paper["rows"]
        for name, why in line["impossible"].items()
    ]
    lines = [f"The paper: {paper['source']}", *([paper["note"]] if paper["note"] else [])]
    if wrong:
        lines.append(f"! No scores of texts can stand so in one row: {'; '.join(wrong)}")
    return "".join(f"- {line.rstrip('.')}.\n" for line in lines)


def _printed(numbers: Mapping[str, float], name: str) -> str:
    return f"{name} {numbers[name]:.3f}"


def _involved(name: str) -> Sequence[str]:
    return ("rouge1", "rougeL") if name == "rougeL" else ("bertscore.precision", "bertscore.recall", "bertscore")


def _unfinished(table: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {facts['why']}" for name, facts in table["runs"].items() if facts["state"] != "finished"]


def _shared(table: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {', '.join(facts['took_over'])} from {next(iter(facts['took_over'].values()))['run']}"
        for name, facts in table["runs"].items()
        if facts["took_over"]
    ]


def _reading(table: Mapping[str, Any]) -> list[str]:
    several = any(len(row["planned_seeds"]) > 1 for row in table["rows"])
    lines = [
        f"Intervals: {table['bootstrap']['resamples']} bootstrap resamples of patients. They say how a number would "
        "move with other patients, not with other seeds.",
        "tokens (M): trained on, in millions; minutes: of training and, for preferences, of making the pairs. Work "
        "that was copied from another run counts in every row that rests on it.",
        "unscored: cases that a metric could not score (no number stands for them).",
        "*: p below 0.05 (two-sided, by bootstrap) after Holm's correction for all metrics and pairs of the same "
        "studies; every p stands in table.json.",
    ]
    if several:
        lines.insert(1, "Several seeds: the mean of their values; each seed's own values stand below.")
    trivial = next((row for row in table["rows"] if row["trivial"]), None)
    if trivial:
        lines.append(f"Trivial rows are built from the training studies of the cell {trivial['cell']}.")
    kind = table["strata"][0]
    signatures = dict.fromkeys(entry["signature"] for row in table["rows"] for entry in _of(row, kind).values())
    return [*lines, *table["notes"], *(f"`{signature}`" for signature in signatures)]


# ---- plot ------------------------------------------------------------------------------------------------------------


def plot(table: Mapping[str, Any]) -> str | None:
    """The first metric of every row with its interval, as SVG that stands by itself; None with nothing to draw."""
    metric, kind = table["metrics"][0], table["strata"][0]
    rows = [found for row in table["rows"] if (found := _interval(row, kind, metric)) is not None]
    if not rows:
        return None
    widest = max(len(row.label) for row in rows)
    svg = interval_plot(rows, f"{metric}, {_stratum(kind).lower()} test studies", label_width=max(136.0, 6.2 * widest))
    return standalone(svg)


def curves(table: Mapping[str, Any]) -> dict[str, str]:
    """Metric -> the lines that the experiment asks for, as SVG that stands by itself; only where there is something to
    draw."""
    asked = table.get("curve")
    if not asked:
        return {}
    drawn = {metric: _curve(table, asked, metric) for metric in asked["metrics"] or table["metrics"][:1]}
    return {metric: svg for metric, svg in drawn.items() if svg is not None}


def _curve(table: Mapping[str, Any], asked: Mapping[str, Any], metric: str) -> str | None:
    kind = table["strata"][0]
    known = {row["label"]: found for row in table["rows"] if (found := _interval(row, kind, metric)) is not None}
    lines = {
        name: [replace(known[label], label=f"{float(x):.12g}") for x, label in points.items() if label in known]
        for name, points in asked["lines"].items()
    }
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return None
    title = f"{metric}, {_stratum(kind).lower()} test studies"
    return standalone(interval_curves(lines, title, asked["x"], known.get(asked["level"])))


def _interval(row: Mapping[str, Any], kind: str, metric: str) -> Interval | None:
    """A row's value with its interval, x 100; None where it has none."""
    entry = _of(row, kind).get(metric)
    if entry is None or entry["mean"] is None or entry["low"] is None:
        return None
    mean, low, high = (100 * entry[name] for name in ("mean", "low", "high"))
    return Interval(row["label"], mean, low, high, tables.value_cell(entry), row["system"] == "aligned")
