"""Policy optimisation on completions that are known beforehand, in as many processes as the environment says.

Run by test_processes: python -m tests.train.replay FOLDER MODEL MICRO_BATCH BETA REWARD CLIP [GUARD as JSON].
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from radiograd.train import grpo

WORDS = 400  # tokens that completions are made of: 5 to 404


class Replay(grpo.PolicyTrainer):
    """Completions follow from prompt, place in the group and step: the same however many processes share the work."""

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> Any:
        completions = []
        for row, ids in enumerate(prompt_ids):
            place = row % num_generations
            key = f"{self.state.global_step} {place // 2} {list(ids)}"  # two of a group say the same
            seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
            length = 3 + seed % 6
            tokens = torch.randint(5, 5 + WORDS, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
            completions.append([*tokens, self.eos_token_ids[0]])
        return completions, None


def main(folder: str, model: str, micro_batch: str, beta: str, reward: str, clip: str, guard: str = "{}") -> None:
    """Train; the run's folder says the rest."""
    from tests.train.test_grpo import STUDIES, _run

    torch.set_num_threads(1)
    torch.manual_seed(0)
    weight = "tfidf" if clip == "critical" else "uniform"
    shape = {"prompts": 4, "micro_batch": int(micro_batch), "beta": float(beta), "lr": 1e-3, "clip": clip}
    run = _run(
        Path(folder),
        Path(model),
        **shape,
        token_weight=weight,
        reward={f"tests.train.test_grpo:{reward}": 1.0},
        guard=json.loads(guard),
    )
    grpo.PolicyTrainer = Replay  # type: ignore[misc]
    grpo.train_grpo(run, [replace(study, critical=number % 2 == 0) for number, study in enumerate(STUDIES)])


if __name__ == "__main__":
    main(*sys.argv[1:])
