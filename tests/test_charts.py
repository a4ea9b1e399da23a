"""Axes, gaps and drawing of the charts, worked by hand."""

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.charts import (
    Interval,
    Series,
    histogram,
    interval_plot,
    known_runs,
    line_chart,
    nice_step,
    nice_ticks,
    number,
    paired_bars,
    scale,
    smooth,
    smoothing_window,
    value_range,
)

SVG = "{http://www.w3.org/2000/svg}"
nan = float("nan")


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_scale_is_linear_and_turns_round_for_a_rising_value_axis():
    assert scale(2.5, 0, 10, 100, 300) == 150  # a quarter of 200 above 100
    assert scale(2.5, 0, 10, 300, 100) == 250
    assert scale(7, 7, 7, 100, 300) == 200  # no span: the middle


def test_steps_are_one_two_two_and_a_half_or_five():
    assert nice_step(10, 4) == 2.5
    assert nice_step(8, 4) == 2
    assert nice_step(0.3, 4) == pytest.approx(0.1)  # 0.075 -> 0.1
    assert nice_step(17, 4) == 5  # 4.25 -> 5


def test_ticks_are_round_numbers_inside_the_ends():
    assert nice_ticks(0, 10) == (0, 2.5, 5, 7.5, 10)
    assert nice_ticks(1, 40, 5, whole=True) == (10, 20, 30, 40)
    assert nice_ticks(1, 4, 5, whole=True) == (1, 2, 3, 4)  # step 0.6 -> 1: a step is not divided
    assert nice_ticks(3, 3) == (3,)


def test_the_value_axis_ends_on_round_numbers():
    assert value_range([0.42, 0.58]) == pytest.approx((0.4, 0.6))  # step 0.16 / 4 -> 0.05: 0.40 to 0.60
    assert value_range([2.0, 3.0], zero_based=True) == (0, 3)  # step 1


def test_a_constant_series_gets_room_on_both_sides():
    low, high = value_range([5.0, 5.0, 5.0])
    assert low <= 4.5 < 5.5 <= high
    assert value_range([0.0, 0.0]) == (-1, 1)
    assert value_range([0.0], zero_based=True) == (0, 1)


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=20), st.booleans())
def test_the_axis_always_holds_every_value_and_two_ticks(values: list[float], zero_based: bool):
    low, high = value_range(values, zero_based)
    room = 1e-6 * max(1.0, abs(low), abs(high))
    assert low - room <= min(values)
    assert max(values) <= high + room
    assert 2 <= len(nice_ticks(low, high)) <= 6


def test_unknown_values_split_a_curve():
    points = [(1, 0.1), (2, None), (3, 0.3), (4, 0.4), (5, nan), (6, math.inf)]
    assert known_runs(points) == [[(1, 0.1)], [(3, 0.3), (4, 0.4)]]
    assert known_runs([(1, None)]) == []


def test_smoothing_is_a_centred_mean():
    # (1+2)/2, (1+2+6)/3, (2+6+3)/3, (6+3)/2
    assert smooth([1, 2, 6, 3], 3) == pytest.approx([1.5, 3, 11 / 3, 4.5])
    assert smooth([1, 2, 6], 1) == [1, 2, 6]


def test_only_long_noisy_curves_are_smoothed():
    assert smoothing_window([0, 1] * 20) == 5  # 40 // 8 = 5, odd
    assert smoothing_window([0, 1] * 5) == 1  # short
    assert smoothing_window([i * 0.5 for i in range(100)]) == 1  # long, but never turns
    assert smoothing_window([1.0] * 100) == 1


def test_numbers_carry_the_decimals_of_their_axis_and_a_true_minus():
    assert number(0.5, 0.25) == "0.50"
    assert number(-20, 10) == "−20"
    assert number(0, 0.05) == "0.00"
    assert number(0.0002, 0.0001) == "2e−4"
    assert number(0.0, 0.0001) == "0"
    assert number(12345) == "12,345"
    assert number(0.98765) == "0.988"


