"""Body systems side by side: what findings, reference and models say of lungs, heart, bones, devices and the rest.

The rule: every finding of ``text/lexicon/findings.yaml`` has a ``group`` there, and SYSTEMS names the groups of each
system; a group that no system names belongs to the last. A text speaks of a system when the rules read one of its
findings as present or uncertain; what is denied does not count. The figure is RGRO's (its Figures 2 to 6), for the
systems that a chest film shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from radiograd.report.cases import case_view
from radiograd.report.inputs import Inputs
from radiograd.report.wording import ROW_LABELS, hundredths
from radiograd.text.findings import read_in_place
from radiograd.text.labels import mentioned
from radiograd.text.lexicon import load
from radiograd.types import Status, Study

SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "Lungs and pleura": ("lung", "pleura", "diaphragm"),
    "Heart, vessels and mediastinum": ("heart", "vessel", "carotid", "mediastinum"),
    "Bones": ("bone",),
    "Devices and surgery": ("device", "surgery"),
    "Abdomen, soft tissue and other": ("abdomen", "soft tissue", "other", "technique"),
}
"""System -> groups of findings.yaml."""
ROWS = ("sft", "aligned")
Said = frozenset[str]


def system_of(finding: str) -> str:
    """The system of a finding, by its group."""
    group = load().findings.get(finding, "other")
    return next((system for system, groups in SYSTEMS.items() if group in groups), list(SYSTEMS)[-1])


def said_in(text: str) -> Said:
    """The findings that a text states as present or uncertain."""
    found = mentioned(read_in_place(text))
    return frozenset(name for name, status in found.items() if status in (Status.PRESENT, Status.UNCERTAIN))


def systems_panel(inputs: Inputs, seed: int, metrics: Sequence[str]) -> dict[str, Any] | None:
    """A line for each system with counts, and one case for each; None when no model has a text for every study."""
    studies = [study for study in inputs.studies if inputs.written(study).strip()]
    rows = [row for row in ROWS if studies and all((row, s.study_id) in inputs.texts for s in studies)]
    if not rows:
        return None
    findings = [said_in(study.sections.findings or "") for study in studies]
    references = [said_in(inputs.written(study)) for study in studies]
    said = {row: [said_in(inputs.texts[row, study.study_id]) for study in studies] for row in rows}
    lines, cases, shown = [], [], set[str]()
    for system in SYSTEMS:
        truth = [of_system(found, system) for found in references]
        lines.append(
            {
                "system": system,
                "findings": sum(bool(of_system(found, system)) for found in findings),
                "reference": sum(map(bool, truth)),
                "cells": [agreement(truth, [of_system(found, system) for found in said[row]]) for row in rows],
            }
        )
        study = drawn(studies, [bool(found) for found in truth], seed, lambda one: one.study_id in shown)
        if study is not None:
            shown.add(study.study_id)
            cases.append((system, case_view(study, rows, inputs, metrics)))
    return {"rows": [ROW_LABELS[row] for row in rows], "lines": lines, "cases": cases, "n": len(studies)}


def of_system(said: Said, system: str) -> Said:
    """The findings of one system among those that a text states."""
    return frozenset(finding for finding in said if system_of(finding) == system)


def agreement(truth: Sequence[Said], said: Sequence[Said]) -> dict[str, Any]:
    """F1 over (study, finding) as text, and how many were found, invented and missed; a dash where nobody says any."""
    found = sum(len(a & b) for a, b in zip(truth, said, strict=True))
    invented = sum(len(b - a) for a, b in zip(truth, said, strict=True))
    missed = sum(len(a - b) for a, b in zip(truth, said, strict=True))
    total = 2 * found + invented + missed
    return {
        "f1": hundredths(2 * found / total) if total else "–",
        "found": found,
        "invented": invented,
        "missed": missed,
        "studies": sum(map(bool, said)),
    }


def drawn(studies: Sequence[Study], wanted: Sequence[bool], seed: int, used: Callable[[Study], bool]) -> Study | None:
    """The first wanted study in the order of SHA-256("seed:study_id"), one that is not used before if there is one."""
    order = sorted(
        (study for study, is_wanted in zip(studies, wanted, strict=True) if is_wanted),
        key=lambda study: hashlib.sha256(f"{seed}:{study.study_id}".encode()).digest(),
    )
    return next((study for study in order if not used(study)), order[0] if order else None)
