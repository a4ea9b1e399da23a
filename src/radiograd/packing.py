"""Several prompts and their completions as one row without padding, and the attention that keeps them apart.

Everything but attention works token by token, so a rollout needs each distinct token once: every prompt once and the
completions behind it, laid end to end. Attention is computed over two padded views of that row: the prompts, and bins
of completions that share a prompt. A completion sees its prompt and itself, as if it stood alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_BIN = 32  # least tokens of a bin: short completions of a prompt share the products with its keys


@dataclass(frozen=True, slots=True)
class Packed:
    """One row of N tokens: P prompts (at most L tokens each), then C bins of completions (at most S tokens each).

    ``ids``, ``positions``: (1, N). ``prompt_at`` (P, L), ``bin_at`` (C, S): token of each place, 0 on padding.
    ``prompt_places``, ``bin_places``: place of each token in those. ``bin_prompt`` (C,): whose completions a bin holds.
    ``hidden_B_T``: token whose state predicts each completion token, (B, T), 0 on padding. ``causal`` (L, L) and
    ``unseen`` (C, S, L + S): True where a token must not look.
    """

    ids: Any
    positions: Any
    prompt_at: Any
    prompt_places: Any
    bin_at: Any
    bin_places: Any
    bin_prompt: Any
    causal: Any
    unseen: Any
    hidden_B_T: Any


def pack(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], owner: Sequence[int]) -> Packed:
    """``completions[i]`` stands behind ``prompts[owner[i]]``; its last token predicts nothing and is left out.

    Raises ValueError for a prompt without tokens.
    """
    import torch

    if not all(prompts):
        raise ValueError("a prompt without tokens predicts nothing")
    inputs = [list(completion[:-1]) for completion in completions]
    size = max([_BIN, *map(len, inputs)])
    bins = _bins([len(one) for one in inputs], owner, size) if any(inputs) else []
    longest = max(map(len, prompts))
    starts, at = [], 0
    for prompt in prompts:
        starts.append(at)
        at += len(prompt)
    ids = [token for prompt in prompts for token in prompt]
    positions = [place for prompt in prompts for place in range(len(prompt))]
    first = [0] * len(completions)  # where a completion's own tokens begin in the row
    bin_at = torch.zeros(len(bins), size, dtype=torch.long)
    member = torch.full((len(bins), size), -1)
    for number, rows in enumerate(bins):
        place = 0
        for row in rows:
            first[row] = len(ids)
            width = len(inputs[row])
            bin_at[number, place : place + width] = torch.arange(len(ids), len(ids) + width)
            member[number, place : place + width] = row
            ids += inputs[row]
            length = len(prompts[owner[row]])
            positions += range(length, length + width)
            place += width
    bin_prompt = torch.tensor([owner[rows[0]] for rows in bins], dtype=torch.long)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    place = torch.arange(longest)
    prompt_at = torch.where(place < lengths[:, None], torch.tensor(starts)[:, None] + place, 0)
    causal = place[None, :] > place[:, None]
    order = torch.arange(size)
    own = (member[:, :, None] != member[:, None, :]) | (order[None, :] > order[:, None])
    unseen = torch.cat([(place >= lengths[bin_prompt, None])[:, None, :].expand(-1, size, -1), own], dim=-1)
    hidden = torch.zeros(len(completions), max(map(len, completions), default=0), dtype=torch.long)
    for row, completion in enumerate(completions):
        if completion:
            own_places = torch.arange(first[row], first[row] + len(completion) - 1)
            hidden[row, 0] = starts[owner[row]] + len(prompts[owner[row]]) - 1
            hidden[row, 1 : len(completion)] = own_places
    return Packed(
        ids=torch.tensor([ids]),
        positions=torch.tensor([positions]),
        prompt_at=prompt_at,
        prompt_places=(place < lengths[:, None]).flatten().nonzero().squeeze(-1),
        bin_at=bin_at,
        bin_places=(member >= 0).flatten().nonzero().squeeze(-1),
        bin_prompt=bin_prompt,
        causal=causal,
        unseen=unseen,
        hidden_B_T=hidden,
    )


def to_device(packed: Packed, device: Any) -> Packed:
    """The same on ``device``."""
    return Packed(**{name: getattr(packed, name).to(device) for name in Packed.__slots__})


def _bins(lengths: Sequence[int], owner: Sequence[int], size: int) -> list[list[int]]:
    """Rows of one owner together, at most ``size`` tokens a bin; first fit, longest first. Rows of no token are out."""
    room: dict[int, list[tuple[int, list[int]]]] = {}
    for row in sorted(range(len(lengths)), key=lambda row: (owner[row], -lengths[row], row)):
        if not lengths[row]:
            continue
        mine = room.setdefault(owner[row], [])
        for number, (left, rows) in enumerate(mine):
            if lengths[row] <= left:
                mine[number] = (left - lengths[row], [*rows, row])
                break
        else:
            mine.append((size - lengths[row], [row]))
    return [rows for number in sorted(room) for _, rows in room[number]]


def attend(query: Any, key: Any, value: Any, packed: Packed, scale: float) -> Any:
    """Attention of a packed row: query (1, Hq, N, D), key and value (1, Hk, N, D) -> (1, N, Hq, D).

    Exact: each token sees what it would see in a row of its own.
    """
    import torch

    rows = (states[0].transpose(0, 1) for states in (query, key, value))
    with torch.autocast(query.device.type, enabled=False):  # it would keep float32 weights
        return _function().apply(*rows, packed, scale).unsqueeze(0)


@functools.cache
def _function() -> Any:
    import torch

    class Attend(torch.autograd.Function):  # type: ignore[misc]
        """Saves the attention weights; gradients by hand, so that gathering costs no scattered additions."""

        @staticmethod
        def forward(ctx: Any, query: Any, key: Any, value: Any, packed: Packed, scale: float) -> Any:
            prompts = _view(query, key, value, packed.prompt_at, scale)
            weights = _weights(prompts[0], prompts[1], packed.causal)
            out = [_tokens(weights @ prompts[2], packed.prompt_at.shape[1], packed.prompt_places)]
            saved = [weights, *prompts[:3]]
            if len(packed.bin_at):
                own = _view(query, key, value, packed.bin_at, scale)
                both = (torch.cat([p[packed.bin_prompt], o], dim=2) for p, o in zip(prompts[1:], own[1:], strict=True))
                bins = own[0], *both
                weights = _weights(bins[0], bins[1], packed.unseen[:, None, None])
                out.append(_tokens(weights @ bins[2], packed.bin_at.shape[1], packed.bin_places))
                saved += [weights, *bins[:3]]
            ctx.save_for_backward(*saved)
            ctx.packed, ctx.scale = packed, scale
            return torch.cat(out)

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            packed, scale = ctx.packed, ctx.scale
            saved = ctx.saved_tensors  # once: a checkpoint gives them a single time
            prompts, bins = saved[:4], saved[4:]
            count, (longest, size) = len(packed.prompt_places), (packed.prompt_at.shape[1], packed.bin_at.shape[1])
            d_query, d_key, d_value = _backward(grad[:count], prompts, longest, packed.prompt_places, scale)
            parts = []
            if bins:
                b_query, b_key, b_value = _backward(grad[count:], bins, size, packed.bin_places, scale)
                d_key += _by_prompt(b_key[:, :, :longest], packed)
                d_value += _by_prompt(b_value[:, :, :longest], packed)
                parts = [
                    _tokens(b_query, size, packed.bin_places),
                    _flat(b_key[:, :, longest:])[packed.bin_places],
                    _flat(b_value[:, :, longest:])[packed.bin_places],
                ]
            whole = [
                _tokens(d_query, longest, packed.prompt_places),
                _flat(d_key)[packed.prompt_places],
                _flat(d_value)[packed.prompt_places],
            ]
            if parts:
                whole = [torch.cat(pair) for pair in zip(whole, parts, strict=True)]
            return (*whole, None, None)

    def _view(query: Any, key: Any, value: Any, at: Any, scale: float) -> tuple[Any, Any, Any]:
        """Scaled query (B, Hk, rep * T, D), key and value (B, Hk, T, D) of the tokens ``at`` (B, T)."""
        batch, length = at.shape
        shared, width = key.shape[1:]
        rows = (query * scale)[at].view(batch, length, shared, -1, width).permute(0, 2, 3, 1, 4)
        return rows.reshape(batch, shared, -1, width), key[at].transpose(1, 2), value[at].transpose(1, 2)

    def _weights(query: Any, key: Any, unseen: Any) -> Any:
        scores = torch.matmul(query, key.transpose(2, 3))
        batch, shared, rows, seen = scores.shape
        length = unseen.shape[-2]
        scores.view(batch, shared, rows // length, length, seen).masked_fill_(unseen, float("-inf"))
        return torch.softmax(scores, dim=-1)

    def _by_prompt(states: Any, packed: Packed) -> Any:
        """(C, ...) summed over the bins of each prompt, (P, ...), as one product."""
        prompts = torch.arange(len(packed.prompt_at), device=states.device)
        which = (prompts[:, None] == packed.bin_prompt[None, :]).to(states.dtype)
        return (which @ states.reshape(len(states), -1)).view(len(prompts), *states.shape[1:])

    def _tokens(states: Any, length: int, places: Any) -> Any:
        """(B, Hk, rep * T, D) -> the rows of ``places`` as (n, Hq, D)."""
        batch, shared, _, width = states.shape
        by_token = states.view(batch, shared, -1, length, width).permute(0, 3, 1, 2, 4)
        return by_token.reshape(batch * length, -1, width)[places]

    def _flat(states: Any) -> Any:
        """(B, Hk, T, D) -> (B * T, Hk, D)."""
        batch, shared, length, width = states.shape
        return states.transpose(1, 2).reshape(batch * length, shared, width)

    def _backward(grad: Any, saved: Any, length: int, places: Any, scale: float) -> tuple[Any, Any, Any]:
        """Gradients of query, key and value in the shapes of their views."""
        weights, query, key, value = saved
        batch, shared, _, width = query.shape
        padded = grad.new_zeros(batch * length, *grad.shape[1:])
        padded[places] = grad
        out = padded.view(batch, length, shared, -1, width).permute(0, 2, 3, 1, 4).reshape(query.shape)
        d_value = weights.transpose(2, 3) @ out
        d_weights = out @ value.transpose(2, 3)
        d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        return (d_scores @ key).mul_(scale), d_scores.transpose(2, 3) @ query, d_value

    return Attend
