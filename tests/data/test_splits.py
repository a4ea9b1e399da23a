import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st
from studies_fixture import distinct_studies, study

from radiograd.config import SplitConfig
from radiograd.data import splits
from radiograd.data.splits import (
    bands,
    divide,
    draw,
    given,
    held_out_limit,
    leaks,
    near_duplicate_groups,
    study_groups,
)
from radiograd.errors import DataError
from radiograd.types import Study

TEXTS = st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=0, max_size=8).map(" ".join), min_size=1, max_size=25)


def word_set(text: str) -> set[str]:
    """The words of a text of ours: single letters and digits between blanks."""
    return set(text.split())


def assign(studies: list[Study], split: SplitConfig, seed: int) -> dict[str, str]:
    """A drawn split as the data step makes it."""
    return divide(studies, study_groups(studies, split.near_duplicate, seed), split, seed)


def jaccard(a: str, b: str) -> float:
    one, two = word_set(a), word_set(b)
    return len(one & two) / len(one | two) if one | two else 1.0


def partition(groups: list[int], names: list[str]) -> set[frozenset[str]]:
    members: dict[int, set[str]] = {}
    for group, name in zip(groups, names, strict=True):
        members.setdefault(group, set()).add(name)
    return {frozenset(names) for names in members.values()}


def slow_groups(texts: list[str], threshold: float) -> list[int]:
    """The same by definition: every pair, then relabel until nothing changes."""
    label = list(range(len(texts)))
    for a, b in combinations(range(len(texts)), 2):
        if jaccard(texts[a], texts[b]) >= threshold:
            label = [label[a] if value == label[b] else value for value in label]
    first: dict[int, int] = {}
    return [first.setdefault(value, len(first)) for value in label]


def report(rng: random.Random) -> str:
    """One of four templates of ten words with up to four of them exchanged."""
    template = rng.randrange(4)
    words = [f"t{template}w{k}" for k in range(10)]
    for _ in range(rng.randrange(5)):
        words[rng.randrange(10)] = f"x{rng.randrange(60)}"
    return " ".join(words)


# ---- near duplicates


def test_words_are_lower_cased_and_alphanumeric():
    same = ["No ACUTE, acute_disease: T12-L1!", "l1 t12 disease acute no", "No acute disease: T12, L1.5"]
    assert near_duplicate_groups(same, 1.0, 0) == [0, 0, 1]  # the third has a 5 more


def test_seven_words_of_ten_in_common_reach_a_threshold_of_seven_tenths():
    a = "a b c d e f g h"  # 8 words
    b = "a b c d e f g i j"  # 9 words, 7 shared: 7 / (8 + 9 - 7) = 0.7
    assert near_duplicate_groups([a, b], 0.7, 0) == [0, 0]
    assert near_duplicate_groups([a, b], 0.71, 0) == [0, 1]


def test_nearness_is_passed_on_through_a_third_text():
    a, b, c = "a b c d", "b c d e", "c d e f"  # neighbours share 3 of 5 = 0.6, the ends 2 of 6 = 0.33
    assert near_duplicate_groups([a, c], 0.6, 0) == [0, 1]
    assert near_duplicate_groups([a, c, b], 0.6, 0) == [0, 0, 0]


def test_at_threshold_one_only_the_same_words_are_near():
    assert near_duplicate_groups(["a b", "B, a!", "a b c", ""], 1.0, 0) == [0, 0, 1, 2]


def test_a_threshold_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        near_duplicate_groups(["a"], 0.0, 0)


@settings(max_examples=60, deadline=None)
@examples(texts=TEXTS, threshold=st.sampled_from([0.3, 0.5, 0.7, 0.9, 1.0]), data=st.data())
def test_groups_are_the_components_by_definition_in_any_order(texts, threshold, data):
    names = [str(k) for k in range(len(texts))]
    expected = partition(slow_groups(texts, threshold), names)
    assert partition(near_duplicate_groups(texts, threshold, 3), names) == expected
    order = data.draw(st.permutations(range(len(texts))))
    shuffled = near_duplicate_groups([texts[k] for k in order], threshold, 3)
    assert partition(shuffled, [names[k] for k in order]) == expected


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.85])
@pytest.mark.parametrize("small", [1, 24])
def test_minhash_finds_the_groups_that_comparing_all_pairs_finds(monkeypatch, threshold, small):
    rng = random.Random(5)
    texts = [report(rng) for _ in range(800)]
    exact = near_duplicate_groups(texts, threshold, 1)
    assert 4 < len(set(exact)) < 800
    monkeypatch.setattr(splits, "EXACT_LIMIT", 0)
    monkeypatch.setattr(splits, "_SMALL", small)  # 1: every bucket goes through leaders; 24: mostly through pairs
    assert near_duplicate_groups(texts, threshold, 1) == exact


