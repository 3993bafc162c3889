"""The real model under kill -9: every text, greedy or drawn, is the undisturbed one, token by token. CY_CHAOS_REAL_KILLS
sets how often (default: 2; ./cy-llm test --chaos: 100), CY_CHAOS_SEED how.

One compute thread for each worker, and prompts of less than 64 tokens: then nothing that a worker computes depends on what
it computes it with (engines/llama_cpp/README.md, Equal texts)."""

import itertools
import os
import random
import threading
import time
from collections import Counter

import pytest

from conftest import client
from support.process import http, wait_until
from test_chain import metric
from test_real_model import user

pytestmark = pytest.mark.real

KILLS = int(os.environ.get("CY_CHAOS_REAL_KILLS", "2"))
SEED = int(os.environ.get("CY_CHAOS_SEED", "1"))
STREAMS, TOKENS = 4, 48
PROMPTS = ["Count from one to ten in words.", "Tell me about the sea.", "Name three animals and say what they eat.",
           "What is the capital of France?", "Write a short poem about rain.", "Explain what a computer is."]  # fmt: skip
WAYS = [{"temperature": 0}, {"temperature": 0.9, "seed": 11}]


class Fleet:
    """gateway - coordinator - 2 workers of one compute thread each."""

    def __init__(self, start, model: str):
        self.start, self.model = start, model
        self.workers = [self.new_worker(0) for _ in range(2)]
        self.ports = [int(w.address("worker").rsplit(":", 1)[1]) for w in self.workers]
        self.coordinator = start("coordinator", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                                 "--workers", ",".join(w.address("worker") for w in self.workers),
                                 expect=("coordinator", "coordinator-http"))  # fmt: skip
        gateway = start("gateway", "--listen", "127.0.0.1:0", "--coordinator", self.coordinator.address("coordinator"))
        self.url = gateway.address("gateway")
        self.wait_whole()

    def new_worker(self, port: int):
        return self.start("worker", "--port", str(port), "--health-port", "0", "--model", self.model, "--threads", "1", "--preload",
                          env={"CY_LLM_LOG_LEVEL": "warn"}, expect=("worker", "worker-http"))  # fmt: skip

    def wait_whole(self):
        url = self.coordinator.address("coordinator-http")
        for w in self.workers:
            wait_until(lambda w=w: http.get(w.address("worker-http") + "/healthz").status_code == 200, what="/healthz")
        wait_until(lambda: metric(url, "coordinator_workers_healthy") == 2, what="both workers")
        wait_until(lambda: http.get(self.url + "/ready").status_code == 200, what="/ready")

    def kill(self, n: int):
        self.workers[n].kill()
        self.workers[n] = self.new_worker(self.ports[n])


class Asker:
    """Threads that ask one of the requests again and again, and judge the answers."""

    def __init__(self, url: str):
        self.url, self.expected = url, {}
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.tokens, self.gap = 0, 0.0
        self._lock, self._over = threading.Lock(), False

    def ask(self, key: tuple[int, int]) -> tuple[str, int]:
        """Text and tokens."""
        text, usage, last = "", None, time.monotonic()
        with client(self.url).chat.completions.create(
            model="default", messages=user(PROMPTS[key[0]]), stream=True, max_tokens=TOKENS,
            stream_options={"include_usage": True}, **WAYS[key[1]],
        ) as stream:  # fmt: skip
            for chunk in stream:
                usage = chunk.usage or usage
                if chunk.choices and chunk.choices[0].delta.content:
                    text += chunk.choices[0].delta.content
                    with self._lock:
                        self.tokens += 1
                        self.gap = max(self.gap, time.monotonic() - last)
                    last = time.monotonic()
        return text, usage.completion_tokens

    def learn(self):
        for key in itertools.product(range(len(PROMPTS)), range(len(WAYS))):
            self.expected[key] = self.ask(key)

    def run(self, n: int):
        rng = random.Random(SEED * 100 + n)
        while not self._over:
            key = rng.choice(sorted(self.expected))
            try:
                got = self.ask(key)
            except Exception as e:  # noqa: BLE001
                how, got = "error", repr(e)
            else:
                how = "right" if got == self.expected[key] else "wrong"
            with self._lock:
                self.counts[how] += 1
                if how != "right":
                    self.wrong.append(f"{key}: {got!r}, expected {self.expected[key]!r}")

    def begin(self):
        self._threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(STREAMS)]
        for thread in self._threads:
            thread.start()

    def end(self):
        self._over = True
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a stream that hangs"


def test_no_token_of_the_real_model_is_lost(start, model):
    fleet = Fleet(start, model)
    asker = Asker(fleet.url)
    asker.learn()
    rng = random.Random(SEED)
    begin = time.monotonic()
    asker.begin()
    for _ in range(KILLS):
        at = asker.tokens + rng.randrange(5, 200)  # somewhere in the streams
        wait_until(lambda at=at: asker.tokens >= at or asker.wrong, what="tokens")
        fleet.kill(rng.randrange(2))
        fleet.wait_whole()
        assert not asker.wrong, asker.wrong[:3]
    asker.end()
    resumed = metric(fleet.url, "resume_recovered_total")
    print(f"\n{KILLS} kills in {time.monotonic() - begin:.0f} s (seed {SEED}): {dict(asker.counts)} answers, {asker.tokens} tokens, "
          f"{resumed:.0f} taken over, longest silence {asker.gap:.1f} s")  # fmt: skip
    assert not asker.wrong, asker.wrong[:3]
    assert asker.counts["right"] >= STREAMS
    for w in fleet.workers:
        wait_until(lambda w=w: metric(w.address("worker-http"), "worker_inflight_requests") == 0, limit=20, what="no request left")
