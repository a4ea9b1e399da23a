"""The choice by completions from given labels and completions: gates, quota, ties, and what is told of it."""

from __future__ import annotations

import logging
import time
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd import assets
from radiograd.config import DiverseConfig, RewardStdConfig, parse_config
from radiograd.data.prepare import prepare
from radiograd.selecting import open_to_choice
from radiograd.selecting.describing import plots, summarise
from radiograd.selecting.diverse import Pool, choose_diverse, choose_reward_std, counted_labels
from radiograd.selecting.gates import refusals
from radiograd.selecting.rollouts import Diagnosed, diagnose
from radiograd.tables import selection_text
from radiograd.text.labels import RuleLabeler
from radiograd.types import Sections, Study

RULES = RuleLabeler("chexpert14")
NORMAL = "No acute disease."
EFFUSION, TUBE, LUNG = "Small left pleural effusion.", "Right apical pneumothorax.", "Left lower lobe atelectasis."


def study(name: str, impression: str | None, findings: str | None = None) -> Study:
    text = " ".join(f"{name}{k}" for k in range(6)) if findings is None else findings
    return Study(name, f"p-{name}", "x", Sections(findings=text, impression=impression))


def pool_of(studies: list[Study], seed: int = 7) -> Pool:
    return Pool.of(studies, RULES([s.sections.impression or "" for s in studies]), seed)


def read(studies: list[Study], texts: list[list[str]]) -> Diagnosed:
    rows = [{"study_id": s.study_id, "texts": t, "cut": [False] * len(t)} for s, t in zip(studies, texts, strict=True)]
    return diagnose(studies, rows[::-1], len(texts[0]), counted_labels(), "impression")


def chosen(studies: list[Study], diagnosed: Diagnosed | None = None, seed: int = 7, **given: Any) -> tuple[list, dict]:
    values = {"mode": "reference_labels", "words": (0, 300), "normal": (0.0, 1.0), **given}
    return choose_diverse(pool_of(studies, seed), diagnosed, DiverseConfig(**values), "impression", 0.7, 7)


# ---- what completions say --------------------------------------------------------------------------------------------


def test_shares_f1_and_their_spread_come_from_the_completions() -> None:
    studies = [study("a", f"{EFFUSION} {TUBE}"), study("b", NORMAL), study("c", None)]
    found = read(studies, [[EFFUSION, f"{EFFUSION} {TUBE}", NORMAL, ""], [NORMAL] * 4, [NORMAL] * 4])
    place = counted_labels().index("Pleural Effusion")
    assert found.shares_N_C[0, place] == 0.5
    assert found.shares_N_C[0].sum() == 0.75  # and the pneumothorax in one of four
    # a: 2 * 1 / (2 + 1), all, nothing right, nothing said; b: "No Finding" on both sides
    np.testing.assert_allclose(found.f1_N_K[:2], [[2 / 3, 1, 0, 0], [1, 1, 1, 1]])
    assert found.std_N[0] == pytest.approx(np.std([2 / 3, 1, 0, 0]))
    assert np.isnan(found.std_N[2])
    assert found.facts == {"rollouts": 12, "distinct_texts": 4, "truncated": 0}
    assert "uncertain=absent" in found.signature


def test_what_is_only_possible_is_not_a_positive() -> None:
    found = read([study("a", EFFUSION)], [["Possible pleural effusion.", EFFUSION]])
    assert found.f1_N_K.tolist() == [[0.0, 1.0]]


# ---- gates -----------------------------------------------------------------------------------------------------------


def test_each_refusal_has_its_own_reason() -> None:
    long = "There is nothing here that could be called a duplicate of any other film at all."
    studies = [
        study("none", None),
        study("empty", " "),
        study("short", NORMAL, "Two words."),
        study("long", NORMAL, "word " * 301),
        study("outside", "Emphysema."),  # in the way of "No Finding", but none of the labels
        study("dead", EFFUSION),
        study("one", EFFUSION, long),
        study("two", TUBE, f"{long} Again."),
        study("fine", LUNG, ""),
    ]
    ties, std = np.array([0, 1, 2, 3, 4, 5, 7, 6, 8]), np.array([0.3] * 5 + [0.019] + [0.3] * 3)
    said = RULES([s.sections.impression or "" for s in studies])

    def why(std: Any, words: tuple[int, int] = (5, 300)) -> list[str]:
        return refusals(studies, said, std, ties, DiverseConfig(words=words), "impression", 0.7, 7)

    assert why(std) == [
        "refused: no impression to hold a completion against",
        "refused: no impression to hold a completion against",
        "refused: findings of fewer than 5 words",
        "refused: findings of more than 300 words",
        "refused: the impression mentions no label",
        "refused: standard deviation of the diagnostic F1 below 0.02",
        "refused: near-duplicate of a study that is kept",  # "two" has the smaller tie
        "",
        "refused: findings of fewer than 5 words",
    ]
    assert why(None)[5] == ""
    assert why(None, (0, 300))[8] == ""


