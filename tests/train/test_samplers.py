"""Completions from vLLM's interfaces, held against our own decoding.

vLLM itself is not here. A server on loopback and a module speak what its documentation says (0.10.2 and later); behind
both stands our own decoding with the adapter that was handed over.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from peft import get_peft_model
from tests.train.test_grpo import STUDIES, _run

from radiograd import models
from radiograd.config import ModelConfig, RunConfig
from radiograd.decoding import decode
from radiograd.errors import ConfigError, MissingExtra, ModelError
from radiograd.runs import Run
from radiograd.train import samplers
from radiograd.train.samplers import Wish, load_sampler

PROMPTS = [[7, 8, 9], [30, 31, 32, 33, 34]]
END = 1


@dataclass
class Backend:
    """What both stand-ins do with a request: our decoding, with the adapter that is on disk."""

    base: Path | None = None
    adapters: dict[str, Path] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    fault: str = ""

    def complete(self, adapter: Path, prompts: list[list[int]], settings: dict[str, Any]) -> list[list[int]]:
        assert self.base is not None
        config = ModelConfig(name=str(self.base), dtype="float32", device="cpu")
        policy = models.load_policy(config, adapter=adapter)
        torch.manual_seed(settings["seed"])
        return decode(
            policy,
            prompts,
            repeats=settings["n"],
            max_new_tokens=settings["max_tokens"],
            eos=settings["stop_token_ids"],
            pad=0,
            temperature=settings["temperature"],
        )

    def answer(self, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        """Status and body, as vLLM's server documents them."""
        self.asked.append((path, body))
        if path == "/v1/models":
            return 200, {"object": "list", "data": []}
        assert body is not None
        if path == "/v1/load_lora_adapter":
            self.adapters[body["lora_name"]] = Path(body["lora_path"])
            return 200, "Success: LoRA adapter added."
        if path == "/v1/unload_lora_adapter":
            del self.adapters[body["lora_name"]]
            return 200, "Success: LoRA adapter removed."
        if self.fault == "refuses":
            return 400, {"error": {"message": "Lungs are clear."}}
        rows = self.complete(self.adapters[body["model"]], body["prompt"], body)
        choices = []
        for index, row in enumerate(rows):
            ended = row[-1] in body["stop_token_ids"]
            choice = {"index": index, "text": "", "finish_reason": "stop" if ended else "length"}
            choice["stop_reason"] = row[-1] if ended else None
            if self.fault != "old version":
                choice["token_ids"] = row[:-1] if ended and self.fault == "leaves the end out" else row
            choices.append(choice)
        return 200, {"choices": choices[:-1] if self.fault == "loses one" else choices[::-1]}


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def url(backend: Backend) -> Iterator[str]:
    """A server that answers with ``backend``."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, body: dict[str, Any] | None) -> None:
            status, answer = backend.answer(self.path, body)
            text = answer if isinstance(answer, str) else json.dumps(answer)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def vllm(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A module of vLLM's name; what its engine was made with."""
    made: dict[str, Any] = {}

    class LLM:
        def __init__(self, **settings: Any) -> None:
            made.update(settings)
            backend.base = Path(settings["model"])

        def generate(self, prompts: list[Any], sampling_params: Any, *, lora_request: Any, use_tqdm: bool) -> Any:
            backend.asked.append(("generate", (lora_request, vars(sampling_params))))
            ids = [prompt["prompt_token_ids"] for prompt in prompts]
            rows = backend.complete(Path(lora_request.lora_path), ids, vars(sampling_params))
            size = sampling_params.n
            return [
                SimpleNamespace(
                    outputs=[
                        SimpleNamespace(token_ids=tuple(row), finish_reason="length", stop_reason=None)
                        for row in rows[first : first + size]
                    ]
                )
                for first in range(0, len(rows), size)
            ]

    modules = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request")}
    vars(modules["vllm"]).update(LLM=LLM, SamplingParams=SimpleNamespace, __spec__=SimpleNamespace())
    vars(modules["vllm.lora.request"])["LoRARequest"] = lambda name, number, path: SimpleNamespace(
        lora_name=name, lora_int_id=number, lora_path=path
    )
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


def _config(model: Path, **sampler: object) -> RunConfig:
    lora = {"rank": 4, "alpha": 8}
    return RunConfig.model_validate(
        {
            "model": {"name": str(model), "dtype": "float32", "device": "cpu", "lora": lora},
            "align": {"sampler": sampler},
        }
    )


def _policy(config: RunConfig, seed: int) -> Any:
    policy = get_peft_model(models.load_policy(config.model), models.lora_config(config.model.lora)).eval()
    _shake(policy, seed)
    return policy


