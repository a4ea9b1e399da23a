"""Group-relative policy optimisation from the SFT policy, through TRL by subclass.

What is ours: one combined reward, advantages by :mod:`radiograd.rl.advantages`, sampling that pays for a prompt once
(:mod:`radiograd.decoding`), log-probabilities that do too (:mod:`radiograd.train.scoring`). What is TRL's: the loss,
the rollout buffer, the optimiser loop. Overridden private methods are pinned by a contract test.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import set_seed
from trl import GRPOConfig as TRLConfig
from trl import GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

from radiograd import models
from radiograd.config import RunConfig
from radiograd.errors import ConfigError
from radiograd.monitor import TextMonitor
from radiograd.prompts import Prompter, alignable
from radiograd.rewards import CombinedReward, phase_weights, reward_of
from radiograd.rl.advantages import dead_groups, group_normalised
from radiograd.rl.clipping import critical_aware
from radiograd.runs import Run, write_jsonl
from radiograd.train import capo, checkpoints, guard, samplers, scoring, settings
from radiograd.train.order import distinct_batches
from radiograd.train.rewarding import RolloutReward
from radiograd.train.weighing import RolloutWeights, load_weigher
from radiograd.types import Study
from radiograd.weighting import TokenWeigher

log = logging.getLogger(__name__)

_SHARES = ("reward", "weights")
"""Parts of a rollout whose share of the time is logged."""
_ONE_SIDED = 0.9
"""Share of critical studies above which a clip range by case is told to be nearly the same for all."""


def train_grpo(run: Run, train: Sequence[Study], known: Sequence[Study] | None = None) -> dict[str, Any]:
    """Align the SFT policy of ``run`` on ``train`` and write the adapter to ``align/adapter``.

    The SFT adapter is merged first, so the new adapter switched off is the SFT policy: the reference of the KL term.
    ``known``: the studies whose references say which words are rare, for token weights (None = ``train``).
    A redaction mark in a reference would be paid for: ``prompts.alignable`` says what becomes of such studies.
    """
    config = run.config
    folder = run.path / "align"
    reward = reward_of(config)
    references = [text for study in train if (text := study.sections.text(config.section))]
    reward.prepare(references)
    settings.forget_peak()
    # first: it gives each process its GPU, and what is loaded later on "cuda" must lie on that one
    args = settings.one_device(arguments(config, folder / "checkpoints"))
    set_seed(config.seed + 1)
    tokenizer = models.load_tokenizer(config.model)
    prompter = Prompter(tokenizer, config.model, config.task)
    studies = alignable(train, config.grpo.prompts, config.section)
    prompts = [prompter.prompt(study) for study in studies]
    rng = np.random.default_rng([config.seed, 2])
    order = distinct_batches(len(studies), config.grpo.prompts, config.grpo.rollouts, rng)
    model = models.load_policy(config.model, merged=[run.path / "sft" / "adapter"])
    monitor = TextMonitor(references)
    scheduled = config.grpo.reward_schedule is not None
    watched = reward.reweighed(phase_weights(config.grpo, "both")) if scheduled else reward
    watching = guard.load_guard(run, watched, prompter, references, monitor)
    trainer = PolicyTrainer(
        run=run,
        reward=reward,
        monitor=monitor,
        weigher=load_weigher(run, [text for s in known or train if (text := s.sections.text(config.section))]),
        studies={study.study_id: study for study in studies},
        sampler=samplers.load_sampler(config, folder / "sampler", model, tokenizer),
        model=model,
        args=args,
        train_dataset=Dataset.from_list(
            [{"prompt": prompts[i].content, "study_id": prompts[i].study_id} for i in order]
        ),
        processing_class=tokenizer,
        peft_config=models.lora_config(config.model.lora),
        callbacks=[checkpoints.Keeper(run, "align", metrics_row), *([watching] if watching else [])],
    )
    critical = [study.critical is not False for study in studies if run.config.asks_criticality]
    if config.grpo.clip == "critical":
        _warn_if_one_sided(sum(critical) / len(critical), config.grpo.eps / config.grpo.clip_factor)
    settings.quiet(trainer)
    settings.train(trainer, run, "align", folder / "checkpoints")
    guarded: dict[str, Any] = {}
    if watching is None:
        settings.save_adapter(trainer, folder / "adapter")
    else:
        guarded = {"guard": watching.finish(trainer, folder / "adapter"), "seconds_guard": round(watching.seconds, 1)}
    checkpoints.discard(folder / "checkpoints")
    if watching is not None:
        watching.tidy()
    shutil.rmtree(folder / "sampler", ignore_errors=True)
    return {
        "studies": len(studies),
        "left_out_redacted": len(train) - len(studies),
        "prompts_cut": sum(p.cut for p in prompts),
        **({"critical": sum(critical)} if critical else {}),
        "steps": trainer.state.global_step,
        **guarded,
        **settings.facts(config.model, trainer.state.num_input_tokens_seen),
    }


def _warn_if_one_sided(share: float, narrow: float) -> None:
    if share > _ONE_SIDED:
        log.warning(
            "%.0f%% of the studies are critical: clip: critical is then nearly GRPO with eps %g", 100 * share, narrow
        )
    elif share < 1 - _ONE_SIDED:
        log.warning("%.0f%% of the studies are critical: clip: critical is then nearly clip: constant", 100 * share)


class PolicyTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPO with our reward, advantages, sampling and scoring."""

    def __init__(
        self,
        *,
        run: Run,
        reward: CombinedReward,
        studies: Mapping[str, Study],
        sampler: samplers.Sampler = samplers.builtin,
        monitor: TextMonitor | None = None,
        weigher: TokenWeigher | None = None,
        **kwargs: Any,
    ) -> None:
        self.run, self.reward, self.studies, self.sampler = run, reward, studies, sampler
        self._rewards = RolloutReward(reward, studies, run.config.section)
        self._asked_for: list[str] = []
        self._began: tuple[float, dict[str, float]] | None = None
        self.monitor = monitor
        self._seconds = {"sampling": 0.0, "reward": 0.0}
        self._logps: Any = None
        self._live: Any = None
        self._buffered_inputs: Any = None
        self._fill: Any = None
        self._old_is_first = False
        self._annotated = any(study.critical is not None for study in studies.values())
        self._apart = capo.Apart()
        super().__init__(reward_funcs=[self._reward], **kwargs)
        section = run.config.section
        self._weights = None if weigher is None else RolloutWeights(weigher, self._tokenizer, studies, section)
        scoring.attach_scoring(self.accelerator.unwrap_model(self.model))

    # -- the rollout and its micro-batches

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """TRL's, but for its shuffling: the rows of a group stay together, so that a micro-batch pays for few prompts.

        An update takes all micro-batches of a rollout; their order changes nothing.
        """
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        parts = self.args.steps_per_generation
        if self._buffered_inputs is None or self._step % (parts * self.num_iterations) == 0:
            rollout = split_pixel_values_by_grid(self._generate_and_score_completions(generation_batch))
            self._buffered_inputs = [unsplit_pixel_values_by_grid(part) for part in split_tensor_dict(rollout, parts)]
        return self._buffered_inputs[self._step % parts]

    # -- sampling

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> Any:
        if images is not None or multimodal_fields:
            return super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, has_tool_images
            )
        started = time.perf_counter()
        distinct, repeats = _groups([list(ids) for ids in prompt_ids], num_generations)
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        model.eval()
        wish = samplers.Wish(
            prompts=distinct,
            repeats=repeats,
            max_new_tokens=self.max_completion_length,
            eos=self.eos_token_ids,
            pad=self._tokenizer.pad_token_id,
            temperature=self.temperature,
        )
        completions = self.sampler(model, wish)
        model.train(training)
        self._seconds["sampling"] += time.perf_counter() - started
        self._rewards.begin(self._asked_for, self._tokenizer.batch_decode(completions, skip_special_tokens=True))
        return completions, None

    # -- reward and advantage

    def _reward(self, completions: Sequence[Any], study_id: Sequence[str], **_: Any) -> list[float]:
        texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        self._rewards.collect(study_id, texts)
        self._seconds["reward"] += self._rewards.seconds
        # TRL prints prompt and completion of an unscored row; what it makes of these numbers is not used
        return [0.0] * len(texts)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._seconds = {"sampling": 0.0, "reward": 0.0}
        self._asked_for = [row["study_id"] for row in inputs]
        started = time.perf_counter()
        mode = "train" if self.model.training else "eval"
        self._enter_phase(mode)
        if self._began is not None and self.model.training:
            before, spent = self._began
            for name, seconds in spent.items():
                self._metrics[mode][f"seconds/{name}_share"].append(seconds / (started - before))
        # TRL scores the completions once more before the first update. That update computes the same numbers, so its
        # own are taken (see _compute_loss) and the extra pass is left out.
        self._old_is_first = self.num_iterations > 1 and self.model.training
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.model.training:
            output.pop("old_per_token_logps", None)
        rewards = self._rewards.totals(self.accelerator, self.num_generations)
        advantages = group_normalised(rewards).flatten()
        first = self.accelerator.process_index * len(inputs)
        output["advantages"] = advantages[first : first + len(inputs)]
        critical = [self._annotated and case.study.critical is not False for case in self._rewards.cases]
        output["critical"] = torch.tensor(critical, device=advantages.device)
        output["eps"] = self._eps(output["critical"])
        self._weigh(mode, output)
        self._note(mode, rewards, advantages[first : first + len(inputs)])
        self._note_apart(mode, rewards.flatten(), self.accelerator.gather(output["critical"]))
        self._seconds["scoring"] = time.perf_counter() - started - sum(self._seconds.values())
        for name, seconds in self._seconds.items():
            self._metrics[mode][f"seconds/{name}"].append(seconds)
        self._began = started, {name: self._seconds[name] for name in _SHARES if name in self._seconds}
        return output

    @property
    def _is_logged(self) -> bool:
        """Whether the present rollout is written to rollouts/."""
        rollout: int = self.state.global_step // self.num_iterations
        return rollout % self.run.config.grpo.log_rollouts_every == 0

    def _weigh(self, mode: str, output: dict[str, Any]) -> None:
        """Share each completion's advantage out among its tokens, where they do not all weigh the same."""
        if self._weights is None:
            return
        ids, mask = output["completion_ids"], output["completion_mask"]
        output["advantages"] = self._weights.of_tokens(
            output["advantages"], ids, mask, self._asked_for, show=self._is_logged
        )
        self._seconds["weights"] = self._weights.seconds
        for name, value in self._weights.told().items():
            self._metrics[mode][f"weights/{name}"].append(value)

    def _enter_phase(self, mode: str) -> None:
        """Give the reward the weights of the phase that this rollout belongs to."""
        align = self.run.config.grpo
        if align.second_phase is not None:
            later = self.state.global_step // self.num_iterations >= align.second_phase
            self.reward.reweigh(phase_weights(align, "last" if later else "first"))
            self._metrics[mode]["reward/phase"].append(2.0 if later else 1.0)

    def _eps(self, critical_B: Any) -> Any:
        """(B,) clip half-widths. A study that the judge could not answer for counts as critical."""
        align = self.run.config.grpo
        factor = align.clip_factor if align.clip == "critical" else 1.0
        eps = critical_aware(critical_B.cpu().numpy(), align.eps, factor)
        return torch.as_tensor(eps, dtype=torch.float32, device=critical_B.device)

    def _note(self, mode: str, rewards_P_G: Any, advantages_B: Any) -> None:
        """Log every term, the dead groups and the lengths; now and then the rollout itself."""
        noted, cases, scores = self._metrics[mode], self._rewards.cases, self._rewards.scores()
        noted["reward/total"].append(float(rewards_P_G.nanmean()))
        noted["reward/total_std"].append(float(rewards_P_G.std(-1).nanmean()))
        noted["reward/unscored_frac"].append(float(rewards_P_G.isnan().float().mean()))
        noted["dead_groups"].append(float(dead_groups(rewards_P_G).float().mean()))
        noted["words_mean"].append(sum(len(case.candidate.split()) for case in cases) / len(cases))
        noted["distinct_frac"].append(len({(case.study.study_id, case.candidate) for case in cases}) / len(cases))
        for name, value in self.monitor(cases).items() if self.monitor else ():
            noted[f"monitor/{name}"].append(value)
        for term in self.reward.terms:
            found = [score.parts[term.name] for score in scores if term.name in score.parts]
            if found:
                noted[f"reward/{term.name}"].append(sum(found) / len(found))
        weighed = [term.name for term in self.reward.terms if term.weight > 0]
        for name in weighed if len(weighed) > 1 else ():
            noted[f"variance_share/{name}"].append(self._rewards.shares[name])
        if any(term.skips for term in self.reward.terms):
            noted["reward/skipped_frac"].append(self._rewards.skipped())
        if self._is_logged:
            weighted = self._weights.weighted if self._weights else [None] * len(cases)
            rows = gather_object(
                [
                    {
                        "study_id": case.study.study_id,
                        "completion": case.candidate,
                        "reward": score.value,
                        "terms": dict(score.parts),
                        "why": score.why,
                        "advantage": round(float(advantage), 6),
                        **({} if tokens is None else {"tokens": tokens.spans()}),
                    }
                    for case, score, advantage, tokens in zip(cases, scores, advantages_B, weighted, strict=True)
                ]
            )
            if self.accelerator.is_main_process:
                write_jsonl(self.run.path / "rollouts" / f"step_{self.state.global_step:06d}.jsonl", rows)

    def _note_apart(self, mode: str, rewards_B: Any, critical_B: Any) -> None:
        """Log the rewards of critical and normal cases, and how many are critical."""
        if not self._annotated:
            return
        self._metrics[mode]["critical/share"].append(float(critical_B.float().mean()))
        for kind, rows in zip(capo.KINDS, (critical_B, ~critical_B), strict=True):
            if bool((rows & ~rewards_B.isnan()).any()):
                self._metrics[mode][f"{kind}/reward"].append(float(rewards_B[rows].nanmean()))

    # -- log-probabilities and loss

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Any,
        attention_mask: Any,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        pixel_values: Any = None,
        **fields: Any,
    ) -> tuple[Any, Any, Any]:
        if pixel_values is not None or compute_aux_loss:
            whole: tuple[Any, Any, Any] = super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size=batch_size,
                compute_entropy=compute_entropy,
                compute_aux_loss=compute_aux_loss,
                pixel_values=pixel_values,
                **fields,
            )
            return whole
        if self._old_is_first and not torch.is_grad_enabled():
            self._old_is_first = False
            return torch.zeros(input_ids.shape[0], logits_to_keep, device=input_ids.device), None, None
        if torch.is_grad_enabled() and self._live is not None:
            logps, entropies = self._score_live(model, input_ids, attention_mask, logits_to_keep)
        else:
            logps, entropies = self._score(model, input_ids, attention_mask, logits_to_keep, batch_size)
        if torch.is_grad_enabled():
            self._logps = logps.detach()
        return logps, entropies if compute_entropy else None, None

    def _score(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, batch_size: int | None = None
    ) -> tuple[Any, Any]:
        size = batch_size or len(input_ids)
        chunks = []
        for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True):
            with self.accelerator.autocast():
                chunks.append(
                    scoring.score_completions(
                        model,
                        ids[:, :-logits_to_keep],
                        mask[:, :-logits_to_keep],
                        ids[:, -logits_to_keep:],
                        mask[:, -logits_to_keep:],
                        self.temperature,
                    )
                )
        return torch.cat([c[0] for c in chunks]), torch.cat([c[1] for c in chunks])

    def _score_live(self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int) -> tuple[Any, Any]:
        """Score only rows that carry a gradient; the others keep their old log-probabilities, a ratio of exactly 1."""
        rows = self._live.nonzero().squeeze(-1)
        if not len(rows) and self.accelerator.num_processes > 1:
            rows = rows.new_zeros(1)  # the other processes wait for this one's pass
        shape = (len(input_ids), logits_to_keep)
        fill = self._fill if self._fill is not None else torch.zeros(shape, device=input_ids.device)
        if not len(rows):
            # backward is called all the same; Adam's memory moves a weight whose gradient is 0, but not one without
            anchor = sum(p.sum() for p in model.parameters() if p.requires_grad) * 0.0
            return fill + anchor, torch.zeros_like(fill)
        some, entropy = self._score(model, input_ids[rows], attention_mask[rows], logits_to_keep)
        return fill.index_copy(0, rows, some), torch.zeros_like(fill).index_copy(0, rows, entropy)

    def _live_rows(self, inputs: dict[str, Any]) -> Any:
        """(B,) bool: rows that move the policy; None where all must be computed.

        Without a KL term a row whose advantage is 0 at every token adds nothing to the gradient.
        """
        if self.beta or not (self.model.training and torch.is_grad_enabled()):
            return None
        advantages = inputs["advantages"]
        return (advantages != 0).reshape(len(advantages), -1).any(-1)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        started = time.perf_counter()
        mode = "train" if self.model.training else "eval"
        self._live, self._fill = self._live_rows(inputs), inputs.get("old_per_token_logps")
        live = self._live
        if self._live is not None:
            self._metrics[mode]["live_frac"].append(float(self._live.float().mean()))
        try:
            with capo.clip_ranges(self, inputs.get("eps") if self.run.config.grpo.clip == "critical" else None):
                loss = super()._compute_loss(model, inputs)
        finally:
            self._live = self._fill = None
        if self.model.training:
            inputs.setdefault("old_per_token_logps", self._logps)
        old = inputs.get("old_per_token_logps")
        if old is not None and self._logps is not None:
            if live is not None:  # one row without an advantage may have been computed, for the other processes' sake
                self._logps = torch.where(live.unsqueeze(-1), self._logps, old)
            moved = ((self._logps - old).exp() - 1).abs() * inputs["completion_mask"]
            self._metrics[mode]["ratio_max"].append(float(self.accelerator.gather(moved.max()).max()))
            self._tell_apart(mode, inputs, old)
        # logged as the mean over the passes of a step; times their number it is the step's
        passes = self.current_gradient_accumulation_steps if self.model.training else 1
        self._metrics[mode]["seconds/forward"].append((time.perf_counter() - started) * passes)
        return loss

    def _tell_apart(self, mode: str, inputs: Mapping[str, Any], old: Any) -> None:
        """Log clipping and KL of critical and normal cases, once all passes of a step are through."""
        if "eps" not in inputs:
            return
        ref = inputs.get("ref_per_token_logps")
        found = (self._logps, old, ref, inputs["advantages"], inputs["completion_mask"], inputs["eps"])
        self._apart.add(capo.apart(*found, inputs["critical"]))
        if self.accelerator.sync_gradients or not self.model.training:
            for name, value in self._apart.told(self.accelerator, self._annotated).items():
                self._metrics[mode][name].append(value)


