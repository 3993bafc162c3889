"""Everything between a client and its tokens is killed, stopped, cut and silenced, under 64 streams whose every token
is checked. CY_CHAOS_KILLS sets how often (default: 12; ./cy-llm test --chaos: 1000), CY_CHAOS_SEED how."""

import os
import random
import signal
import time

import pytest

from conftest import registry
from support.gate import Gates
from support.load import Load
from support.process import http, wait_until
from test_chain import metric

KILLS = int(os.environ.get("CY_CHAOS_KILLS", "12"))
SEED = int(os.environ.get("CY_CHAOS_SEED", "1"))
STREAMS = int(os.environ.get("CY_CHAOS_STREAMS", "64"))
WORKERS, COORDINATORS = 3, 2


class Fleet:
    """gateway - gate - 2 coordinators - gate each - 3 workers."""

    def __init__(self, start, gates: Gates):
        self.start, self.gates = start, gates
        models = registry(default={"itl_ms": 20})
        self.worker_env = {"CY_LLM_MODEL_REGISTRY": models}
        self.workers = [self.new_worker("127.0.0.1:0") for _ in range(WORKERS)]
        self.worker_at = [w.address("worker") for w in self.workers]
        self.links = []  # gates by (coordinator, worker)
        self.coordinators, self.coordinator_at, self.front = [], [], []
        for _ in range(COORDINATORS):
            links = [gates.add(address) for address in self.worker_at]
            self.links.append(links)
            process = self.new_coordinator(links, "127.0.0.1:0", "127.0.0.1:0")
            self.coordinators.append(process)
            self.coordinator_at.append((process.address("coordinator"), process.address("coordinator-http").removeprefix("http://")))
            self.front.append(gates.add(self.coordinator_at[-1][0]))
        self.gateway = start("gateway", "--listen", "127.0.0.1:0", "--coordinator", ",".join(g.address for g in self.front),
                             env={"CY_LLM_LOG_LEVEL": "warn"}, expect=("gateway",))  # fmt: skip
        self.url = self.gateway.address("gateway")
        self.wait_whole()

    def new_worker(self, at: str):
        host, port = at.split(":")
        return self.start("worker", "--host", host, "--port", port, "--health-port", "0", "--engine", "echo", "--preload",
                          "--drain-timeout", "1", env=self.worker_env | {"CY_LLM_LOG_LEVEL": "warn"},
                          expect=("worker", "worker-http"))  # fmt: skip

    def new_coordinator(self, links, listen: str, http_listen: str):
        return self.start("coordinator", "--listen", listen, "--http-listen", http_listen, "--drain-timeout", "1",
                          "--workers", ",".join(g.address for g in links), env={"CY_LLM_LOG_LEVEL": "warn"},
                          expect=("coordinator", "coordinator-http"))  # fmt: skip

    def healthy(self, c: int) -> int:
        try:
            return int(metric("http://" + self.coordinator_at[c][1], "coordinator_workers_healthy"))
        except Exception:  # noqa: BLE001
            return -1

    def wait_whole(self):
        for c in range(COORDINATORS):
            wait_until(lambda c=c: self.healthy(c) == WORKERS, what=f"all workers at coordinator {c}")
        wait_until(lambda: metric(self.url, "gateway_coordinators_healthy") == COORDINATORS, what="both coordinators at the gateway")

    def hurt(self, rng: random.Random) -> str:
        """One thing goes wrong and comes right again; everything else is whole meanwhile."""
        who = rng.choice(["worker", "worker", "machine", "coordinator", "link", "front"])
        if who == "worker":
            n, way = rng.randrange(WORKERS), rng.choice(["kill", "kill", "term", "stop"])
            process = self.workers[n]
            if way == "stop":
                self.stop([process], rng)
            else:
                process.kill() if way == "kill" else process.terminate()
                self.workers[n] = self.new_worker(self.worker_at[n])
        elif who == "machine":  # all workers but one
            gone, way = rng.sample(range(WORKERS), WORKERS - 1), rng.choice(["kill", "stop"])
            if way == "stop":
                self.stop([self.workers[n] for n in gone], rng)
            else:
                for n in gone:
                    self.workers[n].kill()
                for n in gone:
                    self.workers[n] = self.new_worker(self.worker_at[n])
        elif who == "coordinator":
            n, way = rng.randrange(COORDINATORS), rng.choice(["kill", "kill", "term", "stop"])
            process = self.coordinators[n]
            if way == "stop":
                self.stop([process], rng)
            else:
                process.kill() if way == "kill" else process.terminate()
                self.coordinators[n] = self.new_coordinator(self.links[n], *self.coordinator_at[n])
        else:
            gate = rng.choice(self.front if who == "front" else rng.choice(self.links))
            way = rng.choice(["cut", "cut", "half", "blackhole", "delay"])
            gate.hurt(way, 0.3)
            time.sleep(rng.choice([0.05, 0.5, 6.0]) if way in ("blackhole", "half") else 0.3)
            gate.heal()
            if way == "half":  # what was swallowed is gone: these connections are worth nothing
                gate.hurt("cut")
                gate.heal()
        self.wait_whole()
        return f"{who} {way}"

    def stop(self, processes, rng):
        for process in processes:
            process.signal(signal.SIGSTOP)
        time.sleep(rng.choice([0.2, 1.0, 6.5]))
        for process in processes:
            process.signal(signal.SIGCONT)


