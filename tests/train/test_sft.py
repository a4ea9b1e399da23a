from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests import tiny

from radiograd import models
from radiograd.config import ModelConfig, RunConfig
from radiograd.prompts import Prompter
from radiograd.runs import Run
from radiograd.train.order import length_grouped
from radiograd.train.sft import encode, sequence_loss, train_sft
from radiograd.types import Sections, Study


def _redacted(study: Study) -> Study:
    impression = f"{study.sections.impression} Seen by XXXX."
    return replace(study, sections=Sections(findings=study.sections.findings, impression=impression))


STUDIES = [_redacted(s) if number % 5 == 0 else s for number, s in enumerate(tiny.studies(30, seed=8))]


def _run(folder: Path, model: Path, **sft: object) -> Run:
    settings = {"batch_size": 8, "micro_batch": 8, "lr": 5e-3, "warmup": 0.0, **sft}
    return Run(
        folder,
        RunConfig.model_validate(
            {
                "model": {"name": str(model), "dtype": "float32", "device": "cpu", "lora": {"rank": 4, "alpha": 8}},
                "sft": settings,
            }
        ),
    )


def _losses(run: Run) -> list[float]:
    return [row["loss"] for row in run.metrics("sft")]


def _negative_log_likelihoods(run: Run, studies: list[Study]) -> tuple[list[list[float]], list[list[int]]]:
    """Of the untrained model, per study the impression's tokens without redaction marks; and the order of the rows."""
    config = run.config
    prompter = Prompter(models.load_tokenizer(config.model), config.model, "findings_to_impression")
    model = models.load_policy(config.model)
    rows, _ = encode(prompter, studies)
    values = []
    for row in rows:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        logps = torch.log_softmax(logits, -1)
        values.append([-float(logps[t - 1, label]) for t, label in enumerate(row["labels"]) if label != -100])
    lengths = [len(row["input_ids"]) for row in rows]
    order = length_grouped(lengths, config.sft.batch_size, config.sft.epochs, np.random.default_rng([config.seed, 1]))
    return values, [order[i : i + config.sft.batch_size] for i in range(0, len(order), config.sft.batch_size)]


@pytest.mark.parametrize("micro_batch", [8, 2])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_sum"])
def test_the_loss_is_the_cross_entropy_of_the_impression_alone(
    tiny_model: Path, tmp_path: Path, reduction: str, micro_batch: int
) -> None:
    # with next to no learning rate every step sees the untrained model, the last one with 30 - 3 * 8 = 6 studies
    run = _run(tmp_path, tiny_model, lr=1e-12, loss_reduction=reduction, micro_batch=micro_batch)
    train_sft(run, STUDIES)
    values, batches = _negative_log_likelihoods(run, STUDIES)
    assert [len(batch) for batch in batches] == [8, 8, 8, 6]
    expected = []
    for batch in batches:
        total, tokens = sum(sum(values[row]) for row in batch), sum(len(values[row]) for row in batch)
        expected.append(total / (tokens if reduction == "token_mean" else len(batch)))
    assert _losses(run) == pytest.approx(expected, rel=1e-5)


def test_a_sequence_sum_weighs_long_impressions_more_than_a_token_mean() -> None:
    # two sequences of 1 and 3 tokens with log-probability -2 each: 8 / 4 tokens, 8 / 2 sequences
    logps = torch.full((4,), -2.0)
    assert float(sequence_loss(logps, 4)) == 2.0
    assert float(sequence_loss(logps, 2)) == 4.0


def test_a_batch_without_a_token_to_learn_has_loss_zero() -> None:
    assert float(sequence_loss(torch.zeros(0), torch.tensor(0))) == 0.0


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict]:
    folder = tmp_path_factory.mktemp("sft")
    model = models.load_policy(ModelConfig(name=str(tiny_model), dtype="float32", device="cpu"))
    model.get_input_embeddings().weight.data *= 8  # the head's too: logits large enough to say anything
    model.save_pretrained(str(folder / "model"))
    models.load_tokenizer(ModelConfig(name=str(tiny_model))).save_pretrained(str(folder / "model"))
    run = _run(folder / "run", folder / "model", epochs=8.0, lr=1e-2, checkpoint_every=7)
    return run, train_sft(run, STUDIES)


def test_the_loss_falls(trained: tuple[Run, dict]) -> None:
    losses = _losses(trained[0])
    assert len(losses) == 30  # 8 * 30 / 8
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])


def test_the_trained_adapter_is_kept_and_the_checkpoints_are_not(trained: tuple[Run, dict]) -> None:
    run, _ = trained
    assert [path.name for path in (run.path / "sft").iterdir()] == ["adapter"]
    weights = load_file(run.path / "sft" / "adapter" / "adapter_model.safetensors")
    assert all(bool(value.abs().sum() > 0) for name, value in weights.items() if "lora_B" in name)
    model = models.load_policy(run.config.model, merged=[run.path / "sft" / "adapter"])
    before = models.load_policy(run.config.model)
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


def test_the_facts_say_what_was_trained_on(trained: tuple[Run, dict]) -> None:
    run, facts = trained
    prompter = Prompter(models.load_tokenizer(run.config.model), run.config.model, "findings_to_impression")
    tokens = sum(len(row["input_ids"]) for row in encode(prompter, STUDIES)[0])
    assert facts.pop("peak_gib") > 0
    assert facts == {
        "studies": 30,
        "prompts_cut": 0,
        "steps": 30,
        "tokens": tokens * round(run.config.sft.epochs),
        "device": "cpu",
        "dtype": "float32",
    }


def test_every_step_has_a_row_and_the_rate_falls_to_a_tenth(trained: tuple[Run, dict]) -> None:
    rows = trained[0].metrics("sft")
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert rows[0]["lr"] == pytest.approx(1e-2)
    assert rows[-1]["lr"] == pytest.approx(1e-3, rel=0.05)  # a tenth is reached one step later
    assert all(row["grad_norm"] > 0 for row in rows)


def test_micro_batches_make_the_step_of_the_whole_batch(tiny_model: Path, tmp_path: Path) -> None:
    adapters, losses = [], []
    for micro_batch in (8, 4, 2):
        run = _run(tmp_path / str(micro_batch), tiny_model, micro_batch=micro_batch)
        train_sft(run, STUDIES)
        adapters.append(load_file(run.path / "sft" / "adapter" / "adapter_model.safetensors"))
        losses.append(_losses(run))
    for adapter, loss in zip(adapters[1:], losses[1:], strict=True):
        assert loss == pytest.approx(losses[0], rel=1e-4)
        for name, value in adapter.items():
            torch.testing.assert_close(value, adapters[0][name], atol=2e-4, rtol=1e-2, msg=name)


def test_a_bfloat16_model_trains_an_adapter_in_float32(tiny_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, tiny_model, epochs=4.0)
    run.config = run.config.model_copy(update={"model": run.config.model.model_copy(update={"dtype": "bfloat16"})})
    train_sft(run, STUDIES)
    weights = load_file(run.path / "sft" / "adapter" / "adapter_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    losses = _losses(run)
    assert losses[-1] < losses[0]
