"""Processes under test: started on free ports, found by their readiness lines, ended by their id."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import httpx

BINARY = Path(os.environ.get("CY_LLM_BIN", Path(__file__).parents[2] / "build/release/bin/cy-llm"))
START_LIMIT = 60.0  # seconds; instrumented binaries and busy machines included

# What would leak from the developer's shell into a process under test.
OWN_VARIABLES = ("CY_LLM_", "COORDINATOR_", "WORKER_", "GATEWAY_", "HF_", "VLLM_")


class PerThread(threading.local):
    """A client of its own for each thread: with a shared one, a thread that tidies the pool may close the connection
    that another has just been given."""

    _tls = httpx.create_ssl_context(trust_env=False)  # what takes long in making a client

    def __init__(self):
        self._client = httpx.Client(
            timeout=60, trust_env=False, verify=self._tls, limits=httpx.Limits(max_keepalive_connections=0)
        )

    def __getattr__(self, name):
        return getattr(self._client, name)


http = PerThread()  # for all plain requests, a connection each


def wait_until(condition, limit: float = START_LIMIT, what: str = ""):
    """The first true value of condition(); asked again until then."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit} s: {what or condition}")
        time.sleep(0.01)


class Process:
    """One `cy-llm` process. `listeners` maps "gateway", "coordinator", "worker-http"... to their addresses."""

    def __init__(self, *args: str, env: dict[str, str] | None = None, expect: tuple[str, ...] = (), cwd=None):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(OWN_VARIABLES)}
        for name in ("XDG_CACHE_HOME", "CY_LLM_MODEL_CACHE"):
            if name in os.environ:
                clean[name] = os.environ[name]
        self.args = [str(BINARY), *map(str, args)]
        self.popen = subprocess.Popen(
            self.args, env=clean | (env or {}), cwd=cwd, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.lines: list[str] = []
        self.listeners: dict[str, list[str]] = {}
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            for name in expect:
                self.address(name)
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def log(self) -> str:
        with self._changed:
            return "".join(self.lines)

    def _read(self):
        with self.popen.stdout as output:
            for line in output:
                with self._changed:
                    self.lines.append(line)
                    if line.startswith("listening "):
                        _, name, address = line.split(maxsplit=2)
                        self.listeners.setdefault(name, []).append(address.strip())
                    self._changed.notify_all()
        with self._changed:
            self.lines.append("")
            self._changed.notify_all()

    def _wait(self, found, what: str, limit: float):
        with self._changed:
            ok = self._changed.wait_for(lambda: found() or not self._reader.is_alive(), limit)
            value = found()
        if not value:
            raise AssertionError(f"{what}: {'no' if ok else 'not in time'}; output of {self.args[1:]}:\n{self.log}")
        return value

    def address(self, name: str, unix: bool = False) -> str:
        """The address of the listener `name` ("worker": without "unix:" ones unless `unix`)."""

        def found():
            return [a for a in self.listeners.get(name, []) if a.startswith("unix:") == unix]

        return self._wait(found, f"listening {name}", START_LIMIT)[0]

    def wait_log(self, text: str, limit: float = START_LIMIT) -> None:
        self._wait(lambda: any(text in line for line in self.lines), f"'{text}' in the log", limit)

    def wait_exit(self, limit: float = START_LIMIT) -> int:
        code = self.popen.wait(limit)
        self._reader.join(limit)
        return code

    def alive(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def terminate(self, limit: float = START_LIMIT) -> int:
        self.signal(signal.SIGTERM)
        return self.wait_exit(limit)

    def kill(self) -> None:
        if self.alive():
            self.signal(signal.SIGCONT)
            self.popen.kill()
        self.popen.wait()
        self._reader.join(10)


def run(*args: str, env: dict[str, str] | None = None, limit: float = START_LIMIT) -> subprocess.CompletedProcess:
    """A `cy-llm` command that ends by itself."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(OWN_VARIABLES)}
    return subprocess.run([str(BINARY), *map(str, args)], env=clean | (env or {}), text=True, errors="replace",
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=limit)  # fmt: skip
