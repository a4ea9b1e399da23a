from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from radiograd.selection import share_train
from tests import tiny


def _ids(studies) -> list[str]:
    return [study.study_id for study in studies]


def test_all_of_them_serve_both_stages_when_the_fraction_is_one() -> None:
    studies = tiny.studies(5)
    assert share_train(studies, 1.0, seed=3) == (studies, studies)


def test_four_fifths_of_ten_are_eight_and_the_rest_is_left_to_alignment() -> None:
    studies = tiny.studies(10)
    for_sft, for_align = share_train(studies, 0.8, seed=3)
    assert (len(for_sft), len(for_align)) == (8, 2)


@given(st.integers(2, 40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_the_shares_are_disjoint_whole_and_independent_of_the_order(n: int, fraction: float, seed: int) -> None:
    studies = tiny.studies(n)
    for_sft, for_align = share_train(studies, fraction, seed)
    assert for_sft
    assert for_align
    assert sorted(_ids(for_sft) + _ids(for_align)) == _ids(studies)
    shuffled = random.Random(1).sample(studies, n)
    assert set(_ids(share_train(shuffled, fraction, seed)[0])) == set(_ids(for_sft))


def test_another_seed_draws_others() -> None:
    studies = tiny.studies(40)
    assert _ids(share_train(studies, 0.5, 1)[0]) != _ids(share_train(studies, 0.5, 2)[0])
