"""Films kept at model size: the same pixels, made once, whole or not there, whoever is killed."""

from __future__ import annotations

import csv
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from films_fixture import ramp, write_picture

from radiograd.errors import FilmError
from radiograd.films.cache import FilmStore, Ready
from radiograd.films.decode import read_film
from radiograd.films.fit import fit, inner
from radiograd.types import Image, Problem

BIG = np.kron(ramp(12, 16), np.ones((5, 5), np.uint8))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_picture(tmp_path / "a.png", BIG)


def entries(store: FilmStore) -> list[Path]:
    return sorted(path for path in store.folder.rglob("*") if path.is_file())


def test_the_film_is_that_of_the_file_and_read_once(tmp_path: Path, film: Path) -> None:
    store = FilmStore(tmp_path / "kept", 20)
    first = store.get(Image("a", film))
    assert (first == fit(read_film(film), 20)).all()
    assert (first.shape, first.dtype) == ((20, 20), np.uint8)
    (entry,) = entries(store)
    stamp = entry.stat().st_mtime_ns
    first[:] = 0  # a caller's own array
    again = store.get(Image("other id", film, "frontal"))
    assert (again == fit(read_film(film), 20)).all()
    assert [path.stat().st_mtime_ns for path in entries(store)] == [stamp]
    assert entry.stat().st_size == 20 * 20 + 16


def test_settings_true_size_and_changes_of_the_file_have_entries_of_their_own(tmp_path: Path, film: Path) -> None:
    kept = tmp_path / "kept"
    stores = [FilmStore(kept, 20), FilmStore(kept, 21), FilmStore(kept, 20, "crop"), FilmStore(kept, 20, fill=7)]
    for store in stores:
        store.get(Image("a", film))
    tall = stores[0].get(Image("a", film, width=100, height=200))
    assert not tall[:, :5].any()  # 10 columns wide again
    assert len(entries(stores[0])) == 5
    write_picture(film, 255 - BIG)
    os.utime(film, ns=(1, 1))
    assert (stores[0].get(Image("a", film)) == fit(255 - BIG, 20)).all()
    assert len(entries(stores[0])) == 6


@pytest.mark.parametrize("damage", ["cut", "zeros", "flip", "empty", "longer"])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, film: Path, damage: str) -> None:
    store = FilmStore(tmp_path / "kept", 20)
    right = store.get(Image("a", film))
    (entry,) = entries(store)
    whole = entry.read_bytes()
    entry.write_bytes(
        {
            "cut": whole[:-1],
            "zeros": bytes(len(whole)),
            "flip": whole[:-1] + bytes([whole[-1] ^ 1]),
            "empty": b"",
            "longer": whole + b"x",
        }[damage]
    )
    assert (store.get(Image("a", film)) == right).all()
    assert entry.read_bytes() == whole


def test_films_that_cannot_be_read_are_named(tmp_path: Path, film: Path) -> None:
    store = FilmStore(tmp_path / "kept", 20)
    (tmp_path / "empty.png").touch()
    wrong = [
        (Image("only-an-id"), "has no path"),
        (Image("b", tmp_path / "none.png"), "no such file"),
        (Image("c", tmp_path / "empty.png"), "is empty"),
        (Image("d", film, width=0, height=5), "true size is given as 0 x 5"),
    ]
    for image, why in wrong:
        with pytest.raises(FilmError, match=why):
            store.get(image)
    ready = store.prepare([image for image, _ in wrong] + [Image("a", film)])
    assert (ready.made, ready.kept, len(ready.problems)) == (1, 0, 4)
    film.unlink()
    with pytest.raises(FilmError, match="no such file"):
        store.get(Image("a", film))


def test_preparing_resumes_and_counts(tmp_path: Path) -> None:
    images = [Image(str(n), write_picture(tmp_path / f"{n}.png", np.roll(BIG, n))) for n in range(150)]
    store = FilmStore(tmp_path / "kept", 16)
    store.get(images[3])
    assert store.prepare(images[:100], 2) == Ready(99, 1, [])
    (tmp_path / "7.png").write_bytes(b"\xff\xd8\xff")
    ready = store.prepare(images, 2)
    assert (ready.made, ready.kept) == (50, 99)
    assert [type(problem) for problem in ready.problems] == [Problem]
    assert ready.problems[0].where == str(tmp_path / "7.png")
    assert (store.get(images[149]) == fit(np.roll(BIG, 149), 16)).all()
    assert pickle.loads(pickle.dumps(store)) == store


