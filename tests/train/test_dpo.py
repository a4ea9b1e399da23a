"""Preference optimisation of a tiny model for real, its numbers against a plain computation and against TRL's own."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file
from tests import tiny
from transformers import TrainerCallback
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from radiograd import models
from radiograd.config import DPOConfig, ModelConfig, RunConfig
from radiograd.errors import RunError
from radiograd.preferences import Pair, Pairs, parse_pairs
from radiograd.prompts import Prompter
from radiograd.rl.preference import sequence_logps
from radiograd.runs import Run, read_jsonl, write_jsonl
from radiograd.train import dpo
from radiograd.train.dpo import metrics_row, pair_losses, train_dpo
from radiograd.train.pair_rows import Collator, choose, completion_logps, encode, with_reference
from radiograd.types import Sections, Study

STUDIES = tiny.studies(12, seed=3)
WORSE = ("Left pneumothorax and a nodule.", "Right nodule.", "No acute abnormality at all in this film.")


def pairs_of(studies: Sequence[Study] = STUDIES) -> list[Pair]:
    """The reference against one of three other impressions."""
    return [Pair(s.study_id, s.sections.impression or "", WORSE[i % 3]) for i, s in enumerate(studies)]


def run_of(folder: Path, model: Path, pairs: Sequence[Pair] | None = None, **align: Any) -> Run:
    """A run whose SFT adapter is there and is not zero, with its pairs."""
    values = {
        "model": {"name": str(model), "dtype": "float32", "device": "cpu", "lora": {"rank": 4, "alpha": 8}},
        "align": {"type": "dpo", "batch_size": 4, "micro_batch": 4, "lr": 1e-2, "warmup": 0.0, **align},
    }
    run = Run(folder, RunConfig.model_validate(values))
    policy = get_peft_model(models.load_policy(run.config.model), models.lora_config(run.config.model.lora))
    generator = torch.Generator().manual_seed(1)
    for name, weight in policy.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.2
    policy.save_pretrained(str(folder / "sft" / "adapter"))
    write_jsonl(folder / "pairs.jsonl", [pair.to_json() for pair in (pairs_of() if pairs is None else pairs)])
    return run


class Recorder(dpo.PreferenceTrainer):
    """Keeps itself and each step's gradient."""

    last: Recorder
    gradients: list[dict[str, torch.Tensor]]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        type(self).last, type(self).gradients = self, []
        self.add_callback(_Gradients())


class _Gradients(TrainerCallback):
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        named = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
        Recorder.gradients.append(named)


def recorded(run: Run, studies: Sequence[Study] = STUDIES) -> tuple[dict[str, Any], list[dict[str, torch.Tensor]]]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dpo, "PreferenceTrainer", Recorder)
        facts = train_dpo(run, studies)
    return facts, Recorder.gradients


def plain_logp(model: Any, prompt: list[int], completion: list[int]) -> float:
    """One text alone, all logits, no padding."""
    ids = torch.tensor([prompt + completion])
    with torch.no_grad():
        logps = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float(), -1)
    return float(logps.gather(-1, torch.tensor(completion).unsqueeze(-1)).sum())


def token_rows(run: Run, pairs: Sequence[Pair] | None = None) -> list[dict[str, Any]]:
    prompter = Prompter(models.load_tokenizer(run.config.model), run.config.model, "findings_to_impression")
    rows, _ = encode(prompter, pairs or pairs_of(), {study.study_id: study for study in STUDIES})
    return rows


# ---- the reference ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(sharp_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any]]:
    """Three steps over twelve pairs, four pairs a step in two passes."""
    run = run_of(tmp_path_factory.mktemp("finished"), sharp_model, micro_batch=2)
    return run, recorded(run)[0]


