"""The objective of the diverse selection: hand-worked values, its guarantees on small instances, and its speed."""

from __future__ import annotations

import math
import time
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.coverage import (
    Coverage,
    Greedy,
    Quota,
    choose_greedily,
    label_weights,
    quota_of,
    uncertainty,
)

# ---- hand-worked values ----------------------------------------------------------------------------------------------


def test_weights_follow_the_rarity_of_a_label_and_sum_to_1() -> None:
    # 6 studies: a in 5, b in 1, c in none -> (n + 1) / 8 = 6/8, 2/8, 1/8; in halvings 0.415, 2, 3
    present = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    total = math.log2(4 / 3) + 2 + 3
    np.testing.assert_allclose(label_weights(present), [math.log2(4 / 3) / total, 2 / total, 3 / total])


def test_a_label_that_always_occurs_still_counts_a_little() -> None:
    weights = label_weights(np.array([[1, 0], [1, 1]], dtype=bool))
    assert 0 < weights[0] < weights[1]


def test_uncertainty_is_the_weighted_entropy_in_bits() -> None:
    # h(1/2) = 1, h(1/4) = 2 - 3/4 log2 3 = 0.8113, h(0) = h(1) = 0
    shares = np.array([[0.5, 0.25], [0.0, 1.0], [0.5, 0.5]])
    found = uncertainty(shares, np.array([0.75, 0.25]))
    np.testing.assert_allclose(found, [0.75 + 0.25 * (2 - 0.75 * math.log2(3)), 0.0, 1.0])


def small(present: list[list[int]], weights: list[float], eta: float, count: int) -> Coverage:
    return Coverage(np.array(present, dtype=bool), np.array(weights), eta, count)


def test_f_of_three_studies() -> None:
    # {a}, {a}, {a, b}: n_a = 3, n_b = 1; signatures twice {a}, once {a, b}; m = 4, so eta / sqrt(m) = 1/4
    coverage = small([[1, 0], [1, 0], [1, 1], [0, 0]], [0.25, 0.75], 0.5, 4)
    expected = 0.25 * math.log(4) + 0.75 * math.log(2) + 0.25 * (math.sqrt(2) + 1)
    assert coverage.value([0, 1, 2]) == pytest.approx(expected)
    assert coverage.value([2, 0, 1]) == pytest.approx(expected)
    assert coverage.value([]) == 0.0


def test_f_along_an_order_is_f_of_its_beginnings() -> None:
    coverage = small([[1, 0], [1, 0], [1, 1], [0, 0], [0, 0]], [0.4, 0.6], 0.7, 3)
    order = [4, 2, 0, 3, 1]
    np.testing.assert_allclose(coverage.along(order, range(6)), [coverage.value(order[:k]) for k in range(6)])


def chosen(
    coverage: Coverage,
    weight: float,
    u: list[float],
    quota: Quota | None = None,
    normal: list[int] | None = None,
    ties: list[int] | None = None,
) -> Greedy:
    n = len(u)
    return choose_greedily(
        coverage,
        weight,
        np.array(u),
        np.arange(n) if ties is None else np.array(ties),
        np.zeros(n, dtype=bool) if normal is None else np.array(normal, dtype=bool),
        quota or Quota(n, n),
    )


def test_the_second_of_a_kind_adds_less_than_the_first_of_another() -> None:
    # w = (1/2, 1/2), eta 0, lambda 1, m = 2. First a: 2 * 1/2 ln 2; then another a would add 2 * 1/2 ln(3/2), b ln 2
    found = chosen(small([[1, 0], [1, 0], [0, 1]], [0.5, 0.5], 0.0, 2), 1.0, [0.0, 0.0, 0.0])
    assert found.order == [0, 2]
    np.testing.assert_allclose(found.gains, [math.log(2), math.log(2)])


def test_uncertainty_and_coverage_are_weighed_by_lambda() -> None:
    # places 0 and 1 have a, place 2 has b; place 1 is unsure by 0.3 = less than ln 2 - ln 3/2 = 0.288 + ... at lambda 1
    coverage = small([[1, 0], [1, 0], [0, 1]], [0.5, 0.5], 0.0, 2)
    assert chosen(coverage, 1.0, [0.5, 0.28, 0.0]).order == [0, 2]  # b: ln 2 = 0.693; second a: 0.28 + 0.405 = 0.685
    assert chosen(coverage, 1.0, [0.5, 0.29, 0.0]).order == [0, 1]  # 0.29 + 0.405 = 0.695
    assert chosen(coverage, 0.0, [0.1, 0.28, 0.2]).order == [1, 2]


def test_equal_gains_go_to_the_smallest_tie() -> None:
    coverage = small([[1], [1], [1], [0]], [1.0], 0.0, 3)
    assert chosen(coverage, 1.0, [0.2, 0.2, 0.2, 0.2], ties=[2, 0, 1, 3]).order == [1, 2, 0]


