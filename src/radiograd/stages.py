"""The steps of a run, in order. Each is a program that reads files of the run folder and writes files into it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radiograd.config import (
    DPOConfig,
    FineTuning,
    GRPOConfig,
    HardestConfig,
    MoreSFTConfig,
    NoAlignConfig,
    RunConfig,
)
from radiograd.errors import AssetError, ConfigError, DataError, ModelError, RunError
from radiograd.preferences import fingerprint as fingerprint_pairs
from radiograd.preferences import parse_pairs
from radiograd.runs import Run, read_json, stages_of, write_json, write_jsonl
from radiograd.selection import by_lot
from radiograd.studies import aligned_on, fine_tuned_on, left_to_alignment, read_split
from radiograd.types import SPLITS, Study

if TYPE_CHECKING:
    from radiograd.data.prepare import Prepared

log = logging.getLogger(__name__)

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
    return train_sft(run, fine_tuned_on(run.config, read_split(run, "train")))


def annotate(run: Run) -> Mapping[str, Any]:
    """data/train.jsonl -> criticality.jsonl: which of the studies that alignment may use are critical."""
    from radiograd.annotate import annotate_run

    return annotate_run(run)


def select(run: Run) -> Mapping[str, Any]:
    """sft/adapter (and criticality.jsonl) -> selection.jsonl: which of those studies alignment uses."""
    from radiograd.exploration import asks_policy, train_folds
    from radiograd.selecting import NOTHING_TO_CHOOSE, select_run

    if run.config.select.by == "all":
        raise ConfigError(NOTHING_TO_CHOOSE)
    run.facts("sft" if asks_policy(run.config.select) else "data")
    return select_run(run, train_folds(run))


def classifier(run: Run) -> Mapping[str, Any]:
    """data/train.jsonl -> classifier/: an embedded labeler of the run's own reports, whose gradient weighs tokens."""
    from radiograd import encoders
    from radiograd.labelers import embedded

    if not run.config.trains_classifier:
        raise ConfigError(
            "this run trains no classifier: set align.token_weight=combined (or gradient), with the embedded labeler"
        )
    run.facts("data")
    folder = run.path / "classifier"
    shutil.rmtree(folder, ignore_errors=True)
    facts = embedded.train(
        embedded.whole_reports(_classifier_studies(run.config, read_split(run, "train"))),
        folder,
        encoder=Path(encoders.locate(run.config.grpo.token_weight.encoder)),
        settings=embedded.Settings(epochs=run.config.grpo.token_weight.epochs),
    )
    return {**facts["texts"], "accuracy": facts["held_out"]["accuracy"], "macro_f1": facts["held_out"]["macro_f1"]}


def _classifier_studies(config: RunConfig, train: Sequence[Study]) -> list[Study]:
    """The studies whose reports the classifier learns from: at most ``token_weight.reports``, in the order given."""
    drawn = by_lot([study.study_id for study in train], config.split_seed, "classifier")
    chosen = set(drawn[: config.grpo.token_weight.reports])
    return [study for study in train if study.study_id in chosen]


def pairs(run: Run) -> Mapping[str, Any]:
    """sft/adapter (and files of experts) -> pairs.jsonl. A pairs.jsonl that is the user's own is kept as it is."""
    _ = run.config.dpo  # ConfigError for a run that is aligned otherwise
    run.facts("sft")
    return _pairs_of_round(run, 0)


def align(run: Run) -> Mapping[str, Any]:
    """sft/adapter (and pairs.jsonl) -> align/adapter."""
    kind = run.config.align.type
    if kind == "none":
        raise ConfigError("align.type is none: this run ends with the SFT policy and has nothing to align")
    run.facts("sft")
    if kind == "dpo":
        return _preference_rounds(run)
    left = aligned_on(run)
    if kind == "sft":
        from radiograd.train.sft import train_more

        return train_more(run, left)
    from radiograd.train.grpo import train_grpo

    return train_grpo(run, left, known=read_split(run, "train"))


def generate(run: Run, eval_set: str = "test") -> Mapping[str, Any]:
    """sft/adapter and align/adapter (if the run has one) -> eval/<set>/predictions.jsonl."""
    from radiograd.generate import generate_run

    run.facts("align" if "align" in stages_of(run.config) else "sft")
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
    "annotate": annotate,
    "select": select,
    "classifier": classifier,
    "pairs": pairs,
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


def programs(config: RunConfig) -> dict[str, Program]:
    """The programs that a run of ``config`` goes through, in order."""
    return {stage: PROGRAMS[stage] for stage in stages_of(config)}


