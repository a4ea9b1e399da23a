"""Small SVG charts as text: lines over steps, intervals and shares by rows. Pure; colours come from the page's CSS.

Classes used: ``chart`` (the root; with ``intervals`` on an interval plot, ``pairs`` on paired bars), ``grid``,
``zero``, ``mark``, ``line`` / ``raw`` / ``dot`` with ``s0``, ``s1``, ... for the series, ``hit`` for the hover targets,
``whisker`` and ``cap``, ``strong`` / ``plain`` for the rows of an interval plot, ``bar`` with ``s0``, ... for the
groups of a histogram and the two sides of a pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

Point = tuple[float, float | None]
_Place = Callable[[float, float], tuple[float, float]]
_Run = Sequence[tuple[float, float]]

SMOOTH_FROM = 24
"""A noisy curve of at least this many points also gets a smoothed line."""
_HOVERS = 80
_BINS = 20
_ENDLESS = 1e300
_W, _H, _LEFT, _RIGHT, _TOP, _BOTTOM = 340.0, 190.0, 48.0, 10.0, 12.0, 36.0


@dataclass(frozen=True, slots=True)
class Series:
    """A named curve: (x, y) points in order of x; y None, NaN or infinite = unknown, drawn as a gap."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Interval:
    """One row of an interval plot. ``strong`` rows are drawn filled, the others hollow."""

    label: str
    value: float
    low: float
    high: float
    text: str
    strong: bool = False


# ---- arithmetic ------------------------------------------------------------------------------------------------------


def scale(value: float, low: float, high: float, start: float, end: float) -> float:
    """``value`` moved from [low, high] to [start, end]; the middle when low == high."""
    return (start + end) / 2 if high == low else start + (value - low) / (high - low) * (end - start)


def nice_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 2.5, 5 x 10^k that divides ``span`` (> 0) into at most ``count`` steps."""
    raw = span / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    return next(m * magnitude for m in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0) if raw <= m * magnitude * (1 + 1e-9))


def nice_ticks(low: float, high: float, count: int = 4, whole: bool = False) -> tuple[float, ...]:
    """Round numbers inside [low, high], at most ``count`` + 1; the one value when low == high.

    ``whole``: no fractions, for an axis that counts.
    """
    if high <= low:
        return (low,)
    step = nice_step(high - low, count)
    if whole:
        step = float(max(1, math.ceil(step)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(float(f"{i * step:.10g}") for i in range(first, last + 1))


def value_range(values: Iterable[float], zero_based: bool = False) -> tuple[float, float]:
    """Ends of a value axis: round numbers around the values (and 0 when asked); a constant gets room on both sides.

    A constant c spans c - 10 % to c + 10 %; 0 spans -1 to 1, or 0 to 1 on an axis that starts at 0.
    """
    values = list(values)
    low, high = min(values), max(values)
    if zero_based:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-200):
        pad = max(abs(low), abs(high)) * 0.1
        pad = pad if pad > 1e-200 else 1.0
        low, high = (0.0 if zero_based else low - pad), high + pad
    step = nice_step(high - low, 4)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def known_runs(points: Iterable[Point]) -> list[list[tuple[float, float]]]:
    """The points between gaps: a curve is drawn through each run and never across an unknown value.

    Unknown: None, NaN, infinite or so large (1e300) that a span could not be computed.
    """
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None or not abs(y) < _ENDLESS:
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Centred mean over ``window`` (odd) neighbours, fewer at both ends."""
    half = window // 2
    near = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(some) / len(some) for some in near]


