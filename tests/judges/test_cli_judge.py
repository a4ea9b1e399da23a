"""``radiograd judge`` as a script calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.judges import measure
from loopback import Served, serve

DUEL = {
    "id": "d1",
    "findings": "Small left pleural effusion.",
    "a": "No pleural effusion.",
    "b": "Small left pleural effusion.",
}


def lines(*rows: object) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def radiograd(*args: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "radiograd.cli", "judge", *args],
        input=given,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serve() as one:
        yield one


@pytest.fixture
def chat(server: Served, tmp_path: Path) -> list[str]:
    return ["--judge", "chat", f"base_url={server.base_url}", f"cache={tmp_path / 'r.sqlite'}"]


def test_prefer_answers_each_line_and_names_the_bad_ones() -> None:
    done = radiograd("prefer", given=lines(DUEL, "not json", {**DUEL, "b": None}, {**DUEL, "id": 2, "a": DUEL["b"]}))
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["id"], first["winner"], first["why"], first["by_order"]) == ("d1", "b", None, ["b", "b"])
    assert first["scores"]["b"]["accuracy"] == 5.0
    assert (second["id"], second["winner"]) == (2, "tie")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "line 2: is not JSON (Expecting value, column 1); give one object a line: "
        '{"id": ..., "findings": ..., "a": ..., "b": ...}',
        "line 3: 'b' is null; it must be a string",
    ]


def test_nothing_to_judge_is_an_error_that_shows_the_form() -> None:
    done = radiograd("prefer")
    assert done.returncode == 1
    assert 'give lines {"id": 1, "findings"' in done.stderr


def test_prefer_asks_an_endpoint(chat: list[str]) -> None:
    done = radiograd("prefer", *chat, "model=longer", given=lines(DUEL, {**DUEL, "reference": "Effusion."}))
    first, second = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, done.stderr) == (0, "")
    assert first["winner"] == "b"
    assert first["usage"]["asked"] == second["usage"]["asked"] == 2  # the reference makes it another question
    again = radiograd("prefer", *chat, "model=longer", given=lines(DUEL))
    assert json.loads(again.stdout)["usage"]["asked"] == 0


def test_what_stays_unscored_is_written_counted_and_stops_the_run(chat: list[str]) -> None:
    done = radiograd("prefer", *chat, "model=nonsense", given=lines(DUEL))
    row = json.loads(done.stdout)
    assert (row["winner"], row["why"]) == (None, "the reply holds no JSON object with 'better'")
    assert done.returncode == 1
    assert "left 1 of 1 unscored, more than the 20% allowed: 1 x the reply holds no JSON" in done.stderr
    allowed = radiograd("prefer", *chat, "model=nonsense", "--max-unscored", "1", given=lines(DUEL))
    assert allowed.returncode == 0
    assert "unscored, 1 x: the reply holds no JSON object" in allowed.stderr


def test_estimates_come_before_anything_is_sent(chat: list[str], server: Served) -> None:
    before = server.counts()["requests"]
    done = radiograd("prefer", *chat, "model=longer", "--estimate", given=lines(DUEL))
    assert json.loads(done.stdout)["requests"] == 2
    assert server.counts()["requests"] == before
    free = radiograd("prefer", "--estimate", given=lines(DUEL))
    assert json.loads(free.stdout) == {"requests": 0, "note": "this judge sends nothing anywhere"}


def test_errors_are_one_line_without_report_or_key(chat: list[str]) -> None:
    for args, said in (
        ([*chat, "model=locked"], "refuses the key (401)"),
        ([*chat, "model=m", "temprature=1"], "Did you mean 'temperature'"),
        (["--judge", "chat", "model=m", "base_url=https://8.8.8.8/v1", "--credentialed"], "third party"),
        ([*chat, "model=m", "api_key_env=sk-SECRET"], "never the key itself"),
        (["--judge", "ruels"], "Did you mean 'rules'"),
    ):
        done = radiograd("prefer", *args, given=lines(DUEL))
        assert done.returncode in (1, 2)
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert "effusion" not in done.stderr
        assert "SECRET" not in done.stderr


def test_options_come_from_a_file_and_the_line_goes_over_it(server: Served, tmp_path: Path) -> None:
    path = tmp_path / "judge.yaml"
    path.write_text(f"base_url: {server.base_url}\nmodel: nonsense\ncache: {tmp_path / 'r'}\n")
    done = radiograd("prefer", "--judge", "chat", "--options", str(path), "model=longer", given=lines(DUEL))
    assert json.loads(done.stdout)["winner"] == "b"
    path.write_text("- a list")
    assert "holds no options" in radiograd("prefer", "--judge", "chat", "--options", str(path)).stderr


def test_eval_holds_a_judge_against_expert_preferences(chat: list[str], tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(lines(*({**DUEL, "id": k, "a": f"{k}", "winner": "a" if k == 0 else "b"} for k in range(4))))
    done = radiograd("eval", *chat, "model=longer", "--pairs", str(path), "--json", "--again")
    found = json.loads(done.stdout)
    assert found["agreement"]["expert"]["agreement"] == 0.75  # b is longer in all four
    assert (found["contradicted"], found["first_place"], found["same_again"]) == (0.0, 0.5, 1.0)
    assert found["usage"]["asked"] == 16  # four pairs, two orders, twice
    table = radiograd("eval", *chat, "model=first", "--pairs", str(path)).stdout
    assert "orders that named different sides: 100.0 % of pairs" in table
    assert "answers that named the one shown first: 100.0 % (50 is no bias)" in table


def test_eval_refuses_what_does_not_go_together(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.touch()
    assert radiograd("eval", "--pairs", str(path), "--task", "critical").returncode == 2
    assert radiograd("eval", "--task", "critical", "--again").returncode == 2
    nothing = radiograd("eval", RADIOGRAD_CACHE=str(tmp_path))
    assert nothing.returncode == 1
    assert "radiograd fetch openi" in nothing.stderr


def test_killed_and_started_again_it_asks_what_is_missing(tmp_path: Path) -> None:
    n, at_once = 100, 8
    given, cache = tmp_path / "duels.jsonl", tmp_path / "r.sqlite"
    given.write_text(lines(*({**DUEL, "id": k, "a": f"Effusion {k}."} for k in range(n))))
    with serve(0.05) as slow:
        options = [f"base_url={slow.base_url}", "model=longer", f"cache={cache}", f"concurrency={at_once}"]
        args = ["prefer", "--judge", "chat", "--in", str(given), *options]
        with subprocess.Popen([sys.executable, "-m", "radiograd.cli", "judge", *args], stdout=subprocess.PIPE) as first:
            while slow.counts()["requests"] < n:  # of 2 n
                assert first.poll() is None
                time.sleep(0.01)
            os.kill(first.pid, signal.SIGKILL)
        time.sleep(0.3)
        before = slow.counts()["requests"]
        assert n <= before < 2 * n
        again = radiograd(*args)
        counts = slow.counts()
    rows: list[dict[str, Any]] = [json.loads(line) for line in again.stdout.splitlines()]
    assert [row["id"] for row in rows] == list(range(n))
    assert all(row["winner"] is not None for row in rows)
    assert counts["distinct"] == 2 * n
    assert counts["asked_again"] <= at_once  # those that were under way
    assert sum(row["usage"]["asked"] for row in rows) == counts["requests"] - before


def test_many_requests_at_once_are_not_answered_one_after_another() -> None:
    # generous: benchmarks/judges.py measures it; here 640 requests, 64 at once, a tenth of a second each, ideally 1 s
    found = measure(640, 64, 0.1)
    assert found["ours"]["requests"] == 640
    assert found["ours"]["seconds"] < 20