def test_minhash_groups_do_not_depend_on_order(monkeypatch):
    monkeypatch.setattr(splits, "EXACT_LIMIT", 0)
    rng = random.Random(6)
    texts = [report(rng) for _ in range(300)]
    names = [str(k) for k in range(300)]
    order = rng.sample(range(300), 300)
    assert partition(near_duplicate_groups(texts, 0.7, 1), names) == partition(
        near_duplicate_groups([texts[k] for k in order], 0.7, 1), [names[k] for k in order]
    )


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.5, 0.7, 0.8, 0.9, 0.99])
def test_a_pair_at_the_threshold_is_overlooked_at_most_once_in_a_thousand(threshold):
    rows, count = bands(threshold)
    assert (1 - threshold**rows) ** count <= 1e-3


def test_at_seven_tenths_there_are_56_bands_of_6():
    # 0.7**6 = 0.1176; (1 - 0.1176)**56 = 9.0e-4; 7 rows would need 81 bands = 567 hashes, above 400
    assert bands(0.7) == (6, 56)


def test_one_large_bucket_of_one_template_is_not_compared_pair_by_pair(monkeypatch):
    calls = Counter()
    real = splits._Comparison.near

    def counted(self, leader):
        calls["near"] += 1
        return real(self, leader)

    monkeypatch.setattr(splits._Comparison, "near", counted)
    base = [f"w{k}" for k in range(20)]
    texts = [" ".join([*base, f"x{k}"]) for k in range(1000)]  # pairwise 20 / 22 = 0.91
    assert set(near_duplicate_groups(texts, 0.7, 0)) == {0}
    assert calls["near"] <= 2  # the first leader links all; 1,000 texts would else take 1,000


# ---- groups of studies


def test_patient_and_findings_both_link_studies():
    studies = [
        study("a", "one two three", patient_id="p1"),
        study("b", "four five six", patient_id="p1"),
        study("c", "six five four", patient_id="p2"),
        study("d", "seven", patient_id="p3"),
    ]
    assert study_groups(studies, 0.7, 0) == [0, 0, 0, 1]  # a-b by patient, b-c by words


def test_studies_without_findings_are_linked_by_patient_only():
    studies = [study("a", None), study("b", ""), study("c", " ... "), study("d", None, patient_id="a")]
    assert study_groups(studies, 0.7, 0) == [0, 1, 2, 0]


# ---- splits


@settings(max_examples=60, deadline=None)
@examples(texts=TEXTS, patients=st.data(), seed=st.integers(0, 5))
def test_a_split_is_total_order_free_and_without_near_twins_or_shared_patients(texts, patients, seed):
    owners = patients.draw(st.lists(st.integers(0, 12), min_size=len(texts), max_size=len(texts)))
    studies = [study(f"s{k}", text, patient_id=f"p{owners[k]}") for k, text in enumerate(texts)]
    split = SplitConfig(val=0.2, test=0.3)
    assignment = assign(studies, split, seed)
    assert assignment.keys() == {s.study_id for s in studies}
    assert set(assignment.values()) <= {"train", "val", "test"}
    for a, b in combinations(studies, 2):
        if assignment[a.study_id] != assignment[b.study_id]:
            assert a.patient_id != b.patient_id
            both = (a.sections.findings or "", b.sections.findings or "")
            assert jaccard(*both) < 0.7 or not (word_set(both[0]) or word_set(both[1]))
    assert assign(studies[::-1], split, seed) == assignment
    found = leaks(studies, assignment, 0.7, seed)
    assert (found.near_pairs, found.exact_pairs, found.studies, found.patients) == (0, 0, (), ())


def test_shares_are_met_when_groups_are_small():
    sizes = Counter(assign(distinct_studies(200), SplitConfig(val=0.1, test=0.2), 1).values())
    assert sizes == {"train": 140, "test": 40, "val": 20}


def test_the_seed_changes_the_split():
    studies = distinct_studies(100)
    assert assign(studies, SplitConfig(), 1) != assign(studies, SplitConfig(), 2)


def test_added_studies_move_few_of_the_old_ones():
    old, all_of_them = distinct_studies(200), distinct_studies(220)
    before, after = assign(old, SplitConfig(), 1), assign(all_of_them, SplitConfig(), 1)
    moved = sum(before[s.study_id] != after[s.study_id] for s in old)
    assert moved <= 10  # the two borders shift by a few places; a fresh draw would move about 80