def smoothing_window(values: Sequence[float]) -> int:
    """Neighbours to average: about an eighth of a long curve that turns at every fourth point or more, odd; else 1."""
    moves = [b - a for a, b in pairwise(values) if b != a]
    turns = sum((a > 0) != (b > 0) for a, b in pairwise(moves))
    return (len(values) // 8) | 1 if len(values) >= SMOOTH_FROM and 4 * turns >= len(values) else 1


def number(value: float, step: float | None = None) -> str:
    """A number for a label: as many decimals as ``step`` needs, or three significant digits; a true minus sign."""
    small = 0 < max(abs(value), step or 0.0) < 1e-3
    if small or abs(value) >= 1e6:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        text = f"{mantissa.removesuffix('.0')}e{int(exponent)}" if value else "0"
    elif step is None:
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    else:
        places = next((p for p in range(7) if abs(step - round(step, p)) < step * 1e-6), 6)
        text = f"{value:,.{places}f}"
    return text.replace("-", "−")


# ---- drawing ---------------------------------------------------------------------------------------------------------


def line_chart(
    series: Sequence[Series],
    title: str,
    unit: str = "",
    x_label: str = "step",
    zero_based: bool = False,
    marks: Sequence[float] = (),
) -> str:
    """An SVG of one or more curves over one axis.

    Long noisy curves are drawn as a thin line with a smoothed one on top. ``marks`` are x positions of vertical
    dashed lines (a resumed attempt). Every text is escaped. ValueError when no series holds a known value.
    """
    runs = [known_runs(s.points) for s in series]
    known = [point for found in runs for run in found for point in run]
    if not known:
        raise ValueError(f"chart {title!r} has no known value to draw")
    x_low, x_high = min(x for x, _ in known), max(x for x, _ in known)
    y_low, y_high = value_range((y for _, y in known), zero_based)
    y_ticks = nice_ticks(y_low, y_high)
    top = _TOP if len(series) == 1 else _TOP + 14
    y_step = y_ticks[1] - y_ticks[0]

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            scale(x, x_low, x_high, _LEFT, _W - _RIGHT),
            scale(y, y_low, y_high, _H - _BOTTOM, top),
        )

    out = [_open(_W, _H, _spoken(series, runs, title, unit, x_label))]
    for tick in y_ticks:
        y = place(x_low, tick)[1]
        out.append(_line("zero" if tick == 0 and y_low < 0 else "grid", _LEFT, y, _W - _RIGHT, y))
        out.append(_text(_LEFT - 6, y + 3.5, number(tick, y_step), "end"))
    for tick in nice_ticks(x_low, x_high, 5, whole=True):
        out.append(_text(place(tick, y_low)[0], _H - _BOTTOM + 15, number(tick), "middle"))
    out.append(_text((_LEFT + _W - _RIGHT) / 2, _H - 4, x_label, "middle"))
    for mark in marks:
        if x_low < mark < x_high:
            x = place(mark, y_low)[0]
            out.append(_line("mark", x, top, x, _H - _BOTTOM))
    for index, found in enumerate(runs):
        out += _curve(index, found, place)
    for index, (one, found) in enumerate(zip(series, runs, strict=True)):
        out += _hovers(one.name if len(series) > 1 else "", found, unit, x_label, place, f"s{index}")
    if len(series) > 1:
        out += _legend([s.name for s in series])
    return "".join([*out, "</svg>"])


def interval_curves(
    lines: Mapping[str, Sequence[Interval]], title: str, x_label: str, level: Interval | None = None
) -> str:
    """An SVG of named lines over a logarithmic axis, each point with its interval; lines are moved aside a little so
    that intervals at one x can be told apart.

    ``lines``: name -> points whose ``label`` is their x, a number above 0. ``level``: drawn across as a dashed line
    under its label. ValueError without a point.
    """
    lines = {name: sorted(line, key=lambda point: float(point.label)) for name, line in lines.items()}
    points = [(float(point.label), point) for line in lines.values() for point in line]
    if not points:
        raise ValueError(f"chart {title!r} has no point to draw")
    xs = sorted({x for x, _ in points})
    ends = [end for _, point in points for end in (point.low, point.high)] + ([level.value] if level else [])
    y_low, y_high = value_range(ends)
    ticks = nice_ticks(y_low, y_high)
    first, last = math.log(xs[0]), math.log(xs[-1])

    def place(x: float, y: float, aside: float = 0.0) -> tuple[float, float]:
        across = scale(math.log(x), first, last, _LEFT + 16, _W - _RIGHT - 16) + aside
        return across, scale(y, y_low, y_high, _H - _BOTTOM, _TOP + 14)

    spoken = "; ".join(f"{name} " + ", ".join(f"{p.label}: {p.text}" for p in line) for name, line in lines.items())
    out = [_open(_W, _H, f"{title} by {x_label}: {spoken}")]
    for tick in ticks:
        y = place(xs[0], tick)[1]
        out.append(_line("grid", _LEFT, y, _W - _RIGHT, y))
        out.append(_text(_LEFT - 6, y + 3.5, number(tick, ticks[1] - ticks[0]), "end"))
    for x in xs:
        out.append(_text(place(x, y_low)[0], _H - _BOTTOM + 15, number(x), "middle"))
    out.append(_text((_LEFT + _W - _RIGHT) / 2, _H - 4, x_label, "middle"))
    if level is not None:
        y = place(xs[0], level.value)[1]
        out += [_line("mark", _LEFT, y, _W - _RIGHT, y), _text(_W - _RIGHT, y - 4, level.label, "end")]
    for index, (name, line) in enumerate(lines.items()):
        aside = 6.0 * (index - (len(lines) - 1) / 2)
        css = f"s{index}"
        at = [(float(point.label), point) for point in line]
        out.append(_path(f"line {css}", [place(x, point.value, aside) for x, point in at]))
        for x, point in at:
            (cx, cy), (_, low), (_, high) = (place(x, y, aside) for y in (point.value, point.low, point.high))
            out.append(_line(f"line {css}", cx, low, cx, high))
            out.append(f'<circle class="dot {css}" cx="{cx:.1f}" cy="{cy:.1f}" r="3.2"/>')
            tip = escape(f"{name}, {x_label} {point.label}: {point.text}")
            out.append(f'<circle class="hit {css}" cx="{cx:.1f}" cy="{cy:.1f}" r="6"><title>{tip}</title></circle>')
    return "".join([*out, *(_legend(list(lines)) if len(lines) > 1 else []), "</svg>"])


