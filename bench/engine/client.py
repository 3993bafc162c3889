"""Streaming requests from one thread that does next to nothing while they run: it stands on the same cores as what it
measures. What came is stored with its time and read afterwards."""

from __future__ import annotations

import bisect
import json
import selectors
import socket
import time
from dataclasses import dataclass, field


@dataclass
class Answer:
    started: float
    ended: float = 0.0
    times: list[float] = field(default_factory=list)  # of deltas with text
    text: str = ""
    completion_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    error: str = ""

    @property
    def ttft(self) -> float:
        return self.times[0] - self.started

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.times, self.times[1:])]


class Stream:
    """One POST of a chat with a streamed answer. `cut_after` seconds: hang up then."""

    def __init__(self, port: int, body: dict, cut_after: float | None = None):
        data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
        self.to_send = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                        f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n").encode() + data  # fmt: skip
        self.pieces: list[bytes] = []
        self.marks: list[tuple[int, float]] = []  # bytes that had come, and when
        self.received = 0
        self.answer = Answer(time.monotonic())
        self.cut_at = None if cut_after is None else self.answer.started + cut_after
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(self.to_send)
        self.socket.setblocking(False)

    def receive(self) -> bool:
        """Takes what is there. True at the end."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return False
        except OSError as e:
            self.answer.error = str(e)
            data = b""
        now = time.monotonic()
        if not data:
            self.answer.ended = now
            self.socket.close()
            return True
        self.pieces.append(data)
        self.received += len(data)
        self.marks.append((self.received, now))
        return False

    def read(self) -> Answer:
        """What came, after the end."""
        raw, answer = b"".join(self.pieces), self.answer
        head, _, body = raw.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1] if head else b"0"
        if status != b"200":
            answer.error = f"{status.decode()}: {body[:200].decode(errors='replace')}"
            return answer
        ends = [end for end, _ in self.marks]
        done = False
        at = len(head) + 4
        while (at := raw.find(b"data: ", at)) >= 0:
            end = raw.find(b"\n", at)
            line, when = raw[at + 6 : end].strip(), self.marks[bisect.bisect_left(ends, end)][1]
            at = end
            if line == b"[DONE]":
                done = True
                break
            self._event(json.loads(line), when)
        if not done and not answer.error and self.cut_at is None:
            answer.error = "ended before [DONE]"
        return answer

    def _event(self, event: dict, when: float) -> None:
        answer = self.answer
        if event.get("error"):
            answer.error = json.dumps(event["error"])[:200]
        for choice in event.get("choices") or []:
            if text := (choice.get("delta") or {}).get("content"):
                answer.times.append(when)
                answer.text += text
        if usage := event.get("usage"):
            answer.completion_tokens = usage["completion_tokens"]
            answer.prompt_tokens = usage["prompt_tokens"]
            answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


class Loop:
    """Runs streams until none is left. `finished` is called with each that ends and may start others."""

    def __init__(self, limit: float = 300):
        self.selector = selectors.DefaultSelector()
        self.deadline = time.monotonic() + limit
        self.streams: list[Stream] = []

    def start(self, stream: Stream) -> Stream:
        self.streams.append(stream)
        self.selector.register(stream.socket, selectors.EVENT_READ, stream)
        return stream

    def run(self, finished=lambda stream: None, tick=None) -> list[Answer]:
        while self.selector.get_map():
            if time.monotonic() > self.deadline:
                raise TimeoutError("the servers did not answer in time")
            for key, _ in self.selector.select(0.02 if tick else 0.5):
                if key.data.receive():
                    self.selector.unregister(key.fileobj)
                    finished(key.data)
            if tick:
                tick()
        return [stream.read() for stream in self.streams]
