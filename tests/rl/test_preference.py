"""The preference maths by hand."""

from __future__ import annotations

import math

import pytest
import torch

from radiograd.rl.preference import accuracy, dpo, margins, relative_weights, sequence_logps, shortfall


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


# Three pairs. Log-ratio of chosen minus log-ratio of rejected: 0, 10 and 20.
CHOSEN = values(-5.0, -4.0, -30.0)
REF_CHOSEN = values(-5.0, -9.0, -38.0)  # chosen - ref: 0, 5, 8
REJECTED = values(-7.0, -12.0, -50.0)
REF_REJECTED = values(-7.0, -7.0, -38.0)  # rejected - ref: 0, -5, -12


def test_margins_are_beta_times_the_difference_of_the_log_ratios() -> None:
    found = margins(CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED, beta=0.1)
    torch.testing.assert_close(found, values(0.0, 1.0, 2.0), atol=1e-12, rtol=0)


def test_the_loss_at_ratios_0_10_and_20_with_beta_a_tenth() -> None:
    found = dpo(CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED, beta=0.1)
    # -log sigmoid(m) = log(1 + exp(-m)) at m = 0, 1, 2: log 2, log 1.3678794, log 1.1353353
    expected = values(0.6931472, 0.3132617, 0.1269280)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    exact = values(math.log(2), math.log1p(math.exp(-1)), math.log1p(math.exp(-2)))
    torch.testing.assert_close(found, exact, atol=1e-12, rtol=0)


def test_the_same_in_float32_to_a_millionth() -> None:
    found = dpo(*(v.float() for v in (CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED)), beta=0.1)
    torch.testing.assert_close(found, torch.tensor([0.6931472, 0.3132617, 0.1269280]), atol=1e-6, rtol=0)


def test_the_gradient_is_beta_times_the_wrongness_of_the_margin() -> None:
    # arXiv:2305.18290 section 4: -beta sigmoid(-margin) on chosen, + the same on rejected
    chosen, rejected = CHOSEN.clone().requires_grad_(), REJECTED.clone().requires_grad_()
    dpo(chosen, rejected, REF_CHOSEN, REF_REJECTED, beta=0.1).sum().backward()
    wrong = values(0.5, 1 / (1 + math.e), 1 / (1 + math.e**2))
    torch.testing.assert_close(chosen.grad, -0.1 * wrong, atol=1e-12, rtol=0)
    torch.testing.assert_close(rejected.grad, 0.1 * wrong, atol=1e-12, rtol=0)


@pytest.mark.parametrize("distance", [1e4, -1e4])
def test_a_margin_far_out_gives_a_finite_loss_and_gradient(distance: float) -> None:
    chosen = torch.tensor([distance], requires_grad=True)
    zero = torch.zeros(1)
    loss = dpo(chosen, zero, zero, zero, beta=1.0)
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(max(0.0, -distance))
    assert float(chosen.grad[0]) == pytest.approx(-1.0 if distance < 0 else 0.0)  # type: ignore[index]


def test_a_padded_batch_counts_completion_tokens_only() -> None:
    # two completions of 3 and 1 tokens; what stands on padding must not matter, not even NaN
    logps = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, float("nan"), -9.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    torch.testing.assert_close(sequence_logps(logps, mask), values(-6.0, -4.0))
    torch.testing.assert_close(sequence_logps(logps, mask, length_normalised=True), values(-2.0, -4.0))
    assert sequence_logps(logps, torch.zeros(2, 3), length_normalised=True).tolist() == [0.0, 0.0]


def test_the_loss_of_a_padded_batch() -> None:
    # one pair: chosen of 2 tokens, rejected of 4. chosen -3 (ref -5), rejected -8 (ref -6): 0.1 * (2 + 2) = 0.4
    policy = torch.tensor([[-1.0, -2.0, -7.0, -7.0], [-2.0, -2.0, -2.0, -2.0]], dtype=torch.float64)
    reference = torch.tensor([[-2.0, -3.0, 5.0, 5.0], [-1.0, -2.0, -1.0, -2.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    chosen, rejected = sequence_logps(policy, mask).chunk(2)
    ref_chosen, ref_rejected = sequence_logps(reference, mask).chunk(2)
    assert float(margins(chosen, rejected, ref_chosen, ref_rejected, 0.1)) == pytest.approx(0.4, abs=1e-12)
    loss = dpo(chosen, rejected, ref_chosen, ref_rejected, 0.1)
    assert float(loss) == pytest.approx(0.5130152524, abs=1e-6)  # log(1 + exp(-0.4)) = log 1.6703200
    # means per token: chosen -1.5 (ref -2.5), rejected -2 (ref -1.5): beta 2 * (1 + 0.5) = 3
    chosen, rejected = sequence_logps(policy, mask, length_normalised=True).chunk(2)
    ref_chosen, ref_rejected = sequence_logps(reference, mask, length_normalised=True).chunk(2)
    loss = dpo(chosen, rejected, ref_chosen, ref_rejected, 2.0)
    assert float(loss) == pytest.approx(0.0485873516, abs=1e-6)  # log(1 + exp(-3))


def test_dpop_takes_off_what_chosen_has_lost_inside_the_sigmoid() -> None:
    # chosen fell by 2 below the reference, rejected fell by 12: the plain margin is 0.1 * (-2 + 12) = 1
    chosen, ref_chosen = values(-7.0), values(-5.0)
    rejected, ref_rejected = values(-19.0), values(-7.0)
    assert float(dpo(chosen, rejected, ref_chosen, ref_rejected, 0.1)) == pytest.approx(math.log1p(math.exp(-1)))
    # lambda 5: 0.1 * (10 - 5 * 2) = 0
    found = dpo(chosen, rejected, ref_chosen, ref_rejected, 0.1, dpop=5.0)
    assert float(found) == pytest.approx(math.log(2), abs=1e-12)


def test_dpop_is_plain_dpo_where_chosen_has_risen() -> None:
    plain = dpo(CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED, 0.1)
    torch.testing.assert_close(dpo(CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED, 0.1, dpop=50.0), plain)
    assert shortfall(CHOSEN, REF_CHOSEN).tolist() == [0.0, 0.0, 0.0]
    assert shortfall(values(-7.0, -4.0), values(-5.0, -5.0)).tolist() == [2.0, 0.0]


def test_accuracy_is_the_share_of_margins_above_zero() -> None:
    assert float(accuracy(values(0.0, 1.0, 2.0, -1.0))) == 0.5


def test_a_pair_of_weight_two_counts_as_two_pairs() -> None:
    weights = relative_weights(values(2.0, 1.0))
    torch.testing.assert_close(weights, values(4 / 3, 2 / 3))
    losses = values(1.0, 4.0)
    assert float((weights * losses).mean()) == pytest.approx(2.0)  # (1 + 1 + 4) / 3
