"""Log-probabilities and entropies from hidden states through a frozen LM head, without keeping a vocabulary-wide block.

The gradient of a log-probability with respect to its hidden state does not depend on what comes after, so it is
computed on the way forward, block by block, while the probabilities are at hand: one product less than recomputing the
block on the way back, and nothing of (positions, vocabulary) is kept.
"""

from __future__ import annotations

from typing import Any

import torch

_BLOCK = 512  # positions whose logits are held at a time
_SLICE = 16  # positions at a time that go through the softmax: 3 MB in float32 at 49,152 words stay in a core's cache


class _FrozenHead(torch.autograd.Function):  # type: ignore[misc]
    """d log p(t) / d hidden = factor (W[t] - sum_v p(v) W[v]), with logits = factor * W hidden."""

    @staticmethod
    def forward(ctx: Any, hidden_N_D: Any, weight_V_D: Any, targets_N: Any, factor: float, wanted: bool) -> Any:
        size = _SLICE if hidden_N_D.device.type == "cpu" else _BLOCK
        logps = torch.empty(targets_N.shape, dtype=torch.float32, device=targets_N.device)
        entropies = torch.empty_like(logps)
        gradients = []
        for first in range(0, len(targets_N), _BLOCK):
            logits = hidden_N_D[first : first + _BLOCK] @ weight_V_D.t()
            for start in range(0, len(logits), size):
                part = logits[start : start + size]
                rows = slice(first + start, first + start + len(part))
                each = torch.log_softmax(part.float().mul_(factor) if factor != 1.0 else part.float(), dim=-1)
                target = targets_N[rows, None]
                logps[rows] = each.gather(-1, target).squeeze(-1)
                chance = each.exp()
                entropies[rows] = -torch.bmm(chance[:, None, :], each[:, :, None]).flatten()
                if wanted:
                    part.copy_(chance.scatter_add_(-1, target, -torch.ones_like(target, dtype=chance.dtype)))
            if wanted:
                gradients.append(logits @ weight_V_D)
        ctx.factor = -factor
        ctx.save_for_backward(*([torch.cat(gradients)] if wanted else []))
        ctx.mark_non_differentiable(entropies)
        return logps, entropies

    @staticmethod
    def backward(ctx: Any, grad_N: Any, _: Any) -> Any:
        if not ctx.saved_tensors:
            return None, None, None, None, None
        (gradient,) = ctx.saved_tensors
        return gradient * (grad_N * ctx.factor).to(gradient.dtype)[:, None], None, None, None, None


def frozen_logps(hidden_N_D: Any, weight_V_D: Any, targets_N: Any, factor: float = 1.0) -> tuple[Any, Any]:
    """Log-probability of each target and entropy (nats) at its position under softmax(factor W h): (N,) each, float32.

    The weight gets no gradient. Entropies carry none.
    """
    if not len(targets_N):
        return hidden_N_D.new_zeros(0, dtype=torch.float32), hidden_N_D.new_zeros(0, dtype=torch.float32)
    wanted = torch.is_grad_enabled() and hidden_N_D.requires_grad
    with torch.autocast(hidden_N_D.device.type, enabled=False):  # it would round the entropies' products
        hidden = hidden_N_D.to(weight_V_D.dtype)
        result: tuple[Any, Any] = _FrozenHead.apply(hidden, weight_V_D, targets_N, factor, wanted)
    return result
