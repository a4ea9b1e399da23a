"""What is wrong or odd with a data set, before anything is trained on it. Reports ids and counts, never text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from radiograd.config import DataConfig, SplitConfig
from radiograd.data import DUPLICATE_ID, Loaded, load
from radiograd.data.films import is_missing
from radiograd.data.prepare import has_letter, is_usable, naming_a_split
from radiograd.data.splits import given, leaks, study_groups
from radiograd.data.views import view_kind
from radiograd.errors import DataError
from radiograd.tasks import TASKS
from radiograd.types import Study

Level = Literal["error", "warning", "info"]

SHORT_WORDS = {"findings": 3, "impression": 2}
LONG_WORDS = {"findings": 300, "impression": 150}
MAX_IDS = 5

_MOJIBAKE = re.compile(r"[ÃÂ][\u0080-\u00bf]|â€|Ã[ŠƒŒžœŸ‰…†‡–—˜™š›“”„‘’‚•¡-¿]|ï»¿")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing noticed: how bad, how many, what, and where (at most five ids)."""

    level: Level
    count: int
    message: str
    ids: tuple[str, ...]


def check(data: DataConfig, seed: int, task: str = "findings_to_impression") -> list[Finding]:
    """Read ``data`` and :func:`examine` it. Raises what :func:`radiograd.data.load` raises."""
    return examine(load(data), data.split, seed, task)


def examine(loaded: Loaded, split: SplitConfig, seed: int, task: str = "findings_to_impression") -> list[Finding]:
    """What there is to say, errors first. error: a run would fail or its test would be wrong; warning: look at it."""
    studies = loaded.studies
    usable = [study for study in studies if is_usable(study)]
    duplicated = [p.where for p in loaded.problems if p.why == DUPLICATE_ID]
    missing = [p.where for p in loaded.problems if is_missing(p)]
    passed_over = [p.where for p in loaded.problems if p.why != DUPLICATE_ID and not is_missing(p)]
    found = [
        _finding("error", duplicated, "rows repeat a study_id and were passed over"),
        _finding("warning", passed_over, "rows or cells could not be read"),
        _finding("warning", missing, "films are named and not on disk; their studies stay with their other films"),
        *_film_findings(studies),
        *_section_findings(studies),
        *_encoding_findings(studies),
        *_duplicate_findings(usable, split, seed),
        _bare_prompts(usable, task),
    ]
    if len(usable) < 3:
        message = "studies have both findings and impression; train, val and test need at least one each"
        found.append(Finding("error", len(usable), message, _first(s.study_id for s in usable)))
    order = ("error", "warning", "info")
    return sorted((f for f in found if f is not None), key=lambda f: order.index(f.level))


def _film_findings(studies: Sequence[Study]) -> list[Finding | None]:
    """What is odd with films, where any are on disk, and with prior studies."""
    films = {s.study_id: [image for image in s.images if image.path is not None] for s in studies}
    kinds = {study_id: {view_kind(image.view) for image in of} for study_id, of in films.items()}
    any_film = any(films.values())
    first: dict[object, str] = {}
    owners = {study_id: {first.setdefault(image.path, study_id) for image in of} for study_id, of in films.items()}
    shared = [study_id for study_id, of in owners.items() if of - {study_id}]
    ids = set(films)
    return [
        _finding("warning", (i for i, of in films.items() if any_film and not of), "studies have no film"),
        _finding(
            "info",
            (i for i, kind in kinds.items() if kind and not kind & {"frontal", "unknown"}),
            "studies have films, and none of them is frontal",
        ),
        _finding("info", (i for i, kind in kinds.items() if "unknown" in kind), "studies have films of unknown view"),
        _finding("error", shared, "studies name a film that belongs to an earlier one"),
        _finding(
            "info",
            (s.study_id for s in studies if s.prior is not None and s.prior not in ids),
            "studies have a prior that is none of the studies read",
        ),
    ]


