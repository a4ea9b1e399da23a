"""Values -> weights of mean 1 within bounds: by hand, and for any values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from radiograd.rl.token_weights import capped, combined, effective_share, held_down, normalise, shuffled

VALUES = st.one_of(st.just(0.0), st.floats(0, 1e6), st.floats(0, 1.7e308), st.just(1.0))
BOUNDS = st.tuples(
    st.floats(0, 1), st.floats(0.01, 1), st.one_of(st.floats(1, 10), st.just(1.0))
)  # eta, low, high; either may be 1


@st.composite
def rows(draw):
    shape = draw(st.tuples(st.integers(0, 4), st.integers(0, 12)))
    values = draw(stn.arrays(np.float64, shape, elements=VALUES))
    lengths = draw(stn.arrays(np.int64, shape[0], elements=st.integers(0, shape[1])))
    return values, np.arange(shape[1])[None, :] < lengths[:, None]


def test_a_row_is_capped_divided_mixed_and_brought_to_mean_1():
    # p95 of (0, 1, 1, 4): place 0.95 * 3 = 2.85, so 1 + 0.85 * 3 = 3.55. Mean of (0, 1, 1, 3.55): 1.3875.
    even = np.array([0, 1, 1, 3.55]) / 1.3875
    mixed = 0.5 + 0.5 * even  # mean 1 and within [0.5, 3]: the scale is 1
    np.testing.assert_allclose(normalise([[0, 1, 1, 4]], [[1, 1, 1, 1]]), [mixed], atol=1e-9)


def test_the_scale_is_the_one_that_gives_mean_1_after_clipping():
    # eta 0: (0, 0, 0, 0, 5) of mean 1 after the cap; clipped to [0.5, 2] they would have mean 0.8. The zeros are at
    # least 0.5 and the last at most 2, so the zeros share the 5 - 2 that is lacking: 0.75 each.
    np.testing.assert_allclose(normalise([[0, 0, 0, 0, 1]], [[1] * 5], eta=0.0, high=2.0), [[0.75] * 4 + [2.0]])
    # (1, 1, 2, 8) / 3 with cap 2 + 0.85 * 6 = 7.1: s (1, 1, 2) + 2 = 4 gives s = 1/2, and 0.5 * 7.1 is above 2
    np.testing.assert_allclose(normalise([[1, 1, 2, 8]], [[1] * 4], eta=0.0, low=0.1, high=2.0), [[0.5, 0.5, 1, 2]])


def test_zeros_weigh_the_same_and_padding_and_empty_rows_nothing():
    found = normalise([[0, 0, 9], [1, 2, 3]], [[1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(found, [[1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(normalise([[7.0]], [[True]]), [[1.0]])
    assert normalise(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
    assert normalise(np.zeros((2, 0)), np.zeros((2, 0))).shape == (2, 0)


def test_one_value_among_many_zeros_is_not_capped_away():
    found = normalise([[0.0] * 39 + [2.0]], [[1] * 40])  # the 95th percentile of the row is 0
    assert found[0, 39] == pytest.approx(3.0)
    np.testing.assert_allclose(found[0, :39], 37 / 39)  # 40 - 3 shared by 39


@given(rows(), BOUNDS)
@settings(max_examples=300, deadline=None)
def test_weights_have_mean_1_within_bounds_in_the_order_of_the_values(given_rows, bounds):
    values, mask = given_rows
    eta, low, high = bounds
    weights = normalise(values, mask, eta, low, high)
    assert (weights[~mask] == 0).all()
    for row, value, real in zip(weights, values, mask, strict=True):
        if not real.any():
            continue
        assert row[real].mean() == pytest.approx(1.0, abs=1e-6)
        assert row[real].min() >= low
        assert row[real].max() <= high
        order = np.argsort(value[real], kind="stable")
        assert (np.diff(row[real][order]) >= -1e-12).all()


@given(rows(), st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_weights_do_not_depend_on_the_scale_of_the_values_nor_on_padding(given_rows, factor):
    values, mask = np.minimum(given_rows[0], 1e6), given_rows[1]
    weights = normalise(values, mask)
    np.testing.assert_allclose(normalise(values * factor, mask), weights, atol=1e-6)
    padded = np.pad(np.where(mask, values, np.nan), ((0, 0), (0, 2)), constant_values=-1.0)
    longer = normalise(padded, np.pad(mask, ((0, 0), (0, 2))))
    np.testing.assert_allclose(longer[:, : mask.shape[1]], weights, rtol=1e-12)


@given(rows(), rows(), BOUNDS)
@settings(deadline=None)
def test_combined_keeps_what_a_single_one_keeps(first, second, bounds):
    values, mask = first
    other = np.resize(second[0], values.shape) if second[0].size else np.zeros_like(values)
    weights = combined(values, other, mask, *bounds)
    kept = [row[real] for row, real in zip(weights, mask, strict=True) if real.any()]
    assert all(row.mean() == pytest.approx(1.0, abs=1e-6) for row in kept)
    assert all(bounds[1] <= row.min() and row.max() <= bounds[2] for row in kept)
    np.testing.assert_array_equal(combined(other, values, mask, *bounds), weights)


def test_combined_is_the_normalised_mean_of_both():
    # (0, 2) capped and over its mean is (0, 1.9) / 0.95 = (0, 2), (1, 1) is (1, 1): their mean (0.5, 1.5) has cap
    # 0.5 + 0.95 * 1 = 1.45, mean 0.975: 0.5 + 0.5 * (0.5, 1.45) / 0.975
    expected = 0.5 + 0.5 * np.array([0.5, 1.45]) / 0.975
    np.testing.assert_allclose(combined([[0, 2]], [[1, 1]], [[1, 1]]), [expected], atol=1e-9)


def test_held_tokens_are_at_most_the_heaviest_of_the_others():
    np.testing.assert_array_equal(
        held_down([[1, 5, 3], [2, 9, 9]], [[1, 1, 1]] * 2, [[0, 1, 0], [1, 1, 1]])[0], [1, 3, 3]
    )
    np.testing.assert_array_equal(held_down([[2, 9]], [[1, 1]], [[1, 1]]), [[0, 0]])
    # the first token is best in a, the second in b; the held third is second best in both and would win their mean
    a, b, mask, held = [[9.0, 0, 8]], [[0, 9.0, 8]], [[1] * 3], [[0, 0, 1]]
    assert combined(a, b, mask)[0].argmax() == 2
    assert combined(a, b, mask, held_B_T=held)[0, 2] <= combined(a, b, mask, held_B_T=held)[0, :2].max()
    np.testing.assert_array_equal(combined(a, b, mask, held_B_T=[[1] * 3]), [[1, 1, 1]])


def test_shuffled_deals_the_same_weights_among_the_tokens_of_the_mask():
    weights = np.arange(1.0, 41).reshape(2, 20)
    mask = np.ones((2, 20), dtype=bool)
    mask[:, :3] = False
    dealt = shuffled(weights, mask, np.random.default_rng(0))
    np.testing.assert_array_equal(dealt[:, :3], weights[:, :3])
    np.testing.assert_array_equal(np.sort(dealt, axis=1), weights)
    assert (dealt != weights).any(axis=1).all()
    np.testing.assert_array_equal(shuffled(weights, mask, np.random.default_rng(0)), dealt)
    assert weights[0, 19] == 20  # what was given is left as it is


def test_effective_share_is_1_for_equal_weights_and_1_over_n_for_a_single_one():
    shares = effective_share([[2, 2, 9], [0, 4, 0], [1, 3, 0], [1, 1, 1]], [[1, 1, 0], [1, 1, 1], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(shares[:3], [1.0, 1 / 3, 16 / (2 * 10)])
    assert math.isnan(shares[3])


def test_capped_takes_the_percentile_over_the_mask():
    np.testing.assert_allclose(capped([[0, 10, 99]], [[1, 1, 0]]), [[0, 9.5, 0]])


def test_tensors_come_back_as_tensors_of_their_type():
    values = torch.tensor([[1.0, 2, 3]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    found = normalise(values, mask)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    np.testing.assert_allclose(found.numpy(), normalise([[1, 2, 3]], [[1, 1, 0]]), rtol=1e-6)
    assert normalise(torch.tensor([[1, 2]]), [[1, 1]]).dtype == torch.float32
    assert combined(values.double(), [[1, 1, 1]], mask).dtype == torch.float64
    assert shuffled(values, mask, np.random.default_rng(1)).dtype == torch.float32
    assert effective_share(values.bfloat16(), mask).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: normalise([[1, -1]], [[1, 1]]), "not below 0"),
        (lambda: normalise([[1, np.nan]], [[1, 1]]), "finite"),
        (lambda: combined([[1, 1]], [[1, np.inf]], [[1, 1]]), "finite"),
        (lambda: normalise([1, 1], [1, 1]), r"must be \(sequences, tokens\)"),
        (lambda: normalise([[1, 1]], [[1]]), "of the values' shape"),
        (lambda: normalise([[1]], [[1]], eta=1.5), "eta is a share"),
        (lambda: normalise([[1]], [[1]], low=1.2), "low <= 1 <= high"),
        (lambda: combined([[1]], [[1]], [[1]], high=0.9), "low <= 1 <= high"),
    ],
)
def test_what_gives_no_weights_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_a_value_in_the_padding_may_be_anything():
    np.testing.assert_array_equal(normalise([[1, np.nan, -3]], [[1, 0, 0]]), [[1, 0, 0]])
