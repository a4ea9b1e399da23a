"""How the run was made: how far it came, what is missing, what the data held and what each stage took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radiograd.report.inputs import Inputs
from radiograd.report.wording import duration, is_number, is_share
from radiograd.runs import stages_of

_MEMORY = {"_bytes": 1 / 2**30, "_kib": 1 / 2**20, "_mib": 1 / 2**10, "_gib": 1.0, "_gb": 1e9 / 2**30}


def status(inputs: Inputs) -> dict[str, str]:
    """finished when every stage before the page is done; otherwise what STATUS.json says."""
    waiting = [s for s in stages_of(inputs.run.config) if s != "report" and s not in inputs.done]
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
    if "align" not in stages and "align" in stages_of(inputs.run.config):
        said["align"] = "No alignment has been logged in this run yet."
    if inputs.evaluation is None:
        said["results"] = "The test set has not been evaluated yet, so there is no table."
    if not inputs.studies:
        said["cases"] = "The test studies have not been prepared yet."
    elif not inputs.texts:
        said["cases"] = f"No {inputs.section}s have been generated yet; only the radiologists' own are shown."
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


def stage_view(stage: str, facts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Time, peak memory and whatever else a stage recorded."""
    if facts is None:
        return {"stage": stage, "done": False, "time": "–", "memory": "–", "attempt": "–", "other": ""}
    memory = [
        f"{value * factor:.2f} GiB"
        for key, value in facts.items()
        for suffix, factor in _MEMORY.items()
        if "peak" in key and key.endswith(suffix) and is_number(value)
    ]
    # the last three stand with the data and the pairs
    told = ("stage", "attempt", "seconds", "fingerprint", "statistics", "signature")
    plain = {k: v for k, v in facts.items() if k not in told and "peak" not in k}
    return {
        "stage": stage,
        "done": True,
        "time": duration(facts["seconds"]) if is_number(facts.get("seconds")) else "–",
        "memory": ", ".join(memory) or "–",
        "attempt": facts.get("attempt", "–"),
        "other": "; ".join(f"{k} {v}" for k, v in _pairs(plain)),
    }
