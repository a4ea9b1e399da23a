"""Candidates and judgements -> pairs, by the rules of docs/rgro.md. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radiograd.config import DPOConfig
from radiograd.preferences import Pair, normalised
from radiograd.prompts import REDACTED
from radiograd.types import Study

if TYPE_CHECKING:
    from radiograd.pairs.sampling import Candidates


@dataclass(frozen=True, slots=True)
class Made:
    """The pairs, and why how many studies gave none."""

    pairs: tuple[Pair, ...]
    without: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class JudgedStudy:
    """What the judge made of a study's candidates; ``why`` it could not, or points of a round robin by place.

    ``loser`` and ``winner``: the places alone with fewest and most points, None where points are shared.
    ``contradicted``: duels in which its two orders named different sides.
    """

    why: str | None
    points: tuple[tuple[str, float], ...] = ()
    loser: int | None = None
    winner: int | None = None
    contradicted: int = 0
    signature: str = ""
    prompt_hash: str = ""


def contestants(texts: Sequence[str]) -> list[int]:
    """Places of the candidates that can be compared: not empty, and each wording once (case and punctuation aside)."""
    first: dict[str, int] = {}
    for place, text in enumerate(texts):
        words = normalised(text)
        if words:
            first.setdefault(words, place)
    return sorted(first.values())


def points(places: Sequence[int], duels: Sequence[tuple[int, int, str]]) -> dict[int, float]:
    """Place -> points of a round robin: 1 for a duel won, a half for a tie. ``duels``: (a, b, winner)."""
    won = dict.fromkeys(places, 0.0)
    for a, b, winner in duels:
        won[a] += {"a": 1.0, "tie": 0.5, "b": 0.0}[winner]
        won[b] += {"a": 0.0, "tie": 0.5, "b": 1.0}[winner]
    return won


def alone(won: Mapping[int, float], best: bool) -> int | None:
    """The place with most points (fewest, without ``best``); None when it shares them."""
    edge = max(won.values()) if best else min(won.values())
    at = [place for place, value in won.items() if value == edge]
    return at[0] if len(at) == 1 else None


def pair_up(
    studies: Sequence[Study],
    sampled: Mapping[str, Candidates],
    judged: Mapping[str, JudgedStudy],
    dpo: DPOConfig,
    seed: int,
    number: int,
    section: str = "impression",
) -> Made:
    """The pairs of every study under ``chosen_source`` and ``rejected_source``; ``section`` is what was written.

    A candidate with the words of the chosen text, or of the reference, is never a rejected one.
    """
    pairs: list[Pair] = []
    without: Counter[str] = Counter()
    for study in studies:
        texts = sampled[study.study_id].texts
        reference = (study.sections.text(section) or "").strip()
        found = _rejected(study, reference, texts, judged.get(study.study_id), dpo, seed, number)
        if isinstance(found, str):
            without[found] += 1
            continue
        chosen, rejected, provenance = found
        pairs += [
            Pair(
                study_id=study.study_id,
                chosen=chosen,
                rejected=texts[place],
                chosen_source=dpo.chosen_source,
                rejected_source=dpo.rejected_source,
                round=number,
                provenance={"candidate": place, **provenance},
            )
            for place in rejected
        ]
    return Made(tuple(pairs), dict(without))


def _rejected(
    study: Study,
    reference: str,
    texts: Sequence[str],
    judged: JudgedStudy | None,
    dpo: DPOConfig,
    seed: int,
    number: int,
) -> tuple[str, list[int], dict[str, Any]] | str:
    """What is chosen, which places are rejected and who said so; or why there is no pair."""
    places = contestants(texts)
    if dpo.rejected_source == "judge_loser":
        return _judged(reference, texts, places, judged, dpo)
    others = [place for place in places if normalised(texts[place]) != normalised(reference)]
    if not others:
        return "every candidate has the words of the reference or none"
    if dpo.rejected_source == "random":
        lot = hashlib.sha256(f"{seed}:random:{number}:{study.study_id}".encode()).digest()
        others = [others[int.from_bytes(lot[:7], "big") % len(others)]]
    return reference, others, {}


def _judged(
    reference: str, texts: Sequence[str], places: Sequence[int], judged: JudgedStudy | None, dpo: DPOConfig
) -> tuple[str, list[int], dict[str, Any]] | str:
    if len(places) < 2:
        return "fewer than two different candidates"
    if judged is None or judged.why is not None:
        return "unscored"
    if judged.loser is None:
        return "tie"
    if normalised(texts[judged.loser]) == normalised(reference):
        return "the loser has the words of the reference"
    provenance = {"judge": judged.signature, "prompt_hash": judged.prompt_hash, "points": dict(judged.points)}
    if dpo.chosen_source == "reference":
        return reference, [judged.loser], provenance
    if judged.winner is None:
        return "tie for the best"
    if REDACTED in texts[judged.winner]:
        return "the winner holds a redaction mark"
    return texts[judged.winner], [judged.loser], {**provenance, "winner": judged.winner}


def merge(imported: Sequence[Pair], made: Sequence[Pair]) -> tuple[list[Pair], Counter[str]]:
    """Imported pairs, then made ones; each (study, chosen, rejected) once, wording aside. What was left out, counted.

    A made pair that says the opposite of an imported one is left out: the radiologist's word counts. Radiologists who
    contradict each other are both kept: that is what is known.
    """
    seen: set[tuple[str, str, str]] = set()
    expert = {_key(pair) for pair in imported}
    kept: list[Pair] = []
    dropped: Counter[str] = Counter()
    for pair in (*imported, *made):
        key = _key(pair)
        if key in seen:
            dropped["repeated"] += 1
        elif key not in expert and (key[0], key[2], key[1]) in expert:
            dropped["against an imported pair"] += 1
        else:
            seen.add(key)
            kept.append(pair)
    return kept, dropped


def _key(pair: Pair) -> tuple[str, str, str]:
    return pair.study_id, normalised(pair.chosen), normalised(pair.rejected)
