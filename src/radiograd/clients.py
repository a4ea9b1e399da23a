"""Chat endpoints that speak the OpenAI protocol: many requests at a time, retried, within a budget.

``httpx2`` does the talking. What is ours: how many requests are under way, when a failed one is asked
again (429, 408, 409, 5xx, silence, broken connections; not before Retry-After, which holds back the other requests
too), what may be spent, where report text may go, and which failures concern one request and which the whole endpoint.

No request, reply or key is logged, and no error repeats one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from radiograd.errors import ConfigError, JudgeError, MissingExtra

Messages = list[dict[str, str]]
ALLOW_REMOTE: Final = "allow_remote_for_credentialed_text"
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)
_HOPELESS: Final = {
    301: "redirects elsewhere (301), and texts follow no redirect; give the final address as base_url",
    302: "redirects elsewhere (302), and texts follow no redirect; give the final address as base_url",
    307: "redirects elsewhere (307), and texts follow no redirect; give the final address as base_url",
    308: "redirects elsewhere (308), and texts follow no redirect; give the final address as base_url",
    401: "refuses the key (401); set the environment variable that api_key_env names to a valid key",
    403: "forbids the request (403); the key has no right to this model",
    404: "does not know the path or the model (404); check base_url (it mostly ends in /v1) and model",
}
_GUESSED_REPLY: Final = 300
"""Tokens of a reply, where no most is set."""
_LONGEST: Final = 4_000_000
"""Bytes of an answer that is read; our questions need a thousandth of it."""
_LONGEST_WAIT_S: Final = 600.0
"""An endpoint that asks to be left alone for longer has refused."""
_KNOCKS: Final = 3
"""Attempts after which an address where nobody ever answered is given up."""
_CONNECT_S: Final = 10.0
_POOL: Final = 8
"""Connections that share a pool, which looks through all of its own for every request."""
_FIRST_WAIT_S: Final = 0.5
_BACKOFF_LIMIT_S: Final = 30.0
_HOUSE: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/32",
        "10.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::/127",
        "fc00::/7",
        "fe80::/10",
    )
)
"""This machine, private networks (RFC 1918, 4193), one's own link. ``ip.is_private`` is wider: it holds tunnels too."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how to ask. ``body``: what every request holds besides its messages (model, temperature, ...).

    ``api_key_env``: name of the environment variable that holds the key, None where none is needed. ``retries``: how
    often a failed request is asked again. ``timeout_s``: seconds until an answer is whole. ``token_budget``: prompt and
    completion tokens of the client's whole life, None for no end; ``reply_tokens``: the most tokens of a reply, for the
    budget. ``credentialed``: the texts may not leave the house; see :func:`require_allowed`.
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
    reply_tokens: int | None = None


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
    found = _addresses(urlsplit(base_url).hostname or "")
    return bool(found) and all(any(one in network for network in _HOUSE) for one in found)


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        entries = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return []
    found = [ipaddress.ip_address(entry) for entry in entries]
    return [getattr(one, "ipv4_mapped", None) or one for one in found]  # ::ffff:8.8.8.8 is 8.8.8.8


def require_allowed(endpoint: Endpoint) -> None:
    """ConfigError for an address that is none, plain http to the outside, and credentialed text sent outside.

    Credentialed reports (MIMIC-CXR and whatever else came under a data use agreement) go to loopback and private
    addresses only, unless the options say otherwise in so many words.
    """
    try:
        url = urlsplit(endpoint.base_url)
        known = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        plain = url.username is None and url.password is None and not (url.query or url.fragment)
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
    if not _addresses(url.hostname or ""):
        raise ConfigError(f"base_url: no host is called {url.hostname}; check the name, or the network it is in")
    if url.scheme == "http":
        raise ConfigError(f"base_url: {url.hostname} is no private address; reports and keys go there by https only")
    if endpoint.credentialed and not endpoint.allow_remote_for_credentialed_text:
        raise ConfigError(
            f"these reports are credentialed and {url.hostname} is a third party: PhysioNet's data use agreement "
            "forbids sending credentialed text to third parties, online services included. Use an endpoint on this "
            f"machine or in your own network (base_url=http://127.0.0.1:8000/v1), or judge=rules. If your agreement "
            f"does allow it, say so: {ALLOW_REMOTE}: true"
        )


