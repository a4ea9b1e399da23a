"""``local``: any causal language model in this process, held to the verdicts by comparing their log-probabilities.

Nothing is generated: the model is asked which of the allowed answers ("A", "B", "tie"; "yes", "no") it finds likeliest
after the prompt. A duel is asked in both orders. Deterministic, and no text leaves the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from radiograd import models
from radiograd.config import ModelConfig, Section
from radiograd.errors import ModelError
from radiograd.judges.asking import Prompt, as_messages, prompt, render
from radiograd.judges.protocol import Duel, Preference, Question, Usage, Verdict, Winner

_PLACES: Final = ("A", "B", "tie")
_ANSWERS: Final = ("yes", "no")


class LocalOptions(Section):
    """Options of ``local``."""

    model: str
    """smollm2-135m (embedded), a hub id, or a local folder of any causal language model."""
    revision: str | None = None
    """Hub revision (commit or tag) to pin."""
    dtype: str = Field(default="auto", pattern="^(auto|bfloat16|float32)$")
    """auto: bfloat16 where the device computes in it natively, else float32."""
    device: str = Field(default="auto", pattern="^(auto|cpu|cuda)$")
    batch_size: int = Field(default=8, gt=0)
    """Prompts in one forward pass."""
    max_prompt_tokens: int = Field(default=2048, gt=0)
    """Longer prompts are left unscored: a judge that sees half a report is none."""
    calibrate: bool = False
    """Take off what each answer is likely anyway, measured with empty texts in the same prompt."""


class Local:
    """Judges with a model in this process. Satisfies judges.protocol.Judge. Raises ModelError as models.py does."""

    name = "local"
    deterministic = True

    def __init__(self, options: LocalOptions, *, credentialed: bool = False) -> None:
        self.options = options
        models.require_train_extra()
        config = ModelConfig.model_validate(
            {"name": options.model, "revision": options.revision, "dtype": options.dtype, "device": options.device}
        )
        self._tokenizer = models.load_tokenizer(config)
        self._model = models.load_policy(config)
        self._chat = bool(getattr(self._tokenizer, "chat_template", None))
        self._prior: dict[str, dict[str, float]] = {}
        hashes = ",".join(
            f"{name}@{prompt(name).hash}" for name in ("local_prefer", "local_consistent", "local_critical")
        )
        self.signature = (
            f"judge=local|model={options.model}|revision={options.revision}|dtype={models.dtype_of(config)}"
            f"|calibrate={options.calibrate}|{hashes}"
        )

    def prefer(self, duels: Sequence[Duel]) -> list[Preference]:
        """Both orders of every duel; the likeliest of A, B and tie in each."""
        asked = prompt("local_prefer")
        shown = [_shown(asked, duel, swapped) for duel in duels for swapped in (False, True)]
        said = self._weigh(asked, shown, _PLACES, lambda: _shown(asked, Duel("", "", "", ""), False))
        return [_settled(said[2 * k], said[2 * k + 1], asked) for k in range(len(duels))]

    def consistent(self, questions: Sequence[Question]) -> list[Verdict]:
        """Yes or no, whichever is likelier; unscored without findings."""
        asked = prompt("local_consistent")

        def show(question: Question) -> str:
            return render(asked, {"findings": question.findings or "", "impression": question.text})

        return self._yes_no(asked, questions, show, needs_findings=True)

    def critical(self, questions: Sequence[Question]) -> list[Verdict]:
        """Yes or no, whichever is likelier."""
        asked = prompt("local_critical")
        return self._yes_no(asked, questions, lambda q: render(asked, {"report": q.text}), needs_findings=False)

    def _yes_no(
        self, asked: Prompt, questions: Sequence[Question], show: Callable[[Question], str], *, needs_findings: bool
    ) -> list[Verdict]:
        whys = [_refused(question, needs_findings) for question in questions]
        shown = [show(question) for question, why in zip(questions, whys, strict=True) if why is None]
        said = iter(self._weigh(asked, shown, _ANSWERS, lambda: show(Question("", "", ""))))
        return [
            Verdict(None, why=why, prompt_hash=asked.hash) if why is not None else _verdict(next(said), asked)
            for why in whys
        ]

    def _weigh(
        self, asked: Prompt, shown: Sequence[str], answers: Sequence[str], blank: Callable[[], str]
    ) -> list[dict[str, float] | int]:
        """Log-probability of every answer after every prompt; the prompt's tokens where they are too many."""
        prior = dict.fromkeys(answers, 0.0)
        if self.options.calibrate and shown:
            if asked.name not in self._prior:
                (measured,) = self._log_probabilities([self._ids(blank())], answers)
                self._prior[asked.name] = measured
            prior = self._prior[asked.name]
        ids = [self._ids(content) for content in shown]
        longest = min(self.options.max_prompt_tokens, _positions(self._model) - 8)
        fitting = [k for k, tokens in enumerate(ids) if len(tokens) <= longest]
        fitting.sort(key=lambda k: -len(ids[k]))
        weighed: list[dict[str, float] | int] = [len(tokens) for tokens in ids]
        for first in range(0, len(fitting), self.options.batch_size):
            some = fitting[first : first + self.options.batch_size]
            for k, found in zip(some, self._log_probabilities([ids[k] for k in some], answers), strict=True):
                weighed[k] = {answer: value - prior[answer] for answer, value in found.items()}
        return weighed

    def _ids(self, content: str) -> list[int]:
        if self._chat:
            rendered = self._tokenizer.apply_chat_template(
                as_messages(content), add_generation_prompt=True, return_dict=True
            )
            chat: list[int] = rendered["input_ids"]
            return chat
        plain: list[int] = self._tokenizer(f"{content}\n\nAnswer:")["input_ids"]
        return plain

    def _log_probabilities(self, prompts: Sequence[list[int]], answers: Sequence[str]) -> list[dict[str, float]]:
        """Summed over each answer's tokens. One row for a prompt and each different beginning of the answers.

        Rows are padded on the left, so that the answers end where the rows do and the LM head runs there only.
        """
        import torch

        tokens = {answer: self._answer_ids(answer) for answer in answers}
        beginnings = list(dict.fromkeys(tuple(ids[:-1]) for ids in tokens.values()))
        rows = [[*ids, *beginning] for ids in prompts for beginning in beginnings]
        width = max(len(row) for row in rows)
        device, pad = next(self._model.parameters()).device, self._tokenizer.pad_token_id
        input_ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
        with torch.inference_mode(), models.precision(self._model):
            logits = self._model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                use_cache=False,
                logits_to_keep=max(map(len, tokens.values())),
            ).logits.float()
        found = []
        for p in range(len(prompts)):
            values = {}
            for answer, wanted in tokens.items():
                row = p * len(beginnings) + beginnings.index(tuple(wanted[:-1]))
                span = logits[row, -len(wanted) :].log_softmax(-1)
                values[answer] = float(span.gather(-1, torch.tensor(wanted, device=device)[:, None]).sum())
            found.append(values)
        return found

    def _answer_ids(self, answer: str) -> list[int]:
        shown = answer if self._chat else f" {answer}"
        ids: list[int] = self._tokenizer(shown, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ModelError(f"the tokenizer of {self.options.model} has no tokens for {answer!r}; use another model")
        return ids


def _positions(model: Any) -> int:
    return int(getattr(model.config, "max_position_embeddings", None) or 1_000_000)


def _shown(asked: Prompt, duel: Duel, swapped: bool) -> str:
    one, two = (duel.b, duel.a) if swapped else (duel.a, duel.b)
    shown = render(asked, {"findings": duel.findings, "reference": duel.reference})
    return f"{shown}\n\nA: {' '.join(one.split())}\n\nB: {' '.join(two.split())}"


def _settled(first: dict[str, float] | int, second: dict[str, float] | int, asked: Prompt) -> Preference:
    if isinstance(first, int) or isinstance(second, int):
        return Preference(None, why=_too_long(max(_length(first), _length(second))), prompt_hash=asked.hash)
    one, two = max(first, key=first.__getitem__), max(second, key=second.__getitem__)
    winners: tuple[Winner, Winner] = (_side(one, ("a", "b")), _side(two, ("b", "a")))
    said = set(winners)
    winner: Winner = "tie" if {"a", "b"} <= said else "a" if "a" in said else "b" if "b" in said else "tie"
    shown = f"in the order a, b: {_told(first)}; in the order b, a: {_told(second)}"
    return Preference(winner, by_order=winners, rationale=shown, prompt_hash=asked.hash, usage=Usage())


def _side(said: str, order: tuple[Winner, Winner]) -> Winner:
    return order[0] if said == "A" else order[1] if said == "B" else "tie"


def _verdict(said: dict[str, float] | int, asked: Prompt) -> Verdict:
    if isinstance(said, int):
        return Verdict(None, why=_too_long(said), prompt_hash=asked.hash)
    return Verdict(said["yes"] > said["no"], rationale=_told(said), prompt_hash=asked.hash)


def _refused(question: Question, needs_findings: bool) -> str | None:
    if not question.text.strip():
        return "the text is empty"
    if needs_findings and not (question.findings or "").strip():
        return "no findings to hold the impression against"
    return None


def _told(said: Mapping[str, float]) -> str:
    return ", ".join(f"{answer} {value:.2f}" for answer, value in said.items())


def _length(said: dict[str, float] | int) -> int:
    return said if isinstance(said, int) else 0


def _too_long(tokens: int) -> str:
    return f"the prompt has {tokens} tokens, more than the judge reads; raise max_prompt_tokens or use another model"
