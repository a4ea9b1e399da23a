"""Who writes the completions of a rollout: the policy in this process, or vLLM with the policy's adapter.

vLLM holds the SFT policy, written once as a model folder, and is handed the adapter alone before every rollout: a few
megabytes, and exact, where merging into bfloat16 weights would round most of a small change away. It reads a shared
prompt once (prefix caching). Log-probabilities are always computed here, never taken from vLLM.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch

from radiograd.clients import is_private
from radiograd.config import RunConfig, SamplerConfig
from radiograd.decoding import decode
from radiograd.errors import ConfigError, MissingExtra, ModelError


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be written: ``repeats`` answers behind each prompt (lists of token ids)."""

    prompts: Sequence[Sequence[int]]
    repeats: int
    max_new_tokens: int
    eos: Sequence[int]
    pad: int
    temperature: float


class Sampler(Protocol):
    """Writes completions with the policy as it is now."""

    def __call__(self, model: Any, wish: Wish) -> list[list[int]]:
        """New tokens of every row, the rows of a prompt together, end token included when written."""
        ...


def builtin(model: Any, wish: Wish) -> list[list[int]]:
    """The policy itself (:func:`radiograd.decoding.decode`)."""
    return decode(
        model,
        wish.prompts,
        repeats=wish.repeats,
        max_new_tokens=wish.max_new_tokens,
        eos=wish.eos,
        pad=wish.pad,
        temperature=wish.temperature,
    )


def load_sampler(config: RunConfig, folder: Path, model: Any, tokenizer: Any) -> Sampler:
    """The sampler of ``align.sampler``; ``model`` is the SFT policy without an adapter on it.

    For vLLM the policy is written to ``folder``/base, once. Raises MissingExtra without vLLM; ConfigError for several
    processes that would each start one, or a server outside the house; ModelError when no server answers (with the
    command that starts it).
    """
    chosen = config.grpo.sampler
    if chosen.engine == "builtin":
        return builtin
    if chosen.engine == "vllm":
        if find_spec("vllm") is None:
            raise MissingExtra("align.sampler.engine=vllm", "vllm")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError(
                "align.sampler.engine=vllm starts vLLM inside the one training process; with several use vllm_server"
            )
    elif not is_private(chosen.url):
        raise ConfigError(
            "align.sampler.url is no private address; the server reads adapters from this machine's disk and prompts "
            "hold report text: name one in the house"
        )
    base = folder / "base"
    if not base.exists():
        beside = folder / f"base.{os.getpid()}"
        model.save_pretrained(str(beside))
        tokenizer.save_pretrained(str(beside))
        try:
            beside.rename(base)
        except OSError:  # another process was first
            shutil.rmtree(beside)
    rank = config.model.lora.rank
    return Colocated(chosen, base, rank) if chosen.engine == "vllm" else Served(chosen, base, rank)


class _WithVLLM:
    """Writes the adapter where vLLM reads it, under a new name each time: vLLM keeps what it has read by name."""

    def __init__(self, base: Path) -> None:
        self._folder = base.parent / "adapters"
        self._numbers = itertools.count(1)

    def _write(self, model: Any) -> tuple[int, Path]:
        number = next(self._numbers)
        folder = self._folder.resolve() / f"{os.getpid()}-{number}"
        model.save_pretrained(str(folder), safe_serialization=True)
        return number, folder


class Colocated(_WithVLLM):
    """vLLM in this process, on the GPU it trains on."""

    def __init__(self, config: SamplerConfig, base: Path, rank: int) -> None:
        super().__init__(base)
        from vllm import LLM

        self._llm = LLM(
            model=str(base),
            enable_lora=True,
            max_lora_rank=max(8, rank),
            max_loras=1,
            enable_prefix_caching=True,
            gpu_memory_utilization=config.gpu_memory,
            generation_config="vllm",
        )

    def __call__(self, model: Any, wish: Wish) -> list[list[int]]:
        """See :class:`Sampler`."""
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        number, folder = self._write(model)
        answers = self._llm.generate(
            [{"prompt_token_ids": list(prompt)} for prompt in wish.prompts],
            SamplingParams(**_settings(wish)),
            lora_request=LoRARequest(folder.name, number, str(folder)),
            use_tqdm=False,
        )
        shutil.rmtree(folder)
        return [
            _ended(list(one.token_ids), one.finish_reason, one.stop_reason, wish)
            for answer in answers
            for one in answer.outputs
        ]


class Served(_WithVLLM):
    """A vLLM server that reads the same disk. Its key, where it wants one, is in VLLM_API_KEY."""

    def __init__(self, config: SamplerConfig, base: Path, rank: int) -> None:
        super().__init__(base)
        self._url, self._timeout_s = config.url.rstrip("/"), config.timeout_s
        try:
            self._ask("/v1/models")
        except ModelError as error:
            raise ModelError(
                f"{error}; start it in another terminal: VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve "
                f"{base.resolve()} --enable-lora --max-lora-rank {max(8, rank)} --enable-prefix-caching "
                f"--generation-config vllm"
            ) from error

    def __call__(self, model: Any, wish: Wish) -> list[list[int]]:
        """See :class:`Sampler`."""
        _, folder = self._write(model)
        name = f"radiograd-{folder.name}"
        self._ask("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
        try:
            answer = self._ask(
                "/v1/completions",
                {
                    "model": name,
                    "prompt": [list(prompt) for prompt in wish.prompts],
                    "return_token_ids": True,
                    **_settings(wish),
                },
            )
        finally:
            self._ask("/v1/unload_lora_adapter", {"lora_name": name})
            shutil.rmtree(folder)
        try:
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])
            rows = [
                _ended([int(i) for i in c["token_ids"]], c["finish_reason"], c.get("stop_reason"), wish)
                for c in choices
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{self._url} gives no token ids; it must be vLLM 0.10.2 or later") from error
        if len(rows) != len(wish.prompts) * wish.repeats:
            raise ModelError(f"{self._url} gave {len(rows)} of {len(wish.prompts) * wish.repeats} completions")
        return rows

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("VLLM_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
        try:
            with opener.open(request, timeout=self._timeout_s) as reply:
                text = reply.read().decode()
        except urllib.error.HTTPError as error:
            error.close()
            raise ModelError(f"the vLLM server at {self._url}{path} answers {error.code}") from error
        except OSError as error:
            raise ModelError(f"no vLLM server answers at {self._url}{path} ({type(error).__name__})") from error
        return json.loads(text) if text.startswith("{") else None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Prompts go where the config says and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Never."""


def _settings(wish: Wish) -> dict[str, Any]:
    """Plain sampling, in the words that vLLM's class and its server share. The seed is torch's, so a run repeats."""
    return {
        "n": wish.repeats,
        "max_tokens": wish.max_new_tokens,
        "temperature": wish.temperature,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "stop_token_ids": sorted(set(wish.eos)),
        "seed": int(torch.randint(2**31, (1,))),
    }


def _ended(tokens: list[int], finish_reason: str | None, stop_reason: Any, wish: Wish) -> list[int]:
    """``tokens`` with the end token that closed them, which some versions leave out."""
    if finish_reason == "stop" and (not tokens or tokens[-1] not in wish.eos):
        tokens = [*tokens, stop_reason if isinstance(stop_reason, int) else next(iter(wish.eos))]
    return tokens
