"""What we lean on inside TRL. When a test here fails, TRL was upgraded: read the file the message names first.

Nothing here trains; that the overrides do what they say is tested in tests/train.
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
import trl
from trl import DPOTrainer, GRPOTrainer, SFTTrainer

from radiograd.config import RunConfig
from radiograd.train import dpo, grpo, sft

PINNED: dict[tuple[type, str], str] = {
    (GRPOTrainer, "_generate_single_turn"): (
        "(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False)"
    ),
    (GRPOTrainer, "_generate_and_score_completions"): "(self, inputs)",
    (GRPOTrainer, "_get_per_token_logps_and_entropies"): (
        "(self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, "
        "compute_aux_loss=False, pixel_values=None, image_grid_thw=None, num_images=None, pixel_attention_mask=None, "
        "spatial_shapes=None, num_tiles=None, image_sizes=None, token_type_ids=None, mm_token_type_ids=None, "
        "image_position_ids=None)"
    ),
    (GRPOTrainer, "_compute_loss"): "(self, model, inputs)",
    (GRPOTrainer, "_prepare_inputs"): "(self, generation_batch)",
    (SFTTrainer, "compute_loss"): "(self, model, inputs, return_outputs=False, num_items_in_batch=None)",
    (SFTTrainer, "get_batch_samples"): "(self, epoch_iterator, num_batches, device)",
    (DPOTrainer, "_prepare_dataset"): "(self, dataset, processing_class, args, dataset_name)",
    (DPOTrainer, "get_batch_samples"): "(self, epoch_iterator, num_batches, device)",
    (DPOTrainer, "compute_loss"): "(self, model, inputs, return_outputs=False, num_items_in_batch=None)",
    (DPOTrainer, "log"): "(self, logs, start_time=None)",
}
OURS = {GRPOTrainer: grpo.PolicyTrainer, SFTTrainer: sft._Trainer, DPOTrainer: dpo.PreferenceTrainer}


def _signature(method: Any) -> str:
    signature = inspect.signature(method)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def _look(trainer: type, name: str) -> str:
    method = inspect.unwrap(getattr(trainer, name))
    place = f"{inspect.getsourcefile(method)}:{inspect.getsourcelines(method)[1]}"
    ours = inspect.getsourcefile(OURS[trainer])
    return (
        f"TRL {trl.__version__} has another {trainer.__name__}.{name}: read {place} and compare our override in {ours}"
    )


@pytest.mark.parametrize(("trainer", "name"), PINNED, ids=lambda value: getattr(value, "__name__", value))
def test_methods_we_override_have_the_signature_we_know(trainer: type, name: str) -> None:
    assert hasattr(trainer, name), f"TRL {trl.__version__} has no {trainer.__name__}.{name}; see {OURS[trainer]}"
    assert _signature(getattr(trainer, name)) == PINNED[trainer, name], _look(trainer, name)


@pytest.mark.parametrize(("trainer", "name"), PINNED, ids=lambda value: getattr(value, "__name__", value))
def test_our_overrides_take_every_call_that_theirs_take(trainer: type, name: str) -> None:
    theirs, ours = inspect.signature(getattr(trainer, name)), inspect.signature(getattr(OURS[trainer], name))
    parameters = list(theirs.parameters)
    required = [p for p in parameters if theirs.parameters[p].default is inspect.Parameter.empty]
    assert len(ours.bind(*required).args) == len(required)  # bind raises TypeError for a call ours would refuse
    assert ours.bind(*required, **{p: None for p in parameters if p not in required}).arguments


@pytest.mark.parametrize("trainer", OURS, ids=lambda value: value.__name__)
def test_no_override_goes_unpinned(trainer: type) -> None:
    written = {name for name, value in vars(OURS[trainer]).items() if inspect.isfunction(value)}
    overridden = {name for name in written if hasattr(trainer, name) and not name.startswith("__")}
    assert overridden == {name for owner, name in PINNED if owner is trainer}


# ---- arguments -------------------------------------------------------------------------------------------------------


def _set_by_us(module: Any, *arguments: Any) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "TRLConfig", dict)
        kind = "dpo" if module is dpo else "grpo"
        config = RunConfig.model_validate({"model": {"device": "cpu"}, "align": {"type": kind}})
        keys: dict[str, Any] = module.arguments(config, *arguments)
    return keys


@pytest.mark.parametrize(
    ("module", "arguments"),
    [(grpo, (Path("x"),)), (sft, (RunConfig().sft, Path("x"), 7)), (dpo, (Path("x"), 7))],
    ids=["grpo", "sft", "dpo"],
)
def test_every_argument_we_set_exists(module: Any, arguments: tuple[Any, ...]) -> None:
    known = {field.name for field in dataclasses.fields(module.TRLConfig)}
    gone = _set_by_us(module, *arguments).keys() - known
    source = inspect.getsourcefile(module.TRLConfig)
    assert not gone, f"TRL {trl.__version__} no longer knows {sorted(gone)}; look in {source} for what became of them"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("importance_sampling_level", "token"),
        ("delta", None),  # no second clip
        ("top_entropy_quantile", 1.0),  # every token counts
        ("off_policy_mask_threshold", None),
        ("mask_truncated_completions", False),
        ("entropy_coef", 0.0),
        ("sync_ref_model", False),  # the reference stays the SFT policy
        ("use_vllm", False),
        ("use_liger_kernel", False),
        ("top_p", 1.0),  # plain sampling: log-probabilities are those of the policy
        ("top_k", 0),
        ("min_p", None),
        ("repetition_penalty", 1.0),
        ("generation_kwargs", None),
        ("multi_objective_aggregation", "sum_then_normalize"),
        ("average_tokens_across_devices", True),
    ],
)
def test_what_we_leave_to_trl_is_still_what_we_mean(tmp_path: Path, name: str, value: Any) -> None:
    config = RunConfig.model_validate({"model": {"device": "cpu", "dtype": "float32"}})
    arguments = grpo.arguments(config, tmp_path)
    source = inspect.getsourcefile(grpo.TRLConfig)
    assert getattr(arguments, name) == value, f"TRL {trl.__version__} has another default for {name}; see {source}"


def test_what_we_set_reaches_trl(tmp_path: Path) -> None:
    config = RunConfig.model_validate({"model": {"device": "cpu"}, "align": {"micro_batch": 8}})
    arguments = grpo.arguments(config, tmp_path)
    assert (arguments.loss_type, arguments.scale_rewards, arguments.beta) == ("grpo", "group", config.align.beta)
    assert not arguments.use_bias_correction_kl
    assert not arguments.shuffle_dataset  # a resumed second pass would be in another order
    assert arguments.generation_batch_size == config.align.prompts * config.align.group_size
    assert arguments.gradient_accumulation_steps == arguments.steps_per_generation == 4  # 4 * 8 / 8
    assert arguments.save_steps % config.align.updates_per_rollout == 0  # never inside a rollout
    assert (arguments.epsilon, arguments.epsilon_high) == (config.align.eps, None)  # None: the same as epsilon


def test_what_preference_optimisation_leaves_to_trl_is_what_it_means(tmp_path: Path) -> None:
    config = RunConfig.model_validate({"model": {"device": "cpu"}, "align": {"type": "dpo"}})
    arguments = dpo.arguments(config, tmp_path, 7)
    assert not arguments.sync_ref_model  # the reference stays the SFT policy
    assert not arguments.precompute_ref_log_probs  # ours are in the rows already
    assert arguments.disable_dropout
    assert arguments.gradient_accumulation_steps == 2  # 16 / 8
    assert arguments.train_sampling_strategy == "sequential"  # the rows are in order; a resumed run goes on with them
