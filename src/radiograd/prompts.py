"""Study -> what the model reads and what it should answer. One place, so training, sampling and evaluation agree.

What is shown is :mod:`radiograd.tasks`'s; how it is laid out is here. Pure text and message handling; the tokenizer is
handed in and only called.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from radiograd.config import ModelConfig
from radiograd.errors import ConfigError, DataError, ModelError
from radiograd.tasks import TASKS, Given
from radiograd.types import REPORT, Study

Messages = list[dict[str, str]]
REDACTED = "XXXX"
"""What the OpenI release writes where words were removed. Never a training target."""
_MARK = re.compile(rf"[ \t]*{REDACTED}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: ``content`` is chat messages, or plain text for a model without a chat template."""

    study_id: str
    content: Messages | str
    cut: bool
    """Whether what is shown was cut to fit ``max_prompt_tokens``."""


def alignable(studies: Sequence[Study], prompts: int, section: str) -> list[Study]:
    """The studies a policy is aligned on by reward, with the references that it is held against.

    An impression that holds a redaction mark leaves its study out: the mark would be paid for. Whole reports keep
    every study and lose the marks alone (:func:`unredacted`): leaving studies out would halve what is abnormal among
    them (docs/data.md). DataError when there are fewer than the ``prompts`` of one rollout.
    """
    if section == REPORT:
        cleaned = [unredacted(study) for study in studies]
        return _enough([s for s in cleaned if s.sections.findings and s.sections.impression], prompts, section)
    return _enough(_whole(studies, section), prompts, section)


def imitable(studies: Sequence[Study], section: str) -> list[Study]:
    """The studies whose reference can be the better side of a pair, which is learnt word by word: those without a
    redaction mark. DataError when there is none."""
    return _enough(_whole(studies, section), 1, section)


def unredacted(study: Study) -> Study:
    """``study`` with the redaction marks taken out of findings and impression; a mark alone becomes ""."""
    sections = study.sections
    findings, impression = (
        None if text is None else _MARK.sub("", text).strip() for text in (sections.findings, sections.impression)
    )
    return replace(study, sections=replace(sections, findings=findings, impression=impression))


def _whole(studies: Sequence[Study], section: str) -> list[Study]:
    return [study for study in studies if REDACTED not in (study.sections.text(section) or "")]


def _enough(kept: list[Study], prompts: int, section: str) -> list[Study]:
    if len(kept) >= prompts:
        return kept
    asked = f"align.prompts={prompts} or more training studies" if prompts > 1 else "a training study"
    raise DataError(
        f"alignment needs {asked} whose {section} holds no {REDACTED}; there are {len(kept)}. "
        "Lower align.prompts or give more data"
    )


class Prompter:
    """Builds prompts and targets of one ``task`` for one tokenizer: any transformers tokenizer with offsets.

    A chat template that refuses a system turn gets the instruction at the start of the user turn. Raises ConfigError
    when ``max_prompt_tokens`` leaves no room for what is shown, ModelError when the chat template cannot be used.
    """

    def __init__(self, tokenizer: Any, config: ModelConfig, task: str) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.task = TASKS[task]
        self.chat = bool(getattr(tokenizer, "chat_template", None))
        self.system_turn = self.chat and self._renders(system_turn=True)
        if self.chat and not self.system_turn and not self._renders(system_turn=False):
            raise ModelError(f"the chat template of {config.name} refuses a single user turn; give another model")
        frame = max(self._frame(((label, ""),)) for label, _ in self.task.shown)
        if frame >= config.max_prompt_tokens:
            raise ConfigError(
                f"model.max_prompt_tokens={config.max_prompt_tokens} leaves no room for "
                f"{' and '.join(label.lower() for label, _ in self.task.shown)}: "
                f"the instruction around them takes {frame} tokens"
            )

    def prompt(self, study: Study) -> Prompt:
        """The prompt of a study; one too long for ``max_prompt_tokens`` loses the end of what is shown, at a token's
        end: the last text first, with its label when nothing is left of it."""
        given, cut = self.task.given(study), False
        content = self._content(given)
        while len(self.ids(content)) > self.config.max_prompt_tokens:
            given, content = self._cut(given)
            cut = True
        return Prompt(study.study_id, content, cut)

    def target(self, study: Study) -> str:
        """What the model should answer."""
        return self.task.target(study)

    def ids(self, content: Messages | str) -> list[int]:
        """Token ids of a prompt's content, generation header included."""
        if isinstance(content, str):
            plain: list[int] = self.tokenizer(content)["input_ids"]
            return plain
        rendered = self.tokenizer.apply_chat_template(content, add_generation_prompt=True, return_dict=True)
        chat: list[int] = rendered["input_ids"]
        return chat

    def target_ids(self, text: str) -> list[int]:
        """Token ids of the answer, end-of-turn token included."""
        text = text.strip()
        encoded = self.tokenizer(text if self.chat else " " + text, add_special_tokens=False)
        return [*encoded["input_ids"], self.tokenizer.eos_token_id]

    def target_labels(self, text: str) -> list[int]:
        """As :meth:`target_ids` with -100 on tokens that overlap a redaction mark: kept as context, never learnt."""
        text = text.strip()
        shown = text if self.chat else " " + text
        encoded = self.tokenizer(shown, add_special_tokens=False, return_offsets_mapping=True)
        redacted = _spans(shown, REDACTED)
        labels = [
            -100 if any(start < b and a < end for a, b in redacted) else token
            for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]
        return [*labels, self.tokenizer.eos_token_id]

    def _cut(self, given: Given) -> tuple[Given, Messages | str]:
        """``given`` with its last text cut to fit, or without it where none of it fits and another stands before."""
        room = self.config.max_prompt_tokens
        *before, (label, text) = given
        offsets: Sequence[tuple[int, int]] = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True
        )["offset_mapping"]
        kept = min(len(offsets) - 1, room - self._frame((*before, (label, ""))))
        while kept > 0:
            shorter = (*before, (label, text[: offsets[kept - 1][1]]))
            content = self._content(shorter)
            if len(self.ids(content)) <= room:  # words may split otherwise in place
                return shorter, content
            kept -= 1
        shorter = tuple(before) or ((label, ""),)
        return shorter, self._content(shorter)

    def _frame(self, given: Given) -> int:
        return len(self.ids(self._content(given)))

    def _content(self, given: Given) -> Messages | str:
        shown = "\n".join(f"{label}: {text}" for label, text in given)
        if not self.chat:
            return f"{self.config.system_prompt}\n\n{shown}\n\n{self.task.asks}"
        return _turns(self.config.system_prompt, shown, self.system_turn)

    def _renders(self, *, system_turn: bool) -> bool:
        from jinja2 import TemplateError

        try:
            self.ids(_turns(self.config.system_prompt, "", system_turn))
        except TemplateError:  # what a template raises, and what it trips over
            return False
        return True


def _turns(instruction: str, shown: str, system_turn: bool) -> Messages:
    if not system_turn:
        return [{"role": "user", "content": f"{instruction}\n\n{shown}"}]
    return [{"role": "system", "content": instruction}, {"role": "user", "content": shown}]


def _spans(text: str, mark: str) -> list[tuple[int, int]]:
    spans, start = [], text.find(mark)
    while start >= 0:
        spans.append((start, start + len(mark)))
        start = text.find(mark, start + len(mark))
    return spans
