"""Forward and backward of one GRPO batch: shared prompts and needed positions only, against every row whole.

The peer is what stock TRL computes: each row's prompt and completion, padded, the LM head on every position. Both
sides run in turn in this process on the same model and batch; the figure is the ratio of medians. One JSON line.
Run: python benchmarks/scoring.py [--group 8] [--prompts 4] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import torch
from peft import get_peft_model

from radiograd import models
from radiograd.config import RunConfig
from radiograd.train.scoring import attach_scoring, score_completions


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--prompts", type=int, default=4)
    options.add_argument("--group", type=int, default=8)
    options.add_argument("--prompt-tokens", type=int, default=90)
    options.add_argument("--repeats", type=int, default=5)
    given = options.parse_args()
    config = RunConfig().model
    model = get_peft_model(models.load_policy(config), models.lora_config(config.lora)).train()
    attach_scoring(model)
    batch = _batch(given.prompts, given.group, given.prompt_tokens, model.device)
    sides = {"ours": lambda: score_completions(model, *batch)[0], "peer": lambda: _whole_rows(model, *batch)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(given.repeats + 1):  # the first of each is a warm-up
        for name, score in sides.items():
            started = time.perf_counter()
            score().sum().backward()
            model.zero_grad()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    ours, peer = (statistics.median(seconds[name]) for name in ("ours", "peer"))
    shape = {"prompts": given.prompts, "group": given.group, "prompt_tokens": given.prompt_tokens}
    result = {
        "what": "score and backward",
        **shape,
        "ours": {"seconds": round(ours, 3)},
        "peer": {"name": "every row whole, LM head on every position (stock TRL)", "seconds": round(peer, 3)},
        "ratio": round(peer / ours, 2),
        "device": str(model.device),
        "dtype": str(model.get_base_model().dtype),
        "threads": torch.get_num_threads(),
    }
    sys.stdout.write(json.dumps(result) + "\n")


def _batch(prompts: int, group: int, width: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Random tokens in the lengths of OpenI: prompts of width / 2 to width, completions of 4 to 20 and one of 48."""
    generator = torch.Generator().manual_seed(0)
    rows = prompts * group
    ids = torch.randint(100, 40000, (prompts, width), generator=generator).repeat_interleave(group, 0)
    starts = torch.linspace(0, width // 2, prompts).long().repeat_interleave(group)
    mask = (torch.arange(width) >= starts.unsqueeze(-1)).long()
    lengths = torch.randint(4, 21, (rows,), generator=generator)
    lengths[0] = 48
    completions = torch.randint(100, 40000, (rows, 48), generator=generator)
    completion_mask = (torch.arange(48) < lengths.unsqueeze(-1)).long()
    return tuple(t.to(device) for t in (ids, mask, completions, completion_mask))


def _whole_rows(
    model: torch.nn.Module, prompts: torch.Tensor, prompt_mask: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    whole, attention = torch.cat([prompts, ids], 1), torch.cat([prompt_mask, mask], 1)
    with models.precision(model):
        logits = model(input_ids=whole, attention_mask=attention, use_cache=False).logits[:, :-1]
    logps = torch.log_softmax(logits.float(), -1).gather(-1, whole[:, 1:].unsqueeze(-1)).squeeze(-1)
    return logps[:, prompts.shape[1] - 1 :] * mask


if __name__ == "__main__":
    main()
