"""From ``pairs.jsonl`` to token rows that hold what the reference thinks of them, and to padded batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from radiograd.preferences import Pair, Pairs
from radiograd.prompts import REDACTED, Prompter
from radiograd.rl import preference
from radiograd.runs import append_jsonl, read_jsonl, write_jsonl
from radiograd.train import scoring
from radiograd.types import REPORT, Sections, Study


@dataclass(frozen=True, slots=True)
class Chosen:
    """The pairs to train on with their studies, and the lines that were left out: (where, why)."""

    pairs: tuple[Pair, ...]
    studies: Mapping[str, Study]
    problems: tuple[tuple[str, str], ...]
    of_other_rounds: int


def choose(
    found: Pairs, train: Sequence[Study], held_out: Collection[str], number: int, section: str = "impression"
) -> Chosen:
    """The pairs of round ``number`` that can be trained on.

    Left out and named by line: what is no pair, a pair of a held-out study, one whose findings are not known or stand
    otherwise in the training data, and one whose chosen text holds a redaction mark: it would be learnt.
    """
    studies = {study.study_id: study for study in train}
    known = set(studies)
    problems = [(problem.line, problem.why) for problem in found.problems]
    kept: list[Pair] = []
    others = 0
    for pair, line in zip(found.pairs, found.lines, strict=True):
        why = _why_not(pair, studies.get(pair.study_id), known, held_out, section)
        if why is not None:
            problems.append((line, why))
        elif pair.round != number:
            others += 1
        else:
            kept.append(pair)
            if pair.findings is not None:
                studies[pair.study_id] = Study(pair.study_id, "", "pairs", Sections(findings=pair.findings))
    named = tuple((f"pairs.jsonl:{line}", why) for line, why in sorted(problems))
    return Chosen(tuple(kept), studies, named, others)


def _why_not(
    pair: Pair, study: Study | None, known: Collection[str], held_out: Collection[str], section: str
) -> str | None:
    if pair.study_id in held_out:
        return f"study {pair.study_id} is held out (val or test); training on it would spoil the evaluation"
    if study is None and section == REPORT:
        return f"study {pair.study_id} is not in data/train.jsonl; a report is written from a study of the run"
    if study is None and pair.findings is None:
        return f"study {pair.study_id} is not in data/train.jsonl; give its findings with the pair"
    if study is not None and pair.findings is not None and study.sections.findings != pair.findings:
        where = "data/train.jsonl" if pair.study_id in known else "an earlier line"
        return f"study {pair.study_id} has other findings in {where}; leave findings out or use another id"
    if REDACTED in pair.chosen:
        return f"chosen of study {pair.study_id} holds a redaction mark ({REDACTED}), which would be learnt"
    return None


def encode(prompter: Prompter, pairs: Sequence[Pair], studies: Mapping[str, Study]) -> tuple[list[dict[str, Any]], int]:
    """Token rows with their weights (mean 1), and how many prompts were cut."""
    prompts = {pair.study_id: prompter.prompt(studies[pair.study_id]) for pair in pairs}
    ids = {study_id: prompter.ids(prompt.content) for study_id, prompt in prompts.items()}
    weights = preference.relative_weights(torch.tensor([pair.weight for pair in pairs], dtype=torch.float64))
    rows = [
        {
            "prompt_ids": ids[pair.study_id],
            "chosen_ids": prompter.target_ids(pair.chosen),
            "rejected_ids": prompter.target_ids(pair.rejected),
            "weight": weight,
        }
        for pair, weight in zip(pairs, weights.tolist(), strict=True)
    ]
    return rows, sum(prompt.cut for prompt in prompts.values())


class Collator:
    """Rows -> tensors: ``prompt_ids``, ``prompt_mask`` (B, P) padded on the left; ``ids``, ``mask`` (2B, T) padded on
    the right, chosen before rejected; ``weight``, ``ref_chosen``, ``ref_rejected`` (B,)."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        prompts = [list(row["prompt_ids"]) for row in rows]
        completions = [list(row[name]) for name in ("chosen_ids", "rejected_ids") for row in rows]
        wide, long = max(map(len, prompts)), max(map(len, completions))
        batch = {
            "prompt_ids": torch.tensor([[self.pad] * (wide - len(ids)) + ids for ids in prompts]),
            "prompt_mask": torch.tensor([[0] * (wide - len(ids)) + [1] * len(ids) for ids in prompts]),
            "ids": torch.tensor([ids + [self.pad] * (long - len(ids)) for ids in completions]),
            "mask": torch.tensor([[1] * len(ids) + [0] * (long - len(ids)) for ids in completions]),
        }
        numbers = [name for name in ("weight", "ref_chosen", "ref_rejected") if name in rows[0]]
        return batch | {name: torch.tensor([row[name] for row in rows], dtype=torch.float32) for name in numbers}


def completion_logps(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Log-probabilities of the tokens of a collated batch: (2B, T), chosen before rejected, 0 on padding."""
    logps: torch.Tensor = scoring.score_completions(
        model,
        torch.cat([batch["prompt_ids"]] * 2),
        torch.cat([batch["prompt_mask"]] * 2),
        batch["ids"],
        batch["mask"],
    )[0]
    return logps


# ---- the reference ---------------------------------------------------------------------------------------------------


def with_reference(
    model: Any, rows: Sequence[Mapping[str, Any]], path: Path, batch_size: int, pad: int
) -> list[dict[str, Any]]:
    """``rows`` with ``ref_chosen`` and ``ref_rejected``: log pi(y | x) in nats under ``model``, the SFT policy.

    Computed once: every batch is appended to ``path`` under its pairs' content hashes and read again when training is
    resumed. Batches are fixed by the rows alone, and one that was cut short is computed again whole, so that the
    numbers are the same however often a run was killed.
    """
    keys = [_key(row) for row in rows]
    places = sorted(range(len(rows)), key=lambda place: (-tokens_of(rows[place]), place))
    batches = [places[i : i + batch_size] for i in range(0, len(places), batch_size)]
    kept = _whole(path, [[keys[place] for place in batch] for batch in batches])
    write_jsonl(path, kept)
    collate = Collator(pad)
    device = next(model.parameters()).device
    for batch in batches[-(-len(kept) // batch_size) :]:
        tensors = {name: value.to(device) for name, value in collate([rows[place] for place in batch]).items()}
        with torch.no_grad():
            sums = preference.sequence_logps(completion_logps(model, tensors), tensors["mask"])
        chosen, rejected = (part.tolist() for part in sums.chunk(2))
        found = [
            {"pair": keys[place], "chosen": a, "rejected": b}
            for place, a, b in zip(batch, chosen, rejected, strict=True)
        ]
        append_jsonl(path, found)
        kept += found
    by_place = dict(zip(places, kept, strict=True))
    return [
        {**row, "ref_chosen": by_place[place]["chosen"], "ref_rejected": by_place[place]["rejected"]}
        for place, row in enumerate(rows)
    ]


def _key(row: Mapping[str, Any]) -> str:
    tokens = [list(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16]


def _whole(path: Path, batches: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The rows of the leading batches that stand in ``path`` whole."""
    stored = list(read_jsonl(path)) if path.exists() else []
    kept = 0
    for batch in batches:
        if [row["pair"] for row in stored[kept : kept + len(batch)]] != list(batch):
            break
        kept += len(batch)
    return stored[:kept]


def tokens_of(row: Mapping[str, Any]) -> int:
    """Tokens that one pass over a row computes: its prompt once and both completions."""
    return sum(len(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
