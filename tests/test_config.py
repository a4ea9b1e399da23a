from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.config import (
    SHIPPED_CONFIGS,
    DPOConfig,
    GRPOConfig,
    HardestConfig,
    RunConfig,
    apply_override,
    difference,
    digest,
    load_config,
    parse_config,
    shipped,
)
from radiograd.errors import ConfigError, UsageError


def written(folder: Path, text: str, name: str = "my.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# ---- what a file may say ---------------------------------------------------------------------------------------------


def test_an_unknown_key_is_told_with_its_place_and_the_nearest_key(tmp_path: Path) -> None:
    path = written(tmp_path, "align: {rolouts: 3}")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value) == f"{path}: unknown key 'align.rolouts'. Did you mean 'rollouts'?"
    assert error.value.exit_code == 2


def test_an_unknown_key_two_floors_down_is_told_with_the_nearest_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'data\.split\.near_duplicates'\. Did you mean 'near_dup"):
        load_config(written(tmp_path, "data: {split: {near_duplicates: 0.5}}"))


def test_an_unknown_key_like_none_is_told_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'qqq'\. Known: align, criticality, data, evaluate, generate"):
        load_config(written(tmp_path, "qqq: 1"))


def test_every_wrong_key_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(written(tmp_path, "sft: {lr: fast}\ngenerate: {batch_size: 0}\nsed: 3"))
    message = str(error.value)
    assert "sft.lr: Input should be a valid number" in message
    assert "generate.batch_size: Input should be greater than or equal to 1" in message
    assert "unknown key 'sed'. Did you mean 'seed'?" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sft: {epochs: many}", "sft.epochs: Input should be a valid number"),
        ("seed: 1.5", "seed: Input should be a valid integer"),
        ("data: {split: {use_given: perhaps}}", "data.split.use_given: Input should be a valid boolean"),
        ("evaluate: {metrics: rougeL}", "evaluate.metrics: Input should be a valid tuple"),
        ("model: {dtype: float16}", "model.dtype: Input should be 'auto', 'bfloat16' or 'float32'"),
        ("name: 7", "name: Input should be a valid string; put it in quotes"),
        ("model: {revision: 2024-01-31}", "model.revision: Input should be a valid string; put it in quotes"),
        ("sft: 3", "sft: Input should be a valid dictionary"),
        ("name: ../up", "name: String should match pattern"),
        ("sft: {lr: .inf}", "sft.lr: Input should be a finite number"),
        ("align: {beta: .nan}", "align.beta: Input should be a finite number"),
        ("align: {reward: {rougeL: .inf}}", "align.reward.rougeL: Input should be a finite number"),
        ("1: 2", "1: Keys should be strings"),
    ],
)
def test_a_wrong_value_is_told_with_its_key_and_what_it_should_be(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(written(tmp_path, text))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: {split: {val: 0.5, test: 0.5}}", "data.split: val + test must leave something to train on"),
        ("data: {split: {test: 0}}", "data.split.test: Input should be greater than 0"),
        ("data: {split: {val: 1.0}}", "data.split.val: Input should be less than 1"),
        ("sft: {batch_size: 10, micro_batch: 4}", "sft: batch_size 10 is not a multiple of micro_batch 4"),
        (
            "align: {prompts: 3, group_size: 4, micro_batch: 8}",
            "align: prompts * group_size = 12 is not a multiple of micro_batch 8",
        ),
        ("align: {reward: {}}", "align.reward: name at least one reward term, e.g. {rougeL: 1.0}"),
        ("align: {group_size: 1}", "align.group_size: Input should be greater than or equal to 2"),
        ("data: {limit: {train: 0}}", "data.limit.train: Input should be greater than or equal to 1"),
        ("sft: {lr: 0}", "sft.lr: Input should be greater than 0"),
    ],
)
def test_values_that_do_not_go_together_are_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(written(tmp_path, text))
    assert said in str(error.value)


def test_a_number_that_yaml_takes_for_text_is_a_number(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "align: {lr: 1e-4, reward: {rougeL: 5e-1}}"))
    assert config.align.lr == 0.0001
    assert config.align.reward == {"rougeL": 0.5}


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "# nothing yet\n")) == RunConfig()


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().seed = 8  # type: ignore[misc]


