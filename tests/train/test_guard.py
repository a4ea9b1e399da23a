"""A tiny model that writes impressions, optimised for rewards that can be gamed, and what the guard does about it."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model
from tests import tiny

from radiograd import models
from radiograd.config import ModelConfig, RunConfig
from radiograd.decoding import decode, end_tokens
from radiograd.errors import ConfigError, RunError
from radiograd.prompts import Prompter
from radiograd.runs import Run, read_jsonl, write_jsonl
from radiograd.stages import check_names
from radiograd.text.labels import RuleLabeler
from radiograd.train import grpo
from radiograd.train.grpo import train_grpo
from radiograd.train.guard import as_found, draw, kl_along
from radiograd.types import Case, Score, Sections, Status, Study

TRAIN = tiny.studies(80, seed=21)
VAL = [replace(study, study_id=f"v{study.study_id}") for study in tiny.studies(40, seed=11)]
HERE = "test_guard"
WEIGHTS = "adapter_model.safetensors"


# ---- rewards of these tests, named in configs as test_guard:<name> ---------------------------------------------------


def length_only(cases: Sequence[Case]) -> list[Score]:
    """The more words the better, whatever they say."""
    return [Score(min(1.0, len(case.candidate.split()) / 20)) for case in cases]


def label_recall(cases: Sequence[Case]) -> list[Score]:
    """The share of the reference's findings that are named: nothing is lost by naming others too."""
    return [_recall(case) for case in cases]


def _recall(case: Case) -> Score:
    theirs = _present(case.reference or "")
    if not theirs:
        return Score(None, why="the reference states no finding")
    return Score(len(theirs & _present(case.candidate)) / len(theirs))


def _present(text: str) -> set[str]:
    found = RuleLabeler()([text])[0]
    return {label for label, status in found.items() if status is Status.PRESENT} - {"No Finding"}


class Draws:
    """A gold metric that draws from every global generator, as somebody's may."""

    name = signature = "draws"
    higher_is_better = True
    part_names = ("sum", "n")

    def score(self, cases: Sequence[Case]) -> list[Score]:
        """Noise."""
        random.random()
        np.random.random()  # noqa: NPY002
        return [Score(float(torch.rand(()))) for _ in cases]

    def combine(self, sums: Any) -> Any:
        """The mean."""
        return sums["sum"] / sums["n"]


def mean_letter(cases: Sequence[Case]) -> list[Score]:
    """Something that moves: the share of letters that are an e."""
    return [Score(case.candidate.count("e") / max(1, len(case.candidate))) for case in cases]


# ---- a run -----------------------------------------------------------------------------------------------------------


def _run(folder: Path, model: Path, val: Sequence[Study] = VAL, **align: Any) -> Run:
    """A run whose SFT policy is ``model`` itself; validation studies lie where a run has them."""
    settings = {
        "reward": {f"{HERE}:length_only": 1.0},
        "rollouts": 100,
        "prompts": 4,
        "group_size": 8,
        "micro_batch": 32,
        "max_new_tokens": 24,
        "lr": 3e-3,
        "warmup": 0.0,
        "beta": 0.0,
        "temperature": 1.3,
        "guard": {"every": 5, "studies": 32},
        **align,
    }
    values = {
        "model": {"name": str(model), "dtype": "float32", "device": "cpu", "lora": {"rank": 4, "alpha": 8}},
        "align": settings,
        "generate": {"max_new_tokens": 24, "batch_size": 16},
    }
    run = Run(folder, RunConfig.model_validate(values))
    policy = get_peft_model(models.load_policy(run.config.model), models.lora_config(run.config.model.lora))
    policy.save_pretrained(str(folder / "sft" / "adapter"))
    write_jsonl(folder / "data" / "val.jsonl", [study.to_json() for study in val])
    return run


def _looks(run: Run) -> list[dict[str, Any]]:
    return list(read_jsonl(run.path / "guard.jsonl"))


def _best(run: Run) -> list[str]:
    return sorted(str(path.relative_to(run.path / "align" / "best")) for path in run.path.glob("align/best/*/adapter"))


def _weights(folder: Path) -> bytes:
    return (folder / WEIGHTS).read_bytes()


