from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from radiograd.rl.clipping import critical_aware
from radiograd.rl.policy_loss import clipped, k3, sequence_mean


def test_one_token_above_the_range_is_clipped_when_the_advantage_is_positive() -> None:
    # ratio e^0.5 = 1.6487, eps 0.2: min(1.6487 * 2, 1.2 * 2) = 2.4, loss -2.4
    loss = clipped(torch.tensor([[0.5]]), torch.zeros(1, 1), torch.tensor([2.0]), torch.ones(1, 1), 0.2)
    torch.testing.assert_close(loss, torch.tensor(-2.4))


def test_one_token_above_the_range_is_not_clipped_when_the_advantage_is_negative() -> None:
    # min(1.6487 * -2, 1.2 * -2) = -3.2974, loss 3.2974
    loss = clipped(torch.tensor([[0.5]]), torch.zeros(1, 1), torch.tensor([-2.0]), torch.ones(1, 1), 0.2)
    torch.testing.assert_close(loss, torch.tensor(2 * math.exp(0.5)))


def test_a_long_sequence_weighs_as_much_as_a_short_one() -> None:
    # ratios are 1: per sequence the mean is A; (1 + (-3)) / 2 = -1, loss 1
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    zeros = torch.zeros(2, 4)
    torch.testing.assert_close(clipped(zeros, zeros, torch.tensor([1.0, -3.0]), mask, 0.2), torch.tensor(1.0))


def test_each_case_has_its_own_range() -> None:
    # ratio 1.6487 for both, A = 1: clipped to 1.05 (critical) and 1.2; loss -(1.05 + 1.2) / 2
    eps = torch.tensor(critical_aware(np.array([True, False])))
    logps = torch.full((2, 1), 0.5, dtype=torch.float64)
    loss = clipped(logps, torch.zeros_like(logps), torch.ones(2).double(), torch.ones(2, 1), eps)
    assert float(loss) == pytest.approx(-1.125)


def test_critical_cases_get_a_quarter_of_the_clip_width() -> None:
    np.testing.assert_allclose(critical_aware(np.array([True, False]), eps=0.2, factor=4.0), [0.05, 0.2])  # 0.2 / 4


def test_token_advantages_are_taken_token_by_token() -> None:
    # ratio 1: mean of (1, 3) = 2, loss -2
    zeros = torch.zeros(1, 2)
    torch.testing.assert_close(
        clipped(zeros, zeros, torch.tensor([[1.0, 3.0]]), torch.ones(1, 2), 0.2), torch.tensor(-2.0)
    )


def test_outside_the_range_there_is_no_gradient() -> None:
    logps = torch.tensor([[0.5, 0.1]], requires_grad=True)
    clipped(logps, torch.zeros(1, 2), torch.tensor([1.0]), torch.ones(1, 2), 0.2).backward()
    assert logps.grad is not None
    assert logps.grad[0, 0] == 0  # ratio 1.65 > 1.2, A > 0
    assert logps.grad[0, 1] != 0  # ratio 1.105


def test_a_masked_sequence_counts_as_zero() -> None:
    torch.testing.assert_close(sequence_mean(torch.ones(2, 3), torch.tensor([[1, 1, 1], [0, 0, 0]])), torch.tensor(0.5))


def test_k3_by_hand() -> None:
    # ref - policy = ln 2: 2 - 0.6931 - 1
    torch.testing.assert_close(k3(torch.tensor([0.0]), torch.tensor([math.log(2)])), torch.tensor([1 - math.log(2)]))


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_k3_is_never_negative_and_zero_on_equality(a: float, b: float) -> None:
    value = float(k3(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)))
    assert value >= 0
    if a == b:
        assert value == 0
