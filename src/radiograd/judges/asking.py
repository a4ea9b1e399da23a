"""Questions to language models: the prompt files, their hashes, and how texts are put into them. Pure but for reading.

A prompt never says where a text comes from: sides are shown as 1 and 2 and told apart by their place alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from typing import Final

from radiograd.errors import UsageError, did_you_mean

PROMPTS: Final = ("prefer", "consistent", "critical", "local_prefer", "local_consistent", "local_critical")
RENDERING: Final = "1"
"""Raised with every change of how texts are put into a prompt; part of every prompt's hash."""
TAGS: Final = ("findings", "reference", "impression_1", "impression_2", "impression", "report")
_OUR_TAG = re.compile(rf"<(?=\s*/?\s*(?:{'|'.join(TAGS)})\b)", re.IGNORECASE)
Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Prompt:
    """``text``: the instruction; ``hash``: twelve hex digits over the file and the rendering version."""

    name: str
    text: str
    hash: str


@lru_cache(maxsize=len(PROMPTS))
def prompt(name: str) -> Prompt:
    """The prompt file called ``name``. UsageError with the nearest name when there is none."""
    if name not in PROMPTS:
        raise UsageError(f"no judge prompt is called {name!r}.{did_you_mean(name, PROMPTS)}")
    content = (resources.files("radiograd.judges") / "prompts" / f"{name}.md").read_bytes()
    return Prompt(name, content.decode("utf-8").strip(), sha256(content + b"\0" + RENDERING.encode()).hexdigest()[:12])


def render(asked: Prompt, parts: Mapping[str, str | None]) -> str:
    """The instruction and then each part between tags of its own name, in the order given; None is left out.

    A part that holds one of our tags keeps it with another bracket, so that no text can end its own part.
    """
    shown = [f"<{name}>\n{_harmless(text)}\n</{name}>" for name, text in parts.items() if text is not None]
    return "\n\n".join([asked.text, *shown])


def as_messages(content: str) -> Messages:
    """One user turn: some chat templates know no system turn."""
    return [{"role": "user", "content": content}]


def _harmless(text: str) -> str:
    return _OUR_TAG.sub("‹", text.strip())
