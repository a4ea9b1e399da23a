"""Replies as models write them; what does not say exactly one thing is unread, and no reason repeats a reply."""

from __future__ import annotations

import pytest

from radiograd.judges.replies import LONGEST, Unread, read_choice, read_yes_no

SCORES = '{"1": {"accuracy": 5, "relevance": 4, "clarity": 3}, "2": {"accuracy": 1, "relevance": 2.5, "clarity": 3}}'


@pytest.mark.parametrize(
    ("reply", "better"),
    [
        ('{"better": "1"}', "1"),
        ('{"better": 2}', "2"),
        ('{"better": " Tie "}', "tie"),
        ('{"better": "impression_2"}', "2"),
        ('{"better": "Impression 1"}', "1"),
        ('```json\n{"better": "2"}\n```', "2"),
        ('Certainly! {"better": "1"} I hope this helps {you}.', "1"),
        ('{"better": "1"}\n{"better": "1"}', "1"),  # said twice, the same
        ('{"note": {"better": "2"}} {"better": "1"}', "1"),  # what lies in another object is none of the answer
        ('<think>{"better": "2"} or not</think>{"better": "1"}', "1"),
        ('{"better": "2"} no wait</think>{"better": "1"}', "1"),  # the opening tag was in the prompt
        ('<think>a</think><THINKING>{"better": "2"}</THINKING> {"better": "1"}', "1"),
        ('"' * LONGEST + '{"better": "1"}', "1"),
    ],
)
def test_a_choice_is_found(reply: str, better: str) -> None:
    assert read_choice(reply).better == better


def test_scores_and_reason_are_read() -> None:
    choice = read_choice(f'{{"reason": " misses \\n the effusion ", "scores": {SCORES}, "better": "1"}}')
    assert choice.scores["2"] == {"accuracy": 1.0, "relevance": 2.5, "clarity": 3.0}
    assert choice.reason == "misses the effusion"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("SECRET both are fine", "holds no JSON object with 'better'"),
        ('{"worse": "SECRET"}', "holds no JSON object with 'better'"),
        ('{"better": "1" or "2" or "tie"}', "holds no JSON object"),  # our form, repeated
        ('{"better": "3"}', "none of"),
        ('{"better": "SECRET"}', "none of"),
        ('{"better": true}', "none of"),
        ('{"better": ["1"]}', "none of"),
        ('{"better": "1"} {"better": "2"}', "two different answers"),
        ('{"better": "1", "better": "2"}', "a key twice"),
        ('<think>SECRET {"better": "1"}', "in the middle of a thought"),
        ('{"better": "1"}<think>', "in the middle of a thought"),
        ('<think>{"better": "1"}</think>', "holds no JSON object"),
        ('{"better": "1", "scores": 5}', "is not an object with"),
        ('{"better": "1", "scores": {"1": {}, "2": {}}}', "a score for accuracy is no number"),
        (f'{{"better": "1", "scores": {SCORES.replace("5", "6", 1)}}}', "from 1 to 5"),
        (f'{{"better": "1", "scores": {SCORES.replace("5", "NaN", 1)}}}', "from 1 to 5"),
        (f'{{"better": "1", "scores": {SCORES.replace("5", "true", 1)}}}', "from 1 to 5"),
        ('{"better": ' + "[" * 100_000, "holds no JSON object"),
        ("{" * 100_000, "holds no JSON object"),
    ],
)
def test_what_says_nothing_is_unread_without_a_word_of_it(reply: str, why: str) -> None:
    with pytest.raises(Unread, match=why) as caught:
        read_choice(reply)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "value"),
    [('{"critical": true}', True), ('{"critical": "No"}', False), ('```\n{"reason": "x", "critical": "yes"}```', True)],
)
def test_yes_and_no_are_read(reply: str, value: bool) -> None:
    assert read_yes_no(reply, "critical").value is value


@pytest.mark.parametrize("reply", ['{"critical": 1}', '{"critical": null}', '{"critical": "maybe"}', "yes"])
def test_what_is_neither_yes_nor_no_is_unread(reply: str) -> None:
    with pytest.raises(Unread):
        read_yes_no(reply, "critical")
