"""Which studies a diverse selection passes over, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radiograd.config import DiverseConfig
from radiograd.coverage import Array, Ints
from radiograd.data.splits import near_duplicate_groups
from radiograd.types import Labels, Status, Study

REFUSED = "refused: "
DUPLICATE = f"{REFUSED}near-duplicate of a study that is kept"


def refusals(
    studies: Sequence[Study],
    said_N: Sequence[Labels],
    std_N: Array | None,
    ties_N: Ints,
    config: DiverseConfig,
    section: str,
    near_duplicate: float,
    seed: int,
) -> list[str]:
    """Why each study is refused, "" for one that is kept; the first reason that holds.

    ``said_N``: labels of the references. ``std_N``: standard deviation of the diagnostic F1 over the completions, None
    where nothing was sampled. Near-duplicate findings come last: of the studies of a group that nothing else refuses,
    the one with the smallest of ``ties_N`` is kept. Findings without a word have no duplicate. ``near_duplicate`` and
    ``seed``: as the splits were made with.
    """
    fewest, most = config.words
    why = []
    for k, study in enumerate(studies):
        words = len((study.sections.findings or "").split())
        if not (study.sections.text(section) or "").strip():
            why.append(f"{REFUSED}no {section} to hold a completion against")
        elif words < fewest:
            why.append(f"{REFUSED}findings of fewer than {fewest} words")
        elif words > most:
            why.append(f"{REFUSED}findings of more than {most} words")
        elif all(status is Status.UNMENTIONED for status in said_N[k].values()):
            why.append(f"{REFUSED}the {section} mentions no label")
        elif std_N is not None and std_N[k] < config.min_std:
            why.append(f"{REFUSED}standard deviation of the diagnostic F1 below {config.min_std:g}")
        else:
            why.append("")
    kept = np.array([k for k, reason in enumerate(why) if not reason], dtype=np.int64)
    for k in _repeated(studies, kept, ties_N, near_duplicate, seed):
        why[k] = DUPLICATE
    return why


def _repeated(studies: Sequence[Study], places: Ints, ties_N: Ints, near_duplicate: float, seed: int) -> list[int]:
    """Those of ``places`` whose findings are near-duplicates of another's with a smaller tie."""
    texts = {int(k): studies[k].sections.findings or "" for k in places}
    worded = [k for k, text in texts.items() if any(character.isalnum() for character in text)]
    groups = near_duplicate_groups([texts[k] for k in worded], near_duplicate, seed)
    first: dict[int, int] = {}
    for k, group in zip(worded, groups, strict=True):
        if group not in first or ties_N[k] < ties_N[first[group]]:
            first[group] = k
    return [k for k, group in zip(worded, groups, strict=True) if first[group] != k]
