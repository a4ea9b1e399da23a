"""Where the time of the alignment went, from the seconds that its steps logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from radiograd.report.wording import duration, is_number

PARTS = (
    ("sampling", "seconds/sampling", "the policy writes its completions"),
    ("reward", "seconds/reward", "every term of the reward"),
    ("token weights", "seconds/weights", "what each token of the completions weighs"),
    ("reference", "seconds/scoring", "log-probabilities of the reference, and preparing the batch"),
    ("update, forward", "seconds/forward", "log-probabilities with what the gradient needs, and the loss"),
)
REST = ("update, backward", "gradients, the optimiser, writing files, and whatever is left of a step")


def profile(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Part -> seconds and share of all alignment steps; None when the steps logged no time.

    Parts are measured inside a step; the rest is what the steps took besides, never below 0.
    """
    steps = [row for row in rows if row.get("stage") == "align" and is_number(row.get("seconds/step"))]
    total = sum(row["seconds/step"] for row in steps)
    if not steps or total <= 0:
        return None
    sampled = any("seconds/sampling" in row for row in steps)  # preference optimisation does not
    logged = {key for row in steps for key in row}
    parts = [part for part in PARTS if part[1] in logged or (sampled and part[1] != "seconds/weights")]
    found = [(name, sum(row[key] for row in steps if is_number(row.get(key))), what) for name, key, what in parts]
    found.append((REST[0], max(0.0, total - sum(seconds for _, seconds, _ in found)), REST[1]))
    return {
        "steps": len(steps),
        "total": duration(total),
        "lines": [
            {
                "name": name,
                "what": what,
                "seconds": duration(seconds),
                "share": f"{100 * seconds / total:.1f}",
                "width": round(min(100.0, 100 * seconds / total), 1),
            }
            for name, seconds, what in found
        ],
    }
