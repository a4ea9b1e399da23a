"""Which studies are chosen from given scores, and how the choice is described; nothing is predicted here."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import tiny

from radiograd.config import HardestConfig, RandomConfig, RunConfig
from radiograd.errors import DataError
from radiograd.selecting import choose_hardest, choose_random, open_to_choice, require_enough
from radiograd.selecting.describing import plots, summarise
from radiograd.selecting.scoring import Scored, score_predictions
from radiograd.types import Sections, Study

IDS = ["a", "b", "c", "d", "e"]


def scored(why: dict[int, str] | None = None, lower: tuple[str, ...] = (), **columns: list[float]) -> Scored:
    return Scored(
        {name: np.array(values) for name, values in columns.items()},
        {name: -1 if name in lower else 1 for name in columns},
        [(why or {}).get(place) for place in range(len(next(iter(columns.values()))))],
        {},
    )


def hardest(**given: Any) -> HardestConfig:
    return HardestConfig(**given)


# ---- the hardest -----------------------------------------------------------------------------------------------------


def test_s_is_the_weighted_mean_of_ranks_and_the_bottom_share_is_taken() -> None:
    # ranks in [0, 1]: x 0 .25 .5 .75 1; y 1 .75 .5 .25 0. S = (3 x + y) / 4
    values = scored(x=[0.1, 0.2, 0.3, 0.4, 0.5], y=[0.9, 0.8, 0.7, 0.6, 0.5])
    found = choose_hardest(IDS, values, hardest(metrics={"x": 3.0, "y": 1.0}, share=0.4), seed=7)
    assert [choice.score for choice in found] == pytest.approx([0.25, 0.375, 0.5, 0.625, 0.75])
    assert [choice.rank for choice in found] == [1, 2, 3, 4, 5]
    assert [choice.selected for choice in found] == [True, True, False, False, False]
    assert found[0].reason == "among the 0.4 with the lowest S"
    assert found[0].scores == {"x": 0.1, "y": 0.9}
    assert found[0].normalised == {"x": 0.0, "y": 1.0}


def test_below_the_threshold_means_below() -> None:
    values = scored(x=[0.0, 1.0, 2.0, 3.0, 4.0])
    found = choose_hardest(IDS, values, hardest(metrics={"x": 1.0}, threshold=0.5), seed=7)
    assert [choice.selected for choice in found] == [True, True, False, False, False]  # S = 0, .25, .5, .75, 1
    assert found[0].reason == "S below 0.5"


def test_where_lower_is_better_the_highest_are_the_hardest() -> None:
    values = scored(lower=("x",), x=[0.0, 1.0, 2.0, 3.0, 4.0])
    found = choose_hardest(IDS, values, hardest(metrics={"x": 1.0}, share=0.2), seed=7)
    assert [choice.study_id for choice in found if choice.selected] == ["e"]
    assert found[4].scores == {"x": 4.0}  # its own value, not turned round


def test_what_a_metric_cannot_score_is_not_chosen_and_says_why() -> None:
    nan = float("nan")
    values = scored({1: "y: no graph"}, x=[0.5, 0.0, 0.1, 0.2, 0.3], y=[0.5, nan, 0.1, 0.2, 0.3])
    found = choose_hardest(IDS, values, hardest(metrics={"x": 1.0, "y": 1.0}, share=0.4), seed=7)
    assert (found[1].selected, found[1].rank, found[1].score) == (False, None, None)
    assert found[1].reason == "unscored: y: no graph"
    assert found[1].scores == {"x": 0.0, "y": None}
    # the worst of x is left out of the ranks too: c is the lowest of the four that are left
    assert found[2].score == 0.0
    # 0.4 of all five, not of the four that were scored
    assert sum(choice.selected for choice in found) == 2


def test_a_metric_of_weight_0_is_only_looked_at() -> None:
    nan = float("nan")
    values = scored(x=[0.0, 0.1, 0.2, 0.3, 0.4], y=[0.9, nan, 0.1, 0.1, 0.1])
    found = choose_hardest(IDS, values, hardest(metrics={"x": 1.0, "y": 0.0}, share=0.2), seed=7)
    assert [choice.study_id for choice in found if choice.selected] == ["a"]
    assert found[1].scores == {"x": 0.1, "y": None}
    assert found[1].normalised == {"x": 0.25, "y": None}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 1.0), st.integers(0, 3), st.randoms())
def test_the_choice_does_not_depend_on_the_order_and_takes_no_better_study_than_it_leaves(
    values: list[float], share: float, seed: int, rng: Any
) -> None:
    ids = [f"s{k}" for k in range(len(values))]
    order = rng.sample(range(len(values)), len(values))
    config = hardest(metrics={"x": 1.0}, share=share)
    one = choose_hardest(ids, scored(x=values), config, seed)
    other = choose_hardest([ids[k] for k in order], scored(x=[values[k] for k in order]), config, seed)
    assert {c.study_id for c in one if c.selected} == {c.study_id for c in other if c.selected}
    inside = [value for value, choice in zip(values, one, strict=True) if choice.selected]
    outside = [value for value, choice in zip(values, one, strict=True) if not choice.selected]
    assert inside
    assert not outside or max(inside) <= min(outside)


# ---- a draw, and too few ---------------------------------------------------------------------------------------------


def test_a_draw_takes_the_share_and_depends_on_seed_and_ids_alone() -> None:
    studies = tiny.studies(30)

    def drawn(some: list[Study], seed: int) -> set[str]:
        return {choice.study_id for choice in choose_random(some, RandomConfig(share=0.1), seed) if choice.selected}

    assert len(drawn(studies, 1)) == 3
    assert drawn(studies, 1) == drawn(studies[::-1], 1)
    assert drawn(studies, 1) != drawn(studies, 2)


@pytest.mark.parametrize(
    ("select", "said"),
    [
        (
            {"by": "hardest", "threshold": 0.01},
            r"chose 3 studies, alignment needs align\.prompts=4.*select\.threshold=0",
        ),
        ({"by": "random", "share": 0.05}, r"chose 3 studies, alignment needs align\.prompts=4.*select\.share=0\.05"),
    ],
)
def test_fewer_than_one_rollout_needs_is_an_error(select: dict[str, Any], said: str) -> None:
    config = RunConfig.model_validate({"select": select})
    with pytest.raises(DataError, match=said):
        require_enough(3, config)
    require_enough(4, config)


def test_what_could_not_be_scored_is_told_with_it() -> None:
    config = RunConfig.model_validate({"select": "hardest", "align": {"type": "dpo"}})
    said = r"0 studies \(3 were left out; unscored: x: why\), alignment needs 1 or more\. Raise select\.share=0\.1$"
    with pytest.raises(DataError, match=said):
        require_enough(0, config, {"unscored: x: why": 2, "unscored: y: why": 1})


def test_a_reference_with_a_redaction_mark_cannot_be_chosen() -> None:
    redacted = Study("r", "p", "x", Sections(findings="Clear.", impression="Seen by XXXX."))
    studies = tiny.studies(4)
    assert open_to_choice(RunConfig(), [redacted, *studies]) == studies


# ---- scores and their description ------------------------------------------------------------------------------------


def test_predictions_are_held_against_the_section_that_the_policy_writes() -> None:
    studies = [
        Study("a", "p", "x", Sections(findings="Left nodule.", impression="Clear lungs.")),
        Study("b", "q", "x", Sections(findings="Left nodule.", impression="")),
    ]
    texts = {"a": "Clear lungs.", "b": "Clear lungs."}
    found = score_predictions(studies, texts, {"rougeL": 1.0, "length_ratio": 0.0}, "impression")
    assert found.value("rougeL", 0) == 1.0
    assert found.value("rougeL", 1) is None
    assert found.why == [None, "rougeL: the reference impression is empty"]
    whole = score_predictions(studies[:1], texts, {"rougeL": 1.0}, "report")
    assert 0 < (whole.value("rougeL", 0) or 0) < 1


def row(score: float | None, selected: bool, critical: bool | None, labels: list[str], **x: float | None) -> dict:
    value = {"x": score, **x}
    return {
        "study_id": "s",
        "selected": selected,
        "rank": None if score is None else 1,
        "score": score,
        "scores": value,
        "normalised": None if score is None else value,
        "reason": "unscored: x: why" if score is None else "",
        "critical": critical,
        "labels": labels,
    }


def test_inside_and_outside_are_counted_apart() -> None:
    rows = [
        row(0.1, True, True, ["Edema"]),
        row(0.2, True, None, ["Edema", "Pneumonia"]),
        row(0.8, False, False, []),
        row(0.9, False, True, ["Pneumonia"]),
        row(None, False, False, []),
    ]
    found = summarise(rows)
    assert (found["studies"], found["selected"], found["unscored"], found["cut"]) == (5, 2, 1, 0.2)
    assert found["critical"]["inside"] == {"studies": 2, "annotated": 1, "critical": 1, "share": 1.0}
    assert found["critical"]["outside"] == {"studies": 3, "annotated": 3, "critical": 1, "share": pytest.approx(1 / 3)}
    assert found["labels"]["Edema"]["inside"] == {"studies": 2, "share": 1.0}
    assert found["labels"]["Pneumonia"]["outside"] == {"studies": 1, "share": pytest.approx(1 / 3)}
    assert found["metrics"]["x"] == {"inside": pytest.approx(0.15), "outside": pytest.approx(0.85)}
    assert found["unscored_why"] == {"unscored: x: why": 1}


def test_the_correlation_of_two_metrics_is_spearmans() -> None:
    rows = [row(score, False, None, [], y=1 - score, z=0.5) for score in (0.1, 0.4, 0.5)]
    found = {(one["a"], one["b"]): one["rho"] for one in summarise(rows)["correlation"]}
    assert found == {("x", "y"): pytest.approx(-1.0), ("x", "z"): None, ("y", "z"): None}


def test_the_plot_counts_every_study_once_and_marks_the_cut() -> None:
    rows = [row(k / 40, k < 4, None, []) for k in range(41)]
    svg = plots(rows, {"cut": 0.075})["selection.svg"]
    assert svg is not None
    bars = [one for one in ElementTree.fromstring(svg).iter() if one.get("class", "").startswith("bar s") and len(one)]
    said = [(one.get("class"), int((one[0].text or "").split(": ")[1].split()[0])) for one in bars]
    assert sum(count for css, count in said if css == "bar s0") == 4
    assert sum(count for css, count in said if css == "bar s1") == 37
    assert sum(one.get("class") == "mark" for one in ElementTree.fromstring(svg).iter()) == 1
    assert plots([row(None, False, None, [])], {"cut": None}) == {}