def test_a_chart_is_well_formed_and_says_its_curve():
    svg = drawn(line_chart([Series("loss", [(1, 3.0), (2, 2.0), (3, 1.0)])], "Loss", "nats"))
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "Loss (nats) by step: loss from 3 to 1"
    (line,) = svg.findall(f"{SVG}path")
    # x: 48 to 330, middle 189; y: 154 (bottom) to 12 for the axis 1 to 3
    assert line.get("d") == "M48.0 12.0L189.0 83.0L330.0 154.0"
    tips = [t.text for t in svg.iter(f"{SVG}title")]
    assert tips == ["step 1: 3 nats", "step 2: 2 nats", "step 3: 1 nats"]


def test_a_gap_gives_two_lines_and_a_lone_point_a_dot():
    points = [(1, 1.0), (2, 2.0), (3, None), (4, 1.0), (5, nan), (6, 2.0), (7, 2.5)]
    svg = drawn(line_chart([Series("kl", points)], "KL"))
    assert len(svg.findall(f"{SVG}path")) == 2
    lone = [c for c in svg.findall(f"{SVG}circle") if c.get("r") == "3"]
    assert [c.get("cx") for c in lone] == ["189.0"]  # step 4 of 1 to 7 is the middle


def test_a_single_point_is_drawn_in_the_middle():
    svg = drawn(line_chart([Series("x", [(5, 0.25)])], "One"))
    dot = next(c for c in svg.findall(f"{SVG}circle") if c.get("class") == "dot s0")
    assert dot.get("cx") == "189.0"
    assert svg.findall(f"{SVG}path") == []


def test_a_noisy_curve_has_a_raw_and_a_smoothed_line_and_few_hover_points():
    svg = drawn(line_chart([Series("r", [(i, float(i % 2)) for i in range(500)])], "R"))
    assert [p.get("class") for p in svg.findall(f"{SVG}path")] == ["raw s0", "line s0"]
    assert len(list(svg.iter(f"{SVG}title"))) == 72  # every 7th of 500


def test_two_curves_get_a_legend_and_marks_stand_inside():
    two = [Series("training", [(1, 1.0), (9, 0.5)]), Series("validation", [(5, 0.8)])]
    svg = drawn(line_chart(two, "Loss", marks=[5, 99]))
    assert {"training", "validation"} <= {t.text for t in svg.findall(f"{SVG}text")}
    assert len([line for line in svg.findall(f"{SVG}line") if line.get("class") == "mark"]) == 1


def test_names_are_escaped():
    svg = line_chart([Series("<b>", [(1, 1.0)]), Series("y", [(1, 1.0)])], '"<script>')
    assert "<script>" not in svg
    assert "<b>" not in svg
    drawn(svg)


def test_nothing_known_is_an_error():
    with pytest.raises(ValueError, match="'Loss' has no known value"):
        line_chart([Series("loss", [(1, None)])], "Loss")
    with pytest.raises(ValueError, match="'Plot' has no rows"):
        interval_plot([], "Plot")


def test_an_interval_plot_draws_filled_and_hollow_rows_around_zero():
    rows = [Interval("a", 2, 1, 3, "+2.0 [1.0, 3.0]", strong=True), Interval("b", 0.5, -1, 2, "+0.5 [−1.0, 2.0]")]
    svg = drawn(interval_plot(rows, "Differences", zero=True))
    assert svg.get("aria-label") == "Differences: a +2.0 [1.0, 3.0]; b +0.5 [−1.0, 2.0]"
    assert len(list(svg.iter(f"{SVG}circle"))) == 1
    assert len(list(svg.iter(f"{SVG}rect"))) == 1
    zero = next(line for line in svg.findall(f"{SVG}line") if line.get("class") == "zero")
    assert zero.get("x1") == "191.0"  # the axis runs from -1 to 3 over 136 to 356: 136 + 220 / 4
    whisker = next(line for line in svg.iter(f"{SVG}line") if line.get("class") == "whisker")
    assert (whisker.get("x1"), whisker.get("x2")) == ("246.0", "356.0")


