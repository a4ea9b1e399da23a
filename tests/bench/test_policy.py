from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests import tiny
from transformers import AutoModelForCausalLM

from radiograd import models
from radiograd.bench import growth, policy
from radiograd.config import ModelConfig
from radiograd.train.scoring import score_completions

SHAPE = policy.Shape(prompts=2, group=2, new_tokens=6, repeats=1)


@pytest.fixture
def config(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    monkeypatch.setattr(policy, "_studies", lambda count: tiny.studies(count, seed=1))
    return ModelConfig(name=str(tiny_model), dtype="float32", device="cpu")


@pytest.mark.parametrize("what", ["update", "rollout"])
def test_both_sides_their_ratio_and_the_floor_are_in_one_object(what: str, config: ModelConfig) -> None:
    found = getattr(policy, what)(SHAPE, config)
    assert found["what"] == what
    assert found["ours"]["seconds"] > 0
    assert found["peer"]["seconds"] > 0
    assert found["peer"]["name"]
    assert found["ratio"] > 0
    assert found["floor_ratio"] is not None
    assert {"device", "dtype", "threads"} <= set(found)


def test_an_update_needs_each_prompt_once_and_each_completion(config: ModelConfig) -> None:
    found = policy.update(SHAPE, config)
    # two prompts for two completions each: every row whole counts each prompt twice
    assert found["tokens_needed"] < found["tokens_whole_rows"] < 2 * found["tokens_needed"]
    assert found["floor"]["tokens"] == found["tokens_needed"]


def test_both_sides_of_an_update_score_alike(config: ModelConfig) -> None:
    ours, stock, score = policy.both_sides(models.load_policy(config), models.load_policy(config), config)
    batch = policy._batch(ours, config, tiny.studies(6, seed=1), SHAPE)
    assert stock.get_base_model().config._attn_implementation == "sdpa"
    with torch.no_grad():
        torch.testing.assert_close(score(*batch), score_completions(ours, *batch)[0], atol=1e-5, rtol=0)


def test_whole_steps_of_both_trainers_are_timed(config: ModelConfig) -> None:
    found = policy.step(SHAPE, config, rollouts=1)
    assert found["ours"]["seconds_per_rollout"] > 0
    assert found["peer"]["seconds_per_rollout"] > 0
    assert found["peer"]["name"] == "trl GRPOTrainer"
    assert "sampling" in found["ours"]["parts"]


def test_growth_is_measured_along_each_axis_and_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"hidden": 16, "inner": 24, "layers": 2, "heads": 4, "shared": 2, "words": 90}
    monkeypatch.setattr(growth, "SHAPES", {"135M": small, "1.5B": {**small, "hidden": 32}})
    config = ModelConfig(dtype="float32", device="cpu")
    for axis, values in (("group", (2, 3)), ("completion_tokens", (1, 4)), ("model", ("135M", "1.5B"))):
        found = list(growth.grow(axis, 1, config, values))
        assert [one["value"] for one in found] == list(values)
        assert found[0]["tokens_needed"] < found[1]["tokens_needed"] or axis == "model"
        assert all(one["ours"]["seconds"] > 0 < one["peer"]["seconds"] for one in found)
        drawn = growth.plot(found)
        assert drawn.startswith("<svg")
        assert "TRL" in drawn
    first = next(growth.grow("group", 1, config, (2,)))
    # 2 prompts of 96 tokens and 4 completions of 12, against 4 rows of 108
    assert first["tokens_needed"] == 2 * 96 + 4 * 12
    assert first["tokens_whole_rows"] == 4 * 108


def test_the_shapes_have_the_sizes_they_are_called_by() -> None:
    with torch.device("meta"):
        sizes = {
            name: AutoModelForCausalLM.from_config(growth.llama(shape)).num_parameters()
            for name, shape in growth.SHAPES.items()
        }
    assert sizes["135M"] == 134_515_008  # as SmolLM2-135M
    assert sizes["360M"] == 361_821_120
    assert sizes["1.5B"] == pytest.approx(1.54e9, rel=0.01)