def test_a_study_that_is_refused_stands_in_no_duplicates_way() -> None:
    text = "There is nothing here that could be called a duplicate of any other film at all."
    studies = [study("a", EFFUSION, text), study("b", EFFUSION, text)]
    said, ties = RULES([EFFUSION, EFFUSION]), np.array([0, 1])
    found = refusals(studies, said, np.array([0.0, 0.4]), ties, DiverseConfig(), "impression", 0.7, 7)
    assert [bool(reason) for reason in found] == [True, False]


# ---- the choice ------------------------------------------------------------------------------------------------------


def named(choices: list) -> list[str]:
    return [c.study_id for c in sorted((c for c in choices if c.selected), key=lambda c: c.rank)]


def test_rare_labels_come_first_and_rank_is_the_order_of_choice() -> None:
    studies = [study(f"e{k}", EFFUSION) for k in range(6)] + [study("t", TUBE), study("n", NORMAL)]
    found, told = chosen(studies, share=0.25, signatures=0.0)
    assert named(found)[0] == "t"
    assert named(found)[1].startswith("e")
    best, second = (next(c for c in found if c.rank == rank) for rank in (1, 2))
    assert best.score is not None
    assert second.score is not None
    assert best.score > second.score
    assert best.scores == {"uncertainty": None, "f1_mean": None, "f1_std": None}
    assert (best.reason, best.normalised) == ("adds most to coverage", None)
    left = next(c for c in found if c.study_id == "n")
    assert (left.selected, left.rank, left.score, left.reason) == (False, None, None, "")
    assert told["prevalence"]["Pneumothorax"] == {
        "natural": {"studies": 1, "share": 1 / 8},
        "chosen": {"studies": 1, "share": 1 / 2},
        "times": 4.0,
    }
    assert told["prevalence"]["Fracture"]["times"] is None
    assert told["reached"]["labels"]["missed"] == []


def test_modes_weigh_what_they_say() -> None:
    studies = [study("sure", TUBE), study("torn", EFFUSION), study("half", EFFUSION), study("calm", EFFUSION)]
    texts = [[TUBE] * 4, [EFFUSION, EFFUSION, NORMAL, NORMAL], [EFFUSION, NORMAL, NORMAL, NORMAL], [EFFUSION] * 4]
    diagnosed = read(studies, texts)
    open_gates = {"min_std": 0.0, "share": 0.5, "signatures": 0.0}
    assert named(chosen(studies, diagnosed, mode="rollout_labels", **open_gates)[0]) == ["torn", "half"]
    both, told = chosen(studies, diagnosed, mode="both", coverage=100.0, **open_gates)
    assert named(both) == ["sure", "torn"]
    assert told["lambda"] == 100.0
    assert named(chosen(studies, diagnosed, mode="both", coverage=0.01, **open_gates)[0]) == ["torn", "half"]
    u = {c.study_id: c.scores["uncertainty"] for c in both}
    assert u["sure"] == u["calm"] == 0.0
    assert u["torn"] > u["half"] > 0
    with pytest.raises(ValueError, match=r"select\.mode=both needs completions"):
        chosen(studies, None, mode="both")
    with pytest.raises(ValueError, match=r"select\.mode=reference_labels needs no completions"):
        chosen(studies, diagnosed)


