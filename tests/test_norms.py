"""Norms with a gradient by hand, against the classes of transformers that they stand in for."""

from __future__ import annotations

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm
from transformers.models.smollm3.modeling_smollm3 import SmolLM3RMSNorm

from radiograd import norms

CLASSES = (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm, SmolLM3RMSNorm)


def _run(norm, dtype: torch.dtype, size: float):
    x = (torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1)) * size).to(dtype).requires_grad_()
    out = norm(x)
    (out.float() * torch.randn(out.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad


def _norm(kind: type, dtype: torch.dtype):
    norm = kind(24, eps=1e-5)
    norm.weight.data = 1 + 0.3 * torch.randn(24, generator=torch.Generator().manual_seed(3))
    return norm.to(dtype).requires_grad_(False)


def test_every_known_class_is_tried() -> None:
    assert {kind.__name__ for kind in CLASSES} == norms.KNOWN


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("size", [1.0, 1e-3])  # the second: epsilon counts
def test_values_and_gradients_are_those_of_the_class(kind: type, size: float) -> None:
    ours = _norm(kind, torch.float32)
    assert norms.fuse(ours) == 1
    assert norms.fuse(ours) == 0
    for mine, theirs in zip(
        _run(ours, torch.float32, size), _run(_norm(kind, torch.float32), torch.float32, size), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


def test_in_bfloat16_gradients_are_as_near_to_float32_as_theirs() -> None:
    ours, plain = _norm(LlamaRMSNorm, torch.bfloat16), _norm(LlamaRMSNorm, torch.bfloat16)
    norms.fuse(ours)
    exact = _norm(LlamaRMSNorm, torch.float32)
    exact.weight.data = plain.weight.data.float()
    x = torch.randn(64, 24, generator=torch.Generator().manual_seed(1)).bfloat16()
    grads = []
    for norm in (ours, plain, exact):
        leaf = x.to(norm.weight.dtype).clone().requires_grad_()
        (norm(leaf).float() * torch.linspace(-1, 1, 24)).sum().backward()
        assert leaf.grad is not None
        grads.append(leaf.grad.float())
    off = [float((grad - grads[2]).norm() / grads[2].norm()) for grad in grads[:2]]
    assert off[0] < max(1.5 * off[1], 5e-3)


def test_a_trained_weight_keeps_its_gradient_and_without_gradients_nothing_is_kept() -> None:
    norm = _norm(LlamaRMSNorm, torch.float32).requires_grad_(True)
    norms.fuse(norm)
    norm(torch.randn(2, 24)).sum().backward()
    assert norm.weight.grad is not None
    with torch.no_grad():
        assert norm(torch.randn(2, 24)).grad_fn is None
