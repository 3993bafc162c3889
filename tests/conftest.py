from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from openai import OpenAI

from support import legacy
from support.gate import Gates
from support.process import Process, http, wait_until


@pytest.fixture
def start():
    """start("worker", "--engine", "echo", ..., expect=("worker",)): a process that ends with the test."""
    running: list[Process] = []

    def begin(*args, **kw) -> Process:
        running.append(Process(*args, **kw))
        return running[-1]

    yield begin
    for process in reversed(running):
        process.kill()
    for process in running:
        assert "Sanitizer" not in process.log and "runtime error:" not in process.log, process.log


@pytest.fixture
def serve_legacy():
    """serve_legacy(servicer[, path]): a gRPC server of the old kind that ends with the test."""
    servers: list[legacy.Server] = []

    def begin(servicer, path: Path | None = None, address: str = "127.0.0.1:0") -> legacy.Server:
        servers.append(legacy.Server(servicer, path, address))
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


@pytest.fixture
def legacy_client():
    clients: list[legacy.Client] = []

    def connect(address: str, token: str = "") -> legacy.Client:
        clients.append(legacy.Client(address, token))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def gates():
    gates = Gates()
    yield gates
    gates.close()


def registry(**models: dict) -> str:
    """A registry text: echo models with these options."""
    return json.dumps({name: {"model_path": "none", "engine": "echo"} | options for name, options in models.items()})


@pytest.fixture
def worker(start):
    """worker(options, ..., env=...): a worker with the echo model `default` of these options."""

    def begin(options: dict | None = None, *args, env: dict | None = None, **kw) -> Process:
        kw.setdefault("expect", ("worker", "worker-http"))
        return start("worker", "--port", "0", "--health-port", "0", "--engine", "echo", *args,
                     env={"CY_LLM_MODEL_REGISTRY": registry(default=options or {})} | (env or {}), **kw)  # fmt: skip

    return begin


@pytest.fixture
def coordinator(start):
    """coordinator(address, ..., env=...): a coordinator of these workers."""

    def begin(*workers: str, args=(), ready: bool = True, **kw) -> Process:
        kw.setdefault("expect", ("coordinator", "coordinator-http"))
        process = start("coordinator", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                        "--workers", ",".join(workers) or "none", *args, **kw)  # fmt: skip
        if ready:
            url = process.address("coordinator-http")
            wait_until(lambda: http.get(url + "/ready").status_code == 200, what="the coordinator to be ready")
        return process

    return begin


class Chain:
    """A gateway, a coordinator and workers on echo, each a process of its own."""

    def __init__(self, start, workers: list[str | Process] = (), env: dict | None = None, gateway_env: dict | None = None):
        self._start, self._env = start, env or {}
        self.workers = [w if isinstance(w, Process) else self.add_worker(w) for w in workers]
        addresses = ",".join(w.address("worker") for w in self.workers) or "none"
        self.coordinator = start("coordinator", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--workers", addresses,
                                 env=self._env, expect=("coordinator", "coordinator-http"))  # fmt: skip
        self.gateway = start("gateway", "--listen", "127.0.0.1:0", "--coordinator", self.coordinator.address("coordinator"),
                             env=self._env | (gateway_env or {}), expect=("gateway",))  # fmt: skip
        self.url = self.gateway.address("gateway")
        self.wait_ready()

    def add_worker(self, models: str, port: int = 0) -> Process:
        return self._start("worker", "--port", str(port), "--health-port", "0", "--engine", "echo",
                           env=self._env | {"CY_LLM_MODEL_REGISTRY": models}, expect=("worker", "worker-http"))  # fmt: skip

    def wait_ready(self, ready: bool = True):
        wait_until(lambda: (http.get(self.url + "/ready").status_code == 200) == ready, what=f"/ready to be {ready}")

    def client(self, **kw) -> OpenAI:
        return client(self.url, **kw)


def client(url: str, **kw) -> OpenAI:
    return OpenAI(base_url=url + "/v1", **({"api_key": "none", "max_retries": 0, "timeout": 120} | kw))


@pytest.fixture
def chain(start):
    """chain(registry(default={...}), ...): one worker per registry text."""

    def begin(*workers: str | Process, **kw) -> Chain:
        return Chain(start, list(workers), **kw)

    return begin


@pytest.fixture
def echo(start):
    """echo(**options): the all-in-one on echo; returns its URL."""

    def begin(*args, env=None, **options) -> str:
        process = start("serve", "--listen", "127.0.0.1:0", "--engine", "echo", *args,
                        env={"CY_LLM_MODEL_REGISTRY": registry(default=options)} | (env or {}), expect=("gateway",))  # fmt: skip
        url = process.address("gateway")
        wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
        return url

    return begin


@contextmanager
def echo_process(**options):
    """The all-in-one on echo, for modules whose tests only ask it; its URL."""
    process = Process("serve", "--listen", "127.0.0.1:0", "--engine", "echo",
                      env={"CY_LLM_MODEL_REGISTRY": registry(default=options)}, expect=("gateway",))  # fmt: skip
    url = process.address("gateway")
    try:
        wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
        yield url
        assert process.alive(), process.log
    finally:
        process.kill()


@pytest.fixture(scope="session")
def model() -> str:
    """Path of the default model's GGUF."""
    path = os.environ.get("CY_TEST_MODEL", "")
    if not path:
        pytest.skip("CY_TEST_MODEL names no model (./cy-llm test fetches it and sets it)")
    return path


@pytest.fixture(scope="session")
def real(model):
    """The all-in-one on the real model, one for all tests that only ask it; its URL. One compute thread: several wait
    for each other at every step, which on a busy machine makes minutes of seconds."""
    process = Process("serve", "--listen", "127.0.0.1:0", "--model", model, "--threads", "1", "--preload", expect=("gateway",))
    url = process.address("gateway")
    try:
        wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
        yield url
    finally:
        process.kill()
