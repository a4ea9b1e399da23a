"""Folders of films: what is found, passed over and named; the same each time, streamed, in worker processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from films_fixture import dicom, ramp, write_picture

from radiograd.errors import FilmError, UsageError
from radiograd.films.check import describe, render
from radiograd.films.index import HIDDEN, SEEN, SPECIAL, UNNAMED, Indexed, index_films, look_at, scan
from radiograd.films.workers import CHUNK, spread
from radiograd.types import Problem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """b.png and a.jpg, x/c.tif, y/2 without an ending; things that are no films; films that are damaged."""
    root = tmp_path / "films"
    for name in ("x", "y", ".hidden"):
        (root / name).mkdir(parents=True)
    write_picture(root / "b.png", ramp(4, 5))
    write_picture(root / "a.jpg", ramp(6, 8))
    write_picture(root / "x" / "c.TIF", ramp(3, 9))
    dicom(ramp(7, 2)).save_as(root / "y" / "2", enforce_file_format=True)
    dicom(ramp(7, 2)).save_as(root / "y" / "1.2.840.99", enforce_file_format=True)
    write_picture(root / ".hidden" / "z.png")
    (root / ".a.jpg").touch()
    (root / "report.txt").write_text("x", encoding="utf-8")
    (root / "more.TXT").write_text("x", encoding="utf-8")
    (root / "README").write_text("x", encoding="utf-8")
    os.mkfifo(root / "pipe")
    (root / "x" / "empty.png").touch()
    (root / "x" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "x" / "up").symlink_to(root)
    (root / "also_y").symlink_to(root / "y")
    return root


def names(rows: list[Indexed], root: Path) -> list[str]:
    return [row.path.relative_to(root).as_posix() for row in rows]


@pytest.mark.parametrize(("jobs", "verify"), [(1, False), (2, True)])
def test_films_are_found_in_order_and_everything_else_is_counted_or_named(
    folder: Path, jobs: int, verify: bool
) -> None:
    found = scan(folder, jobs, verify=verify)
    assert names(found.films, folder) == ["a.jpg", "b.png", "x/c.TIF", "y/1.2.840.99", "y/2"]
    assert [(film.format, film.width, film.height) for film in found.films] == [
        ("JPEG", 8, 6),
        ("PNG", 5, 4),
        ("TIFF", 9, 3),
        ("DICOM", 2, 7),
        ("DICOM", 2, 7),
    ]
    assert found.problems == [
        Problem(str(folder / "x" / "empty.png"), "is empty (0 bytes)"),
        Problem(str(folder / "x" / "gone.png"), "no such file"),
    ]
    assert found.passed == {HIDDEN: 2, SEEN: 2, ".txt": 2, SPECIAL: 1, UNNAMED: 1}


def test_pixels_are_looked_at_on_request_only(tmp_path: Path) -> None:
    whole = write_picture(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    (tmp_path / "b.png").write_bytes(whole.read_bytes()[:2000])
    write_picture(tmp_path / "c.png", np.full((4, 4), 9, np.uint8))
    assert len(scan(tmp_path).films) == 3
    found = scan(tmp_path, verify=True)
    assert names(found.films, tmp_path) == ["a.png"]
    assert [problem.why.partition(" (")[0] for problem in found.problems] == [
        "is a damaged PNG file",
        "every pixel has the same value",
    ]


def test_a_linked_folder_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "top").mkdir()
    write_picture(tmp_path / "real" / "a.png")
    for name in ("l1", "l2"):
        (tmp_path / "top" / name).symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "top")
    passed: Counter[str] = Counter()
    rows = list(index_films(tmp_path / "top", passed=passed))
    assert [row.path for row in rows if isinstance(row, Indexed)] == [tmp_path / "top" / "l1" / "a.png"]
    assert passed == {SEEN: 2}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_may_not_be_listed_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (problem,) = scan(tmp_path).problems
    assert problem == Problem(str(tmp_path / "closed"), "folder cannot be listed (Permission denied)")


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", write_picture(tmp_path / "a.png")):
        with pytest.raises(FilmError, match="not a folder that can be listed"):
            scan(path)


def test_rows_come_as_they_are_found(tmp_path: Path) -> None:
    for number in range(5):
        write_picture(tmp_path / f"{number}.png")
    rows = index_films(tmp_path)
    next(rows)
    (tmp_path / "3.png").unlink()
    assert [isinstance(row, Indexed) for row in rows] == [True, True, False, True]


def test_names_that_no_terminal_prints_are_named_on_one_line(tmp_path: Path) -> None:
    for name in (b"a\nb.png", b"c\xff.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    assert [problem.where for problem in scan(tmp_path).problems] == [
        f"{tmp_path}/a\\nb.png",
        f"{tmp_path}/c\\udcff.png",
    ]


# ---- workers ---------------------------------------------------------------------------------------------------------


def square_or_die(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def minus_one(_: int) -> int:
    return -1


def test_a_file_that_kills_its_worker_is_named_and_the_rest_is_done() -> None:
    numbers = list(range(4 * CHUNK))
    numbers[CHUNK + 3] = numbers[-1] = -5
    expected = [number * number if number >= 0 else -1 for number in numbers]
    assert list(spread(square_or_die, numbers, 2, minus_one)) == expected


def refuse(number: int) -> int:
    raise FilmError(f"{number}.png", "is empty (0 bytes)")


def test_an_error_comes_back_as_it_was() -> None:
    with pytest.raises(FilmError, match=r"^7\.png: is empty") as caught:
        list(spread(refuse, [7, 8], 2, minus_one))
    assert caught.value.why == "is empty (0 bytes)"


def test_no_jobs_are_no_use() -> None:
    with pytest.raises(UsageError, match="--jobs"):
        spread(refuse, [], 0, minus_one)


def test_not_more_is_read_than_workers_can_take() -> None:
    taken = 0

    def numbers() -> object:
        nonlocal taken
        for number in range(100 * CHUNK):
            taken += 1
            yield number

    rows = spread(square_or_die, numbers(), 2, minus_one)  # type: ignore[arg-type]
    next(rows)
    assert taken <= 8 * CHUNK
    rows.close()  # type: ignore[attr-defined]


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import itertools, os, sys, time\n"
        "from radiograd.films.workers import spread\n"
        "def work(n):\n    open(os.path.join(sys.argv[1], str(os.getpid())), 'w').close(); time.sleep(0.01); return n\n"
        "for row in spread(work, itertools.count(), 2, int): pass\n"
    )
    script = tmp_path / "endless.py"
    script.write_text(code, encoding="utf-8")
    (tmp_path / "pids").mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path / "pids")])
    try:
        assert soon(lambda: len(list((tmp_path / "pids").iterdir())) == 2)
    finally:
        parent.kill()
        parent.wait()
    workers = [int(file.name) for file in (tmp_path / "pids").iterdir()]
    assert soon(lambda: not any(alive(worker) for worker in workers))


def soon(holds: object, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def alive(process: int) -> bool:
    """Whether it runs; one that nobody has waited for yet is dead."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---- radiograd films check -------------------------------------------------------------------------------------------


