"""Policy optimisation of a tiny model for real, with a recorder between TRL and us."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file
from tests import tiny
from transformers import TrainerCallback
from trl import GRPOTrainer

from radiograd import models
from radiograd.config import RunConfig
from radiograd.errors import DataError
from radiograd.prompts import Prompter
from radiograd.rewards import build_reward
from radiograd.rl.advantages import group_normalised
from radiograd.rl.policy_loss import clipped, k3, sequence_mean
from radiograd.runs import Run, read_jsonl
from radiograd.train import grpo
from radiograd.train.grpo import metrics_row, train_grpo
from radiograd.types import Case, Score, Sections

STUDIES = tiny.studies(12, seed=3)
BETA, EPS = 0.5, 0.05  # large and narrow: both terms must show
HERE = "test_grpo"


# ---- reward terms of these tests, named in configs as test_grpo:<name> -----------------------------------------------


def share_of_e(cases: Sequence[Case]) -> list[Score]:
    """Share of letters that are an e."""
    return [Score(case.candidate.count("e") / max(1, len(case.candidate))) for case in cases]


def sometimes_unscored(cases: Sequence[Case]) -> list[Score]:
    """As share_of_e; a candidate of an odd number of characters cannot be scored."""
    return [
        Score(None, why="odd") if len(case.candidate) % 2 else score
        for case, score in zip(cases, share_of_e(cases), strict=True)
    ]


def never_scored(cases: Sequence[Case]) -> list[Score]:
    """Unknown, always."""
    return [Score(None, why="the judge is away") for _ in cases]


def the_same_for_half_the_studies(cases: Sequence[Case]) -> list[Score]:
    """As share_of_e for studies of an odd number; 0.5 for the others, whatever they say."""
    odd = [int("".join(filter(str.isdigit, case.study.study_id)) or 0) % 2 == 1 for case in cases]
    return [score if varied else Score(0.5) for score, varied in zip(share_of_e(cases), odd, strict=True)]


# ---- a run and what is recorded of it --------------------------------------------------------------------------------


class Recorder(grpo.PolicyTrainer):
    """Keeps, for each loss, its inputs and log-probabilities computed independently; and each step's gradient."""

    losses: list[dict[str, Any]]
    gradients: list[dict[str, torch.Tensor]]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        type(self).losses, type(self).gradients = [], []
        self.add_callback(_Gradients(self))

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        with torch.no_grad():
            now = _plain_logps(model, inputs, self.temperature)
            with model.disable_adapter():
                reference = _plain_logps(model, inputs, self.temperature)
        loss = super()._compute_loss(model, inputs)
        self.losses.append({**inputs, "now": now, "reference": reference, "loss": loss.detach().clone()})
        return loss


class _Gradients(TrainerCallback):
    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        named = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
        self.recorder.gradients.append(named)