def step(name: str, eval_set: str = "test") -> dict[str, Program]:
    """The program of one stage under the name of its mark; ``eval_set`` matters to those of BY_SET only."""
    if name not in BY_SET:
        return {name: PROGRAMS[name]}
    return {mark(name, eval_set): partial(BY_SET[name], eval_set=eval_set)}


def check_names(config: RunConfig) -> None:
    """Resolve every name and extra of ``config`` before anything is fetched, read or loaded.

    Raises ConfigError, DataError or MissingExtra.
    """
    from radiograd import baselines
    from radiograd.data.builtin import READERS
    from radiograd.metrics import load_metric
    from radiograd.models import require_train_extra
    from radiograd.monitor import gold_panel
    from radiograd.naming import resolve
    from radiograd.rewards import reward_of

    for name in (config.data.source, *(source.source for source in config.data.more)):
        resolve("reader", name, READERS)
    for name in config.evaluate.metrics:
        load_metric(name)
    for name in config.evaluate.baselines:
        baselines.check(name)
    if config.reward is not None:
        for phase in ("first", "last"):
            reward_of(config, phase)
        gold_panel(config)
    if isinstance(config.align, DPOConfig):
        _check_pairs_of(config)
    if isinstance(config.select, HardestConfig):
        for name in config.select.metrics:
            load_metric(name)
    if config.asks_criticality:
        _check_criticality_of(config)
    if isinstance(config.align, GRPOConfig) and config.align.token_weight.needs_classifier:
        _check_labeler_of(config)
    require_train_extra()


def _check_pairs_of(config: RunConfig) -> None:
    """The judge's name and options, and the files of expert pairs. A judge that loads a model is not loaded yet."""
    from radiograd.judges.builtin import prepare_judge
    from radiograd.pairs.imports import check_import

    asked = config.dpo
    if asked.rejected_source == "judge_loser" and asked.prompts != 0:
        prepare_judge(asked.judge, asked.judge_options, credentialed=not config.data.public)
    for file in asked.imports:
        check_import(file)


def _check_criticality_of(config: RunConfig) -> None:
    """The judge's name and options, where a judge is what counts. One that loads a model is not loaded yet."""
    from radiograd.judges.builtin import prepare_judge

    asked = config.criticality
    if asked.source == "judge":
        prepare_judge(asked.judge, asked.judge_options, credentialed=not config.data.public)


def _check_labeler_of(config: RunConfig) -> None:
    """The options of the labeler whose gradient weighs tokens, and whether the files that they name are there."""
    from radiograd.labelers import check_labeler

    asked = config.grpo.token_weight
    own = {"folder": ""} if config.trains_classifier else {}
    check_labeler(asked.labeler, {**own, **asked.labeler_options})
    for key in ("folder", "weights", "vocabulary"):
        path = asked.labeler_options.get(key)
        if path is not None and not Path(str(path)).expanduser().exists():
            raise ConfigError(f"align.token_weight.labeler_options.{key}: {path} does not exist")


_ENCODED = ("bertscore", "embedscore")
"""Metrics that read with the embedded text encoder."""


def needed_assets(config: RunConfig) -> list[str]:
    """The pinned files that a run of ``config`` reads, as ``assets.CATALOG`` names them."""
    from radiograd import encoders
    from radiograd.models import EMBEDDED

    needed = ["openi"] if config.data.source == "openi" and config.data.path is None else []
    needed += [EMBEDDED[config.model.name]] if config.model.name in EMBEDDED else []
    return [*needed, *([encoders.EMBEDDED[encoders.DEFAULT]] if _needs_encoder(config) else [])]


def _needs_encoder(config: RunConfig) -> bool:
    from radiograd import encoders

    scored = set(config.evaluate.metrics)
    if isinstance(config.select, HardestConfig):
        scored.update(config.select.metrics)
    if isinstance(config.align, GRPOConfig):
        scored.update(config.align.terms, config.align.guard.gold or ())
    own = config.trains_classifier and config.grpo.token_weight.encoder == encoders.DEFAULT
    return own or any(name.rpartition("/")[2] in _ENCODED for name in scored)


def check_model(config: RunConfig) -> None:
    """Whether the model, and the text encoder of the metrics that have one, are there: a folder is looked for, of a hub
    id the tokenizer is fetched. Loads no weights.

    Raises AssetError or ModelError.
    """
    from radiograd import encoders
    from radiograd.models import load_tokenizer, locate_model

    if not Path(locate_model(config.model)).is_dir():
        load_tokenizer(config.model)
    if _needs_encoder(config):
        encoders.locate(encoders.DEFAULT)
    if config.trains_classifier and not Path(encoders.locate(config.grpo.token_weight.encoder)).is_dir():
        raise ModelError(
            f"align.token_weight.encoder: {config.grpo.token_weight.encoder} is no folder; "
            "give minilm or the folder of another BERT"
        )


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
        of_reports = [{key: value for key, value in one.items() if key != "images"} for one in (now, stored)]
        what = run.config.data.images if of_reports[0] == of_reports[1] else source_path(run.config.data)
        raise RunError(
            f"{what} has changed since {run.path} was made from it. Use another name=..., or put the old file back"
        )


