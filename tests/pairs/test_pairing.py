from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from radiograd.config import DPOConfig
from radiograd.pairs.pairing import JudgedStudy, Made, alone, contestants, merge, pair_up, points
from radiograd.pairs.sampling import Candidates
from radiograd.preferences import Pair
from radiograd.types import Sections, Study

STUDY = Study("s1", "p1", "test", Sections(findings="Clear lungs.", impression="No acute disease."))


def config(**align: Any) -> DPOConfig:
    return DPOConfig.model_validate(align)


def made(texts: Sequence[str], judged: JudgedStudy | None = None, study: Study = STUDY, **align: Any) -> Made:
    sampled = {study.study_id: Candidates(tuple(texts), (False,) * len(texts), False)}
    judgements = {} if judged is None else {study.study_id: judged}
    return pair_up([study], sampled, judgements, config(**align), seed=7, number=0)


def rejected(found: Made) -> list[str]:
    return [pair.rejected for pair in found.pairs]


# ---- who lost --------------------------------------------------------------------------------------------------------


def test_candidates_of_the_same_words_count_once_and_empty_ones_not_at_all() -> None:
    assert contestants(["Clear.", " clear ", "", "...", "Nodule.", "CLEAR!"]) == [0, 4]


def test_a_round_robin_gives_one_point_for_a_win_and_a_half_for_a_tie() -> None:
    # 0 beats 1 and ties 2; 1 beats 2: 1.5, 1, 0.5
    won = points([0, 1, 2], [(0, 1, "a"), (0, 2, "tie"), (1, 2, "a")])
    assert won == {0: 1.5, 1: 1.0, 2: 0.5}
    assert (alone(won, best=True), alone(won, best=False)) == (0, 2)


def test_shared_points_name_nobody() -> None:
    circle = points([0, 1, 2], [(0, 1, "a"), (1, 2, "a"), (0, 2, "b")])
    assert circle == {0: 1.0, 1: 1.0, 2: 1.0}
    assert alone(circle, best=False) is None


# ---- which pairs -----------------------------------------------------------------------------------------------------


def test_the_paper_rejects_what_the_judge_found_worse_and_chooses_the_radiologist() -> None:
    judged = JudgedStudy(None, (("0", 0.0), ("1", 1.0)), loser=0, winner=1, signature="j", prompt_hash="h")
    (pair,) = made(["Nodule.", "Mass."], judged).pairs
    assert (pair.chosen, pair.rejected) == ("No acute disease.", "Nodule.")
    assert (pair.chosen_source, pair.rejected_source, pair.round) == ("reference", "judge_loser", 0)
    assert pair.provenance == {"candidate": 0, "judge": "j", "prompt_hash": "h", "points": {"0": 0.0, "1": 1.0}}


def test_the_winner_may_be_chosen_instead() -> None:
    judged = JudgedStudy(None, loser=0, winner=1)
    (pair,) = made(["Nodule.", "Mass."], judged, chosen_source="judge_winner").pairs
    assert (pair.chosen, pair.rejected, pair.chosen_source) == ("Mass.", "Nodule.", "judge_winner")
    assert pair.provenance["winner"] == 1


@pytest.mark.parametrize(
    ("texts", "judged", "align", "why"),
    [
        (["Nodule.", "nodule"], None, {}, "fewer than two different candidates"),
        (["Nodule.", ""], None, {}, "fewer than two different candidates"),
        (["Nodule.", "Mass."], JudgedStudy(None), {}, "tie"),
        (["Nodule.", "Mass."], JudgedStudy("no reply"), {}, "unscored"),
        (["no acute disease", "Mass."], JudgedStudy(None, loser=0), {}, "the loser has the words of the reference"),
        (
            ["Nodule.", "Mass."],
            JudgedStudy(None, loser=0),
            {"chosen_source": "judge_winner"},
            "tie for the best",
        ),
        (
            ["Nodule.", "Mass XXXX."],
            JudgedStudy(None, loser=0, winner=1),
            {"chosen_source": "judge_winner"},
            "the winner holds a redaction mark",
        ),
        (
            ["No acute disease", ""],
            None,
            {"rejected_source": "both"},
            "every candidate has the words of the reference or none",
        ),
    ],
)
def test_a_study_without_a_pair_is_counted_with_its_reason(
    texts: list[str], judged: JudgedStudy | None, align: dict[str, Any], why: str
) -> None:
    found = made(texts, judged, **align)
    assert found.pairs == ()
    assert found.without == {why: 1}


def test_both_rejects_every_different_candidate_but_never_the_reference() -> None:
    found = made(["Nodule.", "NO ACUTE DISEASE", "nodule", "Mass."], rejected_source="both")
    assert rejected(found) == ["Nodule.", "Mass."]
    assert {pair.rejected_source for pair in found.pairs} == {"both"}


def test_random_takes_one_by_the_seed_and_the_study_alone() -> None:
    texts = ["Nodule.", "no acute disease", "Mass.", "Effusion."]
    drawn = [rejected(made(texts, study=replace(STUDY, study_id=f"s{k}"), rejected_source="random")) for k in range(60)]
    assert drawn == [
        rejected(made(texts, study=replace(STUDY, study_id=f"s{k}"), rejected_source="random")) for k in range(60)
    ]
    # each of three in about a third of 60
    counts = {text: sum(one == [text] for one in drawn) for text in texts}
    assert counts["no acute disease"] == 0
    assert all(counts[text] >= 10 for text in texts if text != "no acute disease")


# ---- mixing ----------------------------------------------------------------------------------------------------------


def test_each_pair_stands_once_and_the_experts_word_counts_over_the_judges() -> None:
    expert = Pair("s1", "Left effusion.", "Clear.", chosen_source="expert", rejected_source="expert", weight=3.0)
    same = Pair("s1", "left effusion", "CLEAR")
    opposite = Pair("s1", "Clear.", "left effusion")
    elsewhere = replace(opposite, study_id="s2")
    kept, dropped = merge([expert, expert], [same, opposite, elsewhere, elsewhere])
    assert kept == [expert, elsewhere]
    assert dropped == {"repeated": 3, "against an imported pair": 1}


def test_experts_who_contradict_each_other_are_both_kept() -> None:
    a = Pair("s1", "Left effusion.", "Clear.")
    b = Pair("s1", "Clear.", "Left effusion.")
    assert merge([a, b], [])[0] == [a, b]
