import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from radiograd import stats
from radiograd.stats import bootstrap_counts, holm, interval, paired, resampled_sums

nan = np.nan


def mean(sums):
    with np.errstate(invalid="ignore"):
        return sums["sum"] / sums["n"]


def parts(values):
    values = np.asarray(values, dtype=float)
    return {"sum": values, "n": np.where(np.isnan(values), nan, 1.0)}


def counts(n, resamples=400, seed=0):
    return bootstrap_counts([f"p{i}" for i in range(n)], resamples, np.random.default_rng(seed))


# ---- resamples


def test_studies_of_one_patient_always_come_together():
    drawn = bootstrap_counts(["a", "b", "a", "c"], 50, np.random.default_rng(0))
    assert drawn.shape == (50, 4)
    assert np.issubdtype(drawn.dtype, np.integer)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 2])
    np.testing.assert_array_equal(drawn[:, 0] + drawn[:, 1] + drawn[:, 3], 3)  # three patients drawn each time


def test_the_draw_does_not_depend_on_the_order_of_cases():
    one = bootstrap_counts(["a", "b", "c"], 20, np.random.default_rng(5))
    other = bootstrap_counts(["c", "a", "b"], 20, np.random.default_rng(5))
    np.testing.assert_array_equal(one[:, [2, 0, 1]], other)


def test_resampling_nothing_is_an_error():
    with pytest.raises(ValueError, match="no cases"):
        bootstrap_counts([], 10, np.random.default_rng(0))


# ---- intervals


def test_the_percentiles_of_hand_made_resamples():
    by_hand = np.array([[2, 0], [1, 1], [1, 1], [1, 1], [0, 2]])
    found = interval(parts([0.0, 1.0]), mean, by_hand, level=0.5)
    # resampled means 0, .5, .5, .5, 1: quartiles .5 and .5
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    whole = interval(parts([0.0, 1.0]), mean, by_hand, level=1.0)
    assert (whole.low, whole.high) == (0.0, 1.0)


def test_unscored_cases_are_left_out_and_counted():
    found = interval(parts([0.2, nan, 0.4]), mean, np.array([[1, 1, 1], [2, 1, 0], [0, 1, 2]]), level=1.0)
    assert found.value == pytest.approx(0.3)  # (.2 + .4) / 2, not / 3
    assert (found.low, found.high) == (pytest.approx(0.2), pytest.approx(0.4))
    assert (found.n, found.unscored) == (2, 1)


def test_without_a_scored_case_everything_is_unknown():
    found = interval(parts([nan, nan]), mean, counts(2))
    assert (found.value, found.low, found.high, found.n, found.unscored) == (None, None, None, 0, 2)


def test_resamples_that_hold_no_scored_case_are_left_out():
    found = interval(parts([0.4, nan]), mean, np.array([[0, 2], [1, 1], [2, 0]]))
    assert (found.low, found.high) == (pytest.approx(0.4), pytest.approx(0.4))


def test_identical_values_have_an_interval_that_still_holds_their_mean():
    found = interval(parts([0.1] * 97), mean, counts(97))
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 1e-12


def test_the_width_follows_the_standard_error():
    values = np.random.default_rng(0).random(400)
    found = interval(parts(values), mean, counts(400, 4000))
    expected = 2 * 1.96 * values.std() / np.sqrt(400)
    assert found.high - found.low == pytest.approx(expected, rel=0.06)


def test_more_resamples_do_not_make_it_narrower():
    values = np.random.default_rng(1).random(80)
    few, many = (interval(parts(values), mean, counts(80, r)) for r in (500, 8000))
    assert many.high - many.low == pytest.approx(few.high - few.low, rel=0.15)


def test_two_studies_of_each_patient_do_not_pass_for_twice_the_evidence():
    values = np.random.default_rng(2).random(60)
    patients = [f"p{i}" for i in range(60)]
    once = interval(parts(values), mean, bootstrap_counts(patients, 3000, np.random.default_rng(0)))
    twice = interval(
        parts(np.repeat(values, 2)), mean, bootstrap_counts(np.repeat(patients, 2), 3000, np.random.default_rng(0))
    )
    assert (twice.low, twice.high) == (pytest.approx(once.low), pytest.approx(once.high))


# ---- paired differences


def test_a_case_by_case_gain_has_no_spread():
    b = np.linspace(0.1, 0.6, 11)
    found = paired(parts(b + 0.25), parts(b), mean, counts(11, 99))
    assert found.difference == pytest.approx(0.25)
    assert (found.low, found.high) == (pytest.approx(0.25), pytest.approx(0.25))
    assert found.p == pytest.approx(2 / 100)  # no resample at or below 0: 2 * (0 + 1) / (99 + 1)


def test_equal_systems_differ_by_0_with_p_1():
    values = np.random.default_rng(0).random(20)
    found = paired(parts(values), parts(values), mean, counts(20))
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_p_of_hand_made_resamples():
    by_hand = np.array([[2, 0], [1, 1], [1, 1], [0, 2], [0, 2]])
    found = paired(parts([0.1, 0.8]), parts([0.4, 0.4]), mean, by_hand)
    # differences per case -.3, +.4; resampled -.3, .05, .05, .4, .4: one of five at or below 0
    assert found.difference == pytest.approx(0.05)
    assert found.p == pytest.approx(2 * (1 + 1) / (5 + 1))


def test_only_cases_scored_in_both_are_compared():
    found = paired(parts([0.9, nan, 0.5]), parts([0.5, 0.0, nan]), mean, counts(3))
    assert found.difference == pytest.approx(0.4)
    assert (found.n, found.unscored) == (1, 2)


