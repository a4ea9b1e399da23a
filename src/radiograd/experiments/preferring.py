"""What a judge prefers on held-out studies: for each pair in ``compare``, both systems' texts, in both orders.

Answers are appended to ``preferences/<judge>/<run>.<system>--<run>.<system>.jsonl`` as they come and kept; an answer
counts for the very two texts that it was about. Reading them back needs no judge.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radiograd.errors import JudgeError, RunError
from radiograd.experiments.plan import JudgeConfig, Plan, Planned
from radiograd.judges.builtin import load_judge
from radiograd.judges.protocol import Judge, duel_of
from radiograd.runs import append_jsonl, read_json, read_jsonl, write_jsonl
from radiograd.types import Study

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Duels asked about at a time; a killed program asks at most these again."""
NAMED = 3
"""Reasons that an error names."""


@dataclass(frozen=True, slots=True)
class Side:
    """One system of one run."""

    planned: Planned
    system: str

    @property
    def name(self) -> str:
        """Run and system, as in a file's name."""
        return f"{self.planned.name}.{self.system}"


def sides(plan: Plan, pair: tuple[str, str]) -> Iterator[tuple[int, Side, Side]]:
    """The runs behind the two labels of a pair, for each seed that both have."""
    (cell_a, system_a), (cell_b, system_b) = (plan.experiment.labels[label] for label in pair)
    of_b = {planned.seed: planned for planned in plan.of(cell_b)}
    for planned in plan.of(cell_a):
        if planned.seed in of_b:
            yield planned.seed, Side(planned, system_a), Side(of_b[planned.seed], system_b)


def ask_judges(plan: Plan, judge: JudgeConfig, root: Path, ready: Callable[[Planned], bool]) -> None:
    """Have every pair judged whose runs are ready, as far as that was not done before.

    Reports other than the public ones that we fetch are taken for credentialed. Raises what load_judge raises, and
    JudgeError when more than ``max_unscored`` of a pair's duels stay unscored.
    """
    loaded: dict[bool, Judge] = {}
    for pair in plan.experiment.compare:
        for _, a, b in sides(plan, pair):
            if not (ready(a.planned) and ready(b.planned)):
                continue
            studies, texts = read_sides(root, a, b)
            path = file_of(root, judge, a, b)
            kept = answers(path, texts)
            todo = [study for study in studies if study.study_id not in kept]
            if not todo:
                continue
            credentialed = not a.planned.config.data.public
            if credentialed not in loaded:
                loaded[credentialed] = load_judge(judge.judge, judge.options, credentialed=credentialed)
            write_jsonl(path, list(kept.values()))
            _ask(loaded[credentialed], judge, todo, texts, path, len(studies), a.planned.config.section)


def _ask(
    asked: Judge,
    judge: JudgeConfig,
    studies: Sequence[Study],
    texts: Mapping[str, tuple[str, str]],
    path: Path,
    total: int,
    section: str,
) -> None:
    whys: Counter[str] = Counter()
    for first in range(0, len(studies), AT_ONCE):
        some = studies[first : first + AT_ONCE]
        found = asked.prefer([duel_of(study, *texts[study.study_id], section, judge.sees_reference) for study in some])
        append_jsonl(
            path,
            [
                {
                    "study_id": study.study_id,
                    "of": of(texts[study.study_id]),
                    "signature": asked.signature,
                    "winner": answer.winner,
                    "why": answer.why,
                    "by_order": list(answer.by_order),
                }
                for study, answer in zip(some, found, strict=True)
                if answer.winner is not None
            ],
        )
        whys.update(answer.why for answer in found if answer.why is not None)
        if whys.total() > judge.max_unscored * total:
            named = "; ".join(f"{count} x {why}" for why, count in whys.most_common(NAMED))
            raise JudgeError(
                f"{whys.total()} of {total} duels are unscored, more than max_unscored={judge.max_unscored:g} allows: "
                f"{named}. Its other answers are kept; the same command asks for these again"
            )


def read_sides(root: Path, a: Side, b: Side) -> tuple[list[Study], dict[str, tuple[str, str]]]:
    """The held-out studies, and study id -> the two texts. RunError when the runs were tested on others."""
    studies, other = (_studies(root / side.planned.name) for side in (a, b))
    if studies.keys() != other.keys():
        raise RunError(f"{a.planned.name} and {b.planned.name} were not tested on the same studies")
    of_a, of_b = (_texts(root / side.planned.name, side.system) for side in (a, b))
    return list(studies.values()), {study_id: (of_a[study_id], of_b[study_id]) for study_id in studies}


def answers(path: Path, texts: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Study id -> the answer in ``path`` to the very two texts of now."""
    rows = read_jsonl(path) if path.exists() else iter(())
    return {
        row["study_id"]: row
        for row in rows
        if row["study_id"] in texts and row["of"] == of(texts[row["study_id"]]) and row["winner"] is not None
    }


def file_of(root: Path, judge: JudgeConfig, a: Side, b: Side) -> Path:
    """Where a judge's answers about two systems are kept."""
    told = judge.model_dump(mode="json", exclude={"label", "max_unscored"})
    mark = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:6]
    folder = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', judge.name)}-{mark}"
    return root / "preferences" / folder / f"{a.name}--{b.name}.jsonl"


def made_the_pairs(path: Path, signature: str) -> bool:
    """Whether the run in ``path`` was aligned on pairs of the judge with this signature, which would judge its own."""
    found = (read_json(mark) for mark in sorted((path / "done").glob("pairs*.json")))
    return any(facts.get("signature") == signature for facts in found)


def of(pair: tuple[str, str]) -> str:
    """A digest of two texts."""
    return hashlib.sha256(json.dumps(pair).encode("utf-8", "replace")).hexdigest()[:16]


def _studies(path: Path) -> dict[str, Study]:
    return {row["study_id"]: Study.from_json(row) for row in read_jsonl(path / "data" / "test.jsonl")}


def _texts(path: Path, system: str) -> dict[str, str]:
    rows = (
        row for name in ("predictions", "baselines") for row in read_jsonl(path / "eval" / "test" / f"{name}.jsonl")
    )
    return {row["study_id"]: row["text"] for row in rows if row["row"] == system}
