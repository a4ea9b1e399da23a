"""Train, val and test by patient and by group of near-duplicate findings, never by row.

Two studies whose findings share most of their words end up in the same split, and so does everything linked to either
of them: otherwise a model is tested on reports it has read. All functions are pure.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from radiograd.config import SplitConfig
from radiograd.errors import DataError
from radiograd.types import SPLITS, Study

Ints = NDArray[np.int64]
Key = TypeVar("Key", bound=Hashable)

EXACT_LIMIT = 6000
"""Up to this many distinct word sets every pair is compared; above, only pairs that MinHash proposes."""

_WORD = re.compile(r"[^\W_]+")
_MISS = 1e-3  # probability that MinHash overlooks a pair that lies exactly at the threshold
_MAX_HASHES = 400
_SMALL = 24  # buckets up to this size are expanded into pairs
_GIVEN = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


# ---- near duplicates -------------------------------------------------------------------------------------------------


def near_duplicate_groups(texts: Sequence[str], threshold: float, seed: int) -> list[int]:
    """A group number for each text: connected components of "word Jaccard >= ``threshold``".

    Words are lower-cased runs of letters and digits, each counted once.

    Groups are numbered in order of first appearance; the partition does not depend on the order of ``texts``.

    Exact: texts with the same word set always share a group; no link is made below the threshold (every proposed
    pair is verified on the word sets); with at most ``EXACT_LIMIT`` distinct word sets no link is missed either.
    Approximate: above that limit links are proposed by banded MinHash (Broder 1997), which overlooks a pair lying
    exactly at the threshold with a probability of at most 0.001, and more similar pairs more rarely; a pair overlooked
    may still be joined through a third text. ``seed`` draws the hash functions. Within a bucket only studies outside
    its largest component are compared with the rest: pairs already linked through others need no comparison.
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError("threshold lies in (0, 1]")
    sets, number = _distinct_sets(texts)
    roots = _components(sets, threshold, seed)
    first: dict[int, int] = {}
    return [first.setdefault(int(roots[k]), len(first)) for k in number]


class _WordSets:
    """Distinct word sets by ascending size: ``words[starts[k]:starts[k + 1]]`` are the word numbers of set k."""

    def __init__(self, words: NDArray[np.int32], sizes: Ints, vocabulary: list[str]) -> None:
        self.words = words
        self.sizes = sizes
        self.starts: Ints = np.concatenate([[0], np.cumsum(sizes)])
        self.vocabulary = vocabulary

    def gather(self, members: Ints) -> tuple[NDArray[np.int32], Ints]:
        """The words of ``members`` end to end, and where each member's begin (one more than members)."""
        starts: Ints = np.concatenate([[0], np.cumsum(self.sizes[members])])
        places = np.arange(starts[-1]) + np.repeat(self.starts[members] - starts[:-1], self.sizes[members])
        return self.words[places], starts