def test_a_quota_turns_the_best_away_when_its_kind_is_full() -> None:
    coverage = small([[0], [0], [0], [1], [1]], [1.0], 0.0, 3)
    u = [9.0, 8.0, 7.0, 0.1, 0.2]
    found = chosen(coverage, 0.0, u, Quota(1, 3), [1, 1, 1, 0, 0])
    assert found.order == [0, 4, 3]
    with pytest.raises(ValueError, match="the quota leaves 2 of 3"):
        chosen(coverage, 0.0, u, Quota(1, 1), [1, 1, 1, 0, 0])


@pytest.mark.parametrize(
    ("share", "normal", "other", "count", "expected"),
    [
        ((0.1, 0.5), 100, 100, 20, Quota(10, 18)),  # 2 to 10 normal ones
        ((0.1, 0.5), 1, 100, 20, Quota(1, 19, "others")),  # 2 are wanted, 1 is there
        ((0.1, 0.5), 100, 4, 20, Quota(16, 4, "normal")),  # 10 others are wanted, 4 are there
        ((0.5, 0.5), 9, 9, 5, Quota(3, 2)),  # half of five: the least is rounded up, and holds
        ((0.0, 1.0), 3, 4, 7, Quota(7, 7)),
        ((0.1, 0.5), 30, 30, 30, Quota(15, 27)),  # 0.1 * 30 is a little above 3 in floating point
    ],
)
def test_quota(share: tuple[float, float], normal: int, other: int, count: int, expected: Quota) -> None:
    assert quota_of(share, normal, other, count) == expected


def test_more_than_there_are_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="5 studies cannot be chosen of 4"):
        quota_of((0.0, 1.0), 2, 2, 5)
    with pytest.raises(ValueError, match="at least one study"):
        small([[1]], [1.0], 0.0, 0)
    with pytest.raises(ValueError, match="at most 62 labels"):
        small([[1] * 63], [1 / 63] * 63, 0.0, 1)


# ---- what must always hold -------------------------------------------------------------------------------------------


@st.composite
def instances(draw: Any, most: int = 8) -> dict[str, Any]:
    n, labels = draw(st.integers(2, most)), draw(st.integers(1, 3))
    rows = draw(st.lists(st.lists(st.booleans(), min_size=labels, max_size=labels), min_size=n, max_size=n))
    present = np.array(rows, dtype=bool)
    eighths = draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))
    return {
        "coverage": Coverage(
            present,
            label_weights(present),
            draw(st.sampled_from([0.0, 0.1, 0.5, 3.0])),
            draw(st.integers(1, n)),
        ),
        "weight": draw(st.sampled_from([0.0, 0.3, 1.0, 10.0])),
        "u": np.array(eighths) / 8,
        "ties": np.array(draw(st.permutations(range(n)))),
        "normal": np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool),
    }


def worth(case: dict[str, Any], places: Any) -> float:
    coverage = case["coverage"]
    return float(case["u"][list(places)].sum()) + case["weight"] * coverage.count * coverage.value(list(places))


def plain_greedy(case: dict[str, Any], quota: Quota) -> list[int]:
    """Every gain anew for every choice, from F itself."""
    order: list[int] = []
    for _ in range(case["coverage"].count):
        room = [quota.other, quota.normal]
        for k in order:
            room[int(case["normal"][k])] -= 1
        free = [k for k in range(len(case["u"])) if k not in order and room[int(case["normal"][k])]]
        gains = {k: round(worth(case, [*order, k]) - worth(case, order), 9) for k in free}
        order.append(min(free, key=lambda k: (-gains[k], case["ties"][k])))
    return order


def lazily(case: dict[str, Any], quota: Quota) -> Greedy:
    return choose_greedily(case["coverage"], case["weight"], case["u"], case["ties"], case["normal"], quota)


def quota_for(case: dict[str, Any], share: tuple[float, float]) -> Quota:
    normal = int(case["normal"].sum())
    return quota_of(share, normal, len(case["u"]) - normal, case["coverage"].count)


@given(instances(), st.sampled_from([(0.0, 1.0), (0.3, 0.6)]))
def test_lazy_is_plain_greedy(case: dict[str, Any], share: tuple[float, float]) -> None:
    quota = quota_for(case, share)
    found, plain = lazily(case, quota), plain_greedy(case, quota)
    np.testing.assert_allclose(
        found.gains, [worth(case, plain[: k + 1]) - worth(case, plain[:k]) for k in range(len(plain))], atol=1e-8
    )
    assert worth(case, found.order) == pytest.approx(worth(case, plain))
    assert sum(found.gains) == pytest.approx(worth(case, found.order))


@given(instances())
def test_greedy_is_at_least_1_minus_1_over_e_of_the_best(case: dict[str, Any]) -> None:
    count = case["coverage"].count
    best = max(worth(case, some) for some in combinations(range(len(case["u"])), count))
    assert worth(case, lazily(case, quota_for(case, (0.0, 1.0))).order) >= (1 - 1 / math.e) * best - 1e-9


