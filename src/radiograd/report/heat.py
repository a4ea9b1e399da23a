"""Which tokens of a completion its advantage went to: reference and text side by side, the weight as colour.

DEER's figure 3 (its reports with red by token weight), for the completions that the last logged rollout kept with their
weights. Which of them are shown is decided without looking at a weight.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from radiograd.charts import Series, line_chart
from radiograd.config import GRPOConfig
from radiograd.errors import DataError
from radiograd.report.cases import kind
from radiograd.report.curves import points
from radiograd.report.inputs import Inputs
from radiograd.report.matching import Mark, Matched, Note, match_findings
from radiograd.report.wording import is_number
from radiograd.text.explain import Span, segments
from radiograd.types import Study

SHOWN = 6
"""Completions on the page, of different studies."""
WEIGHTS = "weights/"
"""Logged keys that start so are shown here and not among the training curves."""
KINDS = {
    "uniform": "uniform: every token weighs the same",
    "tfidf": "TF-IDF: words that are rare in the training references weigh more",
    "gradient": "gradient: words that move the labels of a classifier weigh more",
    "combined": "combined: the mean of TF-IDF and the gradient of a classifier",
    "shuffled": "shuffled, the control: the combined weights, dealt to other tokens of the same text",
}
DEPTH = 1.5
"""Above 1: most weights lie near 1, and what stands out of them is to be seen."""
_ORDER = ("abnormal", "unlabelled", "normal")
_CHARTS = (
    ({"evidence": "evidence", "rest": "elsewhere"}, "Mean weight, on evidence and elsewhere", "", 1.0),
    ({"effective_share": "share"}, "Effective share of the tokens", "% of tokens", 100.0),
    ({"correlation": "correlation"}, "Correlation of the two weights", "", 1.0),
)
_WORD = re.compile(r"\S+")


class Token(NamedTuple):
    """Characters [start, end) of a text that one token wrote, and its weight."""

    start: int
    end: int
    weight: float


class Word(NamedTuple):
    """One word of a text (no white space) with the mean weight of its characters."""

    text: str
    span: Span
    weight: float


class Piece(NamedTuple):
    """A stretch of text that is shown in one way.

    ``kind``: class names, "" for plain text. ``shade``: how red it is, in percent of the deepest; None where no token
    wrote it. ``marks``: (class names, sign) of the findings that end here.
    """

    text: str
    kind: str = ""
    shade: int | None = None
    title: str = ""
    marks: tuple[tuple[str, str], ...] = ()


# ---- one text --------------------------------------------------------------------------------------------------------


def read_tokens(text: str, rows: Iterable[Sequence[float]], study_id: str) -> tuple[Token, ...]:
    """[[start, end, weight], ...] of a rollout's row. DataError, naming the study, when they do not fit the text."""
    found = []
    for row in rows:
        whole = len(row) == 3 and all(is_number(value) and math.isfinite(value) for value in row)
        if not whole or not 0 <= row[0] <= row[1] <= len(text) or row[2] < 0:
            raise DataError(f"study {study_id!r}: its tokens do not fit its completion; the rollout is damaged")
        found.append(Token(int(row[0]), int(row[1]), float(row[2])))
    return tuple(found)


class Scale(NamedTuple):
    """Weights that are shown as paper (``low`` and less) and as the deepest red (``high`` and more)."""

    low: float
    high: float

    def place(self, weight: float) -> float:
        """Where a weight lies between low (0) and high (1)."""
        return min(1.0, max(0.0, (weight - self.low) / (self.high - self.low)))

    def shade(self, weight: float) -> int:
        """How red a weight is, in percent of the deepest: place to the power of DEPTH."""
        return round(100 * math.pow(self.place(weight), DEPTH))

    def swatches(self) -> list[dict[str, Any]]:
        """Weights from low to high with their shades, for the legend."""
        inner = [weight for weight in (0.75, 1.0, 1.25, 1.5, 2.0, 2.5) if self.low < weight < self.high]
        return [{"weight": f"{weight:g}", "shade": self.shade(weight)} for weight in (self.low, *inner, self.high)]


def scale_of(weights: Iterable[float]) -> Scale:
    """From the least to the largest weight of a page, to the next quarter; at least from 0.75 to 1.25.

    Weights that hardly differ are not made to look as if they did.
    """
    known = [*weights, 1.0]
    return Scale(min(0.75, math.floor(4 * min(known)) / 4), max(1.25, math.ceil(4 * max(known)) / 4))


