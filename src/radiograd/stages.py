"""The steps of a run, in order. Each is a program that reads files of the run folder and writes files into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radiograd.config import RunConfig
from radiograd.errors import AssetError, DataError, RunError
from radiograd.runs import Run, read_jsonl, write_json, write_jsonl
from radiograd.selection import share_train
from radiograd.types import SPLITS, Study

if TYPE_CHECKING:
    from radiograd.data.prepare import Prepared

Program = Callable[[Run], Mapping[str, Any]]


def data(run: Run) -> Mapping[str, Any]:
    """Reports -> data/{train,val,test}.jsonl, data/pool.jsonl (the whole train split, without the limits on train),
    data/summary.json and data/problems.jsonl."""
    from radiograd.data import fingerprint

    source = fingerprint(run.config.data)
    prepared = _prepared(run.config)
    folder = run.path / "data"
    for name in (*SPLITS, "pool"):
        write_jsonl(folder / f"{name}.jsonl", [study.to_json() for study in getattr(prepared, name)])
    write_jsonl(folder / "problems.jsonl", [{"where": p.where, "why": p.why} for p in prepared.problems])
    write_json(folder / "summary.json", {**prepared.counts, "fingerprint": source})
    return {**{name: len(getattr(prepared, name)) for name in (*SPLITS, "pool")}, "fingerprint": source}


def sft(run: Run) -> Mapping[str, Any]:
    """data/train.jsonl -> sft/adapter."""
    from radiograd.train.sft import train_sft

    run.facts("data")
    return train_sft(run, share_train(_studies(run, "train"), run.config.sft.fraction, run.config.seed)[0])


def align(run: Run) -> Mapping[str, Any]:
    """sft/adapter -> align/adapter."""
    from radiograd.train.grpo import train_grpo

    run.facts("sft")
    return train_grpo(run, share_train(_studies(run, "train"), run.config.sft.fraction, run.config.seed)[1])


def generate(run: Run, eval_set: str = "test") -> Mapping[str, Any]:
    """sft/adapter and align/adapter -> eval/<set>/predictions.jsonl."""
    from radiograd.generate import generate_run

    run.facts("align")
    return generate_run(run, eval_set)


def evaluate(run: Run, eval_set: str = "test") -> Mapping[str, Any]:
    """eval/<set>/predictions.jsonl -> baselines.jsonl, scores.jsonl, summary.json."""
    from radiograd.evaluate import evaluate_run

    run.facts(mark("generate", eval_set))
    return evaluate_run(run, eval_set)


def report(run: Run) -> Mapping[str, Any]:
    """The run folder -> report.html."""
    from radiograd.report import report_run

    return report_run(run)


PROGRAMS: Mapping[str, Program] = {
    "data": data,
    "sft": sft,
    "align": align,
    "generate": generate,
    "evaluate": evaluate,
    "report": report,
}
CHEAP = ("evaluate", "report")
"""Steps done again whenever they are asked for: no model, only files."""
BY_SET = {"generate": generate, "evaluate": evaluate}
"""Steps that are done for one held-out set at a time."""


def mark(stage: str, eval_set: str = "test") -> str:
    """Under which name ``stage`` is marked as done: ``generate`` for the test set, ``generate-val`` for val."""
    return stage if eval_set == "test" else f"{stage}-{eval_set}"


def step(name: str, eval_set: str = "test") -> dict[str, Program]:
    """The program of one stage under the name of its mark; ``eval_set`` matters to those of BY_SET only."""
    if name not in BY_SET:
        return {name: PROGRAMS[name]}
    return {mark(name, eval_set): partial(BY_SET[name], eval_set=eval_set)}


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


def check_source(run: Run) -> None:
    """RunError when the source was changed since ``run`` read it. One that is gone or cannot be read is passed over:
    the run has what it needs in data/."""
    from radiograd.data import fingerprint, source_path

    stored = run.facts("data").get("fingerprint") if run.done("data") else None
    if stored is None:
        return
    try:
        now = fingerprint(run.config.data)
    except (AssetError, DataError, OSError):
        return
    if now != stored:
        raise RunError(
            f"{source_path(run.config.data)} has changed since {run.path} was made from it. "
            "Use another name=..., or put the old file back"
        )


def dry_run(config: RunConfig) -> dict[str, Any]:
    """What a run would do: counts, tokens to be trained on and sampled, and the digest. Writes nothing."""
    from radiograd.config import digest
    from radiograd.models import load_tokenizer
    from radiograd.prompts import Prompter

    prepared = _prepared(config)
    prompter = Prompter(load_tokenizer(config.model), config.model)
    for_sft, for_align = share_train(prepared.train, config.sft.fraction, config.seed)
    prompts = {study.study_id: prompter.prompt(study) for study in prepared.train}
    prompt_tokens = {key: len(prompter.ids(prompt.content)) for key, prompt in prompts.items()}
    sft_tokens = sum(prompt_tokens[s.study_id] + len(prompter.target_ids(s.sections.impression or "")) for s in for_sft)
    group = config.align.prompts * config.align.group_size
    mean_prompt = sum(prompt_tokens[study.study_id] for study in for_align) / len(for_align)
    return {
        "name": config.name,
        "digest": digest(config),
        "studies": {split: len(getattr(prepared, split)) for split in SPLITS},
        "problems": len(prepared.problems),
        "fine_tuned_on": len(for_sft),
        "aligned_on_at_most": len(for_align),
        "prompts_cut": sum(prompt.cut for prompt in prompts.values()),
        "sft_tokens": round(sft_tokens * config.sft.epochs),
        "rollout_prompt_tokens": round(config.align.rollouts * config.align.prompts * mean_prompt),
        "rollout_new_tokens_at_most": config.align.rollouts * group * config.align.max_new_tokens,
        "optimiser_steps": {
            "sft": -(-round(len(for_sft) * config.sft.epochs) // config.sft.batch_size),
            "align": config.align.rollouts * config.align.updates_per_rollout,
        },
    }


def _prepared(config: RunConfig) -> Prepared:
    """The prepared data. DataError when a later stage could not use them, hours before that stage would say so."""
    from radiograd import baselines
    from radiograd.data.prepare import prepare
    from radiograd.prompts import alignable

    prepared = prepare(config)
    alignable(share_train(prepared.train, config.sft.fraction, config.seed)[1], config.align.prompts)
    if "other_patient" in config.evaluate.baselines:
        baselines.other_patient(prepared.pool, prepared.test, config.seed)
    return prepared


def _studies(run: Run, split: str) -> list[Study]:
    return [Study.from_json(row) for row in read_jsonl(run.path / "data" / f"{split}.jsonl")]
