"""Where text may go, what is asked again, and what a completion says. Addresses are looked up, nothing is sent out."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from radiograd.clients import (
    ChatClient,
    Endpoint,
    backoff_s,
    guess_tokens,
    is_private,
    read_completion,
    require_allowed,
    retry_after_s,
)
from radiograd.errors import ConfigError

HOME = Endpoint("http://127.0.0.1:8000/v1", {"model": "m"})
OUTSIDE = "https://8.8.8.8/v1"


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("0.0.0.0", True),
        ("[::1]", True),
        ("10.1.2.3", True),
        ("172.16.0.1", True),
        ("172.32.0.1", False),
        ("192.168.1.1", True),
        ("169.254.1.1", True),
        ("[fd00::1]", True),
        ("[fe80::1]", True),
        ("8.8.8.8", False),
        ("134744072", False),  # 8.8.8.8 as one number
        ("2130706433", True),  # 127.0.0.1 as one number
        ("[::ffff:8.8.8.8]", False),  # written as IPv6: ip.is_private took it for private before Python 3.13
        ("[::ffff:10.0.0.1]", True),
        ("[2001:4860:4860::8888]", False),
        ("[2001::1]", False),  # a tunnel
        ("192.0.2.1", False),  # documentation: "private" to the standard library
        ("100.64.0.1", False),  # a provider's
        ("no-such-host.invalid", False),
    ],
)
def test_private_is_this_machine_and_private_networks(host: str, private: bool) -> None:
    assert is_private(f"http://{host}:8000/v1") is private


def named(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Every name stands for these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 0)) for address in addresses]
    monkeypatch.setattr("radiograd.clients.socket.getaddrinfo", lambda *_: found)


def test_a_name_is_private_when_all_its_addresses_are(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, "10.0.0.5", "192.168.0.5")
    assert is_private("http://llm.clinic/v1")
    named(monkeypatch, "10.0.0.5", "8.8.8.8")
    assert not is_private("http://llm.clinic/v1")


@pytest.mark.parametrize(
    ("base_url", "said"),
    [
        ("127.0.0.1:8000/v1", "is no http address"),
        ("ftp://127.0.0.1/v1", "is no http address"),
        ("http:///v1", "is no http address"),
        ("http://127.0.0.1:99999/v1", "is no http address"),
        ("http://[::1/v1", "is no http address"),
        ("http://user:SECRET@127.0.0.1/v1", "holds a user, password or query"),
        ("http://127.0.0.1/v1?key=SECRET", "holds a user, password or query"),
        ("http://8.8.8.8/v1", "by https only"),
        ("https://no-such-host.invalid/v1", "no host is called no-such-host.invalid"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_secrets(base_url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        require_allowed(replace(HOME, base_url=base_url))
    assert "SECRET" not in str(caught.value)


def test_credentialed_text_stays_in_the_house_unless_the_config_says_so_in_so_many_words() -> None:
    require_allowed(replace(HOME, credentialed=True))
    require_allowed(replace(HOME, base_url=OUTSIDE))
    with pytest.raises(ConfigError, match=r"third parties.*allow_remote_for_credentialed_text: true"):
        require_allowed(replace(HOME, base_url=OUTSIDE, credentialed=True))
    require_allowed(replace(HOME, base_url=OUTSIDE, credentialed=True, allow_remote_for_credentialed_text=True))


def test_a_name_that_has_moved_outside_is_refused_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, "10.0.0.5")
    client = ChatClient(replace(HOME, base_url="https://llm.clinic/v1", credentialed=True))
    named(monkeypatch, "8.8.8.8")
    with pytest.raises(ConfigError, match="third party"):
        client.ask([[{"role": "user", "content": "x"}]])


def test_keys_come_from_a_named_variable_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUR_KEY", raising=False)
    with pytest.raises(ConfigError, match="variable OUR_KEY is not set"):
        ChatClient(replace(HOME, api_key_env="OUR_KEY"))
    with pytest.raises(ConfigError, match="never the key itself") as caught:
        ChatClient(replace(HOME, api_key_env="sk-SECRET"))
    assert "SECRET" not in str(caught.value)
    monkeypatch.setenv("OUR_KEY", "sk-SECRET")
    client = ChatClient(replace(HOME, api_key_env="OUR_KEY"))
    assert "SECRET" not in repr(client)
    assert "SECRET" not in repr(client.endpoint)


# ---- asking again ----------------------------------------------------------------------------------------------------


def test_waits_double_from_half_a_second_to_half_a_minute() -> None:
    # half a second * 2 ** (attempt - 1), a quarter up or down
    for attempt, middle in ((1, 0.5), (2, 1.0), (3, 2.0), (7, 30.0), (50, 30.0)):
        assert 0.75 * middle <= backoff_s(attempt) <= 1.25 * middle


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("", 0.0), ("-3", 0.0), ("soon", 0.0), ("nan", 0.0), ("inf", 0.0), ("1e999", 0.0)],
)
def test_retry_after_is_read_as_seconds(said: str, seconds: float) -> None:
    assert retry_after_s({"retry-after": said}) == seconds


def test_retry_after_is_read_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < retry_after_s({"retry-after": later}) <= 90
    assert retry_after_s({"retry-after": format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)}) == 0
    assert retry_after_s({}) == 0


# ---- completions -----------------------------------------------------------------------------------------------------


def completion(message: Any, ended: str = "stop", **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": ended}], **more}).encode()


@pytest.mark.parametrize(
    ("body", "text", "why"),
    [
        (completion({"content": "yes"}), "yes", None),
        (completion({"content": [{"type": "text", "text": "y"}, {"type": "text", "text": "es"}]}), "yes", None),
        (completion({"content": "a", "reasoning_content": "b"}), "a", None),
        (completion({"content": None}), None, "the model's reply is empty"),
        (completion({"content": " \n"}), None, "the model's reply is empty"),
        (completion({}), None, "the model's reply is empty"),
        (completion({"content": None, "refusal": "I cannot SECRET"}), None, "the model refused"),
        (completion({"content": ""}, "content_filter"), None, "the model refused"),
        (completion({"content": ""}, "length"), None, "the reply was cut off at max_tokens before it began; raise it"),
        (completion("SECRET"), None, "the endpoint's answer is no chat completion"),
        (completion({"content": 5}), None, "the endpoint's answer is no chat completion"),
        (b'{"choices": []}', None, "the endpoint's answer is no chat completion"),
        (b'{"error": "SECRET"}', None, "the endpoint's answer is no chat completion"),
        (b"[1]", None, "the endpoint's answer is no chat completion"),
        (b"null", None, "the endpoint's answer is no chat completion"),
        (b"data: SECRET", None, "the endpoint's answer is no JSON"),
        (b"", None, "the endpoint's answer is no JSON"),
        (b"\xff\xfe\x00", None, "the endpoint's answer is no JSON"),
        (b"[" * 200_000, None, "the endpoint's answer is no JSON"),
    ],
)
def test_a_completion_has_a_text_or_a_reason(body: bytes, text: str | None, why: str | None) -> None:
    reply = read_completion(body)
    assert (reply.text, reply.why) == (text, why)


def test_of_several_choices_the_first_is_read() -> None:
    body = {"choices": [{"message": {"content": "one"}}, {"message": {"content": "two"}}]}
    assert read_completion(json.dumps(body).encode()).text == "one"


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3}, (7, 3)),
        ({"prompt_tokens": -7, "completion_tokens": "3"}, (0, 0)),
        ({"prompt_tokens": True}, (0, 0)),
        (None, (0, 0)),
        ([7, 3], (0, 0)),
    ],
)
def test_tokens_are_what_the_endpoint_counts(usage: Any, tokens: tuple[int, int]) -> None:
    reply = read_completion(completion({"content": "x"}, usage=usage))
    assert (reply.prompt_tokens, reply.completion_tokens) == tokens


def test_tokens_are_guessed_from_bytes() -> None:
    assert guess_tokens("x" * 400) == 104  # 400 / 4 + 4
    assert guess_tokens("é") == 5  # two bytes, rounded up, + 4
