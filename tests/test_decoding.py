from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from radiograd import attention, decoding, models
from radiograd.config import ModelConfig
from radiograd.decoding import decode

PAD = 0
NEVER = 999  # beyond the vocabulary
PROMPTS = [[7, 8, 9], [30, 31, 32, 33, 34, 35, 36, 37], [50], [9, 8, 7, 60, 61]]


@pytest.fixture(scope="module")
def model(tiny_model: Path):
    """The tiny model in float32 with weights large enough that it does not repeat itself."""
    model = models.load_policy(ModelConfig(name=str(tiny_model), dtype="float32", device="cpu"))
    generator = torch.Generator().manual_seed(2)
    for weight in model.parameters():
        if weight.dim() == 2:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.3
    return model


def _greedy(model, prompts, eos=(NEVER,), new=24, **settings) -> list[list[int]]:
    return decode(model, prompts, max_new_tokens=new, eos=eos, pad=PAD, **settings)


def _alone(model, prompt: list[int], eos=(NEVER,), new: int = 24) -> list[int]:
    """One row through transformers' own generation, without padding."""
    out = model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=list(eos),
        pad_token_id=PAD,
    )
    return out[0, len(prompt) :].tolist()


def _ends(model) -> list[int]:
    """End tokens that stop the first prompt after 4 tokens, the second after 9 and leave others to the limit or not."""
    rows = [_alone(model, prompt) for prompt in PROMPTS]
    return [rows[0][3], rows[1][8]]


def test_the_model_of_these_tests_writes_varied_text(model) -> None:
    rows = [_alone(model, prompt) for prompt in PROMPTS]
    assert min(len(set(row)) for row in rows) > 5


def test_greedy_rows_are_those_of_transformers_one_by_one(model) -> None:
    assert _greedy(model, PROMPTS) == [_alone(model, prompt) for prompt in PROMPTS]


def test_rows_that_end_early_leave_and_change_nothing_for_the_others(model) -> None:
    eos = _ends(model)
    together = _greedy(model, PROMPTS, eos)
    assert together == [_alone(model, prompt, eos) for prompt in PROMPTS]
    assert len({len(row) for row in together}) > 2
    assert all(token not in eos for row in together for token in row[:-1])  # the end token closes a row, once


def test_rows_do_not_depend_on_who_shares_the_batch(model) -> None:
    eos = _ends(model)
    together = _greedy(model, PROMPTS, eos)
    assert _greedy(model, PROMPTS[::-1], eos) == together[::-1]
    assert [_greedy(model, [prompt], eos)[0] for prompt in PROMPTS] == together


def test_greedy_repeats_are_the_one_row_over_and_over(model) -> None:
    eos = _ends(model)
    once = _greedy(model, PROMPTS, eos)
    assert _greedy(model, PROMPTS, eos, repeats=3) == [row for row in once for _ in range(3)]


def test_no_row_is_longer_than_asked_for(model) -> None:
    assert [len(row) for row in _greedy(model, PROMPTS, new=5)] == [5, 5, 5, 5]
    assert [len(row) for row in _greedy(model, PROMPTS, new=1)] == [1, 1, 1, 1]
    assert _greedy(model, PROMPTS, new=5) == [row[:5] for row in _greedy(model, PROMPTS)]


def test_a_row_that_begins_with_an_end_token_holds_only_that(model) -> None:
    first = _alone(model, PROMPTS[0])[0]
    assert _greedy(model, PROMPTS[:1], [first]) == [[first]]


def test_samples_are_reproduced_from_the_state_of_the_generator(model) -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = _greedy(model, PROMPTS, repeats=4, temperature=1.0)
    second = _greedy(model, PROMPTS, repeats=4, temperature=1.0)
    torch.set_rng_state(state)
    assert _greedy(model, PROMPTS, repeats=4, temperature=1.0) == first
    assert first != second
    assert len({tuple(row) for row in first[:4]}) > 1


def test_samples_do_not_depend_on_how_many_threads_share_them(model, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for lanes_at_once in (1, 2, 4):
        monkeypatch.setattr(decoding.lanes, "width", lambda model, parts, most=lanes_at_once: min(parts, most))
        torch.manual_seed(11)
        found.append(_greedy(model, PROMPTS, _ends(model), repeats=3, temperature=1.0))
    assert found[1] == found[0]
    assert found[2] == found[0]
    assert len({len(row) for row in found[0]}) > 1


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sampled_tokens_are_as_frequent_as_their_probability(model, temperature: float) -> None:
    n = 20_000
    torch.manual_seed(5)
    rows = decode(model, PROMPTS[1:2], repeats=n, max_new_tokens=1, eos=(NEVER,), pad=PAD, temperature=temperature)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(PROMPTS[1:2])).logits[0, -1]
    expected = torch.softmax(logits / temperature, -1) * n
    seen = torch.bincount(torch.tensor([row[0] for row in rows]), minlength=len(expected))
    _assert_plausible(seen.double(), expected.double())


