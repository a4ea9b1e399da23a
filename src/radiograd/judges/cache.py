"""Replies on disk by the hash of what was asked, so that nothing is asked twice. SQLite, one file.

A key is a hash of model, sampling settings and every message, so no question stands in the file; the reply does, and
a judge's reason may repeat words of a report: the file is made readable for its owner alone and belongs where the
reports are. Every reply is committed as it comes: a process killed at any moment leaves whole rows, and several
processes may read and write the file at once. It must lie on a local disk (SQLite's shared log needs one).
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from radiograd.errors import JudgeError

BUSY_S: Final = 60.0
"""How long another process's writing is waited for."""
_AT_ONCE: Final = 500
"""Keys looked up in one query."""
_TABLE: Final = """CREATE TABLE IF NOT EXISTS replies (
    key BLOB PRIMARY KEY, text TEXT NOT NULL, cut INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL
) WITHOUT ROWID"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A reply as it came, with what it cost then. ``cut``: it ended at the most tokens allowed."""

    text: str
    cut: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


def key_of(request: Mapping[str, Any]) -> bytes:
    """32 bytes: the hash of everything that can change a reply, whatever the order of its keys."""
    return sha256(json.dumps(request, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")).digest()


class ReplyCache:
    """``path`` is made with its folder when it is not there. JudgeError when it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = self._open()
            weakref.finalize(self, self._db.close)
        except (OSError, sqlite3.Error) as error:
            raise self._trouble(error) from error

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        """The replies that are there, by key."""
        found: dict[bytes, Kept] = {}
        try:
            with self._lock:
                for first in range(0, len(keys), _AT_ONCE):
                    some = keys[first : first + _AT_ONCE]
                    marks = ",".join("?" * len(some))
                    for key, text, cut, *cost in self._db.execute(
                        "SELECT key, text, cut, prompt_tokens, completion_tokens, seconds FROM replies "
                        f"WHERE key IN ({marks})",
                        list(some),
                    ):
                        found[key] = Kept(text, bool(cut), *cost)
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        return found

    def put(self, key: bytes, kept: Kept) -> None:
        """Keep a reply; the first one stays when two processes asked the same."""
        text = kept.text.encode("utf-8", "replace").decode("utf-8")
        row = (key, text, int(kept.cut), kept.prompt_tokens, kept.completion_tokens, kept.seconds)
        try:
            with self._lock:
                self._db.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def __len__(self) -> int:
        with self._lock:
            (count,) = self._db.execute("SELECT count(*) FROM replies").fetchone()
        return int(count)

    def close(self) -> None:
        """Close the file; a closed cache cannot be used again."""
        with self._lock:
            self._db.close()

    def _open(self) -> sqlite3.Connection:
        until = time.monotonic() + BUSY_S
        while True:
            db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                # no fsync a reply: a killed process loses nothing, a power cut the last few
                with closing(db.execute("PRAGMA journal_mode=WAL")), closing(db.execute("PRAGMA synchronous=NORMAL")):
                    db.execute(_TABLE)
                return db
            except sqlite3.OperationalError as error:
                db.close()
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.05)
            except sqlite3.Error:
                db.close()
                raise

    def _trouble(self, error: Exception) -> JudgeError:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return JudgeError(
            f"the reply cache {self.path} cannot be used ({why}); move it away, or name another: cache=PATH"
        )