@given(instances(), st.sampled_from([(0.3, 0.6), (0.5, 0.5), (0.0, 0.2)]))
def test_with_a_quota_it_is_at_least_half_and_the_quota_holds(case: dict[str, Any], share: tuple[float, float]) -> None:
    count, normal, quota = case["coverage"].count, case["normal"], quota_for(case, share)

    def fits(some: Any) -> bool:
        inside = int(normal[list(some)].sum())
        return inside <= quota.normal and count - inside <= quota.other

    found = lazily(case, quota).order
    assert len(set(found)) == count
    assert fits(found)
    best = max(worth(case, some) for some in combinations(range(len(normal)), count) if fits(some))
    assert worth(case, found) >= best / 2 - 1e-9


@given(instances(20), st.randoms())
def test_the_order_of_rows_does_not_matter(case: dict[str, Any], rng: Any) -> None:
    shuffled = rng.sample(range(len(case["u"])), len(case["u"]))
    before = case["coverage"]
    other = {
        **case,
        "coverage": Coverage(before.present_N_C[shuffled], before.weights_C, before.eta, before.count),
        **{name: case[name][shuffled] for name in ("u", "ties", "normal")},
    }
    quota = quota_for(case, (0.2, 0.6))
    one, two = lazily(case, quota), lazily(other, quota)
    assert one.order == [shuffled[k] for k in two.order]
    assert one.gains == two.gains


@given(instances(6))
def test_f_is_monotone_and_submodular(case: dict[str, Any]) -> None:
    coverage, everything = case["coverage"], range(len(case["u"]))
    subsets = [list(some) for size in range(len(everything) + 1) for some in combinations(everything, size)]
    value = {tuple(some): coverage.value(some) for some in subsets}
    for some in subsets:
        for larger in subsets:
            if not set(some) <= set(larger):
                continue
            for one in set(everything) - set(larger):
                small_gain = value[tuple(sorted([*some, one]))] - value[tuple(some)]
                large_gain = value[tuple(sorted([*larger, one]))] - value[tuple(larger)]
                assert -1e-12 <= large_gain <= small_gain + 1e-12


def world(n: int) -> tuple[Any, Any]:
    """Labels of ``n`` studies, two fifths of them normal, and the shares of eight completions that state each."""
    rng = np.random.default_rng(3)
    prevalence = np.array([0.04, 0.26, 0.3, 0.04, 0.16, 0.06, 0.1, 0.26, 0.05, 0.29, 0.03, 0.04, 0.32])
    present = (rng.random((n, 13)) < prevalence) & (rng.random(n) < 0.6)[:, None]
    return present, rng.binomial(8, 0.1 + 0.3 * present) / 8


@pytest.mark.parametrize("times", [1, 100, 10_000])
def test_labels_and_signatures_keep_their_balance_in_a_larger_choice(times: int) -> None:
    # S: {a}, {a}, {b}, {} `times` over, and one more {a}. With m = 4 times, label a (w = 1/2) adds
    # m / 2 * log((2 times + 2) / (2 times + 1)) -> 1, its signature m * eta / sqrt(m) * (sqrt(2 times + 1) -
    # sqrt(2 times)) -> 2 eta sqrt(times) / (2 sqrt(2 times)) = eta / sqrt(2); without 1 / sqrt(m) it would grow
    present = np.array([[1, 0], [1, 0], [0, 1], [0, 0]] * times + [[1, 0]], dtype=bool)
    count, weights = 4 * times, np.array([0.5, 0.5])
    places = list(range(count + 1))

    def added(eta: float) -> float:
        coverage = Coverage(present, weights, eta, count)
        before, after = coverage.along(places, [count, count + 1])
        return count * (after - before)

    label, signature = added(0.0), added(0.5) - added(0.0)
    assert label == pytest.approx(1.0, rel=1 / times)
    assert signature == pytest.approx(0.5 / math.sqrt(2), rel=0.2 / times)


def test_many_studies_take_little_time() -> None:
    n = 60_000
    present, shares = world(n)
    started = time.perf_counter()
    weights = label_weights(present)
    coverage = Coverage(present, weights, 0.5, n // 5)
    normal = ~present.any(axis=1)
    quota = quota_of((0.1, 0.5), int(normal.sum()), int((~normal).sum()), n // 5)
    u = uncertainty(shares, weights)
    found = choose_greedily(coverage, 1.0, u, np.random.default_rng(1).permutation(n), normal, quota)
    assert time.perf_counter() - started < 10  # about 0.3 s
    assert len(set(found.order)) == n // 5
    gains = np.array(found.gains)
    assert gains[-1] > 0
    # of one kind gains only fall: what was chosen later added no more
    for kind in (True, False):
        assert (np.diff(gains[normal[found.order] == kind]) <= 1e-9).all()