def _distinct_sets(texts: Sequence[str]) -> tuple[_WordSets, list[int]]:
    """The distinct word sets, and for each text the number of its set."""
    vocabulary: dict[str, int] = {}
    keys: dict[bytes, int] = {}
    owner: list[int] = []
    for text in texts:
        found = sorted({vocabulary.setdefault(word, len(vocabulary)) for word in _WORD.findall(text.lower())})
        owner.append(keys.setdefault(np.array(found, dtype=np.int32).tobytes(), len(keys)))
    unsorted_keys = list(keys)
    order = sorted(range(len(unsorted_keys)), key=lambda k: len(unsorted_keys[k]))
    rank = {old: new for new, old in enumerate(order)}
    joined = np.frombuffer(b"".join(unsorted_keys[k] for k in order), dtype=np.int32)
    sizes = np.array([len(unsorted_keys[k]) // 4 for k in order], dtype=np.int64)
    return _WordSets(joined, sizes, list(vocabulary)), [rank[k] for k in owner]


class _Forest:
    """Union-find over numbers 0..n-1."""

    def __init__(self, n: int) -> None:
        self.parent: Ints = np.arange(n)

    def find(self, members: Ints) -> Ints:
        """The root of each member; paths are shortened."""
        roots = self.parent[members]
        while True:
            above = self.parent[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        self.parent[members] = roots
        return roots

    def union(self, members: Ints) -> None:
        """Put all members into one component."""
        roots = self.find(members)
        self.parent[roots] = roots.min()


def _components(sets: _WordSets, threshold: float, seed: int) -> Ints:
    n = len(sets.sizes)
    forest = _Forest(n)
    if threshold < 1.0:
        worded = np.flatnonzero(sets.sizes)
        if len(worded) <= EXACT_LIMIT:
            _join_bucket(sets, worded, threshold, forest)
        else:
            for keys in _band_keys(sets, worded, threshold, seed):
                _join_band(sets, worded, keys, threshold, forest)
    return forest.find(np.arange(n))


def bands(threshold: float) -> tuple[int, int]:
    """(rows per band, bands): the most selective MinHash banding that finds a pair at ``threshold`` nearly always.

    A band of r rows agrees with probability t**r, so b bands overlook the pair with probability (1 - t**r)**b.
    """
    best = (1, math.ceil(math.log(_MISS) / math.log1p(-threshold)))
    for rows in range(2, 40):
        needed = math.ceil(math.log(_MISS) / math.log1p(-(threshold**rows)))
        if rows * needed <= _MAX_HASHES:
            best = (rows, needed)
    return best


def _band_keys(sets: _WordSets, members: Ints, threshold: float, seed: int) -> Iterator[NDArray[np.uint64]]:
    """One array per band: a key per member; equal keys put members into the same bucket."""
    digests = b"".join(hashlib.blake2b(w.encode("utf-8", "replace"), digest_size=8).digest() for w in sets.vocabulary)
    hashed = np.frombuffer(digests, dtype=np.uint64)
    rng = np.random.default_rng(seed)
    words, starts = sets.gather(members)
    rows, count = bands(threshold)
    for _ in range(count):
        keys = np.zeros(len(members), dtype=np.uint64)
        for _ in range(rows):
            odd, shift, mix = (rng.integers(0, 2**64, size=3, dtype=np.uint64) | np.uint64(1)).tolist()
            table = ((hashed * np.uint64(odd) + np.uint64(shift)) >> np.uint64(32)).astype(np.uint32)
            smallest = np.minimum.reduceat(table[words], starts[:-1])
            keys = (keys ^ smallest) * np.uint64(mix)
        yield keys


def _join_band(sets: _WordSets, members: Ints, keys: NDArray[np.uint64], threshold: float, forest: _Forest) -> None:
    """Link near duplicates that share a bucket of this band."""
    order = np.argsort(keys, kind="stable")
    sorted_keys, ordered = keys[order], members[order]
    begin = np.flatnonzero(np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]]))
    end = np.append(begin[1:], len(ordered))
    roots = forest.find(ordered)
    mixed = np.minimum.reduceat(roots, begin) != np.maximum.reduceat(roots, begin)
    begin, end = begin[mixed], end[mixed]
    small = end - begin <= _SMALL
    left, right = _pairs_within(begin[small], end[small])
    near = (roots[left] != roots[right]) & (
        sets.sizes[ordered[left]] / sets.sizes[ordered[right]] >= threshold
    )  # members ascend by size, so left is never larger
    _join_pairs(sets, ordered[left[near]], ordered[right[near]], threshold, forest)
    for a, b in zip(begin[~small].tolist(), end[~small].tolist(), strict=True):
        _join_bucket(sets, ordered[a:b], threshold, forest)


