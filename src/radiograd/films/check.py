"""What a set of films looks like before anything is trained on it: counts, sizes, and each file that cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from radiograd.films.index import Indexed
from radiograd.types import Problem

COMMON = 10
"""Sizes that are shown one by one."""
SHOWN = 20
"""Problems that are shown one by one; JSON has them all."""


def describe(rows: Iterable[Indexed | Problem]) -> dict[str, Any]:
    """Counts that can be written as JSON. Memory grows with the number of different sizes and of problems only.

    ``sizes``: the COMMON most common, largest count first; ``width`` and ``height``: (least, most), None of no films.
    """
    formats: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    problems: list[dict[str, str]] = []
    for row in rows:
        if isinstance(row, Problem):
            problems.append({"file": row.where, "why": row.why})
        else:
            formats[row.format] += 1
            sizes[row.width, row.height] += 1
    common = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:COMMON]
    return {
        "films": formats.total(),
        "formats": dict(sorted(formats.items())),
        "sizes": [{"width": width, "height": height, "films": count} for (width, height), count in common],
        "different_sizes": len(sizes),
        "width": _range(width for width, _ in sizes),
        "height": _range(height for _, height in sizes),
        "problems": problems,
    }


def _range(values: Iterable[int]) -> list[int] | None:
    held = list(values)
    return [min(held), max(held)] if held else None


def render(facts: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    lines = [f"{facts['films']:8,}  films"]
    lines += [f"{count:8,}    {name}" for name, count in facts["formats"].items()]
    if facts["films"]:
        (least_wide, most_wide), (least_high, most_high) = facts["width"], facts["height"]
        lines.append(f"{facts['different_sizes']:8,}  sizes, {least_wide} to {most_wide} x {least_high} to {most_high}")
        lines += [f"{size['films']:8,}    {size['width']} x {size['height']}" for size in facts["sizes"]]
    for key, what in (("passed_over", "passed over"), ("studies_without_film", "studies without a film")):
        counts = facts.get(key)
        if isinstance(counts, Mapping) and counts:
            named = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            lines.append(f"{sum(counts.values()):8,}  {what}: {named}")
        elif isinstance(counts, int) and counts:
            lines.append(f"{counts:8,}  {what}")
    problems = facts["problems"]
    lines.append(f"{len(problems):8,}  cannot be used")
    lines += [f"          {problem['file']}: {problem['why']}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"          and {len(problems) - SHOWN:,} more; --json lists all")
    return "\n".join(lines)
