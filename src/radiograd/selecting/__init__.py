"""Which of the studies that alignment may use it is to use.

``hardest`` (RadFlow's target exploration, section 4.1) predicts each with the fine-tuned model, scores what it wrote
and takes the worst; ``diverse`` (DEER's DDSampling, our reading) and ``reward_std`` look at several completions of
each; ``random`` draws as many. Writes ``selection.jsonl``, one line for every study that could be chosen,
``selection_summary.json`` and plots; what the model wrote stands in ``select/`` and is made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from radiograd.config import (
    DiverseConfig,
    DPOConfig,
    GRPOConfig,
    HardestConfig,
    RandomConfig,
    RewardStdConfig,
    RunConfig,
)
from radiograd.errors import ConfigError, DataError
from radiograd.prompts import alignable, imitable
from radiograd.runs import Run, read_jsonl, write_json, write_jsonl, write_text
from radiograd.selecting.choice import Choice
from radiograd.selecting.describing import plots, summarise
from radiograd.selecting.diverse import Pool, choose_diverse, choose_reward_std, counted_labels
from radiograd.selecting.predicting import Fold, predict
from radiograd.selecting.rollouts import LABELS, Diagnosed, diagnose, sample_rollouts
from radiograd.selecting.scoring import Scored, score_predictions
from radiograd.selection import Array, bottom_count, by_lot, combined, from_worst, normalise
from radiograd.studies import SELECTION, candidates
from radiograd.text.labels import RuleLabeler
from radiograd.types import Labels, Status, Study

NOTHING_TO_CHOOSE = "select.by is all: there is nothing to choose; set select=hardest, diverse, reward_std or random"
TOLD = ("folds", "prompts_cut", "truncated", "rollouts", "distinct_texts", "mode", "asked", "gates")
"""What the stage records of a kind of choice; the rest stands in the summary alone."""


def select_run(run: Run, folds: Sequence[Fold] = ()) -> dict[str, Any]:
    """Choose the studies to align on; what the stage records.

    ``folds``: models of a cross-fitting, each with the studies it has not seen; without one, the run's own fine-tuned
    model predicts. Raises ConfigError for a run that takes all studies, DataError when fewer are chosen than one
    rollout needs.
    """
    config = run.config.select
    studies = open_to_choice(run.config, candidates(run))
    said = RuleLabeler(LABELS)([study.sections.text(run.config.section) or "" for study in studies])
    if isinstance(config, RandomConfig):
        choices, told = choose_random(studies, config, run.config.seed), {}
    elif isinstance(config, HardestConfig):
        predicted = predict(run, studies, folds)
        scored = score_predictions(studies, predicted.texts, config.metrics, run.config.section)
        choices = choose_hardest([study.study_id for study in studies], scored, config, run.config.seed)
        told = {"folds": len(folds), **predicted.facts, "signatures": dict(scored.signatures)}
    elif isinstance(config, DiverseConfig | RewardStdConfig):
        choices, told = _choose_by_rollouts(run, studies, said, config)
    else:
        raise ConfigError(NOTHING_TO_CHOOSE)
    rows = [
        {
            "study_id": choice.study_id,
            "selected": choice.selected,
            "rank": choice.rank,
            "score": choice.score,
            "scores": None if choice.scores is None else dict(choice.scores),
            "normalised": None if choice.normalised is None else dict(choice.normalised),
            "reason": choice.reason,
            "critical": study.critical,
            "labels": [name for name, status in found.items() if status is Status.PRESENT],
        }
        for choice, study, found in zip(choices, studies, said, strict=True)
    ]
    write_jsonl(run.path / SELECTION, rows)
    summary = {"by": config.by, "section": run.config.section, **summarise(rows), **told}
    write_json(run.path / "selection_summary.json", summary)
    for name, svg in plots(rows, summary).items():
        write_text(run.path / name, svg)
    require_enough(summary["selected"], run.config, {**summary["unscored_why"], **summary.get("gates", {})})
    return {
        "by": config.by,
        "studies": len(rows),
        "selected": summary["selected"],
        "unscored": summary["unscored"],
        "cut": summary["cut"],
        "critical_share_inside": summary["critical"]["inside"]["share"],
        "critical_share_outside": summary["critical"]["outside"]["share"],
        **{key: value for key, value in told.items() if key in TOLD},
    }


def _choose_by_rollouts(
    run: Run, studies: Sequence[Study], said: Sequence[Labels], config: DiverseConfig | RewardStdConfig
) -> tuple[list[Choice], dict[str, Any]]:
    """The choice, by completions of the run's own fine-tuned model where the kind looks at them."""
    asked = run.config
    pool = Pool.of(studies, said, asked.seed)
    diagnosed, facts = _diagnosed(run, studies, config) if config.samples else (None, {})
    if isinstance(config, DiverseConfig):
        near = asked.data.split.near_duplicate
        choices, told = choose_diverse(pool, diagnosed, config, asked.section, near, asked.split_seed)
    else:
        choices, told = choose_reward_std(pool, diagnosed, config)
    return choices, {**told, **facts}


