"""The clipped policy loss, written out once. Training goes through TRL; a test holds the two equal."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped(
    logps_B_T: Tensor, old_logps_B_T: Tensor, advantages_B_T: Tensor, mask_B_T: Tensor, eps_B: Tensor | float
) -> Tensor:
    """- mean over sequences of the mean over tokens of min(ratio A, clip(ratio, 1 - eps, 1 + eps) A).

    arXiv:2402.03300 eq. 3 without its KL term (see :func:`k3`). All (B, T); ``advantages`` may be (B,) and ``eps`` a
    number or (B,). ``mask`` is 1 on completion tokens; a sequence without any counts as 0. Returns a scalar.
    """
    advantages = advantages_B_T.unsqueeze(-1) if advantages_B_T.dim() == 1 else advantages_B_T
    eps = torch.as_tensor(eps_B, dtype=logps_B_T.dtype, device=logps_B_T.device)
    eps = eps.unsqueeze(-1) if eps.dim() == 1 else eps
    ratio = (logps_B_T - old_logps_B_T).exp()
    clamped = torch.maximum(torch.minimum(ratio, 1 + eps), 1 - eps)
    return -sequence_mean(torch.minimum(ratio * advantages, clamped * advantages), mask_B_T)


def k3(logps_B_T: Tensor, ref_logps_B_T: Tensor) -> Tensor:
    """Estimate of KL(policy || reference) per token: exp(d) - d - 1, d = ref - policy. (B, T), never negative."""
    difference = ref_logps_B_T - logps_B_T
    return difference.exp() - difference - 1


def sequence_mean(values_B_T: Tensor, mask_B_T: Tensor) -> Tensor:
    """Mean over the tokens of each sequence, then over sequences (TRL's loss_type "grpo"). Scalar."""
    mask = mask_B_T.to(values_B_T.dtype)
    return ((values_B_T * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean()
