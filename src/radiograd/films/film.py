"""What a film is, and what may be opened as one."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from radiograd.errors import FilmError

Grey = NDArray[np.uint8]
"""(H, W), 0 = black, 255 = white."""
Format = Literal["PNG", "JPEG", "TIFF", "BMP", "DICOM"]
Shading = Literal["as stored", "lut", "window", "percentiles"]
"""How stored values became 256 greys: they are as stored, by the file's VOI table, its window, or its percentiles."""

MAX_PIXELS = 64_000_000
"""A film of more is refused before it is decoded. Plain films have 4 to 20 million pixels."""
MAX_BYTES = 512 * 1024 * 1024
"""A file of more is refused before it is read: 64 million pixels of three colours and 16 bits fit."""
HEAD_BYTES = 256

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ".dic"})
"""Endings, in lower case, that promise a film. What a file is, its first bytes say."""
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic"})


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says before its pixels are decoded. ``width`` and ``height`` in pixels, held upright."""

    format: Format
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """A decoded film.

    pixels: (H, W) uint8. Deeper films are brought to 256 greys where their own units are known, by the window that
    stands in the file; that is what a reader at a screen is shown and what image processors take, at a quarter of the
    memory of floats.
    width, height: the film's size in its file, held upright. ``pixels`` may be a half, quarter or eighth of it (see
    :func:`radiograd.films.decode.read_film`).
    bits: of one grey value in the file.
    """

    pixels: Grey
    width: int
    height: int
    bits: int
    format: Format
    shading: Shading = "as stored"


def open_film(path: Path) -> IO[bytes]:
    """The file, open. FilmError for anything but a readable file of 1 to MAX_BYTES bytes.

    A named pipe or a device is refused before it is opened: opening could wait for ever.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise FilmError(path, _reason(error)) from None
    except ValueError:
        raise FilmError(path, "is no file name") from None
    if stat.S_ISDIR(facts.st_mode):
        raise FilmError(path, "is a folder, not a film")
    if not stat.S_ISREG(facts.st_mode):
        raise FilmError(path, "is not a regular file")
    if facts.st_size == 0:
        raise FilmError(path, "is empty (0 bytes)")
    if facts.st_size > MAX_BYTES:
        raise FilmError(path, f"has {facts.st_size:,} bytes; films of more than {MAX_BYTES:,} are refused")
    try:
        return path.open("rb")
    except OSError as error:
        raise FilmError(path, _reason(error)) from None


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "no such file"
    return f"cannot be opened ({error.strerror or type(error).__name__})"


def format_of(path: Path, head: bytes) -> Format:
    """The format by its first HEAD_BYTES bytes, whatever the file is called; FilmError when it is none we read.

    A file called .dcm without the mark of a DICOM file is taken for one of the old kind that had none.
    """
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[128:132] == b"DICM":
        return "DICOM"
    start = head.lstrip()[:64].lower()
    if start.startswith(b"version https://git-lfs"):
        raise FilmError(path, "is a Git LFS pointer and not the film; run: git lfs pull")
    if start.startswith((b"<!doctype html", b"<html")):
        raise FilmError(path, "is a web page and not a film; was the download refused?")
    if path.suffix.lower() in DICOM_SUFFIXES:
        return "DICOM"
    raise FilmError(path, "is not a PNG, JPEG, TIFF, BMP or DICOM file")


_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
)


def refuse_huge(path: Path, width: int, height: int) -> None:
    """FilmError when there are no pixels or more than MAX_PIXELS."""
    if width < 1 or height < 1:
        raise FilmError(path, f"says it is {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise FilmError(path, f"is {width:,} x {height:,} pixels; films of more than {MAX_PIXELS:,} are refused")
