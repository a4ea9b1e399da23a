"""Clip ranges by case: the loss that TRL computes, held against one written out here in plain torch."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.replay import Replay
from tests.train.test_grpo import STUDIES, Recorder, _run, _trained

from radiograd.runs import Run
from radiograd.train import capo, grpo
from radiograd.train.grpo import train_grpo

MIXED = [replace(study, critical=number % 2 == 0) for number, study in enumerate(STUDIES)]
EPS, FACTOR, BETA = 0.2, 4.0, 0.3
SETTINGS: dict[str, Any] = {"clip": "critical", "eps": EPS, "clip_factor": FACTOR, "beta": BETA, "lr": 3e-2}


class Weighted(Recorder, Replay):
    """Completions of many lengths, advantages a token as token weights make them; what the loss was made of is kept."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        mask = output["completion_mask"].float()
        generator = torch.Generator().manual_seed(self.state.global_step)
        weights = (0.5 + torch.rand(mask.shape, generator=generator)) * mask
        weights = weights * mask.sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)
        output["advantages"] = output["advantages"].unsqueeze(-1) * weights
        return output

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        loss = super()._compute_loss(model, inputs)
        self.losses[-1]["own"] = self._logps.clone()
        return loss


def plain_loss(record: dict[str, Any]) -> tuple[float, torch.Tensor]:
    """The loss of one pass, token by token in float64, and (B,) how many tokens of each row the clipping stopped."""
    stopped = torch.zeros(len(record["own"]), dtype=torch.long)
    total = 0.0
    for b in range(len(record["own"])):
        eps = EPS / FACTOR if record["critical"][b] else EPS
        of_row, tokens = 0.0, 0
        for t in range(record["own"].shape[1]):
            if not record["completion_mask"][b, t]:
                continue
            now, old, ref = (
                record[name][b, t].double() for name in ("own", "old_per_token_logps", "ref_per_token_logps")
            )
            advantage = record["advantages"][b, t].double()
            ratio = torch.exp(now - old)
            held = min(max(float(ratio), 1 - eps), 1 + eps)
            of_row -= min(float(ratio * advantage), held * float(advantage))
            of_row += BETA * float(torch.exp(ref - now) - (ref - now) - 1)
            stopped[b] += held * float(advantage) < float(ratio * advantage) - 1e-12
            tokens += 1
        total += of_row / max(tokens, 1)
    return total / len(record["own"]), stopped


