"""The chat judge against a real HTTP server that delays, fails, limits the rate and talks nonsense."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from loopback import Served

from radiograd import clients
from radiograd.errors import ConfigError, JudgeError
from radiograd.judges.protocol import Duel, Question, Usage

SECRET = "Zebrafish"  # a word of the reports: nowhere but in requests
FINDINGS = f"{SECRET}. Small left pleural effusion."
DUEL = Duel("s1", FINDINGS, f"{SECRET}: small left pleural effusion.", "Effusion.")
Make = Callable[..., Any]


def duels(n: int) -> list[Duel]:
    """Different duels whose b is the longer."""
    return [Duel(f"s{k}", FINDINGS, f"Effusion {k}.", f"A small left effusion {k}.") for k in range(n)]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between retries a twentieth as long."""
    monkeypatch.setattr(clients, "_FIRST_WAIT_S", 0.025)


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_both_orders_are_asked_and_scores_are_means(shared: Served, chat: Make) -> None:
    (found,) = chat(shared, "longer").prefer([DUEL])
    assert (found.winner, found.by_order, found.contradicted) == ("a", ("a", "a"), False)
    assert found.scores["a"] == {"accuracy": 5.0, "relevance": 5.0, "clarity": 5.0}
    assert found.scores["b"] == {"accuracy": 3.0, "relevance": 3.0, "clarity": 3.0}
    assert found.rationale == "by length"
    usage = found.usage
    assert (usage.asked, usage.prompt_tokens, usage.completion_tokens) == (2, 200, 40)
    assert usage.seconds > 0


def test_a_judge_that_looks_at_the_place_has_answered_a_tie(shared: Served, chat: Make) -> None:
    (found,) = chat(shared, "first").prefer([DUEL])
    assert (found.winner, found.by_order, found.contradicted) == ("tie", ("a", "b"), True)
    # each side was once 5 and once 3
    assert found.scores["a"] == found.scores["b"] == {"accuracy": 4.0, "relevance": 4.0, "clarity": 4.0}


@pytest.mark.parametrize("model", ["longer", "chatty", "thinks"])
def test_an_answer_is_read_in_a_fence_and_after_a_thought(shared: Served, chat: Make, model: str) -> None:
    judge = chat(shared, model)
    assert judge.prefer([DUEL])[0].winner == "a"
    found = judge.consistent([Question("s", "An effusion.", "Clear."), Question("s", "An effusion.", "An effusion.")])
    assert [v.value for v in found] == [False, True]
    found = judge.critical([Question("s", "An effusion."), Question("s", "Clear.")])
    assert [v.value for v in found] == [True, False]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("nonsense", "the reply holds no JSON object with 'better'"),
        ("thinks-for-ever", "the reply ends in the middle of a thought"),
        ("half-a-reply", "the reply was cut off at max_tokens; raise it"),
        ("silent", "the model's reply is empty"),
        ("refuses", "the model refused"),
        ("not-json", "the endpoint's answer is no JSON"),
        ("streams", "the endpoint's answer is no JSON"),
        ("binary", "the endpoint's answer is no JSON"),
        ("other-json", "the endpoint's answer is no chat completion"),
        ("bad-request", "the endpoint refuses the request (400)"),
        ("names-a-key", "the endpoint refuses the request (400, naming max_tokens)"),
        ("down", "the endpoint answers 500"),
        ("always-limited", "the endpoint limits the rate (429)"),
        ("too-long-a-wait", "the endpoint limits the rate (429) and asks to be left alone for 86400 s"),
        ("closes", "the connection broke off"),
        ("cut-off", "the connection broke off"),
        ("hangs", "no answer within 0.4 s"),
        ("drips", "no answer within 0.4 s"),
    ],
)
def test_what_fails_is_unscored_and_says_why_without_a_word_of_the_report(
    shared: Served, chat: Make, caplog: pytest.LogCaptureFixture, model: str, why: str
) -> None:
    caplog.set_level(logging.DEBUG)
    (found,) = chat(shared, model, retries=1, timeout_s=0.4).prefer([DUEL])
    assert (found.winner, found.why) == (None, why)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("locked", r"refuses the key \(401\)"),
        ("absent", r"does not know the path or the model \(404\)"),
        ("elsewhere", r"redirects elsewhere \(307\)"),
    ],
)
def test_what_concerns_the_whole_endpoint_ends_the_run(shared: Served, chat: Make, model: str, said: str) -> None:
    with pytest.raises(JudgeError, match=said) as caught:
        chat(shared, model).prefer(duels(20))
    assert SECRET not in str(caught.value)