def _plain_logps(model: Any, inputs: dict[str, Any], temperature: float) -> torch.Tensor:
    """Every row whole, all logits: (B, T), 0 on padding."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    start = inputs["prompt_ids"].shape[1] - 1
    logps = torch.log_softmax(logits[:, start:-1].float() / temperature, -1)
    return logps.gather(-1, inputs["completion_ids"].unsqueeze(-1)).squeeze(-1) * inputs["completion_mask"]


def _run(folder: Path, model: Path, **align: object) -> Run:
    """A run whose SFT adapter is there and is not zero."""
    settings = {
        "reward": {f"{HERE}:share_of_e": 1.0},
        "rollouts": 3,
        "prompts": 3,
        "group_size": 4,
        "micro_batch": 12,
        "max_new_tokens": 8,
        "lr": 1e-2,
        "warmup": 0.0,
        "beta": BETA,
        "eps": EPS,
        "temperature": 0.9,
        "log_rollouts_every": 2,
        **align,
    }
    values = {
        "model": {"name": str(model), "dtype": "float32", "device": "cpu", "lora": {"rank": 4, "alpha": 8}},
        "align": settings,
    }
    run = Run(folder, RunConfig.model_validate(values))
    policy = get_peft_model(models.load_policy(run.config.model), models.lora_config(run.config.model.lora))
    generator = torch.Generator().manual_seed(1)
    for name, weight in policy.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.2
    policy.save_pretrained(str(folder / "sft" / "adapter"))
    return run


def _recorded(run: Run, studies=STUDIES) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, torch.Tensor]]]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(grpo, "PolicyTrainer", Recorder)
        facts = train_grpo(run, studies)
    return facts, Recorder.losses, Recorder.gradients


@pytest.fixture(scope="module")
def recorded(sharp_model: Path, tmp_path_factory: pytest.TempPathFactory):
    """Three rollouts of two updates each, one forward pass an update."""
    run = _run(tmp_path_factory.mktemp("recorded"), sharp_model)
    return run, *_recorded(run)


# ---- the loss --------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_clipped_loss_plus_beta_times_k3(recorded) -> None:
    _, _, losses, _ = recorded
    assert len(losses) == 6
    for record in losses:
        mask = record["completion_mask"]
        policy = clipped(record["now"], record["old_per_token_logps"], record["advantages"], mask, EPS)
        expected = policy + BETA * sequence_mean(k3(record["now"], record["reference"]), mask)
        assert float(record["loss"]) == pytest.approx(float(expected), abs=2e-5)


def test_the_second_update_of_a_rollout_meets_ratios_beyond_the_clip_range(recorded) -> None:
    run, _, losses, _ = recorded
    for first, second in zip(losses[::2], losses[1::2], strict=True):
        assert torch.equal(first["completion_ids"], second["completion_ids"])
        torch.testing.assert_close(second["old_per_token_logps"], first["now"], atol=2e-5, rtol=0)
        ratio = (second["now"] - second["old_per_token_logps"]).exp()
        assert float((ratio - 1).abs().max()) > EPS
    assert run.metrics("align")[1]["clip_share"] > 0
    assert run.metrics("align")[1]["ratio_max"] > EPS


def test_the_first_update_starts_from_the_sft_policy(recorded) -> None:
    run, _, losses, _ = recorded
    first = losses[0]
    torch.testing.assert_close(first["now"], first["old_per_token_logps"], atol=2e-5, rtol=0)
    torch.testing.assert_close(first["now"], first["reference"], atol=0, rtol=0)
    row = run.metrics("align")[0]
    assert row["kl"] == pytest.approx(0, abs=1e-7)
    assert row["ratio_max"] == pytest.approx(0, abs=1e-4)
    assert row["clip_share"] == 0


def test_the_reference_is_the_sft_policy_at_every_update(recorded) -> None:
    run, _, losses, _ = recorded
    sft = models.load_policy(run.config.model, merged=[run.path / "sft" / "adapter"])
    for record in losses:
        with torch.no_grad():
            expected = _plain_logps(sft, record, run.config.align.temperature)
        torch.testing.assert_close(record["ref_per_token_logps"], expected, atol=2e-5, rtol=0)
    assert run.metrics("align")[-1]["kl"] > 1e-4  # the policy has left it


def test_each_rollout_starts_at_ratio_one_with_adapter_dropout_too(sharp_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, sharp_model)
    lora = run.config.model.lora.model_copy(update={"dropout": 0.5})
    run.config = run.config.model_copy(update={"model": run.config.model.model_copy(update={"lora": lora})})
    train_grpo(run, STUDIES)
    assert [row["ratio_max"] for row in run.metrics("align")[::2]] == pytest.approx([0, 0, 0], abs=1e-4)


# ---- rewards and advantages ------------------------------------------------------------------------------------------


def _by_study(run: Run, record: dict[str, Any]) -> dict[str, list[tuple[str, float]]]:
    """Study -> (text, advantage that reached the loss) of its completions, recognised by their prompts' tokens."""
    tokenizer = models.load_tokenizer(run.config.model)
    prompter = Prompter(tokenizer, run.config.model, "findings_to_impression")
    owner = {tuple(prompter.ids(prompter.prompt(study).content)): study.study_id for study in STUDIES}
    groups = defaultdict(list)
    for row in range(len(record["prompt_ids"])):
        prompt = record["prompt_ids"][row][record["prompt_mask"][row].bool()]
        completion = record["completion_ids"][row][record["completion_mask"][row].bool()]
        text = tokenizer.decode(completion, skip_special_tokens=True).strip()
        groups[owner[tuple(prompt.tolist())]].append((text, float(record["advantages"][row])))
    return groups


def test_each_completion_carries_the_advantage_of_its_own_reward_in_its_own_group(recorded) -> None:
    run, _, losses, _ = recorded
    reward = build_reward(run.config.align.reward)
    studies = {study.study_id: study for study in STUDIES}
    nonzero = 0
    for record in losses:
        groups = _by_study(run, record)
        assert [len(rows) for rows in groups.values()] == [4, 4, 4]
        for study_id, rows in groups.items():
            scores = reward([Case(studies[study_id], text) for text, _ in rows])
            expected = group_normalised(torch.tensor([[score.value for score in scores]], dtype=torch.float32))[0]
            assert [advantage for _, advantage in rows] == pytest.approx(expected.tolist(), abs=1e-5)
            nonzero += int((expected != 0).sum())
    assert nonzero > 30