@pytest.fixture(scope="module")
def recorded(sharp_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[dict[str, Any]]]:
    """Two rollouts of three updates, each update in three micro-batches."""
    run = _run(
        tmp_path_factory.mktemp("capo"), sharp_model, rollouts=2, updates_per_rollout=3, micro_batch=4, **SETTINGS
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(grpo, "PolicyTrainer", Weighted)
        train_grpo(run, MIXED)
    return run, Weighted.losses


def test_the_loss_with_ranges_by_case_and_weights_by_token_is_the_plain_one(recorded) -> None:
    _, losses = recorded
    assert len(losses) == 2 * 3 * 3
    stopped = {True: 0, False: 0}
    for record in losses:
        assert record["advantages"].shape == record["own"].shape
        expected, counts = plain_loss(record)
        passes = 3  # TRL divides by the passes of a step
        assert float(record["loss"]) * passes == pytest.approx(expected, abs=1e-6)
        torch.testing.assert_close(record["own"] * record["completion_mask"], record["now"], atol=3e-5, rtol=0)
        for kind in stopped:
            stopped[kind] += int(counts[record["critical"] == kind].sum())
    assert min(stopped.values()) > 50  # the clipping acts, in both ranges
    assert any(not record["completion_mask"].all() for record in losses)  # padded


def test_the_range_follows_its_study_through_micro_batches_and_updates(recorded) -> None:
    _, losses = recorded
    critical = {study.study_id for study in MIXED if study.critical}
    assert len(critical) == 6
    seen = set()
    for record in losses:
        eps = torch.where(record["critical"], EPS / FACTOR, EPS)
        torch.testing.assert_close(record["eps"], eps.float())
        seen |= set(record["critical"].tolist())
    assert seen == {True, False}


def test_what_is_logged_apart_is_what_the_passes_of_a_step_did(recorded) -> None:
    run, losses = recorded
    rows = run.metrics("align")
    assert len(rows) == 6
    for number, row in enumerate(rows):
        passes = losses[3 * number : 3 * number + 3]
        kl_of_all = []
        for kind, name in ((True, "critical"), (False, "normal")):
            tokens = clipped = completions = 0
            largest = kl = 0.0
            for record in passes:
                mine = record["critical"] == kind
                mask = record["completion_mask"][mine].bool()
                ratio = (record["own"] - record["old_per_token_logps"]).exp()[mine]
                gap = (record["ref_per_token_logps"] - record["own"])[mine]
                tokens += int(mask.sum())
                completions += int(mine.sum())
                clipped += int(plain_loss(record)[1][mine].sum())
                kl += float((gap.exp() - gap - 1)[mask].sum())
                largest = max(largest, float((ratio[mask] - 1).abs().max()) if mask.any() else 0.0)
            kl_of_all.append((kl, completions))
            if not tokens:
                assert f"{name}/clip_share" not in row
                continue
            assert row[f"{name}/clip_share"] == pytest.approx(clipped / tokens, abs=1e-9)
            assert row[f"{name}/ratio_max"] == pytest.approx(largest, rel=1e-5)
            assert row[f"{name}/kl"] == pytest.approx(kl / tokens, rel=1e-4, abs=1e-7)
            assert row[f"{name}/kl_completion"] == pytest.approx(kl / completions, rel=1e-4, abs=1e-6)
        total, completions = (sum(column) for column in zip(*kl_of_all, strict=True))
        assert row["kl_completion"] == pytest.approx(total / completions, rel=1e-4, abs=1e-6)
    first = rows[0]
    assert 0 < first["critical/share"] < 1
    assert first["critical/share"] * first.get("critical/reward", 0.0) + (1 - first["critical/share"]) * first.get(
        "normal/reward", 0.0
    ) == pytest.approx(first["reward/total"], abs=1e-6)


def test_without_critical_studies_it_is_plain_grpo(sharp_model: Path, tmp_path: Path) -> None:
    calm = [replace(study, critical=False) for study in STUDIES]
    shape = {"rollouts": 2, "eps": EPS, "beta": 0.0}

    def train(name: str, studies: list[Any], **settings: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("tests.train.test_grpo.STUDIES", studies)
            return _trained(grpo.PolicyTrainer, _run(tmp_path / name, sharp_model, **shape, **settings))

    plain, weights = train("plain", STUDIES)
    calm_losses, others = train("calm", calm, clip="critical")
    assert calm_losses == pytest.approx(plain, abs=1e-6)
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, atol=1e-5, rtol=1e-4, msg=name)
    everyone = [replace(study, critical=True) for study in STUDIES]
    narrow = train("narrow", everyone, clip="critical")[0]
    assert narrow != pytest.approx(plain, abs=1e-6)
    shape["eps"] = EPS / FACTOR
    assert narrow == pytest.approx(train("control", STUDIES)[0], abs=1e-6)  # the control of METHODS: GRPO, eps 0.05


def test_a_study_without_an_answer_counts_as_critical(sharp_model: Path, tmp_path: Path) -> None:
    some = [replace(study, critical=None if number else False) for number, study in enumerate(STUDIES)]
    run = _run(tmp_path, sharp_model, rollouts=1, **SETTINGS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(grpo, "PolicyTrainer", Recorder)
        facts = train_grpo(run, some)
    assert facts["critical"] == 11
    record = Recorder.losses[0]
    assert record["eps"][record["critical"]].tolist() == pytest.approx([EPS / FACTOR] * int(record["critical"].sum()))
    assert record["critical"].sum() >= 8  # two studies of three at least


def test_ranges_that_hardly_differ_are_told(
    sharp_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    everyone = [replace(study, critical=True) for study in STUDIES]
    with caplog.at_level(logging.WARNING, "radiograd"):
        train_grpo(_run(tmp_path, sharp_model, rollouts=1, **SETTINGS), everyone)
    assert "100% of the studies are critical: clip: critical is then nearly GRPO with eps 0.05" in caplog.text


def test_the_trainers_own_range_is_back_after_the_loss_and_after_a_failure() -> None:
    class Trainer:
        epsilon_low = epsilon_high = 0.2

    trainer = Trainer()

    def fails() -> None:
        with capo.clip_ranges(trainer, torch.tensor([0.1, 0.2])):
            assert trainer.epsilon_low.shape == (2, 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert (trainer.epsilon_low, trainer.epsilon_high) == (0.2, 0.2)
    with capo.clip_ranges(trainer, None):
        assert trainer.epsilon_low == 0.2


def test_clipping_is_counted_by_hand() -> None:
    # ratios: row 0 (critical, eps .05) 1.10 with A > 0 is stopped, 0.90 with A > 0 is not; row 1 (eps .2): 1.10 is
    # inside, 0.70 with A < 0 is stopped; the padded token (ratio 9) counts nowhere
    ratio = torch.tensor([[1.10, 0.90, 9.0], [1.10, 0.70, 1.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    advantages = torch.tensor([1.0, -1.0])
    sums, largest = capo.apart(
        ratio.log(), torch.zeros(2, 3), None, advantages, mask, torch.tensor([0.05, 0.2]), torch.tensor([True, False])
    )
    assert sums[:, :3].tolist() == [[2, 1, 1], [3, 1, 1]]
    assert sums[:, 3].isnan().all()
    assert largest.tolist() == pytest.approx([0.1, 0.3], abs=1e-6)
