"""A chat endpoint on loopback that behaves as the model's name says: well, slowly, or badly. Run as a program.

    python tests/judges/server.py [--delay 0.1]     prints its port, serves until its stdin is closed

GET /counts gives {"requests", "distinct", "asked_again", "most_at_once", "by_status", "keys", "headers", "times"}:
``asked_again`` counts the requests whose body had been asked before. Nothing is imported beyond the standard library,
so that it leaves the processor to the client it is measured with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import threading
import time
from collections import Counter
from hashlib import sha256
from typing import Any

TAGGED = re.compile(r"<(impression_1|impression_2|report|findings|impression)>\s*(.*?)\s*</\1>", re.DOTALL)

BODIES = {
    "not-json": b"<html>gateway</html>",
    "streams": b'data: {"choices": [{"delta": {"content": "{"}}]}\n\ndata: [DONE]\n\n',
    "other-json": b'{"choices": [], "usage": null}',
    "binary": bytes(range(256)) * 8,
}
"""What is sent with status 200 for these models."""


class Endpoint:
    """What was asked so far."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.requests = self.at_once = self.most_at_once = 0
        self.by_status: Counter[int] = Counter()
        self.seen: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.headers: set[str] = set()
        self.times: list[float] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive."""
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /counts"):
            counts = {"requests": self.requests, "most_at_once": self.most_at_once, "by_status": self.by_status}
            counts |= {"distinct": len(self.seen), "asked_again": self.seen.total() - len(self.seen)}
            lists = {"keys": sorted(self.keys), "headers": sorted(self.headers), "times": self.times[:100]}
            self._write(writer, 200, {**counts, **lists}, counted=False)
            return True
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1])) if length else b"{}"
        key = re.search(rb"authorization: *bearer +([^\r]+)", head, re.IGNORECASE)
        self.keys.add(key[1].decode() if key else "")
        if self.requests < 100:
            self.headers |= {line.split(b":")[0].decode().lower() for line in head.split(b"\r\n")[1:] if line}
            self.times.append(time.monotonic())
        self.requests += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._answer(body, writer)
        finally:
            self.at_once -= 1

    async def _answer(self, body: bytes, writer: asyncio.StreamWriter) -> bool:
        asked = json.loads(body)
        model = asked["model"]
        which = sha256(body).hexdigest()
        self.seen[which] += 1
        first_time = self.seen[which] == 1
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if model == "hangs":
            await asyncio.sleep(3600)
        if model == "closes" or (model == "closes-once" and first_time):
            return False
        if model == "cut-off":
            writer.write(
                b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{"choices": ['
            )
            await writer.drain()
            return False
        if model == "drips":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(600):
                writer.write(b"1\r\n{\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
            return False
        if model in BODIES:
            self._write(writer, 200, BODIES[model], "text/html")
            return True
        if model == "elsewhere":
            extra = b"location: http://192.0.2.1/v1/chat/completions\r\n"
            self._write(writer, 307, {}, extra=extra)
            return True
        if model == "too-long-a-wait":
            self._write(writer, 429, {"error": {"message": "slow down"}}, extra=b"retry-after: 86400\r\n")
            return True
        if model == "names-a-key":
            echo = asked["messages"][-1]["content"]
            self._write(writer, 400, {"error": {"message": echo, "param": "max_tokens", "code": echo}})
            return True
        failing = {"down": 500, "bad-request": 400, "locked": 401, "absent": 404, "always-limited": 429}
        if model in failing:
            self._write(writer, failing[model], {"error": {"message": f"echo: {asked['messages'][-1]['content']}"}})
            return True
        if model == "flaky" and first_time:
            self._write(writer, 503, {"error": {"message": "busy"}})
            return True
        if model == "limited" and first_time:
            self._write(writer, 429, {"error": {"message": "slow down"}}, extra=b"retry-after: 1\r\n")
            return True
        reason = "length" if model == "half-a-reply" else "stop"
        message: dict[str, Any] = {"role": "assistant", "content": reply(model, asked["messages"][-1]["content"])}
        if model == "refuses":
            message["refusal"] = "I cannot help with that."
        usage = {} if model == "counts-nothing" else {"prompt_tokens": 100, "completion_tokens": 20}
        self._write(
            writer,
            200,
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": model,
                "choices": [{"index": 0, "message": message, "finish_reason": reason}],
                "usage": usage,
            },
        )
        return True

    def _write(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        value: Any,
        kind: str = "application/json",
        extra: bytes = b"",
        counted: bool = True,
    ) -> None:
        self.by_status[status] += counted
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n".encode()
        writer.write(head + extra + b"\r\n" + body)


def reply(model: str, prompt: str) -> str | None:
    """What the model called so says to a prompt: by place ("first"), by length ("longer"), or nothing of use."""
    parts = dict(TAGGED.findall(prompt))
    if model == "nonsense":
        return "I could not say, both are fine in their own way."
    if model in ("silent", "refuses"):
        return None
    if model == "thinks-for-ever":
        return '<think>It might be {"better": "1"} but then'
    if model == "half-a-reply":
        return '{"better": '
    if "impression_1" in parts:
        one, two = parts["impression_1"], parts["impression_2"]
        better = "1" if model == "first" else "tie" if len(one) == len(two) else "1" if len(one) > len(two) else "2"
        scores = dict.fromkeys(("accuracy", "relevance", "clarity"), 5 if better == "1" else 3)
        other = dict.fromkeys(("accuracy", "relevance", "clarity"), 5 if better == "2" else 3)
        value: dict[str, Any] = {"better": better, "scores": {"1": scores, "2": other}, "reason": "by length"}
    elif "impression" in parts:
        value = {"consistent": "effusion" not in parts["impression"] or "effusion" in parts["findings"], "reason": ""}
    else:
        value = {"critical": "effusion" in parts["report"], "reason": "names an effusion"}
    said = json.dumps(value)
    if model == "thinks":
        return f'<think>First I took {{"better": "1", "consistent": false, "critical": true}}.</think>\n{said}'
    return f"Certainly.\n```json\n{said}\n```" if model == "chatty" else said


async def main() -> None:
    """Serve until stdin is closed."""
    options = argparse.ArgumentParser()
    options.add_argument("--delay", type=float, default=0.0)
    endpoint = Endpoint(options.parse_args().delay)
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0, limit=2**22)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