def _section_findings(studies: Sequence[Study]) -> list[Finding | None]:
    found: list[Finding | None] = []
    for name in ("findings", "impression"):
        texts = [(s.study_id, s.sections.text(name)) for s in studies]
        lengths = [(study_id, len(text.split())) for study_id, text in texts if text is not None and has_letter(text)]
        short, long = SHORT_WORDS[name], LONG_WORDS[name]
        found += [
            _finding("warning", (i for i, text in texts if text is None), f"studies have no {name} section"),
            _finding(
                "warning",
                (i for i, text in texts if text is not None and not has_letter(text)),
                f"studies have {name} that are empty or hold no letter",
            ),
            _finding("info", (i for i, n in lengths if n < short), f"studies have {name} under {short} words"),
            _finding("info", (i for i, n in lengths if n > long), f"studies have {name} over {long} words"),
        ]
    return found


def _encoding_findings(studies: Sequence[Study]) -> list[Finding | None]:
    def where(test: Callable[[str], object]) -> list[str]:
        return [s.study_id for s in studies if any(test(text) for text in _texts(s))]

    return [
        _finding("warning", where(lambda t: "\ufffd" in t), "studies hold replacement characters (U+FFFD): bytes lost"),
        _finding("warning", where(_MOJIBAKE.search), "studies look like UTF-8 that was read as Windows-1252"),
        _finding("warning", where(_CONTROL.search), "studies hold control characters"),
    ]


def _texts(study: Study) -> list[str]:
    sections = study.sections
    texts = (sections.findings, sections.impression, sections.comparison, study.indication, study.prior)
    return [text for text in texts if text]


def _duplicate_findings(usable: Sequence[Study], split: SplitConfig, seed: int) -> list[Finding | None]:
    pairs = [(s.sections.findings, s.sections.impression) for s in usable]
    first: dict[object, str] = {}
    copies = [
        s.study_id for s, pair in zip(usable, pairs, strict=True) if first.setdefault(pair, s.study_id) != s.study_id
    ]
    groups = study_groups(usable, split.near_duplicate, seed)
    sizes = Counter(groups)
    linked = [s.study_id for s, group in zip(usable, groups, strict=True) if sizes[group] > 1]
    found = [
        _finding("info", copies, "studies copy findings and impression of an earlier one"),
        _finding(
            "info",
            linked,
            f"studies share a group with others (patient, or findings alike at {split.near_duplicate:g}); "
            f"a drawn split keeps groups whole (largest: {max(sizes.values(), default=0)})",
        ),
    ]
    return found + _given_split_findings(usable, split, seed) if split.use_given else found


def _given_split_findings(usable: Sequence[Study], split: SplitConfig, seed: int) -> list[Finding | None]:
    usable, without = naming_a_split(usable)
    try:
        assignment = given(usable)
    except DataError as error:
        return [Finding("error", 1, str(error), ())]
    shared = leaks(usable, assignment, split.near_duplicate, seed)
    exact = leaks(usable, assignment, 1.0, seed)
    return [
        _finding("info", (s.study_id for s in without), "studies name no split and are left out of all three"),
        _finding("error", shared.patients, "patients have studies in more than one split"),
        _finding(
            "error", exact.studies, "val and test studies have findings with the same words as one in another split"
        ),
        _finding(
            "warning",
            shared.studies,
            f"val and test studies have near-duplicate findings ({split.near_duplicate:g}) in another split",
        ),
    ]


def _bare_prompts(usable: Sequence[Study], task: str) -> Finding | None:
    """Usable studies whose prompt would hold nothing but the instruction."""
    shown = TASKS[task].shown
    bare = [s.study_id for s in usable if not any(has_letter(read(s)) for _, read in shown)]
    labels = " nor ".join(label.lower() for label, _ in shown)
    labels = f"neither {labels}" if len(shown) > 1 else f"no {labels}"
    return _finding(
        "warning", bare, f"studies have {labels}: there is nothing to write their {TASKS[task].section} from"
    )


def _finding(level: Level, ids: Iterable[str], message: str) -> Finding | None:
    ids = list(ids)
    return Finding(level, len(ids), message, _first(ids)) if ids else None


def _first(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(ids)[:MAX_IDS]
