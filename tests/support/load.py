"""Streams whose every token is checked: the echo engine says the words of the prompt, over and over."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from support.process import http

WORDS = [f"w{n}" for n in range(53)]
# A call of it takes about as long as the texts.
TOOL = {"type": "function", "function": {"name": "book", "parameters": {
    "type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(30)}, "required": [f"p{n}" for n in range(30)]}}}  # fmt: skip


@dataclass
class Answer:
    """What one request must give: its choices' texts and calls, and how they end."""

    texts: list[str]
    reason: str
    tokens: int | None = None  # of all choices; None: not known
    calls: list[str] = field(default_factory=list)  # arguments


class Load:
    """`streams` clients, each asking again and again until stop(). Counts how every request ended."""

    def __init__(self, url: str, streams: int, seed: int, tokens=(40, 120), limit: float = 60.0):
        host, port = url.removeprefix("http://").split(":")
        self.where, self.limit, self.tokens = (host, int(port)), limit, tokens
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.gaps: list[float] = []
        self._over = False
        self.arguments = self._undisturbed(url)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(streams, seed)), daemon=True)
        self._thread.start()

    @staticmethod
    def _undisturbed(url: str) -> str:
        body = {"model": "default", "messages": [{"role": "user", "content": "call"}], "tools": [TOOL], "tool_choice": "required"}
        (call,) = http.post(url + "/v1/chat/completions", json=body).json()["choices"][0]["message"]["tool_calls"]
        assert set(json.loads(call["function"]["arguments"])) == {f"p{n}" for n in range(30)}
        return call["function"]["arguments"]

    def stop(self, limit: float = 120.0):
        """Lets what runs end. A stream that does not is a hang."""
        self._over = True
        self._thread.join(limit)
        assert not self._thread.is_alive(), "streams that hang"

    async def _run(self, streams: int, seed: int):
        await asyncio.gather(*(self._client(random.Random(seed * 1000 + n)) for n in range(streams)))

    async def _client(self, rng: random.Random):
        while not self._over:
            body, expected = self._question(rng)
            try:
                how = await asyncio.wait_for(self._ask(body, expected), self.limit)
            except TimeoutError:
                how = "hang"
            except OSError:
                how = "connection"
            except Exception as e:  # noqa: BLE001
                how = "wrong"
                self.wrong.append(repr(e))
            self.counts[how] += 1
            if how.startswith("error") or how == "connection":
                await asyncio.sleep(0.1)

    def _question(self, rng: random.Random) -> tuple[dict, Answer]:
        n, tokens, start = rng.choice([1, 1, 1, 2]), rng.randint(*self.tokens), rng.randrange(len(WORDS))
        words = WORDS[start:] + WORDS[:start]
        said = [words[i % len(words)] for i in range(tokens)]
        expected = Answer([" ".join(said)] * n, "length", tokens * n)
        body = {"model": "default", "messages": [{"role": "user", "content": " ".join(words)}],
                "max_tokens": tokens, "n": n, "stream": rng.random() < 0.8}  # fmt: skip
        kind = rng.choice(["plain", "plain", "plain", "stop", "tool"])
        if kind == "stop":
            at = rng.choice([i for i in range(20, min(tokens, len(words))) if len(said[i]) == 3])  # "w5" begins "w50" too
            body["stop"] = ["never", " " + said[at]]
            expected = Answer([" ".join(said[:at])] * n, "stop", (at + 1) * n)
        elif kind == "tool":
            body |= {"tools": [TOOL], "tool_choice": "required", "max_tokens": 1000}
            expected = Answer([""] * n, "tool_calls", None, [self.arguments] * n)
        if body["stream"]:
            body["stream_options"] = {"include_usage": True}
        return body, expected

    async def _ask(self, body: dict, expected: Answer) -> str:
        reader, writer = await asyncio.open_connection(*self.where, limit=1 << 20)
        try:
            data = json.dumps(body).encode()
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                         b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(data) + data)  # fmt: skip
            status = int((await reader.readline()).split()[1])
            length, chunked = None, False
            while (line := await reader.readline()).strip():
                name, _, value = line.decode().partition(":")
                length = int(value) if name.lower() == "content-length" else length
                chunked |= name.lower() == "transfer-encoding"
            if status != 200:
                error = json.loads(await reader.readexactly(length))["error"]
                return f"error {status} {error.get('code')}"
            if not chunked:
                answer = json.loads(await reader.readexactly(length))
                messages = [c["message"] for c in answer["choices"]]
                calls = [c["function"]["arguments"] for m in messages for c in m.get("tool_calls") or []]
                reasons = [c["finish_reason"] for c in answer["choices"]]
                return self._judge([m["content"] or "" for m in messages], calls, reasons, answer["usage"], expected)
            return await self._stream(reader, expected)
        finally:
            writer.close()

    async def _stream(self, reader, expected: Answer) -> str:
        texts, usage, rest, done = [""] * len(expected.texts), None, b"", False
        calls, reasons = [""] * len(expected.calls), [""] * len(expected.texts)
        last = time.monotonic()
        while size := int(await reader.readline() or b"0", 16):
            rest += await reader.readexactly(size)
            await reader.readexactly(2)
            self.gaps.append(time.monotonic() - last)
            last = time.monotonic()
            *events, rest = rest.split(b"\n\n")
            for event in events:
                if not event.startswith(b"data: "):
                    continue
                if event == b"data: [DONE]":
                    done = True
                    continue
                chunk = json.loads(event[6:])
                if "error" in chunk:
                    for text, right in zip(texts + calls, expected.texts + expected.calls):
                        if not right.startswith(text):
                            self.wrong.append(f"before an error: {text[-60:]!r}")
                            return "wrong"
                    return f"error event {chunk['error'].get('code')}"
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"]:
                    texts[choice["index"]] += choice["delta"].get("content") or ""
                    for call in choice["delta"].get("tool_calls") or []:
                        calls[choice["index"]] += call["function"].get("arguments") or ""
                    reasons[choice["index"]] += choice["finish_reason"] or ""
        if not done:
            self.wrong.append("the stream ended without [DONE] and without an error")
            return "truncated"
        return self._judge(texts, calls, reasons, usage, expected)

    def _judge(self, texts, calls, reasons, usage, expected: Answer) -> str:
        if texts != expected.texts or calls != expected.calls or set(reasons) != {expected.reason}:
            self.wrong.append(f"{[len(t) for t in texts + calls]} characters, {reasons}, expected {expected}")
            return "wrong"
        tokens = expected.tokens or usage["completion_tokens"]
        if usage["completion_tokens"] != tokens or (expected.tokens and usage["prompt_tokens"] != len(WORDS)):
            self.wrong.append(f"usage: {usage}, expected {tokens} and {len(WORDS)}")
            return "wrong"
        return "right"
