"""Sampled tokens -> the text they wrote and which of its characters each of them wrote, for any tokenizer.

The tokens are what a policy sampled: not always those that the tokenizer would cut the text into, and not always whole
characters. A byte-level tokenizer's pieces are joined as bytes. Any other is asked what it makes of every beginning of
the row. The first way is taken only where it gives the decoded text, so both are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiograd.weighting.completion import Completion

_Offsets = NDArray[np.int64]
_BROKEN = "\ufffd"
"""What stands for bytes that make no character (yet)."""


def completion_of(tokenizer: Any, study_id: str, token_ids: Sequence[int]) -> Completion:
    """The completion that the sampled ``token_ids`` wrote for a study; see :func:`completions_of`."""
    return completions_of(tokenizer, [study_id], [token_ids])[0]


def completions_of(tokenizer: Any, study_ids: Sequence[str], rows: Sequence[Sequence[int]]) -> list[Completion]:
    """One completion for each row of sampled tokens, without padding; the end token may stand at its end.

    ``text`` is what ``tokenizer.decode(ids, skip_special_tokens=True).strip()`` gives. A token's span holds the blanks
    that it wrote too. Rows that are equal are read once.
    """
    unique = list(dict.fromkeys(tuple(int(token) for token in row) for row in rows))
    decoded = tokenizer.batch_decode([list(row) for row in unique], skip_special_tokens=True) if unique else []
    pieces = _pieces(tokenizer, {token for row in unique for token in row}) if _is_byte_level(tokenizer) else None
    found = {row: _read(tokenizer, row, text, pieces) for row, text in zip(unique, decoded, strict=True)}
    return [
        Completion(study_id, *found[tuple(int(token) for token in row)])
        for study_id, row in zip(study_ids, rows, strict=True)
    ]


def _read(
    tokenizer: Any, row: tuple[int, ...], decoded: str, pieces: Mapping[int, bytes] | None
) -> tuple[str, _Offsets]:
    offsets = None if pieces is None else by_bytes([pieces[token] for token in row], decoded)
    if offsets is None:
        offsets = by_prefixes(tokenizer, row, decoded)
    text = decoded.strip()
    lead = len(decoded) - len(decoded.lstrip())
    return text, np.clip(offsets - lead, 0, len(text))


# ---- pieces that are bytes -------------------------------------------------------------------------------------------


def by_bytes(pieces: Sequence[bytes], decoded: str) -> _Offsets | None:
    """(T, 2) spans in ``decoded`` of the pieces that it is joined from; None when they do not give it.

    Bytes that make no character are one character, the mark for that, where a decoder sees one.
    """
    whole = b"".join(pieces)
    if whole.decode("utf-8", "replace") != decoded:
        return None
    sizes = _sizes(whole)
    character = np.repeat(np.arange(len(sizes)), np.array(sizes, dtype=np.int64))
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    ends = lengths.cumsum()
    starts = ends - lengths
    first = np.append(character, len(sizes))[starts]
    last = np.append(character + 1, len(sizes))[ends - 1]
    return np.stack([first, np.where(starts < ends, last, first)], axis=1).astype(np.int64)


def _sizes(whole: bytes) -> list[int]:
    """Bytes of each character that ``whole.decode("utf-8", "replace")`` gives."""
    sizes: list[int] = []
    at = 0
    while at < len(whole):
        try:
            sizes.extend(len(character.encode()) for character in whole[at:].decode())
            break
        except UnicodeDecodeError as error:
            sizes.extend(len(character.encode()) for character in whole[at : at + error.start].decode())
            sizes.append(error.end - error.start)
            at += error.end
    return sizes


def _is_byte_level(tokenizer: Any) -> bool:
    from tokenizers.decoders import ByteLevel

    return isinstance(getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None), ByteLevel)


def _pieces(tokenizer: Any, tokens: set[int]) -> dict[int, bytes]:
    """What each token writes; nothing for special tokens and for numbers beyond the vocabulary."""
    order = sorted(tokens - _special(tokenizer))
    spelled = zip(order, tokenizer.convert_ids_to_tokens(order), strict=True)
    return dict.fromkeys(tokens, b"") | {number: _as_bytes(piece or "") for number, piece in spelled}


def _special(tokenizer: Any) -> set[int]:
    return {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}


def _as_bytes(piece: str) -> bytes:
    """A piece in the alphabet of byte-level tokenizers as bytes; one that is not written in it stands for itself."""
    known = _alphabet()
    if all(character in known for character in piece):
        return bytes(known[character] for character in piece)
    return piece.encode()


@lru_cache(maxsize=1)
def _alphabet() -> Mapping[str, int]:
    """Character -> byte, as in GPT-2 (openai/gpt-2, src/encoder.py, bytes_to_unicode): printable bytes stand for
    themselves, the others for the characters from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + k): byte for k, byte in enumerate(others)}


# ---- any tokenizer ---------------------------------------------------------------------------------------------------


def by_prefixes(tokenizer: Any, row: Sequence[int], decoded: str) -> _Offsets:
    """(T, 2) spans in ``decoded`` of the tokens of ``row``: what each adds to the text of those before it.

    A beginning that ends within a character shows the mark for broken bytes there; its tokens all get that character.
    """
    if not row:
        return np.zeros((0, 2), dtype=np.int64)
    beginnings = tokenizer.batch_decode([list(row[: k + 1]) for k in range(len(row))], skip_special_tokens=True)
    spans: list[tuple[int, int]] = []
    before = ""
    done = 0
    special = _special(tokenizer)
    for token, text in zip(row, beginnings, strict=True):
        agreed = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, decoded, strict=False)))
        start, end = done, max(done, agreed)
        rest = text[agreed:]
        if token not in special:
            if rest and set(rest) == {_BROKEN} and agreed < len(decoded):
                end = max(end, agreed + 1)  # the first bytes, or some more, of a character that comes to be whole
            elif text == before and text.endswith(_BROKEN):
                start = end - 1  # more bytes of one that does not
        spans.append((start, end))
        before, done = text, max(done, agreed)
    return np.array(spans, dtype=np.int64)