def _greedy(run: Run, adapter: Path | None) -> list[list[int]]:
    policy = models.load_policy(run.config.model, merged=[run.path / "sft" / "adapter"], adapter=adapter)
    tokenizer = models.load_tokenizer(run.config.model)
    prompter = Prompter(tokenizer, run.config.model, "findings_to_impression")
    prompts = [prompter.ids(prompter.prompt(study).content) for study in VAL]
    return decode(policy, prompts, max_new_tokens=24, eos=end_tokens(policy, tokenizer), pad=tokenizer.pad_token_id)


# ---- rewards that can be gamed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reward", ["length_only", "label_recall"])
def test_a_reward_that_can_be_gamed_sets_off_the_alarm_and_the_best_policy_is_returned(
    writing_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, reward: str
) -> None:
    run = _run(tmp_path, writing_model, reward={f"{HERE}:{reward}": 1.0})
    with caplog.at_level(logging.WARNING):
        facts = train_grpo(run, TRAIN)
    *before, last = _looks(run)
    assert [look["step"] for look in (*before, last)] == list(range(0, last["step"] + 1, 10))
    assert not any(look["alarm"] or look["stop"] for look in before)
    assert last["alarm"]
    assert last["step"] == facts["steps"] < 200
    # what it was judged by really happened: on the same studies the default panel fell, by far, and the reward rose
    best = next(look for look in before if look["step"] == last["best_step"])
    assert len(last["metrics"]) == 5
    assert last["gold"] < best["gold"] - 0.1
    assert last["difference"] < -3 * last["difference_se"]
    rewards = [row["reward/total"] for row in run.metrics("align") if "reward/total" in row]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3])
    assert sum(look["metrics"][name] < best["metrics"][name] for look in (last,) for name in look["metrics"]) >= 3
    # what is left of it
    assert facts["guard"] == {
        "panel": ["statements", "tfidf_overlap", "label_f1_14_example", "factgraph_complete", "rougeL"],
        "studies": 32,
        "looks": len(before) + 1,
        "best_step": best["step"],
        "alarm": True,
        "step": last["step"],
        "returned_to": best["step"],
        "why": last["why"],
    }
    assert f"guard: stopped at step {last['step']}: the gold panel lies" in caplog.text
    assert _best(run) == [f"step_{best['step']:06d}/adapter"]
    kept = run.path / "align" / "best" / f"step_{best['step']:06d}" / "adapter"
    assert _weights(run.path / "align" / "adapter") == _weights(kept)
    assert not (run.path / "align" / "checkpoints").exists()
    assert (
        sum(a != b for a, b in zip(_greedy(run, run.path / "align" / "adapter"), _greedy(run, kept), strict=True)) == 0
    )


def test_where_the_sft_policy_was_best_its_own_texts_come_back_exactly(sharp_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, sharp_model, rollouts=4, guard={"every": 2, "kl_stop": 1e-9, "gold": ["statements"]}, lr=1e-2)
    facts = train_grpo(run, TRAIN)
    assert (facts["guard"]["returned_to"], facts["guard"]["step"], facts["guard"]["alarm"]) == (0, 4, False)
    assert facts["guard"]["why"].startswith("KL to the SFT policy is")
    assert _greedy(run, run.path / "align" / "adapter") == _greedy(run, None)


# ---- what a look leaves behind ---------------------------------------------------------------------------------------


def test_looking_changes_nothing_of_the_training(sharp_model: Path, tmp_path: Path) -> None:
    found = {}
    for every in (0, 1):
        settings = {"reward": {f"{HERE}:mean_letter": 1.0}, "rollouts": 4, "beta": 0.1, "max_new_tokens": 8}
        guard = {"every": every, "gold": [f"{HERE}:Draws"], "fall": 99.0}
        run = _run(tmp_path / str(every), sharp_model, **settings, guard=guard)
        facts = train_grpo(run, TRAIN)
        rows = [{k: v for k, v in row.items() if not k.startswith(("time", "seconds"))} for row in run.metrics("align")]
        found[every] = rows, _weights(run.path / "align" / "adapter"), facts["tokens"]
    assert found[0] == found[1]
    assert not (tmp_path / "0" / "guard.jsonl").exists()
    assert not (tmp_path / "0" / "align" / "best").exists()
    assert [look["step"] for look in _looks(run)] == [0, 2, 4, 6, 8]