def _shake(policy: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, weight in policy.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.1


def _wish(**settings: Any) -> Wish:
    return Wish(**{"prompts": PROMPTS, "repeats": 3, "max_new_tokens": 12, "eos": [END, 50], "pad": 0, **settings})


def _loaded(config: RunConfig, folder: Path) -> Any:
    return load_sampler(config, folder, models.load_policy(config.model), models.load_tokenizer(config.model))


@pytest.mark.parametrize("engine", ["vllm_server", "vllm"])
def test_completions_are_those_of_the_policy_as_it_is_now(
    engine: str,
    sharp_model: Path,
    tmp_path: Path,
    backend: Backend,
    url: str,
    vllm: dict[str, Any],
) -> None:
    config = _config(sharp_model, engine=engine, url=url)
    sampler = _loaded(config, tmp_path)
    backend.base = tmp_path / "base"
    policy = _policy(config, seed=1)
    found = []
    for seed in (1, 2):
        _shake(policy, seed)
        torch.manual_seed(9)
        rows = sampler(policy, _wish(temperature=1.0))
        torch.manual_seed(9)
        torch.manual_seed(int(torch.randint(2**31, (1,))))
        assert rows == samplers.builtin(policy, _wish(temperature=1.0))
        found.append(rows)
    assert found[0] != found[1]
    assert not list((tmp_path / "adapters").iterdir())
    assert not backend.adapters
    if engine == "vllm":
        assert made_for_sharing(vllm)
        first, second = (asked[0].lora_int_id for name, asked in backend.asked if name == "generate")
        assert first != second  # vLLM keeps what it has read under a number
    else:
        names = [body["lora_name"] for path, body in backend.asked if path == "/v1/load_lora_adapter"]
        assert len(set(names)) == 2


def made_for_sharing(settings: dict[str, Any]) -> bool:
    """The engine serves adapters, caches prefixes and takes no sampling habits from the model's folder."""
    return bool(
        settings["enable_lora"] and settings["enable_prefix_caching"] and settings["generation_config"] == "vllm"
    )


def test_an_end_token_that_is_left_out_is_put_back(
    sharp_model: Path,
    tmp_path: Path,
    backend: Backend,
    url: str,
) -> None:
    config = _config(sharp_model, engine="vllm_server", url=url)
    sampler = _loaded(config, tmp_path)
    backend.base = tmp_path / "base"
    policy = _policy(config, seed=1)
    wish = _wish(temperature=1.0, eos=list(range(0, 400, 7)))
    found = []
    for fault in ("", "leaves the end out"):
        backend.fault = fault
        torch.manual_seed(3)
        found.append(sampler(policy, wish))
    assert found[0] == found[1]
    assert any(row[-1] in wish.eos for row in found[0])


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("old version", "no token ids; it must be vLLM 0.10.2"),
        ("loses one", "gave 5 of 6 completions"),
        ("refuses", "answers 400"),
    ],
)
def test_a_server_that_fails_is_named_and_keeps_no_adapter(
    fault: str,
    what: str,
    sharp_model: Path,
    tmp_path: Path,
    backend: Backend,
    url: str,
) -> None:
    config = _config(sharp_model, engine="vllm_server", url=url)
    sampler = _loaded(config, tmp_path)
    backend.base, backend.fault = tmp_path / "base", fault
    with pytest.raises(ModelError) as caught:
        sampler(_policy(config, seed=1), _wish(temperature=1.0))
    assert what in str(caught.value)
    assert "Lungs" not in str(caught.value)
    assert not backend.adapters
    assert not list((tmp_path / "adapters").iterdir())


def test_a_server_that_is_not_there_is_told_with_the_command_that_starts_it(sharp_model: Path, tmp_path: Path) -> None:
    config = _config(sharp_model, engine="vllm_server", url="http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"vllm serve .*base --enable-lora --max-lora-rank 8 --enable-prefix-caching"):
        _loaded(config, tmp_path)
    again = models.load_policy(ModelConfig(name=str(tmp_path / "base"), dtype="float32", device="cpu"))
    assert again.config.model_type == "llama"  # what the command names is there


def test_prompts_stay_in_the_house(sharp_model: Path, tmp_path: Path) -> None:
    config = _config(sharp_model, engine="vllm_server", url="https://8.8.8.8:8000")
    with pytest.raises(ConfigError, match="no private address"):
        _loaded(config, tmp_path)


def test_vllm_that_is_missing_or_shared_by_processes(
    sharp_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    config = _config(sharp_model, engine="vllm")
    if "vllm" not in sys.modules:
        with pytest.raises(MissingExtra, match=r"radiograd\[vllm\]"):
            _loaded(config, tmp_path)
    request.getfixturevalue("vllm")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="vllm_server"):
        _loaded(config, tmp_path)


def test_a_run_is_aligned_on_what_a_server_writes(
    sharp_model: Path,
    tmp_path: Path,
    backend: Backend,
    url: str,
) -> None:
    from radiograd.train import grpo

    run: Run = _run(tmp_path / "run", sharp_model, rollouts=2, sampler={"engine": "vllm_server", "url": url})
    backend.base = run.path / "align" / "sampler" / "base"
    grpo.train_grpo(run, STUDIES)
    rows = list(run.metrics("align"))
    assert len(rows) == 4
    assert all(row["ratio_max"] < 1e-4 for row in rows[::2])  # what was handed over is what is scored
    assert len([path for path, _ in backend.asked if path == "/v1/completions"]) == 2
    assert not (run.path / "align" / "sampler").exists()
