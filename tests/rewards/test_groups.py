from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from radiograd.rewards.groups import Recipe, contributions, totals, variance_shares

NAN = float("nan")
PAPER = Recipe(weights=(1.0, 1.0, 1.0, 1.0), lowest=(0.0, 0.0, -1.0, 0.0))
"""syntax, domain, consistent, impression_f1."""
BALANCED = replace(PAPER, weights=(1.0, 1.0, 0.5, 1.0))


def group(*rows, skipped=(), length=None):
    """One group: values (1, G, K); ``skipped`` are places (row, term), whose value is then NaN."""
    values = np.array([rows], dtype=float)
    marks = np.zeros(values.shape, dtype=bool)
    for place in skipped:
        marks[(0, *place)] = True
        values[(0, *place)] = NAN
    return values, marks, np.ones(values.shape[:2]) if length is None else np.array([length], dtype=float)


def test_the_mean_is_weighted():
    # (0.5 + 1 + 0.5 * -1 + 0.25) / 3.5
    assert totals(*group([0.5, 1.0, -1.0, 0.25]), BALANCED)[0, 0] == pytest.approx(1.25 / 3.5)


def test_worst_is_the_lowest_and_the_third_takes_the_spread_off():
    values = group([0.5, 1.0, 0.0, 0.5])
    assert totals(*values, replace(PAPER, combine="worst")).tolist() == [[0.0]]
    # mean 0.5; deviations 0, .5, -.5, 0: variance 0.125
    spread = replace(PAPER, combine="mean_less_spread", spread=2.0)
    assert totals(*values, spread)[0, 0] == pytest.approx(0.5 - 2 * 0.125**0.5)


def test_a_skipped_term_gets_the_mean_of_its_group_and_the_penalty_once():
    values = group([0.4, 0.4, 1, 1.0], [0.4, 0.4, 1, 0.5], [0.4, 0.4, 1, 9], skipped=[(2, 3)])
    found = totals(*values, PAPER)[0]
    # 1.8 / 4 without the last term; it is (1 + 0.5) / 2 = 0.75 for the third
    assert found == pytest.approx([0.7, 0.575, (1.8 + 0.75) / 4 - 0.5])


def test_two_terms_skipped_are_one_penalty():
    values = group([0.4, 0.8, 1, 1], [0.4, 0.0, 1, 0.0], skipped=[(1, 1), (1, 3)])
    assert totals(*values, PAPER)[0, 1] == pytest.approx((0.4 + 0.8 + 1 + 1) / 4 - 0.5)


def test_a_group_that_skips_all_of_a_term_has_it_at_its_lowest():
    values = group([0.4, 0.4, 1, 0], [0.8, 0.4, 1, 0], skipped=[(0, 3), (1, 3), (0, 2), (1, 2)])
    assert totals(*values, PAPER)[0] == pytest.approx([(0.8 - 1) / 4 - 0.5, (1.2 - 1) / 4 - 0.5])


def test_unscored_rows_are_nan_and_take_no_part_in_what_is_imputed():
    values = group([0, 0, 0, 1.0], [0, 0, 0, NAN], [0, 0, 0, 0], [0, NAN, 0, 0.5], skipped=[(2, 3)])
    found = totals(*values, PAPER)[0]
    # the last term is known of the first and the fourth row, though the fourth has no total
    assert found == pytest.approx([0.25, NAN, 0.75 / 4 - 0.5, NAN], nan_ok=True)


def test_a_term_of_weight_0_neither_counts_nor_leaves_anything_unscored():
    looked_at = replace(PAPER, weights=(1.0, 0.0, 1.0, 0.0))
    values = group([0.5, NAN, 1, 0], skipped=[(0, 3)])
    for how in ("mean", "worst", "mean_less_spread"):
        expected = {"mean": 0.75, "worst": 0.5, "mean_less_spread": 0.5}[how]  # std 0.25
        assert totals(*values, replace(looked_at, combine=how))[0, 0] == pytest.approx(expected)


def test_length_control_divides_what_is_above_0_and_never_pays_below():
    control = replace(PAPER, length_control=True)
    rows = [[0.8, 0.8, 0.8, 0.8]] * 3 + [[-0.4] * 4] * 3
    found = totals(*group(*rows, length=[0.5, 1.0, 4.0, 0.5, 1.0, 4.0]), control)[0]
    # a quarter of .8; -.4 and three quarters of it more
    assert found == pytest.approx([0.8, 0.8, 0.2, -0.4, -0.4, -0.7])


def test_an_unknown_length_leaves_unscored_only_where_length_is_looked_at():
    values = group([1, 1, 1, 1], length=[NAN])
    assert totals(*values, PAPER)[0, 0] == 1.0
    assert np.isnan(totals(*values, replace(PAPER, length_control=True))[0, 0])


def test_groups_do_not_touch_each_other():
    first, second = group([0, 0, 1, 1], [1, 0, 1, 0], skipped=[(1, 3)]), group([1, 1, 1, 0], [0, 0, 0, 0])
    both = [np.concatenate([a, b]) for a, b in zip(first, second, strict=True)]
    expected = np.concatenate([totals(*first, PAPER), totals(*second, PAPER)])
    np.testing.assert_array_equal(totals(*both, PAPER), expected)