def test_a_model_is_left_in_its_mode_and_every_generator_where_it_was(sharp_model: Path) -> None:
    model = models.load_policy(ModelConfig(name=str(sharp_model), device="cpu"))
    for training in (True, False):
        model.train(training)
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        with pytest.raises(ZeroDivisionError):
            _disturb(model)
        assert model.training is training
        assert torch.equal(torch.get_rng_state(), states[0])
        assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]  # noqa: NPY002


def _disturb(model: Any) -> None:
    with as_found(model):
        model.train(not model.training)
        torch.rand(3), random.random(), np.random.random()  # noqa: NPY002
        _ = 1 / 0


def test_without_an_alarm_the_last_policy_stays(sharp_model: Path, tmp_path: Path) -> None:
    settings = {"reward": {f"{HERE}:mean_letter": 1.0}, "rollouts": 3, "max_new_tokens": 8}
    runs = {
        every: _run(tmp_path / str(every), sharp_model, **settings, guard={"every": every, "fall": 99.0})
        for every in (0, 2)
    }
    facts = {every: train_grpo(run, TRAIN) for every, run in runs.items()}
    assert "guard" not in facts[0]
    told = facts[2]["guard"]
    assert (told["alarm"], told["step"], told["returned_to"], told["why"]) == (False, None, None, None)
    assert told["looks"] == 3
    assert [look["step"] for look in _looks(runs[2])] == [0, 4, 6]  # after the second rollout, and after the last
    adapters = [_weights(run.path / "align" / "adapter") for run in runs.values()]
    assert adapters[0] == adapters[1]
    assert _best(runs[2]) == [f"step_{told['best_step']:06d}/adapter"]


def test_the_best_policy_is_kept_when_that_is_asked_for(sharp_model: Path, tmp_path: Path) -> None:
    settings = {"reward": {f"{HERE}:mean_letter": 1.0}, "rollouts": 4, "max_new_tokens": 8, "lr": 1e-2}
    guard = {"every": 1, "gold": [f"{HERE}:Draws"], "fall": 99.0}
    kept = {
        keep: _run(tmp_path / keep, sharp_model, **settings, guard={**guard, "keep": keep}) for keep in ("last", "best")
    }
    facts = {keep: train_grpo(run, TRAIN)["guard"] for keep, run in kept.items()}
    best = max(_looks(kept["best"]), key=lambda look: look["gold"])["step"]
    assert 0 < best < 8  # neither the SFT policy nor the last one, or this shows nothing
    assert [facts[keep]["returned_to"] for keep in ("last", "best")] == [None, best]
    adapters = {keep: _weights(run.path / "align" / "adapter") for keep, run in kept.items()}
    assert adapters["best"] == _weights(kept["best"].path / "align" / "best" / f"step_{best:06d}" / "adapter")
    assert adapters["best"] != adapters["last"]


def test_the_kl_is_that_of_the_next_token_over_the_whole_vocabulary(sharp_model: Path) -> None:
    config = RunConfig.model_validate({"model": {"name": str(sharp_model), "dtype": "float32", "device": "cpu"}}).model
    sft, policy = (
        models.load_policy(config),
        get_peft_model(models.load_policy(config), models.lora_config(config.lora)),
    )
    prompts, answers = [[7, 40, 9], [8, 30, 20, 10, 5]], [[11, 300, 1], [12]]
    assert kl_along(policy, prompts, answers, 0.7) == [[0.0, 0.0, 0.0], [0.0]]  # a fresh adapter changes nothing
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    found = kl_along(policy, prompts, answers, 0.7)
    for prompt, answer, one in zip(prompts, answers, found, strict=True):
        with torch.no_grad():
            ids = torch.tensor([[*prompt, *answer]])
            p, q = (torch.log_softmax(m(ids).logits[0, len(prompt) - 1 : -1] / 0.7, -1) for m in (policy, sft))
        expected = (p.exp() * (p - q)).sum(-1)
        assert float(expected.min()) > 1e-3
        assert one == pytest.approx(expected.tolist(), abs=1e-5)
    assert all(weight.requires_grad for name, weight in policy.named_parameters() if "lora_" in name)


# ---- which studies ---------------------------------------------------------------------------------------------------


