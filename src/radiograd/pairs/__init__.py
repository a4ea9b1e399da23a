"""Pairs for preference optimisation: sample, judge, pair up, mix with what radiologists preferred.

Of impressions, or of whole reports.

Writes ``pairs.jsonl``, whole, and beside it ``pairs/round_0000/``: the candidates, the judge's answers, the rows of
imported files that could not be used, and ``made.json``. A killed program goes on with what stands there.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from radiograd.config import RunConfig
from radiograd.pairs.imports import Imported, read_imports
from radiograd.pairs.judging import judge_candidates
from radiograd.pairs.pairing import JudgedStudy, merge, pair_up
from radiograd.pairs.sampling import Candidates, draw_studies, sample_candidates
from radiograd.pairs.statistics import describe
from radiograd.preferences import Pair, fingerprint
from radiograd.runs import Run, read_jsonl, write_json, write_jsonl
from radiograd.studies import aligned_on, read_split

log = logging.getLogger(__name__)


def make_pairs(run: Run, number: int = 0) -> dict[str, Any]:
    """Put the pairs of round ``number`` into ``pairs.jsonl``, beside those of other rounds; what is known of them.

    Candidates come from the SFT policy in round 0 and from the adapter of the round before in a later one. Raises
    JudgeError when the judge leaves too much unscored, DataError for an imported file that cannot be read.
    """
    config, dpo = run.config, run.config.dpo
    folder = folder_of(run, number)
    imported = read_imports(
        dpo.imports,
        train=read_split(run, "train"),
        pool=read_split(run, "pool"),
        held_out=[study for split in ("val", "test") for study in read_split(run, split)],
        number=number,
        near_duplicate=config.data.split.near_duplicate,
        seed=config.seed,
    )
    write_jsonl(folder / "problems.jsonl", [{"where": p.where, "why": p.why} for p in imported.problems])
    if imported.problems:
        first = imported.problems[0]
        log.warning("%d imported rows are passed over; %s: %s", len(imported.problems), first.where, first.why)
    studies = draw_studies(aligned_on(run), config, number)
    sampled = sample_candidates(run, studies, number, folder / "candidates.jsonl")
    # only now: a judge that is a model would lie in memory beside the policy
    judge = load_judge_of(config) if studies and dpo.rejected_source == "judge_loser" else None
    judged = (
        judge_candidates(judge, studies, sampled, dpo, folder / "preferences.jsonl", config.section) if judge else {}
    )
    made = pair_up(studies, sampled, judged, dpo, config.seed, number, config.section)
    pairs, dropped = merge(imported.pairs, made.pairs)
    facts = {
        **_facts(sampled, judged, imported),
        "signature": judge.signature if judge else None,
        "without_pair": dict(made.without),
        "left_out": dict(dropped),
        "sources": dict(Counter(f"{pair.chosen_source} over {pair.rejected_source}" for pair in pairs)),
        "statistics": describe(pairs),
    }
    write_json(folder / "made.json", {"fingerprint": fingerprint(pairs), "facts": facts})
    _put(run.path / "pairs.jsonl", pairs, number)
    return facts


def folder_of(run: Run, number: int) -> Path:
    """Where the pairs of round ``number`` are made."""
    return run.path / "pairs" / f"round_{number:04d}"


def load_judge_of(config: RunConfig) -> Any:
    """The judge of a run. All reports but the public ones that we fetch are taken for credentialed: they go to no
    remote endpoint unless the judge's options say so. Raises what load_judge does."""
    from radiograd.judges.builtin import load_judge

    dpo = config.dpo
    return load_judge(dpo.judge, dpo.judge_options, credentialed=not config.data.public)


def _facts(sampled: dict[str, Candidates], judged: dict[str, JudgedStudy], imported: Imported) -> dict[str, Any]:
    texts = [text for one in sampled.values() for text in one.texts]
    whys = Counter(one.why for one in judged.values() if one.why is not None)
    return {
        "studies": len(sampled),
        "candidates": len(texts),
        "candidates_cut": sum(sum(one.cut) for one in sampled.values()),
        "prompts_cut": sum(one.prompt_cut for one in sampled.values()),
        "judged": len(judged),
        "ties": sum(one.why is None and one.loser is None for one in judged.values()),
        "contradicted": sum(one.contradicted for one in judged.values()),
        "unscored": whys.total(),
        "unscored_why": dict(whys.most_common(5)),
        "imported": len(imported.pairs),
        "imported_ties": imported.ties,
        "imported_unchanged": imported.unchanged,
        "import_problems": len(imported.problems),
    }


def _put(path: Path, pairs: Sequence[Pair], number: int) -> None:
    """Write the file whole, with the rows of other rounds first, as they are."""
    rows = list(read_jsonl(path)) if path.exists() else []
    others = [row for row in rows if isinstance(row, dict) and row.get("round", 0) != number]
    write_jsonl(path, [*others, *(pair.to_json() for pair in pairs)])
