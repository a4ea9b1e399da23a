"""Numbers that say what a data set is like. Shares and counts only: no report text comes out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from radiograd.config import RunConfig
from radiograd.data import load
from radiograd.data.films import film_counts, is_missing
from radiograd.data.prepare import divide_loaded, has_letter, is_usable, normal_share, redacted_share
from radiograd.errors import DataError
from radiograd.types import REPORT, SECTION_NAMES, Study

TEMPLATES = 20
"""How many of the commonest impressions the template share counts."""

_WORD = re.compile(r"[^\W_]+")


def describe_source(config: RunConfig) -> dict[str, Any]:
    """:func:`describe` of everything ``config.data`` holds, usable or not, with the sizes of its splits.

    ``problems``: rows passed over; missing films are counted under ``films``. ``split_problem``: why it cannot be
    split, else None. Raises what :func:`radiograd.data.load` raises.
    """
    loaded = load(config.data)
    split_problem, sizes = None, {}
    try:
        prepared = divide_loaded(loaded, config)
        sizes = {"train": len(prepared.train), "val": len(prepared.val), "test": len(prepared.test)}
    except DataError as error:
        split_problem = str(error)
    return {
        **describe(loaded.studies),
        "films": film_counts(loaded.studies, loaded.problems),
        "splits": sizes,
        "problems": sum(not is_missing(problem) for problem in loaded.problems),
        "split_problem": split_problem,
    }


def describe(studies: Sequence[Study]) -> dict[str, Any]:
    """What ``studies`` are like, as values JSON can hold. Shares lie in [0, 1]; None where nothing was counted.

    ``template_share``: share of impressions that are, in lower-case words, one of the 20 commonest.
    ``exact_duplicate_pair_share``: share of findings-impression pairs that an earlier study holds in the same words.
    ``images``: films on disk or known by identifier alone; ``films``: those on disk (:func:`film_counts`).
    """
    impressions = [s.sections.impression or "" for s in studies if has_letter(s.sections.impression)]
    pairs = [tuple(map(normalised, _both(s))) for s in studies if is_usable(s)]
    commonest = Counter(normalised(text) for text in impressions).most_common(TEMPLATES)
    images = [len(study.images) for study in studies]
    return {
        "studies": len(studies),
        "patients": len({s.patient_id for s in studies}),
        "usable": len(pairs),
        "sections": {name: _section(studies, name) for name in (*SECTION_NAMES, REPORT)},
        "with_indication": sum(has_letter(s.indication) for s in studies),
        "without_indication_and_comparison": sum(
            not (has_letter(s.indication) or has_letter(s.sections.comparison)) for s in studies
        ),
        "with_prior": sum(bool(s.prior) for s in studies),
        "distinct_impressions": len({normalised(text) for text in impressions}),
        "template_share": _share(sum(n for _, n in commonest), len(impressions)),
        "commonest_impression_share": _share(commonest[0][1] if commonest else 0, len(impressions)),
        "exact_duplicate_pair_share": _share(len(pairs) - len(set(pairs)), len(pairs)),
        "normal_share": normal_share(studies),
        "normal_unknown": sum(s.normal is None for s in studies),
        "redacted_share": redacted_share(["\n".join(_both(s)) for s in studies]),
        "redacted_impression_share": redacted_share(impressions),
        "images": sum(images),
        "studies_with_images": sum(n > 0 for n in images),
        "films": film_counts(studies, ()),
        "splits": dict(Counter(s.split for s in studies if s.split is not None)),
    }


def render(facts: Mapping[str, Any]) -> str:
    """:func:`describe`'s numbers as lines of text."""
    lines = [
        f"studies                {facts['studies']:>8,}   patients {facts['patients']:,}",
        f"with both sections     {facts['usable']:>8,}   findings and impression",
        f"with indication        {facts['with_indication']:>8,}   with a prior study {facts['with_prior']:,}; "
        f"neither indication nor comparison {facts['without_indication_and_comparison']:,}",
        f"images                 {facts['images']:>8,}   in {facts['studies_with_images']:,} studies",
        *_film_lines(facts.get("films")),
        "",
        "section       with text    empty   absent   words: median    5 %   95 %      max",
    ]
    for name, section in facts["sections"].items():
        counts = f"{section['with_text']:>10,} {section['empty']:>8,} {section['absent']:>8,}"
        words = section["words"]
        if words is not None:
            counts += f"   {words['median']:>13g} {words['p5']:>6g} {words['p95']:>6g} {words['max']:>8,}"
        lines.append(f"{name:<12} {counts}")
    lines += [
        "",
        f"distinct impressions   {facts['distinct_impressions']:>8,}   lower-cased words",
        f"the {TEMPLATES} commonest       {_percent(facts['template_share'])}   of impressions; the commonest alone "
        f"{_percent(facts['commonest_impression_share']).strip()}",
        f"exact copies           {_percent(facts['exact_duplicate_pair_share'])}   of findings-impression pairs",
        f"normal                 {_percent(facts['normal_share'])}   of coded studies; {facts['normal_unknown']:,} "
        f"not coded",
        f"holding XXXX           {_percent(facts['redacted_share'])}   of studies, in findings or impression; "
        f"{_percent(facts['redacted_impression_share']).strip()} of impressions",
    ]
    if facts.get("problems"):
        lines.append(f"rows passed over       {facts['problems']:>8,}   radiograd data check names them")
    if facts.get("split_problem"):
        lines.append(f"cannot be split: {facts['split_problem']}")
    if facts["splits"]:
        lines.append("splits                 " + ", ".join(f"{name} {n:,}" for name, n in facts["splits"].items()))
    return "\n".join(lines) + "\n"


def _film_lines(films: Mapping[str, Any] | None) -> list[str]:
    if films is None:
        return []
    by_number = ", ".join(f"{label}: {n:,}" for label, n in films["studies"].items())
    by_view = ", ".join(f"{view} {n:,}" for view, n in films["views"].items())
    return [
        f"films on disk          {films['films']:>8,}   {by_view or 'none'}; size as taken known of {films['sizes']:,}",
        f"films missing          {films['missing']:>8,}   named and not on disk",
        f"studies by films       {by_number}; without a frontal one {films['without_frontal']:,}",
    ]


def normalised(text: str) -> str:
    """The lower-cased alphanumeric words of ``text``, one blank between them."""
    return " ".join(_WORD.findall(text.lower()))


def _section(studies: Sequence[Study], name: str) -> dict[str, Any]:
    texts = [study.sections.text(name) for study in studies]
    lengths = [len(text.split()) for text in texts if text is not None and has_letter(text)]
    words = None
    if lengths:
        p5, median, p95 = np.percentile(lengths, [5, 50, 95]).tolist()
        words = {"median": median, "p5": p5, "p95": p95, "max": max(lengths)}
    absent = sum(text is None for text in texts)
    return {"with_text": len(lengths), "empty": len(texts) - absent - len(lengths), "absent": absent, "words": words}


def _both(study: Study) -> tuple[str, str]:
    return study.sections.findings or "", study.sections.impression or ""


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return f"{'-':>8}" if share is None else f"{100 * share:>6.1f} %"
