from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.train.order import distinct_batches, length_grouped

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=120)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(LENGTHS, st.integers(1, 16), st.integers(1, 3), st.integers(0, 9))
def test_every_pass_holds_each_row_once(lengths: list[int], batch: int, epochs: int, seed: int) -> None:
    order = length_grouped(lengths, batch, epochs, _rng(seed))
    n = len(lengths)
    for epoch in range(epochs):
        assert sorted(order[epoch * n : (epoch + 1) * n]) == list(range(n))
    assert len(order) == epochs * n


@given(LENGTHS, st.floats(0.05, 2.9))
def test_a_partial_pass_holds_its_share_without_repetition(lengths: list[int], epochs: float) -> None:
    order = length_grouped(lengths, 4, epochs, _rng())
    n = len(lengths)
    assert len(order) == max(1, round(n * epochs))
    rest = order[len(order) // n * n :]
    assert len(set(rest)) == len(rest)


@given(LENGTHS, st.integers(0, 9))
def test_the_seed_alone_decides_the_order(lengths: list[int], seed: int) -> None:
    assert length_grouped(lengths, 4, 2, _rng(seed)) == length_grouped(lengths, 4, 2, _rng(seed))


def test_passes_and_seeds_differ() -> None:
    lengths = list(range(1, 101))
    order = length_grouped(lengths, 4, 2, _rng(0))
    assert order[:100] != order[100:]
    assert order != length_grouped(lengths, 4, 2, _rng(1))


def _padded_share(lengths: list[int], order: list[int], batch: int) -> float:
    rows = [[lengths[row] for row in order[i : i + batch]] for i in range(0, len(order), batch)]
    return 1 - sum(map(sum, rows)) / sum(max(row) * len(row) for row in rows)


def test_batches_of_like_length_are_padded_little() -> None:
    lengths = _rng(3).integers(20, 300, size=960).tolist()
    order = length_grouped(lengths, 8, 1, _rng(0))
    # 16 sorted batches of a window of 128 span 280 / 16 = 17.5 tokens each: about 9 of 160 are padding
    assert _padded_share(lengths, order, 8) < 0.08
    assert _padded_share(lengths, _rng(0).permutation(960).tolist(), 8) > 0.35


def test_short_rows_do_not_come_first() -> None:
    lengths = _rng(3).integers(20, 300, size=960).tolist()
    order = length_grouped(lengths, 8, 1, _rng(0))
    halves = [np.mean([lengths[row] for row in half]) for half in (order[:480], order[480:])]
    assert abs(halves[0] - halves[1]) < 20


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 20), st.integers(0, 9))
def test_a_rollout_never_holds_a_study_twice(rows: int, batch: int, batches: int, seed: int) -> None:
    batch = min(rows, batch)
    order = distinct_batches(rows, batch, batches, _rng(seed))
    assert len(order) == batches * batch
    for i in range(0, len(order), batch):
        assert len(set(order[i : i + batch])) == batch
    assert order == distinct_batches(rows, batch, batches, _rng(seed))


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20), st.integers(0, 9))
def test_no_study_comes_again_before_the_pass_is_over(rows: int, batch: int, batches: int, seed: int) -> None:
    batch = min(rows, batch)
    order = distinct_batches(rows, batch, batches, _rng(seed))
    a_pass = rows - rows % batch
    for i in range(0, len(order), a_pass):
        assert len(set(order[i : i + a_pass])) == len(order[i : i + a_pass])


def test_too_few_rows_for_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows cannot fill a batch of 4"):
        distinct_batches(3, 4, 1, _rng())
