"""Load and adapt a policy, in one place: where a model comes from, its precision, device and adapters."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from radiograd import adapters, assets, attention, norms
from radiograd.config import LoraConfig, ModelConfig
from radiograd.errors import MissingExtra, ModelError

log = logging.getLogger(__name__)

EMBEDDED = {"smollm2-135m": "smollm2"}
"""Model name -> the asset it is converted from."""


def require_train_extra() -> None:
    """MissingExtra unless the packages of the ``train`` extra are installed. Imports nothing."""
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("torch", "transformers", "trl", "peft", "accelerate", "datasets")):
        raise MissingExtra("Training and generation", "train")


def locate_model(config: ModelConfig) -> str:
    """A local folder, or the hub id itself. AssetError when the embedded model was not fetched yet."""
    if config.name in EMBEDDED:
        return str(assets.locate(EMBEDDED[config.name]))
    path = Path(config.name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise ModelError(f"model folder {path} has no config.json; give the folder save_pretrained wrote")
        return str(path)
    if path.is_absolute() or config.name.startswith((".", "~")) or config.name.count("/") > 1:
        raise ModelError(f"model folder {path} does not exist")
    return config.name


def device_of(config: ModelConfig) -> str:
    """``cuda`` or ``cpu``. ModelError when CUDA is asked for and not there."""
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device is cuda but no CUDA device is visible; use model.device=cpu or auto")
    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.device


def dtype_of(config: ModelConfig) -> Any:
    """The torch dtype: what the config says, or bfloat16 where the device computes in it natively, else float32."""
    import torch

    if config.dtype != "auto":
        return getattr(torch, config.dtype)
    if device_of(config) == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return torch.bfloat16 if native() or amx() else torch.float32


def load_tokenizer(config: ModelConfig) -> Any:
    """The model's tokenizer, padding on the left, with a pad token."""
    from transformers import AutoTokenizer

    where = locate_model(config)
    tokenizer = _from_hub("a tokenizer", AutoTokenizer.from_pretrained, where, revision=config.revision)
    if not tokenizer.is_fast:
        raise ModelError(f"the tokenizer of {config.name} gives no character offsets; it needs a tokenizer.json")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {config.name} has no end-of-text token; add eos_token to its config")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def load_policy(config: ModelConfig, merged: Sequence[Path] = (), adapter: Path | None = None) -> Any:
    """The causal language model of ``config`` on its device, in eval mode, dropout off.

    ``merged`` adapters (LoRA folders) are folded into the weights in order: the SFT policy is the base with the SFT
    adapter merged, so that a fresh adapter switched off *is* the SFT policy. ``adapter`` is put on top and stays
    apart, as it was trained: folded into bfloat16 weights, most of a small change would be rounded away.
    """
    import torch
    from transformers import AutoModelForCausalLM

    device = device_of(config)
    own = {"attn_implementation": "eager"} if device == "cpu" else {}
    model = _from_hub(
        "a causal language model",
        AutoModelForCausalLM.from_pretrained,
        locate_model(config),
        revision=config.revision,
        dtype=torch.float32 if merged else dtype_of(config),
        **own,
    )
    if device == "cpu":
        model.set_attn_implementation(attention.choose(model.config.model_type))
    for folder in merged:
        model = _with_adapter(model, folder).merge_and_unload()
    model = _in_precision(model.to(device), dtype_of(config))
    if adapter is not None:
        model = _with_adapter(model, adapter)
        prepare_adapters(model)
    return model.eval()


def _in_precision(model: Any, dtype: Any) -> Any:
    """``model`` with its weights in ``dtype``. Buffers stay as they are: rotary frequencies in bfloat16 would shift
    the positions of distant tokens."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    return model


def _with_adapter(model: Any, folder: Path) -> Any:
    from peft import PeftModel

    if not (folder / "adapter_config.json").exists():
        raise ModelError(f"{folder} holds no adapter; run the stage that trains it first")
    return PeftModel.from_pretrained(model, str(folder))


def lora_config(config: LoraConfig) -> Any:
    """PEFT's configuration: scale alpha / rank, second factor starting at 0 (arXiv:2106.09685)."""
    from peft import LoraConfig as PeftLora

    targets = config.targets if isinstance(config.targets, str) else list(config.targets)
    return PeftLora(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def prepare_adapters(model: Any) -> None:
    """Let adapters take the activations as they are instead of copying them to float32 first, and compute with the
    layer under them in one step (:mod:`radiograd.adapters`); frozen norms go back in fewer passes.

    The adapter's own weights stay in float32; inside :func:`precision` their products run in the model's precision.
    """
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False
    adapters.fuse(model)
    norms.fuse(model)


def precision(model: Any) -> Any:
    """The context every forward runs in: autocast to bfloat16 for a bfloat16 model, else nothing."""
    from contextlib import nullcontext

    import torch

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if base.dtype != torch.bfloat16:
        return nullcontext()
    return torch.autocast(base.device.type, dtype=torch.bfloat16)


def _from_hub(what: str, load: Any, where: str, **kwargs: Any) -> Any:
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if Path(where).is_dir():
        kwargs.pop("revision", None)
    try:
        return load(where, **kwargs) if Path(where).is_dir() else _cached_or_fetched(load, where, **kwargs)
    except OSError as error:
        if Path(where).is_dir():
            raise ModelError(f"{where} could not be loaded: {_first_line(error)}") from error
        offline = " (offline mode is on)" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
        raise ModelError(
            f"model {where!r} is not in the local cache and could not be fetched from the hub{offline}. "
            f"Check the id and the connection, or give a local folder: model.name=/path/to/model"
        ) from error
    except SafetensorError as error:
        raise ModelError(f"the weights in {where} are damaged ({_first_line(error)}); get them again") from error
    except ValueError as error:
        raise ModelError(f"{where} could not be loaded as {what}: {_first_line(error)}") from error


def _cached_or_fetched(load: Any, where: str, **kwargs: Any) -> Any:
    """A hub model from the local cache without asking the network; asked for only when it is not there."""
    try:
        return load(where, local_files_only=True, **kwargs)
    except OSError:
        log.warning("%s is not in the local cache; asking the hub", where)
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are not news to the user
        return load(where, **kwargs)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
