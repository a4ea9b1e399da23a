"""The frozen LM head without a vocabulary-wide block, against log_softmax and autograd."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radiograd.train import head
from radiograd.train.head import frozen_logps


def plainly(hidden, weight, targets, factor):
    logps = torch.log_softmax((hidden @ weight.t()).float() * factor, -1)
    return logps.gather(-1, targets[:, None]).squeeze(-1), -(logps.exp() * logps).sum(-1)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 70), words=st.integers(2, 60), factor=st.sampled_from([1.0, 0.5, 1 / 0.7]), seed=st.integers(0)
)
def test_values_and_gradients_are_those_of_autograd(count: int, words: int, factor: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed % 2**31)
    hidden, weight = torch.randn(count, 8, generator=generator), torch.randn(words, 8, generator=generator)
    targets = torch.randint(0, words, (count,), generator=generator)
    upstream = torch.randn(count, generator=generator)
    found = []
    for compute in (frozen_logps, plainly):
        leaf = hidden.clone().requires_grad_()
        logps, entropy = compute(leaf, weight, targets, factor)
        (logps * upstream).sum().backward()
        found.append((logps.detach(), entropy.detach(), leaf.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


def test_hand_worked() -> None:
    weight = torch.tensor([[math.log(3.0), 0.0], [0.0, 1.0]])
    hidden = torch.tensor([[1.0, 0.0]], requires_grad=True)  # logits ln 3 and 0: chances 3/4 and 1/4
    logps, entropy = frozen_logps(hidden, weight, torch.tensor([0]))
    assert logps.item() == pytest.approx(math.log(0.75))
    assert entropy.item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    logps.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.tolist()[0] == pytest.approx([math.log(3.0) / 4, -0.25])  # W[0] - 3/4 W[0] - 1/4 W[1]


def test_blocks_and_slices_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets = torch.randn(23, 4), torch.randn(9, 4), torch.arange(23) % 9
    whole = frozen_logps(hidden, weight, targets)
    monkeypatch.setattr(head, "_BLOCK", 7)
    monkeypatch.setattr(head, "_SLICE", 3)
    for one, other in zip(whole, frozen_logps(hidden, weight, targets), strict=True):
        torch.testing.assert_close(one, other)


def test_bfloat16_keeps_log_probabilities_in_float32_and_gradients_near() -> None:
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(40, 32), torch.randn(300, 32), torch.arange(40)
    narrow = hidden.bfloat16().requires_grad_()
    logps, _ = frozen_logps(narrow, weight.bfloat16(), targets)
    assert logps.dtype == torch.float32
    logps.sum().backward()
    leaf = hidden.clone().requires_grad_()
    plainly(leaf, weight, targets, 1.0)[0].sum().backward()
    assert narrow.grad is not None
    assert leaf.grad is not None
    assert narrow.grad.dtype == torch.bfloat16
    assert float((narrow.grad.float() - leaf.grad).norm() / leaf.grad.norm()) < 0.02


def test_nothing_to_score_and_nothing_to_learn() -> None:
    weight = torch.randn(5, 4)
    assert [len(part) for part in frozen_logps(torch.zeros(0, 4), weight, torch.zeros(0, dtype=torch.long))] == [0, 0]
    assert not frozen_logps(torch.randn(2, 4), weight, torch.tensor([0, 1]))[0].requires_grad