def test_nobody_there_ends_the_run_at_once(chat: Make) -> None:
    nobody = Served(9)  # the discard port
    with pytest.raises(JudgeError, match=r"http://127.0.0.1:9/v1 cannot be connected to; start the server"):
        chat(nobody, "m").prefer([DUEL])


# ---- asking again, and at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["flaky", "closes-once"])
def test_what_fails_once_is_asked_again(served: Served, chat: Make, model: str) -> None:
    found = chat(served, model).prefer(duels(10))
    assert [p.winner for p in found] == ["b"] * 10
    assert sum(p.usage.asked for p in found) == served.counts()["requests"] == 40


def test_retries_end(served: Served, chat: Make) -> None:
    (found,) = chat(served, "down", retries=2).prefer([DUEL])
    assert found.usage.asked == served.counts()["requests"] == 6


def test_what_is_our_own_fault_is_not_asked_again(served: Served, chat: Make) -> None:
    chat(served, "bad-request", retries=5).prefer([DUEL])
    assert served.counts()["requests"] == 2


def test_retry_after_holds_back_every_request(served: Served, chat: Make) -> None:
    found = chat(served, "limited", concurrency=2).prefer([DUEL])
    assert found[0].winner == "a"
    first, second, third, fourth = served.counts()["times"]
    assert second - first < 0.5  # both were under way
    assert min(third, fourth) - first >= 0.95  # the server said one second


def test_no_more_requests_are_under_way_than_allowed(slow: Served, chat: Make) -> None:
    started = time.monotonic()
    chat(slow, "longer", concurrency=12).prefer(duels(24))
    assert slow.counts()["most_at_once"] == 12
    assert 0.4 <= time.monotonic() - started < 5  # 48 requests, 12 at a time, a tenth of a second each


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_a_rerun_asks_nothing_twice(served: Served, chat: Make) -> None:
    first = chat(served, "longer").prefer(duels(5))
    again = chat(served, "longer").prefer(duels(6))
    assert served.counts()["requests"] == 12
    assert [p.winner for p in again[:5]] == [p.winner for p in first]
    assert {p.usage for p in again[:5]} == {Usage()}
    assert again[5].usage.asked == 2


def test_the_same_question_in_one_batch_is_asked_once(served: Served, chat: Make) -> None:
    chat(served, "longer").prefer([DUEL] * 8)
    assert served.counts()["requests"] == 2


def test_an_unreadable_reply_is_kept_and_a_missing_one_is_not(served: Served, chat: Make) -> None:
    for model, requests in (("nonsense", 2), ("silent", 4)):
        before = served.counts()["requests"]
        for _ in range(2):
            assert chat(served, model).prefer([DUEL])[0].winner is None
        assert served.counts()["requests"] - before == requests


def test_whatever_can_change_a_reply_is_asked_anew(served: Served, chat: Make) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"temperature": 0.7},
        {"temperature": None},
        {"max_tokens": 99},
        {"seed": 1},
        {"sample": 1},
        {"model_revision": "b"},
        {"extra": {"top_p": 0.5}},
        {"json_object": True},
    ]
    signatures = set()
    for k, change in enumerate(changes):
        judge = chat(served, "longer", **change)
        judge.prefer([DUEL])
        assert served.counts()["requests"] == 2 * (k + 1)
        signatures.add(judge.signature)
    assert len(signatures) == len(changes)


def test_whatever_cannot_change_a_reply_is_not(served: Served, chat: Make) -> None:
    for change in ({}, {"concurrency": 3}, {"timeout_s": 5.0}, {"retries": 1}, {"token_budget": 10**6}):
        chat(served, "longer", **change).prefer([DUEL])
    assert served.counts()["requests"] == 2


