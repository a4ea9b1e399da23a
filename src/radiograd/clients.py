"""Chat endpoints that speak the OpenAI protocol: many requests at a time, retried, within a budget.

The ``openai`` package does the talking: it waits and asks again after 429 (as long as Retry-After says, up to a
minute), 408, 409, 5xx, timeouts and broken connections. What is ours: how many requests are under way, what may be
spent, where report text may go, and which failures concern one request and which the whole endpoint.

No request, reply or key is logged, and no error repeats one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from radiograd.errors import ConfigError, JudgeError, MissingExtra

Messages = list[dict[str, str]]
ALLOW_REMOTE: Final = "allow_remote_for_credentialed_text"
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)
_HOPELESS: Final = {
    401: "refuses the key (401); set the environment variable that api_key_env names to a valid key",
    403: "forbids the request (403); the key has no right to this model",
    404: "does not know the path or the model (404); check base_url (it mostly ends in /v1) and model",
}
_NOBODY: Final = ("ConnectError", "ConnectTimeout", "UnsupportedProtocol")
_GUESSED_REPLY: Final = 300
"""Tokens of a reply, where no most is set."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how to ask. ``body``: what every request holds besides its messages (model, temperature, ...).

    ``api_key_env``: name of the environment variable that holds the key, None where none is needed. ``retries``: how
    often a failed request is asked again. ``token_budget``: prompt and completion tokens of the client's whole life,
    None for no end. ``credentialed``: the texts may not leave the house; see :func:`require_allowed`.
    """

    base_url: str
    body: Mapping[str, Any]
    api_key_env: str | None = None
    concurrency: int = 16
    timeout_s: float = 120.0
    retries: int = 5
    token_budget: int | None = None
    credentialed: bool = False
    allow_remote_for_credentialed_text: bool = False
    reply_tokens: int | None = field(default=None)
    """The most tokens of a reply, for the budget."""


@dataclass(frozen=True, slots=True)
class Reply:
    """``text`` or, when there is none, ``why`` not. ``asked``: requests really sent. ``cut``: at the most tokens."""

    text: str | None
    why: str | None = None
    cut: bool = False
    asked: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


def guess_tokens(text: str) -> int:
    """About how many tokens a text is: a quarter of its bytes in UTF-8, rounded up, and four of framing.

    English reports run at 3.5 to 4.5 bytes a token with current tokenizers; other scripts need more.
    """
    return -(-len(text.encode("utf-8", "replace")) // 4) + 4


# ---- where text may go -----------------------------------------------------------------------------------------------


def is_private(base_url: str) -> bool:
    """Whether every address of the host is loopback or of a private network; False for one that is not found."""
    host = urlsplit(base_url).hostname or ""
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    found = [ipaddress.ip_address(address.partition("%")[0]) for address in addresses]
    return bool(found) and all(one.is_loopback or one.is_private for one in found)


def require_allowed(endpoint: Endpoint) -> None:
    """ConfigError for an address that is none, plain http to the outside, and credentialed text sent outside.

    Credentialed reports (MIMIC-CXR and whatever else came under a data use agreement) go to loopback and private
    addresses only, unless the options say otherwise in so many words.
    """
    try:
        url = urlsplit(endpoint.base_url)
        known = url.scheme in ("http", "https") and bool(url.hostname)
        plain = url.username is None and url.password is None and not url.query
    except ValueError:
        known = plain = False
    if not known:
        raise ConfigError(
            "base_url is no http address; give the one before /chat/completions, e.g. http://host:8000/v1"
        )
    if not plain:
        raise ConfigError("base_url holds a user, password or query; leave it out and name the key with api_key_env")
    if is_private(endpoint.base_url):
        return
    if url.scheme == "http":
        raise ConfigError(f"base_url: {url.hostname} is no private address; reports and keys go there by https only")
    if endpoint.credentialed and not endpoint.allow_remote_for_credentialed_text:
        raise ConfigError(
            f"these reports are credentialed and {url.hostname} is a third party: PhysioNet's data use agreement "
            "forbids sending credentialed text to third parties, online services included. Use an endpoint on this "
            f"machine or in your own network (base_url=http://127.0.0.1:8000/v1), or judge=rules. If your agreement "
            f"does allow it, say so: {ALLOW_REMOTE}: true"
        )


def _key(endpoint: Endpoint) -> str:
    name = endpoint.api_key_env
    if name is None:
        return "none"  # the package wants one; servers without keys look at none
    if not _ENV_NAME.fullmatch(name):
        raise ConfigError("api_key_env is the NAME of an environment variable (OPENAI_API_KEY), never the key itself")
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"the environment variable {name} is not set; put the endpoint's key there: export {name}=..."
        )
    return key


# ---- asking ----------------------------------------------------------------------------------------------------------


class ChatClient:
    """Asks one endpoint. ``spent_tokens`` is what it has counted so far.

    Raises ConfigError for an address or key that cannot be used (:func:`require_allowed`) and MissingExtra without
    the ``openai`` package, before anything is sent.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        require_allowed(endpoint)
        self.endpoint = endpoint
        self.spent_tokens = 0
        self._reserved = 0
        self._answered = False
        self._api_key = _key(endpoint)
        self._package = _openai()
        self._outside = not is_private(endpoint.base_url)

    def ask(self, conversations: Sequence[Messages], seen: Callable[[int, Reply], None] | None = None) -> list[Reply]:
        """One reply for each, in order; ``seen`` gets number and reply as they come.

        A request that fails after all retries has a reply that says why. So have all that are left once the budget
        would be exceeded. Raises JudgeError when the endpoint cannot be asked at all: nobody listens there, or it
        refuses the key, the path or the model.
        """
        replies: list[Reply | None] = [None] * len(conversations)

        def keep(number: int, reply: Reply) -> None:
            replies[number] = reply
            if seen is not None:
                seen(number, reply)

        if conversations:
            _run(self._ask_all(conversations, keep))
        return [reply for reply in replies if reply is not None]

    async def _ask_all(self, conversations: Sequence[Messages], keep: Callable[[int, Reply], None]) -> None:
        waiting = iter(range(len(conversations)))
        async with self._connect() as client:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self.endpoint.concurrency, len(conversations))):
                        group.create_task(self._work(client, waiting, conversations, keep))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None

    def _connect(self) -> Any:
        package, endpoint = self._package, self.endpoint
        # a redirect or a proxy could carry the texts elsewhere
        http = package.DefaultAsyncHttpxClient(follow_redirects=False, trust_env=self._outside)
        return package.AsyncOpenAI(
            api_key=self._api_key,
            base_url=endpoint.base_url,
            timeout=endpoint.timeout_s,
            max_retries=endpoint.retries,
            http_client=http,
        )

    async def _work(
        self,
        client: Any,
        waiting: Iterator[int],
        conversations: Sequence[Messages],
        keep: Callable[[int, Reply], None],
    ) -> None:
        for number in waiting:
            messages = conversations[number]
            most = sum(guess_tokens(m["content"]) for m in messages) + (self.endpoint.reply_tokens or _GUESSED_REPLY)
            budget = self.endpoint.token_budget
            if budget is not None and self.spent_tokens + self._reserved + most > budget:
                keep(number, Reply(None, why=f"the token budget of {budget} is spent; raise token_budget"))
                continue
            self._reserved += most
            try:
                reply = await self._one(client, messages)
            finally:
                self._reserved -= most
            self.spent_tokens += reply.prompt_tokens + reply.completion_tokens
            keep(number, reply)

    async def _one(self, client: Any, messages: Messages) -> Reply:
        package, started = self._package, time.perf_counter()
        try:
            raw = await client.chat.completions.with_raw_response.create(messages=messages, **self._arguments())
        except package.APIStatusError as error:
            self._answered = True
            if error.status_code in _HOPELESS:
                raise self._cannot(f"{_HOPELESS[error.status_code]}") from None
            why = {400: "the endpoint refuses the request (400)", 429: "the endpoint limits the rate (429)"}.get(
                error.status_code, f"the endpoint answers {error.status_code}"
            )
            return Reply(None, why=why, asked=_asked(error), seconds=time.perf_counter() - started)
        except package.APITimeoutError as error:
            self._check_listening(error)
            why = f"no answer within {self.endpoint.timeout_s:g} s"
            return Reply(None, why=why, asked=_asked(error), seconds=time.perf_counter() - started)
        except package.APIConnectionError as error:
            self._check_listening(error)
            why = "the connection broke off"
            return Reply(None, why=why, asked=_asked(error), seconds=time.perf_counter() - started)
        self._answered = True
        return read_completion(raw.text, asked=raw.retries_taken + 1, seconds=time.perf_counter() - started)

    def _arguments(self) -> dict[str, Any]:
        known = ("model", "temperature", "max_tokens", "seed", "response_format")
        body = {name: value for name, value in self.endpoint.body.items() if value is not None}
        arguments = {name: body.pop(name) for name in known if name in body}
        return {**arguments, "extra_body": body} if body else arguments

    def _check_listening(self, error: Exception) -> None:
        """JudgeError when nobody has ever answered and there is nobody to connect to."""
        if not self._answered and type(error.__cause__).__name__ in _NOBODY:
            raise self._cannot("cannot be connected to; start the server, or check base_url") from None

    def _cannot(self, what: str) -> JudgeError:
        url = urlsplit(self.endpoint.base_url)
        return JudgeError(f"the chat endpoint {url.scheme}://{url.netloc}{url.path} {what}")


