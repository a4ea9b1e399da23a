"""Different word runs, and the texts said most often; Variety itself is tested with the page that shows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.variety import commonest, distinct, words_of


def test_texts_are_the_same_when_their_words_are() -> None:
    assert words_of("No  acute disease.") == words_of("no acute, DISEASE") == ("no", "acute", "disease")
    assert words_of(" ... ") == ()


def test_distinct_n_is_different_runs_over_all_runs() -> None:
    texts = [words_of("a b a b"), words_of("b a")]
    assert distinct(texts, 1) == 2 / 6
    assert distinct(texts, 2) == 2 / 4  # ab ba ab, ba
    assert distinct(texts, 3) == 2 / 2  # aba bab; the second text has none
    assert distinct(texts, 5) is None
    assert distinct([], 1) is None


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6).map(tuple), max_size=6), st.integers(1, 3))
def test_distinct_n_lies_above_0_and_at_most_at_1(texts: list[tuple[str, ...]], n: int) -> None:
    found = distinct(texts, n)
    assert (found is None) == all(len(text) < n for text in texts)
    assert found is None or 0 < found <= 1


@pytest.mark.parametrize(("most", "expected"), [(5, [("clear",), ("no", "disease")]), (1, [("clear",)]), (0, [])])
def test_the_commonest_texts_are_said_twice_or_more(most: int, expected: list[tuple[str, ...]]) -> None:
    texts = ["No disease.", "Clear.", "clear", "no disease", "CLEAR", "Effusion.", "", " "]
    assert list(commonest(texts, most)) == expected