def test_studies_are_drawn_by_hash_from_those_with_a_reference() -> None:
    empty = [replace(VAL[k], sections=Sections(findings="x", impression=text)) for k, text in ((0, None), (1, " "))]
    studies = [*empty, *VAL[2:]]
    drawn = draw(studies, 10, seed=7, section="impression")
    assert len(drawn) == 10
    assert drawn == draw(studies[::-1], 10, seed=7, section="impression") != draw(studies, 10, 8, "impression")
    assert drawn == draw(studies, 20, seed=7, section="impression")[:10]
    assert {s.study_id for s in draw(studies, 99, 7, "impression")} == {s.study_id for s in VAL[2:]}


@pytest.mark.parametrize("val", [VAL[:7], []])
def test_too_few_validation_studies_are_told_once_and_nobody_looks(
    sharp_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, val: list[Study]
) -> None:
    run = _run(tmp_path, sharp_model, val=val, rollouts=2, max_new_tokens=4)
    if not val:
        (tmp_path / "data" / "val.jsonl").unlink()
    with caplog.at_level(logging.WARNING):
        facts = train_grpo(run, TRAIN)
    assert caplog.text.count("nobody watches for over-optimisation") == 1
    assert f"8 or more validation studies with a reference and there are {len(val)}" in caplog.text
    assert "guard" not in facts
    assert not (tmp_path / "guard.jsonl").exists()


def test_a_panel_that_the_reward_pays_for_is_refused_before_anything_is_loaded() -> None:
    config = RunConfig.model_validate({"align": {"reward": {"rougeL": 1.0}, "guard": {"gold": ["bleu4"]}}})
    with pytest.raises(ConfigError, match="bleu4 is no independent judge"):
        check_names(config)


# ---- killed and resumed ----------------------------------------------------------------------------------------------

SHORT = {
    "reward": {f"{HERE}:mean_letter": 1.0},
    "rollouts": 5,
    "prompts": 2,
    "micro_batch": 16,
    "max_new_tokens": 6,
    "lr": 1e-2,
    "checkpoint_every": 2,
    "guard": {"every": 1, "gold": [f"{HERE}:Draws"], "studies": 8, "fall": 99.0},
}


class Killed(Exception):
    """Stands for the end of the process."""


def _train_until(run: Run, step: int | None) -> None:
    class Dying(grpo.PolicyTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            if self.state.global_step == step:
                raise Killed
            return super().training_step(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(grpo, "PolicyTrainer", Dying)
        train_grpo(run, TRAIN)


@pytest.fixture(scope="module")
def undisturbed(sharp_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run nobody touched: five rollouts, ten steps, six looks, checkpoints after steps 4 and 8."""
    run = _run(tmp_path_factory.mktemp("undisturbed"), sharp_model, **SHORT)
    _train_until(run, None)
    return run


@pytest.mark.parametrize("steps", [(1,), (5, 7, 9)])
def test_killed_and_resumed_looks_are_as_if_never_killed(
    sharp_model: Path, undisturbed: Run, tmp_path: Path, steps: tuple[int, ...]
) -> None:
    run = _run(tmp_path, sharp_model, **SHORT)
    for step in steps:
        with pytest.raises(Killed):
            _train_until(run, step)
    with (run.path / "guard.jsonl").open("a") as file:
        file.write('{"step": 99, "go')  # torn
    _train_until(run, None)
    assert _looks(run) == _looks(undisturbed)
    assert [look["step"] for look in _looks(run)] == [0, 2, 4, 6, 8, 10]
    assert len({look["best_step"] for look in _looks(run)}) > 1  # the best changed on the way
    assert _best(run) == _best(undisturbed)
    for name in ("align/adapter", f"align/best/{_best(run)[0]}"):
        assert _weights(run.path / name) == _weights(undisturbed.path / name)


def test_a_best_adapter_that_is_gone_is_told(sharp_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, sharp_model, **SHORT)
    with pytest.raises(Killed):
        _train_until(run, 5)
    (run.path / "guard.jsonl").unlink()
    with pytest.raises(RunError, match=r"guard\.jsonl or the adapter of its best look .* delete .*checkpoints"):
        _train_until(run, None)


def test_rows_are_plain_json_without_report_text(sharp_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, sharp_model, rollouts=1, max_new_tokens=8)
    train_grpo(run, TRAIN)
    text = (run.path / "guard.jsonl").read_text()
    for line in text.splitlines():
        row = json.loads(line)
        assert set(row["studies"]) <= {study.study_id for study in VAL}
        assert len(row["studies"]) == 32
    assert not any(study.sections.impression in text for study in VAL)
