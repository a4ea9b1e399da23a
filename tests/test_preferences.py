from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from radiograd.preferences import Pair, fingerprint, parse_pairs

PAIR = Pair("s1", "No acute abnormality.", "Left effusion.")
SECRET = "Sekret effusion"


def line(**fields: Any) -> str:
    return json.dumps({"study_id": "s1", "chosen": "Clear lungs.", "rejected": SECRET, **fields}, ensure_ascii=False)


@pytest.mark.parametrize(
    "pair",
    [
        PAIR,
        Pair("s2", "a b", "a c", 2.5, "edit", "expert", 3, "Findings of another.", {"reader": "r7", "seconds": 12}),
    ],
)
def test_a_pair_comes_back_from_its_own_line(pair: Pair) -> None:
    assert Pair.from_json(json.loads(json.dumps(pair.to_json()))) == pair


def test_only_a_study_and_two_texts_must_be_given() -> None:
    assert parse_pairs([line()]).pairs == (Pair("s1", "Clear lungs.", SECRET),)
    assert parse_pairs([line(findings=None)]).pairs == (Pair("s1", "Clear lungs.", SECRET),)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (SECRET, "not JSON"),
        (line(chosen="caf\udce9"), "not UTF-8"),
        (f'["{SECRET}"]', "not a JSON object"),
        (json.dumps({"study_id": "s", "chosen": SECRET}), "rejected is missing"),
        (line(weight=0), "weight 0.0 is not a finite number above 0"),
        (line(weight=-1), "weight -1.0 is not a finite number above 0"),
        (line(weight=True), "weight is of type bool, not a number"),
        (line(weight="2"), "weight is of type str, not a number"),
        (line(chosen=" "), "chosen is empty"),
        (line(chosen=None), "chosen is of type NoneType, not str"),
        (line(chosen=f" {SECRET}\n"), "chosen and rejected are the same text"),
        (line(round=-1), "round -1 is below 0"),
        (line(round=0.5), "round is of type float, not int"),
        (line(study_id=7), "study_id is of type int, not str"),
        (line(study_id=""), "study_id is empty"),
        (line(findings="  "), "findings is empty; leave it out for a study of the run's own training data"),
        (line(chosen_source="guess"), "chosen_source 'guess' is none of reference, judge_winner, expert, edit"),
        (
            line(rejected_source="guess"),
            "rejected_source 'guess' is none of judge_loser, both, random, expert, edit",
        ),
        (line(provenance=3), "provenance is of type int, not dict"),
        (line().replace('"study_id"', '"weight": NaN, "study_id"'), "weight nan is not a finite number above 0"),
    ],
)
def test_a_bad_line_is_named_and_the_good_ones_survive(bad: str, why: str) -> None:
    found = parse_pairs([line(), bad, "", line(study_id="s2")])
    assert [pair.study_id for pair in found.pairs] == ["s1", "s2"]
    assert found.lines == (1, 4)
    assert [(problem.line, problem.why) for problem in found.problems] == [(2, why)]
    assert SECRET not in repr(found.problems)


def test_a_sampled_text_may_hold_the_replacement_character() -> None:
    (pair,) = parse_pairs([line(rejected="caf\ufffd")]).pairs
    assert pair.rejected == "caf\ufffd"


def test_an_unknown_field_is_told_with_the_known_ones() -> None:
    (problem,) = parse_pairs([line(chosn_source="edit")]).problems
    assert problem.why.startswith("unknown field 'chosn_source'; known: study_id, chosen, rejected, weight")


def test_the_fingerprint_changes_with_what_training_sees_and_with_nothing_else() -> None:
    here = fingerprint([PAIR, replace(PAIR, study_id="s2")])
    assert len(bytes.fromhex(here)) == 6
    assert here == fingerprint([replace(PAIR, provenance={"a": 1}), replace(PAIR, study_id="s2")])
    others: list[dict[str, Any]] = [
        {"chosen": "x"},
        {"rejected": "x"},
        {"weight": 2.0},
        {"findings": "x"},
        {"round": 1},
    ]
    assert len({fingerprint([replace(PAIR, **other)]) for other in others}) == len(others)
    assert fingerprint([replace(PAIR, study_id="s2"), PAIR]) != here