@pytest.mark.parametrize(
    ("normals", "others", "quota", "expected", "filled"),
    [
        (10, 10, (0.0, 0.25), 2, None),
        (10, 10, (0.5, 1.0), 4, None),
        (1, 19, (0.5, 1.0), 1, "others"),
        (17, 3, (0.0, 0.25), 5, "normal"),
    ],
)
def test_the_quota_is_kept_or_the_summary_says_why_not(
    normals: int,
    others: int,
    quota: tuple[float, float],
    expected: int,
    filled: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    studies = [study(f"n{k}", NORMAL) for k in range(normals)] + [study(f"e{k}", EFFUSION) for k in range(others)]
    diagnosed = read(studies, [[NORMAL, EFFUSION]] * normals + [[NORMAL, EFFUSION]] * others)
    with caplog.at_level(logging.WARNING):
        found, told = chosen(studies, diagnosed, mode="both", share=0.4, normal=quota, coverage=1.0)
    assert sum(name.startswith("n") for name in named(found)) == expected == told["normal"]["chosen"]["studies"]
    assert len(named(found)) == 8
    assert told["normal"]["filled_with"] == filled
    assert ("select.normal=" in caplog.text) is (filled is not None)


def test_fewer_than_asked_for_are_all_taken_and_told(caplog: pytest.LogCaptureFixture) -> None:
    studies = [study(f"e{k}", EFFUSION) for k in range(3)] + [study(f"x{k}", "Emphysema.") for k in range(7)]
    with caplog.at_level(logging.WARNING):
        found, told = chosen(studies, share=0.5)
    assert len(named(found)) == 3
    assert told["asked"] == 5
    assert told["gates"] == {"refused: the impression mentions no label": 7}
    assert "3 of 10 studies pass the gates, fewer than the 5 asked for" in caplog.text
    nothing, told = chosen(studies[3:], share=0.5)
    assert named(nothing) == []
    assert told["coverage"] == []


TEXTS = (NORMAL, EFFUSION, TUBE, LUNG, f"{EFFUSION} {LUNG}", "Possible pneumonia.", "Emphysema.")


@given(
    st.lists(st.tuples(st.sampled_from(TEXTS), st.lists(st.sampled_from(TEXTS), min_size=3, max_size=3)), min_size=4),
    st.sampled_from(["both", "rollout_labels", "reference_labels", "reward_std"]),
    st.integers(0, 3),
    st.randoms(),
)
def test_the_choice_does_not_depend_on_the_order_of_rows(rows: list[Any], mode: str, seed: int, rng: Any) -> None:
    studies = [study(f"s{k}", text) for k, (text, _) in enumerate(rows)]
    order = rng.sample(range(len(rows)), len(rows))

    def made(places: list[int]) -> dict[str, Any]:
        some = [studies[k] for k in places]
        diagnosed = read(some, [rows[k][1] for k in places])
        if mode == "reward_std":
            found, told = choose_reward_std(pool_of(some, seed), diagnosed, RewardStdConfig(share=0.4))
        else:
            sampled = None if mode == "reference_labels" else diagnosed
            found, told = chosen(some, sampled, seed, mode=mode, share=0.4, normal=(0.1, 0.5))
        return {"choices": {c.study_id: c for c in found}, **told}

    assert made(list(range(len(rows)))) == made(order)


def test_many_studies_take_little_time() -> None:
    rng, n = np.random.default_rng(5), 10_000
    texts = [TEXTS[k] for k in rng.integers(0, len(TEXTS), n)]
    said = dict(zip(TEXTS, RULES(TEXTS), strict=True))
    studies = [study(f"s{k}", text, f"a{k} b{k} c{k} d{k} e{k}") for k, text in enumerate(texts)]
    pool = Pool.of(studies, [said[text] for text in texts], 7)
    diagnosed = Diagnosed(rng.binomial(8, 0.3, (n, len(counted_labels()))) / 8, rng.random((n, 8)), "drawn", {})
    started = time.perf_counter()
    found, _ = choose_diverse(pool, diagnosed, DiverseConfig(), "impression", 0.7, 7)
    assert time.perf_counter() - started < 10  # about 0.6 s
    assert sum(choice.selected for choice in found) == 2_000


def test_rare_labels_of_openi_become_three_to_five_times_as_common() -> None:
    if not assets.is_cached("openi"):
        pytest.skip("needs the OpenI reports: radiograd fetch openi")
    config = parse_config({"name": "x", "task": "report", "data": {"source": "openi"}}, "test")
    studies = open_to_choice(config, prepare(config).train)
    pool = Pool.of(studies, RULES([s.sections.text("report") or "" for s in studies]), 7)
    select = DiverseConfig(mode="reference_labels")
    _, told = choose_diverse(pool, None, select, "report", 0.7, 7)
    rare = [of for of in told["prevalence"].values() if of["natural"]["share"] < 0.04]
    assert len(rare) == 9
    assert all(3 <= of["times"] <= 5 for of in rare)  # a fifth is taken: five times is all of them
    assert told["normal"]["chosen"]["share"] == pytest.approx(0.1, abs=0.01)
    assert told["coverage"][-1]["chosen"] > told["coverage"][-1]["random"]


# ---- reward_std ------------------------------------------------------------------------------------------------------


def test_the_largest_spread_is_taken_and_rank_1_is_the_largest() -> None:
    studies = [study("low", EFFUSION), study("high", EFFUSION), study("mid", EFFUSION), study("none", None)]
    texts = [[EFFUSION] * 4, [EFFUSION, EFFUSION, NORMAL, NORMAL], [EFFUSION, NORMAL, NORMAL, NORMAL], [NORMAL] * 4]
    found, told = choose_reward_std(pool_of(studies), read(studies, texts), RewardStdConfig(share=0.5))
    assert {c.study_id: c.rank for c in found} == {"high": 1, "mid": 2, "low": 3, "none": None}
    assert named(found) == ["high", "mid"]
    assert [c.score for c in found] == [0.0, 0.5, pytest.approx(np.sqrt(3) / 4), None]
    assert found[1].reason == "among the 0.5 whose completions differ most in diagnostic F1"
    assert found[3].reason == "unscored: no reference"
    assert found[3].scores == {"f1_mean": None, "f1_std": None}
    assert told["cut"] == pytest.approx(np.sqrt(3) / 4)
    assert told["normal"]["quota"] is None


# ---- what is told ----------------------------------------------------------------------------------------------------


def summary_of(by: str = "diverse") -> tuple[list[dict[str, Any]], dict[str, Any]]:
    texts = [NORMAL] * 40 + [EFFUSION] * 6 + [TUBE, LUNG, f"{EFFUSION} {LUNG}", f"{EFFUSION} {TUBE}"]
    studies = [study(f"s{k}", text) for k, text in enumerate(texts)]
    diagnosed = read(studies, [[text, NORMAL, EFFUSION] for text in texts])
    if by == "diverse":
        found, told = chosen(studies, diagnosed, mode="both", share=0.2, normal=(0.1, 0.3))
    else:
        found, told = choose_reward_std(pool_of(studies), diagnosed, RewardStdConfig(share=0.2))
    rows = [
        {
            **{name: getattr(c, name) for name in ("study_id", "selected", "rank", "reason", "score", "scores")},
            "normalised": None,
            "critical": None,
            "labels": [name for name, status in labels.items() if status == "present"],
        }
        for c, labels in zip(found, RULES(texts), strict=True)
    ]
    return rows, {"by": by, "section": "impression", **summarise(rows), **told}


def test_coverage_of_the_choice_rises_above_that_of_a_draw() -> None:
    _, summary = summary_of()
    curve = summary["coverage"]
    assert [row["studies"] for row in curve] == list(range(11))
    assert curve[0] == {"studies": 0, "chosen": 0.0, "random": 0.0}
    assert all(a["chosen"] <= b["chosen"] and a["random"] <= b["random"] for a, b in pairwise(curve))
    assert curve[-1]["chosen"] > curve[-1]["random"]
    assert summary["reached"]["signatures"] == {
        "natural": 6,
        "chosen": 6,
        "random": summary["reached"]["signatures"]["random"],
    }
    assert summary["metrics"]["uncertainty"]["inside"] > summary["metrics"]["uncertainty"]["outside"]
    assert {(c["a"], c["b"]) for c in summary["correlation"]} >= {("uncertainty", "f1_std")}
    assert sum(summary["weights"].values()) == pytest.approx(1)


@pytest.mark.parametrize("by", ["diverse", "reward_std"])
def test_both_plots_and_the_terminal_name_what_was_done(by: str) -> None:
    rows, summary = summary_of(by)
    drawn = plots(rows, summary)
    assert set(drawn) == {"selection.svg", "selection_coverage.svg"}
    for svg in drawn.values():
        ElementTree.fromstring(svg)
    assert "Pneumothorax" in drawn["selection.svg"]
    assert "Fracture" not in drawn["selection.svg"]  # nobody has one
    said = selection_text(summary)
    assert f"10 of 50 studies chosen ({by})" in said
    assert "Prevalence of labels before and after" in said
    assert ("standard deviation of the diagnostic F1 from" in said) is (by == "reward_std")
    assert ("quota 10 to 30 %" in said) is (by == "diverse")