# ---- the kinds of alignment ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["seed: 1", "align: {lr: 1e-3}", "align: {type: grpo}", "align: {rollouts: 2}"])
def test_without_a_type_the_alignment_is_grpo(tmp_path: Path, text: str) -> None:
    config = load_config(written(tmp_path, text))
    assert isinstance(config.align, GRPOConfig)
    assert config.grpo is config.align
    assert config.reward == {"rougeL": 1.0}
    with pytest.raises(ConfigError, match=r"align\.type is grpo, not dpo; set align\.type=dpo"):
        _ = config.dpo


def test_the_reward_of_a_run_with_two_is_the_one_it_is_evaluated_by(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "align: {reward: diagnostic, reward_schedule: {reward: {bleu2: 2}}}"))
    assert config.grpo.reward == {"diagnostic_f1": 1.0}
    assert config.reward == {"bleu2": 2.0}


def test_a_type_chooses_the_keys_and_their_defaults(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "align: {beta: 0.2}"), ["align.type=dpo", "align.anchor=sft"])
    assert config.align == DPOConfig(beta=0.2, anchor="sft")
    assert config.dpo is config.align
    assert config.reward is None
    assert parse_config(json.loads(json.dumps(config.model_dump(mode="json"))), "x") == config
    with pytest.raises(ConfigError, match=r"align\.type is dpo, not grpo; set align\.type=grpo"):
        _ = config.grpo


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("align: {type: dop}", "align.type: no alignment is called 'dop'. Did you mean 'dpo'?"),
        ("align: {type: null}", "align.type: no alignment is called 'None'. Did you mean 'none'?"),
        ("align: {type: dpo, anchr: sft}", "unknown key 'align.anchr'. Did you mean 'anchor'?"),
        ("align: {type: dpo, rollouts: 3}", "unknown key 'align.rollouts': it belongs to align.type=grpo"),
        ("align: {anchor: sft}", "unknown key 'align.anchor': it belongs to align.type=dpo"),
        ("align: {type: dpo, beta: 0}", "align.beta: Input should be greater than 0"),
        ("align: {type: dpo, anchor: stf}", "align.anchor: Input should be 'none', 'sft' or 'dpop'"),
        ("align: {type: dpo, batch_size: 10}", "align: batch_size 10 is not a multiple of micro_batch 8"),
        (
            "align: {type: dpo, chosen_source: judge_winner, rejected_source: both}",
            "would reject the judge's own winner",
        ),
        ("align: 3", "align: Input should be a valid dictionary"),
    ],
)
def test_what_is_wrong_in_an_alignment_is_told_with_the_keys_that_were_typed(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(written(tmp_path, text))
    assert said in str(error.value)


# ---- files that cannot be read ---------------------------------------------------------------------------------------


def test_a_missing_file_is_told_with_the_shipped_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.yaml: no such configuration file.*Shipped by name: .*quickstart"):
        load_config(tmp_path / "nope.yaml")


def test_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder, not a configuration file"):
        load_config(tmp_path)


def test_a_file_that_is_not_utf8_is_told_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: caf\xe9")  # the ninth byte after "name: caf" has offset 9
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 at byte 9; save the file as UTF-8"):
        load_config(path)


def test_bad_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 1\nsft: {lr: 1\nalign: 2\n")
    with pytest.raises(ConfigError, match=r"my\.yaml:3 is not valid YAML: expected ',' or '}'"):
        load_config(path)


@pytest.mark.parametrize("text", ["name: a\x00b", "name: 2024-13-45", "name: &a [*b]", "? [1]\n: 2"])
def test_other_bad_yaml_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*is not valid YAML: [^\n]+$"):
        load_config(written(tmp_path, text))


@pytest.mark.parametrize("text", ["- a\n- b", "just words", "3"])
def test_yaml_without_keys_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="expected keys and values, found"):
        load_config(written(tmp_path, text))


# ---- shipped configurations ------------------------------------------------------------------------------------------

SHIPPED = sorted(path.stem for path in SHIPPED_CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_loads_under_its_own_name(name: str) -> None:
    assert load_config(name).name == name
    assert load_config(f"{name}.yaml") == load_config(f"configs/{name}.yaml") == load_config(name)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_comes_back_from_its_own_json(name: str) -> None:
    config = load_config(name)
    again = parse_config(json.loads(json.dumps(config.model_dump(mode="json"))), "config.json")
    assert again == config
    assert digest(again) == digest(config)


@pytest.mark.parametrize("name", ["deer", "all"])
def test_token_weights_of_a_shipped_configuration_are_changed_by_name_or_by_key(name: str) -> None:
    assert load_config(name, ["align.token_weight=shuffled"]).grpo.token_weight.by == "shuffled"
    changed = load_config(name, ["align.token_weight.eta=0"]).grpo.token_weight
    assert (changed.by, changed.eta) == ("combined", 0.0)


def test_a_file_of_ones_own_goes_before_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped("quickstart") == SHIPPED_CONFIGS / "quickstart.yaml"
    assert shipped("elsewhere/quickstart.yaml") is None
    (tmp_path / "quickstart").mkdir()  # a run folder, say: a name is still a name
    assert shipped("quickstart") == SHIPPED_CONFIGS / "quickstart.yaml"
    written(tmp_path, "seed: 99", "quickstart.yaml")
    assert load_config("quickstart.yaml").seed == 99


# ---- overrides -------------------------------------------------------------------------------------------------------


def test_overrides_go_before_the_file_and_the_last_one_wins(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 1\nalign: {lr: 3e-5, rollouts: 5}\ndata: {limit: {train: 10}}")
    config = load_config(path, ["align.lr=1e-4", "data.limit.train=null", "seed=2", "seed=3", "name=mine"])
    assert (config.align.lr, config.align.rollouts) == (0.0001, 5)
    assert config.data.limit.train is None
    assert (config.seed, config.name) == (3, "mine")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("model.revision=1e5", "revision", "1e5"),  # a commit may look like a number
        ("model.revision='123'", "revision", "123"),
        ("model.revision=", "revision", None),
        ("model.system_prompt=a = b", "system_prompt", "a = b"),
        ("model.max_prompt_tokens=16", "max_prompt_tokens", 16),
    ],
)
def test_the_value_of_an_override_is_yaml(override: str, key: str, value: Any) -> None:
    values: dict[str, Any] = {}
    apply_override(values, override)
    assert getattr(parse_config(values, "x").model, key) == value


def test_a_key_of_a_selection_by_name_can_be_overridden() -> None:
    values: dict[str, Any] = {}
    for override in ("select=hardest", "select.share=0.2"):
        apply_override(values, override)
    assert values == {"select": {"by": "hardest", "share": 0.2}}
    assert parse_config(values, "test").select == HardestConfig(share=0.2)


def test_an_override_may_hold_lists_and_mappings() -> None:
    values: dict[str, Any] = {}
    for override in ("evaluate.metrics=[rougeL, bleu2]", "align.reward={rougeL: 1, bleu2: 5e-1}"):
        apply_override(values, override)
    config = parse_config(values, "x")
    assert config.evaluate.metrics == ("rougeL", "bleu2")
    assert config.align.reward == {"rougeL": 1.0, "bleu2": 0.5}


@pytest.mark.parametrize("override", ["", "seed", "=3", ".seed=3", "sft..lr=3", "sft.=3"])
def test_an_override_of_another_form_is_wrong_use(override: str) -> None:
    with pytest.raises(UsageError, match=r"is not of the form dotted\.key=value, e\.g\. sft\.lr=0\.0003") as error:
        apply_override({}, override)
    assert error.value.exit_code == 2


def test_an_override_through_a_value_is_wrong_use() -> None:
    with pytest.raises(UsageError, match=r"override 'seed\.deep\.er': 'seed' holds a value, not keys"):
        apply_override({"seed": 7}, "seed.deep.er=1")


@pytest.mark.parametrize("raw", ["[1", "{a", "2024-13-45", "'open"])
def test_an_override_that_is_not_yaml_is_wrong_use(raw: str) -> None:
    with pytest.raises(UsageError, match=r"override 'name': its value is not valid YAML; put it in quotes"):
        apply_override({}, f"name={raw}")


def test_a_wrong_override_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"my\.yaml with overrides: unknown key 'sfft'\. Did you mean 'sft'\?"):
        load_config(written(tmp_path, ""), ["sfft.lr=1"])


