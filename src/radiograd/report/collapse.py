"""How long the texts are, how different from one another, and whether a model fell back on a template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radiograd.charts import Interval, interval_plot
from radiograd.report.inputs import Inputs
from radiograd.report.wording import ROW_LABELS, ROW_PHRASES
from radiograd.variety import Variety, variety

REFERENCE = "reference"
ROWS = ("sft", "aligned", "retrieval", "constant")
MODELS = ("sft", "aligned")
COLLAPSED = 0.5
"""Share of the commonest text from which on a row has collapsed, when it is also twice the radiologists'."""
LEANS = 0.1
"""How far its share may lie above the radiologists' before a row leans on a template."""
FEW_TEXTS = (0.1, 0.5)
"""Distinct texts against the radiologists' below which a row has collapsed, and leans on a template."""
QUOTED = 160


def judgement(row: Variety, reference: Variety) -> str:
    """collapsed | leans | varied: what the texts of a row are like beside the radiologists' own."""
    share, theirs = row.commonest_share, reference.commonest_share
    variety_left = row.distinct_share / reference.distinct_share
    if (share >= COLLAPSED and share >= 2 * theirs) or variety_left < FEW_TEXTS[0]:
        return "collapsed"
    return "leans" if share > theirs + LEANS or variety_left < FEW_TEXTS[1] else "varied"


def spoken(row: str, found: Variety, reference: Variety) -> str:
    """One sentence: whether the row fell back on a template, and by which numbers."""
    subject = ROW_PHRASES.get(row, row)
    says = {
        "collapsed": f"{subject} collapsed to a template",
        "leans": f"{subject} leans on a template",
        "varied": f"{subject} did not collapse to a template",
    }[judgement(found, reference)]
    return (
        f"{says[0].upper()}{says[1:]}: {found.distinct} different texts for {found.n} studies, the commonest for "
        f"{_percent(found.commonest_share)} of them (radiologists: {reference.distinct} different, the commonest for "
        f"{_percent(reference.commonest_share)})."
    )


def collapse_panel(inputs: Inputs) -> dict[str, Any] | None:
    """The table, a plot of the lengths and a sentence for each model; None when no row has texts for every study."""
    studies = [s for s in inputs.studies if inputs.written(s).strip()]
    texts: dict[str, list[str]] = {REFERENCE: [inputs.written(s) for s in studies]}
    for row in ROWS:
        if studies and all((row, s.study_id) in inputs.texts for s in studies):
            texts[row] = [inputs.texts[row, s.study_id] for s in studies]
    if len(texts) == 1:
        return None
    constant = texts["constant"][0] if "constant" in texts else None
    abnormal = [s.normal is False for s in studies]
    found = {row: variety(said, constant, abnormal) for row, said in texts.items()}
    models = [row for row in MODELS if row in found]
    return {
        "sentences": [
            {
                "row": row,
                "tone": judgement(found[row], found[REFERENCE]),
                "text": spoken(row, found[row], found[REFERENCE]),
            }
            for row in models
        ],
        "lines": [_line(row, one) for row, one in found.items()],
        "plot": _plot(found, inputs.section),
        "constant": constant is not None,
        "abnormal": any(abnormal),
    }


def _line(row: str, found: Variety) -> dict[str, Any]:
    low, median, high = found.words
    return {
        "label": _label(row),
        "kind": "model" if row in MODELS else "human" if row == REFERENCE else "baseline",
        "words": f"{median:g}",
        "span": f"{low:.0f}–{high:.0f}",
        "distinct": f"{found.distinct:,}",
        "distinct_share": _percent(found.distinct_share),
        "commonest_share": _percent(found.commonest_share),
        "commonest": shortened(found.commonest),
        "commonest_words": len(found.commonest.split()),
        "constant": "–" if found.constant is None else _percent(found.constant),
        "constant_abnormal": "–" if found.constant_abnormal is None else _percent(found.constant_abnormal),
        "distinct_2": "–" if found.distinct_2 is None else f"{found.distinct_2:.2f}",
    }


def _plot(found: Mapping[str, Variety], section: str) -> dict[str, str]:
    bars = []
    for row, one in found.items():
        low, median, high = one.words
        bars.append(
            Interval(_label(row), median, low, high, f"{median:g} ({low:.0f}–{high:.0f})", row in (*MODELS, REFERENCE))
        )
    title = f"Words per {section}: median, 5 % to 95 %"
    return {"title": title, "svg": interval_plot(bars, title)}


def _label(row: str) -> str:
    return "Radiologists" if row == REFERENCE else ROW_LABELS.get(row, row)


def shortened(text: str, limit: int = QUOTED) -> str:
    """The text, blanks collapsed, cut at a word when it is longer than ``limit`` characters."""
    whole = " ".join(text.split())
    if len(whole) <= limit:
        return whole
    return whole[: limit - 1].rsplit(" ", 1)[0] + " …"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share in (0.0, 1.0) else f"{100 * share:.1f} %"