def rss_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as f:
        return next(float(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS"))


def files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_no_token_is_lost_whatever_dies(start, gates):
    fleet = Fleet(start, gates)
    rng, done = random.Random(SEED), {}
    load = Load(fleet.url, STREAMS, SEED)
    wait_until(lambda: load.counts["right"] >= STREAMS, what="the first answers")
    fresh = {"worker": max(rss_mb(w.pid) for w in fleet.workers), "coordinator": max(rss_mb(c.pid) for c in fleet.coordinators)}
    begin, before = time.monotonic(), (rss_mb(fleet.gateway.pid), files(fleet.gateway.pid))
    for _ in range(KILLS):
        way = fleet.hurt(rng)
        done[way] = done.get(way, 0) + 1
        assert not load.wrong, load.wrong[:5]
        # A fault is not over before somebody was served again.
        right = load.counts["right"]
        wait_until(lambda right=right: load.counts["right"] > right, limit=30, what="an answer after " + way)
    took = time.monotonic() - begin
    load.stop()
    print(f"\n{KILLS} faults in {took:.0f} s (seed {SEED}): {done}\n{STREAMS} streams: {dict(load.counts)}; longest silence "
          f"{max(load.gaps):.1f} s; gateway {before[0]:.0f} -> {rss_mb(fleet.gateway.pid):.0f} MB, "
          f"{before[1]} -> {files(fleet.gateway.pid)} files")  # fmt: skip
    total = sum(load.counts.values())
    assert not load.wrong, load.wrong[:5]
    assert load.counts["hang"] == load.counts["truncated"] == load.counts["connection"] == 0, load.counts
    # One fault at a time, with a healthy coordinator and worker left: the failure table allows no error here.
    errors = {how: n for how, n in load.counts.items() if how.startswith("error")}
    assert sum(errors.values()) <= total // 1000, errors
    # Those there are say what it was, and that it may be tried again.
    allowed = {"overloaded", "no_worker", "connection_lost", "draining", "None"}
    assert all(how.startswith(("error 503 ", "error event ")) and how.split()[-1] in allowed for how in errors), errors
    # Nothing is left behind.
    for worker in fleet.workers:
        url = worker.address("worker-http")
        wait_until(lambda url=url: metric(url, "worker_inflight_requests") == 0, limit=20, what="no request at a worker")
    for c in range(COORDINATORS):
        url = "http://" + fleet.coordinator_at[c][1]
        wait_until(lambda url=url: sum(w["inflight"] for w in http.get(url + "/workers").json()["workers"]) == 0,
                   limit=20, what="no request at a coordinator")  # fmt: skip
        assert metric(url, "coordinator_queue_waiting") == 0
    wait_until(lambda: files(fleet.gateway.pid) <= before[1] + 8, limit=20, what="the gateway's connections to close")
    assert rss_mb(fleet.gateway.pid) < before[0] + 64
    for process in [*fleet.workers, *fleet.coordinators]:
        assert rss_mb(process.pid) < fresh[process.args[1]] + 64, process.args
