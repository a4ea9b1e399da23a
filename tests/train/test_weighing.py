"""Token weights in training: they reach the loss in the rows they were made for, and change nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.encoder_fixture import write_bert
from tests.train.replay import Replay
from tests.train.test_capo import BETA, plain_loss
from tests.train.test_grpo import STUDIES, Recorder, _run

from radiograd import models
from radiograd.errors import RunError
from radiograd.labelers import embedded
from radiograd.rl.advantages import group_normalised
from radiograd.runs import Run, read_jsonl
from radiograd.train import grpo
from radiograd.train.grpo import train_grpo
from radiograd.train.weighing import load_weigher
from radiograd.weighting import completions_of

SETTINGS: dict[str, Any] = {"eps": 0.05, "beta": BETA, "lr": 3e-2, "log_rollouts_every": 1}
REFERENCES = {study.study_id: study.sections.impression or "" for study in STUDIES}


class Kept(Recorder, Replay):
    """Completions of many lengths; what the loss was made of is kept, and which study each row is of."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        numbers = [list(REFERENCES).index(row["study_id"]) for row in inputs]
        output["study"] = torch.tensor(numbers)
        return output

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        loss = super()._compute_loss(model, inputs)
        self.losses[-1]["own"] = self._logps.clone()
        return loss


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    examples = [embedded.Example(text, study) for study, text in REFERENCES.items()]
    settings = embedded.Settings(epochs=2, composites=0.5, max_tokens=20)
    embedded.train(examples, folder / "labeler", encoder=write_bert(folder / "bert"), settings=settings)
    return folder / "labeler"


def trained(folder: Path, model: Path, **align: Any) -> tuple[Run, list[dict[str, Any]]]:
    run = _run(folder, model, **{**SETTINGS, "rollouts": 2, "updates_per_rollout": 2, "micro_batch": 4, **align})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(grpo, "PolicyTrainer", Kept)
        train_grpo(run, STUDIES)
    return run, Kept.losses


@pytest.mark.parametrize("by", ["tfidf", "gradient", "combined", "shuffled"])
def test_every_row_gets_its_own_advantage_times_the_weights_of_its_own_tokens(
    sharp_model: Path, tmp_path: Path, classifier: Path, by: str
) -> None:
    weight = {"by": by, "labeler_options": {"folder": str(classifier), "device": "cpu"}}
    run, losses = trained(tmp_path, sharp_model, token_weight=weight)
    weigher = load_weigher(run, list(REFERENCES.values()))
    assert weigher is not None
    tokenizer = models.load_tokenizer(run.config.model)
    unequal = 0
    for record in losses:
        mask, names = record["completion_mask"].bool(), [list(REFERENCES)[k] for k in record["study"].tolist()]
        ids = [row[keep].tolist() for row, keep in zip(record["completion_ids"], mask, strict=True)]
        found = weigher.weigh(completions_of(tokenizer, names, ids), [REFERENCES[name] for name in names])
        for row, weighted in enumerate(found):
            of_tokens = record["advantages"][row].double()
            assert not of_tokens[~mask[row]].any()
            share = torch.as_tensor(weighted.weights)
            assert float(share.mean()) == pytest.approx(1, abs=1e-6)
            mean = of_tokens[mask[row]].mean()
            assert of_tokens[mask[row]].tolist() == pytest.approx((mean * share).tolist(), abs=1e-5)
            unequal += bool(mean) and len(set(weighted.weights)) > 1
    assert unequal > 2
    logged = [row for row in read_jsonl(run.path / "metrics.jsonl") if row["stage"] == "align"]
    assert all(0 < row["weights/effective_share"] <= 1 for row in logged if "weights/effective_share" in row)
    assert any("weights/effective_share" in row for row in logged)
    assert any("seconds/weights" in row for row in logged)


def test_the_mean_over_tokens_is_the_advantage_of_the_completion(sharp_model: Path, tmp_path: Path) -> None:
    run, losses = trained(tmp_path, sharp_model, token_weight="tfidf")
    rows = [row for file in sorted((run.path / "rollouts").iterdir()) for row in read_jsonl(file)]
    by_group = torch.tensor([row["reward"] for row in rows]).reshape(-1, 4)
    told = [row["advantage"] for row in rows]
    assert told == pytest.approx(group_normalised(by_group).flatten().tolist(), abs=1e-5)
    first = [loss for loss in losses if loss["advantages"].dim() == 2]
    assert len(first) == len(losses)
    seen = {
        round(float(loss["advantages"][row][loss["completion_mask"][row].bool()].mean()), 4)
        for loss in losses
        for row in range(len(loss["advantages"]))
    }
    assert seen == {round(value, 4) for value in told}


def test_the_loss_is_the_plain_one_with_weighted_advantages(sharp_model: Path, tmp_path: Path) -> None:
    _, losses = trained(tmp_path, sharp_model, token_weight="tfidf", eps=0.2)
    for record in losses:
        expected, _ = plain_loss({**record, "critical": torch.zeros(len(record["own"]), dtype=torch.bool)})
        assert float(record["loss"]) == pytest.approx(expected / 3, abs=1e-6)  # of three micro-batches


def test_what_is_shown_of_a_rollout_are_the_characters_of_its_tokens(sharp_model: Path, tmp_path: Path) -> None:
    run, _ = trained(tmp_path, sharp_model, token_weight="tfidf")
    for file in (run.path / "rollouts").iterdir():
        for row in read_jsonl(file):
            assert row["tokens"]
            written = set()
            for start, end, weight in row["tokens"]:
                assert 0 <= start < end <= len(row["completion"])
                assert 0.5 <= weight <= 3.0
                written.update(range(start, end))
            blank = {place for place, letter in enumerate(row["completion"]) if letter.isspace()}
            assert written | blank == set(range(len(row["completion"])))


def test_uniform_weights_are_plain_grpo(sharp_model: Path, tmp_path: Path) -> None:
    plain, uniform, weighted = (
        [float(loss["loss"]) for loss in trained(tmp_path / name, sharp_model, **more)[1]]
        for name, more in {
            "plain": {},
            "uniform": {"token_weight": {"by": "tfidf", "eta": 1.0}},
            "weighted": {"token_weight": "tfidf"},
        }.items()
    )
    assert plain == pytest.approx(uniform, abs=1e-6)
    assert plain != pytest.approx(weighted, abs=1e-6)


def test_a_run_whose_classifier_is_not_trained_says_what_to_run(sharp_model: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, sharp_model, token_weight="combined")
    with pytest.raises(RunError, match="radiograd classifier"):
        load_weigher(run, [])
