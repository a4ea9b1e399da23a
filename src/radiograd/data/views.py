"""What a source calls a view -> one name for it, and what it counts as. Pure.

DICOM writes PA, AP, LL (left lateral), RL (0018,5101); MIMIC-CXR adds LATERAL and XTABLE LATERAL, PadChest L and
AP_horizontal, ReXGradient POSTERO_ANTERIOR and ANTERO_POSTERIOR.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

from radiograd.types import Image

# PadChest's EXCLUDE is a view that is none of theirs; it stays as given and counts as other
_UNKNOWN = {"", "unk", "unknown", "n a", "na", "nan", "none", "null"}
_NAMES = {
    "PA": {"pa", "postero anterior", "posteroanterior", "pa chest", "chest pa"},
    "AP": {"ap", "antero posterior", "anteroposterior", "ap horizontal", "ap axial", "ap supine", "ap portable"},
    "Frontal": {"frontal", "front"},
    "Lateral": {"lateral", "lat", "l", "ll", "rl", "left lateral", "right lateral", "large lateral", "xtable lateral"},
}
_NAME_OF = {spelling: name for name, spellings in _NAMES.items() for spelling in spellings}
_RANK = {"frontal": 0, "unknown": 1, "lateral": 2, "other": 3}
_NOT_A_WORD = re.compile(r"[^a-z0-9]+")


@lru_cache(maxsize=1024)
def view_name(given: str | None) -> str | None:
    """PA, AP, Frontal or Lateral for their many spellings; None = unknown; any other view as it was given."""
    words = _NOT_A_WORD.sub(" ", (given or "").lower()).strip()
    if words in _UNKNOWN:
        return None
    return _NAME_OF.get(words) or (given or "").strip()


@lru_cache(maxsize=1024)
def view_kind(view: str | None) -> str:
    """frontal, lateral, other or unknown, for a view in any spelling."""
    name = view_name(view)
    if name is None:
        return "unknown"
    return {"PA": "frontal", "AP": "frontal", "Frontal": "frontal", "Lateral": "lateral"}.get(name, "other")


def is_wanted(view: str | None, wanted: Collection[str] | None) -> bool:
    """Whether ``data.views`` keeps a film of this view; None keeps all."""
    return wanted is None or view_kind(view) in wanted or (view_name(view) or "").lower() in wanted


def frontal_first(images: Sequence[Image]) -> tuple[Image, ...]:
    """The same films: frontal, of unknown view, lateral, others; among equals in the order they came."""
    return tuple(sorted(images, key=lambda image: _RANK[view_kind(image.view)]))
