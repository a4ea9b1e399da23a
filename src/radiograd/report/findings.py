"""What each row says of each finding: F1 with support and interval per label, and the four-class confusion.

Labels are made when the page is, by the rules of ``text.labels``; F1 counts as :mod:`radiograd.metrics.label_f1` does
(uncertain counts as present; macro over all labels, one that nobody mentions counting 0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiograd.metrics.label_f1 import confusion, f1_of
from radiograd.report.evidence import NO_FINDING
from radiograd.report.inputs import Inputs
from radiograd.report.wording import ROW_LABELS, hundredths, interval, listed
from radiograd.stats import Estimate, bootstrap_counts
from radiograd.stats import interval as bootstrap_interval
from radiograd.text.labels import RuleLabeler, label_set
from radiograd.types import Labels, Status, Study

SET = "chexpert14"
ROWS = ("sft", "aligned", "retrieval", "constant")
FEW = 10
"""A finding with fewer reference reports than this is marked: its F1 says little."""
NAMED = 3
AVERAGES = {
    "micro": "All 14, micro",
    "macro": "All 14, macro",
    "findings": "Without “No Finding”, micro",
}
SIGNS = {Status.PRESENT: "+", Status.UNCERTAIN: "?", Status.ABSENT: "−", Status.UNMENTIONED: "·"}

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Read:
    """The labels of the held-out studies whose reference has a text, and of what each row says of them."""

    studies: Sequence[Study]
    references: Sequence[Labels]
    rows: Mapping[str, Sequence[Labels]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One label, or an average of labels: F1 with its interval, and how often it was found, invented and missed.

    ``f1.value`` is None where neither side says it.
    """

    f1: Estimate
    tp: int
    fp: int
    fn: int


def read_labels(inputs: Inputs) -> Read:
    """Labels of every study with a reference and of every row of ROWS that has a text for all of them."""
    studies = [s for s in inputs.studies if inputs.written(s).strip()]
    whole = [row for row in ROWS if studies and all((row, s.study_id) in inputs.texts for s in studies)]
    return Read(
        studies,
        label_texts([inputs.written(s) for s in studies]),
        {row: label_texts([inputs.texts[row, s.study_id] for s in studies]) for row in whole},
    )


def label_texts(texts: Sequence[str]) -> list[Labels]:
    """Labels of the set; an empty text mentions nothing, not even that there is no finding."""
    silent = dict.fromkeys(label_set(SET).names, Status.UNMENTIONED)
    return [found if text.strip() else silent for text, found in zip(texts, RuleLabeler(SET)(list(texts)), strict=True)]


def finding_panel(read: Read, seed: int, resamples: int) -> dict[str, Any] | None:
    """The tables (all and abnormal cases), what is missed and invented most, and the confusion of the last model.

    None when no row has texts.
    """
    if not read.rows:
        return None
    strata = {
        "all": np.arange(len(read.studies)),
        "abnormal": np.flatnonzero([s.normal is False for s in read.studies]),
    }
    names = label_set(SET).names
    tables, sentences = [], []
    shown = next((row for row in ("aligned", "sft") if row in read.rows), None)
    for number, (stratum, members) in enumerate(strata.items()):
        if not len(members) or (number and len(members) == len(read.studies)):
            continue
        patients = [read.studies[i].patient_id for i in members.tolist()]
        counts = bootstrap_counts(patients, resamples, np.random.default_rng([seed, number])).astype(np.float64)
        truth = positives(read.references, names)[members]
        found = {
            row: agreements(truth, positives(said, names)[members], names, counts) for row, said in read.rows.items()
        }
        tables.append(_table(stratum, names, truth, found))
        if stratum == "all" and shown is not None:
            sentences = spoken(ROW_LABELS.get(shown, shown), found[shown])
    return {
        "rows": [{"label": ROW_LABELS.get(row, row), "model": row in ("sft", "aligned")} for row in read.rows],
        "tables": tables,
        "sentences": sentences,
        "confusion": None if shown is None else _confusion(ROW_LABELS.get(shown, shown), read, shown, names),
        "few": FEW,
    }


def positives(labels: Sequence[Labels], names: Sequence[str]) -> Array:
    """(n, labels): 1 where a text says that a finding is present or uncertain."""
    said = [[found[name] in (Status.PRESENT, Status.UNCERTAIN) for name in names] for found in labels]
    return np.asarray(said, dtype=np.float64).reshape(len(labels), len(names))


def agreements(truth: Array, said: Array, names: Sequence[str], counts: Array) -> dict[str, Agreement]:
    """One for each label, then AVERAGES; truth and said: (n, labels), counts: (R, n) of the bootstrap.

    micro: counts summed over labels; findings: the same without "No Finding"; macro: the mean over labels.

    Resamples in which neither side says a label are left out of its own interval; in macro it counts 0 there.
    """
    cells = {"tp": truth * said, "fp": (1 - truth) * said, "fn": truth * (1 - said)}
    made: dict[str, Agreement] = {}
    for place, name in enumerate(names):
        parts = {key: values[:, place] for key, values in cells.items()}
        made[name] = _agreement(parts, _f1_or_nan, counts)
    made["micro"] = _agreement({key: values.sum(axis=1) for key, values in cells.items()}, _f1_or_nan, counts)
    alone = [place for place, name in enumerate(names) if name != NO_FINDING]
    of_findings = {key: values[:, alone].sum(axis=1) for key, values in cells.items()}
    made["findings"] = _agreement(of_findings, _f1_or_nan, counts)

    def mean_over_labels(sums: Mapping[str, Array]) -> Array:
        per_label = [f1_of(*(np.asarray(sums[f"{name}/{key}"]) for key in ("tp", "fp", "fn"))) for name in names]
        mean: Array = np.mean(np.stack(per_label), axis=0)
        return mean

    every = {f"{name}/{key}": values[:, place] for key, values in cells.items() for place, name in enumerate(names)}
    micro = made["micro"]
    made["macro"] = Agreement(bootstrap_interval(every, mean_over_labels, counts), micro.tp, micro.fp, micro.fn)
    return made


