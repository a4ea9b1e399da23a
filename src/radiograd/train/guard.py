"""Looks at a policy while it is optimised, stops the training when its reward is gamed, and keeps the best policy.

What a look means is decided by :mod:`radiograd.monitor`; here a policy is made to write, and files are kept::

    guard.jsonl                       one line a look: panel, reward, KL, verdict, and each study's value
    align/best/step_000040/adapter    the policy of the best look, whole or not there
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback

from radiograd import models
from radiograd.decoding import decode, end_tokens, plan_batches
from radiograd.errors import RunError
from radiograd.metrics import Metric, prepare, start
from radiograd.monitor import Look, TextMonitor, Verdict, Watch, gold_panel, mean_and_error, panel_values, strays
from radiograd.prompts import Prompter, unredacted
from radiograd.rewards import phase_weights, score_cases
from radiograd.runs import Run, append_jsonl, read_jsonl, write_jsonl
from radiograd.studies import read_split
from radiograd.train import settings
from radiograd.types import Case, Reward, Score, Study

log = logging.getLogger(__name__)

FEWEST = 8
"""Validation studies without which nobody looks: a standard error of fewer says nothing."""
KL_STUDIES = 16
"""Studies, the first drawn, on whose texts the KL is computed: two passes over each, where a look pays for one."""
_KL_BATCH = 8


def load_guard(
    run: Run, reward: Reward, prompter: Prompter, references: Sequence[str], monitor: TextMonitor
) -> Guard | None:
    """The guard of ``run`` over studies drawn from data/val.jsonl; None where it is off or has too few of them.

    ``references`` are those of the training studies: metrics that weigh words count documents in them. Raises
    ConfigError for a panel that shares something with the reward.
    """
    panel = gold_panel(run.config)
    if not panel:
        return None
    found = read_split(run, "val") if (run.path / "data" / "val.jsonl").exists() else []
    studies = draw(found, run.config.grpo.guard.studies, run.config.seed, run.config.section)
    if len(studies) < FEWEST:
        log.warning(
            "nobody watches for over-optimisation: the guard needs %d or more validation studies with a reference and "
            "there are %d. Raise data.split.val, or set align.guard.every=0 to say that this is meant",
            FEWEST,
            len(studies),
        )
        return None
    prepare(panel.values(), references)
    start(panel.values())
    return Guard(run, reward, panel, studies, prompter, monitor)


def draw(studies: Sequence[Study], most: int, seed: int, section: str) -> list[Study]:
    """At most ``most`` studies that have a reference, drawn by a hash of seed and id: at their natural prevalence, and
    the same whatever order they come in. Redaction marks leave the references, or writing them would count."""

    def lot(study: Study) -> bytes:
        return hashlib.sha256(f"{seed}:guard:{study.study_id}".encode()).digest()

    clean = (unredacted(study) for study in studies)
    return sorted((study for study in clean if (study.sections.text(section) or "").strip()), key=lot)[:most]


class Guard(TrainerCallback):  # type: ignore[misc]
    """Before the first rollout, after every ``align.guard.every`` of them and after the last, looks at the policy.

    Only the main process looks; the others wait for what it decides. Weights, mode, adapter and random state are left
    as they were found.
    """

    def __init__(
        self,
        run: Run,
        reward: Reward,
        panel: Mapping[str, Metric],
        studies: Sequence[Study],
        prompter: Prompter,
        monitor: TextMonitor,
    ) -> None:
        self.run, self.reward, self.panel, self.monitor = run, reward, dict(panel), monitor
        self.studies = {study.study_id: study for study in studies}
        self.tokenizer = prompter.tokenizer
        self.ids = {key: prompter.ids(prompter.prompt(study).content) for key, study in self.studies.items()}
        self.file, self.best_folder = run.path / "guard.jsonl", run.path / "align" / "best"
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0
        limits = run.config.grpo.guard
        self.watch = Watch(limits.fall, limits.kl_stop)
        self._steps_between = limits.every * run.config.grpo.updates_per_rollout

    # -- when

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Forget what was seen after the step that training goes on from; at the very start, look at the SFT policy."""
        if state.is_world_process_zero:
            self._rewind(state.global_step)
        if state.global_step == 0:
            self._look(model, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Look when it is time. No checkpoint where the training stops: a trainer resumed there would go on."""
        if state.global_step % self._steps_between == 0 or state.global_step >= state.max_steps:
            self._look(model, state, control)
            if control.should_training_stop:
                control.should_save = False

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """With a whole checkpoint nobody goes back behind it: adapters that were the best before are dropped."""
        if state.is_world_process_zero:
            self.tidy()

    # -- what

    def _look(self, model: Any, state: Any, control: Any) -> None:
        decision: list[Any] = [False]
        if state.is_world_process_zero:
            with as_found(model):
                model.eval()
                decision = [self._verdict(model, state).stop]
        broadcast_object_list(decision)
        if decision[0]:
            control.should_training_stop = True

    def _verdict(self, model: Any, state: Any) -> Verdict:
        """Look at the policy, keep it if it is the best, and write the look down: last, so that a look on record has
        its adapter."""
        started, step = time.perf_counter(), state.global_step
        texts, tokens = self._impressions(model)
        cases = [Case(study, texts[key], self.run.config.section) for key, study in self.studies.items()]
        scores = {
            name: score_cases(f"gold metric {name!r}", metric.score, cases) for name, metric in self.panel.items()
        }
        rewards = score_cases("the reward", self.reward, cases)
        kl, kl_token = self._kl(model, tokens)
        gold = dict(zip(self.studies, panel_values(self.panel, scores), strict=True))
        proxy = mean_and_error([score.value for score in rewards])[0]
        look = Look(step, gold, proxy, self._rollouts(state), kl)
        self.watch, verdict = self.watch.see(look)
        if verdict.best_step == step:
            settings.write_adapter(model, self._adapter(step))
        row = self._row(look, verdict, scores, rewards, kl_token, self.monitor(cases))
        append_jsonl(self.file, [row])
        self.rows.append(row)
        self.seconds += time.perf_counter() - started
        log.info("guard, step %d: panel %s, reward %s, KL %.3f", step, row["gold"], row["proxy"], kl)
        if verdict.stop:
            log.warning("guard: stopped at step %d: %s", step, verdict.why)
        return verdict

    def _row(
        self,
        look: Look,
        verdict: Verdict,
        scores: Mapping[str, Sequence[Score]],
        rewards: Sequence[Score],
        kl_token: float,
        monitors: Mapping[str, float],
    ) -> dict[str, Any]:
        gold, gold_se = mean_and_error(list(look.gold.values()))
        said = look.to_json()
        studies = said.pop("studies")
        return {
            **said,
            "gold": gold,
            "gold_se": gold_se,
            "proxy_unscored": sum(score.value is None for score in rewards),
            "metrics": {name: mean_and_error([s.value for s in found])[0] for name, found in scores.items()},
            "kl_token": kl_token,
            "difference": verdict.difference,
            "difference_se": verdict.se,
            "best_step": verdict.best_step,
            "alarm": verdict.alarm,
            "stop": verdict.stop,
            "why": verdict.why,
            "monitors": dict(monitors),
            "strays": strays(monitors),
            "studies": studies,
        }

    def _rollouts(self, state: Any) -> float | None:
        """Mean reward of the rollouts logged since the look before; None when none was, or none could be scored."""
        since = self.rows[-1]["step"] if self.rows else 0
        logged = [self._paid(row) for row in state.log_history if row["step"] > since and "reward/total" in row]
        known = [value for value in logged if value is not None and math.isfinite(value)]
        return math.fsum(known) / len(known) if known else None

    def _paid(self, row: Mapping[str, Any]) -> float | None:
        """Reward of a logged rollout. Of a reward with two phases the weighted mean of the terms, by the weights of
        both: what counts in one phase is no measure of the other. None when a term was not scored."""
        align = self.run.config.grpo
        if align.reward_schedule is None:
            total: float | None = row["reward/total"]
            return total
        weights = {term: weight for term, weight in phase_weights(align, "both").items() if weight > 0}
        if any(row.get(f"reward/{term}") is None for term in weights):
            return None
        return math.fsum(w * row[f"reward/{term}"] for term, w in weights.items()) / math.fsum(weights.values())

    def _impressions(self, model: Any) -> tuple[dict[str, str], dict[str, list[int]]]:
        """Study -> greedy text and its tokens, written as :mod:`radiograd.generate` writes."""
        how = self.run.config.generate
        eos = end_tokens(model, self.tokenizer)
        tokens: dict[str, list[int]] = {}
        for batch in plan_batches({key: len(ids) for key, ids in self.ids.items()}, how.batch_size):
            written = decode(
                model,
                [self.ids[key] for key in batch],
                max_new_tokens=how.max_new_tokens,
                eos=eos,
                pad=self.tokenizer.pad_token_id,
            )
            tokens.update(zip(batch, written, strict=True))
        texts = self.tokenizer.batch_decode([tokens[key] for key in self.studies], skip_special_tokens=True)
        return {key: text.strip() for key, text in zip(self.studies, texts, strict=True)}, tokens

    def _kl(self, model: Any, tokens: Mapping[str, list[int]]) -> tuple[float, float]:
        """Mean KL a completion and a token, over the first :data:`KL_STUDIES` studies."""
        temperature = self.run.config.grpo.temperature
        keys = sorted(list(self.studies)[:KL_STUDIES], key=lambda key: len(self.ids[key]))
        found: list[list[float]] = []
        for first in range(0, len(keys), _KL_BATCH):
            some = keys[first : first + _KL_BATCH]
            found += kl_along(model, [self.ids[key] for key in some], [tokens[key] for key in some], temperature)
        return sum(sum(one) for one in found) / len(found), sum(map(sum, found)) / sum(map(len, found))

    # -- files

    def _adapter(self, step: int) -> Path:
        return self.best_folder / f"step_{step:06d}" / "adapter"

    def _rewind(self, step: int) -> None:
        """Go back to what was known at ``step``; at 0 to nothing. RunError when the best adapter is not there."""
        rows = [row for row in read_jsonl(self.file) if row["step"] <= step] if step and self.file.exists() else []
        watch = Watch(self.watch.fall, self.watch.kl_stop)
        for row in rows:
            watch, _ = watch.see(Look.from_json(row))
        if step and (watch.best is None or not self._adapter(watch.best.step).exists()):
            raise RunError(
                f"{self.file} or the adapter of its best look below {self.best_folder} is missing; delete "
                f"{self.run.path / 'align' / 'checkpoints'} and start the command again"
            )
        self.watch, self.rows = watch, rows
        write_jsonl(self.file, rows)
        for folder in self.best_folder.glob("step_*"):
            if int(folder.name.removeprefix("step_")) > step or not step or not (folder / "adapter").exists():
                shutil.rmtree(folder)

    def tidy(self) -> None:
        """Drop every kept adapter but the best look's. Not before a checkpoint or the end of the training is on disk:
        a resumed run may go back to one that was the best at its time. Processes that do not look drop nothing."""
        best = self.watch.best
        for folder in self.best_folder.glob("step_*") if best else ():
            if best and folder != self._adapter(best.step).parent:
                shutil.rmtree(folder)

    def finish(self, trainer: Any, folder: Path) -> dict[str, Any]:
        """Write the adapter that the training ends with to ``folder``; the guard's facts.

        The last policy's, or that of the best look when the training was stopped or ``guard.keep`` says best.
        """
        last = self.rows[-1] if self.rows else {"stop": False, "alarm": False, "step": None, "why": None}
        best = self.watch.best.step if self.watch.best else None
        back = last["stop"] or (self.run.config.grpo.guard.keep == "best" and best != last["step"])
        if not back:
            settings.save_adapter(trainer, folder)
        elif trainer.is_world_process_zero() and best is not None:
            beside = folder.with_name(folder.name + ".part")
            shutil.rmtree(beside, ignore_errors=True)
            shutil.copytree(self._adapter(best), beside)
            settings.put_in_place(beside, folder)
        return {
            "panel": list(self.panel),
            "studies": len(self.studies),
            "looks": len(self.rows),
            "best_step": best,
            "alarm": last["alarm"],
            "step": last["step"] if last["stop"] else None,
            "returned_to": best if back else None,
            "why": last["why"],
        }


def kl_along(
    model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], temperature: float
) -> list[list[float]]:
    """KL(policy || adapter switched off) of the next token, in nats, at each place of each answer.

    Exact at each place, over the whole vocabulary. By the chain rule the mean of their sum over answers drawn from the
    policy is the KL of the distributions of whole answers; along the greedy answer it is that sum on one path, the
    policy's likeliest. Keeps two (B, T, V) blocks of float32, T the longest answer.
    """
    before, behind = max(map(len, prompts)), max(map(len, answers))
    shape, at = (len(prompts), before + behind), model.device
    ids, mask = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        where = slice(before - len(prompt), before + len(answer))  # prompts end in one column
        ids[row, where], mask[row, where] = torch.tensor([*prompt, *answer]), 1
    given = {
        "input_ids": ids.to(at),
        "attention_mask": mask.to(at),
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0).to(at),
    }

    def logps() -> Any:
        with torch.no_grad(), models.precision(model):
            logits = model(**given, use_cache=False, logits_to_keep=behind + 1).logits[:, :-1]
        return torch.log_softmax(logits.float() / temperature, dim=-1)

    policy = logps()
    with model.disable_adapter():
        sft = logps()
    # rounding may leave a place that did not change a hair below 0
    found = (policy.exp() * (policy - sft)).sum(-1).clamp(min=0).tolist()
    return [row[: len(answer)] for row, answer in zip(found, answers, strict=True)]


@contextmanager
def as_found(model: Any) -> Iterator[None]:
    """Training mode and every random state are afterwards what they were before."""
    training = model.training
    ours, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one, as others left it
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        model.train(training)
        random.setstate(ours)
        np.random.set_state(numpys)  # noqa: NPY002
