#!/usr/bin/env python3
"""What a request costs: CPU time of our processes per request, on the echo engine.

Starts the all-in-one, the chain of three processes, and a router in front of that all-in-one over HTTP (of which only its
own process counts), drives each with a closed loop of keep-alive connections, in turns, and prints the median over the rounds with its spread, and the ratio to the all-in-one of the same run. Only the ratios
are comparable between machines and days; run nothing else meanwhile.

    request_cost.py [--binary PATH] [--rounds N] [--requests N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def start(binary: str, *args: str) -> tuple[subprocess.Popen, dict[str, str]]:
    process = subprocess.Popen([binary, *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    listeners: dict[str, str] = {}
    for line in process.stdout:
        if line.startswith("listening "):
            _, name, address = line.split(maxsplit=2)
            listeners[name] = address.strip().removeprefix("http://")
            if name == args[0] or (args[0] == "serve" and name == "gateway"):
                break
    if not listeners:
        sys.exit(f"request_cost: {args[0]} did not start")
    return process, listeners


def cpu(processes: list[subprocess.Popen]) -> float:
    seconds = 0.0
    for process in processes:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        seconds += (int(fields[11]) + int(fields[12])) / TICK
    return seconds


def request(tokens: int, stream: bool) -> bytes:
    body = json.dumps({"model": "default", "max_tokens": tokens, "stream": stream,
                       "messages": [{"role": "user", "content": "one two three four five six seven eight " * 5}]})  # fmt: skip
    return (f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}").encode()  # fmt: skip


def exchange(connection: socket.socket, data: bytes, stream: bool) -> None:
    connection.sendall(data)
    got = b""
    end = b"0\r\n\r\n" if stream else None
    need = None
    while True:
        part = connection.recv(1 << 16)
        if not part:
            raise RuntimeError("connection closed")
        got += part
        if stream:
            if got.endswith(end):
                break
        else:
            if need is None and b"\r\n\r\n" in got:
                head, _, _ = got.partition(b"\r\n\r\n")
                length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
                need = len(head) + 4 + int(length.split(b":")[1])
            if need is not None and len(got) >= need:
                break
    if not got.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(got[:200])


def drive(address: str, data: bytes, stream: bool, connections: int, count: int) -> None:
    host, port = address.rsplit(":", 1)
    errors: list[BaseException] = []

    def client(n: int) -> None:
        try:
            with socket.create_connection((host, int(port)), timeout=60) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for _ in range(n):
                    exchange(connection, data, stream)
        except BaseException as e:  # noqa: BLE001
            errors.append(e)

    threads = [threading.Thread(target=client, args=(count // connections,)) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(Path(__file__).parents[1] / "build/release/bin/cy-llm"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--json")
    options = parser.parse_args()

    processes: list[subprocess.Popen] = []

    def run(*args: str) -> tuple[subprocess.Popen, dict[str, str]]:
        process, listeners = start(options.binary, *args)
        processes.append(process)
        return process, listeners

    try:
        one, one_at = run("serve", "--listen", "127.0.0.1:0", "--engine", "echo")
        worker, worker_at = run("worker", "--port", "0", "--health-port", "0", "--engine", "echo")
        coordinator, coordinator_at = run("coordinator", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                                          "--workers", worker_at["worker"])  # fmt: skip
        gateway, gateway_at = run("gateway", "--listen", "127.0.0.1:0", "--coordinator", coordinator_at["coordinator"])
        router, router_at = run("serve", "--listen", "127.0.0.1:0", "--upstream", "http://" + one_at["gateway"])
        targets = {"serve": (one_at["gateway"], [one]), "chain": (gateway_at["gateway"], [gateway, coordinator, worker]),
                   "router": (router_at["gateway"], [router])}  # fmt: skip
        cells = [("health, 1 connection", None, False, 1), ("1 token, 1 connection", 1, False, 1),
                 ("1 token, 32 connections", 1, False, 32), ("64 tokens, 32 connections", 64, False, 32),
                 ("64 tokens streamed, 32 connections", 64, True, 32)]  # fmt: skip
        results = []
        print(f"{'cell':36} {'target':6} {'CPU µs/request':>15} {'spread':>15} {'requests/s':>11} {'ratio':>6}")
        for name, tokens, stream, connections in cells:
            data = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" if tokens is None else request(tokens, stream)
            figures: dict[str, list[tuple[float, float]]] = {t: [] for t in targets}
            for target, (address, _) in targets.items():
                wait_ready(address)
                drive(address, data, stream, connections, 10 * connections)
            for round_number in range(options.rounds):
                order = list(targets) if round_number % 2 == 0 else list(targets)[::-1]
                for target in order:
                    address, pids = targets[target]
                    count = options.requests // connections * connections
                    before, begin = cpu(pids), time.monotonic()
                    drive(address, data, stream, connections, count)
                    figures[target].append(((cpu(pids) - before) * 1e6 / count, count / (time.monotonic() - begin)))
            base = statistics.median(f[0] for f in figures["serve"])
            for target, values in figures.items():
                costs = [v[0] for v in values]
                median = statistics.median(costs)
                rate = statistics.median(v[1] for v in values)
                ratio = median / base if base else float("nan")
                print(f"{name:36} {target:6} {median:15.1f} {min(costs):7.1f}-{max(costs):7.1f} {rate:11.0f} {ratio:6.2f}")
                results.append({"cell": name, "target": target, "cpu_us": median, "min": min(costs), "max": max(costs),
                                "requests_per_s": rate, "ratio": ratio})  # fmt: skip
        if options.json:
            Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_ready(address: str) -> None:
    host, port = address.rsplit(":", 1)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            if connection.recv(4096).startswith(b"HTTP/1.1 200"):
                return
        time.sleep(0.05)
    sys.exit(f"request_cost: {address} does not become ready")


if __name__ == "__main__":
    main()
