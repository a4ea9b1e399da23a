from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model

from radiograd import models
from radiograd.config import LoraConfig, ModelConfig
from radiograd.errors import AssetError, ModelError

IDS = torch.tensor([[7, 8, 9, 10, 11], [12, 13, 14, 15, 16]])


def _config(folder: Path | str, **values: object) -> ModelConfig:
    return ModelConfig.model_validate({"name": str(folder), "dtype": "float32", "device": "cpu", **values})


def _adapter(model_folder: Path, folder: Path, seed: int) -> Path:
    """An adapter that differs from zero, as a training stage writes it."""
    model = get_peft_model(models.load_policy(_config(model_folder)), models.lora_config(LoraConfig(rank=4, alpha=8)))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.1
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return _adapter(tiny_model, folder / "sft", 1), _adapter(tiny_model, folder / "aligned", 2)


def _logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


# ---- precision and device --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_precision_asked_for_is_taken(tiny_model: Path, dtype: str) -> None:
    config = _config(tiny_model, dtype=dtype)
    assert models.dtype_of(config) is getattr(torch, dtype)
    assert models.load_policy(config).dtype is getattr(torch, dtype)


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_precision_is_bfloat16_only_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: native, raising=False)
    assert models.dtype_of(_config("any", dtype="auto")) is dtype


def test_auto_device_is_cuda_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert models.device_of(_config("any", device="auto")) == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert models.device_of(_config("any", device="auto")) == "cpu"


def test_cuda_asked_for_and_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"model\.device is cuda but no CUDA device is visible; use model\.device=cpu"):
        models.device_of(_config("any", device="cuda"))


def test_a_policy_comes_ready_to_sample_from(tiny_model: Path) -> None:
    model = models.load_policy(_config(tiny_model))
    assert not model.training
    assert model.device.type == "cpu"


def test_forward_passes_of_a_bfloat16_model_run_under_autocast_and_others_do_not(tiny_model: Path) -> None:
    for dtype, expected in (("bfloat16", True), ("float32", False)):
        with models.precision(models.load_policy(_config(tiny_model, dtype=dtype))):
            assert torch.is_autocast_enabled("cpu") is expected


# ---- adapters --------------------------------------------------------------------------------------------------------


def test_a_merged_adapter_computes_what_it_computed_unmerged(tiny_model: Path, adapters: tuple[Path, Path]) -> None:
    base = models.load_policy(_config(tiny_model))
    plain = _logits(base)
    unmerged = _logits(PeftModel.from_pretrained(base, str(adapters[0])).eval())
    merged = _logits(models.load_policy(_config(tiny_model), merged=[adapters[0]]))
    assert not torch.allclose(plain, merged, atol=1e-2)
    torch.testing.assert_close(merged, unmerged, atol=1e-5, rtol=1e-5)


def test_a_fresh_adapter_switched_off_is_exactly_the_policy_it_was_put_on(
    tiny_model: Path, adapters: tuple[Path, Path]
) -> None:
    sft = models.load_policy(_config(tiny_model), merged=[adapters[0]])
    expected = _logits(sft)
    model = get_peft_model(sft, models.lora_config(LoraConfig(rank=4, alpha=8))).eval()
    assert torch.equal(_logits(model), expected)  # the second factor starts at 0
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data += 0.1
    assert not torch.allclose(_logits(model), expected)
    with model.disable_adapter():
        assert torch.equal(_logits(model), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_second_adapter_stays_apart_as_it_was_trained(
    tiny_model: Path, adapters: tuple[Path, Path], dtype: str
) -> None:
    config = _config(tiny_model, dtype=dtype)
    trained = PeftModel.from_pretrained(models.load_policy(config, merged=[adapters[0]]), str(adapters[1])).eval()
    models.prepare_adapters(trained)
    both = models.load_policy(config, merged=[adapters[0]], adapter=adapters[1])
    with models.precision(both):
        assert torch.equal(_logits(both), _logits(trained))


def test_adapters_are_folded_in_before_weights_are_rounded(tiny_model: Path, adapters: tuple[Path, Path]) -> None:
    exact = models.load_policy(_config(tiny_model), merged=[adapters[0]]).state_dict()
    rounded = models.load_policy(_config(tiny_model, dtype="bfloat16"), merged=[adapters[0]]).state_dict()
    assert all(torch.equal(rounded[name], weight.bfloat16()) for name, weight in exact.items())


def test_adapter_weights_stay_in_float32_on_a_bfloat16_model(tiny_model: Path) -> None:
    model = get_peft_model(
        models.load_policy(_config(tiny_model, dtype="bfloat16")), models.lora_config(LoraConfig(rank=4, alpha=8))
    )
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    assert {weight.dtype for weight in model.parameters() if not weight.requires_grad} == {torch.bfloat16}


def test_lora_settings_reach_peft() -> None:
    config = models.lora_config(LoraConfig(rank=4, alpha=12, dropout=0.1, targets=("q_proj", "v_proj")))
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 12, 0.1)
    assert config.target_modules == {"q_proj", "v_proj"}
    assert config.task_type == "CAUSAL_LM"
    assert models.lora_config(LoraConfig()).target_modules == "all-linear"