def heated(text: str, tokens: Sequence[Token], marks: Sequence[Mark], scale: Scale) -> tuple[Piece, ...]:
    """The whole text, unchanged, cut where a token or a mark starts or ends.

    White space before a token's word stays plain. Characters that several tokens wrote (pieces of one character) have
    the mean of their weights. Of several marks on the same words the first gives the line below them; each has its sign
    behind them.
    """
    spans = [_without_blank(text, token) for token in tokens] + [mark.span for mark in marks]
    return tuple(
        _piece(
            text[start:end],
            [tokens[i] for i in here if i < len(tokens)],
            [marks[i - len(tokens)] for i in here if i >= len(tokens)],
            end,
            scale,
        )
        for start, end, here in segments(len(text), spans)
        if start < end
    )


def _without_blank(text: str, token: Token) -> Span:
    written = text[token.start : token.end]
    return token.end - len(written.lstrip()), token.end


def _piece(text: str, tokens: Sequence[Token], marks: Sequence[Mark], end: int, scale: Scale) -> Piece:
    kinds, titles = [], []
    red = None
    if tokens:
        weight = _mean([token.weight for token in tokens])
        red = scale.shade(weight)
        kinds.append("h")
        titles.append(f"weight {weight:.2f}")
    if marks:
        kinds += ["f", _classes(marks[0])]
        titles += dict.fromkeys(mark.title for mark in marks)
    ending = dict.fromkeys((_classes(mark), mark.sign) for mark in marks if mark.span[1] == end and mark.sign)
    return Piece(text, " ".join(kinds), red, "\n".join(titles), tuple(ending))


def _classes(mark: Mark | Note) -> str:
    return mark.kind if mark.colour is None else f"{mark.kind} c{mark.colour}"


def word_weights(text: str, tokens: Sequence[Token]) -> list[Word]:
    """The words of ``text`` in its order, each with the mean weight of its characters; those no token wrote left out.

    A character's weight is the mean over the tokens that wrote it.
    """
    per_character = character_weights(len(text), tokens)
    words = []
    for match in _WORD.finditer(text):
        known = [weight for weight in per_character[match.start() : match.end()] if weight is not None]
        if known:
            words.append(Word(match.group(), match.span(), _mean(known)))
    return words


def character_weights(length: int, tokens: Sequence[Token]) -> list[float | None]:
    """One weight a character: the mean over the tokens that wrote it, None where none did."""
    weights: list[float | None] = []
    for start, end, here in segments(length, [(token.start, token.end) for token in tokens]):
        weights += [_mean([tokens[i].weight for i in here]) if here else None] * (end - start)
    return weights


def mean_weight(tokens: Sequence[Token], spans: Sequence[Span], inside: bool = True) -> float | None:
    """Mean weight of the tokens that share a character with one of ``spans`` (not ``inside``: of the others).

    None where there are none.
    """
    chosen = [t.weight for t in tokens if t.start < t.end and _touches(t, spans) is inside]
    return _mean(chosen) if chosen else None


def _touches(token: Token, spans: Sequence[Span]) -> bool:
    return any(token.start < end and start < token.end for start, end in spans)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


# ---- a panel: reference and text -------------------------------------------------------------------------------------


def panel(study: Study, reference: str, text: str, tokens: Sequence[Token], scale: Scale) -> dict[str, Any]:
    """What the template lays out for one text; ``facts``: (name, value) for its header. The caller adds ``title``."""
    found = match_findings(reference, text)
    return {
        "id": study.study_id,
        "kind": kind(study),
        "reference": heated(reference, (), found.reference, scale),
        "text": heated(text, tokens, found.candidate, scale),
        "notes": [
            {"kind": _classes(note), "sign": note.sign, "text": note.text, "weight": weight}
            for note in found.notes
            for weight in [_shown(mean_weight(tokens, note.spans))]
        ],
        "facts": _means(tokens, found),
    }


def _means(tokens: Sequence[Token], found: Matched) -> list[tuple[str, str]]:
    spans = [mark.span for mark in found.candidate]
    on, off = mean_weight(tokens, spans), mean_weight(tokens, spans, inside=False)
    return [] if on is None or off is None else [("mean weight on findings", _shown(on)), ("elsewhere", _shown(off))]


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