def test_asked_anew_is_another_sample_of_the_same_budget(served: Served, chat: Make) -> None:
    judge = chat(served, "longer", seed=5)
    judge.prefer([DUEL])
    other = judge.again()
    assert (other.options.sample, other.options.seed) == (1, 6)
    assert other.client.spent_tokens == judge.client.spent_tokens == 240
    other.prefer([DUEL])
    assert served.counts()["requests"] == 4
    other.close()


# ---- what it costs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["longer", "counts-nothing"])
def test_the_budget_is_never_exceeded_and_the_rest_is_unscored(served: Served, chat: Make, model: str) -> None:
    judge = chat(served, model, token_budget=3000, max_tokens=50, concurrency=4)
    found = judge.prefer(duels(40))
    assert 2000 < judge.client.spent_tokens <= 3000
    assert {p.why for p in found if p.winner is None} == {"the token budget of 3000 is spent; raise token_budget"}
    assert 0 < sum(p.winner is not None for p in found) < 40
    before = served.counts()["requests"]
    assert sum(p.usage.asked for p in found) == before
    raised = chat(served, model, token_budget=10**6, max_tokens=50).prefer(duels(40))
    assert all(p.winner == "b" for p in raised)
    assert served.counts()["requests"] == 80  # what had been paid for was not asked again


def test_requests_under_way_are_waited_for_before_the_budget_is_called_spent(slow: Served, chat: Make) -> None:
    # each may take 450 + 1000 tokens and takes 120: three at once would not fit into 3500, one after another do
    judge = chat(slow, "longer", token_budget=3500, max_tokens=1000, concurrency=16)
    assert [p.winner for p in judge.prefer(duels(4))] == ["b"] * 4


def test_the_estimate_sends_nothing_and_knows_the_cache(served: Served, chat: Make) -> None:
    judge = chat(served, "longer", price_per_million_prompt=2.0, price_per_million_completion=10.0)
    questions = [Question("s", "An effusion.", "An effusion."), Question("s", "", "An effusion.")]
    found = judge.estimate(duels(10), consistent=questions, critical=questions)
    assert served.counts()["requests"] == 0
    assert (found.requests, found.cached) == (22, 0)  # two orders of ten, one of each question: the other is empty
    assert found.completion_tokens == 22 * 120
    assert found.most_completion_tokens == 22 * 512
    assert found.money == pytest.approx((found.prompt_tokens * 2 + found.completion_tokens * 10) / 1e6)
    judge.prefer(duels(4))
    assert judge.estimate(duels(10)).requests == 12
    assert judge.estimate(duels(10)).cached == 8
    assert chat(served, "longer").estimate(duels(1)).money is None


# ---- keys, credentials, places ---------------------------------------------------------------------------------------


def test_only_our_own_key_and_headers_are_sent(
    served: Served, chat: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # inside the house no proxy is used
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another")
    monkeypatch.setenv("OUR_KEY", "sk-ours")
    chat(served, "longer").prefer([DUEL])
    chat(served, "first", api_key_env="OUR_KEY").prefer([DUEL])
    counts = served.counts()
    assert counts["keys"] == ["", "sk-ours"]
    assert not [name for name in counts["headers"] if name.startswith(("openai", "x-"))]
    assert "sk-ours" not in caplog.text


def test_credentialed_reports_are_refused_outside_before_anything_is_sent(chat: Make, shared: Served) -> None:
    with pytest.raises(ConfigError, match="third party"):
        chat(shared, "m", credentialed=True, base_url="https://8.8.8.8/v1")
    judge = chat(shared, "longer", credentialed=True)
    assert judge.prefer([DUEL])[0].winner == "a"
    chat(
        shared, "m", credentialed=True, base_url="https://8.8.8.8/v1", allow_remote_for_credentialed_text=True
    )  # says so in so many words


def test_it_works_where_an_event_loop_already_runs(shared: Served, chat: Make) -> None:
    judge = chat(shared, "longer")

    async def in_a_notebook() -> Any:
        return judge.prefer([DUEL])

    assert asyncio.run(in_a_notebook())[0].winner == "a"