def _groups(prompts: list[list[int]], size: int) -> tuple[list[list[int]], int]:
    """The prompt of each group and the group's size; (all, 1) where a process holds parts of groups."""
    whole = len(prompts) % size == 0 and all(prompt == prompts[i - i % size] for i, prompt in enumerate(prompts))
    return (prompts[::size], size) if whole else (prompts, 1)


def arguments(config: RunConfig, folder: Path) -> Any:
    """TRL's arguments for the alignment of ``config``; checkpoints go into ``folder``.

    Processes share the prompts of a rollout. Raises ConfigError when their micro-batches do not divide it.
    """
    align = config.grpo
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # as accelerate counts them
    rows = align.prompts * align.group_size
    if rows % (align.micro_batch * processes):
        raise ConfigError(
            f"align.prompts x align.group_size = {rows} completions are not a multiple of align.micro_batch "
            f"{align.micro_batch} x {processes} processes; set align.micro_batch={rows // processes} or less"
        )
    accumulation = rows // (align.micro_batch * processes)
    steps = align.rollouts * align.updates_per_rollout
    return TRLConfig(
        **settings.common(config, folder),
        max_steps=steps,
        learning_rate=align.lr,
        warmup_steps=round(align.warmup * steps),
        lr_scheduler_type="constant_with_warmup",
        per_device_train_batch_size=align.micro_batch,
        gradient_accumulation_steps=accumulation,
        steps_per_generation=accumulation,
        num_generations=align.group_size,
        num_iterations=align.updates_per_rollout,
        beta=align.beta,
        epsilon=align.eps,
        temperature=align.temperature,
        max_completion_length=align.max_new_tokens,
        shuffle_dataset=False,  # the rows are in order; TRL's own order starts anew in a resumed second pass
        disable_dropout=True,  # or the ratio of an unchanged policy would not be 1
        use_bias_correction_kl=False,  # k3 as it is, not times the ratio
        loss_type="grpo",
        scale_rewards="group",
        save_steps=align.checkpoint_every * align.updates_per_rollout,
    )


_NAMES = {
    "loss": "loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
    "kl": "kl",
    "entropy": "entropy",
    "clip_ratio/region_mean": "clip_share",
    "completions/clipped_ratio": "truncated_frac",
    "completions/mean_length": "tokens_mean",
    "step_time": "seconds/step",
}
_OURS = (
    *("reward/", "variance_share/", "monitor/", "critical/", "normal/", "seconds/", "weights/"),
    *("dead_groups", "words_mean", "distinct_frac", "ratio_max", "live_frac", "kl_completion"),
)


def metrics_row(logs: Mapping[str, Any]) -> dict[str, float]:
    """TRL's log line in our names; what is not known yet is left out."""
    return settings.renamed(logs, _NAMES, _OURS)
