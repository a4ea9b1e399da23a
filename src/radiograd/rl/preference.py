"""Direct preference optimisation written out: losses, implicit rewards, anchors. Training adds nothing to them.

Names: ``chosen`` and ``rejected`` are log pi(y_w | x) and log pi(y_l | x) under the policy, ``ref_`` the same under the
reference; all (N,), one value per pair, made by :func:`sequence_logps`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def sequence_logps(logps_B_T: Tensor, mask_B_T: Tensor, length_normalised: bool = False) -> Tensor:
    """log pi(y | x) of each completion: the sum over its tokens, or their mean when ``length_normalised``.

    ``logps``: (B, T), anything on padding; ``mask``: (B, T), 1 on completion tokens. Returns (B,) nats; 0 for a
    completion without tokens. The mean is length-normalised DPO (arXiv:2411.15124 section 5).
    """
    mask = mask_B_T.bool()
    total = torch.where(mask, logps_B_T, torch.zeros_like(logps_B_T)).sum(-1)
    return total / mask.sum(-1).clamp(min=1) if length_normalised else total


def margins(chosen_N: Tensor, rejected_N: Tensor, ref_chosen_N: Tensor, ref_rejected_N: Tensor, beta: float) -> Tensor:
    """Implicit reward of chosen minus that of rejected: beta ((chosen - ref) - (rejected - ref)). (N,).

    arXiv:2305.18290 eq. 5: r = beta log(pi / ref) + beta log Z(x). Z is the prompt's, so it cancels here; a reward of
    one side alone is known only up to it and is never reported.
    """
    return beta * ((chosen_N - ref_chosen_N) - (rejected_N - ref_rejected_N))


def dpo(
    chosen_N: Tensor,
    rejected_N: Tensor,
    ref_chosen_N: Tensor,
    ref_rejected_N: Tensor,
    beta: float,
    dpop: float = 0.0,
) -> Tensor:
    """-log sigmoid of :func:`margins`, per pair. (N,). arXiv:2305.18290 eq. 7.

    ``dpop`` above 0 is the weight lambda of :func:`shortfall`, subtracted from the log-ratios inside the sigmoid:
    DPO-Positive, arXiv:2402.13228, the DPOP loss. Stable for any margin: logsigmoid never takes the logarithm of 0.
    """
    margin = margins(chosen_N, rejected_N, ref_chosen_N, ref_rejected_N, beta)
    if dpop:
        margin = margin - beta * dpop * shortfall(chosen_N, ref_chosen_N)
    return -logsigmoid(margin)


def shortfall(chosen_N: Tensor, ref_chosen_N: Tensor) -> Tensor:
    """max(0, ref - policy): by how much chosen is less likely than under the reference. (N,) nats."""
    return (ref_chosen_N - chosen_N).clamp(min=0)


def accuracy(margins_N: Tensor) -> Tensor:
    """Share of pairs whose chosen answer has the higher implicit reward; an equal one does not count. Scalar."""
    return (margins_N > 0).float().mean()


def relative_weights(weights_N: Tensor) -> Tensor:
    """Weights scaled to a mean of 1: a pair of weight 2 counts as two of weight 1, wherever they stand. (N,)."""
    return weights_N / weights_N.mean()
