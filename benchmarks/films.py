"""How fast films are found, read and kept, beside Pillow alone, on one core.

Writes 10,000 small JPEG and PNG to a temporary folder and times, alternating, (a) every file below it by its header
through ``index_films`` and (b) ``PIL.Image.open`` on a list of paths that is already there; then decoding: (c)
``read_film`` beside (d) ``Image.open(path).convert("L")`` into an array; then what training reads: (e)
``FilmStore.get`` of films that are kept. Rates are medians of the rounds, in files a second; ratios are of both sides
in one round. ``--folder`` takes films of your own instead. Prints one JSON object.
Run: python benchmarks/films.py
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from radiograd.films.cache import FilmStore
from radiograd.films.decode import read_film
from radiograd.films.index import Indexed, index_films
from radiograd.types import Image

SIZE = 224


def main() -> None:
    """Parse the command line, write the films, time, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, help="films of your own")
    options.add_argument("--files", type=int, default=10_000, help="films to write without --folder")
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or write_films(Path(scratch) / "films", given.files)
        found = measure(folder, Path(scratch) / "kept", given.rounds)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


def write_films(folder: Path, count: int) -> Path:
    """Half JPEG, half PNG, 100 to a folder, of ten pictures made of smooth noise."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (10, 14, 14), dtype=np.uint8)
    pictures = [Pillow.fromarray(one).resize((SIZE, SIZE), Pillow.Resampling.BICUBIC) for one in small]
    for number in range(count):
        place = folder / f"p{number // 100:04}"
        place.mkdir(parents=True, exist_ok=True)
        pictures[number % 10].save(place / f"{number:06}.{'jpg' if number % 2 else 'png'}")
    return folder


def measure(folder: Path, kept: Path, rounds: int) -> dict[str, Any]:
    """Files a second of each side, and the ratios."""
    films = [row for row in index_films(folder) if isinstance(row, Indexed)]
    paths = [film.path for film in films]
    pictures = [film.path for film in films if film.format != "DICOM"]
    some = pictures[:: max(1, len(pictures) // 1000)]
    before = _memory_mb()
    sides: dict[str, tuple[Callable[[], None], int]] = {
        "index": (lambda: _drain(folder), len(paths)),
        "index_pillow": (lambda: _open(pictures), len(pictures)),
        "decode": (lambda: _decode(some), len(some)),
        "decode_pillow": (lambda: _decode_pillow(some), len(some)),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (work, count) in sides.items():
            rates[name].append(count / _seconds(work))
    grown = _memory_mb() - before
    images = [Image(path.name, path) for path in paths]
    store = FilmStore(kept, SIZE)
    prepared = len(images) / _seconds(lambda: store.prepare(images))
    rates["kept"] = [len(images) / _seconds(lambda: _get(store, images)) for _ in range(rounds)]
    return {
        "files": len(paths),
        "rounds": rounds,
        "per_second": {name: round(statistics.median(values)) for name, values in rates.items()},
        "prepare_per_second": round(prepared),
        "ratio_index": _ratio(rates["index"], rates["index_pillow"]),
        "ratio_decode": _ratio(rates["decode"], rates["decode_pillow"]),
        "memory_growth_mb": round(grown, 1),
    }


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _drain(folder: Path) -> None:
    for _ in index_films(folder):
        pass


def _open(paths: list[Path]) -> None:
    for path in paths:
        with Pillow.open(path) as picture:
            assert picture.size


def _decode(paths: list[Path]) -> None:
    for path in paths:
        read_film(path)


def _decode_pillow(paths: list[Path]) -> None:
    for path in paths:
        with Pillow.open(path) as picture:
            np.asarray(picture.convert("L"))


def _get(store: FilmStore, images: list[Image]) -> None:
    for image in images:
        store.get(image)


if __name__ == "__main__":
    main()