def interval_plot(rows: Sequence[Interval], title: str, zero: bool = False, label_width: float = 136.0) -> str:
    """An SVG with one horizontal interval a row, its label on the left and its text on the right.

    ``zero``: the axis includes 0 and a line marks it (for differences). ``label_width``: room for the labels.
    ValueError without rows.
    """
    if not rows:
        raise ValueError(f"plot {title!r} has no rows")
    pitch, left, right = 26.0, label_width, 124.0
    width = 344.0 + left
    height = pitch * len(rows) + 34
    ends = [end for row in rows for end in (row.low, row.high)] + ([0.0] if zero else [])
    low, high = value_range(ends)
    ticks = nice_ticks(low, high)
    bottom = pitch * len(rows) + 10
    spoken = "; ".join(f"{row.label} {row.text}" for row in rows)
    out = [_open(width, height, f"{title}: {spoken}", "chart intervals")]
    for tick in ticks:
        x = scale(tick, low, high, left, width - right)
        out.append(_line("zero" if zero and tick == 0 else "grid", x, 6, x, bottom))
        out.append(_text(x, height - 8, number(tick, ticks[1] - ticks[0]), "middle"))
    for index, row in enumerate(rows):
        y = 8 + pitch * (index + 0.5)
        a, m, b = (scale(v, low, high, left, width - right) for v in (row.low, row.value, row.high))
        out.append(
            f'<g class="{"strong" if row.strong else "plain"}"><title>{escape(f"{row.label} {row.text}")}</title>'
        )
        out.append(_text(left - 10, y + 4, row.label, "end"))
        out += [_line("whisker", a, y, b, y), _line("cap", a, y - 4, a, y + 4), _line("cap", b, y - 4, b, y + 4)]
        if row.strong:
            out.append(f'<circle cx="{m:.1f}" cy="{y:.1f}" r="5"/>')
        else:
            out.append(f'<rect x="{m - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>')
        out += [_text(width - right + 12, y + 4, row.text, "start"), "</g>"]
    return "".join([*out, "</svg>"])


def paired_bars(
    rows: Mapping[str, tuple[float, float]], names: tuple[str, str], title: str, label_width: float = 168.0
) -> str:
    """An SVG with two bars a row, the first value above the second: shares of 1, drawn and written as percentages.

    ``names``: what the first and the second value are; the second is the one that stands out. ValueError without rows
    or for a value that is no share.
    """
    if not rows:
        raise ValueError(f"plot {title!r} has no rows")
    if not all(0 <= value <= 1 for pair in rows.values() for value in pair):
        raise ValueError(f"plot {title!r} has a value that is no share of 1")
    pitch, left, right, top, bar = 26.0, label_width, 96.0, 20.0, 8.0
    width = 344.0 + left
    bottom = top + pitch * len(rows)
    _, high = value_range((100 * value for pair in rows.values() for value in pair), zero_based=True)
    ticks = nice_ticks(0.0, high)
    said = {name: f"{100 * a:.1f} → {100 * b:.1f} %" for name, (a, b) in rows.items()}
    spoken = "; ".join(f"{name} {text}" for name, text in said.items())
    out = [_open(width, bottom + 24, f"{title}, {names[0]} and {names[1]}: {spoken}", "chart pairs")]
    for tick in ticks:
        x = scale(tick, 0.0, high, left, width - right)
        out.append(_line("zero" if tick == 0 else "grid", x, top, x, bottom))
        out.append(_text(x, bottom + 15, number(tick, ticks[1] - ticks[0]), "middle"))
    x = left
    for css, name in zip(("s1", "s0"), names, strict=True):
        out.append(f'<rect class="bar {css}" x="{x:.1f}" y="4" width="12" height="8"/>')
        out.append(_text(x + 16, 11.5, name, "start"))
        x += 30 + 6 * len(name)
    for index, (name, pair) in enumerate(rows.items()):
        y = top + pitch * index + (pitch - 2 * bar) / 2
        out.append(f"<g><title>{escape(f'{name} {said[name]}')}</title>")
        out.append(_text(left - 10, y + bar + 4, name, "end"))
        for place, (css, value) in enumerate(zip(("s1", "s0"), pair, strict=True)):
            long = scale(100 * value, 0.0, high, 0.0, width - right - left)
            out.append(
                f'<rect class="bar {css}" x="{left:.1f}" y="{y + place * bar:.1f}" width="{long:.1f}" '
                f'height="{bar:.1f}"/>'
            )
        out += [_text(width - right + 10, y + bar + 4, said[name], "start"), "</g>"]
    return "".join([*out, "</svg>"])


