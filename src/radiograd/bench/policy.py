"""The policy step against stock: update, rollout, whole step. Both sides on the same model, data and seed, in one run.

The floor is what the arithmetic that cannot be avoided would take at the matmul rate measured in the same process: with
LoRA 4 x parameters x tokens for an update (forward and the gradient of activations) and 2 x for sampling, over distinct
prompt tokens and distinct completion tokens only.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radiograd import assets, models
from radiograd.config import ModelConfig, RunConfig
from radiograd.data.openi import read
from radiograd.errors import DataError
from radiograd.prompts import Prompter, alignable
from radiograd.types import Study


@dataclass(frozen=True, slots=True)
class Shape:
    """P prompts with G completions each; ``repeats`` timed runs after one warm-up."""

    prompts: int = 4
    group: int = 8
    new_tokens: int = 48
    repeats: int = 3
    seed: int = 0


def update(shape: Shape, config: ModelConfig | None = None) -> dict[str, Any]:
    """Log-probabilities of a rollout's completions and their gradient: ours against TRL's own scoring.

    Prompts are OpenI findings; completions are impressions of as many studies. Raises AssetError without the OpenI
    reports or the model.
    """
    config = config or RunConfig().model
    model = models.load_policy(config)
    studies = _studies(shape.prompts * shape.group + shape.prompts)
    batch = _batch(model, config, studies, shape)
    return update_of(both_sides(model, models.load_policy(config), config), batch, shape)


def both_sides(model: Any, twin: Any, config: ModelConfig) -> tuple[Any, ...]:
    """Of two models alike: our policy, TRL's policy, and how TRL scores with it."""
    from radiograd.train.clocked import stock_scorer

    return _trainable(model, config), *stock_scorer(twin, config)


def update_of(sides: tuple[Any, ...], batch: tuple[Any, ...], shape: Shape) -> dict[str, Any]:
    """The same for policies (:func:`both_sides`) and a batch of prompts, their mask, completions, their mask."""
    import torch

    from radiograd.train.scoring import score_completions

    model, stock, stock_score = sides
    weights = torch.randn(batch[2].shape, generator=torch.Generator().manual_seed(shape.seed)).to(model.device)

    def run(policy: Any, score: Callable[[], Any]) -> Callable[[], None]:
        def once() -> None:
            (score() * weights).sum().backward()
            policy.zero_grad()
            _wait(policy)

        return once

    timed = {
        "ours": run(model, lambda: score_completions(model, *batch)[0]),
        "peer": run(stock, lambda: stock_score(*batch)),
    }
    measured = _measure(timed, shape.repeats)
    distinct = {tuple(p[m.bool()].tolist()) for p, m in zip(batch[0], batch[1], strict=True)}
    needed = sum(map(len, distinct)) + int(batch[3].sum())
    return _result(
        "update",
        measured,
        "TRL's scoring: every row whole",
        _floor(model, needed, 4),
        model,
        {**_shape(shape), "tokens_needed": needed, "tokens_whole_rows": int(batch[1].sum() + batch[3].sum())},
    )


def _trainable(model: Any, config: ModelConfig) -> Any:
    from peft import get_peft_model

    from radiograd.train.scoring import attach_scoring

    model = get_peft_model(model, models.lora_config(config.lora)).train()
    attach_scoring(model)
    return model


