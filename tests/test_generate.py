from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import get_peft_model

from radiograd import models
from radiograd.config import RunConfig
from radiograd.decoding import end_tokens, plan_batches
from radiograd.errors import ModelError, RunError
from radiograd.generate import generate_run
from radiograd.prompts import Prompter
from radiograd.runs import Run, read_jsonl, write_jsonl
from tests import tiny

STUDIES = tiny.studies(10, seed=4)


def _config(model: Path, **generate: int) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"name": str(model), "dtype": "float32", "device": "cpu", "lora": {"rank": 4, "alpha": 8}},
            "generate": {"batch_size": 4, "max_new_tokens": 12, **generate},
        }
    )


def _run(folder: Path, model: Path, **generate: int) -> Run:
    """A run whose two adapters are there, large enough that the two policies write differently."""
    run = Run(folder, _config(model, **generate))
    write_jsonl(folder / "data" / "test.jsonl", [study.to_json() for study in STUDIES])
    for seed, stage in enumerate(("sft", "align")):
        policy = get_peft_model(models.load_policy(run.config.model), models.lora_config(run.config.model.lora))
        generator = torch.Generator().manual_seed(seed)
        for name, weight in policy.named_parameters():
            if "lora_" in name:
                weight.data = torch.randn(weight.shape, generator=generator) * 0.5
        policy.save_pretrained(str(folder / stage / "adapter"))
    return run


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict]:
    run = _run(tmp_path_factory.mktemp("generate"), tiny_model)
    return run, generate_run(run)


def _predictions(run: Run) -> Path:
    return run.path / "eval" / "test" / "predictions.jsonl"


def test_every_study_is_answered_once_by_each_policy(finished: tuple[Run, dict]) -> None:
    rows = list(read_jsonl(_predictions(finished[0])))
    ids = sorted(study.study_id for study in STUDIES)
    for name in ("sft", "aligned"):
        assert sorted(row["study_id"] for row in rows if row["row"] == name) == ids
    assert [row["text"] for row in rows[:10]] != [row["text"] for row in rows[10:]]


def test_the_facts_count_what_was_written(finished: tuple[Run, dict]) -> None:
    run, facts = finished
    truncated = sum(row["truncated"] for row in read_jsonl(_predictions(run)))
    assert facts == {
        "studies": 10,
        "rows": ["sft", "aligned"],
        "prompts_cut": 0,
        "truncated": truncated,
        "writes_redaction": 0,
    }


def test_the_text_is_what_the_merged_policy_writes_for_the_prompt_alone(finished: tuple[Run, dict]) -> None:
    run, _ = finished
    config = run.config.model
    tokenizer = models.load_tokenizer(config)
    prompter = Prompter(tokenizer, config, "findings_to_impression")
    sft, aligned = run.path / "sft" / "adapter", run.path / "align" / "adapter"
    policies = {
        "sft": models.load_policy(config, merged=[sft]),
        "aligned": models.load_policy(config, merged=[sft], adapter=aligned),
    }
    rows = {(row["row"], row["study_id"]): row for row in read_jsonl(_predictions(run))}
    for name, policy in policies.items():
        for study in STUDIES[:4]:
            prompt = prompter.ids(prompter.prompt(study).content)
            out = policy.generate(
                input_ids=torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=12,
                do_sample=False,
                pad_token_id=0,
            )[0, len(prompt) :].tolist()
            row = rows[name, study.study_id]
            assert row["text"] == tokenizer.decode(out, skip_special_tokens=True).strip()
            assert row["truncated"] == (out[-1] != tokenizer.eos_token_id)


def _cuts(content: bytes) -> dict[str, bytes]:
    lines = content.splitlines(keepends=True)
    return {
        "nothing": b"",
        "half a line": lines[0][:20],
        "one whole line": lines[0],
        "a line without its end": b"".join(lines[:3]).rstrip(b"\n"),
        "a batch": b"".join(lines[:4]),
        "a batch and half a line": b"".join(lines[:4]) + lines[4][:-9],
        "a batch and a part of the next": b"".join(lines[:7]),
        "the first policy": b"".join(lines[:10]),
        "a part of the second policy": b"".join(lines[:15]) + lines[15][:5],
        "all but the last line": b"".join(lines[:-1]),
        "everything": content,
    }


@pytest.mark.parametrize("cut", list(_cuts(b"x\n" * 20)))
def test_a_file_cut_off_anywhere_is_completed_to_the_same_bytes(finished: tuple[Run, dict], cut: str) -> None:
    run, facts = finished
    path = _predictions(run)
    whole = path.read_bytes()
    path.write_bytes(_cuts(whole)[cut])
    try:
        assert generate_run(run) == facts
        assert path.read_bytes() == whole
    finally:
        path.write_bytes(whole)


def test_whole_batches_are_not_computed_again(finished: tuple[Run, dict]) -> None:
    run, _ = finished
    path = _predictions(run)
    whole = path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in whole.splitlines()]
    for row in rows[:4]:  # a mark that a second computation would wipe out
        row["text"] = "kept"
    write_jsonl(path, rows[:6])
    try:
        generate_run(run)
        again = list(read_jsonl(path))
        assert [row["text"] for row in again[:4]] == ["kept"] * 4
        assert again[4:] == [json.loads(line) for line in whole.splitlines()][4:]
    finally:
        path.write_text(whole, encoding="utf-8")


def test_answers_cut_at_the_token_limit_are_marked(tiny_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, tiny_model, max_new_tokens=1)
    facts = generate_run(run)
    rows = list(read_jsonl(_predictions(run)))
    assert facts["truncated"] == sum(row["truncated"] for row in rows) > 0


def test_a_set_without_a_study_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "val.jsonl", [])
    with pytest.raises(RunError, match=r"the val set of .* holds no study; raise data\.split\.val or give more data"):
        generate_run(Run(tmp_path, _config(tiny_model)), "val")


def test_a_missing_adapter_is_named(tiny_model: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, _config(tiny_model))
    write_jsonl(tmp_path / "data" / "test.jsonl", [STUDIES[0].to_json()])
    with pytest.raises(ModelError, match="sft/adapter holds no adapter"):
        generate_run(run)


def test_an_answer_ends_with_any_end_token_of_tokenizer_or_model(tiny_model: Path) -> None:
    config = _config(tiny_model).model
    model, tokenizer = models.load_policy(config), models.load_tokenizer(config)
    model.generation_config.eos_token_id = None
    assert end_tokens(model, tokenizer) == [tokenizer.eos_token_id]
    model.generation_config.eos_token_id = 9
    assert end_tokens(model, tokenizer) == sorted({9, tokenizer.eos_token_id})
    model.generation_config.eos_token_id = [9, 3]
    assert end_tokens(model, tokenizer) == sorted({9, 3, tokenizer.eos_token_id})


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.integers(1, 500), max_size=30), st.integers(1, 7))
def test_batches_hold_every_study_once_longest_first_whatever_the_order(lengths: dict[str, int], size: int) -> None:
    batches = plan_batches(lengths, size)
    order = [key for batch in batches for key in batch]
    assert sorted(order) == sorted(lengths)
    assert [lengths[key] for key in order] == sorted(lengths.values(), reverse=True)
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(batches)
    assert plan_batches(dict(reversed(lengths.items())), size) == batches
