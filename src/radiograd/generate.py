"""Greedy texts for held-out studies, batched by length, resumable at every batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from radiograd import models
from radiograd.config import RunConfig
from radiograd.decoding import decode, end_tokens, plan_batches
from radiograd.errors import RunError
from radiograd.prompts import REDACTED, Prompter
from radiograd.runs import Run, append_jsonl, is_terminal, read_jsonl, write_jsonl
from radiograd.text.generated import cut
from radiograd.types import REPORT, Study

log = logging.getLogger(__name__)

MANY_TRUNCATED = 0.1
"""Share of texts cut short from which on it is told."""


def generate_run(run: Run, split: str = "test") -> dict[str, Any]:
    """Write ``eval/<split>/predictions.jsonl``: the greedy text for every study by each policy of the run.

    RunError when the split holds no study.
    """
    from tqdm import tqdm

    studies = [Study.from_json(row) for row in read_jsonl(run.path / "data" / f"{split}.jsonl")]
    if not studies:
        raise RunError(f"the {split} set of {run.path} holds no study; raise data.split.{split} or give more data")
    path = run.path / "eval" / split / "predictions.jsonl"
    tokenizer = models.load_tokenizer(run.config.model)
    prompter = Prompter(tokenizer, run.config.model, run.config.task)
    prompts = {study.study_id: prompter.prompt(study) for study in studies}
    ids = {key: prompter.ids(prompt.content) for key, prompt in prompts.items()}
    batches = plan_batches({key: len(value) for key, value in ids.items()}, run.config.generate.batch_size)
    written = _whole_batches(path, batches, run.config.policies)
    for row in run.config.policies:
        todo = [batch for batch in batches if (row, batch[0]) not in written]
        if not todo:
            continue
        model = models.load_policy(
            run.config.model,
            merged=[run.path / "sft" / "adapter"],
            adapter=run.path / "align" / "adapter" if row == "aligned" else None,
        )
        eos = end_tokens(model, tokenizer)
        for batch in tqdm(todo, desc=f"{run.config.section}s ({row})", disable=not is_terminal(), unit="batch"):
            tokens = decode(
                model,
                [ids[key] for key in batch],
                max_new_tokens=run.config.generate.max_new_tokens,
                eos=eos,
                pad=tokenizer.pad_token_id,
            )
            texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
            append_jsonl(
                path,
                [
                    {"study_id": key, "row": row, "text": text.strip(), "truncated": new[-1] not in eos}
                    for key, text, new in zip(batch, texts, tokens, strict=True)
                ],
            )
    answers = list(read_jsonl(path))
    truncated = sum(answer["truncated"] for answer in answers)
    if truncated > MANY_TRUNCATED * len(answers):
        log.warning(
            "%d of %d %ss end at generate.max_new_tokens=%d in the middle; raise it",
            *(truncated, len(answers), run.config.section, run.config.generate.max_new_tokens),
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


def _whole_batches(path: Path, batches: Sequence[Sequence[str]], policies: Sequence[str]) -> set[tuple[str, str]]:
    """(row, first study) of every batch fully written; lines of a batch cut short are dropped from the file."""
    if not path.exists():
        return set()
    rows = list(read_jsonl(path))
    have = {(row["row"], row["study_id"]) for row in rows}
    whole = {(row, batch[0]) for row in policies for batch in batches if all((row, key) in have for key in batch)}
    keep = {(row, key) for row, first in whole for batch in batches if batch[0] == first for key in batch}
    write_jsonl(path, [row for row in rows if (row["row"], row["study_id"]) in keep])
    return whole
