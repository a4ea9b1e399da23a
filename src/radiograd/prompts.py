"""Study -> what the model reads and what it should answer. One place, so training, sampling and evaluation agree.

Pure text and message handling; the tokenizer is handed in and only called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from radiograd.config import ModelConfig
from radiograd.errors import ConfigError, DataError, ModelError
from radiograd.types import Study

Messages = list[dict[str, str]]
REDACTED = "XXXX"
"""What the OpenI release writes where words were removed. Never a training target."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: ``content`` is chat messages, or plain text for a model without a chat template."""

    study_id: str
    content: Messages | str
    cut: bool
    """Whether the findings were cut to fit ``max_prompt_tokens``."""


def alignable(studies: Sequence[Study], prompts: int) -> list[Study]:
    """The studies a policy is aligned on: the others' references hold a redaction mark, which would be paid for.

    DataError when there are fewer than the ``prompts`` of one rollout.
    """
    kept = [study for study in studies if REDACTED not in (study.sections.impression or "")]
    if len(kept) < prompts:
        raise DataError(
            f"alignment needs align.prompts={prompts} or more training studies whose impression holds no "
            f"{REDACTED}; there are {len(kept)}. Lower align.prompts or give more data"
        )
    return kept


class Prompter:
    """Builds prompts and targets for one tokenizer. ``tokenizer`` is any transformers tokenizer with offsets.

    A chat template that refuses a system turn gets the instruction at the start of the user turn. Raises ConfigError
    when ``max_prompt_tokens`` leaves no room for findings, ModelError when the chat template cannot be used.
    """

    def __init__(self, tokenizer: Any, config: ModelConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.chat = bool(getattr(tokenizer, "chat_template", None))
        self.system_turn = self.chat and self._renders(system_turn=True)
        if self.chat and not self.system_turn and not self._renders(system_turn=False):
            raise ModelError(f"the chat template of {config.name} refuses a single user turn; give another model")
        self._frame = len(self.ids(self._content("")))
        if self._frame >= config.max_prompt_tokens:
            raise ConfigError(
                f"model.max_prompt_tokens={config.max_prompt_tokens} leaves no room for findings: "
                f"the instruction around them takes {self._frame} tokens"
            )

    def prompt(self, study: Study) -> Prompt:
        """The prompt of a study; findings too long for ``max_prompt_tokens`` are cut at a token's end."""
        findings = (study.sections.findings or "").strip()
        encoded = self.tokenizer(findings, add_special_tokens=False, return_offsets_mapping=True)
        offsets: Sequence[tuple[int, int]] = encoded["offset_mapping"]
        kept = len(offsets)
        content = self._content(findings)
        while kept and len(self.ids(content)) > self.config.max_prompt_tokens:  # words may split otherwise in place
            kept = min(kept - 1, self.config.max_prompt_tokens - self._frame)
            content = self._content(findings[: offsets[kept - 1][1]] if kept else "")
        return Prompt(study.study_id, content, kept < len(offsets))

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

    def _content(self, findings: str) -> Messages | str:
        if not self.chat:
            return f"{self.config.system_prompt}\n\nFindings: {findings}\n\nImpression:"
        return _turns(self.config.system_prompt, findings, self.system_turn)

    def _renders(self, *, system_turn: bool) -> bool:
        from jinja2 import TemplateError

        try:
            self.ids(_turns(self.config.system_prompt, "", system_turn))
        except TemplateError:  # what a template raises, and what it trips over
            return False
        return True


def _turns(instruction: str, findings: str, system_turn: bool) -> Messages:
    if not system_turn:
        return [{"role": "user", "content": f"{instruction}\n\nFindings: {findings}"}]
    return [{"role": "system", "content": instruction}, {"role": "user", "content": f"Findings: {findings}"}]


def _spans(text: str, mark: str) -> list[tuple[int, int]]:
    spans, start = [], text.find(mark)
    while start >= 0:
        spans.append((start, start + len(mark)))
        start = text.find(mark, start + len(mark))
    return spans
