"""From a source to the lists of studies a run works with, and the numbers that describe them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from radiograd.config import RunConfig, SplitConfig
from radiograd.data import Loaded, load
from radiograd.data.builtin import READERS, TABLES
from radiograd.data.films import film_counts
from radiograd.data.sites import site_counts, site_of_each
from radiograd.data.splits import divide, draw, given, held_out_limit, leaks, study_groups
from radiograd.errors import DataError
from radiograd.types import SPLITS, Problem, Study

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Studies by split, each with ``study.split`` set, in the source's order.

    ``pool`` is the whole train split, whatever limits make of ``train``: what trivial rows may be built from.
    ``counts`` can be written as JSON and holds no report text. Shares are None where nothing was counted.
    """

    train: list[Study]
    val: list[Study]
    test: list[Study]
    pool: list[Study]
    counts: dict[str, Any]
    problems: list[Problem]


def prepare(config: RunConfig) -> Prepared:
    """Read ``config.data``, keep what can be learnt from, split all of it, then apply the limits.

    A study is usable, for either task, when its findings and its impression both hold a letter: one is shown and the
    other written, or both are written. The split is drawn before the limits,
    so a quick run tests on studies that the full run does not train on. Sites are told apart after the split: a run
    that trains on one is tested on the same studies as a run that trains on another. With ``split.use_given`` a study
    that names no split is left out where others name one. Raises what
    :func:`radiograd.data.load` raises, and DataError when fewer than two studies are usable or a split that was asked
    for is empty.
    """
    return divide_loaded(load(config.data), config)


def divide_loaded(loaded: Loaded, config: RunConfig) -> Prepared:
    """:func:`prepare` for studies that are already read."""
    split, seed = config.data.split, config.split_seed
    usable = [study for study in loaded.studies if is_usable(study)]
    _refuse_too_few(usable, loaded, config.data.source)
    usable, without_split = naming_a_split(usable) if split.use_given else (usable, [])
    groups = study_groups(usable, split.near_duplicate, seed)
    sites = site_of_each(usable, groups, config.data)
    usable = [replace(study, site=sites.get(study.study_id)) for study in usable]
    assignment = given(usable) if split.use_given else divide(usable, groups, split, seed)
    everything = {name: [s for s in usable if assignment[s.study_id] == name] for name in SPLITS}
    _refuse_empty(everything, split)
    everything = _of_training_sites(everything, config)
    limits = config.data.limit.model_dump()
    capped = dict(everything, train=cap_groups(everything["train"], usable, groups, limits["train_per_group"], seed))
    kept: dict[str, list[Study]] = {}
    for name, studies in capped.items():
        ids = draw((s.study_id for s in studies), len(studies) if limits[name] is None else limits[name], seed)
        kept[name] = [replace(s, split=name) for s in studies if s.study_id in ids]
    pool = [replace(s, split="train") for s in everything["train"]]
    films = film_counts(usable, loaded.problems)
    counts = {
        **_counts(loaded, usable, config.section),
        **({"without_split": len(without_split)} if without_split else {}),
        **({"films": films} if films else {}),
        **_group_counts(usable, groups, split, assignment, seed),
        **({"sites": site_counts(usable, assignment)} if sites else {}),
        "splits": {
            name: _split_counts(everything[name], kept[name], usable, groups, config.section) for name in SPLITS
        },
    }
    if without_split:
        log.info("%d studies name no split and are left out", len(without_split))
    log.info(
        "%d of %d studies usable; train %d, val %d, test %d",
        len(usable),
        len(loaded.studies),
        *(len(kept[name]) for name in SPLITS),
    )
    return Prepared(kept["train"], kept["val"], kept["test"], pool, counts, loaded.problems)


def naming_a_split(studies: Sequence[Study]) -> tuple[list[Study], list[Study]]:
    """Studies that name a split, and those that name none; all are the first where none names one."""
    named = [study for study in studies if (study.split or "").strip()]
    return (named, [s for s in studies if not (s.split or "").strip()]) if named else (list(studies), [])


def _of_training_sites(everything: Mapping[str, list[Study]], config: RunConfig) -> dict[str, list[Study]]:
    """Train and val of the sites that are trained on; test of every site. DataError when nothing is left."""
    chosen = config.data.sites.train
    if not chosen:
        return dict(everything)
    kept = {
        name: studies if name == "test" else [study for study in studies if study.site in chosen]
        for name, studies in everything.items()
    }
    empty = [name for name in ("train", "val") if everything[name] and not kept[name]]
    if empty:
        raise DataError(f"no study of {', '.join(chosen)} falls into {' and '.join(empty)}; give it more studies")
    return kept