def dry_run(config: RunConfig) -> dict[str, Any]:
    """What a run would do: counts, tokens to be trained on and sampled, and the digest. Writes nothing."""
    from radiograd.config import digest
    from radiograd.exploration import chosen_at_most, plan_exploration
    from radiograd.models import load_tokenizer
    from radiograd.prompts import Prompter

    prepared = _prepared(config)
    prompter = Prompter(load_tokenizer(config.model), config.model, config.task)
    for_sft, left = fine_tuned_on(config, prepared.train), left_to_alignment(config, prepared.train)
    for_align = chosen_at_most(config, left)
    prompts = {study.study_id: prompter.prompt(study) for study in prepared.train}
    prompt_tokens = {key: len(prompter.ids(prompt.content)) for key, prompt in prompts.items()}

    target_tokens = {study.study_id: len(prompter.target_ids(prompter.target(study))) for study in prepared.train}

    def trained(studies: Sequence[Study]) -> int:
        return sum(prompt_tokens[s.study_id] + target_tokens[s.study_id] for s in studies)

    mean_prompt = sum(prompt_tokens[study.study_id] for study in left) / len(left)
    if isinstance(config.align, NoAlignConfig):
        steps, sampling = 0, {}
    elif isinstance(config.align, MoreSFTConfig):
        steps = _sft_steps(config.align, len(for_align))
        sampling = {"align_tokens": round(trained(left) / len(left) * len(for_align) * config.align.epochs)}
    elif isinstance(config.align, DPOConfig):
        steps, sampling = _plan_dpo(config, len(for_align), mean_prompt, _imported(config, prepared))
    else:
        steps, sampling = _plan_grpo(config, len(for_align), mean_prompt)
    return {
        "name": config.name,
        "digest": digest(config),
        "studies": {split: len(getattr(prepared, split)) for split in SPLITS},
        "problems": len(prepared.problems),
        "fine_tuned_on": len(for_sft),
        "aligned_on_at_most": 0 if isinstance(config.align, NoAlignConfig) else len(for_align),
        "prompts_cut": sum(prompt.cut for prompt in prompts.values()),
        "references_longer_than_generated": sum(n > config.generate.max_new_tokens for n in target_tokens.values()),
        "sft_tokens": round(trained(for_sft) * config.sft.epochs),
        **sampling,
        **plan_exploration(config, left, mean_prompt, trained(for_sft)),
        **(
            {"classifier_reports": len(_classifier_studies(config, prepared.train))} if config.trains_classifier else {}
        ),
        "optimiser_steps": {
            "sft": _sft_steps(config.sft, len(for_sft)),
            "align": steps,
        },
    }


