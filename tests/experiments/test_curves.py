"""The lines over a number that an experiment asks for, on a table made by hand."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from radiograd.experiments.showing import curves


def table(metric: str, xs: list[float]) -> dict[str, Any]:
    value = {"mean": 0.5, "low": 0.4, "high": 0.6}
    return {
        "metrics": [metric],
        "strata": ["all"],
        "rows": [{"label": f"row {x}", "system": "aligned", "strata": {"all": {metric: value}}} for x in xs],
        "curve": {"x": "studies", "lines": {"drawn": {str(x): f"row {x}" for x in xs}}, "level": None, "metrics": []},
    }


@pytest.mark.parametrize("xs", [[100, 12500.0, 2_000_000], [0.00002, 100 / 3, 33.34]])
def test_points_may_stand_at_any_number_above_0(xs: list[float]) -> None:
    drawn = curves(table("rougeL", xs))
    svg = ElementTree.fromstring(drawn["rougeL"])
    points = [dot for dot in svg.iter("{http://www.w3.org/2000/svg}circle") if dot.get("class") == "dot s0"]
    places = [float(dot.get("cx", "")) for dot in points]
    assert len(places) == len(xs)
    assert places == sorted(places)
    assert places[0] < places[1]
