"""PNG, JPEG, TIFF and BMP, through Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np

from radiograd.errors import FilmError, MissingExtra
from radiograd.films.film import Film, Format, Grey, Header, Shading, refuse_huge
from radiograd.films.grey import over_black, stretch

Picture = Any
"""A Pillow Image."""

_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0
_OPACITY = ("LA", "La", "PA", "RGBA", "RGBa")
_DEEP = {"I;16": 16, "I;16L": 16, "I;16B": 16, "I;16N": 16, "I": 32, "F": 32}


def read_header(file: IO[bytes], path: Path, kind: Format) -> Header:
    """Size and format without decoding. Raises what :func:`open_picture` raises."""
    with open_picture(file, path, kind) as picture:
        width, height = picture.size
        if kind != "TIFF" and _orientation(picture) in _SIDEWAYS:  # Pillow gives a TIFF held upright
            width, height = height, width
        return Header(kind, width, height)


def read_pixels(file: IO[bytes], path: Path, kind: Format, at_least: int | None) -> Film:
    """The film, held upright. A JPEG may come smaller, both sides still ``at_least``."""
    with open_picture(file, path, kind) as picture:
        from PIL import ImageOps

        white_is_zero = kind == "TIFF" and picture.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        (width, height), turned = picture.size, False
        if kind == "JPEG":
            turned = _orientation(picture) in _SIDEWAYS
            if at_least is not None:
                picture.draft("L", (at_least, at_least))
        ImageOps.exif_transpose(picture, in_place=True)
        if kind != "JPEG":  # of a JPEG this may be a reduced size
            width, height = picture.size
        pixels, bits, shading = to_pixels(picture)
        if white_is_zero and picture.mode in _DEEP:  # Pillow inverts shallower ones itself
            pixels = 255 - pixels
    return Film(pixels, *((height, width) if turned else (width, height)), bits, kind, shading)


def open_picture(file: IO[bytes], path: Path, kind: Format) -> Picture:
    """The picture, header read, pixels not. FilmError when it is huge or holds several; MissingExtra without Pillow.

    Only the format that the first bytes promise is tried, so that nothing else Pillow knows (PostScript, say) is run.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingExtra("reading films (module 'PIL' is missing)", "images") from None
    try:
        picture = Image.open(file, formats=(kind,))
    except Image.DecompressionBombError:
        raise FilmError(path, "has far more pixels than any film; refused") from None
    except UnidentifiedImageError:
        raise FilmError(path, f"starts like a {kind} file but its header is damaged") from None
    refuse_huge(path, *picture.size)
    frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)  # an MPO's others are its previews
    if frames > 1:
        raise FilmError(path, f"holds {frames} pictures; a film is one")
    return picture


def _orientation(picture: Picture) -> int:
    from PIL import Image

    value = Image.Image.getexif(picture).get(_ORIENTATION, 1)  # a PNG's own getexif would decode the pixels
    return value if isinstance(value, int) else 1


def to_pixels(picture: Picture) -> tuple[Grey, int, Shading]:
    """Greys (H, W), bits of a value, and how they came about. What lets the ground through is laid on black.

    Values of more than 8 bits have no window in these formats, and often use a part of their range only: they are
    stretched between their percentiles.
    """
    if picture.mode in _DEEP:
        return stretch(np.asarray(picture)), _DEEP[picture.mode], "percentiles"
    bits = 1 if picture.mode == "1" else 8
    if picture.mode in _OPACITY or "transparency" in picture.info:
        whole = picture.convert("LA").convert("RGBA") if picture.mode == "La" else picture.convert("RGBA")
        grey = over_black(np.asarray(whole.convert("RGB").convert("L")), np.asarray(whole.getchannel("A")))
        return grey, bits, "as stored"
    if picture.mode not in ("1", "L", "RGB"):
        picture = picture.convert("RGB")
    return np.array(picture.convert("L")), bits, "as stored"
