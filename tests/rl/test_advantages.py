from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from radiograd.rl.advantages import dead_groups, group_normalised


def test_a_group_of_four_worked_by_hand() -> None:
    # mean 0.5; deviations -0.5 0 0 0.5; sample variance (0.25 + 0.25) / 3 = 1/6; std 0.40825
    expected = 0.5 / (math.sqrt(1 / 6) + 1e-4)
    result = group_normalised(torch.tensor([[0.0, 0.5, 0.5, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(result, torch.tensor([[-expected, 0.0, 0.0, expected]], dtype=torch.float64))


def test_groups_do_not_see_each_other() -> None:
    together = group_normalised(torch.tensor([[0.0, 1.0], [10.0, 30.0]]))
    torch.testing.assert_close(together[1], group_normalised(torch.tensor([[10.0, 30.0]]))[0])


def test_an_unscored_completion_has_no_advantage_and_does_not_move_the_mean() -> None:
    result = group_normalised(torch.tensor([[0.0, float("nan"), 1.0]]))
    torch.testing.assert_close(result[0, [0, 2]], group_normalised(torch.tensor([[0.0, 1.0]]))[0])
    assert result[0, 1] == 0


@pytest.mark.parametrize("group", [[0.3, 0.3, 0.3], [float("nan"), 0.7, float("nan")], [float("nan")] * 3])
def test_a_group_with_nothing_to_compare_is_dead(group: list[float]) -> None:
    assert torch.equal(group_normalised([group]), torch.zeros(1, 3))
    assert dead_groups([group]).tolist() == [True]


def test_rounding_noise_is_not_a_difference() -> None:
    assert dead_groups(torch.tensor([[0.1 + 0.2, 0.3, 0.3]], dtype=torch.float64)).tolist() == [True]


def test_numpy_and_whole_numbers_are_taken() -> None:
    torch.testing.assert_close(group_normalised(np.array([[0, 1]])), group_normalised(torch.tensor([[0.0, 1.0]])))


def test_a_flat_list_of_rewards_is_refused() -> None:
    with pytest.raises(ValueError, match="prompts, group"):
        group_normalised(torch.zeros(4))


@given(
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=8),
    st.floats(0.5, 2),
    st.floats(-3, 3),
)
def test_advantages_sum_to_zero_and_ignore_shift(rewards: list[float], scale: float, shift: float) -> None:
    values = torch.tensor([rewards], dtype=torch.float64)
    result = group_normalised(values)
    assert abs(float(result.sum())) < 1e-6
    if float(values.std()) > 1e-3:
        moved = group_normalised(values * scale + shift)
        assert torch.equal(torch.sign(moved.round(decimals=6)), torch.sign(result.round(decimals=6)))
