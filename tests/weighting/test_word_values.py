"""TF-IDF values of words, by hand: counts, rarity, numbers, words that deny, words nobody has written."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.text import rarity
from radiograd.weighting.layout import evidence_spans, fixed_tokens, header_spans, inside
from radiograd.weighting.tfidf import WordValues

REFERENCES = (
    *["no pleural effusion"] * 6,
    *["the heart is large"] * 4,
    *["a 3 mm nodule is seen"] * 3,
    *["no pneumothorax"] * 3,
    "odd streak",
)
N = 17


def idf(df):
    return math.log((1 + N) / (1 + df)) + 1


WORDS = WordValues(REFERENCES)
MEDIAN = rarity.weigh(REFERENCES).other


def value(text, word, place=0):
    """What the ``place``-th ``word`` of the text weighs: the same at each of its characters."""
    of_text, _ = WORDS.of(text, header_spans(text))
    start = [k for k in range(len(text)) if text.startswith(word, k)][place]
    [found] = set(of_text[start : start + len(word)].tolist())
    return found


def test_a_word_weighs_its_count_in_the_completion_times_its_rarity_in_the_references():
    text = "The heart is large. The nodule is large."
    assert value(text, "heart") == pytest.approx(idf(4))
    assert value(text, "nodule") == pytest.approx(idf(3))  # in three references: just often enough
    assert value(text, "large") == value(text, "large", 1) == pytest.approx(2 * idf(4))
    assert value(text, "is") == pytest.approx(2 * idf(7))
    assert value(text, ".") == value(text, " ") == 0


def test_a_word_in_fewer_than_three_references_weighs_the_median():
    df = {"no": 9, "pleural": 6, "effusion": 6, "the": 4, "heart": 4, "large": 4, "is": 7, "a": 3, "NUM": 3, "mm": 3}
    df |= {"nodule": 3, "seen": 3, "pneumothorax": 3}
    assert pytest.approx(float(np.median([idf(n) for n in df.values()]))) == MEDIAN == pytest.approx(idf(4))
    assert value("odd nodule", "odd") == MEDIAN


def test_a_word_nobody_wrote_never_weighs_more_than_the_heaviest_that_somebody_did():
    assert value("xyzzy nodule", "xyzzy") == MEDIAN < value("xyzzy nodule", "nodule")
    assert value("xyzzy is seen", "xyzzy") == MEDIAN
    assert value("no xyzzy xyzzy xyzzy is", "xyzzy") == value("no xyzzy xyzzy xyzzy is", "is") == pytest.approx(idf(7))
    assert value("xyzzy plugh", "xyzzy") == 0  # nothing to compare with: all the same


@given(st.lists(st.sampled_from(["xyzzy", "plugh", "no", "effusion", "heart", "nodule", "is", ".", "3"]), max_size=12))
def test_words_nobody_wrote_are_never_the_heaviest(words):
    text = " ".join(words)
    of_text, unseen = WORDS.of(text)
    assert of_text[unseen].max(initial=0.0) <= of_text[~unseen].max(initial=0.0)
    assert (of_text >= 0).all()


def test_numbers_are_one_word():
    assert value("a 12 mm nodule", "12") == pytest.approx(idf(3))
    assert value("12 or 3.5 or 4", "3.5") == pytest.approx(3 * idf(3))


def test_a_cue_takes_the_value_of_each_thing_it_denies_and_no_more():
    text = "No pleural effusion. No pneumothorax or nodule."
    assert value(text, "No") == pytest.approx(idf(6))  # not 2 * idf(9)
    assert value(text, "No", 1) == pytest.approx(idf(3))
    large = "No large effusion. The heart is large."
    assert value(large, "No") == value(large, "large") == pytest.approx(2 * idf(4))  # the heaviest of what it denies
    behind = "Pneumothorax is not seen, the heart is large."
    assert value(behind, "not") == value(behind, "Pneumothorax") == pytest.approx(idf(3))
    assert value("The heart is large", "large") == pytest.approx(idf(4))  # nothing is denied
    assert value("No xyzzy is seen", "No") == pytest.approx(idf(9))  # our rules do not know what that is


def test_a_double_denial_denies_nothing():
    assert value("Not without effusion, no heart", "Not") == MEDIAN  # "not" is in no reference: its own weight


def test_headers_are_no_words():
    text = "Findings: The heart is large.\nImpression: No effusion."
    assert value(text, "Findings") == value(text, "Impression") == 0
    of_text, _ = WORDS.of(text)
    assert of_text[0] > 0  # without knowing that it is a header


def test_without_references_words_differ_by_their_count_only():
    of_text, _ = WordValues([]).of("big big heart")
    assert not of_text.any()  # nobody wrote any of them


# ---- headers and evidence --------------------------------------------------------------------------------------------


def words_of(text, spans):
    return [text[a:b] for a, b in spans]


def test_a_header_is_one_only_at_the_beginning_of_its_section():
    text = "Findings: Our impression is that findings: are stable.\nImpression: No change to the last impression."
    assert words_of(text, header_spans(text)) == ["Findings:", "Impression:"]
    assert header_spans("No acute disease.") == []


def test_tokens_of_a_header_alone_and_tokens_that_wrote_nothing_are_fixed():
    text = "Findings: Clear.\nImpression: No."
    offsets = [(0, 8), (8, 9), (9, 15), (15, 16), (16, 17), (17, 27), (27, 31), (31, 32), (32, 32)]
    fixed = fixed_tokens(text, np.array(offsets), header_spans(text))
    #        Findings, :, Clear, ., newline, Impression, ": No", ., end
    assert fixed.tolist() == [True, True, False, False, False, True, False, False, True]


def test_evidence_is_what_our_rules_rest_a_label_on_with_its_cue():
    text = "There is a small left pleural effusion. No pneumothorax. Calcified granuloma. Prior edema resolved."
    found = words_of(text, evidence_spans(text))
    assert {"pleural effusion", "No", "pneumothorax"} <= set(found)
    assert not any("There" in words or "is a" in words for words in found)
    marked = inside(text, [(0, 8)])
    assert "".join(c for c, m in zip(text, marked, strict=True) if m) == "Thereis"
