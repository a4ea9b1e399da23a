"""Greedy texts of studies by one policy after another, batched by length, resumable at every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radiograd.config import GenerateConfig
from radiograd.decoding import decode, end_tokens, plan_batches
from radiograd.runs import append_jsonl, is_terminal, read_jsonl, write_jsonl


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: ``row``, the name its texts stand under; study id -> prompt tokens; ``load``, what makes the policy.

    A policy is loaded when something is left for it to write, and let go before the next one comes.
    """

    row: str
    prompts: Mapping[str, Sequence[int]]
    load: Callable[[], Any]


def write_texts(
    path: Path, writers: Sequence[Writer], tokenizer: Any, settings: GenerateConfig, what: str
) -> list[dict[str, Any]]:
    """Append {study_id, row, text, truncated} to ``path`` for every prompt of every writer; all lines of the file.

    Batches depend on the prompts alone, so that a killed program goes on to the same bytes. ``what`` stands on the
    progress bar.
    """
    from tqdm import tqdm

    lengths = {writer.row: {key: len(ids) for key, ids in writer.prompts.items()} for writer in writers}
    batches = {row: plan_batches(found, settings.batch_size) for row, found in lengths.items()}
    written = _whole_batches(path, batches)
    for writer in writers:
        todo = [batch for batch in batches[writer.row] if (writer.row, batch[0]) not in written]
        if not todo:
            continue
        model = writer.load()
        eos = end_tokens(model, tokenizer)
        for batch in tqdm(todo, desc=f"{what} ({writer.row})", disable=not is_terminal(), unit="batch"):
            tokens = decode(
                model,
                [writer.prompts[key] for key in batch],
                max_new_tokens=settings.max_new_tokens,
                eos=eos,
                pad=tokenizer.pad_token_id,
            )
            texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
            append_jsonl(
                path,
                [
                    {"study_id": key, "row": writer.row, "text": text.strip(), "truncated": new[-1] not in eos}
                    for key, text, new in zip(batch, texts, tokens, strict=True)
                ],
            )
        del model
    return list(read_jsonl(path))


def _whole_batches(path: Path, batches: Mapping[str, Sequence[Sequence[str]]]) -> set[tuple[str, str]]:
    """(row, first study) of every batch fully written; lines of a batch cut short are dropped from the file."""
    if not path.exists():
        return set()
    lines = list(read_jsonl(path))
    have = {(line["row"], line["study_id"]) for line in lines}
    whole = {(row, batch[0]) for row, of in batches.items() for batch in of if all((row, key) in have for key in batch)}
    keep = {(row, key) for row, of in batches.items() for batch in of if (row, batch[0]) in whole for key in batch}
    write_jsonl(path, [line for line in lines if (line["row"], line["study_id"]) in keep])
    return whole
