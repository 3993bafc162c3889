"""Streams that go on although a process between them and their tokens dies or hangs: no token lost, none twice."""

import signal
import threading
import time

import pytest

from conftest import client, registry
from support import legacy
from support.process import http, wait_until
from test_chain import healthy, metric, user

WORDS = [f"w{n}" for n in range(37)]
TOKENS = 150


def expected(tokens: int = TOKENS, words=WORDS) -> str:
    return " ".join(words[n % len(words)] for n in range(tokens))


class Stream(threading.Thread):
    """One streamed request; `begun` is set when some tokens have come."""

    def __init__(self, url: str, n: int = 1, **kw):
        super().__init__(daemon=True)
        self.api, self.n, self.kw = client(url), n, kw
        self.begun, self.texts, self.usage, self.error, self.gap = threading.Event(), [""] * n, None, None, 0.0
        self.start()

    def run(self):
        try:
            last = time.monotonic()
            for i, chunk in enumerate(
                self.api.chat.completions.create(
                    model="default", messages=user(" ".join(WORDS)), max_tokens=TOKENS, n=self.n, stream=True,
                    stream_options={"include_usage": True}, **self.kw)):  # fmt: skip
                for choice in chunk.choices:
                    self.texts[choice.index] += choice.delta.content or ""
                self.usage = chunk.usage or self.usage
                self.gap, last = max(self.gap, time.monotonic() - last), time.monotonic()
                if i == 10 * self.n:
                    self.begun.set()
        except Exception as e:  # noqa: BLE001
            self.error = e
        self.begun.set()

    def check(self, limit: float = 60):
        self.join(limit)
        assert not self.is_alive(), "a stream that hangs"
        assert self.error is None, self.error
        assert self.texts == [expected()] * self.n
        assert self.usage.completion_tokens == TOKENS * self.n
        assert self.usage.prompt_tokens == len(WORDS)


def begun(streams):
    for s in streams:
        assert s.begun.wait(60)


@pytest.fixture
def pair(start, worker, coordinator):
    """Two workers behind two coordinators behind one gateway: (url, workers, coordinators)."""
    workers = [worker({"itl_ms": 15}) for _ in range(2)]
    addresses = [w.address("worker") for w in workers]
    coordinators = [coordinator(*addresses) for _ in range(2)]
    url = start("gateway", "--listen", "127.0.0.1:0", expect=("gateway",),
                env={"COORDINATOR_GRPC_ADDR": ",".join(c.address("coordinator") for c in coordinators)}).address("gateway")  # fmt: skip
    for c in coordinators:
        wait_until(lambda c=c: metric_of(c, "coordinator_workers_healthy") == 2, what="both workers")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    return url, workers, coordinators


def metric_of(process, name: str) -> float:
    return metric(process.address("coordinator-http"), name)


@pytest.mark.parametrize("n", [1, 3])
def test_a_killed_worker_costs_no_token(pair, n):
    url, workers, _ = pair
    streams = [Stream(url, n) for _ in range(8)]
    begun(streams)
    workers[0].kill()
    for s in streams:
        s.check()
    assert max(s.gap for s in streams) < 5


def test_a_stopped_worker_costs_no_token(pair):
    url, workers, _ = pair
    streams = [Stream(url) for _ in range(8)]
    begun(streams)
    workers[0].signal(signal.SIGSTOP)
    for s in streams:
        s.check()
    workers[0].signal(signal.SIGCONT)


def test_a_killed_coordinator_costs_no_token(pair):
    url, _, coordinators = pair
    streams = [Stream(url) for _ in range(8)]
    begun(streams)
    coordinators[0].kill()
    for s in streams:
        s.check()


def test_a_stopped_coordinator_costs_no_token(pair):
    url, _, coordinators = pair
    streams = [Stream(url) for _ in range(8)]
    begun(streams)
    coordinators[0].signal(signal.SIGSTOP)
    for s in streams:
        s.check()
    coordinators[0].signal(signal.SIGCONT)


def test_the_only_coordinator_comes_back_in_time(start, worker, coordinator):
    behind = worker({"itl_ms": 15})
    first = coordinator(behind.address("worker"))
    address = first.address("coordinator")
    url = start("gateway", "--listen", "127.0.0.1:0", "--coordinator", address, expect=("gateway",)).address("gateway")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    streams = [Stream(url) for _ in range(4)]
    begun(streams)
    first.kill()
    start("coordinator", "--listen", address, "--http-listen", "off", "--workers", behind.address("worker"))
    for s in streams:
        s.check()


def test_nobody_to_go_on_is_an_error_in_time(chain):
    c = chain(registry(default={"itl_ms": 15}), gateway_env={"CY_LLM_RESUME_PATIENCE": "0.5"})
    assert healthy(c) == 1
    stream = Stream(c.url)
    begun([stream])
    c.workers[0].kill()
    stream.join(20)
    assert stream.error is not None and stream.texts[0] and expected().startswith(stream.texts[0])


def test_old_clients_are_resumed_by_the_coordinator(worker, coordinator, legacy_client):
    workers = [worker({"itl_ms": 15}) for _ in range(2)]
    c = coordinator(*(w.address("worker") for w in workers))
    wait_until(lambda: metric_of(c, "coordinator_workers_healthy") == 2, what="both workers")
    client = legacy_client(c.address("coordinator"))
    text, ended = "", 0
    for i, reply in enumerate(client.stream(" ".join(WORDS), max_tokens=TOKENS)):
        text += reply.chunk if legacy.LOADING not in reply.chunk else ""
        ended += reply.end_of_stream
        if i == 20:
            busy = [w for w in workers if metric(w.address("worker-http"), "worker_inflight_requests") == 1]
            assert len(busy) == 1
            busy[0].kill()
    assert text == expected()
    assert ended == 1


@pytest.mark.parametrize(("how", "figure", "limit"), [(signal.SIGKILL, 1.0, 3.0), (signal.SIGSTOP, 5.0, 9.0)])
def test_how_soon_it_is_noticed(pair, how, figure, limit):
    """The figures are printed; the limits leave room for a machine that is busy with other things."""
    _, workers, coordinators = pair
    begin = time.monotonic()
    workers[0].signal(how)
    wait_until(lambda: metric_of(coordinators[0], "coordinator_workers_healthy") == 1, limit=limit, what=how.name)
    print(f"\n{how.name}: noticed after {time.monotonic() - begin:.2f} s (figure: {figure} s)")
    if how == signal.SIGSTOP:
        workers[0].signal(signal.SIGCONT)
