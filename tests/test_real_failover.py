"""The real model on two workers, one of which dies in mid-stream: the text is the undisturbed one."""

import ctypes
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from conftest import client
from support.process import http, wait_until
from test_chain import metric
from test_real_model import GOLDEN, user

pytestmark = pytest.mark.real

PROMPT = "Count from one to ten in words."


@pytest.fixture
def fleet(start, model):
    """(url, workers): two workers of one compute thread each behind a coordinator and a gateway."""
    workers = [
        start("worker", "--port", "0", "--health-port", "0", "--model", model, "--threads", "1", "--preload", expect=("worker", "worker-http"))
        for _ in range(2)
    ]
    addresses = ",".join(w.address("worker") for w in workers)
    coordinator = start("coordinator", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--workers", addresses,
                        "--policy", "round_robin", expect=("coordinator", "coordinator-http"))  # fmt: skip
    gateway = start("gateway", "--listen", "127.0.0.1:0", "--coordinator", coordinator.address("coordinator"))
    url = gateway.address("gateway")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    wait_until(lambda: metric(coordinator.address("coordinator-http"), "coordinator_workers_healthy") == 2, what="both workers")
    return url, workers


def read(url: str, kill_at: int, kill, **kw) -> str:
    """The text of 300 tokens: seconds of work, so that whoever waits for the other still runs then."""
    text = ""
    kw["extra_body"] = {"ignore_eos": True}
    with client(url).chat.completions.create(model="default", messages=user(PROMPT), stream=True, max_tokens=300, **kw) as stream:
        for n, chunk in enumerate(c for c in stream if c.choices and c.choices[0].delta.content):
            text += chunk.choices[0].delta.content
            if n == kill_at:
                kill()
    return text


class HungThread:
    """The thread of a process that computed most, held still by ptrace: the others go on."""

    def __init__(self, pid: int):
        def time_of(tid: Path) -> int:
            return sum(map(int, (tid / "stat").read_text().rsplit(")", 1)[1].split()[11:13]))

        self.tid = int(max(Path(f"/proc/{pid}/task").iterdir(), key=time_of).name)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        for request in (0x4206, 0x4207):  # PTRACE_SEIZE, PTRACE_INTERRUPT
            assert self.libc.ptrace(request, self.tid, None, None) == 0, os.strerror(ctypes.get_errno())

    def go_on(self):  # by the thread that made it
        os.waitpid(self.tid, 0x40000000)  # __WALL
        assert self.libc.ptrace(17, self.tid, None, None) == 0, os.strerror(ctypes.get_errno())  # PTRACE_DETACH

    def reap(self):  # when its process has ended
        while os.WIFSTOPPED(os.waitpid(self.tid, 0x40000000)[1]):
            pass


@pytest.mark.long
def test_an_engine_that_hangs_in_a_living_worker(fleet):
    """Its steps are short and known to be: what it owes goes on elsewhere after 5 s, and it is asked again when it moves."""
    url, workers = fleet
    ask = dict(model="default", messages=user(PROMPT), temperature=0, max_tokens=1500, stream=True, extra_body={"ignore_eos": True})

    def read(hang_after: float = float("inf")):
        text, hung, began, last, gap = "", None, time.monotonic(), time.monotonic(), 0.0
        with client(url).chat.completions.create(**ask) as stream:
            for chunk in stream:
                now = time.monotonic()
                gap, last = max(gap, now - last), now
                text += "".join(c.delta.content or "" for c in chunk.choices)
                if hung is None and now - began > hang_after:
                    (worker,) = busy(workers)
                    hung = worker, HungThread(worker.pid)
        return text, gap, hung

    undisturbed, _, _ = read()
    text, gap, (worker, thread) = read(hang_after=6)
    health = http.get(worker.address("worker-http") + "/ready")
    thread.go_on()
    print(f"longest silence {gap:.1f} s")
    assert text == undisturbed
    assert gap < 30
    assert health.status_code == 503
    wait_until(lambda: http.get(worker.address("worker-http") + "/ready").status_code == 200, what="it to be well again")
    assert worker.alive()


@pytest.mark.long
def test_an_engine_that_hangs_does_not_keep_its_process(start, model):
    """10 s past the drain it ends without what does not let go."""
    server = start("serve", "--listen", "127.0.0.1:0", "--model", model, "--threads", "2", env={"CY_LLM_DRAIN_TIMEOUT": "0"})
    ask = dict(model="default", messages=user(PROMPT), max_tokens=1500, stream=True, extra_body={"ignore_eos": True})
    with client(server.address("gateway")).chat.completions.create(**ask) as stream:
        for _ in range(3):
            next(stream)
        thread = HungThread(server.pid)
        server.signal(signal.SIGTERM)
        server.wait_log("the process ends without it")
    thread.reap()
    assert server.wait_exit() == 1


def busy(workers):
    return [w for w in workers if w.alive() and metric(w.address("worker-http"), "worker_inflight_requests") > 0]


def test_greedy_and_seeded_streams_go_on_elsewhere(fleet):
    url, workers = fleet
    seeded = dict(temperature=0.9, seed=11, logprobs=True, top_logprobs=1)
    undisturbed = {"greedy": read(url, -1, lambda: None, temperature=0), "seeded": read(url, -1, lambda: None, **seeded)}
    assert undisturbed["greedy"].startswith(GOLDEN[PROMPT][0])
    texts: dict[str, str] = {}
    started, killed = threading.Barrier(3), threading.Event()

    def one(name: str, **kw):
        # Both have tokens before the worker of the first dies.
        def meet():
            started.wait(120)
            assert killed.wait(120)

        texts[name] = read(url, 4, meet, **kw)

    threads = [
        threading.Thread(target=one, args=("greedy",), kwargs={"temperature": 0}),
        threading.Thread(target=one, args=("seeded",), kwargs=seeded),
    ]
    for t in threads:
        t.start()
    started.wait(120)
    assert len(busy(workers)) == 2
    workers[0].kill()
    killed.set()
    for t in threads:
        t.join(300)
    assert texts == undisturbed
