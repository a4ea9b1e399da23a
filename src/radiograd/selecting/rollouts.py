"""What the fine-tuned model samples for the studies that could be chosen, and what it says of their findings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from radiograd import models
from radiograd.config import DiverseConfig, RewardStdConfig
from radiograd.coverage import Array
from radiograd.decoding import plan_batches
from radiograd.metrics.label_f1 import LabelF1
from radiograd.prompts import Prompter
from radiograd.runs import Run
from radiograd.sampled import Sampling, sample_texts
from radiograd.text.labels import RuleLabeler
from radiograd.types import Case, Labels, Status, Study

LABELS = "chexpert14"


def sample_rollouts(
    run: Run, studies: Sequence[Study], config: DiverseConfig | RewardStdConfig
) -> tuple[Path, dict[str, Any]]:
    """``config.rollouts`` completions of every study by the run's fine-tuned model; the file, and what is to be told.

    Appended to ``select/rollouts.jsonl`` batch by batch; a killed program goes on to the same bytes. A batch is drawn
    with a seed of its own, made of the run's seed and its studies.
    """
    tokenizer = models.load_tokenizer(run.config.model)
    prompter = Prompter(tokenizer, run.config.model, run.config.task)
    prompts = {study.study_id: prompter.prompt(study) for study in studies}
    ids = {key: prompter.ids(prompt.content) for key, prompt in prompts.items()}
    settings = run.config.generate
    path = run.path / "select" / "rollouts.jsonl"
    sample_texts(
        path,
        plan_batches({key: len(tokens) for key, tokens in ids.items()}, max(1, settings.batch_size // config.rollouts)),
        ids,
        partial(models.load_policy, run.config.model, merged=[run.path / "sft" / "adapter"]),
        tokenizer,
        Sampling(
            config.rollouts,
            settings.max_new_tokens,
            config.temperature,
            lambda _, batch: _seed(run.config.seed, batch),
            "rollouts",
        ),
    )
    return path, {"prompts_cut": sum(prompt.cut for prompt in prompts.values())}


def _seed(seed: int, batch: Sequence[str]) -> int:
    said = "\n".join([str(seed), "rollouts", *batch])
    return int.from_bytes(hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest()[:7], "big")


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """N studies, K completions of each, C labels. ``shares_N_C``: the share of the completions that state a label as
    present. ``f1_N_K``: diagnostic F1 of each, NaN for a study without a reference. ``facts``: how many completions,
    distinct texts, and completions that ended at the most tokens allowed."""

    shares_N_C: Array
    f1_N_K: Array
    signature: str
    facts: Mapping[str, Any]

    @property
    def mean_N(self) -> Array:
        """Mean F1 of each study."""
        return np.asarray(self.f1_N_K.mean(axis=1))

    @property
    def std_N(self) -> Array:
        """Population standard deviation of the F1 of each study."""
        return np.asarray(np.round(self.f1_N_K.std(axis=1), 12))


def diagnose(
    studies: Sequence[Study], rows: Iterable[Mapping[str, Any]], rollouts: int, labels: Sequence[str], section: str
) -> Diagnosed:
    """Hold the completions of a rollouts.jsonl against each study's own ``section``, by our rules.

    Diagnostic F1 is by report over the labels stated as present; uncertain counts as absent. ``rows``, one a study, are
    read once and not kept; each distinct text is labelled once.
    """
    reader = _Once(RuleLabeler(LABELS))
    metric = LabelF1("diagnostic_f1", LABELS, "example", "absent", reader)
    place = {study.study_id: k for k, study in enumerate(studies)}
    shares, f1 = np.full((len(studies), len(labels)), np.nan), np.full((len(studies), rollouts), np.nan)
    truncated = 0
    for row in rows:
        k, texts = place[row["study_id"]], row["texts"]
        said = reader(texts)
        shares[k] = [sum(one[label] is Status.PRESENT for one in said) / rollouts for label in labels]
        scores = metric.score([Case(studies[k], text, section) for text in texts])
        f1[k] = [np.nan if score.value is None else score.value for score in scores]
        truncated += sum(row["cut"])
    return Diagnosed(
        shares,
        f1,
        metric.case_signature,
        {"rollouts": f1.size, "distinct_texts": len(reader.known), "truncated": truncated},
    )


class _Once:
    """A labeler that reads each text once. Mappings that say the same are one object: most texts say little."""

    def __init__(self, labeler: RuleLabeler) -> None:
        self.labeler = labeler
        self.known: dict[str, Labels] = {}
        self._same: dict[tuple[Status, ...], Labels] = {}

    def __call__(self, texts: Sequence[str]) -> list[Labels]:
        for text in texts:
            if text not in self.known:
                [found] = self.labeler([text])
                self.known[text] = self._same.setdefault(tuple(found.values()), found)
        return [self.known[text] for text in texts]