def histogram(groups: Mapping[str, Sequence[float]], title: str, x_label: str, cut: float | None = None) -> str:
    """An SVG of how often values fall into each of about twenty bins, the groups stacked on one another.

    ``groups``: name -> finite values, drawn from the axis upwards in their order. ``cut``: x of a vertical dashed line.
    ValueError without a value.
    """
    values = [value for group in groups.values() for value in group]
    if not values:
        raise ValueError(f"chart {title!r} has no value to draw")
    low, high = value_range(values)
    width = nice_step(high - low, _BINS)
    bins = max(1, math.ceil((high - low) / width - 1e-9))
    counts = {name: [0] * bins for name in groups}
    for name, group in groups.items():
        for value in group:
            counts[name][min(bins - 1, int((value - low) / width + 1e-9))] += 1
    highest = value_range((sum(column) for column in zip(*counts.values(), strict=True)), zero_based=True)[1]
    ticks = nice_ticks(0.0, highest, whole=True)

    def place(x: float, y: float) -> tuple[float, float]:
        return scale(x, low, low + bins * width, _LEFT, _W - _RIGHT), scale(y, 0, highest, _H - _BOTTOM, _TOP + 14)

    spoken = "; ".join(f"{len(group)} {name}" for name, group in groups.items())
    at = "" if cut is None else f"; cut at {number(cut)}"
    out = [_open(_W, _H, f"{title}, {spoken}{at}")]
    for tick in ticks:
        out.append(_line("zero" if tick == 0 else "grid", _LEFT, place(low, tick)[1], _W - _RIGHT, place(low, tick)[1]))
        out.append(_text(_LEFT - 6, place(low, tick)[1] + 3.5, number(tick), "end"))
    x_ticks = nice_ticks(low, low + bins * width, 5)
    for tick in x_ticks:
        shown = number(tick, x_ticks[1] - x_ticks[0] if len(x_ticks) > 1 else None)
        out.append(_text(place(tick, 0)[0], _H - _BOTTOM + 15, shown, "middle"))
    out.append(_text((_LEFT + _W - _RIGHT) / 2, _H - 4, x_label, "middle"))
    for k in range(bins):
        below = 0
        for index, (name, column) in enumerate(counts.items()):
            if column[k]:
                (left, bottom), (right, top) = (
                    place(low + k * width, below),
                    place(low + (k + 1) * width, below + column[k]),
                )
                said = escape(
                    f"{x_label} {number(low + k * width)} to {number(low + (k + 1) * width)}: {column[k]} {name}"
                )
                out.append(
                    f'<rect class="bar s{index}" x="{left + 0.5:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}" '
                    f'height="{bottom - top:.1f}"><title>{said}</title></rect>'
                )
            below += column[k]
    if cut is not None:
        out.append(_line("mark", place(cut, 0)[0], _TOP + 8, place(cut, 0)[0], _H - _BOTTOM))
    x = _LEFT + 4
    for index, name in enumerate(groups):
        out.append(f'<rect class="bar s{index}" x="{x:.1f}" y="2" width="12" height="8"/>')
        out.append(_text(x + 16, 9.5, name, "start"))
        x += 30 + 6 * len(name)
    return "".join([*out, "</svg>"])


