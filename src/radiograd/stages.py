"""The steps of a run, in order. Each is a program that reads files of the run folder and writes files into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from radiograd.config import RunConfig
from radiograd.runs import Run, read_jsonl, write_json, write_jsonl
from radiograd.types import Study

SPLITS = ("train", "val", "test")


def data(run: Run) -> Mapping[str, Any]:
    """Reports -> data/{train,val,test}.jsonl, data/summary.json and data/problems.jsonl."""
    from radiograd.data.prepare import prepare

    prepared = prepare(run.config)
    folder = run.path / "data"
    for split in SPLITS:
        write_jsonl(folder / f"{split}.jsonl", [study.to_json() for study in getattr(prepared, split)])
    write_jsonl(folder / "problems.jsonl", [{"where": p.where, "why": p.why} for p in prepared.problems])
    write_json(folder / "summary.json", prepared.counts)
    return {split: len(getattr(prepared, split)) for split in SPLITS}


def sft(run: Run) -> Mapping[str, Any]:
    """data/train.jsonl -> sft/adapter."""
    from radiograd.train.sft import train_sft

    run.facts("data")
    return train_sft(run, _studies(run, "train"))


def align(run: Run) -> Mapping[str, Any]:
    """sft/adapter -> align/adapter."""
    from radiograd.train.grpo import train_grpo

    run.facts("sft")
    return train_grpo(run, _studies(run, "train"))


def generate(run: Run) -> Mapping[str, Any]:
    """sft/adapter and align/adapter -> eval/test/predictions.jsonl."""
    from radiograd.generate import generate_run

    run.facts("align")
    return generate_run(run)


def evaluate(run: Run) -> Mapping[str, Any]:
    """eval/test/predictions.jsonl -> baselines.jsonl, scores.jsonl, summary.json."""
    from radiograd.evaluate import evaluate_run

    run.facts("generate")
    return evaluate_run(run)


def report(run: Run) -> Mapping[str, Any]:
    """The run folder -> report.html."""
    from radiograd.report import report_run

    return report_run(run)


PROGRAMS: Mapping[str, Callable[[Run], Mapping[str, Any]]] = {
    "data": data,
    "sft": sft,
    "align": align,
    "generate": generate,
    "evaluate": evaluate,
    "report": report,
}
CHEAP = ("evaluate", "report")
"""Steps done again whenever they are asked for: no model, only files."""


def check_names(config: RunConfig) -> None:
    """Resolve every name and extra of ``config`` before anything is fetched, read or loaded.

    Raises ConfigError or MissingExtra.
    """
    from radiograd import baselines
    from radiograd.data.builtin import READERS
    from radiograd.metrics import load_metric
    from radiograd.models import require_train_extra
    from radiograd.naming import resolve
    from radiograd.rewards import build_reward

    resolve("reader", config.data.source, READERS)
    for name in config.evaluate.metrics:
        load_metric(name)
    for name in config.evaluate.baselines:
        baselines.check(name)
    build_reward(config.align.reward)
    require_train_extra()


def check_model(config: RunConfig) -> None:
    """Whether the model is there: a folder is looked for, of a hub id the tokenizer is fetched. Loads no weights.

    Raises AssetError or ModelError.
    """
    from radiograd.models import load_tokenizer, locate_model

    if not Path(locate_model(config.model)).is_dir():
        load_tokenizer(config.model)


def dry_run(config: RunConfig) -> dict[str, Any]:
    """What a run would do: counts, tokens to be trained on and sampled, and the digest. Writes nothing."""
    from radiograd.config import digest
    from radiograd.data.prepare import prepare
    from radiograd.models import load_tokenizer
    from radiograd.prompts import Prompter

    prepared = prepare(config)
    prompter = Prompter(load_tokenizer(config.model), config.model)
    prompts = [prompter.prompt(study) for study in prepared.train]
    prompt_tokens = [len(prompter.ids(p.content)) for p in prompts]
    target_tokens = [len(prompter.target_ids(s.sections.impression or "")) for s in prepared.train]
    group = config.align.prompts * config.align.group_size
    mean_prompt = sum(prompt_tokens) / len(prompt_tokens)
    return {
        "name": config.name,
        "digest": digest(config),
        "studies": {split: len(getattr(prepared, split)) for split in SPLITS},
        "problems": len(prepared.problems),
        "prompts_cut": sum(p.cut for p in prompts),
        "sft_tokens": round((sum(prompt_tokens) + sum(target_tokens)) * config.sft.epochs),
        "rollout_prompt_tokens": round(config.align.rollouts * config.align.prompts * mean_prompt),
        "rollout_new_tokens_at_most": config.align.rollouts * group * config.align.max_new_tokens,
        "optimiser_steps": {
            "sft": -(-round(len(prepared.train) * config.sft.epochs) // config.sft.batch_size),
            "align": config.align.rollouts * config.align.updates_per_rollout,
        },
    }


def _studies(run: Run, split: str) -> list[Study]:
    return [Study.from_json(row) for row in read_jsonl(run.path / "data" / f"{split}.jsonl")]
