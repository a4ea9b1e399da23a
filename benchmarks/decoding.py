"""Sampling one rollout: a prompt paid for once and ended rows let go, against transformers' generate on every row.

Both sides run in turn on the same model with the same number of new tokens at most. One JSON line.
Run: python benchmarks/decoding.py [--group 8] [--prompts 4] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import torch

from radiograd import models
from radiograd.config import RunConfig
from radiograd.decoding import decode

_ENDING = 3000  # tokens that count as the end, so that rows of a model not yet fine-tuned end at different times


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--prompts", type=int, default=4)
    options.add_argument("--group", type=int, default=8)
    options.add_argument("--prompt-tokens", type=int, default=90)
    options.add_argument("--new-tokens", type=int, default=48)
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    model = models.load_policy(RunConfig().model)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(100, 40000, (given.prompts, given.prompt_tokens), generator=generator).tolist()
    ends = torch.randperm(model.config.vocab_size, generator=generator)[:_ENDING].tolist()

    def ours() -> int:
        rows = decode(
            model,
            prompts,
            repeats=given.group,
            max_new_tokens=given.new_tokens,
            eos=ends,
            pad=0,
            temperature=1.0,
        )
        return sum(map(len, rows))

    def peer() -> int:
        ids = torch.tensor(prompts, device=model.device).repeat_interleave(given.group, 0)
        with torch.inference_mode(), models.precision(model):
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                max_new_tokens=given.new_tokens,
                eos_token_id=ends,
                pad_token_id=0,
            )
        return int((out[:, ids.shape[1] :] != 0).sum())

    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    tokens = {"ours": 0, "peer": 0}
    for repeat in range(given.repeats + 1):  # the first of each is a warm-up
        for name, side in (("ours", ours), ("peer", peer)):
            torch.manual_seed(repeat)
            started = time.perf_counter()
            written = side()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
                tokens[name] += written
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "what": "sample one rollout",
        "prompts": given.prompts,
        "group": given.group,
        "ours": {"seconds": round(medians["ours"], 3), "tokens": tokens["ours"] // given.repeats},
        "peer": {
            "name": "transformers generate",
            "seconds": round(medians["peer"], 3),
            "tokens": tokens["peer"] // given.repeats,
        },
        "ratio": round(medians["peer"] / medians["ours"], 2),
        "device": str(model.device),
        "dtype": str(model.dtype),
        "threads": torch.get_num_threads(),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