def cap_groups(
    studies: Sequence[Study], usable: Sequence[Study], groups: Sequence[int], most: int | None, seed: int
) -> list[Study]:
    """``studies`` without all but ``most`` of each near-duplicate group, drawn with the seed; None keeps all.

    ``groups`` numbers ``usable``. The draw does not depend on row order.
    """
    if most is None:
        return list(studies)
    number = {study.study_id: group for study, group in zip(usable, groups, strict=True)}
    members: dict[int, list[str]] = {}
    for study in studies:
        members.setdefault(number[study.study_id], []).append(study.study_id)
    chosen = {study_id for ids in members.values() for study_id in draw(ids, most, seed)}
    return [study for study in studies if study.study_id in chosen]


def is_usable(study: Study) -> bool:
    """Whether findings and impression both hold at least one letter."""
    return has_letter(study.sections.findings) and has_letter(study.sections.impression)


def has_letter(text: str | None) -> bool:
    """Whether there is anything to read."""
    return any(character.isalpha() for character in text or "")


def normal_share(studies: Sequence[Study]) -> float | None:
    """Share of normal studies among those whose source says normal or not; None when it says so of none."""
    said = [study.normal for study in studies if study.normal is not None]
    return sum(said) / len(said) if said else None


def redacted_share(texts: Sequence[str]) -> float | None:
    """Share of texts holding the de-identification mark XXXX; None of no texts."""
    return sum("XXXX" in text for text in texts) / len(texts) if texts else None


def _counts(loaded: Loaded, usable: Sequence[Study], section: str) -> dict[str, Any]:
    return {
        "read": len(loaded.studies),
        "problems": len(loaded.problems),
        "without_findings": sum(not has_letter(s.sections.findings) for s in loaded.studies),
        "without_impression": sum(not has_letter(s.sections.impression) for s in loaded.studies),
        "usable": len(usable),
        "patients": len({s.patient_id for s in usable}),
        "normal_share": normal_share(usable),
        **_redacted(usable, section),
    }


def _redacted(studies: Sequence[Study], section: str) -> dict[str, float | None]:
    """Share of the texts to be written that hold the de-identification mark, under a name that says which."""
    return {f"redacted_{section}_share": redacted_share([s.sections.text(section) or "" for s in studies])}


def _group_counts(
    usable: Sequence[Study], groups: Sequence[int], split: SplitConfig, assignment: Mapping[str, str], seed: int
) -> dict[str, Any]:
    sizes = Counter(groups)
    limit = held_out_limit(len(usable), split)
    leaked = leaks(usable, assignment, split.near_duplicate, seed)
    return {
        "groups": len(sizes),
        "largest_group": max(sizes.values()),
        "held_out_group_limit": None if split.use_given else limit,
        "kept_in_train_by_limit": 0 if split.use_given else sum(size for size in sizes.values() if size > limit),
        "near_duplicate_pairs_across_splits": leaked.near_pairs,
        "exact_duplicate_pairs_across_splits": leaked.exact_pairs,
        "held_out_studies_with_near_duplicate_elsewhere": len(leaked.studies),
        "patients_across_splits": len(leaked.patients),
    }


def _split_counts(
    everything: Sequence[Study], kept: Sequence[Study], usable: Sequence[Study], groups: Sequence[int], section: str
) -> dict[str, Any]:
    ids = {study.study_id for study in everything}
    sizes = Counter(group for study, group in zip(usable, groups, strict=True) if study.study_id in ids)
    return {
        "studies": len(everything),
        "used": len(kept),
        "patients": len({s.patient_id for s in everything}),
        "groups": len(sizes),
        "largest_group": max(sizes.values(), default=0),
        "normal_share": normal_share(everything),
        "normal_share_used": normal_share(kept),
        **_redacted(kept, section),
    }


def _refuse_too_few(usable: Sequence[Study], loaded: Loaded, source: str) -> None:
    if len(usable) > 1:
        return
    named = source in READERS and source not in TABLES
    hint = "" if named else "; check data.columns.findings and data.columns.impression"
    raise DataError(
        f"{len(usable)} of {len(loaded.studies)} studies read have both findings and impression "
        f"({len(loaded.problems)} rows were passed over); a run needs several{hint}"
    )


def _refuse_empty(everything: Mapping[str, Sequence[Study]], split: SplitConfig) -> None:
    asked = {"train": 1.0, "val": split.val, "test": split.test}
    empty = [name for name in SPLITS if asked[name] > 0 and not everything[name]]
    if not empty:
        return
    n = sum(len(studies) for studies in everything.values())
    if split.use_given:
        without = ", set data.split.val=0" if empty == ["val"] else ""
        todo = f"name it in the data{without}, or set data.split.use_given=false"
    else:
        todo = "give more studies, set a larger data.split.val or .test, or a larger data.split.near_duplicate"
    raise DataError(f"no study of {n} falls into {' and '.join(empty)}; {todo}")
