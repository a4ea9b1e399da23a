"""What the fine-tuned model writes for the studies that could be chosen: greedily, once, resumable at every batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from radiograd import models
from radiograd.greedy import Writer, write_texts
from radiograd.prompts import Prompter
from radiograd.runs import Run
from radiograd.types import Study

SFT = "sft"


@dataclass(frozen=True, slots=True)
class Fold:
    """One model of a cross-fitting: ``adapter``, fine-tuned without the studies of ``unseen``."""

    name: str
    adapter: Path
    unseen: frozenset[str]


@dataclass(frozen=True, slots=True)
class Predicted:
    """Study id -> text, and what is to be told of how they were made."""

    texts: Mapping[str, str]
    facts: Mapping[str, Any]


def predict(run: Run, studies: Sequence[Study], folds: Sequence[Fold]) -> Predicted:
    """The greedy text of every study, by the run's fine-tuned model or by the fold that has not seen it.

    Appended to ``select/predictions.jsonl`` batch by batch; a killed program goes on to the same bytes.
    """
    tokenizer = models.load_tokenizer(run.config.model)
    prompter = Prompter(tokenizer, run.config.model, run.config.task)
    prompts = {study.study_id: prompter.prompt(study) for study in studies}
    ids = {key: prompter.ids(prompt.content) for key, prompt in prompts.items()}
    by = folds or [Fold(SFT, run.path / "sft" / "adapter", frozenset(ids))]
    writers = [
        Writer(
            fold.name,
            {key: tokens for key, tokens in ids.items() if key in fold.unseen},
            partial(models.load_policy, run.config.model, merged=[fold.adapter]),
        )
        for fold in by
    ]
    unwritten = ids.keys() - {key for writer in writers for key in writer.prompts}
    if unwritten:
        raise ValueError(f"no fold is for {len(unwritten)} studies (first: {min(unwritten)})")
    path = run.path / "select" / "predictions.jsonl"
    lines = write_texts(path, writers, tokenizer, run.config.generate, "predictions")
    return Predicted(
        {line["study_id"]: line["text"] for line in lines},
        {
            "prompts_cut": sum(prompt.cut for prompt in prompts.values()),
            "truncated": sum(line["truncated"] for line in lines),
        },
    )
