"""What a set of pairs teaches by itself: lengths, and which findings stand on one side only. Pure; no report text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from radiograd.preferences import Pair
from radiograd.text.labels import RuleLabeler, label_set
from radiograd.types import Labels, Status

SET: Final = "chexpert14"


def describe(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Counts, words and label differences of ``pairs``; findings by our own rules, uncertain counting as said.

    ``labels_differ_share``: pairs whose sides say different findings ("No Finding" follows from the others and is left
    out). Pairs of the same findings differ in wording alone: nothing clinical is learnt from them that the rules see.
    """
    if not pairs:
        return {"pairs": 0}
    chosen, rejected = ([len(text.split()) for text in side] for side in _sides(pairs))
    names = [name for name in label_set(SET).names if name != label_set(SET).no_finding]
    labeler = RuleLabeler(SET)
    said = [[_said(found, names) for found in labeler(list(side))] for side in _sides(pairs)]
    only_chosen = [ours - theirs for ours, theirs in zip(*said, strict=True)]
    only_rejected = [theirs - ours for ours, theirs in zip(*said, strict=True)]
    n = len(pairs)
    missed, invented = (Counter(name for some in only for name in some) for only in (only_chosen, only_rejected))
    return {
        "pairs": n,
        "studies": len({pair.study_id for pair in pairs}),
        "weight_sum": round(sum(pair.weight for pair in pairs), 3),
        "words_chosen_mean": round(sum(chosen) / n, 2),
        "words_rejected_mean": round(sum(rejected) / n, 2),
        "chosen_longer_share": round(sum(a > b for a, b in zip(chosen, rejected, strict=True)) / n, 4),
        "labels_differ_share": round(sum(bool(a or b) for a, b in zip(only_chosen, only_rejected, strict=True)) / n, 4),
        "labels_only_chosen_mean": round(sum(map(len, only_chosen)) / n, 3),
        "labels_only_rejected_mean": round(sum(map(len, only_rejected)) / n, 3),
        "labels": {
            name: {"only_chosen": missed[name], "only_rejected": invented[name]}
            for name in names
            if missed[name] or invented[name]
        },
    }


def _sides(pairs: Sequence[Pair]) -> tuple[list[str], list[str]]:
    return [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]


def _said(found: Labels, names: Sequence[str]) -> set[str]:
    return {name for name in names if found[name] in (Status.PRESENT, Status.UNCERTAIN)}
