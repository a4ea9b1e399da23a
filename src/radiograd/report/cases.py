"""Single held-out studies: the ten drawn blind, those that moved most, and each with its texts side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from radiograd.report.inputs import Inputs
from radiograd.report.wording import METRIC_LABELS, ROW_LABELS, hundredths, listed, signed
from radiograd.types import Study
from radiograd.worddiff import Piece, diff_words

CASES = {"abnormal": 7, "normal": 3}
EXTREMES = 3


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
    scores: Mapping[tuple[str, str], Mapping[str, float | None]],
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


def case_view(study: Study, rows: Sequence[str], inputs: Inputs, metrics: Sequence[str]) -> dict[str, Any]:
    """One study with its texts; ``pieces`` is None where a row has no text for it."""
    reference = study.sections.impression or ""
    texts = []
    for row in rows:
        text = inputs.texts.get((row, study.study_id))
        scores = inputs.scores.get((row, study.study_id), {})
        pieces: tuple[Piece, ...] | None = None if text is None else diff_words(reference, text)
        values = [(METRIC_LABELS.get(m, m), hundredths(v)) for m in metrics if (v := scores.get(m)) is not None]
        texts.append({"label": ROW_LABELS.get(row, row), "pieces": pieces, "empty": text == "", "scores": values})
    return {
        "id": study.study_id,
        "kind": kind(study),
        "codes": study.codes,
        "findings": study.sections.findings,
        "reference": reference,
        "texts": texts,
    }