def _diagnosed(
    run: Run, studies: Sequence[Study], config: DiverseConfig | RewardStdConfig
) -> tuple[Diagnosed, dict[str, Any]]:
    path, facts = sample_rollouts(run, studies, config)
    found = diagnose(studies, read_jsonl(path), config.rollouts, counted_labels(), run.config.section)
    return found, {**facts, **found.facts, "signatures": {"diagnostic_f1": found.signature}}


def open_to_choice(config: RunConfig, studies: Sequence[Study]) -> list[Study]:
    """Those of ``studies`` that may be chosen, with the references that alignment holds a policy against.

    As in alignment itself: no reference with a redaction mark; whole reports that are rewarded lose the marks alone.
    """
    if isinstance(config.align, DPOConfig):
        return imitable(studies, config.section)
    return alignable(studies, needed(config), config.section)


def needed(config: RunConfig) -> int:
    """The fewest studies an alignment can work on: one rollout's prompts of GRPO, else one."""
    return config.align.prompts if isinstance(config.align, GRPOConfig) else 1


def require_enough(selected: int, config: RunConfig, unscored: Mapping[str, int] | None = None) -> None:
    """DataError when fewer studies are chosen than one rollout needs. ``unscored``: reason -> studies it left out."""
    if selected >= needed(config):
        return
    select = config.select
    key = "threshold" if isinstance(select, HardestConfig) and select.threshold is not None else "share"
    of_rollout, way = ("align.prompts=", ", or lower align.prompts") if config.align.type == "grpo" else ("", "")
    left_out = f" ({sum(unscored.values())} were left out; {next(iter(unscored))})" if unscored else ""
    raise DataError(
        f"select chose {selected} studies{left_out}, alignment needs {of_rollout}{needed(config)} or more. "
        f"Raise select.{key}={getattr(select, key, None)}{way}"
    )


def choose_random(studies: Sequence[Study], config: RandomConfig, seed: int) -> list[Choice]:
    """The share with the first lots; the draw depends on the seed and the ids, not on the order of rows."""
    drawn = {name: rank for rank, name in enumerate(by_lot([s.study_id for s in studies], seed, "random"), 1)}
    count = bottom_count(config.share, len(studies))
    return [
        Choice(s.study_id, drawn[s.study_id] <= count, drawn[s.study_id], "drawn" if drawn[s.study_id] <= count else "")
        for s in studies
    ]


def choose_hardest(study_ids: Sequence[str], scored: Scored, config: HardestConfig, seed: int) -> list[Choice]:
    """The bottom share of S, or all below the threshold; a study that a metric could not score is not chosen.

    Each metric is normalised over the studies that all metrics of weight above 0 could score. The share is of all
    studies, the unscored among them.
    """
    places = [place for place in range(len(study_ids)) if scored.why[place] is None]
    columns = {name: _normalised(scored, name, places, config) for name in config.metrics}
    total = combined(columns, config.metrics)
    order = from_worst([study_ids[place] for place in places], total, seed)
    rank_of = {places[k]: rank for rank, k in enumerate(order, 1)}
    position = {place: k for k, place in enumerate(places)}
    count = bottom_count(config.share, len(study_ids))
    choices = []
    for place, study_id in enumerate(study_ids):
        raw = {name: scored.value(name, place) for name in config.metrics}
        if place not in position:
            choices.append(Choice(study_id, False, None, f"unscored: {scored.why[place]}", None, raw, None))
            continue
        k, rank = position[place], rank_of[place]
        score = float(total[k])
        if config.threshold is not None:
            selected, reason = score < config.threshold, f"S below {config.threshold:g}"
        else:
            selected, reason = rank <= count, f"among the {config.share:.4g} with the lowest S"
        values = {name: None if np.isnan(column[k]) else float(column[k]) for name, column in columns.items()}
        choices.append(Choice(study_id, selected, rank, reason if selected else "", score, raw, values))
    return choices


def _normalised(scored: Scored, name: str, places: Sequence[int], config: HardestConfig) -> Array:
    """One metric over the studies at ``places``, higher is better; NaN where it is only looked at and unscored."""
    values = scored.columns[name][list(places)] * scored.directions[name]
    known = ~np.isnan(values)
    values[known] = normalise(values[known], config.normalise)
    return values
