"""A film at the size a model looks at. Pure."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from radiograd.errors import UsageError
from radiograd.films.film import Film, Grey

Mode = Literal["pad", "squash", "crop"]


def fit(
    film: Film | Grey, size: int, mode: Mode = "pad", *, fill: int = 0, true_size: tuple[int, int] | None = None
) -> Grey:
    """(size, size) greys, resampled once (bicubic, antialiased).

    pad: the whole film, aspect ratio kept, centred on ``fill``. crop: aspect ratio kept, the middle of the longer side.
    squash: the whole film, aspect ratio lost. ``true_size``: width and height of the film as it was taken, when the
    file is a copy squashed to another shape; pad and crop then put its aspect ratio right. Only the ratio of the two
    counts. UsageError for a size, mode or fill that cannot be.
    """
    if size < 1 or mode not in get_args(Mode) or not 0 <= fill <= 255:
        raise UsageError(f"a film cannot be fitted with size={size}, mode={mode!r}, fill={fill}")
    pixels = film.pixels if isinstance(film, Film) else film
    own = (film.width, film.height) if isinstance(film, Film) else (pixels.shape[1], pixels.shape[0])
    width, height = true_size or own
    if width < 1 or height < 1:
        raise UsageError(f"a film cannot have been {width} x {height} pixels")
    if mode == "squash":
        return _resample(pixels, size, size)
    if mode == "crop":
        return _resample(pixels, size, size, middle(width, height))
    inner_width, inner_height = inner(width, height, size)
    whole = np.full((size, size), fill, dtype=np.uint8)
    left, top = (size - inner_width) // 2, (size - inner_height) // 2
    whole[top : top + inner_height, left : left + inner_width] = _resample(pixels, inner_width, inner_height)
    return whole


def inner(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height of the largest film of that shape in a square of ``size``; each at least 1."""
    longest = max(width, height)
    return max(1, round(width * size / longest)), max(1, round(height * size / longest))


def middle(width: int, height: int) -> tuple[float, float]:
    """Shares of the width and of the height that the square in the middle of the film takes."""
    shortest = min(width, height)
    return shortest / width, shortest / height


def _resample(pixels: Grey, width: int, height: int, shares: tuple[float, float] = (1.0, 1.0)) -> Grey:
    """(height, width) greys of the middle ``shares`` of the film's width and height."""
    from PIL import Image

    rows, columns = pixels.shape
    if shares == (1.0, 1.0) and (height, width) == (rows, columns):
        return pixels.copy()
    wide, high = columns * shares[0], rows * shares[1]
    box = ((columns - wide) / 2, (rows - high) / 2, (columns + wide) / 2, (rows + high) / 2)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(picture.resize((width, height), Image.Resampling.BICUBIC, box=box))
