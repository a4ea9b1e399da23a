"""Films at model size, decoded once and kept: one small file a film, so that training reads 50 kB and no more.

An entry is written beside its place and renamed, so that it is whole or not there, whoever is killed and however many
processes write it. Its checksum tells one that the disk damaged; that one is made anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from radiograd.errors import FilmError, printable
from radiograd.films.decode import VERSION, read_film
from radiograd.films.film import Grey
from radiograd.films.fit import Mode, fit
from radiograd.films.workers import spread
from radiograd.types import Image, Problem

_HEAD = struct.Struct("<4sIII")  # magic, height, width, CRC-32 of the pixels
_MAGIC = b"film"
_UNFINISHED_S = 3600.0
_STEPS = 2
"""A JPEG is decoded no smaller than this many times the size wanted: the rest is resampled."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What :meth:`FilmStore.prepare` did: entries made, entries that were there, films that cannot be read."""

    made: int
    kept: int
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class FilmStore:
    """Films fitted to (size, size) under ``folder``. Costs nothing to make, to copy to a process, or to keep open.

    An entry belongs to a path, the file's size in bytes and its time of change, the film's true size and the settings:
    when any of them changes, the film is made anew. ``mode`` and ``fill`` as in :func:`radiograd.films.fit.fit`.
    """

    folder: Path
    size: int
    mode: Mode = "pad"
    fill: int = 0

    def get(self, image: Image) -> Grey:
        """(size, size) uint8, a fresh array; decoded and kept first when it is not there yet.

        Where ``image`` says how large the film was when it was taken, its aspect ratio is put right. Raises FilmError
        for a film that cannot be read, MissingExtra as read_film, OSError when the cache cannot be written.
        """
        path, place = self._locate(image)
        pixels = read_entry(place, self.size)
        return self._make(image, path, place) if pixels is None else pixels

    def prepare(self, images: Sequence[Image], jobs: int = 1, *, show_progress: bool = False) -> Ready:
        """Make what is not there yet, in ``jobs`` processes; the same call again resumes. Problems name the file.

        Raises MissingExtra, and OSError when the cache cannot be written.
        """
        from tqdm import tqdm

        self._sweep()
        made = kept = 0
        problems: list[Problem] = []
        answers = spread(functools.partial(_prepare, self), images, jobs, _lost)
        for answer in tqdm(answers, desc="films", total=len(images), unit="film", disable=not show_progress):
            if isinstance(answer, Problem):
                problems.append(answer)
            elif answer == "made":
                made += 1
            else:
                kept += 1
        return Ready(made, kept, problems)

    def _locate(self, image: Image) -> tuple[Path, Path]:
        """The film's path and its entry's. FilmError when there is no such file."""
        if image.path is None:
            raise FilmError(image.image_id, "has no path; only its identifier is known")
        path = image.path.absolute()
        try:
            facts = path.stat()
        except (OSError, ValueError):
            raise FilmError(path, "no such file") from None
        if min(_true_size(image) or (1, 1)) < 1:
            raise FilmError(path, f"its true size is given as {image.width} x {image.height} pixels")
        identity = [str(path), facts.st_size, facts.st_mtime_ns, _true_size(image)]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        return path, self._root() / digest[:2] / digest[2:34]

    def _root(self) -> Path:
        return self.folder / f"{self.mode}-{self.size}-{self.fill}-v{VERSION}"

    def _make(self, image: Image, path: Path, place: Path) -> Grey:
        film = read_film(path, at_least=_STEPS * self.size)
        pixels = fit(film, self.size, self.mode, fill=self.fill, true_size=_true_size(image))
        write_entry(place, pixels, self._unfinished())
        return pixels

    def _unfinished(self) -> Path:
        return self._root() / "unfinished"

    def _sweep(self) -> None:
        """Remove what killed processes left half written."""
        if not self._unfinished().is_dir():
            return
        for file in self._unfinished().iterdir():
            try:
                if time.time() - file.stat().st_mtime > _UNFINISHED_S:
                    file.unlink()
            except FileNotFoundError:  # its writer was alive, or another process sweeps too
                continue


def _true_size(image: Image) -> tuple[int, int] | None:
    return None if image.width is None or image.height is None else (image.width, image.height)


def _prepare(store: FilmStore, image: Image) -> Problem | Literal["made", "kept"]:
    try:
        path, place = store._locate(image)
        if read_entry(place, store.size) is not None:
            return "kept"
        store._make(image, path, place)
    except FilmError as error:
        return Problem(error.path, error.why)
    return "made"


def _lost(image: Image) -> Problem | Literal["made", "kept"]:
    return Problem(printable(str(image.path)), "its decoder crashed or was killed (out of memory?)")


def write_entry(place: Path, pixels: Grey, unfinished: Path) -> None:
    """Write (H, W) uint8 under a name of its own in ``unfinished`` (the same disk), then rename to ``place``."""
    content = np.ascontiguousarray(pixels).tobytes()
    unfinished.mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(exist_ok=True)
    beside = unfinished / f"{place.name}-{os.getpid()}-{time.monotonic_ns()}"
    try:
        with beside.open("xb") as file:
            file.write(_HEAD.pack(_MAGIC, *pixels.shape, zlib.crc32(content)))
            file.write(content)
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def read_entry(place: Path, size: int) -> Grey | None:
    """(size, size) uint8; None when there is no entry or it is not whole."""
    try:
        content = place.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(content) != _HEAD.size + size * size:
        return None
    magic, height, width, checksum = _HEAD.unpack_from(content)
    pixels = memoryview(content)[_HEAD.size :]
    if magic != _MAGIC or (height, width) != (size, size) or zlib.crc32(pixels) != checksum:
        return None
    return np.frombuffer(pixels, dtype=np.uint8).reshape(size, size).copy()