def _key(endpoint: Endpoint) -> str | None:
    name = endpoint.api_key_env
    if name is None:
        return None
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
    """Asks one endpoint. ``spent_tokens`` is what it has counted so far. One :meth:`ask` at a time.

    Raises ConfigError for an address or key that cannot be used (:func:`require_allowed`) and MissingExtra without
    ``httpx2``, before anything is sent.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        require_allowed(endpoint)
        self.endpoint = endpoint
        self.spent_tokens = 0
        self._reserved = 0
        self._reached = self._worked = False
        self._not_before = 0.0
        self._one_asks = threading.Lock()
        self._api_key = _key(endpoint)
        self._http = _httpx()
        self._tls = self._http.create_ssl_context()  # 20 ms: once, not for every pool
        self._url = f"{endpoint.base_url.rstrip('/')}/chat/completions"
        self._body = {name: value for name, value in endpoint.body.items() if value is not None}

    def ask(self, conversations: Sequence[Messages], seen: Callable[[int, Reply], None] | None = None) -> list[Reply]:
        """One reply for each, in order; ``seen`` gets number and reply as they come.

        A request that fails after all retries has a reply that says why. So have all that are left once the budget
        would be exceeded. Raises JudgeError when the endpoint cannot be asked at all: nobody listens there, or it
        refuses the key, the path or the model; and ConfigError when its name has come to mean another place.
        """
        replies: list[Reply | None] = [None] * len(conversations)

        def keep(number: int, reply: Reply) -> None:
            replies[number] = reply
            if seen is not None:
                seen(number, reply)

        if conversations:
            with self._one_asks:
                require_allowed(self.endpoint)  # a name may have moved since
                _run(self._ask_all(conversations, keep))
        return [reply for reply in replies if reply is not None]

    async def _ask_all(self, conversations: Sequence[Messages], keep: Callable[[int, Reply], None]) -> None:
        waiting = iter(range(len(conversations)))
        freed = asyncio.Condition()
        workers = min(self.endpoint.concurrency, len(conversations))
        async with AsyncExitStack() as opened:
            clients = [await opened.enter_async_context(self._connect()) for _ in range(-(-workers // _POOL))]
            try:
                async with asyncio.TaskGroup() as group:
                    for k in range(workers):
                        group.create_task(self._work(clients[k // _POOL], waiting, freed, conversations, keep))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None

    def _connect(self) -> Any:
        http, endpoint = self._http, self.endpoint
        headers = {"content-type": "application/json", "accept": "application/json", "user-agent": "radiograd"}
        if self._api_key is not None:
            headers["authorization"] = f"Bearer {self._api_key}"
        # inside the house a proxy could carry the texts elsewhere: a transport of one's own uses none
        limits = http.Limits(max_connections=_POOL, max_keepalive_connections=_POOL)
        inside = is_private(endpoint.base_url)
        timeout = http.Timeout(None, connect=min(_CONNECT_S, endpoint.timeout_s))
        return http.AsyncClient(
            headers=headers,
            timeout=timeout,
            verify=self._tls,
            limits=limits,
            transport=http.AsyncHTTPTransport(verify=self._tls, limits=limits) if inside else None,
            follow_redirects=False,
        )

    async def _work(
        self,
        client: Any,
        waiting: Iterator[int],
        freed: asyncio.Condition,
        conversations: Sequence[Messages],
        keep: Callable[[int, Reply], None],
    ) -> None:
        for number in waiting:
            messages = conversations[number]
            prompt = sum(guess_tokens(m["content"]) for m in messages)
            most = prompt + (self.endpoint.reply_tokens or _GUESSED_REPLY)
            if not await self._reserve(most, freed):
                budget = self.endpoint.token_budget
                keep(number, Reply(None, why=f"the token budget of {budget} is spent; raise token_budget"))
                continue
            try:
                reply = await self._patiently(client, messages)
                counted = reply.prompt_tokens + reply.completion_tokens
                self.spent_tokens += counted or (prompt + guess_tokens(reply.text) if reply.text else 0)
            finally:
                async with freed:
                    self._reserved -= most
                    freed.notify_all()
            keep(number, reply)

    async def _reserve(self, most: int, freed: asyncio.Condition) -> bool:
        """Whether ``most`` tokens may be spent; waits where that depends on what the requests under way will cost."""
        budget = self.endpoint.token_budget
        async with freed:
            if budget is not None:
                await freed.wait_for(
                    lambda: self.spent_tokens + most > budget or self.spent_tokens + self._reserved + most <= budget
                )
                if self.spent_tokens + most > budget:
                    return False
            self._reserved += most
            return True

    async def _patiently(self, client: Any, messages: Messages) -> Reply:
        """The reply, after as many retries as it takes and are allowed."""
        started, retries = time.perf_counter(), self.endpoint.retries
        for attempt in range(1, retries + 2):
            while (left := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(left * (1 + 0.1 * random.random()))
            reply, wait_s = await self._once(client, messages, attempt)
            if wait_s is None or attempt > retries:
                break
            await asyncio.sleep(wait_s or backoff_s(attempt))
        return replace(reply, asked=attempt, seconds=time.perf_counter() - started)

    async def _once(self, client: Any, messages: Messages, attempt: int) -> tuple[Reply, float | None]:
        """The reply and, where asking again may help, the seconds the endpoint wants to be left alone (0: not said)."""
        http, content = self._http, json.dumps({**self._body, "messages": messages}).encode()
        try:
            async with (
                asyncio.timeout(self.endpoint.timeout_s),
                client.stream("POST", self._url, content=content) as response,
            ):
                self._reached = True
                body = await _read_body(response)
        except (http.ConnectError, http.ConnectTimeout):
            if not self._reached and attempt >= min(_KNOCKS, self.endpoint.retries + 1):
                tls = " and its certificate" if self._url.startswith("https:") else ""
                raise self._cannot(f"cannot be connected to; start the server, or check base_url{tls}") from None
            return Reply(None, why="the endpoint cannot be connected to"), 0.0
        except (TimeoutError, http.TimeoutException):
            return Reply(None, why=f"no answer within {self.endpoint.timeout_s:g} s"), 0.0
        except http.HTTPError:
            return Reply(None, why="the connection broke off"), 0.0
        if body is None:
            return Reply(None, why=f"the endpoint's answer is longer than {_LONGEST} bytes"), None
        if response.status_code != 200:
            return self._refused(response.status_code, response.headers, body)
        self._worked = True
        return read_completion(body), None

    def _refused(self, status: int, headers: Mapping[str, str], body: bytes) -> tuple[Reply, float | None]:
        if status in _HOPELESS and (status == 401 or not self._worked):
            raise self._cannot(_HOPELESS[status])
        if status == 400:
            named = _named_key(body)
            about = f", naming {named}" if named in self._body else ""
            return Reply(None, why=f"the endpoint refuses the request (400{about})"), None
        why = "the endpoint limits the rate (429)" if status == 429 else f"the endpoint answers {status}"
        if not (status in (408, 409, 429) or status >= 500):
            return Reply(None, why=why), None
        wait_s = retry_after_s(headers)
        if wait_s > _LONGEST_WAIT_S:
            return Reply(None, why=f"{why} and asks to be left alone for {wait_s:.0f} s"), None
        if wait_s:
            self._not_before = max(self._not_before, time.monotonic() + wait_s)
        return Reply(None, why=why), wait_s

    def _cannot(self, what: str) -> JudgeError:
        url = urlsplit(self.endpoint.base_url)
        return JudgeError(f"the chat endpoint {url.scheme}://{url.netloc}{url.path} {what}")


def backoff_s(attempt: int) -> float:
    """Seconds after failed attempt 1, 2, ...: doubling from half a second to half a minute, a quarter up or down."""
    return float(min(_FIRST_WAIT_S * 2 ** (attempt - 1), _BACKOFF_LIMIT_S) * random.uniform(0.75, 1.25))


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds that Retry-After asks for, as a number or a date; 0 where it says nothing that can be used."""
    said = headers.get("retry-after", "").strip()
    try:
        seconds = float(said)
    except ValueError:
        try:
            date = parsedate_to_datetime(said)
            seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0


