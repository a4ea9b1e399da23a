"""Batched decoding that pays for a prompt once and lets finished rows go.

A group's prompt is read once and its keys and values are kept once, where attention is ours, else repeated; rows that
have written their end token leave the batch, so the longest answer no longer holds up the others. Exact: the same
tokens as decoding every row to the end.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from radiograd import adapters, attention, lanes, models, packing
from radiograd.prompt_cache import PromptCache


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    repeats: int = 1,
    max_new_tokens: int,
    eos: Sequence[int],
    pad: int,
    temperature: float | None = None,
) -> list[list[int]]:
    """New tokens for each prompt, ``repeats`` rows a prompt in order, end token included when written.

    ``temperature`` None is greedy; else plain sampling from softmax(logits / temperature) with torch's global
    generator, whose state a checkpoint keeps. Positions count real tokens only.
    """
    import torch

    # drawn beforehand, a row's own numbers: what it says depends on no other row, nor on who computes it
    draws = None if temperature is None else torch.rand(len(prompts) * repeats, max_new_tokens, dtype=torch.float64)
    shares = repeats > 1 and attention.keeps_apart(model.config.get_text_config())
    kind = _PackedRows if shares else _PaddedRows  # behind a prompt of its own a row is cheaper in one piece
    out: list[list[int]] = [[] for _ in range(len(prompts) * repeats)]

    def write(mine: list[int]) -> None:
        numbers = [place * repeats + repeat for place in mine for repeat in range(repeats)]
        with torch.inference_mode(), models.precision(model):
            state = kind(model, [prompts[place] for place in mine], repeats, pad)
            _write(state, [out[number] for number in numbers], None if draws is None else draws[numbers], settings)

    settings = (max_new_tokens, torch.tensor(sorted(set(eos)), device=model.device), temperature)
    with adapters.unchanging(), _contiguous_head(model):
        wide = lanes.width(model, len(prompts))
        sizes = [len(prompt) + repeats * max_new_tokens for prompt in prompts]
        lanes.run([functools.partial(write, lane) for lane in lanes.balanced(sizes, wide)])
    return out


def _write(state: Any, out: list[list[int]], draws_B_T: Any, settings: tuple[int, Any, float | None]) -> None:
    """Append tokens to the rows of ``out`` until each has written an end token or as many as it may."""
    import torch

    max_new_tokens, ends, temperature = settings
    logits = state.logits
    rows = torch.arange(len(out))
    for step in range(max_new_tokens):
        drawn = None if draws_B_T is None else draws_B_T[rows, step].to(logits.device)
        token = _pick(logits.float(), temperature, drawn)
        for row, value in zip(rows.tolist(), token.tolist(), strict=True):
            out[row].append(value)
        going = ~torch.isin(token, ends)
        if step + 1 == max_new_tokens or not bool(going.any()):
            break
        if not bool(going.all()):
            keep = going.nonzero().squeeze(-1)
            state.keep(keep)
            rows, token = rows[keep.cpu()], token[keep]
        logits = state.next(token)


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the tokenizer's and the model's own."""
    named = model.generation_config.eos_token_id
    ends = named if isinstance(named, list) else [named]
    return sorted({tokenizer.eos_token_id, *(token for token in ends if token is not None)})


def plan_batches(lengths: Mapping[str, int], size: int) -> list[list[str]]:
    """Study ids in batches of like prompt length, longest first. Fixed by the studies alone, so that a resumed run
    computes the same batches and writes the same text."""
    order = sorted(lengths, key=lambda key: (-lengths[key], key))
    return [order[i : i + size] for i in range(0, len(order), size)]


class _PackedRows:
    """Rows behind prompts that are read as one row without padding and kept once each."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], repeats: int, pad: int) -> None:
        import torch

        self.model = model
        packed = packing.to_device(packing.pack(prompts, [], []), model.device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
        self.cache = PromptCache(packed)
        logits = self._run(packed.ids, packed.positions, packed=packed, logits_to_keep=lengths.cumsum(0) - 1)[0]
        self.cache.begin(repeats)
        self.logits = logits.repeat_interleave(repeats, 0)
        self.position = lengths.repeat_interleave(repeats, 0).unsqueeze(-1)

    def keep(self, rows: Any) -> None:
        self.cache.keep(rows)
        self.position = self.position[rows]

    def next(self, token: Any) -> Any:
        """Logits (B, V) behind one more token (B,) of each row."""
        self.cache.next_token()
        logits = self._run(token.unsqueeze(-1), self.position, cached=self.cache)
        self.position = self.position + 1
        return logits[:, -1]

    def _run(self, ids: Any, positions: Any, **settings: Any) -> Any:
        return self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=attention.no_mask(ids.device),
            past_key_values=self.cache,
            use_cache=True,
            **settings,
        ).logits


class _PaddedRows:
    """The same for any model: prompts padded on the left, their cache repeated for every row."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], repeats: int, pad: int) -> None:
        import torch
        from transformers import DynamicCache

        longest = max(len(p) for p in prompts)
        ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts], device=model.device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        self.model, self.mask = model, mask
        self.cache = DynamicCache(config=model.config.get_text_config())
        logits = self._run(ids, (mask.cumsum(-1) - 1).clamp(min=0), logits_to_keep=1)
        if repeats > 1:
            self.cache.batch_repeat_interleave(repeats)
        self.logits = logits[:, -1].repeat_interleave(repeats, 0)
        self.mask = mask.repeat_interleave(repeats, 0)
        self.position = self.mask.sum(-1, keepdim=True)

    def keep(self, rows: Any) -> None:
        self.cache.batch_select_indices(rows)
        self.mask, self.position = self.mask[rows], self.position[rows]

    def next(self, token: Any) -> Any:
        """Logits (B, V) behind one more token (B,) of each row."""
        import torch

        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        logits = self._run(token.unsqueeze(-1), self.position)
        self.position = self.position + 1
        return logits[:, -1]

    def _run(self, ids: Any, positions: Any, **settings: Any) -> Any:
        result = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            **settings,
        )
        self.cache = result.past_key_values
        return result.logits


@contextmanager
def _contiguous_head(model: Any) -> Iterator[None]:
    """The LM head sees the last position of each row as one block.

    Of a strided view torch would make one product per row and copy a frozen weight for each: 57 MB x 64 prompts.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    hook = base.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    try:
        yield
    finally:
        hook.remove()


def _pick(logits_B_V: Any, temperature: float | None, drawn_B: Any) -> Any:
    """The likeliest token of each row, or where its number of [0, 1) falls in the distribution's running sum.

    One uniform number a row instead of torch.multinomial's one per vocabulary entry: 20 ms less a step at 32 x 49,152.
    """
    import torch

    if temperature is None:
        return logits_B_V.argmax(-1)
    running = torch.softmax(logits_B_V / temperature, dim=-1).double().cumsum(-1)
    place = torch.searchsorted(running, drawn_B.unsqueeze(-1) * running[:, -1:], right=True)
    return place.squeeze(-1).clamp(max=running.shape[-1] - 1)
