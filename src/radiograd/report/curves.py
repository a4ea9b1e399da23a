"""The training curves: which logged keys make which chart, and the points of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from radiograd.charts import Series, line_chart
from radiograd.config import DPOConfig, GRPOConfig, RunConfig
from radiograd.report.inputs import Inputs
from radiograd.report.wording import METRIC_LABELS, is_number, is_share

_ORDINARY = {"stage", "step", "attempt", "time", "drift_alarm"}
_ELSEWHERE = ("monitor/", "weights/")  # shown with the guard and with the token weights
_SPARSE = 0.8
_SHARES = ("seconds/reward_share", "seconds/weights_share")
_REWARD_FACTS = ("reward/total", "reward/total_std", "reward/unscored_frac", "reward/skipped_frac", "reward/phase")
_KNOWN_CHARTS: list[tuple[list[str], str, str, bool]] = [
    (["margin"], "Margin: implicit reward of chosen − rejected", "", False),
    (["accuracy"], "Chosen above rejected", "% of pairs", True),
    (["chosen_drift_token", "rejected_drift_token"], "Change against the SFT model", "nats per token", False),
    (["chosen_drift", "rejected_drift"], "Change against the SFT model", "nats per text", False),
    (["chosen_logp_token", "rejected_logp_token"], "Log-probability", "nats per token", False),
    (["chosen_logp", "rejected_logp"], "Log-probability", "nats per text", False),
    (["anchor"], "Anchor", "nats", True),
    (["critical/reward", "normal/reward"], "Reward, critical and normal cases", "", False),
    (["critical/clip_share", "normal/clip_share"], "Clipped, critical and normal cases", "% of tokens", True),
    (["critical/ratio_max", "normal/ratio_max"], "Largest |ratio − 1|, critical and normal cases", "", True),
    (["critical/kl", "normal/kl"], "KL to the SFT model, critical and normal cases", "nats per token", True),
    (
        ["critical/kl_completion", "normal/kl_completion"],
        "KL to the SFT model, critical and normal cases",
        "nats per text",
        True,
    ),
    (["critical/share"], "Critical cases", "% of completions", True),
    (["kl"], "KL to the SFT model", "nats per token", False),
    (["kl_completion"], "KL to the SFT model", "nats per text", False),
    (["entropy"], "Entropy", "nats per token", False),
    (["words_mean"], "Length", "words", False),
    (["tokens_mean"], "Length", "tokens", False),
    (["clip_share"], "Clipped tokens", "% of tokens", True),
    (["ratio_max"], "Largest |ratio − 1|", "", False),
    (["dead_groups"], "Dead groups", "% with equal rewards", True),
    (["distinct_frac"], "Distinct completions", "% of completions", True),
    (["truncated_frac"], "Cut at the token limit", "% of completions", True),
    (["reward/unscored_frac"], "Unscored completions", "% of completions", True),
    (["reward/skipped_frac"], "Completions that a term skipped", "% of completions", True),
    (["reward/phase"], "Phase of the reward", "", False),
    (["reward/total_std"], "Spread of the reward (std)", "", True),
    (["grad_norm"], "Gradient norm", "", True),
    (["lr"], "Learning rate", "", True),
]


def training(inputs: Inputs, stage: str) -> dict[str, Any] | None:
    """The charts of one training stage; None when it logged nothing."""
    rows = sorted((r for r in inputs.metrics if r["stage"] == stage), key=lambda r: r["step"])
    logged = dict.fromkeys(k for r in rows for k, v in r.items() if k not in _ORDINARY and is_number(v))
    present = [key for key in logged if not key.startswith(_ELSEWHERE)]
    charts = []
    resumed = [b["step"] for a, b in pairwise(rows) if b["attempt"] != a["attempt"]]
    for keys, title, unit, zero_based in chart_plan(present, _terms(inputs.run.config)):
        factor = 100.0 if unit.startswith("%") else 1.0
        series = [Series(_name(k), points(rows, k, factor)) for k in keys]
        if "chosen_drift_token" in keys:
            series += _alarm_line(rows, inputs.run.config)
        svg = line_chart(series, title, unit, "step", zero_based, resumed)
        charts.append({"title": title, "unit": unit, "svg": svg})
    if not charts:
        return None
    title = "Supervised fine-tuning" if stage == "sft" else "Alignment"
    if stage == "align" and inputs.run.config.align.type == "sft":
        title = "More supervised fine-tuning"
    return {"stage": stage, "title": title, "steps": len(rows), "charts": charts, "resumed": len(resumed)}


def _terms(config: RunConfig) -> Sequence[str]:
    return config.align.terms if isinstance(config.align, GRPOConfig) else ()


def _name(key: str) -> str:
    """What a curve is called in a chart of several."""
    side = key.partition("/" if "/" in key else "_")[0]
    if side in ("chosen", "rejected", "critical", "normal"):
        return side
    term = key.removeprefix("variance_share/")
    return METRIC_LABELS.get(term, term) if term != key else key.removeprefix("seconds/")


def _alarm_line(rows: Sequence[Mapping[str, Any]], config: RunConfig) -> list[Series]:
    """Where the chosen texts of a preference optimisation set off the alarm, once they come halfway to it."""
    if not isinstance(config.align, DPOConfig):
        return []
    level = -config.align.drift_alarm
    lowest = min(row["chosen_drift_token"] for row in rows if is_number(row.get("chosen_drift_token")))
    if lowest > level / 2:
        return []
    return [Series("alarm", [(float(rows[0]["step"]), level), (float(rows[-1]["step"]), level)])]


def chart_plan(keys: Sequence[str], terms: Sequence[str]) -> Iterator[tuple[list[str], str, str, bool]]:
    """(keys, title, unit, axis from 0) for every logged key: those we know in reading order, then the rest as named."""
    term_keys = [f"reward/{t}" for t in terms]
    term_keys += [k for k in keys if k.startswith("reward/") and k not in (*term_keys, *_REWARD_FACTS)]
    labels = [k.removeprefix("reward/") for k in term_keys]
    shares = [k for k in keys if k.startswith("variance_share/")]
    plan = [
        (["reward/total"], "Reward, weighted mean of its terms", "", False),
        *(([k], f"Reward term: {METRIC_LABELS.get(t, t)}", "", False) for k, t in zip(term_keys, labels, strict=True)),
        (shares, "What moves the policy: share of the variance inside groups", "%", False),
        (["loss"], "Loss", "", False),
        *_KNOWN_CHARTS,
        ([k for k in keys if k.startswith("seconds/") and k not in _SHARES], "Time per step", "s", True),
        ([_SHARES[0]], "Waited for the reward", "% of the time", True),
        ([_SHARES[1]], "Weighing tokens", "% of the time", True),
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


def points(rows: Sequence[Mapping[str, Any]], key: str, factor: float = 1.0) -> list[tuple[float, float | None]]:
    """(step, value) of one key. A value missing from a key that is logged nearly every row is a gap; a key logged now
    and then has only the points it has."""
    found = [(float(r["step"]), factor * r[key] if is_number(r.get(key)) else None) for r in rows]
    known = [point for point in found if point[1] is not None]
    return found if len(known) >= _SPARSE * len(found) else known