async def _read_body(response: Any) -> bytes | None:
    """The whole of it; None when it is longer than anything we asked for."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > _LONGEST:
            return None
    return bytes(body)


def _named_key(body: bytes) -> str | None:
    """The key of the request that an endpoint dislikes. Its message may repeat a report and is not looked at."""
    try:
        named = json.loads(body)["error"]["param"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return named if isinstance(named, str) else None


def read_completion(body: bytes) -> Reply:
    """A chat completion as it came over the wire: its text and its tokens, or what is wrong with it.

    Of several choices the first is read. Content given in parts is joined; what a model thought apart is no content.
    """
    try:
        value = json.loads(body)
        choice = value["choices"][0]
        message, ended = choice["message"], choice.get("finish_reason")
        text = _joined(message.get("content"))
    except (ValueError, RecursionError):
        return Reply(None, why="the endpoint's answer is no JSON")
    except (LookupError, TypeError, AttributeError):
        return Reply(None, why="the endpoint's answer is no chat completion")
    usage = value.get("usage")
    why = None
    if not text.strip():
        refused = ended == "content_filter" or bool(message.get("refusal"))
        cut = "the reply was cut off at max_tokens before it began; raise it"
        why = "the model refused" if refused else cut if ended == "length" else "the model's reply is empty"
    return Reply(
        text=text if why is None else None,
        why=why,
        cut=ended == "length",
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
    )


def _joined(content: Any) -> str:
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part["type"] == "text")
    if content is not None and not isinstance(content, str):
        raise TypeError
    return content or ""


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _httpx() -> Any:
    try:
        import httpx2
    except ImportError as error:
        raise MissingExtra("A chat judge", "judge") from error
    for name in ("httpx2", "httpcore2"):
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.WARNING:
            logger.setLevel(logging.WARNING)  # their debug lines hold whole requests, their info lines addresses
    return httpx2


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