def test_an_unscored_completion_has_no_advantage_and_is_counted(
    sharp_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    run = _run(tmp_path, sharp_model, reward={f"{HERE}:sometimes_unscored": 1.0}, log_rollouts_every=1)
    with caplog.at_level(logging.DEBUG):
        _, losses, _ = _recorded(run)
    seen = 0
    for record in losses[::2]:
        for rows in _by_study(run, record).values():
            scored = [row for row in rows if len(row[0]) % 2 == 0]
            assert [advantage for text, advantage in rows if len(text) % 2] == [0.0] * (len(rows) - len(scored))
            expected = group_normalised(torch.tensor([[share_of_e([Case(STUDIES[0], t)])[0].value for t, _ in scored]]))
            assert [advantage for _, advantage in scored] == pytest.approx(expected[0].tolist(), abs=1e-5)
            seen += len(rows) - len(scored)
    assert seen > 0
    rows = [row for row in run.metrics("align") if "reward/total" in row]
    assert sum(row["reward/unscored_frac"] * 12 for row in rows) == pytest.approx(seen)
    written = [row for path in sorted((tmp_path / "rollouts").iterdir()) for row in read_jsonl(path)]
    assert sum(row["reward"] is None for row in written) == seen
    assert {row["why"] for row in written if row["reward"] is None} == {f"{HERE}:sometimes_unscored: odd"}
    said = caplog.text + "".join(capfd.readouterr())
    assert not any(study.sections.findings in said for study in STUDIES)  # TRL would print prompt and completion


def test_a_rollout_nobody_could_score_moves_nothing(sharp_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, sharp_model, reward={f"{HERE}:never_scored": 1.0}, beta=0.0)
    train_grpo(run, STUDIES)
    rows = [row for row in run.metrics("align") if "dead_groups" in row]
    assert [row["dead_groups"] for row in rows] == [1.0, 1.0, 1.0]
    assert [row["reward/unscored_frac"] for row in rows] == [1.0, 1.0, 1.0]
    assert not any("reward/total" in row for row in rows)  # unknown is not zero
    weights = load_file(tmp_path / "align" / "adapter" / "adapter_model.safetensors")
    assert all(bool((value == 0).all()) for name, value in weights.items() if "lora_B" in name)


def test_a_reward_that_can_be_learnt_rises(sharp_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, sharp_model, rollouts=30, prompts=4, group_size=8, micro_batch=32, beta=0.0, eps=0.2, lr=2e-2)
    train_grpo(run, STUDIES)
    rewards = [row["reward/total"] for row in run.metrics("align") if "reward/total" in row]
    assert len(rewards) == 30
    assert np.mean(rewards[-5:]) > 1.5 * np.mean(rewards[:5])


# ---- micro-batches ---------------------------------------------------------------------------------------------------


def test_micro_batches_give_the_gradient_of_the_whole_batch(sharp_model: Path, tmp_path: Path) -> None:
    whole, losses = None, []
    for micro_batch in (12, 6, 3):
        run = _run(tmp_path / str(micro_batch), sharp_model, rollouts=1, micro_batch=micro_batch)
        _, records, gradients = _recorded(run)
        assert len(records) == 2 * 12 // micro_batch
        assert len(gradients) == 2
        whole = whole or gradients[0]
        assert sum(float(gradient.norm()) for gradient in whole.values()) > 0.1
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, whole[name], atol=2e-6, rtol=1e-3, msg=name)
        losses.append([row["loss"] for row in run.metrics("align")])
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[2] == pytest.approx(losses[0], abs=1e-4)


def test_micro_batches_hold_whole_groups(sharp_model: Path, tmp_path: Path) -> None:
    _, records, _ = _recorded(_run(tmp_path, sharp_model, rollouts=1, micro_batch=4))
    assert len(records) == 2 * 3
    for record in records:
        assert all(torch.equal(row, record["prompt_ids"][0]) for row in record["prompt_ids"])


class Stock(grpo.PolicyTrainer):
    """TRL's own log-probabilities: every row whole, every row computed."""

    def _live_rows(self, inputs: dict[str, Any]) -> None:
        """Every row is computed."""

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        logps, entropies, rest = GRPOTrainer._get_per_token_logps_and_entropies(self, *args, **kwargs)
        if torch.is_grad_enabled():
            self._logps = logps.detach()
        return logps, entropies, rest


