"""``chat``: any endpoint that speaks the OpenAI chat protocol, asked with our prompts, its replies kept on disk.

A duel is asked in both orders; a judge that names another side in each looked at the place, and its verdict is a tie.
A reply that cannot be read is kept too, and stays unscored: the same question again would cost and say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from radiograd import assets
from radiograd.clients import ChatClient, Endpoint, Messages, Reply, guess_tokens
from radiograd.config import Section
from radiograd.judges.asking import Prompt, as_messages, prompt, render
from radiograd.judges.cache import Kept, ReplyCache, key_of
from radiograd.judges.protocol import Duel, Preference, Question, Usage, Verdict, Winner
from radiograd.judges.replies import Choice, Unread, read_choice, read_yes_no

_WORDS_OF_A_REPLY: Final = 120
"""Tokens that our answer form mostly takes."""
_OURS: Final = ("model", "messages", "temperature", "max_tokens", "seed", "response_format", "n", "stream")
"""Keys of a request that ``extra`` may not hold: they are options, or decide how the answer is read."""
Order = Literal["ab", "ba"]


class ChatOptions(Section):
    """Options of ``chat``."""

    base_url: str
    """The endpoint's address before /chat/completions, e.g. http://127.0.0.1:8000/v1."""
    model: str
    """The model's name as the endpoint knows it."""
    model_revision: str = ""
    """Free text that tells two models of one name apart: part of the cache key and of the signature."""
    api_key_env: str | None = None
    """NAME of the environment variable that holds the key; none for a server without keys."""
    temperature: float | None = Field(default=0.0, ge=0.0)
    """null leaves it to the endpoint (some models take none)."""
    max_tokens: int | None = Field(default=512, gt=0)
    """Most tokens of a reply; null leaves it to the endpoint. Models that think before they answer need thousands."""
    seed: int | None = None
    """Sent when given; endpoints may ignore it."""
    sample: int = Field(default=0, ge=0)
    """Another number asks again what is in the cache."""
    json_object: bool = False
    """Send response_format json_object, where the endpoint knows it."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """More keys of the request's body, such as chat_template_kwargs."""
    concurrency: int = Field(default=16, gt=0, le=256)
    """Requests under way at a time."""
    timeout_s: float = Field(default=120.0, gt=0.0)
    """Seconds until an answer must be whole; then it is asked for again."""
    retries: int = Field(default=5, ge=0)
    """How often a failed request is asked again."""
    token_budget: int | None = Field(default=None, gt=0)
    """Tokens after which nothing more is asked; what is left is unscored. null: no end."""
    price_per_million_prompt: float | None = Field(default=None, ge=0.0)
    """For the estimate, in any currency."""
    price_per_million_completion: float | None = Field(default=None, ge=0.0)
    """For the estimate, in the same currency."""
    cache: str | None = None
    """File of replies; none: judges/replies.sqlite in radiograd's cache folder."""
    allow_remote_for_credentialed_text: bool = False
    """Say true only when your data use agreement lets credentialed reports go to this endpoint."""

    @field_validator("extra")
    @classmethod
    def _leaves_ours_alone(cls, extra: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(extra.keys() & set(_OURS))
        if taken:
            raise ValueError(f"{', '.join(taken)}: an option of its own, or fixed (one answer, not streamed)")
        return extra


@dataclass(frozen=True, slots=True)
class Estimate:
    """What asking would cost. ``requests`` are those not in the cache; tokens are guessed (clients.guess_tokens).

    ``completion_tokens`` supposes replies as long as our answer form; ``most_completion_tokens`` is the limit set.
    ``money`` is None without prices.
    """

    requests: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    most_completion_tokens: int | None
    money: float | None


class Chat:
    """Judges by asking an endpoint. Satisfies judges.protocol.Judge; ``client`` and ``cache`` are open to be looked at.

    Raises ConfigError, MissingExtra or JudgeError when it cannot work at all, before a text is sent.
    """

    name = "chat"

    def __init__(self, options: ChatOptions, *, credentialed: bool = False) -> None:
        self.options = options
        self._credentialed = credentialed
        self._body = {
            "model": options.model,
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
            "seed": options.seed,
            "response_format": {"type": "json_object"} if options.json_object else None,
            **options.extra,
        }
        self.client = ChatClient(
            Endpoint(
                base_url=options.base_url,
                body=self._body,
                api_key_env=options.api_key_env,
                concurrency=options.concurrency,
                timeout_s=options.timeout_s,
                retries=options.retries,
                token_budget=options.token_budget,
                credentialed=credentialed,
                allow_remote_for_credentialed_text=options.allow_remote_for_credentialed_text,
                reply_tokens=options.max_tokens,
            )
        )
        self.cache = ReplyCache(_cache_path(options.cache))
        hashes = ",".join(f"{name}@{prompt(name).hash}" for name in ("prefer", "consistent", "critical"))
        revision = f"|revision={options.model_revision}" if options.model_revision else ""
        self.signature = (
            f"judge=chat|model={options.model}{revision}|temperature={options.temperature}"
            f"|max_tokens={options.max_tokens}|seed={options.seed}|sample={options.sample}"
            f"|json_object={options.json_object}|extra={key_of(options.extra).hex()[:8]}|{hashes}"
        )

    def prefer(self, duels: Sequence[Duel]) -> list[Preference]:
        """Both orders of every duel; unscored when either cannot be known."""
        asked = prompt("prefer")
        contents = [_shown(asked, duel, order) for duel in duels for order in ("ab", "ba")]
        replies = self._ask(contents)
        return [_settled(replies[2 * k], replies[2 * k + 1], asked) for k in range(len(duels))]

    def consistent(self, questions: Sequence[Question]) -> list[Verdict]:
        """Whether each impression follows from its findings; unscored, and not asked, without findings."""
        return self._yes_no(prompt("consistent"), questions, _shown_impression, _no_findings)

    def critical(self, questions: Sequence[Question]) -> list[Verdict]:
        """Whether each report describes anything abnormal; unscored, and not asked, when it is empty."""
        return self._yes_no(prompt("critical"), questions, _shown_report, _no_text)

    def estimate(
        self, duels: Sequence[Duel] = (), consistent: Sequence[Question] = (), critical: Sequence[Question] = ()
    ) -> Estimate:
        """What asking these would cost; nothing is sent."""
        contents = [_shown(prompt("prefer"), duel, order) for duel in duels for order in ("ab", "ba")]
        contents += [_shown_impression(q) for q in consistent if _no_findings(q) is None]
        contents += [_shown_report(q) for q in critical if _no_text(q) is None]
        keys = {self._key(as_messages(content)): content for content in contents}
        there = self.cache.get(list(keys))
        missing = [content for key, content in keys.items() if key not in there]
        tokens = sum(map(guess_tokens, missing))
        most = self.options.max_tokens
        said = len(missing) * (_WORDS_OF_A_REPLY if most is None else min(most, _WORDS_OF_A_REPLY))
        prices = self.options.price_per_million_prompt, self.options.price_per_million_completion
        money = None if prices[0] is None or prices[1] is None else (tokens * prices[0] + said * prices[1]) / 1e6
        limit = None if most is None else most * len(missing)
        return Estimate(len(missing), len(keys) - len(missing), tokens, said, limit, money)

    def again(self) -> Chat:
        """The same judge, asked anew: another sample, another seed where one is set."""
        seed = None if self.options.seed is None else self.options.seed + 1
        changed = {"sample": self.options.sample + 1, "seed": seed}
        other = Chat(self.options.model_copy(update=changed), credentialed=self._credentialed)
        other.client.spent_tokens = self.client.spent_tokens  # one budget for both
        return other

    def close(self) -> None:
        """Close the file of replies; the judge cannot be used again."""
        self.cache.close()

    # ---- asking ------------------------------------------------------------------------------------------------------

    def _yes_no(
        self,
        asked: Prompt,
        questions: Sequence[Question],
        content: Callable[[Question], str],
        refuse: Callable[[Question], str | None],
    ) -> list[Verdict]:
        whys = [refuse(q) for q in questions]
        replies = iter(self._ask([content(q) for q, why in zip(questions, whys, strict=True) if why is None]))
        return [
            Verdict(None, why=why, prompt_hash=asked.hash) if why is not None else _verdict(next(replies), asked)
            for why in whys
        ]

    def _key(self, messages: Messages) -> bytes:
        revision, sample = self.options.model_revision, self.options.sample
        return key_of({"body": self._body, "revision": revision, "sample": sample, "messages": messages})

    def _ask(self, contents: Sequence[str]) -> list[Reply]:
        """One reply each; what is in the cache, or asked by another of the same batch, costs nothing."""
        conversations = [as_messages(content) for content in contents]
        keys = [self._key(messages) for messages in conversations]
        replies = {
            key: Reply(kept.text, cut=kept.cut) for key, kept in self.cache.get(list(dict.fromkeys(keys))).items()
        }
        missing = {key: messages for key, messages in zip(keys, conversations, strict=True) if key not in replies}
        order = list(missing)

        def keep(number: int, reply: Reply) -> None:
            if reply.text is not None:
                cost = reply.prompt_tokens, reply.completion_tokens, reply.seconds
                self.cache.put(order[number], Kept(reply.text, reply.cut, *cost))

        fresh = dict(zip(order, self.client.ask(list(missing.values()), keep), strict=True))
        found = []
        for key in keys:
            if key in fresh:
                found.append(fresh.pop(key))
                replies[key] = Reply(found[-1].text, found[-1].why, found[-1].cut)
            else:
                found.append(replies[key])
        return found


def _cache_path(named: str | None) -> Path:
    return Path(named).expanduser() if named else assets.cache_folder() / "judges" / "replies.sqlite"


def _shown_impression(question: Question) -> str:
    return render(prompt("consistent"), {"findings": question.findings, "impression": question.text})


def _shown_report(question: Question) -> str:
    return render(prompt("critical"), {"report": question.text})


def _no_text(question: Question) -> str | None:
    return None if question.text.strip() else "the text is empty"


def _no_findings(question: Question) -> str | None:
    there = question.findings and question.findings.strip()
    return _no_text(question) or (None if there else "no findings to hold the impression against")


def _shown(asked: Prompt, duel: Duel, order: str) -> str:
    one, two = (duel.a, duel.b) if order == "ab" else (duel.b, duel.a)
    parts = {"findings": duel.findings, "reference": duel.reference, "impression_1": one, "impression_2": two}
    return render(asked, parts)


def _settled(first: Reply, second: Reply, asked: Prompt) -> Preference:
    usage = _usage(first) + _usage(second)
    try:
        choices = [_read(reply, read_choice) for reply in (first, second)]
    except Unread as error:
        return Preference(None, why=str(error), prompt_hash=asked.hash, usage=usage)
    named: tuple[dict[str, Winner], dict[str, Winner]] = ({"1": "a", "2": "b"}, {"1": "b", "2": "a"})
    winners: list[Winner] = [names.get(c.better, "tie") for names, c in zip(named, choices, strict=True)]
    said = set(winners)
    # a side that wins one order and draws the other is preferred, if faintly; sides that win one each are not
    winner: Winner = "tie" if {"a", "b"} <= said else "a" if "a" in said else "b" if "b" in said else "tie"
    return Preference(
        winner,
        by_order=tuple(winners),
        scores=_mean_scores(choices, named),
        rationale=choices[0].reason,
        prompt_hash=asked.hash,
        usage=usage,
    )


def _mean_scores(choices: Sequence[Choice], named: Sequence[Mapping[str, Winner]]) -> dict[str, dict[str, float]]:
    """Per side and criterion, the mean over the orders that gave scores."""
    given: dict[str, dict[str, list[float]]] = {}
    for names, choice in zip(named, choices, strict=True):
        for place, scores in choice.scores.items():
            for criterion, value in scores.items():
                given.setdefault(names[place], {}).setdefault(criterion, []).append(value)
    return {
        side: {criterion: sum(values) / len(values) for criterion, values in scores.items()}
        for side, scores in sorted(given.items())
    }


def _verdict(reply: Reply, asked: Prompt) -> Verdict:
    try:
        answer = _read(reply, lambda text: read_yes_no(text, asked.name))
    except Unread as error:
        return Verdict(None, why=str(error), prompt_hash=asked.hash, usage=_usage(reply))
    return Verdict(answer.value, rationale=answer.reason, prompt_hash=asked.hash, usage=_usage(reply))


def _read(reply: Reply, read: Callable[[str], Any]) -> Any:
    if reply.text is None:
        raise Unread(reply.why or "no reply")
    try:
        return read(reply.text)
    except Unread as error:
        if reply.cut:
            raise Unread("the reply was cut off at max_tokens; raise it") from error
        raise


def _usage(reply: Reply) -> Usage:
    return Usage(reply.asked, reply.prompt_tokens, reply.completion_tokens, reply.seconds)
