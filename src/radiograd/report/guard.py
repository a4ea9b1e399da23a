"""Whether the reward was gamed: the looks at the gold panel while the policy was optimised, and the step monitors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from radiograd.charts import Series, line_chart
from radiograd.config import GRPOConfig
from radiograd.monitor import POSITIVES_BAND
from radiograd.report.curves import points
from radiograd.report.inputs import Inputs
from radiograd.report.wording import METRIC_LABELS, hundredths, listed, signed

MONITOR = "monitor/"
"""Logged keys that start so are shown here and not among the training curves."""

Line = tuple[str, float]


def guard_panel(inputs: Inputs) -> dict[str, Any] | None:
    """The sentences, charts and table; None for a run that is not aligned by a reward, or not yet."""
    align = inputs.run.config.align
    if not isinstance(align, GRPOConfig):
        return None
    looks, charts = inputs.looks, [*_gold_charts(inputs.looks), *_monitor_charts(inputs.metrics)]
    if not looks and not charts and "align" not in inputs.done:
        return None
    panel = list(looks[0]["metrics"]) if looks else []
    return {
        "sentences": _sentences(inputs, align),
        "stopped": bool(looks and looks[-1]["stop"]),
        "charts": charts,
        "fall": f"{align.guard.fall:g}",
        "panel": listed([METRIC_LABELS.get(name, name) for name in panel]) if panel else "",
        "columns": [METRIC_LABELS.get(name, name) for name in panel],
        "lines": [_line(look, panel) for look in looks],
    }


def _sentences(inputs: Inputs, align: GRPOConfig) -> list[dict[str, str]]:
    """Each with a tone: collapsed (bad), leans (to be watched) or varied (good), as in the part on templates."""
    if not inputs.looks:
        why = "it was switched off" if not align.guard.every else "too few validation studies, or not begun"
        return [{"tone": "leans", "text": f"Nobody looked at a gold panel ({why}): this page cannot say."}]
    last, n = inputs.looks[-1], len(inputs.looks[-1]["studies"])
    told = []
    if last["alarm"]:
        told.append(
            ("collapsed", f"Yes. Training was stopped at step {last['step']}: {last['why']}. {_returned(last)}")
        )
    elif last["stop"]:
        told.append(("leans", f"Training was stopped at step {last['step']}: {last['why']}. {_returned(last)}"))
    else:
        done = "so far" if "align" not in inputs.done else "up to the end"
        told.append(
            (
                "varied",
                f"No alarm in {len(inputs.looks)} looks at {n} validation studies {done}. The panel was best at step "
                f"{last['best_step']}; {_end(last, align)}",
            )
        )
    ratio = last["monitors"].get("positives_ratio")
    if "positives_ratio" in last["strays"]:
        told.append(
            ("leans", f"At the last look the policy stated {ratio:.2f} findings for each one the radiologists state.")
        )
    return [{"tone": tone, "text": text} for tone, text in told]


def _returned(last: Mapping[str, Any]) -> str:
    best = last["best_step"]
    return f"The aligned model is the policy of step {best}, the best look" + (
        ": the SFT model itself." if best == 0 else "."
    )


def _end(last: Mapping[str, Any], align: GRPOConfig) -> str:
    if last["best_step"] == last["step"] or last["difference"] is None:
        return "that is the policy this run ended with."
    off, se = signed(last["difference"]), hundredths(last["difference_se"])
    far = f"the last look lies {off} points off that (standard error {se})."
    return f"{far} {_returned(last)}" if align.guard.keep == "best" else far


def _gold_charts(looks: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    if not looks:
        return []
    marks = [looks[-1]["best_step"]]
    return [
        _chart("Gold panel and reward, same texts", "", looks, {"gold": "gold panel", "proxy": "reward"}, marks=marks),
        _chart("KL to the SFT model", "nats per text", looks, {"kl": "KL"}, marks=marks),
    ]


def _monitor_charts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    logged = [row for row in rows if row["stage"] == "align" and any(key.startswith(MONITOR) for key in row)]
    if not logged:
        return []
    theirs = [
        row[f"{MONITOR}template_share_reference"] for row in logged if f"{MONITOR}template_share_reference" in row
    ]
    first = next((row[f"{MONITOR}distinct_2"] for row in logged if f"{MONITOR}distinct_2" in row), None)
    band = [(f"{sign}{100 * POSITIVES_BAND:.0f} %", 1 + way * POSITIVES_BAND) for sign, way in (("+", 1), ("−", -1))]
    wanted: list[tuple[str, str, str, list[Line]]] = [
        ("positives_ratio", "Findings stated, against the radiologists’", "ratio", band),
        ("words_ratio", "Words, against the radiologists’", "ratio", [("theirs", 1.0)]),
        ("template_share", "Templates", "share of texts", [("theirs", sum(theirs) / len(theirs))] if theirs else []),
        ("distinct_2", "Different word pairs", "share of pairs", [] if first is None else [("first rollout", first)]),
    ]
    found = [
        _chart(title, unit, logged, {MONITOR + key: "completions"}, lines)
        for key, title, unit, lines in wanted
        if any(MONITOR + key in row for row in logged)
    ]
    return found


def _chart(
    title: str,
    unit: str,
    rows: Sequence[Mapping[str, Any]],
    keys: Mapping[str, str],
    lines: Sequence[Line] = (),
    marks: Sequence[float] = (),
) -> dict[str, str]:
    first, last = float(rows[0]["step"]), float(rows[-1]["step"])
    series = [
        Series(name, points(rows, key)) for key, name in keys.items() if any(row.get(key) is not None for row in rows)
    ]
    series += [Series(name, [(first, level), (last, level)]) for name, level in lines]
    return {"title": title, "unit": unit, "svg": line_chart(series, title, unit, "step", False, marks)}


def _line(look: Mapping[str, Any], panel: Sequence[str]) -> dict[str, Any]:
    def shown(value: float | None) -> str:
        return "–" if value is None else hundredths(value)

    return {
        "step": look["step"],
        "best": look["best_step"] == look["step"],
        "gold": shown(look["gold"]),
        "gold_se": shown(look["gold_se"]),
        "difference": "–" if look["difference"] is None else signed(look["difference"]),
        "difference_se": shown(look["difference_se"]),
        "proxy": "–" if look["proxy"] is None else f"{look['proxy']:.3f}",
        "rollouts": "–" if look["rollouts"] is None else f"{look['rollouts']:.3f}",
        "kl": "–" if look["kl"] is None else f"{look['kl']:.2f}",
        "metrics": [shown(look["metrics"][name]) for name in panel],
    }