# ---- the part of a run's page ----------------------------------------------------------------------------------------


def choose(
    rows: Sequence[Mapping[str, Any]], studies: Mapping[str, Study], seed: int, count: int = SHOWN
) -> list[Mapping[str, Any]]:
    """Rows of a rollout to show, one a study: its completion with the largest |advantage|, the first among equals.

    Studies whose group has an advantage come first, then abnormal ones, then the order of SHA-256("seed:study id").
    No weight is looked at.
    """
    strongest: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        best = strongest.get(row["study_id"])
        if best is None or abs(row["advantage"]) > abs(best["advantage"]):
            strongest[row["study_id"]] = row
    order = {study.study_id: place for place, study in enumerate(drawn(studies.values(), seed, len(studies)))}
    return sorted(strongest.values(), key=lambda row: (row["advantage"] == 0, order[row["study_id"]]))[:count]


def drawn(studies: Iterable[Study], seed: int, count: int = SHOWN) -> list[Study]:
    """The first studies, abnormal ones before others, in the order of SHA-256("seed:study id")."""

    def lot(study: Study) -> tuple[int, bytes]:
        return _ORDER.index(kind(study)), hashlib.sha256(f"{seed}:{study.study_id}".encode()).digest()

    return sorted(studies, key=lot)[:count]


def rule(seed: int) -> str:
    """How the completions were chosen, for the page."""
    return (
        f"Of each study of the rollout the completion with the largest advantage, up or down; up to {SHOWN} studies: "
        "those whose completions got different rewards first, then abnormal ones, then in the order of "
        f'SHA-256("{seed}:study id"). No weight was looked at to choose them.'
    )


def heat_panel(inputs: Inputs) -> dict[str, Any] | None:
    """The panels and the curves; None for a run that logged no weight. DataError when a row does not fit its text."""
    align = inputs.run.config.align
    if not isinstance(align, GRPOConfig):
        return None
    charts = weight_charts(inputs.metrics)
    if not inputs.weighted and not charts:
        return None
    seed = inputs.run.config.seed
    rows = [(row, _tokens(row)) for row in choose(inputs.weighted, inputs.trained, seed)]
    scale = scale_of(token.weight for _, tokens in rows for token in tokens)
    return {
        "kind": KINDS[align.token_weight.by],
        "step": inputs.rollout_step,
        "scale": scale.swatches(),
        "rule": rule(seed),
        "panels": [_of_row(row, tokens, inputs, scale) for row, tokens in rows],
        "charts": charts,
    }


def _tokens(row: Mapping[str, Any]) -> tuple[Token, ...]:
    return read_tokens(row["completion"], row["tokens"], row["study_id"])


def _of_row(row: Mapping[str, Any], tokens: Sequence[Token], inputs: Inputs, scale: Scale) -> dict[str, Any]:
    study, reward = inputs.trained[row["study_id"]], row.get("reward")
    made = panel(study, inputs.written(study), row["completion"], tokens, scale)
    facts = [("reward", f"{reward:.3f}".replace("-", "−") if is_number(reward) else f"none ({row.get('why')})")]
    return {**made, "title": "Sampled", "advantage": advantage(row["advantage"]), "facts": [*facts, *made["facts"]]}


def advantage(value: float) -> dict[str, str]:
    """The sign of an advantage, its value and what it does to the text."""
    if value == 0:
        return {"tone": "even", "text": "advantage 0: nothing is learned from it"}
    up = value > 0
    arrow, way = ("▲ ", "more") if up else ("▼ ", "less")
    return {
        "tone": "up" if up else "down",
        "text": f"{arrow}advantage {'+' if up else '−'}{abs(value):.2f}: made {way} likely",
    }


def weight_charts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The curves of what was logged of the weights; a key that was not logged has none."""
    logged = [row for row in rows if row["stage"] == "align" and any(key.startswith(WEIGHTS) for key in row)]
    charts = []
    for names, title, unit, factor in _CHARTS:
        series = [
            Series(name, points(logged, WEIGHTS + key, factor))
            for key, name in names.items()
            if any(is_number(row.get(WEIGHTS + key)) for row in logged)
        ]
        if series:
            charts.append({"title": title, "unit": unit, "svg": line_chart(series, title, unit, "step", False)})
    return charts