KEYS = st.lists(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), min_size=1, max_size=4)


@given(KEYS, st.none() | st.booleans() | st.integers() | st.lists(st.integers()))
def test_an_override_puts_its_value_where_the_dots_lead(keys: list[str], value: Any) -> None:
    values: dict[str, Any] = {"OTHER": {"left": "alone"}}
    apply_override(values, f"{'.'.join(keys)}={json.dumps(value)}")
    inner: Any = values
    for key in keys:
        inner = inner[key]
    assert inner == value
    assert values["OTHER"] == {"left": "alone"}


# ---- digest and difference -------------------------------------------------------------------------------------------


def leaves(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def changed(values: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(values))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy  # type: ignore[no-any-return]


def others(value: Any) -> list[Any]:
    """Values of like kind, one of which a field that holds ``value`` should take."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, (int, float)):
        return [value * 2, value / 2, value + 1, value - 1, 0.5]
    if value is None:
        return [3, "text", ["text"], ["rougeL"], ["lateral"], {"after": 0.25}]
    if isinstance(value, (list, dict)):
        further = [{"name": "there", "source": "csv"}]
        return [
            value[:-1] if value else [],
            {"study_id": "accession"},
            [{"path": "edits.csv", "kind": "edits"}],
            further,
        ]
    strings = [
        "tfidf",
        "chexbert",
        "l2norm",
        "other",
        "float32",
        "cpu",
        "sequence_sum",
        "mean",
        "text",
        "vllm",
        "http://elsewhere",
    ]
    return [*strings, "sft", "judge_winner", "random", "style", "labels", "worst", "critical", "best"]


DEFAULTS = {config.align.type: config for config in (RunConfig(), RunConfig(align=DPOConfig()))}
LEAVES = [(kind, path) for kind, config in DEFAULTS.items() for path, _ in leaves(config.model_dump(mode="json"))]
ONE_CHOICE = {("task",), ("align", "type"), ("data", "sites", "train")}  # of one site there is nothing to choose


@pytest.mark.parametrize(
    ("kind", "path"), [(kind, path) for kind, path in LEAVES if kind == "grpo" or path[0] == "align"], ids=str
)
def test_the_digest_changes_with_every_key_but_the_name(kind: str, path: tuple[str, ...]) -> None:
    default = DEFAULTS[kind]
    values = default.model_dump(mode="json")
    tried = []
    for value in others(dict(leaves(values))[path]):
        try:
            tried.append(parse_config(changed(values, path, value), "x"))
        except ConfigError:
            continue
    tried = [config for config in tried if config != default]
    assert bool(tried) == (path not in ONE_CHOICE)
    for config in tried:
        assert (digest(config) == digest(default)) == (path == ("name",))


def test_the_digest_is_twelve_hex_digits_and_the_same_in_every_process() -> None:
    code = "from radiograd.config import RunConfig, digest; print(digest(RunConfig()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.strip() == digest(RunConfig())
    assert len(bytes.fromhex(digest(RunConfig()))) == 6


def test_the_digest_does_not_depend_on_the_order_of_reward_terms() -> None:
    a, b = {"rougeL": 1.0, "bleu2": 0.5}, {"bleu2": 0.5, "rougeL": 1.0}
    assert digest(RunConfig(align=GRPOConfig(reward=a))) == digest(RunConfig(align=GRPOConfig(reward=b)))


def test_the_difference_lists_old_and_new_of_every_leaf_that_differs() -> None:
    old = {"seed": 1, "same": 2, "sft": {"lr": 0.1, "epochs": 1.0}, "path": None, "gone": 1}
    new = {"seed": 2, "same": 2, "sft": {"lr": 0.2, "epochs": 1.0}, "path": "a.csv", "come": [1]}
    assert difference(old, new) == [
        "come: null -> [1]",
        "gone: 1 -> null",
        'path: null -> "a.csv"',
        "seed: 1 -> 2",
        "sft.lr: 0.1 -> 0.2",
    ]
    assert difference(old, old) == []


# ---- cost ------------------------------------------------------------------------------------------------------------


def test_checking_a_configuration_loads_no_heavy_library() -> None:
    code = (
        "import sys; from radiograd.config import load_config; load_config('quickstart', ['seed=3']);"
        "print([m for m in ('torch', 'transformers', 'trl', 'peft', 'numpy', 'pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.strip() == "[]"
