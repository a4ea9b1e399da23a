"""Single held-out studies: ten drawn blind, the best and the worst, those that moved most, with texts side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from radiograd.report.evidence import Part, Remark, label_remarks, marked, marked_diff
from radiograd.report.findings import label_texts
from radiograd.report.inputs import Inputs
from radiograd.report.wording import METRIC_LABELS, ROW_LABELS, hundredths, listed, metric_group, signed
from radiograd.tasks import TASKS
from radiograd.text.generated import cut
from radiograd.types import REPORT, Study

CASES = {"abnormal": 7, "normal": 3}
EXTREMES = 3
Scores = Mapping[tuple[str, str], Mapping[str, float | None]]
"""(row, study id) -> metric -> value."""


def kind(study: Study) -> str:
    """normal | abnormal | unlabelled, as the source's codes say."""
    return {True: "normal", False: "abnormal", None: "unlabelled"}[study.normal]


def choose_cases(studies: Iterable[Study], seed: int) -> list[Study]:
    """Ten held-out studies by a draw that knows nothing of any model: 7 abnormal and 3 normal where there are so many.

    The order of the draw is that of SHA-256("seed:study_id"), so it does not depend on row order or library versions.
    """
    drawn = sorted(studies, key=lambda s: hashlib.sha256(f"{seed}:{s.study_id}".encode()).digest())
    chosen = [s for name, count in CASES.items() for s in [d for d in drawn if kind(d) == name][:count]]
    chosen += [s for s in drawn if s not in chosen][: sum(CASES.values()) - len(chosen)]
    order = ("abnormal", "unlabelled", "normal")
    return sorted(chosen, key=lambda s: order.index(kind(s)))


def case_rule(chosen: Sequence[Study], seed: int) -> str:
    """How the cases were drawn, for the page."""
    kinds = [kind(s) for s in chosen]
    held = listed([f"{kinds.count(k)} {k}" for k in ("abnormal", "normal", "unlabelled") if k in kinds] or ["0"])
    return (
        f"{len(chosen)} held-out studies ({held}), drawn without looking at any output: test studies in the order of "
        f'SHA-256("{seed}:study id"), the first 7 abnormal and the first 3 normal, filled up from the rest.'
    )


def biggest_moves(
    studies: Iterable[Study],
    scores: Scores,
    metric: str,
    lower_is_better: bool = False,
) -> tuple[list[tuple[str, Study]], list[tuple[str, Study]]]:
    """The studies aligned gained and lost most on against SFT, with the change as text; ties by study id."""
    moves = []
    for study in studies:
        before = scores.get(("sft", study.study_id), {}).get(metric)
        after = scores.get(("aligned", study.study_id), {}).get(metric)
        if before is not None and after is not None:
            moves.append((after - before, study))
    up = sorted((m for m in moves if m[0] > 0), key=lambda m: (-m[0], m[1].study_id))[:EXTREMES]
    down = sorted((m for m in moves if m[0] < 0), key=lambda m: (m[0], m[1].study_id))[:EXTREMES]
    gains, losses = (down, up) if lower_is_better else (up, down)
    return [(signed(d), s) for d, s in gains], [(signed(d), s) for d, s in losses]


def best_and_worst(
    studies: Iterable[Study],
    scores: Scores,
    row: str,
    metric: str,
    lower_is_better: bool = False,
    section: str = "impression",
) -> tuple[list[tuple[str, Study]], list[tuple[str, Study]]]:
    """The studies a row did best and worst on, with the value as text; no study is in both.

    Among equals abnormal studies come first, then longer references, then study ids: a perfect "no acute disease"
    shows nothing. Best needs a value that another study does not reach; without any difference both are empty.
    """
    known = [(v, s) for s in studies if (v := scores.get((row, s.study_id), {}).get(metric)) is not None]
    if len({value for value, _ in known}) < 2:
        return [], []

    def tie(study: Study) -> tuple[bool, int, str]:
        return study.normal is not False, -len((study.sections.text(section) or "").split()), study.study_id

    up = sorted(known, key=lambda one: (one[0] if lower_is_better else -one[0], *tie(one[1])))[:EXTREMES]
    left = [one for one in known if one not in up]
    down = sorted(left, key=lambda one: (-one[0] if lower_is_better else one[0], *tie(one[1])))[:EXTREMES]
    best, worst = ([(hundredths(value), study) for value, study in found] for found in (up, down))
    return best, worst


def case_view(study: Study, rows: Sequence[str], inputs: Inputs, metrics: Sequence[str]) -> dict[str, Any]:
    """One study with its texts; ``blocks`` is None where a row has no text for it."""
    reference = inputs.written(study)
    said = [inputs.texts.get((row, study.study_id)) for row in rows]
    theirs, *ours = label_texts([reference, *(text or "" for text in said)])
    texts = []
    for row, text, labels in zip(rows, said, ours, strict=True):
        scores = inputs.scores.get((row, study.study_id), {})
        values = [(METRIC_LABELS.get(m, m), hundredths(v)) for m in metrics if (v := scores.get(m)) is not None]
        texts.append(
            {
                "label": ROW_LABELS.get(row, row),
                "blocks": None if text is None else _compared(reference, text, inputs.section),
                "empty": text == "",
                "scores": values,
                "remarks": None
                if text is None or not reference.strip()
                else [*_form_remarks(text, inputs.section), *label_remarks(theirs, labels)],
            }
        )
    return {
        "id": study.study_id,
        "kind": kind(study),
        "codes": study.codes,
        "given": TASKS[inputs.run.config.task].given(study),
        "reference": [(title, marked(text)) for title, text in _blocks(reference, inputs.section)],
        "texts": texts,
    }


def _blocks(text: str, section: str) -> list[tuple[str, str]]:
    """(title, text) of the sections of a whole report; of any other text the text alone, without a title."""
    found = cut(text)
    if section != REPORT or not found.whole:
        return [("", text)]
    return [("Findings", found.findings or ""), ("Impression", found.impression or "")]


def _compared(reference: str, text: str, section: str) -> list[tuple[str, tuple[Part, ...]]]:
    """The word diff of a text, section by section where both it and the reference have sections."""
    theirs, ours = _blocks(reference, section), _blocks(text, section)
    if len(theirs) != len(ours):
        return [("", marked_diff(reference, text))]
    return [(title, marked_diff(a, b)) for (_, a), (title, b) in zip(theirs, ours, strict=True)]


def _form_remarks(text: str, section: str) -> list[Remark]:
    if section != REPORT or cut(text).whole:
        return []
    return [Remark("missed", "cannot be cut into findings and impression")]


def case_metrics(metrics: Sequence[str], mains: Sequence[str]) -> list[str]:
    """What stands below a text: the reward, the main metrics, and all that is not about wording alone."""
    return [m for m in metrics if m in ("reward", *mains) or metric_group(m) != "wording"]
