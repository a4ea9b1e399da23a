"""A file to a film. Whatever the file holds, the answer is a film or a FilmError with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

from radiograd.errors import FilmError, MissingExtra, printable
from radiograd.films import dicom, pictures
from radiograd.films.film import HEAD_BYTES, Film, Format, Header, format_of, open_film
from radiograd.films.quiet import no_warnings

T = TypeVar("T")

VERSION = 1
"""Raised when the same file gives other pixels than before, here or in ``fit``; kept films of another are not used."""


def read_film(path: str | os.PathLike[str], at_least: int | None = None) -> Film:
    """Decode PNG, JPEG, TIFF, BMP or DICOM to greys, held upright as EXIF says, never otherwise flipped or turned.

    ``at_least``: a JPEG whose sides are both at least twice as long may be decoded at a half, quarter or eighth of its
    size, both sides still at least this long; ``Film.width`` and ``height`` stay those of the file. Colours become
    their luma, what lets the ground through lies on black, and black is 0: a MONOCHROME1 is inverted. Values of more
    than 8 bits go through the file's own VOI table or window (DICOM), else between their 0.5 and 99.5 percentile.

    Raises FilmError with the reason for anything that is no single readable film, MissingExtra without Pillow (or,
    for DICOM, pydicom).
    """

    def read(file: IO[bytes], name: Path, kind: Format) -> Film:
        if kind == "DICOM":
            return dicom.read_pixels(file, name)
        return pictures.read_pixels(file, name, kind, at_least)

    return _guarded(path, read)


def read_header(path: str | os.PathLike[str]) -> Header:
    """Format and size without decoding; an EXIF block behind the pixels of a PNG is not looked for.

    Raises as :func:`read_film`, for what shows before the pixels are decoded.
    """

    def read(file: IO[bytes], name: Path, kind: Format) -> Header:
        return dicom.read_header(file, name) if kind == "DICOM" else pictures.read_header(file, name, kind)

    return _guarded(path, read)


def _guarded(path: str | os.PathLike[str], read: Callable[[IO[bytes], Path, Format], T]) -> T:
    path = Path(path)
    kind: Format | None = None
    with open_film(path) as file:
        try:
            kind = format_of(path, file.read(HEAD_BYTES))
            file.seek(0)
            with no_warnings():
                return read(file, path, kind)
        except (FilmError, MissingExtra):
            raise
        except MemoryError:
            raise FilmError(path, "needs more memory than there is") from None
        except Exception as error:  # noqa: BLE001 (on damaged bytes a decoder raises whatever it likes)
            raise FilmError(path, _why(kind, error)) from None


def _why(kind: Format | None, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({error.strerror})"
    if kind == "DICOM":  # pydicom's words may hold an element's value
        return f"is DICOM that cannot be read ({type(error).__name__}): cut short or damaged"
    return f"is a damaged {kind} file ({printable(str(error) or type(error).__name__)[:120]})"