def _curve(index: int, runs: Sequence[_Run], place: _Place) -> list[str]:
    out = []
    count = sum(len(run) for run in runs)
    window = smoothing_window([y for run in runs for _, y in run])
    for run in runs:
        xs, ys = [x for x, _ in run], [y for _, y in run]
        if len(run) == 1:
            x, y = place(*run[0])
            out.append(f'<circle class="dot s{index}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
            continue
        if window > 1:
            out.append(_path(f"raw s{index}", [place(*point) for point in run]))
        smoothed = smooth(ys, window)
        out.append(_path(f"line s{index}", [place(x, y) for x, y in zip(xs, smoothed, strict=True)]))
        if count <= 12:
            for point in run:
                x, y = place(*point)
                out.append(f'<circle class="dot s{index}" cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>')
    return out


def _hovers(name: str, runs: Sequence[_Run], unit: str, x_label: str, place: _Place, css: str) -> list[str]:
    points = [point for run in runs for point in run]
    every = math.ceil(len(points) / _HOVERS)
    out = []
    for x, y in points[::every] if points else []:
        cx, cy = place(x, y)
        tip = " ".join(part for part in (f"{x_label} {number(x)}:", name, number(y), unit) if part)
        out.append(f'<circle class="hit {css}" cx="{cx:.1f}" cy="{cy:.1f}" r="5"><title>{escape(tip)}</title></circle>')
    return out


def _legend(names: Sequence[str]) -> list[str]:
    out, x = [], _LEFT + 4
    for index, name in enumerate(names):
        out.append(f'<line class="line s{index}" x1="{x:.1f}" y1="6" x2="{x + 18:.1f}" y2="6"/>')
        out.append(_text(x + 22, 9.5, name, "start"))
        x += 34 + 6 * len(name)
    return out


def _spoken(
    series: Sequence[Series],
    runs: Sequence[Sequence[_Run]],
    title: str,
    unit: str,
    x_label: str,
) -> str:
    parts = []
    for one, found in zip(series, runs, strict=True):
        if found:
            first, last = found[0][0][1], found[-1][-1][1]
            parts.append(f"{one.name} from {number(first)} to {number(last)}")
    return f"{title}{f' ({unit})' if unit else ''} by {x_label}: {'; '.join(parts)}"


def _open(width: float, height: float, label: str, css: str = "chart") -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{css}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(label)}" font-size="11">'
    )


def _line(css: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _path(css: str, points: Sequence[tuple[float, float]]) -> str:
    body = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{css}" d="M{body}"/>'


def standalone(svg: str) -> str:
    """``svg`` of this module as a file of its own: with colours for light and dark pages, and sharp text."""
    opening, _, rest = svg.partition(">")
    return f"{opening}><style>{_CSS}</style>{rest}\n"


_CSS = """
svg{--ink:#1c2227;--quiet:#5b6871;--rule:#d7dde1;--paper:#fff;--s0:#1f5f8b;--s1:#b4570f;--s2:#3f7d3a;font-family:system-ui,sans-serif}
@media(prefers-color-scheme:dark){svg{--ink:#e8ecef;--quiet:#9aa7b0;--rule:#39434a;--paper:#14191d;--s0:#7db6dd;--s1:#e39a5b;--s2:#8fcb88}}
text{fill:var(--quiet)}line{stroke:var(--rule)}path{fill:none;stroke-linejoin:round}
line.zero,.whisker,.cap{stroke:var(--quiet)}line.mark{stroke:var(--quiet);stroke-dasharray:2 3}
.line{stroke-width:2}.raw{stroke-width:1;opacity:.33}
.s0{stroke:var(--s0)}.s1{stroke:var(--s1);stroke-dasharray:6 3}.s2{stroke:var(--s2);stroke-dasharray:2 3}
.s3{stroke:var(--quiet)}
.dot{stroke:none}.dot.s0{fill:var(--s0)}.dot.s1{fill:var(--s1)}.dot.s2{fill:var(--s2)}.dot.s3{fill:var(--quiet)}
.strong .whisker,.strong .cap{stroke:var(--s0);stroke-width:2}.strong circle{fill:var(--s0)}
.strong text{fill:var(--ink);font-weight:600}
.plain rect{fill:var(--paper);stroke:var(--quiet)}.plain text{fill:var(--ink)}
.hit{fill:transparent;stroke:none}
.bar{stroke:none}.bar.s0{fill:var(--s0)}.bar.s1{fill:var(--rule)}
""".replace("\n", "")