def run(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "radiograd.cli", "films", "check", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_command_counts_and_names_and_says_by_its_exit_code(folder: Path) -> None:
    done = run(str(folder), "--json", "--jobs", "2")
    assert done.returncode == 1, done.stderr
    facts = json.loads(done.stdout)
    assert facts["films"] == 5
    assert facts["formats"] == {"DICOM": 2, "JPEG": 1, "PNG": 1, "TIFF": 1}
    assert facts["sizes"][0] == {"width": 2, "height": 7, "films": 2}
    assert (facts["width"], facts["height"], facts["different_sizes"]) == ([2, 9], [3, 7], 4)
    assert facts["passed_over"][".txt"] == 2
    assert [problem["why"] for problem in facts["problems"]] == ["is empty (0 bytes)", "no such file"]
    for name in ("empty.png", "gone.png"):
        (folder / "x" / name).unlink()
    done = run(str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert "5  films" in done.stdout
    assert "2 x 7" in done.stdout
    assert "0  cannot be used" in done.stdout


def test_wrong_use_is_one_line(folder: Path) -> None:
    done = run(str(folder / "none"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert run(str(folder), "data.path=x").returncode == 2
    (folder / "nothing").mkdir()
    assert run(str(folder / "nothing")).returncode == 1


READER = """
from pathlib import Path
from radiograd import Sections, Study
from radiograd.types import Image


def read(path, columns):
    for number, images in enumerate([("a.png", "b.png"), ("a.png", None), ()]):
        films = tuple(Image(str(i), None if name is None else path / name) for i, name in enumerate(images))
        yield Study(str(number), str(number), "mine", Sections("Clear.", "Normal."), images=films)
"""


def test_the_films_of_a_config_s_studies_are_looked_at_once_each(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(READER, encoding="utf-8")
    write_picture(tmp_path / "a.png")
    (tmp_path / "run.yaml").write_text(
        f"name: mine\ndata: {{source: 'mine:read', path: {str(tmp_path)!r}}}\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "radiograd.cli", "films", "check", "run.yaml", "--json"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment)
    assert done.returncode == 1, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["films"], facts["studies_without_film"]) == (1, 1)
    assert facts["problems"] == [
        {"file": "run.yaml", "why": "films that have no path, only an identifier: 1; give data.images=FOLDER"},
        {"file": str(tmp_path / "b.png"), "why": "film of 0 is named and is not on disk"},
    ]


def test_many_problems_are_shown_in_part_and_kept_whole() -> None:
    facts = describe([Problem(f"{number}.png", "is empty (0 bytes)") for number in range(30)])
    assert len(facts["problems"]) == 30
    assert render(facts).count(".png") == 20
    assert "and 10 more" in render(facts)


def test_given_files_are_answered_in_their_order(folder: Path) -> None:
    paths = [str(folder / name) for name in ("b.png", "none.png", "a.jpg")]
    rows = list(look_at(paths))
    assert [type(row) for row in rows] == [Indexed, Problem, Indexed]
