import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.errors import UsageError
from radiograd.metrics.tfidf_overlap import TfidfOverlap
from radiograd.text.rarity import weigh, words
from radiograd.types import Case, Sections, Study

SET = ["no edema", "no edema", "no edema", "no mass", "no 3 mm mass", "no odd mass"]
TEXTS = st.lists(st.sampled_from(["no", "edema", "mass", "odd", "3", "zzz"]), max_size=8).map(" ".join)


def prepared(references=SET):
    metric = TfidfOverlap()
    metric.prepare(references)
    return metric


def cases_of(*pairs):
    return [Case(Study(str(i), str(i), "toy", Sections(impression=r)), c) for i, (r, c) in enumerate(pairs)]


def test_the_weight_of_a_word_is_its_smooth_idf_capped_at_the_95th_percentile():
    weights = weigh(SET)
    edema = math.log(7 / 4) + 1  # N = 6, in 3 texts; mass the same
    assert weights.n == 6
    assert weights.of("no") == pytest.approx(1.0)  # in all six: ln(7 / 7) + 1
    assert weights.of("edema") == weights.of("mass") == pytest.approx(edema)


def test_a_word_in_fewer_than_three_texts_weighs_the_median_so_gibberish_gains_nothing():
    weights = weigh(SET)
    assert weights.of("odd") == weights.of("zzz") == weights.of("NUM")
    assert weights.of("zzz") == pytest.approx(math.log(7 / 4) + 1)  # median of 1, edema's and mass's


def test_sharing_the_rare_word_is_worth_more_than_sharing_the_common_one():
    rare, common = prepared().score(cases_of(("no edema", "edema"), ("no edema", "no")))
    w = math.log(7 / 4) + 1
    # P = 1, R = w / (1 + w): F1 = 2 w / (w + 1 + w)
    assert rare.value == pytest.approx(2 * w / (1 + 2 * w))
    assert common.value == pytest.approx(2 / (2 + w))


def test_numbers_are_one_word_and_case_does_not_count():
    assert words("3.5 x 10 MM") == {"NUM": 2, "x": 1, "mm": 1}
    [score] = prepared().score(cases_of(("No 3 mm mass", "no 12 mm mass")))
    assert score.value == 1.0


def test_a_repeated_word_counts_as_often_as_in_the_text_with_fewer():
    [score] = prepared().score(cases_of(("edema", "edema edema edema")))
    assert score.value == pytest.approx(2 * 1 / (3 + 1))


def test_without_a_word_in_three_texts_all_words_weigh_the_same():
    [score] = prepared(["a b", "c d"]).score(cases_of(("a b", "a x")))
    assert score.value == pytest.approx(1 / 2)


@given(reference=TEXTS.filter(bool), candidate=TEXTS)
def test_it_lies_between_0_and_1_is_symmetric_and_1_for_the_text_itself(reference, candidate):
    metric = prepared()
    forth, itself = metric.score(cases_of((reference, candidate), (reference, reference)))
    assert 0.0 <= forth.value <= 1.0
    assert itself.value == 1.0
    if candidate:
        [back] = metric.score(cases_of((candidate, reference)))
        assert back.value == pytest.approx(forth.value)


def test_missing_references_are_unscored_and_an_empty_candidate_is_0():
    missing, empty, points, nothing = prepared().score(
        cases_of((None, "no"), (" ", "no"), ("...", "no"), ("no edema", ""))
    )
    assert "no impression" in missing.why
    assert "is empty" in empty.why
    assert "no word" in points.why
    assert nothing.value == 0.0


def test_scoring_before_preparing_is_a_wrong_use():
    with pytest.raises(UsageError, match=r"call prepare\(references\)"):
        TfidfOverlap().score(cases_of(("a", "a")))
    assert TfidfOverlap().score([]) == []


def test_the_signature_says_how_many_references_were_counted():
    assert TfidfOverlap().signature.endswith("df:not prepared")
    assert prepared().signature == "tfidf_overlap|f1|case:lc|numbers:NUM|idf:smooth,df>=3,cap:p95|df:6 references"