def test_without_a_common_case_the_difference_is_unknown():
    found = paired(parts([0.9, nan]), parts([nan, 0.5]), mean, counts(2))
    assert (found.difference, found.low, found.high, found.p, found.n) == (None, None, None, None, 0)


SCORES = hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1, width=16))


@given(a=SCORES, seed=st.integers(0, 99))
def test_the_difference_is_that_of_the_means_and_turns_round_with_its_sides(a, seed):
    b = np.random.default_rng(seed).permutation(a) ** 2
    drawn = counts(len(a), 100, seed)
    forth, back = paired(parts(a), parts(b), mean, drawn), paired(parts(b), parts(a), mean, drawn)
    assert forth.difference == pytest.approx(a.mean() - b.mean(), abs=1e-12)
    assert back.difference == -forth.difference
    assert back.low == pytest.approx(-forth.high, abs=1e-12)
    assert back.high == pytest.approx(-forth.low, abs=1e-12)
    assert back.p == forth.p
    assert 0 < forth.p <= 1


def test_under_no_difference_small_p_values_are_about_as_rare_as_they_say():
    rng = np.random.default_rng(4)
    drawn = counts(60, 300)
    found = [paired(parts(rng.random(60)), parts(rng.random(60)), mean, drawn).p for _ in range(400)]
    assert 0.02 <= np.mean(np.array(found) < 0.05) <= 0.09  # 0.05 +- 3.5 standard errors of 0.011


# ---- several tests at once


def test_holm_multiplies_the_smallest_by_their_number_and_never_goes_down():
    # sorted .005 .01 .03 .04: 4 x .005 = .02, 3 x .01 = .03, 2 x .03 = .06, 1 x .04 = .04 -> not below .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_one_p_is_that_p_of_none_is_none_and_1_is_the_most():
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    assert holm([0.6, 0.7]) == [1.0, 1.0]  # 2 x .6 > 1
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.5])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_the_p_and_bonferroni_and_keeps_their_order(ps):
    adjusted = holm(ps)
    assert all(p <= q <= min(1.0, len(ps) * p) + 1e-12 for p, q in zip(ps, adjusted, strict=True))
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_holm_rejects_what_the_step_down_procedure_rejects():
    # alpha .05, m = 3: .01 <= .05/3, then .02 <= .05/2, then .06 > .05: the first two are rejected
    assert [q <= 0.05 for q in holm([0.06, 0.01, 0.02])] == [False, True, True]


# ---- many cases


@pytest.mark.parametrize("limit", [1, 7, 1 << 20])
def test_sums_by_blocks_equal_the_whole_matrix_product(limit, monkeypatch):
    names = ["b", "a", "c", "a", "b", "d", "e"]
    columns = [np.arange(7.0), np.array([1, 0, 2, 3, 1, 1, 5], dtype=np.int16)]
    whole = bootstrap_counts(names, 50, np.random.default_rng(3)) @ np.stack(columns, axis=1)
    monkeypatch.setattr(stats, "_BLOCK", limit)
    monkeypatch.setattr(stats, "_CELLS", limit)
    patients = np.unique(names, return_inverse=True)[1]
    np.testing.assert_allclose(resampled_sums(columns, patients, 50, np.random.default_rng(3)), whole, rtol=1e-12)


def test_sums_of_nothing_are_an_error():
    with pytest.raises(ValueError, match="no cases"):
        resampled_sums([], np.array([], dtype=int), 10, np.random.default_rng(0))


def test_scored_cases_without_a_corpus_value_give_none_and_not_nan():
    def nothing(sums):
        return np.full(np.shape(sums["n"]), nan)

    found = interval(parts([0.5, 1.0]), nothing, counts(2))
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 2)
    gap = paired(parts([0.5, 1.0]), parts([0.0, 1.0]), nothing, counts(2))
    assert (gap.difference, gap.low, gap.p, gap.n) == (None, None, None, 2)


# ---- agreement of two


def agreed(both: int, first: int, second: int, neither: int) -> dict[str, np.ndarray]:
    a = [True] * (both + first) + [False] * (second + neither)
    b = [True] * both + [False] * first + [True] * second + [False] * neither
    return {name: column.sum() for name, column in stats.agreement_parts(a, b).items()}


def test_cohens_example() -> None:
    # 20 + 15 of 50 agree: .7. By chance .5 * .6 yes and .5 * .4 no: .5. (.7 - .5) / (1 - .5) = .4
    sums = agreed(20, 5, 10, 15)
    assert float(stats.raw_agreement(sums)) == pytest.approx(0.7)
    assert float(stats.cohens_kappa(sums)) == pytest.approx(0.4)


def test_kappa_is_one_for_the_same_answers_and_unknown_when_only_one_answer_is_given() -> None:
    assert float(stats.cohens_kappa(agreed(3, 0, 0, 5))) == pytest.approx(1.0)
    assert np.isnan(stats.cohens_kappa(agreed(4, 0, 0, 0)))
    assert float(stats.raw_agreement(agreed(4, 0, 0, 0))) == 1.0
    assert np.isnan(stats.raw_agreement(agreed(0, 0, 0, 0)))


@given(st.tuples(*[st.integers(0, 30)] * 4).filter(lambda cells: sum(cells) > 0))
def test_kappa_does_not_depend_on_who_is_first_nor_on_what_yes_means(cells) -> None:
    both, first, second, neither = cells
    kappa = stats.cohens_kappa(agreed(both, first, second, neither))
    np.testing.assert_allclose(stats.cohens_kappa(agreed(both, second, first, neither)), kappa, atol=1e-12)
    np.testing.assert_allclose(stats.cohens_kappa(agreed(neither, first, second, both)), kappa, atol=1e-12)
    assert np.isnan(kappa) or -1 - 1e-9 <= float(kappa) <= 1 + 1e-9