@pytest.mark.parametrize("merged", [True, False], ids=["merged", "on top"])
def test_the_reference_is_the_sft_policy(finished: tuple[Run, dict[str, Any]], merged: bool) -> None:
    run, _ = finished
    sft = run.path / "sft" / "adapter"
    with_sft: dict[str, Any] = {"merged": [sft]} if merged else {"adapter": sft}
    model = models.load_policy(run.config.model, **with_sft)
    base = models.load_policy(run.config.model)
    stored = {(row["chosen"], row["rejected"]) for row in read_jsonl(run.path / "align" / "reference.jsonl")}
    assert len(stored) == 12
    for row in token_rows(run):
        chosen, rejected = (plain_logp(model, row["prompt_ids"], row[name]) for name in ("chosen_ids", "rejected_ids"))
        nearest = min(stored, key=lambda pair: abs(pair[0] - chosen) + abs(pair[1] - rejected))
        assert nearest == pytest.approx((chosen, rejected), abs=1e-5)
        assert abs(plain_logp(base, row["prompt_ids"], row["chosen_ids"]) - chosen) > 0.01  # the adapter is not nothing


def test_the_new_adapter_switched_off_is_the_sft_policy_after_training_too(
    finished: tuple[Run, dict[str, Any]],
) -> None:
    run, _ = finished
    merged = models.load_policy(run.config.model, merged=[run.path / "sft" / "adapter"])
    trained = Recorder.last.model
    moved = 0.0
    for row in token_rows(run)[:4]:
        expected = plain_logp(merged, row["prompt_ids"], row["chosen_ids"])
        with trained.disable_adapter():
            assert plain_logp(trained, row["prompt_ids"], row["chosen_ids"]) == pytest.approx(expected, abs=1e-5)
        moved += abs(plain_logp(trained, row["prompt_ids"], row["chosen_ids"]) - expected)
    assert moved > 0.1


