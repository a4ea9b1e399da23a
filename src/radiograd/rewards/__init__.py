"""Reward terms by name and weight -> one combined reward: the only thing a trainer sees."""

from radiograd.rewards.building import Phase, build_reward, phase_weights, reward_of
from radiograd.rewards.engine import CombinedReward, Pending, ScoringError, Table, Term, score_cases
from radiograd.rewards.groups import Recipe, totals, variance_shares

__all__ = [
    "CombinedReward",
    "Pending",
    "Phase",
    "Recipe",
    "ScoringError",
    "Table",
    "Term",
    "build_reward",
    "phase_weights",
    "reward_of",
    "score_cases",
    "totals",
    "variance_shares",
]
