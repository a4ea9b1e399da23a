"""Keys and values while several rows are written behind each prompt: a prompt's once, each row's own behind it.

A cache that repeats a prompt's keys for its rows grows with the group and is copied whole for every token. Here the
rows of a prompt meet its keys in one product, and a row's own tokens are written into room that is already there.
"""

from __future__ import annotations

from typing import Any

from radiograd.packing import Packed

_ROOM = 32  # tokens of room that are added at a time


class PromptCache:
    """What transformers calls ``past_key_values``, for :mod:`radiograd.attention` on a packed row of prompts.

    After the prompts' pass (:meth:`begin`) there are B rows, those of a prompt next to each other; :meth:`keep` lets
    some go. Each layer then holds the prompts' keys (P, Hk, L, D) and the rows' own (B, Hk, T, D).
    """

    is_compileable = False

    def __init__(self, packed: Packed) -> None:
        import torch

        self._packed: Packed | None = packed
        self._prompts: list[tuple[Any, Any]] = []
        self._own: list[tuple[Any, Any]] = []
        self._unseen = torch.ones(packed.prompt_at.shape, dtype=torch.bool, device=packed.ids.device)
        self._unseen.view(-1)[packed.prompt_places] = False
        self._written = 0

    def begin(self, repeats: int) -> None:
        """The prompts have been read: ``repeats`` rows go on behind each."""
        import torch

        self._packed = None
        count = len(self._unseen)
        self._arrange(torch.arange(count, device=self._unseen.device).repeat_interleave(repeats))

    def next_token(self) -> None:
        """Make room for one more token of every row."""
        self._written += 1

    def keep(self, rows: Any) -> None:
        """Only ``rows`` (ascending numbers) go on."""
        import torch

        self._own = [(key[rows], value[rows]) for key, value in self._own]
        prompts = self._prompt_of[rows]
        left = prompts.unique()
        if 4 * len(left) <= 3 * len(self._unseen):  # prompts nobody goes on behind: dropped now and then, not each time
            self._prompts = [(key[left], value[left]) for key, value in self._prompts]
            self._unseen = self._unseen[left]
            prompts = torch.searchsorted(left, prompts)
        self._arrange(prompts)

    def _arrange(self, prompt_of: Any) -> None:
        """Places of the rows in a (prompt, row of the prompt) table; no table is needed where all have as many rows."""
        import torch

        self._prompt_of = prompt_of
        counts = torch.bincount(prompt_of, minlength=len(self._unseen))
        self._group = int(counts.max())
        self._even = bool((counts == self._group).all())
        if not self._even:
            number = torch.arange(len(prompt_of), device=prompt_of.device) - (counts.cumsum(0) - counts)[prompt_of]
            self._places = prompt_of * self._group + number
            self._table = prompt_of.new_zeros(len(counts) * self._group)
            self._table[self._places] = torch.arange(len(prompt_of), device=prompt_of.device)

    # ---- what transformers calls

    def get_seq_length(self, *_: Any) -> int:
        """Tokens behind the prompts."""
        return self._written

    def update(self, key: Any, value: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Keep what a layer computed; the rows' own keys and values so far (B, Hk, T, D)."""
        import torch

        if self._packed is not None:
            at = self._packed.prompt_at
            self._prompts.append((key[0][:, at].transpose(0, 1), value[0][:, at].transpose(0, 1)))
            return key, value
        place = self._written - 1
        if layer == len(self._own):
            empty = key.new_empty(*key.shape[:2], _ROOM, key.shape[3])
            self._own.append((empty, torch.empty_like(empty)))
        elif place == self._own[layer][0].shape[2]:
            self._own[layer] = tuple(torch.nn.functional.pad(one, (0, 0, 0, _ROOM)) for one in self._own[layer])
        keys, values = self._own[layer]
        keys[:, :, place], values[:, :, place] = key[:, :, 0], value[:, :, 0]
        return keys[:, :, : place + 1], values[:, :, : place + 1]

    # ---- attention

    def attend(self, layer: int, query: Any, key: Any, value: Any, scale: float) -> Any:
        """One token of each row: query (B, Hq, 1, D), the row's own key and value (B, Hk, T, D) -> (B, 1, Hq, D)."""
        import torch

        batch, heads, _, width = query.shape
        shared = key.shape[1]
        rows = (query * scale).view(batch, shared, heads // shared, width)
        prompt_key, prompt_value = self._prompts[layer]
        first = torch.matmul(self._by_prompt(rows), prompt_key.transpose(2, 3))
        first.masked_fill_(self._unseen[:, None, None], float("-inf"))
        scores = torch.cat([self._by_row(first, batch), torch.matmul(rows, key.transpose(2, 3))], dim=-1)
        with torch.autocast(query.device.type, enabled=False):  # it would make float32 weights
            weights = torch.softmax(scores, dim=-1)
        longest = prompt_key.shape[2]
        out = self._by_row(torch.matmul(self._by_prompt(weights[..., :longest]), prompt_value), batch)
        out = out + torch.matmul(weights[..., longest:], value)
        return out.reshape(batch, 1, heads, width)

    def _by_prompt(self, rows: Any) -> Any:
        """(B, Hk, rep, n) -> (P, Hk, group * rep, n); places without a row hold another's numbers."""
        table = rows if self._even else rows[self._table]
        _, shared, repeat, width = rows.shape
        groups = table.view(-1, self._group, shared, repeat, width).transpose(1, 2)
        return groups.reshape(len(groups), shared, -1, width)

    def _by_row(self, groups: Any, batch: int) -> Any:
        """(P, Hk, group * rep, n) -> (B, Hk, rep, n)."""
        count, shared, _, width = groups.shape
        table = groups.view(count, shared, self._group, -1, width).transpose(1, 2)
        table = table.reshape(count * self._group, shared, -1, width)
        return table if self._even else table[self._places]
