"""Replies on disk: whole rows only, whoever dies, and no question in the file."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from radiograd.errors import JudgeError
from radiograd.judges.cache import Kept, ReplyCache, key_of

WRITER = """
import sys
from pathlib import Path
from radiograd.judges.cache import Kept, ReplyCache, key_of
cache = ReplyCache(Path(sys.argv[1]))
for k in range(100_000):
    cache.put(key_of({"k": k}), Kept("x" * 500, prompt_tokens=k))
    if k % 100 == 0:
        print(k, flush=True)
"""


def test_a_reply_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "replies.sqlite"
    kept = Kept('{"better": "1"} \ud83d\ude00 \x00', True, 100, 20, 0.5)
    key, other = key_of({"a": 1}), key_of({"a": 2})
    cache = ReplyCache(path)
    cache.put(key, Kept("lone \ud800 surrogate"))
    cache.put(other, kept)
    cache.put(other, Kept("a second reply to the same"))
    cache.close()
    again = ReplyCache(path)
    found = again.get([key, other, key_of({"a": 3})])
    assert found[key].text == "lone ? surrogate"
    assert found[other].text.startswith('{"better": "1"}')
    assert (found[other].cut, found[other].prompt_tokens, found[other].seconds) == (True, 100, 0.5)
    assert len(again) == 2
    again.close()


def test_more_keys_than_one_query_takes(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "r")
    keys = [key_of({"k": k}) for k in range(1203)]
    for key in keys[::2]:
        cache.put(key, Kept("x"))
    assert set(cache.get(keys)) == set(keys[::2])
    cache.close()


def test_the_key_hangs_on_every_value_and_not_on_the_order_of_names() -> None:
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert len({key_of({"a": 1}), key_of({"a": "1"}), key_of({"a": 1, "b": None}), key_of({})}) == 4
    assert len(key_of({"text": "\ud800"})) == 32


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "replies.sqlite")
    cache.put(key_of({}), Kept("x"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    cache.close()


def test_a_killed_writer_leaves_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < 300:
            pass
        os.kill(writer.pid, signal.SIGKILL)
    cache = ReplyCache(path)
    found = cache.get([key_of({"k": k}) for k in range(len(cache))])
    assert len(found) == len(cache) > 300  # the first so many, without a gap
    assert all(kept.text == "x" * 500 for kept in found.values())
    cache.close()


def test_several_threads_and_two_openings_write_at_once(tmp_path: Path) -> None:
    caches = [ReplyCache(tmp_path / "r"), ReplyCache(tmp_path / "r")]

    def write(first: int) -> None:
        for k in range(first, first + 100):
            caches[first % 2].put(key_of({"k": k}), Kept(str(k)))

    threads = [threading.Thread(target=write, args=(51 * k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caches[0]) == len(caches[1]) == 5 * 51 + 100
    for cache in caches:
        cache.close()


def test_what_is_no_cache_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text("not a database, and longer than a header of one hundred bytes " * 4)
    with pytest.raises(JudgeError, match=r"r cannot be used .*cache=PATH"):
        ReplyCache(path)
    with pytest.raises(JudgeError, match="cannot be used"):
        ReplyCache(path / "below")
