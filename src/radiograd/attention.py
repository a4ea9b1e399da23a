"""Attention for CPUs: plain products without repeating keys and values for the query heads that share them.

transformers' own choices for a CPU are a fused kernel that is slow backwards for rows of a hundred tokens, and an
"eager" one that copies every key and value once per query head and keeps float32 weights for the backward pass.
This computes the same numbers as "eager" with a third of its memory (a test holds the two equal).
"""

from __future__ import annotations

from typing import Any

from radiograd import packing
from radiograd.prompt_cache import PromptCache

NAME = "radiograd_grouped"
SERVED = frozenset({"llama", "mistral", "qwen2", "qwen3", "smollm3"})
"""Model types whose attention is plain scaled products under a mask: no caps, no sinks, no position bias."""


def choose(model_type: str) -> str:
    """The attention implementation for a model on a CPU: ours where it serves the model, else transformers' eager."""
    if model_type not in SERVED:
        return "eager"
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(NAME, grouped)
    AttentionMaskInterface.register(NAME, eager_mask)
    return NAME


def keeps_apart(config: Any) -> bool:
    """Whether several texts can share a row of a model so configured: with our attention, and every token seeing all
    tokens of its text before it (no sliding window, no dropout of attention)."""
    layers = getattr(config, "layer_types", None)
    window = any(kind != "full_attention" for kind in layers) if layers else getattr(config, "sliding_window", None)
    return bool(config._attn_implementation == NAME and not window and not getattr(config, "attention_dropout", 0.0))


def no_mask(device: Any) -> Any:
    """A mask that :func:`grouped` does not look at where texts share a row: it keeps transformers from making one."""
    import torch

    return torch.zeros(1, 1, 1, 1, device=device)


def grouped(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    packed: packing.Packed | None = None,
    cached: PromptCache | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Softmax(query key^T * scaling + mask) value, as transformers calls it.

    query (B, Hq, T, D); key and value (B, Hk, L, D) with Hq a multiple of Hk; mask (B, 1, T, L), additive. Returns
    (B, T, Hq, D) and no weights. ``packed``: the row holds several texts. ``cached``: each row is one token behind a
    prompt that is kept there.
    """
    import torch

    batch, heads, length, width = query.shape
    shared = key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    if packed is not None:
        return packing.attend(query, key, value, packed, scale), None
    if cached is not None:
        return cached.attend(module.layer_idx, query, key, value, scale), None
    rows = query.reshape(batch, shared, heads // shared * length, width)
    scores = torch.matmul(rows, key.transpose(2, 3)) * scale
    if attention_mask is not None:
        by_head = scores.view(batch, shared, heads // shared, length, -1) + attention_mask.unsqueeze(2)
        scores = by_head.to(scores.dtype).view(scores.shape)
    with torch.autocast(query.device.type, enabled=False):  # autocast would keep a float32 copy
        weights = torch.softmax(scores, dim=-1)
    if dropout and module.training:
        weights = torch.nn.functional.dropout(weights, p=dropout)
    mixed = torch.matmul(weights, value).view(batch, heads, length, width)
    return mixed.transpose(1, 2).contiguous(), None