def _agreement(parts: Mapping[str, Array], combine: Callable[[Mapping[str, Array]], Array], counts: Array) -> Agreement:
    tp, fp, fn = (int(parts[key].sum()) for key in ("tp", "fp", "fn"))
    n = len(parts["tp"])
    f1 = bootstrap_interval(parts, combine, counts) if tp + fp + fn else Estimate(None, None, None, n, 0)
    return Agreement(f1, tp, fp, fn)


def _f1_or_nan(sums: Mapping[str, Array]) -> Array:
    tp, fp, fn = (np.asarray(sums[key], dtype=np.float64) for key in ("tp", "fp", "fn"))
    value: Array = np.where(tp + fp + fn > 0, f1_of(tp, fp, fn), np.nan)
    return value


def _table(
    stratum: str, names: Sequence[str], truth: Array, found: Mapping[str, Mapping[str, Agreement]]
) -> dict[str, Any]:
    support = {name: int(truth[:, place].sum()) for place, name in enumerate(names)}
    order = sorted(names, key=lambda name: (name == NO_FINDING, -support[name]))
    lines = [
        {
            "label": name,
            "support": support[name],
            "few": support[name] < FEW,
            "cells": _cells([of[name] for of in found.values()], summary=False),
        }
        for name in order
    ]
    everything = sum(support.values())
    said_in_all = {
        "micro": f"{everything} in all",
        "macro": "mean of 14",
        "findings": f"{everything - support.get(NO_FINDING, 0)} in all",
    }
    averages = [
        {
            "label": label,
            "support": said_in_all[average],
            "few": False,
            "cells": _cells([of[average] for of in found.values()], summary=average == "macro"),
        }
        for average, label in AVERAGES.items()
    ]
    return {"stratum": stratum, "n": len(truth), "lines": lines, "averages": averages}


def _cells(of_rows: Sequence[Agreement], summary: bool) -> list[dict[str, Any]]:
    best = max((one.f1.value for one in of_rows if one.f1.value), default=None)
    return [
        {
            "f1": "–" if one.f1.value is None else hundredths(one.f1.value),
            "interval": interval(one.f1.low, one.f1.high) if one.f1.value is not None and one.tp + one.fp else "",
            "best": one.f1.value is not None and one.f1.value == best,
            "said": "" if summary else f"{one.tp} found, {one.fp} false" if one.tp + one.fp else "never said",
        }
        for one in of_rows
    ]


def spoken(label: str, found: Mapping[str, Agreement]) -> list[str]:
    """Which findings a row misses and invents most, in sentences; "No Finding" and averages apart."""
    single = {name: one for name, one in found.items() if name != NO_FINDING and name not in AVERAGES}
    missed = sorted((n for n in single if single[n].fn), key=lambda n: (-single[n].fn, n))[:NAMED]
    invented = sorted((n for n in single if single[n].fp), key=lambda n: (-single[n].fp, n))[:NAMED]
    sentences = []
    if missed:
        parts = [f"{name} ({single[name].tp} of {single[name].tp + single[name].fn} found)" for name in missed]
        sentences.append(f"Missed most by {label}: {listed(parts)}.")
    if invented:
        parts = [f"{name} ({single[name].fp} ×)" for name in invented]
        sentences.append(f"Said most without the reference saying it: {listed(parts)}.")
    return sentences


def _confusion(label: str, read: Read, row: str, names: Sequence[str]) -> dict[str, Any]:
    tables = confusion(read.references, read.rows[row], names)
    spoken_of = [name for name in names if _mentions(tables[name])]
    return {
        "label": label,
        "grids": [{"label": name, "lines": confusion_lines(tables[name])} for name in spoken_of],
        "signs": [(SIGNS[status], str(status)) for status in SIGNS],
        "never": [name for name in names if name not in spoken_of],
    }


def _mentions(table: Mapping[Status, Mapping[Status, int]]) -> bool:
    silent = table[Status.UNMENTIONED][Status.UNMENTIONED]
    return sum(n for line in table.values() for n in line.values()) > silent


def confusion_lines(table: Mapping[Status, Mapping[Status, int]]) -> list[dict[str, Any]]:
    """A line for each status of the reference: its sign and, for each status of the row, count and share of the line.

    The share is in whole percent, None where the line is empty.
    """
    lines = []
    for true in SIGNS:
        total = sum(table[true].values())
        cells = [
            {"n": table[true][said], "share": round(100 * table[true][said] / total) if total else None}
            for said in SIGNS
        ]
        lines.append({"status": str(true), "sign": SIGNS[true], "cells": cells})
    return lines
