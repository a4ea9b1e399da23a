"""Word differences, worked by hand."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from radiograd.worddiff import Piece, diff_words

words = st.lists(st.sampled_from(["no", "No", "acute", "disease.", "effusion,", "left", "--"]), max_size=12).map(
    " ".join
)


def test_identical_texts_are_one_same_piece():
    assert diff_words("No acute disease.", "No acute disease.") == (Piece("same", "No acute disease."),)


def test_a_replaced_word_is_missing_first_and_then_added():
    assert diff_words("Small left effusion.", "Small right effusion.") == (
        Piece("same", "Small"),
        Piece("missing", "left"),
        Piece("added", "right"),
        Piece("same", "effusion."),
    )


def test_case_and_edge_punctuation_do_not_count_and_the_candidate_spelling_is_shown():
    assert diff_words("No effusion, or edema", "no EFFUSION or edema.") == (Piece("same", "no EFFUSION or edema."),)


def test_a_lost_negation_is_marked_missing():
    assert diff_words("No pneumothorax", "Pneumothorax") == (Piece("missing", "No"), Piece("same", "Pneumothorax"))


def test_neighbouring_words_of_a_kind_join_into_one_piece():
    # longest common subsequence of (a b c d) and (a x y d) is (a d)
    assert diff_words("a b c d", "a x y d") == (
        Piece("same", "a"),
        Piece("missing", "b c"),
        Piece("added", "x y"),
        Piece("same", "d"),
    )


def test_a_word_that_moved_is_missing_and_added():
    pieces = diff_words("edema and effusion", "effusion and edema")
    assert [p.kind for p in pieces].count("same") == 1  # one of three words keeps its place in any alignment
    assert {p.kind for p in pieces} == {"same", "missing", "added"}


def test_empty_texts_give_only_the_other_side():
    assert diff_words("", "Clear lungs.") == (Piece("added", "Clear lungs."),)
    assert diff_words("Clear lungs.", "") == (Piece("missing", "Clear lungs."),)
    assert diff_words("", " \n ") == ()


def test_a_word_of_punctuation_only_is_compared_as_it_is():
    assert diff_words("a -- b", "a ... b") == (
        Piece("same", "a"),
        Piece("missing", "--"),
        Piece("added", "..."),
        Piece("same", "b"),
    )


@given(words, words)
def test_the_pieces_give_back_both_texts(reference: str, candidate: str):
    pieces = diff_words(reference, candidate)
    shown = [w for p in pieces if p.kind != "missing" for w in p.text.split()]
    assert shown == candidate.split()
    theirs = [w.strip(".,").lower() for p in pieces if p.kind != "added" for w in p.text.split()]
    assert theirs == [w.strip(".,").lower() for w in reference.split()]
    assert all(a.kind != b.kind for a, b in pairwise(pieces))


@given(words, words)
def test_the_number_of_common_words_does_not_depend_on_the_direction(a: str, b: str):
    def common(x: str, y: str) -> int:
        return sum(len(p.text.split()) for p in diff_words(x, y) if p.kind == "same")

    assert common(a, b) == common(b, a)
