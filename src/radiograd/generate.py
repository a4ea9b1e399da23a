"""Greedy texts for held-out studies, batched by length, resumable at every batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from radiograd import models
from radiograd.config import RunConfig
from radiograd.errors import RunError
from radiograd.greedy import Writer, write_texts
from radiograd.prompts import REDACTED, Prompter
from radiograd.runs import Run
from radiograd.studies import read_split
from radiograd.text.generated import cut
from radiograd.types import REPORT

log = logging.getLogger(__name__)

MANY_TRUNCATED = 0.1
"""Share of reports cut short from which on it is told: they end in their impression, so that it is what is lost."""


def generate_run(run: Run, split: str = "test") -> dict[str, Any]:
    """Write ``eval/<split>/predictions.jsonl``: the greedy text for every study by each policy of the run.

    RunError when the split holds no study.
    """
    studies = read_split(run, split)
    if not studies:
        raise RunError(f"the {split} set of {run.path} holds no study; raise data.split.{split} or give more data")
    path = run.path / "eval" / split / "predictions.jsonl"
    tokenizer = models.load_tokenizer(run.config.model)
    prompter = Prompter(tokenizer, run.config.model, run.config.task)
    prompts = {study.study_id: prompter.prompt(study) for study in studies}
    ids = {key: prompter.ids(prompt.content) for key, prompt in prompts.items()}
    writers = [
        Writer(
            row,
            ids,
            partial(
                models.load_policy,
                run.config.model,
                merged=[run.path / "sft" / "adapter"],
                adapter=run.path / "align" / "adapter" if row == "aligned" else None,
            ),
        )
        for row in run.config.policies
    ]
    answers = write_texts(path, writers, tokenizer, run.config.generate, f"{run.config.section}s")
    truncated = sum(answer["truncated"] for answer in answers)
    if run.config.section == REPORT and truncated > MANY_TRUNCATED * len(answers):
        log.warning(
            "%d of %d reports end at generate.max_new_tokens=%d in the middle; raise it",
            *(truncated, len(answers), run.config.generate.max_new_tokens),
        )
    return {
        "studies": len(studies),
        "rows": list(run.config.policies),
        "prompts_cut": sum(prompt.cut for prompt in prompts.values()),
        "truncated": truncated,
        "writes_redaction": sum(REDACTED in answer["text"] for answer in answers),
        **_format_kept(answers, run.config),
    }


def _format_kept(answers: Sequence[dict[str, Any]], config: RunConfig) -> dict[str, int]:
    """Of whole reports, how many each policy wrote with both headers once and text under both."""
    if config.section != REPORT:
        return {}
    whole = [answer["row"] for answer in answers if cut(answer["text"]).whole]
    return {f"format_kept_{row}": whole.count(row) for row in config.policies}
