"""The real model on two workers, one of which dies in mid-stream: the text is the undisturbed one."""

import threading

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
    for w in workers:
        wait_until(lambda w=w: http.get(w.address("worker-http") + "/healthz").status_code == 200, what="/healthz")
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