# ---- tokenizer -------------------------------------------------------------------------------------------------------


def test_a_tokenizer_pads_on_the_left(tiny_model: Path) -> None:
    tokenizer = models.load_tokenizer(_config(tiny_model))
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token == "<|pad|>"


def test_a_tokenizer_without_a_pad_token_pads_with_its_end_token(tiny_model: Path, tmp_path: Path) -> None:
    folder = _with_tokens(tiny_model, tmp_path, eos_token="<|end|>")
    assert models.load_tokenizer(_config(folder)).pad_token == "<|end|>"


def test_a_tokenizer_without_an_end_token_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no end-of-text token; add eos_token"):
        models.load_tokenizer(_config(_with_tokens(tiny_model, tmp_path)))


def _with_tokens(model: Path, folder: Path, **tokens: str) -> Path:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    backend = AutoTokenizer.from_pretrained(str(model)).backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=backend, **tokens).save_pretrained(str(folder))
    shutil.copy(model / "config.json", folder)
    return folder


# ---- what is not there -----------------------------------------------------------------------------------------------


def _refusal(config: ModelConfig) -> str:
    with pytest.raises(ModelError) as caught:
        models.load_policy(config)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["/no/such/folder", "./no_such_folder", "~/no_such_folder", "a/b/c"])
def test_a_folder_that_is_not_there_is_named(name: str) -> None:
    message = _refusal(_config(name))
    assert message.endswith("does not exist")
    assert Path(name).name in message


def test_a_folder_without_a_config_is_named(tmp_path: Path) -> None:
    assert _refusal(_config(tmp_path)).startswith(f"model folder {tmp_path} has no config.json")


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing-of-the-kind", "not an id"])
def test_a_hub_id_that_is_not_cached_offline_says_what_to_do(name: str) -> None:
    message = _refusal(_config(name))
    assert f"model {name!r} is not in the local cache" in message
    assert "offline mode is on" in message
    assert "model.name=/path/to/model" in message


def test_a_tokenizer_that_is_not_cached_offline_says_the_same() -> None:
    with pytest.raises(ModelError, match="'nobody/nothing' is not in the local cache"):
        models.load_tokenizer(_config("nobody/nothing"))


def _damaged(model: Path, folder: Path, name: str, content: bytes | None) -> ModelConfig:
    shutil.copytree(model, folder / "model")
    path = folder / "model" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    return _config(folder / "model")


def test_cut_off_weights_are_called_damaged(tiny_model: Path, tmp_path: Path) -> None:
    content = (tiny_model / "model.safetensors").read_bytes()[:5000]
    message = _refusal(_damaged(tiny_model, tmp_path, "model.safetensors", content))
    assert message.startswith(f"the weights in {tmp_path / 'model'} are damaged")


def test_missing_weights_are_named(tiny_model: Path, tmp_path: Path) -> None:
    message = _refusal(_damaged(tiny_model, tmp_path, "model.safetensors", None))
    assert message.startswith(f"{tmp_path / 'model'} could not be loaded: ")


def test_a_model_of_another_kind_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    message = _refusal(_damaged(tiny_model, tmp_path, "config.json", b'{"model_type": "vit"}'))
    assert message.startswith(f"{tmp_path / 'model'} could not be loaded as a causal language model: ")


def test_a_damaged_tokenizer_is_named(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="could not be loaded as a tokenizer: "):
        models.load_tokenizer(_damaged(tiny_model, tmp_path, "tokenizer.json", b"{"))


def test_a_folder_without_an_adapter_is_named(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no adapter; run the stage that trains it first"):
        models.load_policy(_config(tiny_model), merged=[tmp_path / "sft" / "adapter"])


def test_the_embedded_model_that_was_not_fetched_says_how_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RADIOGRAD_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match="radiograd fetch smollm2") as caught:
        models.load_policy(_config("smollm2-135m"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folded", [False, True])
def test_a_bfloat16_policy_keeps_its_rotary_frequencies_in_float32(
    tiny_model: Path, adapters: tuple[Path, Path], folded: bool
) -> None:
    exact = models.load_policy(_config(tiny_model)).model.rotary_emb.inv_freq
    model = models.load_policy(_config(tiny_model, dtype="bfloat16"), merged=adapters[:1] if folded else ())
    assert model.dtype is torch.bfloat16
    assert torch.equal(model.model.rotary_emb.inv_freq, exact)
    assert exact.dtype is torch.float32
