"""Streams whose every token is checked: the echo engine says the words of the prompt, over and over."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter

WORDS = [f"w{n}" for n in range(53)]


class Load:
    """`streams` clients, each asking again and again until stop(). Counts how every request ended."""

    def __init__(self, url: str, streams: int, seed: int, tokens=(40, 120), limit: float = 60.0):
        host, port = url.removeprefix("http://").split(":")
        self.where, self.limit, self.tokens = (host, int(port)), limit, tokens
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.gaps: list[float] = []
        self._over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(streams, seed)), daemon=True)
        self._thread.start()

    def stop(self, limit: float = 120.0):
        """Lets what runs end. A stream that does not is a hang."""
        self._over = True
        self._thread.join(limit)
        assert not self._thread.is_alive(), "streams that hang"

    async def _run(self, streams: int, seed: int):
        await asyncio.gather(*(self._client(random.Random(seed * 1000 + n)) for n in range(streams)))

    async def _client(self, rng: random.Random):
        while not self._over:
            n, tokens, start = rng.choice([1, 1, 1, 2]), rng.randint(*self.tokens), rng.randrange(len(WORDS))
            stream = rng.random() < 0.8
            words = WORDS[start:] + WORDS[:start]
            expected = [" ".join(words[i % len(words)] for i in range(tokens))] * n
            body = {"model": "default", "messages": [{"role": "user", "content": " ".join(words)}],
                    "max_tokens": tokens, "n": n, "stream": stream}  # fmt: skip
            if stream:
                body["stream_options"] = {"include_usage": True}
            try:
                how = await asyncio.wait_for(self._ask(body, expected, tokens * n), self.limit)
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

    async def _ask(self, body: dict, expected: list[str], tokens: int) -> str:
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
                texts = [c["message"]["content"] for c in answer["choices"]]
                return self._judge(texts, answer["usage"], expected, tokens)
            return await self._stream(reader, expected, tokens)
        finally:
            writer.close()

    async def _stream(self, reader, expected: list[str], tokens: int) -> str:
        texts, usage, rest, done = [""] * len(expected), None, b"", False
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
                    for text, right in zip(texts, expected):
                        if not right.startswith(text):
                            self.wrong.append(f"before an error: {text[-60:]!r}")
                            return "wrong"
                    return f"error event {chunk['error'].get('code')}"
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"]:
                    texts[choice["index"]] += choice["delta"].get("content") or ""
        if not done:
            self.wrong.append("the stream ended without [DONE] and without an error")
            return "truncated"
        return self._judge(texts, usage, expected, tokens)

    def _judge(self, texts, usage, expected, tokens) -> str:
        if texts != expected:
            self.wrong.append(f"text: {[len(t) for t in texts]} of {len(expected[0])} characters")
            return "wrong"
        if usage["completion_tokens"] != tokens or usage["prompt_tokens"] != len(WORDS):
            self.wrong.append(f"usage: {usage}, expected {tokens} and {len(WORDS)}")
            return "wrong"
        return "right"
