"""Log-probabilities of given completions, computed only where they are needed.

Savings over scoring every row whole, all exact: the LM head runs on completion positions only; a prompt shared by
several rows is computed once, and so is a completion that occurs several times behind it; rows share one row without
padding where attention is ours, and prompts go side by side on a CPU's threads. Elsewhere a prompt's differentiable
key/value cache is repeated and rows of like length go together.
The forward runs through the model's own ``__call__``, so wrappers that synchronise gradients still see it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

import torch

from radiograd import attention, lanes, models, packing
from radiograd.errors import ModelError
from radiograd.train import head

log = logging.getLogger(__name__)
_SAID: set[str] = set()

_HEAD_CHUNK = 512  # positions a call of the LM head: bounds the (positions, vocabulary) block kept for the way back
_KEPT_TOKENS = 1600  # on a CPU, tokens whose activations are kept for the backward pass: 1.4 MB each at 135M parameters
_PASS_TOKENS = 150  # what one more pass through the layers costs, in tokens (two cores: 0.2 s at 700 tokens a second)


def attach_scoring(model: Any) -> None:
    """Give ``model`` (PEFT-wrapped or not) the keyword ``score=`` in its forward; without it nothing changes.

    Raises ModelError for a model whose logits cannot be reproduced (see :func:`check_head`).
    Both ways of calling must then run inside :func:`radiograd.models.precision` (scoring does so itself).
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    check_head(base)
    original = base.forward

    @functools.wraps(original)
    def forward(*args: Any, score: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        if score is None:
            return original(*args, **kwargs)
        with models.precision(base):
            return _score(base, **score)

    base.forward = forward
    models.prepare_adapters(base)


def score_labels(model: Any, input_ids_B_T: Any, attention_mask_B_T: Any, labels_B_T: Any) -> Any:
    """Log-probability of every label that is not -100, in row order: (N,). Right padding."""
    return model(score={"kind": "labels", "ids": input_ids_B_T, "mask": attention_mask_B_T, "labels": labels_B_T})


def score_completions(
    model: Any, prompt_ids_B_P: Any, prompt_mask_B_P: Any, ids_B_T: Any, mask_B_T: Any, temperature: float = 1.0
) -> tuple[Any, Any]:
    """Log-probabilities and entropies (nats) of completion tokens: two (B, T), 0 on padding.

    Prompts are left-padded, completions right-padded. Rows with equal prompts share one pass over the prompt.
    ``temperature`` divides the logits, as in sampling. Entropies carry no gradient.
    """
    result: tuple[Any, Any] = model(
        score={
            "kind": "completions",
            "prompts": prompt_ids_B_P,
            "prompt_mask": prompt_mask_B_P,
            "ids": ids_B_T,
            "mask": mask_B_T,
            "temperature": temperature,
        }
    )
    return result


def _score(base: Any, kind: str, **arguments: Any) -> Any:
    return _labels(base, **arguments) if kind == "labels" else _completions(base, **arguments)


def _labels(base: Any, ids: Any, mask: Any, labels: Any) -> Any:
    wanted = labels[:, 1:] != -100
    lengths, counts = mask.sum(-1).tolist(), wanted.sum(-1)
    wide = lanes.width(base, len(lengths)) if _packs(base) else 1
    rows = [torch.tensor(lane, device=ids.device) for lane in lanes.balanced(lengths, wide)]
    parts = [functools.partial(_label_part, base, ids[r], mask[r], labels[r], wanted[r], wide) for r in rows]
    found = lanes.side_by_side(base, parts)
    if len(rows) == 1:
        return found[0][0]
    first = counts.cumsum(0) - counts  # of each row's labels among all
    logps = torch.zeros(int(counts.sum()), dtype=torch.float32, device=ids.device)
    for mine, (values, _) in zip(rows, found, strict=True):
        row, _ = wanted[mine].nonzero(as_tuple=True)
        number = (wanted[mine].cumsum(-1) - 1)[wanted[mine]]
        logps = logps.index_copy(0, first[mine][row] + number, values)
    return logps


def _label_part(base: Any, ids: Any, mask: Any, labels: Any, wanted: Any, wide: int) -> tuple[Any, Any]:
    """Log-probabilities and entropies of the labels of some rows, in row order."""
    from torch.utils.checkpoint import checkpoint

    states = _packed_states if _packs(base) else _padded_states
    parts = [part for part in _parts(mask.sum(-1).tolist(), ids.device.type, _KEPT_TOKENS // wide) if part]
    with models.precision(base):
        if len(parts) == 1:
            hidden = states(base, ids, mask, wanted)
        else:  # a batch of many tokens is computed in parts, and each part once more on the way back
            hidden = torch.cat(
                [
                    checkpoint(states, base, ids[p], mask[p], wanted[p], use_reentrant=False, preserve_rng_state=False)
                    for p in parts
                ]
            )
        return _head(base, hidden, labels[:, 1:][wanted])


def _parts(lengths: Sequence[int], device: str, most: int) -> list[slice]:
    """Consecutive rows whose activations are kept at a time."""
    parts, first, tokens = [], 0, 0
    for row, length in enumerate(lengths):
        if device == "cpu" and row > first and tokens + length > most:
            parts.append(slice(first, row))
            first, tokens = row, 0
        tokens += length
    return [*parts, slice(first, len(lengths))]


def _padded_states(base: Any, ids: Any, mask: Any, wanted: Any) -> Any:
    return base.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1][wanted]


def _packed_states(base: Any, ids: Any, mask: Any, wanted: Any) -> Any:
    packed = packing.pack(_texts(ids, mask), [], [])
    places = (mask.cumsum(-1) - 1)[:, :-1] + (mask.sum(-1).cumsum(-1) - mask.sum(-1))[:, None]
    return _row(base, packing.to_device(packed, ids.device))[places[wanted]]


def _texts(ids_B_T: Any, mask_B_T: Any) -> list[list[int]]:
    return [row[seen].tolist() for row, seen in zip(ids_B_T, mask_B_T.bool(), strict=True)]


def _packs(base: Any) -> bool:
    """Whether the attention of ``base`` can keep several texts of one row apart."""
    return attention.keeps_apart(base.config.get_text_config())


def _row(base: Any, packed: packing.Packed) -> Any:
    """Hidden states of a packed row: (N, D)."""
    return base.base_model(
        input_ids=packed.ids,
        position_ids=packed.positions,
        attention_mask=attention.no_mask(packed.ids.device),
        use_cache=False,
        packed=packed,
    ).last_hidden_state[0]


def _completions(base: Any, prompts: Any, prompt_mask: Any, ids: Any, mask: Any, temperature: float) -> Any:
    first, inverse = _unique_rows(prompts, prompt_mask)
    kept, again = _unique_completions(inverse, ids, mask)
    inverse, ids, mask = inverse[kept], ids[kept], mask[kept]
    way = _packed_completions if _packs(base) else _cached_completions
    logps, entropies = way(base, prompts[first], prompt_mask[first], inverse, ids, mask, temperature)
    return logps[again], entropies[again]


def _packed_completions(
    base: Any, prompts: Any, prompt_mask: Any, inverse: Any, ids: Any, mask: Any, temperature: float
) -> tuple[Any, Any]:
    """Every distinct token once, in one row without padding (see :mod:`radiograd.packing`); prompts in lanes."""
    texts, answers, owners = _texts(prompts, prompt_mask), _texts(ids, mask), inverse.tolist()
    rows = _in_lanes([len(text) for text in texts], [len(answer) for answer in answers], owners, base)

    def part(mine: list[int]) -> tuple[Any, Any]:
        used = sorted({owners[row] for row in mine})
        place = {owner: number for number, owner in enumerate(used)}
        packed = packing.pack([texts[o] for o in used], [answers[r] for r in mine], [place[owners[r]] for r in mine])
        packed = packing.to_device(packed, ids.device)
        index = torch.tensor(mine, device=ids.device)
        seen = mask[index].bool()
        row, column = seen.nonzero(as_tuple=True)
        starts = (seen.cumsum(-1) - 1)[row, column]
        with models.precision(base):
            hidden = _row(base, packed)[packed.hidden_B_T[row, starts]]
            return _head(base, hidden, ids[index][seen], temperature)

    logps = torch.zeros(ids.shape, dtype=torch.float32, device=ids.device)
    entropies = torch.zeros_like(logps)
    found = lanes.side_by_side(base, [functools.partial(part, mine) for mine in rows]) if rows else []
    for mine, (values, entropy) in zip(rows, found, strict=True):
        row, column = mask[mine].bool().nonzero(as_tuple=True)
        where = torch.tensor(mine, device=ids.device)[row], column
        logps, entropies = logps.index_put(where, values), entropies.index_put(where, entropy)
    return logps, entropies


def _in_lanes(prompts: Sequence[int], answers: Sequence[int], owners: Sequence[int], base: Any) -> list[list[int]]:
    """Rows of each lane, given the lengths of prompts and completions. A prompt's completions stay together, unless
    threads would be idle and the completions are long enough to be worth computing the prompt twice."""
    groups: list[list[int]] = [[] for _ in prompts]
    for row, owner in enumerate(owners):
        if answers[row]:
            groups[owner].append(row)
    groups = [group for group in groups if group]
    wide = lanes.width(base, sum(map(len, groups)))
    if groups and wide > len(groups):
        for number, group in enumerate(list(groups)):
            if 3 * sum(answers[row] for row in group) >= 4 * prompts[owners[group[0]]]:
                halves = lanes.balanced([answers[row] for row in group], wide // len(groups))
                groups[number] = [group[place] for place in halves[0]]
                groups += [[group[place] for place in half] for half in halves[1:]]
    sizes = [prompts[owners[group[0]]] + sum(answers[row] for row in group) for group in groups]
    found = lanes.balanced(sizes, min(wide, len(groups))) if groups else []
    return [sorted(row for number in lane for row in groups[number]) for lane in found]


def _cached_completions(
    base: Any, prompts: Any, prompt_mask: Any, inverse: Any, ids: Any, mask: Any, temperature: float
) -> tuple[Any, Any]:
    """A prompt's keys and values once, repeated for its completions: for models whose attention is not ours."""
    prefilled = _prefill(base, prompts, prompt_mask)
    if prefilled is None:
        _say_once(base, "keeps no key/value cache while training (gradient checkpointing?); prompts are not shared")
        return _whole_rows(base, prompts[inverse], prompt_mask[inverse], ids, mask, temperature)
    cache, prompts, prompt_mask = prefilled
    logps = torch.zeros(ids.shape, dtype=torch.float32, device=ids.device)
    entropies = torch.zeros_like(logps)
    lengths = mask.sum(-1)
    for rows in length_buckets(lengths.tolist()):
        index = torch.tensor(rows, device=ids.device)
        width = int(lengths[index].max())
        if width == 0:
            continue
        hidden = _suffix(base, cache, prompts, prompt_mask, inverse[index], ids[index, :width], mask[index, :width])
        wanted = mask[index, :width].bool()
        values, entropy = _head(base, hidden[wanted], ids[index, :width][wanted], temperature)
        row, column = wanted.nonzero(as_tuple=True)
        logps = logps.index_put((index[row], column), values)
        entropies = entropies.index_put((index[row], column), entropy)
    return logps, entropies


def _unique_rows(prompts: Any, mask: Any) -> tuple[Any, Any]:
    """First row of each distinct prompt, and for every row the number of its prompt."""
    keys = [tuple(p[m.bool()].tolist()) for p, m in zip(prompts, mask, strict=True)]
    numbers: dict[tuple[int, ...], int] = {}
    first = []
    for row, key in enumerate(keys):
        if key not in numbers:
            numbers[key] = len(numbers)
            first.append(row)
    device = prompts.device
    return torch.tensor(first, device=device), torch.tensor([numbers[key] for key in keys], device=device)


def _unique_completions(prompt_B: Any, ids_B_T: Any, mask_B_T: Any) -> tuple[Any, Any]:
    """First row of each distinct (prompt, completion), and for every row its place among those."""
    numbers: dict[tuple[int, ...], int] = {}
    first, place = [], []
    for row, (prompt, ids, mask) in enumerate(zip(prompt_B.tolist(), ids_B_T, mask_B_T.bool(), strict=True)):
        key = (prompt, *ids[mask].tolist())
        if key not in numbers:
            numbers[key] = len(numbers)
            first.append(row)
        place.append(numbers[key])
    return torch.tensor(first, device=ids_B_T.device), torch.tensor(place, device=ids_B_T.device)


def _whole_rows(base: Any, prompts: Any, prompt_mask: Any, ids: Any, mask: Any, temperature: float) -> tuple[Any, Any]:
    """The same without a shared prompt: every row whole, the LM head still on completion positions only."""
    whole, attention = torch.cat([prompts, ids], 1), torch.cat([prompt_mask, mask], 1)
    positions = (attention.cumsum(-1) - 1).clamp(min=0)
    hidden = base.base_model(
        input_ids=whole, attention_mask=attention, position_ids=positions, use_cache=False
    ).last_hidden_state[:, prompts.shape[1] - 1 : -1]
    wanted = mask.bool()
    values, entropy = _head(base, hidden[wanted], ids[wanted], temperature)
    row, column = wanted.nonzero(as_tuple=True)
    zeros = torch.zeros(ids.shape, dtype=torch.float32, device=ids.device)
    return zeros.index_put((row, column), values), zeros.index_put((row, column), entropy)


def _say_once(base: Any, what: str) -> None:
    if what not in _SAID:
        _SAID.add(what)
        log.warning("%s %s: scoring is exact but slower", type(base).__name__, what)


def _prefill(base: Any, prompts: Any, mask: Any) -> tuple[Any, Any, Any] | None:
    """Keys and values of all prompt tokens but the last, which goes with the completion; None when none are kept."""
    from transformers import DynamicCache

    width = int(mask.sum(-1).max())  # common left padding is not computed
    prompts, mask = prompts[:, -width:], mask[:, -width:]
    cache = DynamicCache(config=base.config.get_text_config())
    if width > 1:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        base.base_model(
            input_ids=prompts[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions[:, :-1],
            past_key_values=cache,
            use_cache=True,
        )
        if cache.get_seq_length() != width - 1:
            return None
    return cache, prompts, mask


def _suffix(base: Any, cache: Any, prompts: Any, prompt_mask: Any, inverse: Any, ids: Any, mask: Any) -> Any:
    """Hidden states that predict each completion token: (rows, T, D)."""
    prompt_rows = prompt_mask[inverse]
    ids = torch.cat([prompts[inverse, -1:], ids[:, :-1]], dim=1)
    attention = torch.cat([prompt_rows, mask[:, :-1]], dim=1)
    positions = (attention.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    return base.base_model(
        input_ids=ids,
        attention_mask=attention,
        position_ids=positions,
        past_key_values=_select(cache, inverse, base.config.get_text_config()),
        use_cache=True,
    ).last_hidden_state


def _select(cache: Any, rows: Any, config: Any) -> Any:
    """A new cache holding ``rows`` of ``cache`` (rows may repeat); gradients flow to the original."""
    from transformers import DynamicCache

    chosen = DynamicCache(config=config)
    for number, layer in enumerate(cache.layers):
        if layer.keys is not None:
            chosen.update(layer.keys[rows], layer.values[rows], number)
    return chosen


def _head(base: Any, hidden_N_D: Any, targets_N: Any, temperature: float = 1.0) -> tuple[Any, Any]:
    """Log-probability of each target and entropy at its position, (N,) each, in float32."""
    from torch.utils.checkpoint import checkpoint

    layer = base.get_output_embeddings()
    config = base.config.get_text_config()
    plain = type(layer) is torch.nn.Linear and layer.bias is None and not layer.weight.requires_grad
    if plain and not getattr(config, "final_logit_softcapping", None):
        factor = float(_finish(base, torch.ones(1, dtype=torch.float64))) / temperature
        return head.frozen_logps(hidden_N_D, layer.weight, targets_N, factor)

    def block(hidden: Any, targets: Any) -> tuple[Any, Any]:
        logps = torch.log_softmax(_finish(base, layer(hidden).float()) / temperature, dim=-1)
        with torch.no_grad():
            entropy = -(logps.exp() * logps).sum(-1)
        return logps.gather(-1, targets.unsqueeze(-1)).squeeze(-1), entropy

    if len(targets_N) <= _HEAD_CHUNK:
        result: tuple[Any, Any] = block(hidden_N_D, targets_N)
        return result
    parts = [
        checkpoint(block, h, t, use_reentrant=False)
        for h, t in zip(hidden_N_D.split(_HEAD_CHUNK), targets_N.split(_HEAD_CHUNK), strict=True)
    ]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _finish(base: Any, logits: Any) -> Any:
    """What some families do to their logits after the head: scale them (Cohere, Granite) or cap them (Gemma 2)."""
    config = base.config.get_text_config()
    logits = logits * (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def check_head(base: Any) -> None:
    """ModelError when the logits scored here are not those the model samples from (an unknown scaling, say)."""
    ids = torch.arange(1, 9, device=base.device).unsqueeze(0)
    with torch.no_grad(), models.precision(base):
        hidden = base.base_model(input_ids=ids, use_cache=False).last_hidden_state
        ours = _finish(base, base.get_output_embeddings()(hidden).float())
        theirs = base(input_ids=ids, use_cache=False).logits.float()
    spread = float(theirs.std()) or 1.0
    if float((ours - theirs).abs().max()) > 0.05 * spread:
        raise ModelError(
            f"models of type {base.config.model_type} change their logits in a way that radiograd does not know; "
            f"it cannot train them"
        )


def length_buckets(lengths: Sequence[int], overhead: int = _PASS_TOKENS) -> list[list[int]]:
    """Rows in groups of like length such that padded tokens plus ``overhead`` tokens a group are fewest; each row once.

    Exact by dynamic programming over the sorted lengths: a group is a run of them, padded to its longest.
    """
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    best, start = [0.0], [0]  # best[k]: cost of the k shortest rows; start[k]: where their last group begins
    for end in range(1, len(order) + 1):
        width = lengths[order[end - 1]]
        costs = [best[first] + overhead + width * (end - first) for first in range(end)]
        start.append(min(range(end), key=costs.__getitem__))
        best.append(costs[start[end]])
    buckets: list[list[int]] = []
    end = len(order)
    while end:
        buckets.append(order[start[end] : end])
        end = start[end]
    return buckets[::-1]