class EveryRow(Recorder):
    """Ours, but rows without an advantage are computed too."""

    def _live_rows(self, inputs: dict[str, Any]) -> None:
        """Every row is computed."""


def _trained(trainer: type, run: Run) -> tuple[list[float], dict[str, torch.Tensor]]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(grpo, "PolicyTrainer", trainer)
        train_grpo(run, STUDIES)
    weights = load_file(str(run.path / "align" / "adapter" / "adapter_model.safetensors"))
    return [row["loss"] for row in run.metrics("align")], weights


@pytest.mark.parametrize("beta", [0.0, BETA])
def test_ten_steps_give_the_losses_of_stock_trl(sharp_model: Path, tmp_path: Path, beta: float) -> None:
    settings = {"rollouts": 5, "beta": beta, "lr": 1e-3, "micro_batch": 6}
    ours, weights = _trained(grpo.PolicyTrainer, _run(tmp_path / "ours", sharp_model, **settings))
    theirs, others = _trained(Stock, _run(tmp_path / "stock", sharp_model, **settings))
    assert len(ours) == 10
    assert ours == pytest.approx(theirs, abs=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], atol=1e-4, rtol=1e-3, msg=name)


def test_rows_without_an_advantage_are_left_out_and_the_gradients_are_the_same(
    sharp_model: Path, tmp_path: Path
) -> None:
    settings = {
        "rollouts": 3,
        "beta": 0.0,
        "lr": 1e-12,  # the policy stays where it is: what differs is arithmetic, not Adam making much of rounding
        "micro_batch": 4,  # a whole group: some passes carry no gradient at all
        "reward": {f"{HERE}:the_same_for_half_the_studies": 1.0},
    }
    found = {}
    for trainer in (Recorder, EveryRow):
        run = _run(tmp_path / trainer.__name__, sharp_model, **settings)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(grpo, "PolicyTrainer", trainer)
            train_grpo(run, STUDIES)
        found[trainer] = trainer.gradients, [row["loss"] for row in run.metrics("align")]
        if trainer is Recorder:
            shares = [row["live_frac"] for row in run.metrics("align")]
            assert set(shares) == {0.0, 2 / 3}  # one rollout met only studies whose groups agree
    (ours, losses), (every, others) = found[Recorder], found[EveryRow]
    assert len(ours) == 6
    assert losses == pytest.approx(others, abs=1e-6)
    assert sum(float(gradient.norm()) for gradient in every[0].values()) > 0.01
    for one, other in zip(ours, every, strict=True):
        for name, gradient in other.items():
            torch.testing.assert_close(one[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


# ---- what is written -------------------------------------------------------------------------------------------------

EVERY_STEP = {
    *("loss", "lr", "grad_norm", "kl", "kl_completion", "entropy", "clip_share", "ratio_max"),
    *("seconds/step", "seconds/forward"),
}
EVERY_ROLLOUT = {
    "reward/total",
    "reward/total_std",
    "reward/unscored_frac",
    f"reward/{HERE}:share_of_e",
    "reward/length_ratio",
    "dead_groups",
    "words_mean",
    "tokens_mean",
    "truncated_frac",
    "distinct_frac",
    "monitor/positives_ratio",
    "monitor/words_ratio",
    "monitor/template_share",
    "monitor/template_share_reference",
    "monitor/distinct_1",
    "monitor/distinct_2",
    "seconds/sampling",
    "seconds/reward",
    "seconds/scoring",
}


@pytest.fixture(scope="module")
def two_terms(sharp_model: Path, tmp_path_factory: pytest.TempPathFactory):
    run = _run(
        tmp_path_factory.mktemp("two_terms"),
        sharp_model,
        rollouts=5,
        reward={f"{HERE}:share_of_e": 1.0, "length_ratio": 0.0},
    )
    return run, train_grpo(run, STUDIES)


def test_metrics_hold_every_term_and_every_sign_of_health(two_terms) -> None:
    rows = two_terms[0].metrics("align")
    assert [row["step"] for row in rows] == list(range(1, 11))
    for number, row in enumerate(rows):
        keys = set(row) - {"stage", "step", "attempt", "time"}
        after_the_first = {"seconds/reward_share"} if number else set()
        assert keys == (EVERY_STEP | EVERY_ROLLOUT | after_the_first if number % 2 == 0 else EVERY_STEP)


def test_completions_are_sampled_once_for_every_two_updates(two_terms, recorded) -> None:
    sampled = [row["step"] for row in two_terms[0].metrics("align") if "seconds/sampling" in row]
    assert sampled == [1, 3, 5, 7, 9]
    texts = [record["completion_ids"].tolist() for record in recorded[2]]
    assert texts[0] == texts[1] != texts[2] == texts[3] != texts[4] == texts[5]


def test_one_update_a_rollout_samples_at_every_step(sharp_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, sharp_model, updates_per_rollout=1)
    train_grpo(run, STUDIES)
    rows = run.metrics("align")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all("seconds/sampling" in row and row["clip_share"] == 0 for row in rows)


def test_rollouts_are_written_with_every_term(two_terms) -> None:
    run, _ = two_terms
    files = sorted((run.path / "rollouts").iterdir())
    assert [path.name for path in files] == ["step_000000.jsonl", "step_000004.jsonl", "step_000008.jsonl"]
    metrics = {row["step"]: row for row in run.metrics("align")}
    for path in files:
        rows = list(read_jsonl(path))
        assert len(rows) == 12
        for i in range(0, 12, 4):
            assert len({row["study_id"] for row in rows[i : i + 4]}) == 1
            rewards = torch.tensor([[row["reward"] for row in rows[i : i + 4]]])
            expected = group_normalised(rewards)[0].tolist()
            assert [row["advantage"] for row in rows[i : i + 4]] == pytest.approx(expected, abs=1e-5)
        for row in rows:
            assert set(row["terms"]) == {f"{HERE}:share_of_e", "length_ratio"}
            assert row["reward"] == pytest.approx(row["terms"][f"{HERE}:share_of_e"])  # the other weighs nothing
        step = int(path.stem.removeprefix("step_")) + 1
        for term in ("length_ratio", f"{HERE}:share_of_e"):
            mean = np.mean([row["terms"][term] for row in rows])
            assert metrics[step][f"reward/{term}"] == pytest.approx(mean)


def test_the_facts_say_what_was_trained_on(two_terms) -> None:
    run, facts = two_terms
    tokens = facts.pop("tokens")
    assert facts.pop("peak_gib") > 0
    assert facts == {
        "studies": 12,
        "left_out_redacted": 0,
        "prompts_cut": 0,
        "steps": 10,
        "device": "cpu",
        "dtype": "float32",
    }
    prompter = Prompter(models.load_tokenizer(run.config.model), run.config.model, "findings_to_impression")
    lengths = [len(prompter.ids(prompter.prompt(study).content)) for study in STUDIES]
    completions = sum(row["tokens_mean"] * 12 for row in run.metrics("align") if "tokens_mean" in row)
    assert 5 * 12 * min(lengths) <= tokens - completions <= 5 * 12 * max(lengths)
    assert sorted(path.name for path in (run.path / "align").iterdir()) == ["adapter"]
    config = json.loads((run.path / "align" / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])


def test_a_model_without_a_chat_template_is_aligned_too(plain_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, plain_model, rollouts=1)
    train_grpo(run, STUDIES)
    assert len(run.metrics("align")) == 2


def test_what_is_not_known_is_left_out_of_a_row() -> None:
    logs = {"loss": 1.0, "kl": None, "reward/total": None, "dead_groups": 0.5, "rewards/_reward/mean": 3.0}
    assert metrics_row(logs) == {"loss": 1.0, "dead_groups": 0.5}
    assert metrics_row({"train_runtime": 3.0, "train_loss": 1.0}) == {}


# ---- what is trained on ----------------------------------------------------------------------------------------------


def test_studies_with_a_redacted_impression_are_left_out_and_counted(sharp_model: Path, tmp_path: Path) -> None:
    marked = [
        replace(study, sections=Sections(findings=study.sections.findings, impression="Seen by XXXX."))
        for study in STUDIES[:5]
    ]
    run = _run(tmp_path, sharp_model, log_rollouts_every=1)
    facts = train_grpo(run, marked + STUDIES[5:])
    assert (facts["studies"], facts["left_out_redacted"]) == (7, 5)
    seen = {row["study_id"] for path in (tmp_path / "rollouts").iterdir() for row in read_jsonl(path)}
    assert seen
    assert not seen & {study.study_id for study in marked}


def test_too_few_studies_for_a_rollout_are_refused(sharp_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, sharp_model)
    with pytest.raises(DataError, match=r"align\.prompts=3 or more .* there are 2\. Lower align\.prompts"):
        train_grpo(run, STUDIES[:2])