def _pairs_within(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """All pairs of places (left < right) inside each run begin[i]:end[i]."""
    lefts, rights = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for step in range(1, int((end - begin).max(initial=1))):
        count = np.maximum(end - begin - step, 0)
        offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        lefts.append(np.repeat(begin, count) + offset)
        rights.append(lefts[-1] + step)
    return np.concatenate(lefts), np.concatenate(rights)


def _join_pairs(sets: _WordSets, left: Ints, right: Ints, threshold: float, forest: _Forest) -> None:
    """Link each pair (left[i], right[i]) whose word sets are near."""
    chunk = max(1, min(512, 2**24 // max(1, len(sets.vocabulary))))  # pairs at a time; their marks stay under 16 MB
    mark = np.zeros((chunk, len(sets.vocabulary)), dtype=np.bool_)
    for start in range(0, len(left), chunk):
        a, b = left[start : start + chunk], right[start : start + chunk]
        row = np.arange(len(a))
        words_a, _ = sets.gather(a)
        words_b, starts_b = sets.gather(b)
        row_a = np.repeat(row, sets.sizes[a])
        mark[row_a, words_a] = True
        hits = mark[np.repeat(row, sets.sizes[b]), words_b].astype(np.int64)
        mark[row_a, words_a] = False
        shared = np.add.reduceat(hits, starts_b[:-1])
        near = shared / (sets.sizes[a] + sets.sizes[b] - shared) >= threshold
        for i in np.flatnonzero(near):
            forest.union(np.array([a[i], b[i]]))


def _join_bucket(sets: _WordSets, members: Ints, threshold: float, forest: _Forest) -> None:
    """Link all near pairs among ``members`` (ascending by size).

    Two members of different components are missed by no comparison as long as every member outside one component has
    been compared with all; so members of the component that is largest at the time wait, and mostly need no turn.
    """
    if len(members) < 2:
        return
    compare = _Comparison(sets, members, threshold)
    roots = forest.find(members)
    waiting = np.ones(len(members), dtype=np.bool_)
    turns = 8
    while True:
        _, places, counts = np.unique(roots, return_index=True, return_counts=True)
        largest = places[counts.argmax()]
        leaders = np.flatnonzero(waiting & (roots != roots[largest]))
        if not len(leaders):
            return
        for leader in leaders[:turns].tolist():
            if roots[leader] == roots[largest]:
                continue
            waiting[leader] = False
            near = compare.near(leader)
            if (roots[near] != roots[leader]).any():
                forest.union(members[near])
                roots = forest.find(members)
        turns *= 2


class _Comparison:
    """Which of ``members`` (ascending by size, none empty) are near one of them."""

    def __init__(self, sets: _WordSets, members: Ints, threshold: float) -> None:
        self.threshold = threshold
        self.sizes = sets.sizes[members]
        self.words, self.starts = sets.gather(members)
        self.mark = np.zeros(len(sets.vocabulary), dtype=np.int32)

    def near(self, leader: int) -> Ints:
        """Places of the members, ``leader`` among them, whose Jaccard with it reaches the threshold. Exact."""
        size = self.sizes[leader]
        low = int(np.searchsorted(self.sizes / size, self.threshold, side="left"))
        high = int(np.searchsorted(self.sizes, math.ceil(size / self.threshold) + 1, side="right"))
        own = self.words[self.starts[leader] : self.starts[leader + 1]]
        self.mark[own] = 1
        inside = self.mark[self.words[self.starts[low] : self.starts[high]]]
        self.mark[own] = 0
        shared = np.add.reduceat(inside, self.starts[low:high] - self.starts[low])
        return low + np.flatnonzero(shared / (size + self.sizes[low:high] - shared) >= self.threshold)


# ---- groups and splits -----------------------------------------------------------------------------------------------


def study_groups(studies: Sequence[Study], threshold: float, seed: int) -> list[int]:
    """A group number for each study: studies linked by patient or by near-duplicate findings share one.

    A study whose findings hold no word is linked by its patient only. The partition does not depend on row order.
    """
    forest = _Forest(len(studies))
    for members in _by(study.patient_id for study in studies).values():
        forest.union(np.array(members))
    worded = [k for k, study in enumerate(studies) if _WORD.search(_findings(study).lower())]
    near = near_duplicate_groups([_findings(studies[k]) for k in worded], threshold, seed)
    for places in _by(near).values():
        forest.union(np.array([worded[p] for p in places]))
    first: dict[int, int] = {}
    return [first.setdefault(root, len(first)) for root in forest.find(np.arange(len(studies))).tolist()]


def held_out_limit(n: int, split: SplitConfig) -> int:
    """The largest group that may be held out: a twentieth of the smaller held-out share of ``n`` studies.

    In small collections, up to ten studies or half of that share, whichever is less; never below 1.

    Near-duplicates chain: normal findings written from a few templates link into groups of dozens to hundreds. One
    such group in a test set would be a tenth of it, all one sentence. Larger groups go to train whole, so that val
    and test are many small groups; the price, shown in the counts, is fewer normal studies there than in train.
    """
    smaller = min(share for share in (split.val, split.test) if share > 0) * n
    return max(1, int(max(smaller / 20, min(10, smaller / 2))))


def divide(studies: Sequence[Study], groups: Sequence[int], split: SplitConfig, seed: int) -> dict[str, str]:
    """study_id -> train | val | test, whole groups at a time.

    Groups are lined up by a hash of the seed and their smallest study_id; test is filled first, then val, and the rest
    is train. So the result does not depend on row order, and added studies move only the groups they join and a few
    at the two borders. Groups above :func:`held_out_limit` are train. When the others are fewer than val and test ask
    for, both shrink by the same factor.
    """
    limit = held_out_limit(len(studies), split)
    members = list(_by(groups).values())
    small = [group for group in members if len(group) <= limit]
    available = sum(len(group) for group in small)
    shrink = min(1.0, available / max(1.0, (split.val + split.test) * len(studies)))
    targets = {name: share * len(studies) * shrink for name, share in (("test", split.test), ("val", split.val))}
    filling = [name for name, target in targets.items() if target > 0]
    assignment = {study.study_id: "train" for study in studies}
    filled: Counter[str] = Counter()
    for group in sorted(small, key=lambda g: _lot(seed, min(studies[k].study_id for k in g))):
        while filling and filled[filling[0]] and filled[filling[0]] + len(group) / 2 > targets[filling[0]]:
            filling.pop(0)
        if not filling:
            break
        filled[filling[0]] += len(group)
        for k in group:
            assignment[studies[k].study_id] = filling[0]
    return assignment


def given(studies: Iterable[Study]) -> dict[str, str]:
    """study_id -> the split the source names (valid, validation, dev, ... mean val). DataError when one names none."""
    assignment: dict[str, str] = {}
    without: list[str] = []
    for study in studies:
        name = _GIVEN.get((study.split or "").strip().lower())
        if name is None:
            without.append(study.study_id)
        else:
            assignment[study.study_id] = name
    if without:
        raise DataError(
            f"data.split.use_given: {len(without)} studies name no split of train, val, test (first: {without[0]}); "
            f"map the column with data.columns.split=COLUMN, or set data.split.use_given=false"
        )
    return assignment


def draw(study_ids: Iterable[str], n: int, seed: int) -> set[str]:
    """``n`` of the ids (all when there are fewer). Does not depend on their order; a smaller draw is a subset."""
    return set(sorted(study_ids, key=lambda study_id: _lot(seed, f"draw:{study_id}"))[:n])


# ---- leaks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leaks:
    """What is shared between splits."""

    exact_pairs: int
    """Pairs of studies in different splits whose findings have the same words."""
    near_pairs: int
    """Pairs of studies in different splits whose findings are near duplicates, the exact ones included."""
    studies: tuple[str, ...]
    """Ids of val and test studies with a near duplicate in another split."""
    patients: tuple[str, ...]
    """Patients with studies in more than one split."""


def leaks(studies: Sequence[Study], assignment: Mapping[str, str], threshold: float, seed: int) -> Leaks:
    """Near-duplicate findings and patients that ``assignment`` puts into different splits.

    Pairs are looked for inside near-duplicate groups, so above ``EXACT_LIMIT`` distinct findings the count may miss
    what :func:`near_duplicate_groups` misses. Findings without a word are left out.
    """
    worded = [study for study in studies if _WORD.search(_findings(study).lower())]
    sets, number = _distinct_sets([_findings(study) for study in worded])
    where = np.zeros((len(sets.sizes), len(SPLITS)), dtype=np.int64)  # (distinct sets, splits): how many studies
    for k, study in zip(number, worded, strict=True):
        where[k, SPLITS.index(assignment[study.study_id])] += 1
    exact = near_twice = 0
    leaking: set[int] = set()
    for group in _by(_components(sets, threshold, seed).tolist()).values():
        members = np.array(group)
        counts = where[members]  # (members, splits)
        if (counts.sum(axis=0) > 0).sum() < 2:
            continue
        compare = _Comparison(sets, members, threshold)
        held_out = (counts[:, 1:] > 0).any(axis=1)
        for k in np.flatnonzero(held_out).tolist():
            near = compare.near(k) if threshold < 1.0 else np.array([k])
            # every pair across splits has a held-out member; one that both members lead is counted from both sides
            across = counts[k].sum() * counts[near].sum(axis=1) - counts[near] @ counts[k]
            near_twice += int((across * np.where(held_out[near], 1, 2)).sum())
            exact += int(counts[k].sum() ** 2 - counts[k] @ counts[k]) // 2
            if any(counts[k, s] and counts[near].sum() > counts[near, s].sum() for s in (1, 2)):
                leaking.add(group[k])
    ids = (
        study.study_id
        for k, study in zip(number, worded, strict=True)
        if k in leaking and assignment[study.study_id] != "train"
    )
    return Leaks(exact, near_twice // 2, tuple(ids), _patients_across(studies, assignment))


def _patients_across(studies: Iterable[Study], assignment: Mapping[str, str]) -> tuple[str, ...]:
    splits: dict[str, set[str]] = defaultdict(set)
    for study in studies:
        splits[study.patient_id].add(assignment[study.study_id])
    return tuple(patient for patient, names in splits.items() if len(names) > 1)


def _findings(study: Study) -> str:
    return study.sections.findings or ""


def _by(keys: Iterable[Key]) -> dict[Key, list[int]]:
    """Key -> places where it occurs, in order of first appearance."""
    places: dict[Key, list[int]] = {}
    for k, key in enumerate(keys):
        places.setdefault(key, []).append(k)
    return places


def _lot(seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "replace"), digest_size=16).digest()
