"""The token weights of a rollout: advantages of completions -> advantages of tokens (DEER's DiTPO)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from radiograd.runs import Run
from radiograd.types import Study
from radiograd.weighting import TokenWeigher, Weighted, agreement, completions_of, load_classifier


def load_weigher(run: Run, references: Sequence[str]) -> TokenWeigher | None:
    """What ``align.token_weight`` asks for, fitted on the training references; None where every token weighs the same.

    Raises RunError when the run's own classifier has not been trained, and what the labeler raises.
    """
    settings = run.config.grpo.token_weight
    if settings.by == "uniform":
        return None
    folder = None
    if run.config.trains_classifier:
        run.facts("classifier")
        folder = run.path / "classifier"
    classifier = load_classifier(settings, folder) if settings.needs_classifier else None
    return TokenWeigher(settings, references, classifier=classifier, seed=run.config.seed)


class RolloutWeights:
    """One process's part of a rollout. A completion without an advantage has nothing to share out, so its tokens are
    weighed only when they are to be shown."""

    def __init__(self, weigher: TokenWeigher, tokenizer: Any, studies: Mapping[str, Study], section: str) -> None:
        self.weigher, self._tokenizer, self._studies, self._section = weigher, tokenizer, studies, section
        self.weighted: list[Weighted | None] = []
        """Of each completion of the last rollout; None = not weighed."""
        self._live: list[bool] = []
        self.seconds = 0.0
        """That the last rollout took."""

    def of_tokens(
        self, advantages_B: Any, ids_B_T: Any, mask_B_T: Any, study_ids: Sequence[str], show: bool = False
    ) -> Any:
        """A_{i,t} = w_{i,t} A_i: (B,) -> (B, T), 0 on padding; constants, no gradient flows through the weights.

        ``ids``, ``mask``: (B, T), the completions with their end tokens. ``show``: weigh every completion.
        """
        started = time.perf_counter()
        self._live = (advantages_B != 0).tolist()
        rows = [row for row, moves in enumerate(self._live) if moves or show]
        tokens = [ids_B_T[row][mask_B_T[row].bool()].tolist() for row in rows]
        names = [study_ids[row] for row in rows]
        references = [self._studies[name].sections.text(self._section) or "" for name in names]
        found = self.weigher.weigh(completions_of(self._tokenizer, names, tokens), references)
        self.weighted = [None] * len(self._live)
        shares = torch.ones(mask_B_T.shape, dtype=torch.float64)
        for row, weighted in zip(rows, found, strict=True):
            self.weighted[row] = weighted
            shares[row][mask_B_T[row].bool().cpu()] = torch.as_tensor(weighted.weights, dtype=torch.float64)
        shares = shares.to(device=advantages_B.device, dtype=advantages_B.dtype) * mask_B_T.to(advantages_B.dtype)
        self.seconds = time.perf_counter() - started
        return advantages_B.unsqueeze(-1) * shares

    def told(self) -> dict[str, float]:
        """What is logged of the last rollout: how unequal the weights of what moves the policy were, and where they
        went."""
        return agreement([w for w, moves in zip(self.weighted, self._live, strict=True) if w is not None and moves])
