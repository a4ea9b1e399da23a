"""Which characters a sampled token wrote: for three kinds of tokenizers, any text and any row of tokens."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers_made import byte_level, metaspace, word_piece

from radiograd import assets
from radiograd.weighting import completion_of, completions_of
from radiograd.weighting.offsets import by_bytes, by_prefixes

TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(["The", "heart", "naïve", "3.5", "mm", "effusion.", "\n", "  ", "😀", "é", "\u0301", "م"])
    ).map(" ".join),
)


@cache
def smollm2():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(assets.locate("smollm2")))


KINDS = {"byte level": cache(byte_level), "word pieces": cache(word_piece), "metaspace": cache(metaspace)}
if assets.is_cached("smollm2"):
    KINDS["smollm2"] = smollm2


def pieces(completion):
    return [completion.text[a:b] for a, b in completion.offsets]


def check(tokenizer, row):
    """What holds for every row; returns its completion."""
    found = completion_of(tokenizer, "s", row)
    text, offsets = found.text, found.offsets
    assert text == tokenizer.decode(row, skip_special_tokens=True).strip()
    assert offsets.shape == (len(row), 2)
    assert offsets.dtype == np.int64
    assert (offsets >= 0).all()
    assert (offsets <= len(text)).all()
    assert (offsets[:, 0] <= offsets[:, 1]).all()
    written = offsets[offsets[:, 0] < offsets[:, 1]]
    assert (np.diff(written, axis=0) >= 0).all()  # in the order of the text
    covered = np.zeros(len(text), dtype=bool)
    for start, end in written:
        covered[start:end] = True
    assert all(done or character.isspace() for done, character in zip(covered, text, strict=True))
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_spans_are_in_order_and_cover_the_text_that_a_tokenizer_cut(kind, text):
    tokenizer = KINDS[kind]()
    row = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = check(tokenizer, row)
    written = found.offsets[found.offsets[:, 0] < found.offsets[:, 1]]
    # pieces of one character have equal spans; otherwise no character has two tokens
    for (a, b), (c, d) in pairwise(written):
        assert b <= c or (a, b) == (c, d) or b - c == 1


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_spans_are_in_order_and_cover_the_text_of_any_tokens(kind, data):
    tokenizer = KINDS[kind]()
    row = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=20))
    check(tokenizer, row)


@pytest.mark.parametrize("kind", ["byte level", "smollm2"])
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_joined_bytes_give_what_the_beginnings_of_a_row_give(kind, data):
    """The quick way against the slow one, on any tokens that make whole characters."""
    if kind not in KINDS:
        pytest.skip("smollm2 is not fetched")
    tokenizer = KINDS[kind]()
    parts = data.draw(st.lists(st.one_of(TEXTS, st.sampled_from(["Ġ", " ", "The heart"])), max_size=4))
    row = [token for part in parts for token in tokenizer(part, add_special_tokens=False)["input_ids"]]
    row += data.draw(st.sampled_from([[], [tokenizer.eos_token_id]]))
    text = tokenizer.decode(row, skip_special_tokens=True)
    assume("\ufffd" not in text)  # smollm2 lacks some bytes
    slow = by_prefixes(tokenizer, row, text) - (len(text) - len(text.lstrip()))
    np.testing.assert_array_equal(completion_of(tokenizer, "s", row).offsets, slow.clip(0, len(text.strip())))


def test_a_character_of_several_tokens_is_the_span_of_each():
    tokenizer = KINDS["byte level"]()
    row = tokenizer("é😀a")["input_ids"]
    found = completion_of(tokenizer, "s", [*row, tokenizer.eos_token_id])
    assert pieces(found)[-6:] == ["😀", "😀", "😀", "😀", "a", ""]
    tokenizer = KINDS["metaspace"]()
    assert pieces(completion_of(tokenizer, "s", tokenizer("a 😀.")["input_ids"]))[-6:] == [" ", *["😀"] * 4, "."]


def test_bytes_that_make_no_character_are_the_mark_for_it():
    # 0xE2 0x82 begins "€" and "a" follows: one mark; the 0xFF after it makes another
    found = by_bytes([b"\xe2", b"\x82", b"a\xff", b""], "\ufffda\ufffd")
    np.testing.assert_array_equal(found, [[0, 1], [0, 1], [1, 3], [3, 3]])
    # a token that ends within a character and one that begins within it
    np.testing.assert_array_equal(by_bytes([b"a\xc3", b"\xa9b"], "aéb"), [[0, 2], [1, 3]])
    assert by_bytes([b"a"], "b") is None


@pytest.mark.parametrize("kind", ["byte level", "metaspace"])
def test_the_end_token_behind_a_broken_character_writes_nothing(kind):
    tokenizer = KINDS[kind]()
    row = tokenizer("a😀")["input_ids"][:-1]  # three of four bytes
    found = completion_of(tokenizer, "s", [*row, tokenizer.eos_token_id])
    assert found.text.endswith("\ufffd")
    assert pieces(found)[-2:] == ["\ufffd", ""]
    slow = by_prefixes(tokenizer, [*row, tokenizer.eos_token_id], tokenizer.decode(row))
    np.testing.assert_array_equal(slow, found.offsets)


def test_a_token_owns_the_blanks_it_wrote_and_what_is_stripped_belongs_to_nobody():
    tokenizer = KINDS["byte level"]()
    row = tokenizer("\n The heart.\nImpression: No. \n")["input_ids"]
    found = completion_of(tokenizer, "s", row)
    assert found.text == "The heart.\nImpression: No."
    assert "".join(pieces(found)) == found.text
    assert pieces(found)[0] == ""
    assert pieces(found)[-1] == ""


def test_word_pieces_get_the_blank_before_them_and_special_tokens_nothing():
    tokenizer = KINDS["word pieces"]()
    row = tokenizer("The heart. Zq pleural")["input_ids"]
    assert pieces(completion_of(tokenizer, "s", [tokenizer.pad_token_id, *row, tokenizer.eos_token_id])) == [
        "",
        *("the", " heart", "."),
        "",  # [UNK] is special and leaves no trace
        " pleural",
        "",
    ]


def test_a_row_that_the_tokenizer_would_cut_otherwise_keeps_its_own_tokens():
    tokenizer = KINDS["byte level"]()
    letters = tokenizer.convert_tokens_to_ids(list("Ġheart"))
    assert pieces(completion_of(tokenizer, "s", tokenizer.convert_tokens_to_ids(["The"]) + letters)) == [
        "The",
        " ",
        *"heart",
    ]


def test_many_rows_are_read_as_each_alone():
    tokenizer = KINDS["byte level"]()
    rows = [tokenizer(text)["input_ids"] for text in ("The heart.", "", "é", "The heart.")]
    found = completions_of(tokenizer, ["a", "b", "c", "d"], rows)
    assert [completion.study_id for completion in found] == ["a", "b", "c", "d"]
    for row, completion in zip(rows, found, strict=True):
        alone = completion_of(tokenizer, completion.study_id, row)
        assert completion.text == alone.text
        np.testing.assert_array_equal(completion.offsets, alone.offsets)
    assert completions_of(tokenizer, [], []) == []
    with pytest.raises(ValueError, match="zip"):
        completions_of(tokenizer, ["a"], rows)