def test_shapes_that_do_not_fit_and_a_recipe_without_weight_are_refused():
    values, skipped, length = group([1, 1, 1, 1])
    with pytest.raises(ValueError, match=r"must be \(prompts, group, 4\)"):
        totals(values[..., :3], skipped, length, PAPER)
    with pytest.raises(ValueError, match="length must be"):
        totals(values, skipped, length[0], PAPER)
    with pytest.raises(ValueError, match="one weight above 0"):
        totals(values, skipped, length, replace(PAPER, weights=(0.0,) * 4))


# ---- shares of the variance ------------------------------------------------------------------------------------------


def test_variance_shares_of_two_independent_terms_are_their_variances():
    # all four corners of a square: variance .25 of the first term, 1 of the second, covariance 0; 1 : 4
    recipe = Recipe(weights=(1.0, 1.0), lowest=(0.0, -1.0))
    values = group([0, -1], [1, -1], [0, 1], [1, 1])
    np.testing.assert_allclose(variance_shares(*values, recipe), [0.2, 0.8])
    np.testing.assert_allclose(variance_shares(*values, replace(recipe, weights=(1.0, 0.5))), [0.5, 0.5])


def test_what_differs_between_groups_only_has_no_share():
    recipe = Recipe(weights=(1.0, 1.0), lowest=(0.0, 0.0))
    values = np.array([[[0.0, 0.1], [0.0, 0.3]], [[1.0, 0.1], [1.0, 0.3]]])
    np.testing.assert_allclose(variance_shares(values, np.zeros((2, 2, 2)), np.ones((2, 2)), recipe), [0, 1], atol=1e-9)


def test_unscored_rows_are_left_out_of_the_shares():
    recipe = Recipe(weights=(1.0, 1.0), lowest=(0.0, 0.0))
    with_one = group([0.0, 0.2], [1.0, 0.2], [NAN, 0.9])
    np.testing.assert_allclose(variance_shares(*with_one, recipe), [1, 0], atol=1e-9)
    assert variance_shares(*group([NAN, 1], [NAN, 2]), recipe).tolist() == [0, 0]


def test_a_group_in_which_nothing_varies_has_no_shares():
    assert variance_shares(*group([0.1, 0.7, 1, 0.3], [0.1, 0.7, 1, 0.3]), PAPER).tolist() == [0.0] * 4


# ---- whatever the numbers --------------------------------------------------------------------------------------------

PROMPTS, SIZE = 2, 4
unit = st.floats(0, 1, width=32)
some = st.one_of(unit, st.just(NAN))


@st.composite
def tables(draw, value=some):
    values = draw(arrays(float, (PROMPTS, SIZE, 4), elements=value))
    values[..., 2] = np.where(np.isnan(values[..., 2]), NAN, np.where(values[..., 2] > 0.5, 1.0, -1.0))
    skipped = np.zeros(values.shape, dtype=bool)
    skipped[..., 3] = draw(arrays(bool, (PROMPTS, SIZE)))
    values[skipped] = NAN
    return values, skipped, draw(arrays(float, (PROMPTS, SIZE), elements=st.floats(0, 20, width=32)))


recipes = st.builds(
    Recipe,
    weights=st.tuples(*[st.floats(0.1, 2.0)] * 4),
    lowest=st.just(PAPER.lowest),
    combine=st.sampled_from(["mean", "worst", "mean_less_spread"]),
    spread=st.floats(0, 2),
    format_penalty=st.floats(0, 1),
    length_control=st.booleans(),
)


@given(tables(), recipes)
def test_what_the_terms_add_is_the_total_and_the_shares_sum_to_1(table, recipe):
    added = contributions(*table, recipe)
    np.testing.assert_allclose(added[..., :-1].sum(-1), added[..., -1], atol=1e-9)
    np.testing.assert_array_equal(np.isnan(added).all(-1), (np.isnan(table[0]) & ~table[1]).any(-1))
    shares = variance_shares(*table, recipe)
    assert shares.sum() == pytest.approx(1.0, abs=1e-5) or not shares.any()


@given(tables(), recipes)
def test_the_order_inside_a_group_does_not_matter(table, recipe):
    turned = [part[:, ::-1] for part in table]
    np.testing.assert_allclose(totals(*turned, recipe)[:, ::-1], totals(*table, recipe), atol=1e-12)


@given(tables(), recipes.map(lambda r: replace(r, length_control=True)), st.floats(1, 5))
def test_longer_is_never_better_under_length_control(table, recipe, factor):
    values, skipped, length = table
    longer = totals(values, skipped, length * factor, recipe)
    now = totals(values, skipped, length, recipe)
    assert ((longer <= now + 1e-12) | np.isnan(now)).all()


@given(tables(unit), st.sampled_from(["mean", "worst", "mean_less_spread"]), st.sampled_from([PAPER, BALANCED]))
def test_skipping_the_impression_never_pays(table, combine, recipe):
    # the same report with its Impression under a header, however bad that Impression is
    values, skipped, length = table
    recipe = replace(recipe, combine=combine)
    values[0, 0, 3], skipped[0, 0, 3] = NAN, True
    skips = totals(values, skipped, length, recipe)[0, 0]
    for shown in (0.0, 0.3, 1.0):
        there, marks = values.copy(), skipped.copy()
        there[0, 0, 3], marks[0, 0, 3] = shown, False
        assert skips < totals(there, marks, length, recipe)[0, 0] + 1e-12