def test_a_group_too_large_to_hold_out_is_train():
    # 3,000 studies, val 0.1: a twentieth of 300 is 15; 100 studies: half of 10 is 5, and ten would be too many
    assert held_out_limit(3000, SplitConfig(val=0.1, test=0.2)) == 15
    split = SplitConfig(val=0.1, test=0.2)
    assert held_out_limit(100, split) == 5
    studies = distinct_studies(100)
    groups = [0] * 6 + list(range(1, 95))
    for seed in range(20):
        assignment = divide(studies, groups, split, seed)
        assert {assignment[s.study_id] for s in studies[:6]} == {"train"}
    groups = [0] * 5 + list(range(1, 96))
    assert {divide(studies, groups, split, seed)["s000"] for seed in range(20)} == {"train", "val", "test"}


def test_val_and_test_shrink_alike_when_small_groups_run_out():
    # 90 of 100 studies in one group; 30 are asked for, 10 are there: test 20 * 10/30 = 6.7, val 3.3
    assignment = divide(distinct_studies(100), [0] * 90 + list(range(1, 11)), SplitConfig(val=0.1, test=0.2), 3)
    assert Counter(assignment.values()) == {"train": 90, "test": 7, "val": 3}


def test_a_share_of_zero_leaves_a_split_empty():
    assert set(assign(distinct_studies(50), SplitConfig(val=0.0, test=0.2), 1).values()) == {"train", "test"}


def test_three_single_studies_give_one_to_each_split():
    assert Counter(assign(distinct_studies(3), SplitConfig(), 0).values()) == {"train": 1, "val": 1, "test": 1}


def test_given_splits_are_taken_by_their_usual_names():
    names = {"a": "Train", "b": "validate", "c": "valid", "d": "dev", "e": "TEST"}
    studies = [study(study_id, split=name) for study_id, name in names.items()]
    expected = {"a": "train", "b": "val", "c": "val", "d": "val", "e": "test"}
    assert given(studies) == expected


def test_a_study_without_a_given_split_is_named():
    with pytest.raises(DataError, match=r"2 studies name no split.*first: b.*data\.columns\.split"):
        given([study("a", split="train"), study("b"), study("c", split="fold3")])


def test_a_draw_does_not_depend_on_order_and_a_smaller_one_is_part_of_it():
    ids = [f"s{k}" for k in range(50)]
    ten = draw(ids, 10, 4)
    assert len(ten) == 10
    assert draw(reversed(ids), 10, 4) == ten
    assert draw(ids, 5, 4) < ten
    assert draw(ids, 99, 4) == set(ids)
    assert draw(ids, 10, 5) != ten


# ---- leaks


def test_leaks_are_counted_by_hand():
    studies = [
        study("a", "a b c d e f g h"),
        study("b", "h g f e d c b a"),  # same words as a
        study("c", "a b c d e f g i j"),  # 7 / 10 with a and b
        study("d", "k l m", patient_id="p"),
        study("e", "n o p", patient_id="p"),
        study("f", None),
    ]
    assignment = {"a": "train", "b": "test", "c": "val", "d": "train", "e": "test", "f": "val"}
    found = leaks(studies, assignment, 0.7, 0)
    assert found.exact_pairs == 1  # a-b
    assert found.near_pairs == 3  # a-b, a-c, b-c
    assert found.studies == ("b", "c")
    assert found.patients == ("p",)


@settings(max_examples=60, deadline=None)
@examples(texts=TEXTS, threshold=st.sampled_from([0.5, 0.7, 1.0]), where=st.data())
def test_leaks_are_what_comparing_all_pairs_finds(texts, threshold, where):
    chosen = where.draw(st.lists(st.sampled_from(["train", "val", "test"]), min_size=len(texts), max_size=len(texts)))
    studies = [study(f"s{k}", text) for k, text in enumerate(texts)]
    assignment = {s.study_id: name for s, name in zip(studies, chosen, strict=True)}
    pairs = [
        (a, b)
        for a, b in combinations(range(len(texts)), 2)
        if chosen[a] != chosen[b] and texts[a] and texts[b] and jaccard(texts[a], texts[b]) >= threshold
    ]
    leaking = {f"s{k}" for pair in pairs for k in pair if chosen[k] != "train"}
    found = leaks(studies, assignment, threshold, 0)
    assert found.near_pairs == len(pairs)
    assert found.exact_pairs == sum(jaccard(texts[a], texts[b]) == 1 for a, b in pairs)
    assert set(found.studies) == leaking


def test_pairs_within_runs_are_all_pairs_once():
    left, right = splits._pairs_within(np.array([0, 5]), np.array([3, 7]))
    assert sorted(zip(left.tolist(), right.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2), (5, 6)]