def rollout(shape: Shape, config: ModelConfig | None = None) -> dict[str, Any]:
    """Sampling one rollout: a prompt paid for once and ended rows let go, against transformers' generate on every row.

    Thousands of tokens count as the end, so that rows of a model that is not fine-tuned end at different times.
    """
    import torch

    from radiograd.decoding import decode

    config = config or RunConfig().model
    model, twin = models.load_policy(config), models.load_policy(config)
    twin.set_attn_implementation("sdpa")  # what transformers would choose
    tokenizer = models.load_tokenizer(config)
    prompter = Prompter(tokenizer, config, "findings_to_impression")
    prompts = [prompter.ids(prompter.prompt(study).content) for study in _studies(shape.prompts)]
    generator = torch.Generator().manual_seed(shape.seed)
    ends = torch.randperm(model.config.vocab_size, generator=generator)[: model.config.vocab_size // 16].tolist()
    pad = tokenizer.pad_token_id
    written: dict[str, list[int]] = {"ours": [], "peer": []}

    def ours() -> None:
        torch.manual_seed(shape.seed)
        rows = decode(
            model, prompts, repeats=shape.group, max_new_tokens=shape.new_tokens, eos=ends, pad=pad, temperature=1.0
        )
        written["ours"].append(sum(map(len, rows)))

    def peer() -> None:
        torch.manual_seed(shape.seed)
        ids, mask = _left_padded(prompts, pad, model.device, shape.group)
        with torch.inference_mode(), models.precision(twin):
            out = twin.generate(
                ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                max_new_tokens=shape.new_tokens,
                eos_token_id=ends,
                pad_token_id=pad,
            )
        written["peer"].append(int((out[:, ids.shape[1] :] != pad).sum()))

    measured = _measure({"ours": ours, "peer": peer}, shape.repeats)
    tokens = statistics.mean(written["ours"][1:] or written["ours"])
    found = _result(
        "rollout",
        measured,
        "transformers generate",
        _floor(model, sum(map(len, prompts)) + int(tokens), 2),
        model,
        _shape(shape),
    )
    for side, counts in written.items():
        found[side]["tokens"] = round(statistics.mean(counts[1:] or counts))
    return found


def step(shape: Shape, config: ModelConfig | None = None, rollouts: int = 2) -> dict[str, Any]:
    """Whole optimiser steps (sampling, reward, two updates a rollout): our trainer against TRL's own GRPOTrainer.

    The reward is ROUGE-L on both sides. The first rollout of each is a warm-up and not counted.
    """
    from radiograd.train.clocked import seconds_of_ours, seconds_of_stock

    base = RunConfig()
    values = {
        "model": (config or base.model).model_dump(),
        "align": {
            **base.grpo.model_dump(),
            "reward": {"rougeL": 1.0},
            "rollouts": rollouts + 1,
            "prompts": shape.prompts,
            "group_size": shape.group,
            "micro_batch": min(shape.group, 8),
            "max_new_tokens": shape.new_tokens,
            "temperature": 0.7,
            "beta": 0.01,
        },
        "seed": shape.seed,
    }
    run_config = RunConfig.model_validate(values)
    studies = alignable(_studies(max(64, shape.prompts * (rollouts + 1))), shape.prompts, "impression")
    measured: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, side in (("ours", seconds_of_ours), ("peer", seconds_of_stock)):
            measured[name] = side(run_config, studies, Path(folder) / name)
    ours, peer = measured["ours"], measured["peer"]
    return {
        "what": "step",
        **_shape(shape),
        "rollouts": rollouts,
        "ours": ours,
        "peer": {"name": "trl GRPOTrainer", **peer},
        "ratio": round(peer["seconds_per_rollout"] / ours["seconds_per_rollout"], 2),
        "floor_ratio": None,
        **_where(ours),
    }


# ---- what the sides share --------------------------------------------------------------------------------------------


def _studies(count: int) -> list[Study]:
    found = []
    for study in read(assets.locate("openi"), {}):
        if isinstance(study, Study) and study.sections.findings and study.sections.impression:
            found.append(study)
            if len(found) == count:
                return found
    raise DataError(f"the bench needs {count} whole OpenI reports; there are {len(found)}")


def _batch(model: Any, config: ModelConfig, studies: Sequence[Study], shape: Shape) -> tuple[Any, ...]:
    """Prompts left-padded and completions right-padded with their masks: four (P * G, ...) tensors."""
    import torch

    tokenizer = models.load_tokenizer(config)
    prompter = Prompter(tokenizer, config, "findings_to_impression")
    prompts = [prompter.ids(prompter.prompt(study).content) for study in studies[: shape.prompts]]
    texts = [study.sections.impression or "" for study in studies[shape.prompts :]]
    completions = [[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for text in texts]
    completions = [ids[: shape.new_tokens] for ids in completions[: shape.prompts * shape.group]]
    width = max(map(len, completions))
    device = model.device
    ids, mask = _left_padded(prompts, tokenizer.pad_token_id, device, shape.group)
    ends = torch.tensor([c + [tokenizer.pad_token_id] * (width - len(c)) for c in completions], device=device)
    ends_mask = torch.tensor([[1] * len(c) + [0] * (width - len(c)) for c in completions], device=device)
    return ids, mask, ends, ends_mask


def _left_padded(prompts: Sequence[Sequence[int]], pad: int, device: Any, repeats: int) -> tuple[Any, Any]:
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids.repeat_interleave(repeats, 0), mask.repeat_interleave(repeats, 0)


def _measure(sides: dict[str, Callable[[], None]], repeats: int) -> dict[str, dict[str, float]]:
    """Side -> median seconds and peak memory; the sides take turns, the first turn is a warm-up.

    Memory is that of the warm-up: a process does not give back what its first hungry side took, so the side that comes
    first is not charged with the other's.
    """
    from radiograd.train.settings import forget_peak, peak_bytes

    seconds: dict[str, list[float]] = {name: [] for name in sides}
    peaks: dict[str, int] = dict.fromkeys(sides, 0)
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            forget_peak()
            started = time.perf_counter()
            side()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
            else:
                peaks[name] = peak_bytes()
    return {
        name: {"seconds": round(statistics.median(found), 3), "peak_gib": round(peaks[name] / 2**30, 2)}
        for name, found in seconds.items()
    }


def matmul_rate(model: Any) -> float:
    """Multiply-adds x 2 a second of a matrix product of this model's width, in its own dtype, with as many rows as fit
    a batch; the best of several."""
    import torch

    width = model.config.get_text_config().hidden_size
    a = torch.randn(2048, 4 * width, device=model.device).to(model.dtype)
    b = torch.randn(4 * width, 4 * width, device=model.device).to(model.dtype)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        a @ b
        _wait(model)
        best = min(best, time.perf_counter() - started)
    return float(2 * a.shape[0] * b.shape[0] * b.shape[1] / best)


def _floor(model: Any, tokens: int, work: int) -> dict[str, float]:
    """Seconds that ``tokens`` cost at the measured rate: ``work`` x parameters x tokens."""
    parameters = sum(p.numel() for name, p in model.named_parameters() if "lora_" not in name)
    rate = matmul_rate(model)
    return {
        "seconds": work * parameters * tokens / rate,
        "gflop_per_s": round(rate / 1e9, 1),
        "parameters": parameters,
        "tokens": tokens,
    }


def _result(
    what: str, measured: dict[str, dict[str, float]], peer: str, floor: dict[str, float], model: Any, shape: Any
) -> dict[str, Any]:
    ours, theirs = measured["ours"], measured["peer"]
    return {
        "what": what,
        **shape,
        "ours": dict(ours),
        "peer": {"name": peer, **theirs},
        "ratio": round(theirs["seconds"] / ours["seconds"], 2),
        "floor": {**floor, "seconds": round(floor["seconds"], 3)},
        "floor_ratio": round(floor["seconds"] / ours["seconds"], 3),
        **_where({"device": str(model.device), "dtype": str(model.dtype)}),
    }


def _shape(shape: Shape) -> dict[str, int]:
    return {"prompts": shape.prompts, "group": shape.group}


def _where(found: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {
        "device": str(found.get("device", "cpu")),
        "dtype": str(found.get("dtype")).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def _wait(model: Any) -> None:
    import torch

    if model.device.type == "cuda":
        torch.cuda.synchronize()