def read_completion(body: str, *, asked: int, seconds: float) -> Reply:
    """A chat completion as it came over the wire: its text and its tokens, or what is wrong with it."""
    try:
        value = json.loads(body)
        choice = value["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, RecursionError):
        return Reply(None, why="the endpoint's answer is no JSON", asked=asked, seconds=seconds)
    except (LookupError, TypeError):
        return Reply(None, why="the endpoint's answer is no chat completion", asked=asked, seconds=seconds)
    usage = value.get("usage")
    empty = not isinstance(text, str) or not text.strip()
    return Reply(
        text=None if empty else text,
        why="the model's reply is empty" if empty else None,
        cut=choice.get("finish_reason") == "length",
        asked=asked,
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        seconds=seconds,
    )


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _asked(error: Any) -> int:
    """Requests that were sent before it was given up: the package counts retries in a header."""
    with suppress(AttributeError, RuntimeError, ValueError):
        return int(error.request.headers.get("x-stainless-retry-count", "0")) + 1
    return 1


def _openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise MissingExtra("A chat judge", "judge") from error
    for name in ("openai", "httpx2", "httpcore2", "httpx", "httpcore"):
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.WARNING:
            logger.setLevel(logging.WARNING)  # their debug lines hold whole requests, their info lines addresses
    return openai


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end; in a thread of its own where an event loop already runs (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    failed: list[BaseException] = []

    def alone() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 (raised again where it is waited for)
            failed.append(error)

    thread = threading.Thread(target=alone)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
