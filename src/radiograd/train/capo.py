"""Clip ranges per case through TRL's loss, and what is logged apart for critical and normal cases.

RadFlow's critical-aware policy optimisation (section 4.3, eqs. 8 and 9). The paper's lemma says that clipping bounds
the policy's change; it does not: a clipped token has no gradient, but the others may carry its ratio further. So the
largest ratio and the KL are logged, and no bound is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from radiograd.rl.policy_loss import k3

KINDS = ("critical", "normal")
"""Prefixes of what is logged apart."""


@contextmanager
def clip_ranges(trainer: Any, eps_B: Any) -> Iterator[None]:
    """TRL's loss clips row b at 1 - eps_b and 1 + eps_b for as long as this lasts; None leaves its own range."""
    if eps_B is None:
        yield
        return
    kept = trainer.epsilon_low, trainer.epsilon_high
    trainer.epsilon_low = trainer.epsilon_high = eps_B.unsqueeze(-1)  # it broadcasts against (B, T)
    try:
        yield
    finally:
        trainer.epsilon_low, trainer.epsilon_high = kept


def apart(
    logps_B_T: Any, old_B_T: Any, ref_B_T: Any, advantages: Any, mask_B_T: Any, eps_B: Any, critical_B: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """What one pass adds to the numbers of critical and of normal cases (the rows of both results).

    Sums (2, 4): tokens, tokens clipped (their ratio is beyond the range on the side where it stops the gradient),
    completions, KL to the reference (NaN without one: ``ref`` None).
    Largest (2,): the largest |ratio - 1|. ``advantages`` is (B,) or (B, T).
    """
    mask = mask_B_T.bool()
    if advantages.dim() == 1:
        advantages = advantages.unsqueeze(-1)
    ratio = torch.where(mask, (logps_B_T - old_B_T).exp(), torch.ones_like(logps_B_T))
    eps = eps_B.unsqueeze(-1)
    clipped = mask & (((ratio < 1 - eps) & (advantages < 0)) | ((ratio > 1 + eps) & (advantages > 0)))
    kl = torch.full_like(ratio, float("nan")) if ref_B_T is None else k3(logps_B_T, ref_B_T)
    kl = torch.where(mask, kl, torch.zeros_like(kl)).sum(-1)
    rows = torch.stack([mask.sum(-1), clipped.sum(-1), mask.any(-1), kl], dim=-1).to(torch.float64)
    moved = (ratio - 1).abs().amax(-1)
    sums, largest = [], []
    for kind in (critical_B, ~critical_B):
        sums.append(rows[kind].sum(0))
        largest.append(moved[kind].amax() if kind.any() else moved.new_zeros(()))
    return torch.stack(sums), torch.stack(largest)


class Apart:
    """Collects :func:`apart` over the passes of an optimiser step and over processes."""

    def __init__(self) -> None:
        self._sums: Any = None
        self._largest: Any = None

    def add(self, found: tuple[torch.Tensor, torch.Tensor]) -> None:
        """One more pass."""
        sums, largest = found
        self._sums = sums if self._sums is None else self._sums + sums
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)

    def told(self, accelerator: Any, by_kind: bool) -> dict[str, float]:
        """What the step's passes said, under the names of metrics.jsonl; the next step starts anew.

        ``kl_completion``: nats a completion, over both kinds. ``by_kind``: ``<kind>/clip_share`` of tokens,
        ``<kind>/ratio_max`` the largest |ratio - 1|, ``<kind>/kl`` nats a token and ``<kind>/kl_completion``. A kind
        without a token is left out, and so is KL without a reference. Every process must call it.
        """
        sums = accelerator.reduce(self._sums, reduction="sum")
        largest = accelerator.gather(self._largest.unsqueeze(0)).amax(0)
        self._sums = self._largest = None
        return _named(sums, largest, by_kind)


def _named(sums: torch.Tensor, largest: torch.Tensor, by_kind: bool) -> dict[str, float]:
    found = {}
    _, _, completions, kl = sums.sum(0).tolist()
    if completions and not math.isnan(kl):
        found["kl_completion"] = kl / completions
    for kind, (tokens, clipped, completions, kl), top in zip(KINDS, sums.tolist(), largest.tolist(), strict=True):
        if not by_kind or not tokens:
            continue
        found[f"{kind}/clip_share"] = clipped / tokens
        found[f"{kind}/ratio_max"] = top
        if not math.isnan(kl):
            found[f"{kind}/kl"] = kl / tokens
            found[f"{kind}/kl_completion"] = kl / completions
    return found
