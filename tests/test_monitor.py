"""The gold panel, the alarm and the step monitors, on numbers that can be worked out on paper."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.config import REWARD_PRESETS, GRPOConfig, RunConfig
from radiograd.errors import ConfigError
from radiograd.metrics import load_metric
from radiograd.metrics.builtin import METRICS, RULES
from radiograd.monitor import (
    FAMILIES,
    FEWEST_GOLD,
    PANEL,
    Look,
    TextMonitor,
    Verdict,
    Watch,
    families,
    gold_panel,
    mean_and_error,
    paid_for,
    paired_difference,
    panel_names,
    panel_values,
    positives,
    strays,
    unit_value,
)
from radiograd.rewards.builtin import TERMS
from radiograd.types import Case, Score, Sections, Study

# ---- the panel -------------------------------------------------------------------------------------------------------


def align(**settings: object) -> GRPOConfig:
    return GRPOConfig.model_validate(settings)


def test_the_default_panel_is_what_the_reward_does_not_pay_for() -> None:
    assert panel_names(align()) == ("statements", "tfidf_overlap", "label_f1_14_example", "factgraph_complete")
    assert panel_names(align(reward={"my.module:length": 1.0})) == PANEL  # by its name it shares nothing
    assert panel_names(align(reward="hierarchical")) == ("statements", "tfidf_overlap")
    assert panel_names(align(reward={"fidelity": 1.0})) == ("tfidf_overlap", "label_f1_14_example", "rougeL")


@pytest.mark.parametrize("reward", [*REWARD_PRESETS, *({name: 1.0} for name in METRICS)], ids=str)
def test_every_preset_and_every_metric_as_reward_leaves_at_least_two(reward: object) -> None:
    left = panel_names(align(reward=reward))
    assert len(left) >= FEWEST_GOLD
    assert not {family for name in left for family in families(name)} & paid_for(align(reward=reward)).keys()


def test_every_metric_of_ours_has_a_family_and_the_panel_has_one_of_each() -> None:
    assert not set(METRICS) - {name for members in FAMILIES.values() for name in members}
    assert not set(TERMS) - {name for members in FAMILIES.values() for name in members}
    assert len({family for name in PANEL for family in families(name)}) == len(PANEL)
    assert set(PANEL) <= set(RULES)  # nothing has to be fetched


def test_a_term_without_weight_is_only_looked_at_and_length_control_pays_for_length() -> None:
    assert "rougeL" in panel_names(align(reward={"statements": 1.0, "rougeL": 0.0}))
    with pytest.raises(ConfigError, match="pays for that by length_control"):
        panel_names(align(reward={"statements": 1.0}, length_control=True, guard={"gold": ["length_ratio"]}))


@pytest.mark.parametrize(
    ("reward", "gold", "message"),
    [
        ({"rougeL": 1.0}, ["rougeL"], "rougeL is no independent judge .* counts words, .* pays for that by rougeL"),
        ({"rougeL": 1.0}, ["statements", "bleu2"], "bleu2 is no independent judge .* counts words"),
        ({"impression/label_f1_14": 1.0}, ["findings/label_f1_5"], "findings/label_f1_5 .* counts labels"),
        ("hierarchical", ["label_f1_14"], "it counts labels, and the reward pays for that by impression_f1"),
        ({"my.module:length": 1.0}, ["my.module:length"], r"my\.module:length is no independent judge"),
        ({"rougeL": 1.0}, [], "name at least one metric"),
        ({"rougeL": 1.0}, ["statements", "statements"], "none twice"),
    ],
)
def test_a_panel_that_shares_something_with_the_reward_is_refused(
    reward: object, gold: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        panel_names(align(reward=reward, guard={"gold": gold}))


def test_a_reward_that_pays_for_nearly_all_leaves_no_panel_and_says_what_to_do() -> None:
    reward = {"statements": 1.0, "tfidf_overlap": 1.0, "label_f1_14": 1.0, "factgraph_simple": 1.0}
    with pytest.raises(ConfigError, match=r"leaves 1 of .* align\.guard\.gold.* align\.guard\.every=0"):
        panel_names(align(reward=reward))
    assert panel_names(align(reward=reward, guard={"gold": ["bertscore"]})) == ("bertscore",)


def test_the_panel_is_resolved_and_none_is_where_nobody_looks() -> None:
    config = RunConfig.model_validate({"align": {"guard": {"gold": ["statements", "cider"]}}})
    assert {name: metric.name for name, metric in gold_panel(config).items()} == {n: n for n in ("statements", "cider")}
    off = {"reward": {"rougeL": 1.0}, "guard": {"every": 0, "gold": ["rougeL"]}}
    assert gold_panel(RunConfig.model_validate({"align": off})) == {}
    with pytest.raises(ConfigError, match="no metric"):
        gold_panel(RunConfig.model_validate({"align": {"guard": {"gold": ["statement"]}}}))


def test_values_are_shares_of_the_way_from_worst_to_best() -> None:
    cider, invented = load_metric("cider"), load_metric("hallucinated_prior")
    assert unit_value(cider, Score(2.5)) == 0.25  # of 10
    assert unit_value(invented, Score(1.0)) == 0.0  # lower is better
    assert unit_value(invented, Score(0.0)) == 1.0
    assert unit_value(cider, Score(None, why="no reference")) is None
    found = {
        "cider": [Score(5.0), Score(None, why="x"), Score(None, why="x")],
        "hallucinated_prior": [Score(0.0), Score(1.0), Score(None, why="x")],
    }
    panel = {"cider": cider, "hallucinated_prior": invented}
    assert panel_values(panel, found) == [0.75, 0.0, None]  # (0.5 + 1) / 2, 0 alone, nothing


# ---- the alarm -------------------------------------------------------------------------------------------------------


def look(step: int, *gold: float | None, proxy: float | None = 0.5, **rest: float | None) -> Look:
    return Look(step, {f"s{n}": value for n, value in enumerate(gold)}, proxy, **rest)


def verdicts(watch: Watch, *looks: Look) -> list[Verdict]:
    found = []
    for one in looks:
        watch, verdict = watch.see(one)
        found.append(verdict)
    return found


def test_the_difference_is_paired_over_studies_scored_at_both_looks() -> None:
    # -0.1 and -0.3: mean -0.2, standard deviation 0.1414, over the root of 2: 0.1
    assert paired_difference({"a": 0.4, "b": 0.5, "c": None}, {"a": 0.5, "b": 0.8, "c": 1.0, "d": 0.0}) == (
        pytest.approx(-0.2),
        pytest.approx(0.1),
    )
    assert paired_difference({"a": 0.4}, {"a": 0.5}) == (None, None)
    assert mean_and_error([0.1, None, 0.3]) == (pytest.approx(0.2), pytest.approx(0.1))
    assert mean_and_error([0.1]) == (0.1, None)
    assert mean_and_error([None]) == (None, None)


@pytest.mark.parametrize(
    ("fall", "proxy", "alarm"),
    [
        (1.9, 0.6, True),  # -0.2 lies 2 standard errors below
        (2.1, 0.6, False),
        (1.9, 0.5, False),  # the reward has not risen
        (1.9, 0.4, False),
        (1.9, None, False),
    ],
)
def test_alarm_when_the_panel_falls_while_the_reward_rises(fall: float, proxy: float | None, alarm: bool) -> None:
    first, second = verdicts(Watch(fall), look(0, 0.5, 0.8), look(20, 0.4, 0.5, proxy=proxy))
    assert first == Verdict(0, False, False, None)
    assert (second.alarm, second.stop, second.best_step) == (alarm, alarm, 0)
    assert (second.difference, second.se) == (pytest.approx(-0.2), pytest.approx(0.1))
    assert second.why == (
        "the gold panel lies 0.2000 (standard error 0.1000) below its best, at step 0, while the reward rose on the "
        "same texts from 0.5000 to 0.6000"
        if alarm
        else None
    )


def test_the_reward_of_the_rollouts_counts_from_the_look_after_the_sft_policy() -> None:
    fallen = {"proxy": 0.4}
    looks = [look(0, 0.5, 0.8), look(10, 0.4, 0.5, **fallen, rollouts=0.3), look(20, 0.4, 0.5, **fallen, rollouts=0.4)]
    assert [v.alarm for v in verdicts(Watch(1.0), *looks)] == [False, False, True]
    # a best look of a trained policy has rollouts of its own
    looks = [look(0, 0.1, 0.1), look(10, 0.5, 0.8, rollouts=0.3), look(20, 0.4, 0.5, **fallen, rollouts=0.4)]
    found = verdicts(Watch(1.0), *looks)
    assert [v.best_step for v in found] == [0, 10, 10]
    assert [v.alarm for v in found] == [False, False, True]
    assert "rose in the rollouts from 0.3000 to 0.4000" in (found[-1].why or "")


def test_best_is_the_look_that_no_later_one_exceeded_the_earliest_of_equals() -> None:
    looks = [look(0, 0.2, 0.4), look(10, 0.4, 0.2), look(20, 0.4, 0.4), look(30, 0.3, 0.4), look(40, 0.6, 0.4)]
    assert [v.best_step for v in verdicts(Watch(9.0), *looks)] == [0, 0, 20, 20, 40]


def test_a_kl_beyond_its_limit_stops_and_is_never_the_best() -> None:
    looks = [look(0, 0.2, 0.4, kl=0.0), look(10, 0.4, 0.4, kl=5.0), look(20, 0.9, 0.9, kl=5.1)]
    last = verdicts(Watch(3.0, kl_stop=5.0), *looks)[-1]
    assert (last.best_step, last.alarm, last.stop) == (10, False, True)
    assert last.why == "KL to the SFT policy is 5.1 nats a completion, above align.guard.kl_stop=5"


def test_studies_that_cannot_be_compared_raise_no_alarm() -> None:
    looks = [look(0, 0.9, 0.9, None), look(10, None, None, 0.0, proxy=1.0), look(20, None, 0.0, 0.0, proxy=1.0)]
    assert [(v.alarm, v.best_step, v.difference) for v in verdicts(Watch(0.1), *looks)] == [(False, 0, None)] * 3


def test_a_fall_of_every_study_alike_is_beyond_any_error() -> None:
    assert verdicts(Watch(99.0), look(0, 0.5, 0.8), look(10, 0.4, 0.7, proxy=0.6))[-1].alarm


_GOLD = st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=8)


@given(_GOLD, st.floats(0.01, 3))
def test_a_panel_that_is_constant_or_rises_never_raises_the_alarm(gold: list[list[float]], fall: float) -> None:
    """Rises in its mean: single studies may fall."""
    rising = sorted(gold, key=math.fsum)
    looks = [look(10 * n, *values, proxy=float(n), rollouts=float(n)) for n, values in enumerate(rising)]
    assert not any(v.alarm for v in verdicts(Watch(fall), *looks))
    constant = [look(10 * n, *gold[0], proxy=float(n), rollouts=float(n)) for n in range(4)]
    assert [(v.alarm, v.best_step) for v in verdicts(Watch(fall), *constant)] == [(False, 0)] * 4


@given(_GOLD, st.floats(0.01, 3))
def test_without_a_rising_reward_there_is_no_alarm(gold: list[list[float]], fall: float) -> None:
    looks = [look(10 * n, *values, proxy=-float(n), rollouts=-float(n)) for n, values in enumerate(gold)]
    assert not any(v.alarm for v in verdicts(Watch(fall), *looks))


@given(_GOLD, st.integers(0, 8))
def test_a_watch_goes_on_from_looks_that_were_written_down(gold: list[list[float]], kept: int) -> None:
    looks = [look(n, *values, proxy=values[0], rollouts=values[1], kl=values[2]) for n, values in enumerate(gold)]
    whole = verdicts(Watch(0.5, 0.9), *looks)
    watch = Watch(0.5, 0.9)
    for row in [json.loads(json.dumps({**one.to_json(), "why": "more"})) for one in looks[:kept]]:
        watch, _ = watch.see(Look.from_json(row))
    assert verdicts(watch, *looks[kept:]) == whole[kept:]


def test_with_the_default_fall_chance_stops_few_healthy_runs() -> None:
    """300 runs of four looks at a panel that only jitters (half of 64 studies change each time); the reward rises."""
    rng = np.random.default_rng(0)

    def stopped(fall: float) -> float:
        alarms = 0
        for _ in range(300):
            values = np.where(rng.random((4, 64)) < 0.5, rng.normal(0.5, 0.3, (4, 64)), 0.5)
            looks = [look(0, *[0.5] * 64), *(look(n + 1, *row, proxy=n + 1.0) for n, row in enumerate(values.tolist()))]
            alarms += any(v.alarm for v in verdicts(Watch(fall), *looks))
        return alarms / 300

    assert stopped(RunConfig().grpo.guard.fall) < 0.04
    assert stopped(1.0) > 0.5  # one standard error is no evidence when the best of several looks is what falls


# ---- what the texts look like ----------------------------------------------------------------------------------------


def case(candidate: str, reference: str | None) -> Case:
    return Case(Study("s", "p", "x", Sections(impression=reference)), candidate)


def test_positives_are_findings_stated_as_present() -> None:
    assert positives("Small left pleural effusion and cardiomegaly. No pneumothorax.") == 2
    assert positives("No acute abnormality.") == 0  # "no finding" is none


def test_monitors_of_a_rollout_worked_by_hand() -> None:
    monitor = TextMonitor(["No acute disease.", "no acute disease", "Clear lungs.", "Effusion.", "effusion"])
    found = monitor(
        [
            case("No acute disease", "No acute disease."),
            case("Left pleural effusion. Left pneumothorax.", "Left pleural effusion."),
            case("Effusion.", None),  # held against no reference
        ]
    )
    assert found == {
        "positives_ratio": 2.0,  # 0 + 2 over 0 + 1
        "words_ratio": 8 / 6,  # 3 + 5 over 3 + 3
        "template_share": 2 / 3,
        "template_share_reference": 1 / 2,
        "distinct_1": 7 / 9,  # no acute disease left pleural effusion left pneumothorax effusion
        "distinct_2": 6 / 6,
    }
    assert strays(found) == ["positives_ratio"]


def test_what_the_texts_do_not_give_is_left_out() -> None:
    assert TextMonitor([])([case("", "No acute disease.")]) == {
        "words_ratio": 0.0,
        "template_share": 0.0,
        "template_share_reference": 0.0,
    }
    assert strays({}) == []


@pytest.mark.parametrize(("ratio", "told"), [(0.89, True), (0.9, False), (1.1, False), (1.11, True)])
def test_positives_more_than_a_tenth_off_are_told(ratio: float, told: bool) -> None:
    assert bool(strays({"positives_ratio": ratio})) is told


def test_a_term_over_one_section_counts_what_its_metric_counts() -> None:
    assert families("findings/statements") == families("statements")
    assert families("impression_f1_all") == families("impression_f1") == frozenset({"labels"})
