"""The rewards of a rollout: asked for as soon as there are texts, put together over the groups of all processes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from radiograd.rewards import CombinedReward, Pending, Table
from radiograd.rewards.groups import totals, variance_shares
from radiograd.types import Case, Score, Study


class RolloutReward:
    """One process's part of it. ``begin`` may be left out: ``collect`` then does both."""

    def __init__(self, reward: CombinedReward, studies: Mapping[str, Study], section: str) -> None:
        self.reward, self._studies, self._section = reward, studies, section
        self.cases: list[Case] = []
        self.seconds = 0.0
        """That the caller stood still for this rollout."""
        self.shares: dict[str, float] = {}
        """Each term's share of the variance inside the groups of the rollout, all processes."""
        self._pending: Pending | None = None
        self._table: Table | None = None
        self._totals: list[float] = []

    def begin(self, study_ids: Sequence[str], texts: Sequence[str]) -> None:
        """Have judges start on these completions; returns at once."""
        started = time.perf_counter()
        self._pending = self.reward.begin(self._cases(study_ids, texts))
        self.seconds = time.perf_counter() - started

    def collect(self, study_ids: Sequence[str], texts: Sequence[str]) -> None:
        """Wait for the values of every term for these completions."""
        started = time.perf_counter()
        self.cases = self._cases(study_ids, texts)
        pending, self._pending = self._pending, None
        if pending is None or [_named(case) for case in pending.cases] != [_named(case) for case in self.cases]:
            self.seconds = 0.0
            pending = self.reward.begin(self.cases)
        self._table = self.reward.collect(pending)
        self.seconds += time.perf_counter() - started

    def totals(self, accelerator: Any, group_size: int) -> torch.Tensor:
        """(P, G) float32 rewards of all processes; NaN = unscored. A skipped term is imputed by its group's mean."""
        if self._table is None:
            raise RuntimeError("totals() comes after collect()")
        table, terms = self._table, len(self.reward.terms)
        local = np.concatenate([table.values_B_K, table.skipped_B_K, table.length_B[:, None]], axis=1)
        all_rows = accelerator.gather(torch.as_tensor(local, device=accelerator.device)).cpu().numpy()
        by_group = all_rows.reshape(-1, group_size, 2 * terms + 1)
        parts = by_group[..., :terms], by_group[..., terms : 2 * terms].astype(bool), by_group[..., -1]
        found = totals(*parts, self.reward.recipe)
        shares = variance_shares(*parts, self.reward.recipe)
        self.shares = dict(zip((term.name for term in self.reward.terms), shares.tolist(), strict=True))
        first = accelerator.process_index * len(local)
        self._totals = found.reshape(-1)[first : first + len(local)].tolist()
        return torch.as_tensor(found, dtype=torch.float32, device=accelerator.device)

    def scores(self) -> list[Score]:
        """Of each completion of this process: its total within its group, its terms, why there is no total."""
        if self._table is None:
            raise RuntimeError("scores() comes after totals()")
        return [
            Score(None, score.parts, score.why or "unscored") if math.isnan(total) else Score(total, score.parts)
            for score, total in zip(self._table.scores, self._totals, strict=True)
        ]

    def skipped(self) -> float:
        """Share of this process's completions that a term skipped."""
        if self._table is None:
            raise RuntimeError("skipped() comes after collect()")
        return float(self._table.skipped_B_K.any(-1).mean())

    def _cases(self, study_ids: Sequence[str], texts: Sequence[str]) -> list[Case]:
        return [Case(self._studies[i], t.strip(), self._section) for i, t in zip(study_ids, texts, strict=True)]


def _named(case: Case) -> tuple[str, str]:
    return case.study.study_id, case.candidate
