from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.selection import (
    bottom_count,
    combined,
    from_worst,
    normalise,
    parts,
    rank_correlation,
    ranks,
    share_train,
)
from tests import tiny


def _ids(studies) -> list[str]:
    return [study.study_id for study in studies]


def test_all_of_them_serve_both_stages_when_the_fraction_is_one() -> None:
    studies = tiny.studies(5)
    assert share_train(studies, 1.0, seed=3) == (studies, studies)


def test_four_fifths_of_ten_are_eight_and_the_rest_is_left_to_alignment() -> None:
    studies = tiny.studies(10)
    for_sft, for_align = share_train(studies, 0.8, seed=3)
    assert (len(for_sft), len(for_align)) == (8, 2)


@given(st.integers(2, 40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_the_shares_are_disjoint_whole_and_independent_of_the_order(n: int, fraction: float, seed: int) -> None:
    studies = tiny.studies(n)
    for_sft, for_align = share_train(studies, fraction, seed)
    assert for_sft
    assert for_align
    assert sorted(_ids(for_sft) + _ids(for_align)) == _ids(studies)
    shuffled = random.Random(1).sample(studies, n)
    assert set(_ids(share_train(shuffled, fraction, seed)[0])) == set(_ids(for_sft))


def test_another_seed_draws_others() -> None:
    studies = tiny.studies(40)
    assert _ids(share_train(studies, 0.5, 1)[0]) != _ids(share_train(studies, 0.5, 2)[0])


# ---- the hardest


def test_ranks_of_equal_values_are_their_mean() -> None:
    np.testing.assert_array_equal(ranks(np.array([0.3, 0.1, 0.3, 0.9])), [2.5, 1, 2.5, 4])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("rank", [0.5, 0.0, 0.5, 1.0]),  # ranks 2.5, 1, 2.5, 4 of 4
        ("minmax", [0.25, 0.0, 0.25, 1.0]),
        ("zscore", [-1 / 3, -1.0, -1 / 3, 5 / 3]),  # mean 4, population standard deviation 6
    ],
)
def test_each_way_to_normalise(how: str, expected: list[float]) -> None:
    np.testing.assert_allclose(normalise(np.array([2.0, -2.0, 2.0, 14.0]), how), expected)


@pytest.mark.parametrize(("how", "middle"), [("rank", 0.5), ("minmax", 0.5), ("zscore", 0.0)])
def test_a_metric_that_is_the_same_everywhere_says_nothing(how: str, middle: float) -> None:
    np.testing.assert_array_equal(normalise(np.full(3, 0.7), how), [middle] * 3)
    np.testing.assert_array_equal(normalise(np.array([0.7]), how), [middle])
    assert len(normalise(np.array([]), how)) == 0


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30),
    st.sampled_from(["rank", "zscore", "minmax"]),
)
def test_normalising_keeps_the_order(values: list[float], how: str) -> None:
    before, after = np.array(values), normalise(np.array(values), how)
    assert np.isfinite(after).all()
    order = np.argsort(before, kind="stable")
    assert (np.diff(after[order]) >= -1e-12).all()
    if how != "zscore":
        assert after.min() >= 0
        assert after.max() <= 1


def test_what_is_unscored_is_refused() -> None:
    with pytest.raises(ValueError, match="leave unscored studies out"):
        normalise(np.array([0.1, np.nan]), "rank")


def test_the_combined_score_is_the_weighted_mean_and_weight_0_is_only_looked_at() -> None:
    columns = {"a": np.array([0.0, 1.0]), "b": np.array([1.0, 0.5]), "c": np.array([9.0, 9.0])}
    np.testing.assert_allclose(combined(columns, {"a": 1.0, "b": 3.0, "c": 0.0}), [0.75, 0.625])  # (0 + 3) / 4


@pytest.mark.parametrize(("share", "n", "count"), [(0.1, 30, 3), (0.1, 31, 4), (0.1, 1, 1), (1.0, 7, 7), (0.3, 10, 3)])
def test_the_bottom_share_is_rounded_up(share: float, n: int, count: int) -> None:
    assert bottom_count(share, n) == count  # in floating point 0.1 * 30 is a little above 3


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1, max_size=20), st.integers(0, 3), st.randoms())
def test_the_worst_come_first_and_ties_do_not_depend_on_the_order(values: list[float], seed: int, rng) -> None:
    studies = [(f"s{k}", value) for k, value in enumerate(values)]
    shuffled = rng.sample(studies, len(studies))

    def ordered(rows) -> list[tuple[str, float]]:
        ids, scores = [row[0] for row in rows], np.array([row[1] for row in rows])
        return [rows[place] for place in from_worst(ids, scores, seed)]

    assert ordered(studies) == ordered(shuffled)
    assert [value for _, value in ordered(studies)] == sorted(values)


def test_ties_are_drawn_with_the_seed() -> None:
    ids, scores = [f"s{k}" for k in range(20)], np.zeros(20)
    assert from_worst(ids, scores, 1) != from_worst(ids, scores, 2)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(2, 5), st.randoms())
def test_parts_hold_whole_groups_and_do_not_depend_on_the_order(groups: list[int], count: int, rng) -> None:
    names = [f"g{group}" for group in groups]
    found = dict(zip(names, parts(names, count, 7), strict=True))
    assert parts(names, count, 7) == [found[name] for name in names]
    shuffled = rng.sample(names, len(names))
    assert parts(shuffled, count, 7) == [found[name] for name in shuffled]
    held = [sum(found[name] == part for name in names) for part in range(count)]
    largest = max(names.count(name) for name in names)
    assert max(held) - min(held) <= largest


def test_rank_correlation() -> None:
    # ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * (1 + 1) / (4 * 15) = 0.8
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([0.1, 0.7, 0.3, 0.9])) == pytest.approx(0.8)
    assert rank_correlation(np.array([1.0, 2]), np.array([5.0, 5])) is None
