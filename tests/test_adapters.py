"""LoRA layers that compute in one step, against PEFT's own computation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from radiograd import adapters


class Two(nn.Module):
    """Two layers with a bend between them, one with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 20)
        self.second = nn.Linear(20, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(torch.tanh(self.first(x)))
        return out


def pair(*, fused: bool = True, dtype: torch.dtype = torch.float32, **lora: Any) -> tuple[Any, Any]:
    """The same adapted model twice: fused, and as PEFT made it. Adapter weights are float32 and not zero."""
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 3, "lora_alpha": 7, "target_modules": ["first", "second"], **lora})
    plain = get_peft_model(Two().to(dtype), config, autocast_adapter_dtype=True)
    for name, weight in plain.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn_like(weight, dtype=torch.float32) * 0.3
    for module in plain.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False
    ours = copy.deepcopy(plain)
    if fused:
        assert adapters.fuse(ours) == len(config.target_modules or ())
    return ours, plain


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def both(ours: Any, plain: Any, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Output, gradient of the input and of each weight, of both."""
    found = []
    for model in (ours, plain):
        x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = model(x)
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
        (out.float() * weights).sum().backward()
        found.append((out.detach(), x.grad, gradients(model)))
    return found[0], found[1]


def assert_alike(ours: Any, theirs: Any, **tolerance: float) -> None:
    torch.testing.assert_close(ours[0], theirs[0], **tolerance)
    torch.testing.assert_close(ours[1], theirs[1], **tolerance)
    assert ours[2].keys() == theirs[2].keys()
    for name in theirs[2]:
        torch.testing.assert_close(ours[2][name], theirs[2][name], **tolerance)


@pytest.mark.parametrize("lora", [{}, {"use_rslora": True}, {"r": 1}], ids=["plain", "rslora", "rank 1"])
def test_values_and_gradients_are_those_of_peft(lora: dict[str, Any]) -> None:
    assert_alike(*both(*pair(**lora)), atol=1e-6, rtol=1e-5)


def test_in_bfloat16_it_is_no_further_from_float32_than_peft_and_gradients_are_float32() -> None:
    exact, _ = both(*pair())
    ours, theirs = both(*pair(dtype=torch.bfloat16), dtype=torch.bfloat16)
    assert ours[0].dtype == torch.bfloat16
    assert {grad.dtype for grad in ours[2].values()} == {torch.float32}
    for name, grad in exact[2].items():
        off, peft_off = (float((side[2][name] - grad).norm() / grad.norm()) for side in (ours, theirs))
        assert off < max(1.5 * peft_off, 0.02)


@pytest.mark.parametrize(
    "lora", [{"use_dora": True}, {"lora_dropout": 0.5}, {"lora_bias": True, "target_modules": ["first"]}]
)
def test_what_is_not_plain_goes_the_way_of_peft(lora: dict[str, Any]) -> None:
    ours, plain = pair(**lora)
    for model in (ours, plain):
        model.train()
    torch.manual_seed(7)
    mine = ours(torch.ones(1, 12))
    torch.manual_seed(7)
    assert torch.equal(mine, plain(torch.ones(1, 12)))


def test_dropout_is_no_matter_in_evaluation() -> None:
    ours, plain = pair(lora_dropout=0.5)
    ours.eval()
    plain.eval()
    torch.testing.assert_close(ours(torch.ones(1, 12)), plain(torch.ones(1, 12)))


def test_adapters_off_merged_and_several_at_once() -> None:
    ours, plain = pair()
    x = torch.randn(3, 12)
    with ours.disable_adapter(), plain.disable_adapter():
        assert torch.equal(ours(x), plain(x))
    for model in (ours, plain):
        model.add_adapter("other", LoraConfig(r=2, target_modules=["first"]))
        model.base_model.set_adapter(["default", "other"])
    torch.testing.assert_close(ours(x), plain(x))
    for model in (ours, plain):
        model.set_adapter("default")
        model.merge_adapter()
    torch.testing.assert_close(ours(x), plain(x))


def test_a_second_call_changes_nothing_and_a_copy_of_a_model_keeps_to_its_own_weights() -> None:
    ours, plain = pair()
    assert adapters.fuse(ours) == 0
    x = torch.randn(3, 12)
    before = ours(x)
    twin = copy.deepcopy(plain)
    adapters.fuse(twin)
    for name, weight in twin.named_parameters():
        if "lora_" in name:
            weight.data.zero_()
    assert torch.equal(ours(x), before)


def test_rounded_weights_are_kept_while_nothing_changes_and_forgotten_afterwards() -> None:
    ours, _ = pair(dtype=torch.bfloat16)
    x = torch.randn(3, 12).bfloat16()

    def change() -> None:
        for name, weight in ours.named_parameters():
            if "lora_" in name:
                weight.data.mul_(2)  # neither autograd nor the optimiser would notice

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        with adapters.unchanging():
            first = ours(x)
            change()
            assert torch.equal(ours(x), first)
        assert not torch.equal(ours(x), first)


def test_no_graph_is_kept_without_gradients_and_no_input_gradient_is_needed() -> None:
    ours, plain = pair()
    with torch.no_grad():
        assert not ours(torch.ones(1, 12)).requires_grad
    found = [model(torch.ones(1, 12)).sum().backward() or gradients(model) for model in (ours, plain)]
    for name, grad in found[1].items():
        torch.testing.assert_close(found[0][name], grad)
