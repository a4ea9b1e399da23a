"""Packed rows: their layout by hand, and their attention against every text standing alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radiograd.packing import attend, pack


def test_layout_by_hand() -> None:
    packed = pack([[10, 11, 12], [20]], [[30, 31], [40], [50, 51, 52]], [1, 0, 1])
    # prompts, then the bin of prompt 1: its longer completion before its shorter, each without its last token
    assert packed.ids.tolist() == [[10, 11, 12, 20, 50, 51, 30]]
    assert packed.positions.tolist() == [[0, 1, 2, 0, 1, 2, 1]]
    assert packed.prompt_at.tolist() == [[0, 1, 2], [3, 0, 0]]
    assert packed.prompt_places.tolist() == [0, 1, 2, 3]
    assert packed.bin_prompt.tolist() == [1]
    assert packed.bin_at[0, :4].tolist() == [4, 5, 6, 0]
    assert packed.bin_places.tolist() == [0, 1, 2]
    # 30 is predicted behind 20, 31 behind 30; 40 behind 12; 50, 51, 52 behind 20, 50, 51
    assert packed.hidden_B_T.tolist() == [[3, 6, 0], [2, 0, 0], [3, 4, 5]]
    seen = ~packed.unseen[0]  # places: 3 of the prompt, then the bin's own
    assert seen[0].nonzero().flatten().tolist() == [0, 3]  # 50 sees 20 and itself
    assert seen[1].nonzero().flatten().tolist() == [0, 3, 4]
    assert seen[2].nonzero().flatten().tolist() == [0, 5]  # 30 does not see 50 or 51


def test_a_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        pack([[1], []], [[2]], [0])


def alone(query, key, value, scale):
    """Causal attention of one text: (Hq, T, D), (Hk, T, D) -> (T, Hq, D)."""
    repeat = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(repeat, 0), value.repeat_interleave(repeat, 0)
    scores = (query @ key.transpose(1, 2)) * scale
    ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return (torch.softmax(scores.masked_fill(ahead, float("-inf")), -1) @ value).transpose(0, 1)


texts = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(
    prompts=texts,
    completions=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 45)), max_size=7),
    shared=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**31),
)
def test_every_token_sees_what_it_would_see_alone_in_values_and_gradients(prompts, completions, shared, seed) -> None:
    owner = [place % len(prompts) for place, _ in completions]
    lengths = [length for _, length in completions]
    # a token's number is its own, so that places can be told from the ids
    number = iter(range(10_000))
    prompt_ids = [[next(number) for _ in range(length)] for length in prompts]
    completion_ids = [[next(number) for _ in range(length)] for length in lengths]
    packed = pack(prompt_ids, completion_ids, owner)
    ids = packed.ids[0].tolist()
    assert len(ids) == len(set(ids)) == sum(prompts) + sum(max(length - 1, 0) for length in lengths)
    place = {token: at for at, token in enumerate(ids)}
    generator = torch.Generator().manual_seed(seed)
    shapes = ((6, len(ids), 4), (shared, len(ids), 4), (shared, len(ids), 4))
    states = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    upstream = torch.randn(len(ids), 6, 4, generator=generator, dtype=torch.float64)
    out = attend(*(state.unsqueeze(0) for state in states), packed, 0.5)[0]
    (out * upstream).sum().backward()
    ours = [state.grad for state in states]
    for state in states:
        state.grad = None
    expected = torch.zeros_like(out)
    for prompt in prompt_ids:
        rows = torch.tensor([place[token] for token in prompt])
        expected = expected.index_copy(0, rows, alone(*(state[:, rows] for state in states), 0.5))
    for which, completion in zip(owner, completion_ids, strict=True):
        own = [place[token] for token in completion[:-1]]
        if own:
            rows = torch.tensor([place[token] for token in prompt_ids[which]] + own)
            states_alone = alone(*(state[:, rows] for state in states), 0.5)
            expected = expected.index_copy(0, torch.tensor(own), states_alone[-len(own) :])
        before = [place[prompt_ids[which][-1]], *own] if completion else []
        assert packed.hidden_B_T[completion_ids.index(completion)][: len(completion)].tolist() == before
        assert [packed.positions[0, at].item() for at in own] == list(range(prompts[which], prompts[which] + len(own)))
    torch.testing.assert_close(out, expected)
    (expected * upstream).sum().backward()
    for mine, state in zip(ours, states, strict=True):
        torch.testing.assert_close(mine, state.grad)