@given(st.lists(st.tuples(st.integers(0, 10**6), st.none() | st.floats(allow_nan=True)), min_size=1, max_size=40))
def test_any_series_gives_a_well_formed_chart_or_says_why_not(points: list[tuple[int, float | None]]):
    points = sorted(points, key=lambda p: p[0])
    if known_runs(points):
        drawn(line_chart([Series("any", points)], "Any", zero_based=True))
    else:
        with pytest.raises(ValueError, match="no known value"):
            line_chart([Series("any", points)], "Any")


def test_a_chart_can_stand_as_a_file_of_its_own() -> None:
    import xml.etree.ElementTree as ElementTree

    from radiograd.charts import Series, line_chart, standalone

    drawn = standalone(line_chart([Series("a", [(0, 1), (1, 2)])], "A curve"))
    root = ElementTree.fromstring(drawn)  # well-formed
    assert root.tag.endswith("svg")
    assert "stroke" in (root[0].text or "")
    assert root[0].tag.endswith("style")


# ---- histograms


def bars(svg: str) -> list[tuple[str, float, float, int]]:
    """(class, top, bottom, count) of each bar, in the order drawn."""
    found = []
    for one in ElementTree.fromstring(svg).iter():
        if one.get("class", "").startswith("bar") and len(one):
            top, height = float(one.get("y", "")), float(one.get("height", ""))
            found.append((one.get("class", ""), top, top + height, int((one[0].text or "").split(": ")[1].split()[0])))
    return found


def test_a_histogram_stacks_its_groups() -> None:
    # bins of 0.05 from 0 to 1: one bar of two chosen, and one of another on top of one of the same bin
    svg = histogram({"chosen": [0.01, 0.02, 0.52], "others": [0.52, 0.98]}, "S", "S", cut=0.5)
    drawn = bars(svg)
    assert [(css, count) for css, _, _, count in drawn] == [("bar s0", 2), ("bar s0", 1), ("bar s1", 1), ("bar s1", 1)]
    assert drawn[2][2] == drawn[1][1]  # the second group stands where the first one ends
    assert "3 chosen; 2 others; cut at 0.5" in svg


@given(
    st.lists(st.floats(-1e6, 1e6), max_size=40),
    st.lists(st.floats(-1e6, 1e6), max_size=40),
)
def test_every_value_falls_into_one_bin_inside_the_chart(a: list[float], b: list[float]) -> None:
    if not a and not b:
        with pytest.raises(ValueError, match="has no value to draw"):
            histogram({"a": a, "b": b}, "S", "S")
        return
    drawn = bars(histogram({"a": a, "b": b}, "S", "S"))
    assert sum(count for css, *_, count in drawn if css == "bar s0") == len(a)
    assert sum(count for css, *_, count in drawn if css == "bar s1") == len(b)
    assert all(0 <= top <= bottom <= 190 for _, top, bottom, _ in drawn)


# ---- pairs of bars


def test_paired_bars_are_as_long_as_their_shares() -> None:
    svg = paired_bars({"Edema": (0.04, 0.2), "<b>": (0.1, 0.0)}, ("natural", "chosen"), "Prevalence")
    drawn = ElementTree.fromstring(svg)
    rows = list(drawn.iter(f"{SVG}g"))
    lengths = [[float(bar.get("width", "")) for bar in row.findall(f"{SVG}rect")] for row in rows]
    # the axis runs from 0 to 20 % over 512 - 168 - 96 = 248
    assert lengths == [[pytest.approx(49.6), pytest.approx(248.0)], [pytest.approx(124.0), 0.0]]
    assert [row[0].text for row in rows] == [
        "Edema 4.0 \N{RIGHTWARDS ARROW} 20.0 %",
        "<b> 10.0 \N{RIGHTWARDS ARROW} 0.0 %",
    ]
    assert [bar.get("class") for bar in rows[0].findall(f"{SVG}rect")] == ["bar s1", "bar s0"]
    assert {"natural", "chosen"} <= {text.text for text in drawn.findall(f"{SVG}text")}


def test_paired_bars_are_of_shares() -> None:
    with pytest.raises(ValueError, match="'Prevalence' has no rows"):
        paired_bars({}, ("a", "b"), "Prevalence")
    with pytest.raises(ValueError, match="no share of 1"):
        paired_bars({"x": (0.1, 1.1)}, ("a", "b"), "Prevalence")
