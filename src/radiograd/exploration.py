"""The choice of studies around its program: models of a cross-fitting, and what choosing will take."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from radiograd.config import HardestConfig, NoAlignConfig, RunConfig
from radiograd.config.selection import SampledConfig, SelectConfig
from radiograd.data.splits import study_groups
from radiograd.errors import DataError
from radiograd.runs import Run, stages_of
from radiograd.selecting import open_to_choice, require_enough
from radiograd.selecting.predicting import Fold
from radiograd.selection import bottom_count, parts
from radiograd.studies import fine_tuned_on, read_split
from radiograd.types import Study

log = logging.getLogger(__name__)


def train_folds(run: Run) -> list[Fold]:
    """The models of a cross-fitting, fine-tuned where they are not yet; none where the run's own model predicts."""
    count = folds_of(run.config)
    if not count:
        return []
    from radiograd.train.sft import fold_folder, fold_name, train_fold

    train = fine_tuned_on(run.config, read_split(run, "train"))
    numbers = study_groups(train, run.config.data.split.near_duplicate, run.config.split_seed)
    name_of: dict[int, str] = {}
    for study, number in zip(train, numbers, strict=True):
        name_of[number] = min(study.study_id, name_of.get(number, study.study_id))
    part_of = parts([name_of[number] for number in numbers], count, run.config.seed)
    if len(set(part_of)) < count:
        raise DataError(
            f"select.folds={count}, but the training studies make {len(set(numbers))} groups of patients and "
            "near-duplicates; lower select.folds or give more data"
        )
    folds = []
    for part in range(count):
        number = part + 1
        if not run.done(fold_name(number)):
            log.info("select: fine-tuning without part %d of %d ...", number, count)
            seen = [study for study, of in zip(train, part_of, strict=True) if of != part]
            run.mark_done(fold_name(number), **train_fold(run, seen, number))
        unseen = frozenset(study.study_id for study, of in zip(train, part_of, strict=True) if of == part)
        folds.append(Fold(f"fold_{number}", fold_folder(run, number) / "adapter", unseen))
    return folds


def folds_of(config: RunConfig) -> int:
    """Models that a cross-fitting of ``config`` fine-tunes; 0 where the run's own model predicts.

    With ``sft.fraction`` below 1 it has not seen what it predicts, so folds would cost and change nothing.
    """
    if not isinstance(config.select, HardestConfig) or not config.select.folds or "select" not in stages_of(config):
        return 0
    if config.sft.fraction < 1:
        log.warning(
            "select.folds=%d is not needed with sft.fraction=%g: the fine-tuned model has not seen the studies that it "
            "predicts, so no fold is trained",
            config.select.folds,
            config.sft.fraction,
        )
        return 0
    return config.select.folds


def asks_policy(select: SelectConfig) -> bool:
    """Whether a selection looks at what the fine-tuned model writes."""
    return isinstance(select, HardestConfig) or (isinstance(select, SampledConfig) and select.samples)


def chosen_at_most(config: RunConfig, left: Sequence[Study]) -> list[Study]:
    """As many of ``left`` as a selection takes, for counts: which ones is known after the predictions only, and a
    diverse choice takes fewer where fewer pass its gates.

    DataError when they are fewer than alignment needs.
    """
    if isinstance(config.align, NoAlignConfig) or config.select.by == "all":
        return list(left)
    studies = open_to_choice(config, left)
    if not isinstance(config.select, HardestConfig) or config.select.threshold is None:
        studies = studies[: bottom_count(config.select.share, len(studies))]
        require_enough(len(studies), config)
    return studies


def plan_exploration(config: RunConfig, left: Sequence[Study], mean_prompt: float, tokens: int) -> dict[str, int]:
    """What annotating and choosing take: studies, what is fine-tuned and predicted for the hardest, and what is sampled
    for a choice by completions.

    ``tokens``: one pass over what is fine-tuned on; each of k folds sees (k - 1) / k of it.
    """
    done = stages_of(config)
    found = {"annotated": len(left)} if "annotate" in done else {}
    if "select" not in done or not asks_policy(config.select):
        return found
    studies = len(open_to_choice(config, left))
    if isinstance(config.select, SampledConfig):
        rollouts = studies * config.select.rollouts
        return {
            **found,
            "selection_rollouts": rollouts,
            "selection_prompt_tokens": round(studies * mean_prompt),
            "selection_new_tokens_at_most": rollouts * config.generate.max_new_tokens,
        }
    folds = folds_of(config)
    return {
        **found,
        "predicted": studies,
        "prediction_prompt_tokens": round(studies * mean_prompt),
        "prediction_new_tokens_at_most": studies * config.generate.max_new_tokens,
        **({"fold_models": folds, "fold_tokens": round(tokens * config.sft.epochs * (folds - 1))} if folds else {}),
    }
