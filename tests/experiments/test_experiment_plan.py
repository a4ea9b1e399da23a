"""What an experiment file may say, what is made of it, and how it says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.experiments import small

from radiograd.config import NoAlignConfig, digest
from radiograd.errors import ConfigError, UsageError
from radiograd.experiments.plan import SHIPPED, chosen, column, load_plan, shipped_experiment


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return small.values(tmp_path, tmp_path / "no-model-needed")


def plan_of(folder: Path, values: dict[str, Any], *overrides: str) -> Any:
    return load_plan(small.written(folder, values), overrides)


def refused(folder: Path, values: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        plan_of(folder, values, *overrides)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- what is made of it ----------------------------------------------------------------------------------------------


def test_each_cell_and_seed_is_a_run(tmp_path: Path, values: dict[str, Any]) -> None:
    values["cells"][1]["seeds"] = [1, 2]
    plan = plan_of(tmp_path, values)
    assert [planned.name for planned in plan.runs] == ["rgro-seed7", "more-seed1", "more-seed2"]
    assert [planned.config.seed for planned in plan.runs] == [7, 1, 2]
    assert all(planned.config.data.split.seed == 7 for planned in plan.runs)
    assert [planned.name for planned in chosen(plan, ["more"])] == ["more-seed1", "more-seed2"]


def test_later_words_go_over_earlier_ones(tmp_path: Path, values: dict[str, Any]) -> None:
    values["set"] |= {"sft.lr": 0.1, "sft.epochs": 3, "generate.batch_size": 4}
    values["cells"][0]["set"] = {"sft.epochs": 4, "generate.batch_size": 5}
    first, second = plan_of(tmp_path, values, "generate.batch_size=6").runs
    assert (first.config.sft.lr, first.config.sft.epochs, first.config.generate.batch_size) == (0.1, 4, 6)
    assert (second.config.sft.lr, second.config.sft.epochs, second.config.generate.batch_size) == (0.1, 3, 6)


def test_a_key_is_replaced_whole_and_a_dotted_one_changes_one(tmp_path: Path, values: dict[str, Any]) -> None:
    values["cells"][0] |= {"set": {"align": {"type": "none"}}, "rows": {"sft": small.RGRO}}
    values["cells"][1] |= {"set": {"align.beta": 0.4}}
    values["compare"] = []
    first, second = plan_of(tmp_path, values).runs
    assert first.config.align == NoAlignConfig()
    assert (second.config.dpo.beta, second.config.dpo.candidates) == (0.4, 2)


def test_keys_of_the_experiment_can_be_typed_too(tmp_path: Path, values: dict[str, Any]) -> None:
    values["cells"][1]["seeds"] = [1, 2]
    plan = plan_of(tmp_path, values, "seeds=[9]", "metrics=[rougeL, bleu3]", "sft.lr=0.5")
    assert [planned.name for planned in plan.runs] == ["rgro-seed9", "more-seed9"]
    assert plan.of_runs == ("sft.lr=0.5",)
    assert plan.overrides == ("seeds=[9]", "metrics=[rougeL, bleu3]", "sft.lr=0.5")


def test_runs_compute_every_column_and_other_known_columns_leave_them_as_they_are(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    before, fewer, more = (
        plan_of(tmp_path, values, *typed).runs[0].config
        for typed in ((), ["metrics=[rougeL]"], ["metrics=[rougeL,bleu3,cider.sum]"])
    )
    assert digest(before) == digest(fewer)
    assert more.evaluate.metrics == (*before.evaluate.metrics, "bleu3", "cider")


def test_equal_data_and_fine_tuning_have_one_key(tmp_path: Path, values: dict[str, Any]) -> None:
    first, second = plan_of(tmp_path, values).runs
    assert first.shared_key == second.shared_key
    for changed in ({"sft.lr": 0.5}, {"data.limit.test": 9}, {"model.lora.rank": 8}):
        values["cells"][1]["set"] = {**changed, "align": {"type": "sft"}}
        first, second = plan_of(tmp_path, values).runs
        assert first.shared_key != second.shared_key
    values["cells"][1]["set"] = {"generate.max_new_tokens": 9, "align": {"type": "sft"}}
    assert len({planned.shared_key for planned in plan_of(tmp_path, values).runs}) == 1
    assert len({planned.shared_key for planned in plan_of(tmp_path, values, "seeds=[1,2]").runs}) == 2


def test_a_base_is_found_by_name_or_beside_the_experiment(tmp_path: Path, values: dict[str, Any]) -> None:
    assert plan_of(tmp_path, values | {"base": "rgro"}).runs[0].config.dpo.judge == "rules"
    assert plan_of(tmp_path, values).runs[0].config.dpo.max_new_tokens == 8
    said = refused(tmp_path, values | {"base": "rgor"})
    assert said.startswith(f"rgor: base of {tmp_path / 'small.yaml'}: no such configuration file. Shipped by name: ")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rougeL", ("rougeL", None)),
        ("bertscore.precision", ("bertscore", "precision")),
        ("my.package:metric", ("my.package:metric", None)),
    ],
)
def test_a_column_is_a_metric_or_a_part_of_one(name: str, expected: tuple[str, str | None]) -> None:
    assert column(name) == expected


# ---- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metric": ["rougeL"]}, "unknown key 'metric'. Did you mean 'metrics'?"),
        ({"cells": []}, "cells: name at least one cell"),
        ({"cells": [{"name": "a", "sett": {}}]}, "unknown key \"cells['a'].sett\". Did you mean 'set'?"),
        ({"cells": [{"name": "a"}, {"name": "a"}]}, "two have the same cell 'a'"),
        ({"cells": [{"set": {}}]}, "cells[0].name is missing"),
        ({"judges": [{"judge": "rules", "lable": "x"}]}, "unknown key 'judges[0].lable'. Did you mean 'label'?"),
        ({"judges": [{"judge": "rules"}, {}]}, "two have the same judge 'rules'"),
        ({"seeds": []}, "seeds: give different numbers of 0 or more, at least one"),
        ({"seeds": [7, 7]}, "seeds: give different numbers of 0 or more, at least one"),
        ({"metrics": ["rougeL", "rougeL"]}, "two have the same metric 'rougeL'"),
        ({"strata": ["site: there"]}, "strata: cell 'rgro' has no site 'there'. There is only one site."),
        (
            {"strata": ["site: style-3"], "set": {"data.sites.rule": "style"}},
            "strata: cell 'rgro' has no site 'style-3'. Did you mean 'style-",
        ),
        ({"strata": ["abnorml"]}, "strata: no stratum is called 'abnorml'. Did you mean 'abnormal'?"),
        ({"compare": [["RGRO-50", "SFT-5"]]}, "compare: no row is labelled 'SFT-5'. Did you mean 'SFT-50'?"),
        (
            {"paper": {"source": "x", "rows": {"RGRO": {"rouge1": 1.0}}}},
            "paper.rows: no row is labelled 'RGRO'. Did you mean 'RGRO-50'?",
        ),
        ({"paper": {"rows": {}}}, "paper.source is missing"),
        ({"set": {"seed": 3}}, "a run's seed is made from cell and seed; set it there"),
        ({"set": {"sft..lr": 3}}, "'sft..lr' is no key"),
        ({"set": {"sft.lrr": 3}}, "cell 'rgro': unknown key 'sft.lrr'. Did you mean 'lr'?"),
        ({"set": {"task.x": 1, "task": "y"}}, "cell 'rgro': task: Input should be"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, values: dict[str, Any], changed: dict[str, Any], said: str
) -> None:
    message = refused(tmp_path, {**values, **changed})
    assert said in message
    assert str(tmp_path / "small.yaml") in message


def test_two_rows_cannot_have_one_label(tmp_path: Path, values: dict[str, Any]) -> None:
    values["cells"][1]["rows"] = {"aligned": small.RGRO}
    assert "two have the same row label 'RGRO-50'" in refused(tmp_path, values)


def test_a_row_of_a_system_that_the_runs_do_not_have_is_told(tmp_path: Path, values: dict[str, Any]) -> None:
    values["cells"][1]["set"] = {"align": {"type": "none"}}
    said = refused(tmp_path, values)
    assert "cell 'more': rows: its runs have no system 'aligned'. It is not aligned (align.type: none)." in said
    values["cells"][1]["rows"] = {"constnt": small.MORE}
    assert "its runs have no system 'constnt'. Did you mean 'constant'?" in refused(tmp_path, values)


def test_an_unknown_experiment_or_cell_is_told(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"no such experiment file\. Shipped by name: .*rgro_table1"):
        load_plan("rgro_tabel1")
    with pytest.raises(UsageError, match=r"no cell is called 'mor'\. Did you mean 'more'\?"):
        chosen(plan_of(tmp_path, values), ["mor"])


# ---- the shipped ones ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_every_shipped_experiment_can_be_planned(name: str) -> None:
    plan = load_plan(name)
    assert plan.experiment.name == name
    assert plan.experiment.question
    assert shipped_experiment(name) == shipped_experiment(f"{name}.yaml") == SHIPPED / f"{name}.yaml"
    assert all(planned.config.data.split.seed is not None for planned in plan.runs)


def test_table_1_holds_every_row_of_the_paper_and_its_controls() -> None:
    plan = load_plan("rgro_table1")
    labels = plan.experiment.labels
    fractions = {label: plan.of(cell)[0].config.sft.fraction for label, (cell, _) in labels.items()}
    for percent, literal in ((50, ""), (70, " (literal: RGRO-80)"), (80, " (literal: RGRO-70)")):
        for label in (f"SFT-{percent}", f"RGRO-{percent}{literal}", f"SFT-{percent}, then SFT on the rest"):
            assert fractions[label] == percent / 100
    assert plan.of(labels["SFT-100"][0])[0].config.align == NoAlignConfig()
    assert fractions["SFT-100"] == 1.0
    random = plan.of(labels["RGRO-80, loser drawn without a judge"][0])
    assert {planned.config.dpo.rejected_source for planned in random} == {"random"}
    for label in ("SFT-80", "RGRO-80 (literal: RGRO-70)", "SFT-80, then SFT on the rest"):
        assert len(plan.of(labels[label][0])) >= 2
    # five policies are fine-tuned for the thirteen runs
    assert (len(plan.runs), len({planned.shared_key for planned in plan.runs})) == (13, 5)


def test_table_2_trains_on_each_site_and_tests_on_all() -> None:
    plan = load_plan("rgro_table2")
    trained = {planned.config.data.sites.train for planned in plan.runs}
    assert trained == {("style-1",), ("style-2",), ()}
    assert {kind for kind in plan.experiment.strata if kind.startswith("site: ")} == {
        f"site: {name}" for name in plan.runs[0].config.data.site_names
    }
    # whatever a run trains on, its test studies are drawn in the same way, and it trains on as many
    assert len({(planned.config.split_seed, planned.config.data.limit) for planned in plan.runs}) == 1


def test_the_file_in_the_documentation_can_be_planned(tmp_path: Path) -> None:
    import re

    page = Path(__file__).parents[2] / "docs" / "experiments" / "README.md"
    first, second = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.yaml").write_text(first, encoding="utf-8")
    assert [planned.name for planned in load_plan(tmp_path / "mine.yaml").runs] == [
        *("rgro-seed7", "rgro-seed8", "more-seed7"),
    ]
    head = "name: mine\ntitle: t\nbase: rgro\n"
    (tmp_path / "sites.yaml").write_text(head + second, encoding="utf-8")
    (run,) = load_plan(tmp_path / "sites.yaml").runs
    assert run.config.data.site_names == ("openi", "ours")
    assert not run.config.data.public
