"""Candidate impressions of training studies from the newest policy, resumable at every batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from radiograd import models
from radiograd.config import RunConfig
from radiograd.decoding import plan_batches
from radiograd.prompts import Prompter, imitable
from radiograd.runs import Run, read_jsonl
from radiograd.sampled import Sampling, sample_texts
from radiograd.types import Study


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the policy wrote for one study. ``cut``: which of them ended at the most tokens allowed."""

    texts: tuple[str, ...]
    cut: tuple[bool, ...]
    prompt_cut: bool


def draw_studies(studies: Sequence[Study], config: RunConfig, number: int) -> list[Study]:
    """The studies that round ``number`` makes pairs for: ``align.prompts`` of those that alignment uses.

    Other studies in each round; the draw depends on the seed, the round and the ids, not on their order. A reference
    that holds a redaction mark would be learnt, so those studies are left out.
    """
    wanted = config.dpo.prompts
    if wanted == 0:
        return []
    usable = imitable(studies, config.section)
    if wanted is None or wanted >= len(usable):
        return usable

    def lot(study: Study) -> bytes:
        return hashlib.sha256(f"{config.seed}:pairs:{number}:{study.study_id}".encode()).digest()

    drawn = {study.study_id for study in sorted(usable, key=lot)[:wanted]}
    return [study for study in usable if study.study_id in drawn]


def sample_candidates(run: Run, studies: Sequence[Study], number: int, path: Path) -> dict[str, Candidates]:
    """Study id -> ``align.candidates`` texts; every batch is appended to ``path`` and not sampled again.

    Each batch has a seed of its own, made from the run's seed, the round and its place: a resumed run draws what an
    uninterrupted one would have drawn.
    """
    config, dpo = run.config, run.config.dpo
    tokenizer = models.load_tokenizer(config.model)
    prompter = Prompter(tokenizer, config.model, config.task)
    prompts = {study.study_id: prompter.prompt(study) for study in studies}
    ids = {key: prompter.ids(prompt.content) for key, prompt in prompts.items()}
    size = max(1, config.generate.batch_size // dpo.candidates)
    sample_texts(
        path,
        plan_batches({key: len(value) for key, value in ids.items()}, size),
        ids,
        partial(
            models.load_policy,
            config.model,
            merged=[run.path / "sft" / "adapter"],
            adapter=run.round_folder(number - 1) / "adapter" if number else None,
        ),
        tokenizer,
        Sampling(
            dpo.candidates,
            dpo.max_new_tokens,
            dpo.temperature,
            lambda place, _: _seed(config.seed, number, place),
            "candidates",
        ),
    )
    rows = {row["study_id"]: row for row in (read_jsonl(path) if path.exists() else ())}
    return {
        study.study_id: Candidates(
            tuple(rows[study.study_id]["texts"]), tuple(rows[study.study_id]["cut"]), prompts[study.study_id].cut
        )
        for study in studies
    }


def _seed(seed: int, number: int, place: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:candidates:{number}:{place}".encode()).digest()[:7], "big")
