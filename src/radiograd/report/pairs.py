"""The pairs of a preference optimisation: where they came from, what was left out, what they differ in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from radiograd.preferences import Pair
from radiograd.report.evidence import marked_diff
from radiograd.report.inputs import Inputs
from radiograd.report.provenance import count_text

EXAMPLES = 4
QUIET = ("imported", "imported_ties", "imported_unchanged", "import_problems", "contradicted")
"""Counts that are left out where they are 0 in every round."""
COUNTS = {
    "pairs": "Pairs",
    "studies": "Studies that candidates were sampled for",
    "candidates": "Candidates",
    "candidates_cut": "Candidates cut at the token limit",
    "judged": "Studies whose candidates were judged",
    "ties": "Ties: nobody lost",
    "contradicted": "Duels in which the judge's two orders named different sides",
    "unscored": "Studies the judge could not answer for",
    "imported": "Pairs of radiologists' preferences and edits",
    "imported_ties": "Radiologists' ties",
    "imported_unchanged": "Drafts signed as they were",
    "import_problems": "Imported rows passed over",
}
FACTS = {
    "words_chosen_mean": "Words, chosen (mean)",
    "words_rejected_mean": "Words, rejected (mean)",
    "chosen_longer_share": "Chosen is longer",
    "labels_differ_share": "The sides say different findings",
    "labels_only_chosen_mean": "Findings on the chosen side only (mean)",
    "labels_only_rejected_mean": "Findings on the rejected side only (mean)",
}
REASONS = {"without_pair": "No pair: {}", "unscored_why": "Unscored: {}", "left_out": "Left out: {}", "sources": "{}"}


def pairs_panel(inputs: Inputs, seed: int) -> dict[str, Any] | None:
    """Counts and label differences of each round, and a few pairs drawn blind; None without pairs."""
    if not inputs.rounds:
        return None
    statistics = [facts.get("statistics") or {} for facts in inputs.rounds]
    return {
        "rounds": [f"Round {number}" if len(inputs.rounds) > 1 else "Number" for number in range(len(inputs.rounds))],
        "given": all(facts.get("given") for facts in inputs.rounds),
        "judge": next((facts["signature"] for facts in inputs.rounds if facts.get("signature")), None),
        "lines": [*_lines(inputs.rounds, COUNTS), *_reasons(inputs.rounds), *_lines(statistics, FACTS)],
        "labels": _labels(statistics),
        "examples": [_example(pair) for pair in drawn(inputs.pairs, seed)],
    }


def drawn(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """The first pairs in the order of SHA-256("seed:pair:study_id:rejected"), of different studies."""

    def lot(pair: Pair) -> bytes:
        name = f"{seed}:pair:{pair.study_id}:{pair.rejected}"
        return hashlib.sha256(name.encode("utf-8", "replace")).digest()

    first = {pair.study_id: pair for pair in sorted(pairs, key=lot, reverse=True)}
    return sorted(first.values(), key=lot)[:EXAMPLES]


def _lines(rounds: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    return [
        (label, [count_text(key, facts.get(key)) for facts in rounds])
        for key, label in names.items()
        if any(facts.get(key) if key in QUIET else facts.get(key) is not None for facts in rounds)
    ]


def _reasons(rounds: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    lines = []
    for key, form in REASONS.items():
        for reason in dict.fromkeys(reason for facts in rounds for reason in facts.get(key) or {}):
            counts = [count_text("n", (facts.get(key) or {}).get(reason, 0)) for facts in rounds]
            lines.append((form.format(reason.replace("_", " ")), counts))
    return lines


def _labels(statistics: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
    """Finding, pairs in which only chosen says it, pairs in which only rejected does; the most first."""
    names = dict.fromkeys(name for of in statistics for name in of.get("labels") or {})
    sums = [
        (name, *(sum((of.get("labels") or {}).get(name, {}).get(side, 0) for of in statistics) for side in _SIDES))
        for name in names
    ]
    return sorted(sums, key=lambda one: (-one[1] - one[2], one[0]))


_SIDES = ("only_chosen", "only_rejected")


def _example(pair: Pair) -> dict[str, Any]:
    return {
        "id": pair.study_id,
        "round": pair.round,
        "source": f"{pair.chosen_source} over {pair.rejected_source}".replace("_", " "),
        "chosen": pair.chosen,
        "parts": marked_diff(pair.chosen, pair.rejected),
    }