def _sft_steps(how: FineTuning, studies: int) -> int:
    return -(-round(studies * how.epochs) // how.batch_size)


def _plan_grpo(config: RunConfig, studies: int, mean_prompt: float) -> tuple[int, dict[str, int]]:
    """Optimiser steps of the alignment, and what is sampled for it."""
    align = config.grpo
    return align.rollouts * align.updates_per_rollout, {
        "rollout_prompt_tokens": round(align.rollouts * align.prompts * mean_prompt),
        "rollout_new_tokens_at_most": align.rollouts * align.prompts * align.group_size * align.max_new_tokens,
    }


def _plan_dpo(
    config: RunConfig, studies: int, mean_prompt: float, imported: tuple[int, int]
) -> tuple[int, dict[str, int]]:
    """The same where pairs are made: as if every study gave all the pairs that it can, and none twice."""
    align = config.dpo
    used = studies if align.prompts is None else min(studies, align.prompts)
    pairs = used * (align.candidates if align.rejected_source == "both" else 1) + imported[0]
    return align.rounds * -(-round(pairs * align.epochs) // align.batch_size), {
        "pairs_at_most": align.rounds * pairs,
        "pairs_imported_each_round": imported[0],
        "import_problems": imported[1],
        "candidate_prompt_tokens": round(align.rounds * used * mean_prompt),
        "candidate_new_tokens_at_most": align.rounds * used * align.candidates * align.max_new_tokens,
    }


def _imported(config: RunConfig, prepared: Prepared) -> tuple[int, int]:
    """Pairs in the files of experts, and rows of theirs that are passed over."""
    from radiograd.pairs.imports import read_imports

    found = read_imports(
        config.dpo.imports,
        train=prepared.train,
        pool=prepared.pool,
        held_out=[*prepared.val, *prepared.test],
        number=0,
        near_duplicate=config.data.split.near_duplicate,
        seed=config.seed,
    )
    return len(found.pairs), len(found.problems)


def _prepared(config: RunConfig) -> Prepared:
    """The prepared data. DataError when a later stage could not use them, hours before that stage would say so."""
    from radiograd import baselines
    from radiograd.data.prepare import prepare
    from radiograd.exploration import chosen_at_most
    from radiograd.prompts import alignable, imitable

    prepared = prepare(config)
    left = left_to_alignment(config, prepared.train)
    if isinstance(config.align, GRPOConfig):  # more fine-tuning learns around redaction marks
        alignable(left, config.align.prompts, config.section)
    elif isinstance(config.align, DPOConfig):
        imitable(left, config.section)
    chosen_at_most(config, left)
    if "other_patient" in config.evaluate.baselines:
        baselines.build("other_patient", prepared.pool, prepared.test, config.seed, config.task)
    return prepared


def _preference_rounds(run: Run) -> Mapping[str, Any]:
    """Train on the pairs of each round in turn; a later round first gets pairs from the newest policy."""
    from radiograd.train.dpo import keep_as_aligned, train_dpo

    rounds = run.config.dpo.rounds
    train = read_split(run, "train")
    held_out = {study.study_id for split in ("val", "test") for study in read_split(run, split)}
    _check_pairs(run, "pairs", 0)
    if rounds == 1:
        return train_dpo(run, train, held_out)
    found: list[dict[str, Any]] = []
    for number in range(rounds):
        made, trained = f"pairs_round_{number}", f"align_round_{number}"
        if number and not run.done(made):
            run.mark_done(made, **_pairs_of_round(run, number))
        if number:
            _check_pairs(run, made, number)
        if not run.done(trained):
            run.mark_done(trained, **train_dpo(run, train, held_out, number))
        found.append(run.facts(trained))
    keep_as_aligned(run, rounds - 1)
    return _sum_of_rounds(found)


def _sum_of_rounds(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of the whole stage, and those of each round by its number."""
    rounds = {f"round {number}": {k: v for k, v in facts.items() if k != "stage"} for number, facts in enumerate(found)}
    return {
        **{name: sum(facts[name] for facts in found) for name in ("pairs", "steps", "tokens")},
        "drift_alarm": any(facts["drift_alarm"] for facts in found),
        **{name: found[-1][name] for name in ("device", "dtype")},
        "peak_gib": max(facts["peak_gib"] for facts in found),
        "rounds": rounds,
    }


def _pairs_of_round(run: Run, number: int) -> dict[str, Any]:
    """Have the pairs of one round made, unless pairs.jsonl holds some of the user's; what is to be recorded of them."""
    from radiograd.pairs import folder_of, make_pairs

    there, made = _fingerprint_of_round(run, number), folder_of(run, number) / "made.json"
    ours = read_json(made) if made.exists() else None
    if there is not None and (ours is None or ours["fingerprint"] != there[1]):
        if run.config.dpo.imports:
            log.warning("%s holds pairs already, so align.imports is not looked at", run.path / "pairs.jsonl")
        return {"pairs": there[0], "given": True, "fingerprint": there[1]}
    facts = ours["facts"] if ours is not None and there is not None else make_pairs(run, number)
    there = _fingerprint_of_round(run, number)
    if there is None:
        reasons = "; ".join(f"{n} x {why}" for why, n in facts["without_pair"].items())
        raise RunError(f"no pair was made in round {number}, so there is nothing to align on ({reasons})")
    return {**facts, "pairs": there[0], "given": False, "fingerprint": there[1]}


def _fingerprint_of_round(run: Run, number: int) -> tuple[int, str] | None:
    """How many pairs of round ``number`` pairs.jsonl holds, and their fingerprint; None when it holds none."""
    path = run.path / "pairs.jsonl"
    if not path.exists():
        return None
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        parsed = parse_pairs(file)
    if not parsed.pairs and parsed.problems:
        problem = parsed.problems[0]
        raise RunError(f"{path} holds no pair; line {problem.line}: {problem.why}")
    found = [pair for pair in parsed.pairs if pair.round == number]
    return (len(found), fingerprint_pairs(found)) if found else None


def _check_pairs(run: Run, stage: str, number: int) -> None:
    """RunError when the pairs of a round are not those that ``stage`` recorded."""
    found = _fingerprint_of_round(run, number)
    if found is None or found[1] != run.facts(stage)["fingerprint"]:
        raise RunError(
            f"{run.path / 'pairs.jsonl'} has changed since {run.path} was aligned on it or meant to be. "
            "Use another name=..., or put the old file back"
        )
