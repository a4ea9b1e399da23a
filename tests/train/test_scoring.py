from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import get_peft_model

from radiograd import models
from radiograd.config import LoraConfig, ModelConfig
from radiograd.errors import ModelError
from radiograd.train import head, scoring
from radiograd.train.scoring import attach_scoring, length_buckets, score_completions, score_labels


def _policy(folder: Path):
    """A tiny policy in float32 with an adapter that already differs from zero."""
    config = ModelConfig(name=str(folder), dtype="float32", device="cpu", lora=LoraConfig(rank=4, alpha=8))
    model = get_peft_model(models.load_policy(config), models.lora_config(config.lora))
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.05
    return model.train()


@pytest.fixture(params=["packed", "lanes", "cached"])
def policy(request: pytest.FixtureRequest, tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    """The ways to share a prompt: one row without padding, several of them side by side, or its keys repeated."""
    model = _policy(tiny_model)
    most = 2 if request.param == "lanes" else 1
    monkeypatch.setattr(scoring.lanes, "width", lambda model, parts: min(parts, most))
    if request.param == "cached":
        model.set_attn_implementation("eager")
    attach_scoring(model)
    return model


@pytest.fixture
def plain(tiny_model: Path):
    """The same weights as PEFT and transformers compute them: nothing of ours in it."""
    model = _policy(tiny_model)
    model.set_attn_implementation("eager")
    return model


def _gradients(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _batch(rows: list[int], lengths: list[int]):
    """Completions of the given lengths for prompts numbered ``rows``; prompts are left-padded to 12 with waste."""
    generator = torch.Generator().manual_seed(5)
    prompts = torch.randint(5, 400, (3, 12), generator=generator)
    prompt_mask = torch.ones_like(prompts)
    for row, padding in enumerate((2, 5, 3)):  # two columns are padding in every row
        prompt_mask[row, :padding] = 0
    ids = torch.randint(5, 400, (len(rows), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(-1)).long()
    return prompts[rows], prompt_mask[rows], ids, mask


def _plainly(model, prompts, prompt_mask, ids, mask, temperature=1.0):
    """The slow twin: every row whole, all logits."""
    whole, attention = torch.cat([prompts, ids], 1), torch.cat([prompt_mask, mask], 1)
    positions = (attention.cumsum(-1) - 1).clamp(min=0)
    logits = model(input_ids=whole, attention_mask=attention, position_ids=positions, use_cache=False).logits
    logps = torch.log_softmax(logits[:, prompts.shape[1] - 1 : -1].float() / temperature, -1)
    return logps.gather(-1, ids.unsqueeze(-1)).squeeze(-1) * mask, -(logps.exp() * logps).sum(-1) * mask


ROWS, LENGTHS = [2, 0, 0, 1, 2, 0, 1], [3, 20, 4, 1, 37, 20, 5]  # groups of unequal size, rows shuffled


def test_shared_prompts_give_the_log_probabilities_of_whole_rows(policy, plain) -> None:
    batch = _batch(ROWS, LENGTHS)
    logps, entropies = score_completions(policy, *batch, temperature=0.7)
    expected, expected_entropies = _plainly(plain, *batch, temperature=0.7)
    torch.testing.assert_close(logps, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(entropies, expected_entropies, atol=1e-5, rtol=0)


def test_shared_prompts_give_the_gradients_of_whole_rows(policy, plain) -> None:
    batch = _batch(ROWS, LENGTHS)
    weights = torch.randn(len(ROWS), max(LENGTHS), generator=torch.Generator().manual_seed(1))
    (score_completions(policy, *batch)[0] * weights).sum().backward()
    (_plainly(plain, *batch)[0] * weights).sum().backward()
    ours, theirs = _gradients(policy), _gradients(plain)
    assert theirs.norm() > 0
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_completion_that_comes_again_is_computed_once_with_the_same_values_and_gradients(
    policy, plain, monkeypatch
) -> None:
    rows = [0, 0, 1, 0, 1, 2]
    prompts, prompt_mask, ids, mask = _batch(rows, [6] * len(rows))
    for row, same in ((1, 0), (3, 0), (4, 2), (5, 0)):  # row 5 says what row 0 says, behind another prompt
        ids[row], mask[row] = ids[same], mask[same]
    ids[3, 5], mask[3, 5] = 7, 0  # padding is no difference, but a shorter completion is
    computed = []
    inner = scoring._head
    monkeypatch.setattr(scoring, "_head", lambda base, *args: computed.append(len(args[1])) or inner(base, *args))
    weights = torch.randn(len(rows), 6, generator=torch.Generator().manual_seed(1))
    found = []
    for model, score in ((policy, score_completions), (plain, _plainly)):
        logps = score(model, prompts, prompt_mask, ids, mask)[0]
        (logps * weights).sum().backward()
        found.append((logps.detach(), _gradients(model)))
    assert sum(computed) == 6 + 6 + 5 + 6  # rows 0, 2, 3 and 5
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-5, rtol=1e-4)


def test_a_fresh_adapter_and_no_adapter_are_scored_alike(policy, plain) -> None:
    batch = _batch(ROWS, LENGTHS)
    for model in (policy, plain):
        with model.disable_adapter(), torch.no_grad():
            model.off = (score_completions if model is policy else _plainly)(model, *batch)[0]
    torch.testing.assert_close(policy.off, plain.off, atol=1e-5, rtol=0)
    for model in (policy, plain):
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data = torch.zeros_like(weight)
    on = score_completions(policy, *batch)[0].detach()
    torch.testing.assert_close(on, policy.off, atol=1e-6, rtol=0)


def test_a_one_token_prompt_needs_no_cache(policy, plain) -> None:
    prompts, mask = torch.tensor([[7], [7]]), torch.ones(2, 1, dtype=torch.long)
    ids, ids_mask = torch.tensor([[8, 9], [10, 11]]), torch.ones(2, 2, dtype=torch.long)
    logps, _ = score_completions(policy, prompts, mask, ids, ids_mask)
    torch.testing.assert_close(logps, _plainly(plain, prompts, mask, ids, ids_mask)[0], atol=1e-5, rtol=0)


def test_rows_without_a_token_score_nothing_and_break_nothing(policy, plain) -> None:
    prompts, prompt_mask, ids, mask = _batch([0, 1], [4, 4])
    mask[1] = 0  # a completion masked out whole
    logps, _ = score_completions(policy, prompts, prompt_mask, ids, mask)
    assert torch.equal(logps[1], torch.zeros(4))
    torch.testing.assert_close(logps, _plainly(plain, prompts, prompt_mask, ids, mask)[0], atol=1e-5, rtol=0)


def test_label_scores_are_those_of_the_full_logits(policy, plain) -> None:
    ids = torch.randint(5, 400, (3, 15), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, 10:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :6] = -100
    logps = torch.log_softmax(plain(input_ids=ids, attention_mask=mask).logits[:, :-1].float(), -1)
    wanted = labels[:, 1:] != -100
    expected = logps.gather(-1, labels[:, 1:].clamp(min=0).unsqueeze(-1)).squeeze(-1)[wanted]
    torch.testing.assert_close(score_labels(policy, ids, mask, labels), expected, atol=1e-5, rtol=0)


def test_a_batch_of_long_rows_is_computed_in_parts_with_the_same_gradient(policy, monkeypatch) -> None:
    ids = torch.randint(5, 400, (5, 15), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    gradients = []
    for kept in (1600, 31):  # whole; two rows of 15 at a time
        monkeypatch.setattr(scoring, "_KEPT_TOKENS", kept)
        policy.zero_grad()
        (score_labels(policy, ids, mask, ids) ** 2).sum().backward()
        gradients.append(_gradients(policy))
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4, rtol=1e-4)


def test_many_positions_go_through_the_head_in_blocks_with_the_same_result(policy, monkeypatch) -> None:
    batch = _batch(ROWS, LENGTHS)
    whole = score_completions(policy, *batch)[0]
    monkeypatch.setattr(scoring, "_HEAD_CHUNK", 7)
    monkeypatch.setattr(head, "_BLOCK", 7)
    monkeypatch.setattr(head, "_SLICE", 3)
    torch.testing.assert_close(score_completions(policy, *batch)[0], whole, atol=1e-6, rtol=0)


def test_with_gradient_checkpointing_the_numbers_stay_and_a_lost_cache_is_said(
    policy, plain, caplog, monkeypatch, request
) -> None:
    monkeypatch.setattr(scoring, "_SAID", set())
    policy.gradient_checkpointing_enable()
    batch = _batch(ROWS, LENGTHS)
    found = []
    for model, score in ((policy, score_completions), (plain, _plainly)):
        logps = score(model, *batch)[0]
        logps.sum().backward()
        found.append((logps.detach(), _gradients(model)))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-5, rtol=1e-4)
    said = [record.getMessage() for record in caplog.records if record.name == "radiograd.train.scoring"]
    if "cached" in request.node.name:
        assert "prompts are not shared" in said[0]
    else:
        assert not said


def test_a_lone_prompt_is_computed_in_two_lanes_when_its_completions_outweigh_it(monkeypatch) -> None:
    monkeypatch.setattr(scoring.lanes, "width", lambda model, parts: min(parts, 2))
    assert scoring._in_lanes([6], [9, 4, 5], [0, 0, 0], None) == [[0], [1, 2]]
    assert scoring._in_lanes([40], [9, 4, 5], [0, 0, 0], None) == [[0, 1, 2]]
    assert scoring._in_lanes([6, 6], [9, 4, 0, 5], [0, 0, 0, 1], None) == [[0, 1], [3]]
    assert scoring._in_lanes([6], [0], [0], None) == []


def test_one_long_row_goes_alone_when_its_padding_costs_more_than_a_pass() -> None:
    # together: 5 rows x 40 = 200 tokens + one pass of 50; apart: 4 x 10 + 40 = 80 + two passes = 180
    assert length_buckets([10, 10, 40, 9, 10], overhead=50) == [[3, 0, 1, 4], [2]]
    # a pass of 150: together 350, apart 380
    assert length_buckets([10, 10, 40, 9, 10], overhead=150) == [[3, 0, 1, 4, 2]]


@given(st.lists(st.integers(0, 60), max_size=9), st.integers(0, 80))
def test_buckets_hold_every_row_once_at_the_least_cost(lengths: list[int], overhead: int) -> None:
    def cost(buckets: list[list[int]]) -> int:
        return sum(overhead + len(bucket) * max(lengths[row] for row in bucket) for bucket in buckets)

    def best(rest: list[int]) -> int:  # brute force over all cuts of the sorted lengths
        return min(
            (overhead + cut * rest[cut - 1] + best(rest[cut:]) for cut in range(1, len(rest) + 1)),
            default=0,
        )

    buckets = length_buckets(lengths, overhead)
    assert sorted(row for bucket in buckets for row in bucket) == list(range(len(lengths)))
    assert cost(buckets) == best(sorted(lengths))


@pytest.mark.parametrize("family", ["granite", "gemma2", "cohere"])
def test_families_that_scale_or_cap_their_logits_are_scored_as_they_sample(family: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        vocab_size=120,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    if family == "granite":
        config.logits_scaling = 4.0
    if family == "gemma2":
        config.final_logit_softcapping = 0.2
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    attach_scoring(model)
    ids = torch.randint(5, 100, (2, 9))
    mask = torch.ones_like(ids)
    expected = torch.log_softmax(model(input_ids=ids, attention_mask=mask).logits[:, :-1].float(), -1)
    expected = expected.gather(-1, ids[:, 1:].unsqueeze(-1)).flatten()
    torch.testing.assert_close(score_labels(model, ids, mask, ids), expected, atol=1e-5, rtol=1e-5)


def test_a_model_with_logits_we_cannot_reproduce_is_refused(tiny_model: Path) -> None:
    model = models.load_policy(ModelConfig(name=str(tiny_model), dtype="float32", device="cpu"))
    original = model.forward

    def scaled(*args, **kwargs):
        out = original(*args, **kwargs)
        out.logits = out.logits * 3
        return out

    model.forward = scaled
    with pytest.raises(ModelError, match="cannot train"):
        attach_scoring(model)
