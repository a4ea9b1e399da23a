"""What every judge promises, built in or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback import serve

from radiograd.errors import ConfigError
from radiograd.judges.builtin import JUDGES, load_judge
from radiograd.judges.protocol import CRITERIA, Duel, Preference, Question, Verdict

FINDINGS = "Small left pleural effusion. The heart is normal in size. No pneumothorax."
DUELS = [
    Duel("s1", FINDINGS, "Small left pleural effusion.", "No acute abnormality."),
    Duel("s2", FINDINGS, "Normal chest.", "Left pleural effusion, small.", reference="Small left pleural effusion."),
    Duel("s3", FINDINGS, "Small effusion.", ""),
    Duel("s1", FINDINGS, "Small left pleural effusion.", "No acute abnormality."),
]
QUESTIONS = [
    Question("s1", "Small left pleural effusion.", FINDINGS),
    Question("s2", "Pneumothorax.", FINDINGS),
    Question("s3", "", FINDINGS),
]


@pytest.fixture(scope="module", params=sorted(JUDGES))
def judge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if request.param == "chat":
        cache = str(tmp_path_factory.mktemp("contract") / "replies.sqlite")
        with serve() as server:
            made: Any = load_judge("chat", {"base_url": server.base_url, "model": "longer", "cache": cache})
            yield made
            made.close()
    elif request.param == "local":
        folder: Path = request.getfixturevalue("tiny_model")
        yield load_judge("local", {"model": str(folder), "device": "cpu", "dtype": "float32"})
    else:
        yield load_judge(request.param)


def gist(answer: Preference | Verdict) -> Preference | Verdict:
    """The answer without what it cost and without the digits of a rationale."""
    return replace(answer, usage=type(answer.usage)(), rationale="")


def test_there_is_one_answer_each_in_order(judge: Any) -> None:
    preferences = judge.prefer(DUELS)
    assert [type(p) for p in preferences] == [Preference] * len(DUELS)
    assert gist(preferences[0]) == gist(preferences[3])
    for found in (judge.consistent(QUESTIONS), judge.critical(QUESTIONS)):
        assert [type(v) for v in found] == [Verdict] * len(QUESTIONS)


def test_nothing_asked_is_nothing_answered(judge: Any) -> None:
    assert judge.prefer([]) == judge.consistent([]) == judge.critical([]) == []


def test_an_answer_does_not_depend_on_its_batch_or_order(judge: Any) -> None:
    together = [gist(p) for p in judge.prefer(DUELS)]
    assert [gist(judge.prefer([duel])[0]) for duel in DUELS] == together
    assert [gist(p) for p in judge.prefer(DUELS[::-1])][::-1] == together


def test_sides_that_change_places_change_the_winner_with_them(judge: Any) -> None:
    mirrored = [replace(duel, a=duel.b, b=duel.a) for duel in DUELS]
    turned = {"a": "b", "b": "a", "tie": "tie", None: None}
    assert [p.winner for p in judge.prefer(mirrored)] == [turned[p.winner] for p in judge.prefer(DUELS)]


def test_two_orders_and_whole_scores(judge: Any) -> None:
    for preference in judge.prefer(DUELS):
        assert preference.winner is not None
        assert len(preference.by_order) == 2
        for side in preference.scores.values():
            assert set(side) == set(CRITERIA)
            assert all(1 <= value <= 5 for value in side.values())


def test_what_cannot_be_asked_is_unscored_with_a_reason(judge: Any) -> None:
    empty, no_findings = Question("s", "  ", FINDINGS), Question("s", "Effusion.", None)
    found = [*judge.consistent([empty, no_findings, replace(no_findings, findings=" ")]), *judge.critical([empty])]
    assert [v.value for v in found] == [None] * 4
    assert all(v.why for v in found)


def test_the_signature_names_the_judge_and_does_not_change(judge: Any) -> None:
    before = judge.signature
    judge.prefer(DUELS[:1])
    assert judge.signature == before
    assert before.startswith(f"judge={judge.name}|")


def test_prompted_judges_name_their_prompt(judge: Any) -> None:
    (preference,) = judge.prefer(DUELS[:1])
    assert (preference.prompt_hash == "") is (judge.name == "rules")
    assert preference.prompt_hash in judge.signature


# ---- loading by name -------------------------------------------------------------------------------------------------


class Own:
    """A user's judge."""

    signature = "judge=own"

    def __init__(self, bar: int = 3) -> None:
        self.bar = bar

    def prefer(self, duels: list[Duel]) -> list[Preference]:
        return [Preference("tie") for _ in duels]

    def consistent(self, questions: list[Question]) -> list[Verdict]:
        return [Verdict(True) for _ in questions]

    critical = consistent


class Half:
    """No judge."""


def test_a_judge_of_ones_own_is_loaded_by_its_path() -> None:
    judge: Any = load_judge(f"{__name__}:Own", {"bar": 5})
    assert judge.bar == 5
    assert judge.prefer(DUELS)[0].winner == "tie"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ruels", {}, "Did you mean 'rules'"),
        ("rules", {"margin": 1}, "has no option 'margin'"),
        ("chat", {"model": "m"}, "option 'base_url' is missing"),
        ("chat", {"base_url": "http://127.0.0.1:1/v1", "model": "m", "timeout": 3}, "Did you mean 'timeout_s'"),
        ("chat", {"base_url": "http://127.0.0.1:1/v1", "model": "m", "extra": {"n": 2}}, "n: an option of its own"),
        ("chat", {"base_url": "http://127.0.0.1:1/v1", "model": "m", "extra": {"stream": True}}, "stream: an option"),
        (f"{__name__}:Own", {"foo": 1}, "has no option 'foo'"),
        (f"{__name__}:Half", {}, "lacks signature, prefer, consistent, critical"),
        (f"{__name__}:FINDINGS", {}, "neither a class nor a function"),
    ],
)
def test_what_is_wrong_with_a_name_or_an_option_is_said(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_judge(name, options)


def test_an_answer_has_a_value_or_a_reason() -> None:
    for broken in (lambda: Preference(None), lambda: Preference("a", why="x"), lambda: Verdict(None)):
        with pytest.raises(ValueError, match="exactly one"):
            broken()
