"""Rewards -> advantages."""

from __future__ import annotations

from typing import Any

import torch

_EPS = 1e-4  # as in TRL's GRPO: keeps a nearly constant group from blowing up
_FLAT = 1e-6  # a group whose rewards differ by less than this has nothing to say


def group_normalised(rewards_P_G: Any) -> torch.Tensor:
    """(r - mean) / (std + 1e-4) within each group of completions of one prompt. arXiv:2402.03300 section 4.1.2.

    ``rewards_P_G``: (P, G) tensor or array; NaN = unscored. Mean and std (of a sample: divisor n - 1) are over the
    scored completions of the group. Returns (P, G) float: 0 for unscored completions and for groups in which fewer
    than two are scored or all are equal.
    """
    rewards = torch.as_tensor(rewards_P_G)
    if not rewards.is_floating_point():
        rewards = rewards.float()
    if rewards.dim() != 2:
        raise ValueError(f"rewards must be (prompts, group), not {tuple(rewards.shape)}")
    scored = ~torch.isnan(rewards)
    count = scored.sum(-1, keepdim=True)
    values = torch.where(scored, rewards, torch.zeros_like(rewards))
    mean = values.sum(-1, keepdim=True) / count.clamp(min=1)
    centred = torch.where(scored, rewards - mean, torch.zeros_like(rewards))
    std = ((centred**2).sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    alive = (count >= 2) & (std > _FLAT)
    return torch.where(alive, centred / (std + _EPS), torch.zeros_like(rewards))


def dead_groups(rewards_P_G: Any) -> torch.Tensor:
    """(P,) bool: groups that carry no gradient, their scored rewards being equal or fewer than two."""
    return (group_normalised(rewards_P_G) == 0).all(-1)
