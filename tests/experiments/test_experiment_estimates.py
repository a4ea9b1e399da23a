"""Means, differences and shares over seeds, and the numbers of a paper, on values that can be checked on paper."""

from __future__ import annotations

import numpy as np
import pytest

from radiograd.experiments.estimates import Cases, Draws, mean_of_part, outcomes, paired, value
from radiograd.experiments.paper import beside, impossible
from radiograd.metrics import mean_of
from radiograd.stats import resampled_sums
from radiograd.tally import Tally

DRAWS = Draws(400, 7)


def cases(values: list[float | None], ids: str | None = None, patients: str | None = None, **more: float) -> Cases:
    tally = Tally(("sum", "n", *more))
    for one in values:
        tally.add(None if one is None else {"sum": one, "n": 1.0, **more})
    names = list(ids or "abcdefghij"[: len(values)])
    return Cases(tally, list(patients or names), names, np.arange(len(values)))


def test_one_seed_is_its_mean() -> None:
    found = value({7: cases([1.0, 0.0, 0.5, None])}, mean_of, DRAWS)
    assert (found["mean"], found["n"], found["unscored"]) == (0.5, 3, 1)
    assert found["low"] < 0.5 < found["high"]
    assert found["seeds"]["7"]["mean"] == 0.5
    assert (found["seeds"]["7"]["low"], found["seeds"]["7"]["high"]) == (found["low"], found["high"])


def test_two_seeds_are_the_mean_of_their_means() -> None:
    found = value({7: cases([1.0, 0.0]), 8: cases([0.5, None])}, mean_of, DRAWS)
    assert found["mean"] == pytest.approx((0.5 + 0.5) / 2)
    assert (found["n"], found["unscored"]) == (1, 1)  # the fewest and the most
    assert [entry["mean"] for entry in found["seeds"].values()] == [0.5, 0.5]


def test_seeds_tested_on_the_same_studies_share_each_resample() -> None:
    # what one seed gains on a study the other loses: the mean over both does not move with the studies
    a, b = cases([1.0, 0.0, 1.0, 0.0]), cases([0.0, 1.0, 0.0, 1.0])
    found = value({7: a, 8: b}, mean_of, DRAWS)
    assert (found["mean"], found["low"], found["high"]) == (0.5, 0.5, 0.5)
    apart = value({7: a, 8: cases([0.0, 1.0, 0.0, 1.0], ids="wxyz")}, mean_of, DRAWS)
    assert apart["low"] < 0.5 < apart["high"]


def test_studies_of_one_patient_are_drawn_together() -> None:
    found = value({7: cases([1.0, 0.0, 1.0, 0.0], patients="ppqq")}, mean_of, DRAWS)
    assert (found["low"], found["high"]) == (0.5, 0.5)  # each patient has 0.5


def test_only_the_members_count() -> None:
    whole = cases([1.0, 0.0, 0.0, 0.0])
    part = Cases(whole.tally, whole.patients, whole.ids, np.array([0, 1]))
    assert value({7: part}, mean_of, DRAWS)["mean"] == 0.5


def test_resamples_are_those_of_the_statistics_module() -> None:
    from radiograd.experiments.estimates import _resampled

    rng = np.random.default_rng(0)
    columns, patients = [rng.random(30), rng.integers(0, 5, 30)], np.repeat(np.arange(10), 3)
    theirs = resampled_sums(columns, patients, DRAWS.resamples, np.random.default_rng([DRAWS.seed, 1]))
    np.testing.assert_allclose(_resampled(columns, patients, DRAWS, 1), theirs, rtol=1e-12)


def test_a_difference_is_over_the_cases_that_both_have() -> None:
    a, b = (
        {7: cases([1.0, 1.0, None]), 8: cases([0.5, 0.5, 0.5])},
        {7: cases([0.0, None, 1.0]), 8: cases([0.5, 0.0, 0.5])},
    )
    found = paired(a, b, mean_of, DRAWS)
    assert [(entry["difference"], entry["n"]) for entry in found["seeds"].values()] == [
        (1.0, 1),
        (pytest.approx(1 / 6), 3),
    ]
    assert found["difference"] == pytest.approx((1 + 1 / 6) / 2)
    assert (found["n"], found["unscored"]) == (1, 2)
    assert 0 < found["p"] <= 1


def test_equal_systems_differ_by_nothing() -> None:
    one = {7: cases([0.1, 0.7, 0.4])}
    found = paired(one, one, mean_of, DRAWS)
    assert (found["difference"], found["low"], found["high"], found["p"]) == (0.0, 0.0, 0.0, 1.0)


def test_without_a_scored_case_nothing_is_known() -> None:
    found = value({7: cases([None, None])}, mean_of, DRAWS)
    assert (found["mean"], found["low"], found["n"]) == (None, None, 0)


def test_a_part_has_a_mean_of_its_own() -> None:
    found = value({7: cases([0.5, 0.5, None], precision=0.25)}, mean_of_part("precision"), DRAWS)
    assert found["mean"] == 0.25


def test_wins_ties_and_losses_are_shares_of_what_was_answered() -> None:
    tally = Tally(("win", "tie", "loss", "n"))
    for winner in ("win", "win", "loss", "tie", None):
        tally.add(None if winner is None else {"win": 0.0, "tie": 0.0, "loss": 0.0, "n": 1.0, winner: 1.0})
    found = outcomes({7: Cases(tally, list("abcde"), list("abcde"), np.arange(5))}, DRAWS)
    assert [found[name]["mean"] for name in ("win", "tie", "loss", "net")] == [0.5, 0.25, 0.25, 0.25]
    assert (found["net"]["n"], found["net"]["unscored"]) == (4, 1)


# ---- the paper -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"rouge1": 61.367, "rouge2": 61.082, "rougeL": 66.652}, {"rougeL": "ROUGE-L above ROUGE-1"}),
        ({"rouge1": 57.329, "rougeL": 53.673}, {}),
        ({"rougeL": 66.652}, {}),
        (
            {"bertscore.precision": 87.842, "bertscore.recall": 86.873, "bertscore": 89.226},
            {"bertscore": "F1 above both precision and recall"},
        ),
        (
            # (86.439 + 89.328) / 2 = 87.8835
            {"bertscore.precision": 86.439, "bertscore.recall": 89.328, "bertscore": 88.928},
            {"bertscore": "F1 above the mean of precision and recall"},
        ),
        # below both is odd, and possible: precision 1 in one case and recall 1 in another make F1 0
        ({"bertscore.precision": 80.203, "bertscore.recall": 81.439, "bertscore": 79.715}, {}),
    ],
)
def test_what_no_scores_of_texts_can_be_is_found(row: dict[str, float], found: dict[str, str]) -> None:
    assert impossible(row) == found


def test_ours_stands_beside_the_papers_columns_as_far_as_there_is_one() -> None:
    (line,) = beside({"a": {"rouge1": 40.0, "meteor": 3.0}}, {"a": {"rouge1": {"mean": 0.5}}, "b": {}})
    assert line["ours"] == {"rouge1": {"mean": 0.5}, "meteor": None}
    assert line["impossible"] == {}
