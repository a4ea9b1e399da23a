"""How the cost of an update grows: with group, prompt, completion and model, ours and stock side by side.

Prompts and completions are random tokens of exactly the length asked for; models but the embedded one have random
weights of a known shape. What is computed does not depend on either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from radiograd import attention, models
from radiograd.bench import policy
from radiograd.charts import Series, line_chart, standalone
from radiograd.config import ModelConfig, RunConfig

PROMPTS: Final = 2  # of which stock computes each row whole: at 16 x 256 tokens it takes 12 GiB
STANDARD: Final = {"group": 8, "prompt_tokens": 96, "completion_tokens": 12}
"""OpenI: prompts of 60 to 120 tokens, trained completions of 10 to 15."""
AXES: Final[dict[str, tuple[Any, ...]]] = {
    "group": (2, 4, 8, 16),
    "prompt_tokens": (32, 64, 128, 256),
    "completion_tokens": (6, 12, 24, 48, 96),
    "model": ("135M", "360M", "1.5B"),
}
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "135M": {"hidden": 576, "inner": 1536, "layers": 30, "heads": 9, "shared": 3, "words": 49_152},
    "360M": {"hidden": 960, "inner": 2560, "layers": 32, "heads": 15, "shared": 5, "words": 49_152},
    "1.5B": {"hidden": 1536, "inner": 8960, "layers": 28, "heads": 12, "shared": 2, "words": 151_936},
}
"""SmolLM2-135M, SmolLM2-360M and Qwen2.5-1.5B by their published configurations, embeddings tied."""


def grow(
    axis: str, repeats: int = 3, config: ModelConfig | None = None, values: Any = None
) -> Iterator[dict[str, Any]]:
    """One measurement for each value along ``axis`` (a key of :data:`AXES`), as ``bench update`` gives it."""
    config = config or RunConfig().model
    sides: Any = None
    for value in values or AXES[axis]:
        if sides is None or axis == "model":
            shape = SHAPES[value if axis == "model" else "135M"]
            sides = None  # the last ones go before the next come
            sides = policy.both_sides(random_model(shape, config), random_model(shape, config), config)
        point = {**STANDARD, **({axis: value} if axis != "model" else {})}
        timed = policy.Shape(prompts=PROMPTS, group=point["group"], repeats=repeats)
        found = policy.update_of(sides, _batch(sides[0], point), timed)
        yield {"along": axis, "value": value, **point, **found}


def random_model(shape: dict[str, Any], config: ModelConfig) -> Any:
    """A Llama of ``shape`` with random weights, in the precision and on the device of ``config``."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    device = models.device_of(config)
    model = AutoModelForCausalLM.from_config(llama(shape), dtype=models.dtype_of(config)).to(device)
    if device == "cpu":
        model.set_attn_implementation(attention.choose("llama"))
    return model


def llama(shape: dict[str, Any]) -> Any:
    """The configuration of a Llama of ``shape``."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=shape["words"],
        hidden_size=shape["hidden"],
        intermediate_size=shape["inner"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["shared"],
        tie_word_embeddings=True,
    )


def _batch(model: Any, point: dict[str, int]) -> tuple[Any, ...]:
    import torch

    rows = PROMPTS * point["group"]
    words = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(10, words, (PROMPTS, point["prompt_tokens"]), generator=generator)
    completions = torch.randint(10, words, (rows, point["completion_tokens"]), generator=generator)
    prompts, completions = prompts.repeat_interleave(point["group"], 0).to(model.device), completions.to(model.device)
    return prompts, torch.ones_like(prompts), completions, torch.ones_like(completions)


def plot(found: list[dict[str, Any]]) -> str:
    """An SVG: seconds of an update along the axis, ours and stock."""
    axis = found[0]["along"]
    places = [one["floor"]["parameters"] / 1e6 if axis == "model" else one["value"] for one in found]
    curves = [
        Series(name, [(place, one[side]["seconds"]) for place, one in zip(places, found, strict=True)])
        for side, name in (("ours", "radiograd"), ("peer", "TRL"))
    ]
    label = "million parameters" if axis == "model" else axis.replace("_", " ")
    title = "Seconds for the log-probabilities of a rollout and their gradient"
    return standalone(line_chart(curves, title, "s", label, True))
