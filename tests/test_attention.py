from __future__ import annotations

from pathlib import Path

import torch

from radiograd import attention, models
from radiograd.config import ModelConfig


def _logits_and_gradient(model, kind: str):
    model.set_attn_implementation(kind)
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(5, 400, (3, 11), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0  # left padding
    model.zero_grad()
    logits = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits
    weights = torch.randn(logits.shape, generator=generator) * mask.unsqueeze(-1)
    (logits * weights).sum().backward()
    return logits * mask.unsqueeze(-1), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_grouped_attention_equals_transformers_eager(tiny_model: Path) -> None:
    model = models.load_policy(ModelConfig(name=str(tiny_model), dtype="float32", device="cpu"))
    assert model.config._attn_implementation == attention.NAME
    logits, gradient = _logits_and_gradient(model, attention.NAME)
    expected, expected_gradient = _logits_and_gradient(model, "eager")
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-4, rtol=1e-4)


def test_one_query_over_a_long_cache_by_hand() -> None:
    # two query heads share one key head; equal scores, so the output is the mean of the values: (1 + 3) / 2
    query, key = torch.zeros(1, 2, 1, 4), torch.randn(1, 1, 2, 4)
    value = torch.tensor([[[[1.0] * 4, [3.0] * 4]]])
    mixed, _ = attention.grouped(torch.nn.Identity(), query, key, value, None)
    torch.testing.assert_close(mixed, torch.full((1, 1, 2, 4), 2.0))


def test_models_with_other_attention_keep_transformers_own() -> None:
    assert attention.choose("llama") == attention.NAME
    assert attention.choose("gemma2") == "eager"  # caps its scores