def test_the_first_step_starts_at_the_reference(finished: tuple[Run, dict[str, Any]]) -> None:
    run, _ = finished
    first = run.metrics("align")[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    for name in ("margin", "chosen_drift", "rejected_drift", "chosen_drift_token", "rejected_drift_token"):
        assert first[name] == pytest.approx(0.0, abs=1e-5), name


def test_every_step_is_logged_with_what_one_must_watch(finished: tuple[Run, dict[str, Any]]) -> None:
    run, facts = finished
    rows = run.metrics("align")
    assert [row["step"] for row in rows] == [1, 2, 3]
    wanted = {
        *("loss", "lr", "grad_norm", "margin", "accuracy", "drift_alarm", "seconds/step", "seconds/forward"),
        *(
            f"{side}_{name}{per}"
            for side in ("chosen", "rejected")
            for name in ("logp", "drift")
            for per in ("", "_token")
        ),
    }
    assert all(wanted <= row.keys() for row in rows)
    assert (facts["pairs"], facts["steps"], facts["left_out"], facts["prompts_cut"]) == (12, 3, 0, 0)
    tokens = [len(ids) for row in token_rows(run) for name, ids in row.items() if name.endswith("_ids")]
    assert facts["tokens"] == sum(tokens)


def test_reference_log_probabilities_are_computed_once_and_the_same_when_cut_short(
    sharp_model: Path, tmp_path: Path
) -> None:
    run = run_of(tmp_path, sharp_model)
    rows, path = token_rows(run), tmp_path / "reference.jsonl"
    model = models.load_policy(run.config.model, merged=[tmp_path / "sft" / "adapter"])
    dpo.scoring.attach_scoring(model)
    whole = with_reference(model, rows, path, 4, 0)
    content = path.read_bytes()
    lines = content.decode().splitlines(keepends=True)
    for kept in ("", "".join(lines[:4]), "".join(lines[:6]), "".join(lines[:9]) + lines[9][:20]):
        path.write_text(kept)
        assert with_reference(model, rows, path, 4, 0) == whole
        assert path.read_bytes() == content
    model.forward = None  # nothing is computed where all is there
    assert with_reference(model, rows, path, 4, 0) == whole


def test_reference_log_probabilities_of_other_pairs_are_not_taken(sharp_model: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path, sharp_model)
    path = tmp_path / "reference.jsonl"
    model = models.load_policy(run.config.model)
    dpo.scoring.attach_scoring(model)
    with_reference(model, token_rows(run), path, 4, 0)
    others = token_rows(run, [Pair(s.study_id, "Nodule.", "Clear.") for s in STUDIES])
    found = with_reference(model, others, path, 4, 0)
    path.unlink()
    assert found == with_reference(model, others, path, 4, 0)


# ---- the loss --------------------------------------------------------------------------------------------------------


def stock_loss(trainer: Any, rows: Sequence[dict[str, Any]], **settings: Any) -> float:
    """TRL's own loss of the trainer's model on ``rows``, which computes its own reference with the adapter off."""
    batch = DataCollatorForPreference(pad_token_id=0)(
        [{name: row[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")} for row in rows]
    )
    with pytest.MonkeyPatch.context() as patched, torch.no_grad():
        for name, value in settings.items():
            patched.setattr(trainer, name, value)
        return float(DPOTrainer._compute_loss(trainer, trainer.model, batch, False))


@pytest.mark.parametrize(
    ("changes", "stock", "rows"),
    [
        ({}, {"loss_types": ["sigmoid"], "loss_weights": [1.0]}, 7),
        ({"beta": 3.0}, {"loss_types": ["sigmoid"], "loss_weights": [1.0], "beta": 3.0}, 7),
        (
            {"beta": 2.0, "length_normalised": True},
            {"loss_types": ["sigmoid_norm"], "loss_weights": [1.0], "beta": 2.0},
            7,
        ),
        # TRL's anchor is a mean over the tokens of the batch, ours over those of each pair: the same for one pair
        ({"anchor": "sft", "anchor_weight": 0.3}, {"loss_types": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]}, 1),
    ],
    ids=["dpo", "beta", "length-normalised", "sft anchor"],
)
def test_the_loss_is_that_of_trl(
    finished: tuple[Run, dict[str, Any]], changes: dict[str, Any], stock: dict[str, Any], rows: int
) -> None:
    run, _ = finished
    trainer = Recorder.last
    merged = models.load_policy(run.config.model, merged=[run.path / "sft" / "adapter"])
    dpo.scoring.attach_scoring(merged)
    few = with_reference(merged, token_rows(run)[:rows], run.path / "few.jsonl", 4, 0)
    with pytest.MonkeyPatch.context() as patched, torch.no_grad():
        patched.setattr(trainer, "dpo", run.config.dpo.model_copy(update=changes))
        ours = float(trainer.compute_loss(trainer.model, {**Collator(0)(few)}))
    theirs = stock_loss(trainer, few, **stock)
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert abs(ours - math.log(2)) > 1e-3  # the policy has left the reference, or the test would say nothing


def test_the_shared_prompt_changes_no_log_probability(finished: tuple[Run, dict[str, Any]]) -> None:
    run, _ = finished
    model = Recorder.last.model
    rows = token_rows(run)[:3]
    batch = Collator(0)([{**row, "weight": 1.0} for row in rows])
    with torch.no_grad():
        sums = sequence_logps(completion_logps(model, batch), batch["mask"]).tolist()
    expected = [
        plain_logp(model, row["prompt_ids"], row[side]) for side in ("chosen_ids", "rejected_ids") for row in rows
    ]
    assert sums == pytest.approx(expected, abs=1e-5)


def test_the_loss_falls_and_the_pairs_come_apart(sharp_model: Path, tmp_path: Path) -> None:
    pairs = [Pair(s.study_id, "No acute abnormality.", "Left pneumothorax and a nodule.") for s in STUDIES]
    run = run_of(tmp_path, sharp_model, pairs, epochs=6.0)
    train_dpo(run, STUDIES)
    rows = run.metrics("align")
    assert len(rows) == 18
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["accuracy"] == 1.0
    assert rows[-1]["margin"] > 1.0
    assert rows[-1]["chosen_drift"] - rows[-1]["rejected_drift"] == pytest.approx(rows[-1]["margin"] / 0.1, rel=1e-4)


def one_step(folder: Path, model: Path, pairs: Sequence[Pair], **align: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradient of one step that starts off the reference, for the second step shows more than the first."""
    run = run_of(folder, model, pairs, epochs=2.0, lr=3e-3, **align)
    _, gradients = recorded(run)
    rows = run.metrics("align")
    assert len(rows) == len(gradients) == 2
    return rows[1]["loss"], gradients[1]


def assert_same_gradient(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert sum(float(value.norm()) for value in a.values()) > 1e-3
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], atol=2e-6, rtol=2e-3, msg=name)


@pytest.mark.parametrize("anchor", ["none", "sft", "dpop"])
def test_a_pair_of_weight_two_is_the_same_as_having_it_twice(sharp_model: Path, tmp_path: Path, anchor: str) -> None:
    a, b = pairs_of()[:2]
    heavy = Pair(a.study_id, a.chosen, a.rejected, weight=2.0)
    loss, gradient = one_step(tmp_path / "1", sharp_model, [heavy, b], batch_size=2, micro_batch=2, anchor=anchor)
    twice, expected = one_step(tmp_path / "2", sharp_model, [a, a, b], batch_size=3, micro_batch=3, anchor=anchor)
    light, other = one_step(tmp_path / "3", sharp_model, [a, b], batch_size=2, micro_batch=2, anchor=anchor)
    assert loss == pytest.approx(twice, abs=1e-5)
    assert_same_gradient(gradient, expected)
    assert abs(light - loss) > 1e-4
    assert any(not torch.allclose(gradient[name], other[name], rtol=0.05) for name in gradient)


def test_passes_of_any_size_give_the_step_of_the_whole_batch(sharp_model: Path, tmp_path: Path) -> None:
    pairs = [Pair(p.study_id, p.chosen, p.rejected, weight=1.0 + i) for i, p in enumerate(pairs_of()[:6])]
    whole = None
    for size in (6, 3, 2, 1):
        loss, gradient = one_step(tmp_path / str(size), sharp_model, pairs, batch_size=6, micro_batch=size)
        whole = whole or (loss, gradient)
        assert loss == pytest.approx(whole[0], abs=1e-5)
        assert_same_gradient(gradient, whole[1])


def test_a_last_step_of_fewer_pairs_is_a_mean_over_those(sharp_model: Path, tmp_path: Path) -> None:
    # five pairs in steps of four, passes of two: the second step holds one pair
    losses, noted = [], []
    for size in (4, 2):
        run = run_of(tmp_path / str(size), sharp_model, pairs_of()[:5], batch_size=4, micro_batch=size, lr=3e-3)
        train_dpo(run, STUDIES)
        losses.append([row["loss"] for row in run.metrics("align")])
        noted.append([row["chosen_logp"] for row in run.metrics("align")])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert noted[1] == pytest.approx(noted[0], abs=1e-3)


# ---- anchors and drift -----------------------------------------------------------------------------------------------


def alike() -> list[Pair]:
    """Pairs whose rejected side says the words of chosen over and over: pushing it down takes chosen along."""
    words = ("right nodule", "left effusion", "small apical opacity")
    return [Pair(s.study_id, words[i % 3], " ".join([words[i % 3]] * 4)) for i, s in enumerate(STUDIES)]


def last_drift(folder: Path, model: Path, **align: Any) -> float:
    run = run_of(folder, model, alike(), epochs=8.0, beta=1.0, **align)
    train_dpo(run, STUDIES)
    return float(run.metrics("align")[-1]["chosen_drift"])


def test_anchors_keep_chosen_from_falling_where_the_plain_loss_lets_it_fall(sharp_model: Path, tmp_path: Path) -> None:
    plain = last_drift(tmp_path / "none", sharp_model)
    assert plain < -1.0
    assert last_drift(tmp_path / "dpop", sharp_model, anchor="dpop", anchor_weight=20.0) > 0.2 * plain
    assert last_drift(tmp_path / "sft", sharp_model, anchor="sft", anchor_weight=1.0) > 0.2 * plain


def test_a_fall_of_chosen_sets_off_the_alarm_once_and_is_recorded(
    sharp_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(tmp_path, sharp_model, alike(), epochs=8.0, beta=1.0, drift_alarm=0.01)
    with caplog.at_level(logging.WARNING):
        facts = train_dpo(run, STUDIES)
    rows = run.metrics("align")
    alarmed = [row["step"] for row in rows if row["drift_alarm"]]
    assert alarmed == [row["step"] for row in rows if row["chosen_drift_token"] < -0.01]
    assert 0 < len(alarmed) < len(rows)
    assert facts["drift_alarm"] is True
    assert (facts["drift_alarm_first_step"], facts["drift_alarm_steps"]) == (alarmed[0], len(alarmed))
    assert facts["chosen_drift_token_worst"] == round(min(row["chosen_drift_token"] for row in rows), 4)
    told = [record.message for record in caplog.records if "less likely than under the SFT policy" in record.message]
    assert len(told) == 1
    assert told[0].startswith(f"step {alarmed[0]}: chosen impressions are 0.")


def test_no_alarm_where_chosen_holds(sharp_model: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path, sharp_model, epochs=8.0, beta=1.0, anchor="sft", anchor_weight=5.0)
    facts = train_dpo(run, STUDIES)
    assert min(row["chosen_drift_token"] for row in run.metrics("align")) > -0.5
    assert (facts["drift_alarm"], facts["drift_alarm_steps"], facts["drift_alarm_first_step"]) == (False, 0, None)


def test_the_losses_of_each_anchor_by_hand() -> None:
    # chosen of 2 tokens: -3 (ref -2: fell by 1), rejected of 1 token: -4 (ref -1): log-ratios -1 and -3
    logps = torch.tensor([[-1.0, -2.0], [-4.0, 0.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1], [1, 0]])
    references = torch.tensor([-2.0], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)

    def loss(**changes: Any) -> tuple[float, dict[str, float]]:
        losses, noted = pair_losses(logps, mask, *references, DPOConfig.model_validate({"beta": 0.5, **changes}))
        return float(losses), {name: float(value) for name, value in noted.items()}

    plain, noted = loss()
    assert plain == pytest.approx(math.log1p(math.exp(-1.0)), abs=1e-9)  # 0.5 * (-1 + 3)
    assert (noted["margin"], noted["accuracy"], noted["chosen_drift"], noted["rejected_drift"]) == (
        1.0,
        1.0,
        -1.0,
        -3.0,
    )
    assert (noted["chosen_drift_token"], noted["rejected_drift_token"]) == (-0.5, -3.0)
    assert "anchor" not in noted
    found, noted = loss(anchor="sft", anchor_weight=0.2)
    assert found == pytest.approx(plain + 0.2 * 1.5, abs=1e-9)  # 3 nats over 2 tokens
    assert noted["anchor"] == 1.5
    found, noted = loss(anchor="dpop", anchor_weight=2.0)
    assert found == pytest.approx(math.log(2), abs=1e-9)  # 0.5 * (2 - 2 * 1)
    assert (noted["anchor"], noted["margin"]) == (1.0, 1.0)
    found, noted = loss(length_normalised=True)
    assert found == pytest.approx(math.log1p(math.exp(-1.25)), abs=1e-9)  # 0.5 * (-0.5 + 3)
    found, noted = loss(length_normalised=True, anchor="dpop", anchor_weight=2.0)
    assert found == pytest.approx(math.log1p(math.exp(-0.75)), abs=1e-9)  # 0.5 * (2.5 - 2 * 0.5)


# ---- which pairs -----------------------------------------------------------------------------------------------------


def chosen(rows: Sequence[dict[str, Any]], number: int = 0) -> dpo.Any:
    found: Pairs = parse_pairs([json.dumps(row) for row in rows])
    return choose(found, STUDIES[:4], {"s0010", "s0011"}, number)


def row(study_id: str = "s0000", **fields: Any) -> dict[str, Any]:
    return {"study_id": study_id, "chosen": "Clear.", "rejected": "Nodule.", **fields}


def test_pairs_that_cannot_be_trained_on_are_left_out_by_line() -> None:
    own = STUDIES[0].sections.findings
    found = chosen(
        [
            row(),
            row("s0010"),
            row("elsewhere"),
            row("elsewhere", findings="Large heart."),
            row("elsewhere", findings="Small heart."),
            row("s0011", findings="Large heart."),
            row(findings="Large heart."),
            row(findings=own),
            row(chosen="Seen by Dr. XXXX."),
            row(rejected="Seen by Dr. XXXX."),
            {"study_id": "s0001"},
            row(round=1),
        ]
    )
    assert [(pair.study_id, pair.findings) for pair in found.pairs] == [
        ("s0000", None),
        ("elsewhere", "Large heart."),
        ("s0000", own),
        ("s0000", None),
    ]
    assert found.studies["elsewhere"].sections.findings == "Large heart."
    assert found.of_other_rounds == 1
    assert found.problems == (
        ("pairs.jsonl:2", "study s0010 is held out (val or test); training on it would spoil the evaluation"),
        ("pairs.jsonl:3", "study elsewhere is not in data/train.jsonl; give its findings with the pair"),
        (
            "pairs.jsonl:5",
            "study elsewhere has other findings in an earlier line; leave findings out or use another id",
        ),
        ("pairs.jsonl:6", "study s0011 is held out (val or test); training on it would spoil the evaluation"),
        (
            "pairs.jsonl:7",
            "study s0000 has other findings in data/train.jsonl; leave findings out or use another id",
        ),
        ("pairs.jsonl:9", "chosen of study s0000 holds a redaction mark (XXXX), which would be learnt"),
        ("pairs.jsonl:11", "chosen is missing"),
    )
    assert chosen([row(), row(round=1)], number=1).pairs[0].round == 1


def test_a_pair_of_a_study_from_elsewhere_is_trained_on_with_its_own_findings(
    sharp_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = [*pairs_of()[:3], Pair("reader-1", "Large heart.", "Clear lungs.", findings="The heart is large.")]
    run = run_of(tmp_path, sharp_model, [*pairs, Pair("s0099", "Large heart.", "Clear lungs.")])
    with caplog.at_level(logging.WARNING):
        facts = train_dpo(run, STUDIES)
    assert (facts["pairs"], facts["left_out"]) == (4, 1)
    where = {"where": "pairs.jsonl:5", "why": "study s0099 is not in data/train.jsonl; give its findings with the pair"}
    assert list(read_jsonl(tmp_path / "align" / "problems.jsonl")) == [where]
    assert "1 lines of pairs.jsonl are left out, the first pairs.jsonl:5: study s0099" in caplog.text
    assert "heart" not in caplog.text


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([], r"pairs\.jsonl holds no pair of round 0 to train on$"),
        (
            [Pair("s0099", "a", "b")],
            r"holds no pair of round 0 to train on; pairs\.jsonl:1: study s0099 is not in data",
        ),
        ([Pair("s0000", "a", "b", round=2)], "holds no pair of round 0 to train on"),
    ],
)
def test_without_a_pair_to_train_on_the_run_stops(
    sharp_model: Path, tmp_path: Path, pairs: list[Pair], said: str
) -> None:
    run = run_of(tmp_path, sharp_model, pairs)
    with pytest.raises(RunError, match=said):
        train_dpo(run, STUDIES)


def test_without_a_file_of_pairs_the_run_stops(sharp_model: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path, sharp_model)
    (tmp_path / "pairs.jsonl").unlink()
    with pytest.raises(RunError, match=r"pairs\.jsonl is missing; run: radiograd pairs "):
        train_dpo(run, STUDIES)


# ---- resuming --------------------------------------------------------------------------------------------------------


class _Stopped(Exception):
    """What a killed process leaves behind, without killing the tests."""


class Stopping(dpo.PreferenceTrainer):
    """Stops short after ``at`` steps."""

    at = 5

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_callback(_Stop())


class _Stop(TrainerCallback):
    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == Stopping.at:
            raise _Stopped


@pytest.mark.parametrize("stop", [1, 5], ids=["before the first checkpoint", "after the second"])
def test_interrupted_and_resumed_is_as_if_never_interrupted(sharp_model: Path, tmp_path: Path, stop: int) -> None:
    settings: dict[str, Any] = {"epochs": 3.0, "micro_batch": 2, "checkpoint_every": 2, "anchor": "sft"}
    whole = run_of(tmp_path / "whole", sharp_model, **settings)
    expected = train_dpo(whole, STUDIES)
    run = run_of(tmp_path / "stopped", sharp_model, **settings)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dpo, "PreferenceTrainer", Stopping)
        patched.setattr(Stopping, "at", stop)
        with pytest.raises(_Stopped):
            train_dpo(run, STUDIES)
    assert [row["step"] for row in run.metrics("align")] == list(range(1, stop + 1))
    facts = train_dpo(run, STUDIES)

    def told(of: Run) -> list[dict[str, Any]]:
        passing = ("time", "seconds/step", "seconds/forward")
        return [{name: value for name, value in row.items() if name not in passing} for row in of.metrics("align")]

    assert told(run) == told(whole)
    assert len(told(run)) == 9
    assert {**facts, "peak_gib": 0} == {**expected, "peak_gib": 0}
    ours, theirs = (load_file(of.path / "align" / "adapter" / "adapter_model.safetensors") for of in (run, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not (run.path / "align" / "checkpoints").exists()


# ---- rounds ----------------------------------------------------------------------------------------------------------


def test_a_later_round_goes_on_from_the_one_before_and_keeps_the_sft_policy_as_reference(
    sharp_model: Path, tmp_path: Path
) -> None:
    pairs = [Pair(p.study_id, p.chosen, p.rejected, round=number) for number in (0, 1) for p in pairs_of()]
    run = run_of(tmp_path, sharp_model, pairs, rounds=2, lr=3e-3)
    first = train_dpo(run, STUDIES)
    run.mark_done("align_round_0", **first)
    second = train_dpo(run, STUDIES, number=1)
    rows = run.metrics("align")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    # the same pairs again: the policy has left the reference before the first step of the second round
    assert rows[3]["margin"] > rows[2]["margin"] / 2 > 0
    assert rows[3]["loss"] < math.log(2) - 1e-3
    assert first["fingerprint"] != second["fingerprint"]  # the round is part of it
    folders = [tmp_path / "align" / f"round_000{number}" for number in (0, 1)]
    ours, theirs = (sorted(read_jsonl(f / "reference.jsonl"), key=lambda row: row["pair"]) for f in folders)
    assert ours == theirs
    weights = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in folders]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    dpo.keep_as_aligned(run, 1)
    kept = load_file(tmp_path / "align" / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(kept[name], weights[1][name]) for name in kept)


# ---- small things ----------------------------------------------------------------------------------------------------


def test_what_trl_logs_is_kept_in_our_names() -> None:
    logs = {"loss": 0.5, "learning_rate": 1e-4, "grad_norm": 2.0, "margin": 1.0, "chosen_drift": -0.1, "epoch": 1.0}
    assert metrics_row(logs) == {"loss": 0.5, "lr": 1e-4, "grad_norm": 2.0, "margin": 1.0, "chosen_drift": -0.1}
    assert metrics_row({"train_runtime": 3.0, "margin": 1.0}) == {}


def test_a_batch_pads_prompts_on_the_left_and_completions_on_the_right() -> None:
    rows = [
        {"prompt_ids": [1, 2, 3], "chosen_ids": [4], "rejected_ids": [5, 6], "weight": 1.5},
        {"prompt_ids": [7], "chosen_ids": [8, 9, 10], "rejected_ids": [11], "weight": 0.5},
    ]
    batch = {name: value.tolist() for name, value in Collator(0)(rows).items()}
    assert batch == {
        "prompt_ids": [[1, 2, 3], [0, 0, 7]],
        "prompt_mask": [[1, 1, 1], [0, 0, 1]],
        "ids": [[4, 0, 0], [8, 9, 10], [5, 6, 0], [11, 0, 0]],
        "mask": [[1, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 0]],
        "weight": [1.5, 0.5],
    }


def test_findings_too_long_for_the_prompt_are_cut_and_counted(sharp_model: Path, tmp_path: Path) -> None:
    config = ModelConfig(name=str(sharp_model), max_prompt_tokens=60)
    prompter = Prompter(models.load_tokenizer(config), config, "findings_to_impression")
    long = Study("x", "", "pairs", Sections(findings="The lungs are clear. " * 40))
    rows, cut = encode(prompter, [Pair("x", "a", "b"), Pair("x", "a", "c", weight=3.0)], {"x": long})
    assert cut == 1  # the prompt is one, of two pairs
    assert len(rows[0]["prompt_ids"]) <= 60
    assert [row["weight"] for row in rows] == [0.5, 1.5]