def test_second_tokens_follow_the_first(model) -> None:
    """P(second | first) from rows that share their first token, after the others have left the batch."""
    n = 20_000
    torch.manual_seed(6)
    prompt = PROMPTS[0]
    with torch.no_grad():
        first = int(model(input_ids=torch.tensor([prompt])).logits[0, -1].argmax())
        logits = model(input_ids=torch.tensor([[*prompt, first]])).logits[0, -1]
    others = [token for token in range(500) if token != first]
    rows = decode(model, [prompt], repeats=n, max_new_tokens=2, eos=others, pad=PAD, temperature=1.0)
    assert {len(row) for row in rows} == {1, 2}
    second = [row[1] for row in rows if row[0] == first]
    seen = torch.bincount(torch.tensor(second), minlength=len(logits))
    _assert_plausible(seen.double(), torch.softmax(logits, -1).double() * len(second))


def _assert_plausible(seen: torch.Tensor, expected: torch.Tensor) -> None:
    """Pearson's statistic within five of its own standard deviations; rare tokens are counted together."""
    rare = expected < 5
    observed = torch.cat([seen[~rare], seen[rare].sum().view(1)])
    wanted = torch.cat([expected[~rare], expected[rare].sum().view(1)])
    freedom = len(wanted) - 1
    assert freedom > 5
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    assert abs(statistic - freedom) < 5 * (2 * freedom) ** 0.5


def test_a_bfloat16_model_decodes_in_its_precision(tiny_model: Path) -> None:
    model = models.load_policy(ModelConfig(name=str(tiny_model), dtype="bfloat16", device="cpu"))
    rows = _greedy(model, PROMPTS, new=6, repeats=2)
    assert rows[::2] == rows[1::2]
    assert {len(row) for row in rows} == {6}


def test_the_head_sees_one_block_of_rows_and_is_left_as_it_was(model) -> None:
    head = model.get_output_embeddings()
    seen = []
    forward = head.forward
    head.forward = lambda hidden: seen.append(hidden.is_contiguous()) or forward(hidden)
    try:
        _greedy(model, PROMPTS, new=2)
    finally:
        del head.forward
    assert seen
    assert all(seen)
    assert not head._forward_pre_hooks


FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "smollm3": {"no_rope_layer_interval": 2, "pad_token_id": PAD},
}


def _family(name: str, **more: object):
    config = AutoConfig.for_model(
        name,
        **{
            "vocab_size": 300,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            **FAMILIES[name],
            **more,
        },
    )
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).eval()
    model.set_attn_implementation(attention.choose(name))
    for weight in model.parameters():
        if weight.dim() == 2:
            weight.data *= 6
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_that_are_kept_once_give_the_samples_of_prompts_that_are_repeated(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows leave one by one, whole prompts leave, and answers outgrow the room of the cache."""
    model = _family(family)
    assert family in attention.SERVED
    assert attention.keeps_apart(model.config)
    ends = list(range(0, 300, 40))
    sampled = {}
    for kept_once in (True, False):
        monkeypatch.setattr(attention, "keeps_apart", lambda config, way=kept_once: way)
        torch.manual_seed(4)
        sampled[kept_once] = decode(model, PROMPTS, repeats=5, max_new_tokens=80, eos=ends, pad=PAD, temperature=1.0)
    assert sampled[True] == sampled[False]
    lengths = {len(row) for row in sampled[True]}
    assert len(lengths) > 5
    assert max(lengths) > 40


def test_every_served_family_is_tried() -> None:
    assert set(FAMILIES) == attention.SERVED


def test_a_model_with_a_window_repeats_its_prompts() -> None:
    windowed = _family("mistral", sliding_window=6)
    assert not attention.keeps_apart(windowed.config)
    assert _greedy(windowed, PROMPTS, repeats=2)[::2] == [_alone(windowed, prompt) for prompt in PROMPTS]
    assert not attention.keeps_apart(_family("llama", attention_dropout=0.1).config)