def test_killed_while_it_prepares_the_same_call_finishes(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from radiograd.films.cache import FilmStore\nfrom radiograd.types import Image\n"
        "root = Path(sys.argv[1])\n"
        "images = [Image(p.name, p) for p in sorted(root.glob('*.png'))]\n"
        "FilmStore(root / 'kept', 16).prepare(images, int(sys.argv[2]))\n"
    )
    count = 400
    for number in range(count):
        write_picture(tmp_path / f"{number:03}.png", np.roll(BIG, number))
    images = [Image(path.name, path) for path in sorted(tmp_path.glob("*.png"))]
    store = FilmStore(tmp_path / "kept", 16)
    for jobs in ("1", "2"):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), jobs])
        end, there = time.monotonic() + 60, len(entries(store))
        while len(entries(store)) < there + 20 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(1.0)  # its workers end by themselves
    ready = store.prepare(images, 2)
    assert (ready.made + ready.kept, ready.problems) == (count, [])
    assert ready.kept >= 20
    for number in (0, 17, count - 1):
        assert (store.get(images[number]) == fit(np.roll(BIG, number), 16)).all()


def test_what_a_killed_process_left_is_swept_after_an_hour(tmp_path: Path, film: Path) -> None:
    store = FilmStore(tmp_path / "kept", 16)
    store.get(Image("a", film))
    (unfinished,) = store.folder.glob("*/unfinished")
    for name, age in (("old", 4000), ("new", 10)):
        (unfinished / name).touch()
        os.utime(unfinished / name, (time.time() - age,) * 2)
    store.prepare([])
    assert [path.name for path in unfinished.iterdir()] == ["new"]


def test_several_processes_make_the_same_films_at_once(tmp_path: Path) -> None:
    images = [Image(str(n), write_picture(tmp_path / f"{n}.png", np.roll(BIG, n))) for n in range(40)]
    store = FilmStore(tmp_path / "kept", 16)
    ready = store.prepare([image for image in images for _ in range(4)], 4)
    assert ready.made + ready.kept == 160
    assert len(entries(store)) == 40
    assert all((store.get(image) == fit(np.roll(BIG, n), 16)).all() for n, image in enumerate(images))


def test_a_cache_that_cannot_be_written_is_no_film_s_fault(tmp_path: Path, film: Path) -> None:
    (tmp_path / "kept").write_text("a file", encoding="utf-8")
    for jobs in (1, 2):
        with pytest.raises(OSError, match="kept"):
            FilmStore(tmp_path / "kept", 16).prepare([Image("a", film)], jobs)


def test_warnings_are_back_after_threads_overlapped(tmp_path: Path, film: Path) -> None:
    import warnings
    from concurrent.futures import ThreadPoolExecutor

    before = list(warnings.filters)
    store = FilmStore(tmp_path / "kept", 16)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: store.get(Image("a", film)).sum(), range(64)))
    assert len(set(found)) == 1
    assert list(warnings.filters) == before


OPENI = Path(__file__).parents[3] / "shared" / "data"


def test_films_of_openi_get_the_shape_they_were_taken_in(tmp_path: Path) -> None:
    if not (OPENI / "openi_images").is_dir() or not (OPENI / "manifest.csv").is_file():
        pytest.skip("needs the OpenI films, which are not part of the repository")
    with (OPENI / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dicom_rows"]][::200]
    store = FilmStore(tmp_path / "kept", 224)
    for row in rows:
        path, width, height = OPENI / "openi_images" / row["file"], int(row["dicom_cols"]), int(row["dicom_rows"])
        film = read_film(path.with_suffix(".jpg"))
        assert (film.width, film.height) == (224, 224)
        kept = store.get(Image(row["file"], path.with_suffix(".jpg"), width=width, height=height))
        wide, high = inner(width, height, 224)
        left, top = (224 - wide) // 2, (224 - high) // 2
        assert abs(float(kept[top : top + high, left : left + wide].mean()) - float(film.pixels.mean())) < 2
        outside = kept.astype(int).sum() - kept[top : top + high, left : left + wide].astype(int).sum()
        assert outside == 0
    assert len(rows) > 10
