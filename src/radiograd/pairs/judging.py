"""Which candidate of each study is worst, asked of the judge: every two different ones, its answers kept."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from radiograd.config import DPOConfig
from radiograd.errors import JudgeError
from radiograd.judges.protocol import Duel, Judge, Preference, duel_of
from radiograd.pairs.pairing import JudgedStudy, alone, contestants, points
from radiograd.pairs.sampling import Candidates
from radiograd.runs import append_jsonl, is_terminal, read_jsonl, write_jsonl
from radiograd.types import Study

AT_ONCE: Final = 32
"""Studies a judge is asked about at a time; a killed program asks at most these again."""
NAMED: Final = 3
"""Reasons that an error names."""


def judge_candidates(
    judge: Judge,
    studies: Sequence[Study],
    sampled: Mapping[str, Candidates],
    dpo: DPOConfig,
    path: Path,
    section: str = "impression",
) -> dict[str, JudgedStudy]:
    """Study id -> what the judge said, for every study with two different candidates.

    Answers are appended to ``path`` as they come and kept when the program is killed; unscored ones are asked again.
    ``section``: what the candidates are. Raises JudgeError as soon as more than ``align.max_unscored`` of the studies
    cannot be scored any more.
    """
    from tqdm import tqdm

    asked = {s.study_id: s for s in studies if len(contestants(sampled[s.study_id].texts)) > 1}
    keys = {study_id: _key(judge, study, sampled[study_id], dpo, section) for study_id, study in asked.items()}
    rows = _kept(path, keys)
    write_jsonl(path, list(rows.values()))
    todo = [study_id for study_id in asked if study_id not in rows]
    for first in tqdm(range(0, len(todo), AT_ONCE), desc="judge", disable=not is_terminal(), unit="batch"):
        batch = todo[first : first + AT_ONCE]
        duels = [duel for study_id in batch for duel in _duels(asked[study_id], sampled[study_id], dpo, section)]
        answers = iter(judge.prefer([duel for _, _, duel in duels]))
        found = []
        for study_id in batch:
            of = [(a, b, next(answers)) for a, b, _ in _duels(asked[study_id], sampled[study_id], dpo, section)]
            found.append({"study_id": study_id, "of": keys[study_id], "duels": [_row(*one) for one in of]})
        append_jsonl(path, found)
        rows |= dict(zip(batch, found, strict=True))
        _refuse_unscored(list(rows.values()), len(asked), dpo.max_unscored)
    return {
        study_id: _judged(contestants(sampled[study_id].texts), rows[study_id]["duels"], judge.signature)
        for study_id in asked
    }


def _duels(study: Study, candidates: Candidates, dpo: DPOConfig, section: str) -> list[tuple[int, int, Duel]]:
    texts = candidates.texts
    return [
        (a, b, duel_of(study, texts[a], texts[b], section, dpo.judge_sees_reference))
        for a, b in combinations(contestants(candidates.texts), 2)
    ]


def _row(a: int, b: int, answer: Preference) -> dict[str, Any]:
    return {
        "a": a,
        "b": b,
        "winner": answer.winner,
        "why": answer.why,
        "by_order": list(answer.by_order),
        "scores": {side: dict(scores) for side, scores in answer.scores.items()},
        "rationale": answer.rationale,
        "prompt_hash": answer.prompt_hash,
    }


def _judged(places: Sequence[int], duels: Sequence[Mapping[str, Any]], signature: str) -> JudgedStudy:
    why = _why(duels)
    if why is not None:
        return JudgedStudy(why, signature=signature)
    won = points(places, [(duel["a"], duel["b"], duel["winner"]) for duel in duels])
    return JudgedStudy(
        why=None,
        points=tuple((str(place), value) for place, value in won.items()),
        loser=alone(won, best=False),
        winner=alone(won, best=True),
        contradicted=sum(set(duel["by_order"]) == {"a", "b"} for duel in duels),
        signature=signature,
        prompt_hash=duels[0]["prompt_hash"],
    )


def _why(duels: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a study is unscored: the first reason among its duels; None when all were answered."""
    return next((duel["why"] for duel in duels if duel["winner"] is None), None)


def _refuse_unscored(rows: Sequence[Mapping[str, Any]], of: int, share: float) -> None:
    whys = Counter(why for row in rows if (why := _why(row["duels"])) is not None)
    if whys.total() > share * of:
        named = "; ".join(f"{count} x {why}" for why, count in whys.most_common(NAMED))
        raise JudgeError(
            f"the judge left {whys.total()} studies unscored, of {len(rows)} asked and {of} in all; "
            f"align.max_unscored={share:g} allows {int(share * of)}: {named}. "
            "Its other answers are kept; the same command asks for these again"
        )


def _key(judge: Judge, study: Study, candidates: Candidates, dpo: DPOConfig, section: str) -> str:
    """Changes with whatever an answer depends on: the judge, the texts and what it is shown."""
    reference = study.sections.text(section) if dpo.judge_sees_reference else None
    seen = [judge.signature, study.sections.findings, reference, list(candidates.texts)]
    return hashlib.sha256(json.dumps(seen, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()[:16]


def _kept(path: Path, keys: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Answers in ``path`` to the very questions of now, all of whose duels were scored."""
    rows = read_jsonl(path) if path.exists() else iter(())
    return {
        row["study_id"]: row for row in rows if keys.get(row["study_id"]) == row["of"] and _why(row["duels"]) is None
    }
