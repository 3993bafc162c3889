#!/usr/bin/env python3
"""Our engine against llama-server of the same llama.cpp: ratios within one run.

All servers get the same GGUF, threads, sequences, context and ggml libraries. They are driven in turns (A B C, C B A, ...);
the ratios within a turn are what counts, and their mean is printed with its 95 % interval. Run nothing else meanwhile.

    run.py --model FILE.gguf [--peer LLAMA_SERVER] [--ideal LLAMA_BATCHED_BENCH] [--baseline-option JSON [--baseline-binary CY_LLM]]
           [--chain] [--binary CY_LLM] [--pairs N] [--workload NAME ...]

Workloads: private:C and shared:C (C clients; shared: a common system message of about 500 tokens, new in each round),
sampled:C (private, at temperature 1: texts that do not repeat themselves; greedy ones of a small model do),
stall:C (a prompt of about 3,800 tokens comes while C streams decode), neighbour:C (private, beside a busy process), copy:1
(one client has texts edited), cancel:C (hang-ups, in the prefill of a long prompt and of C streams).

Beside `cy-llm serve` there are: with --peer llama-server; with --baseline-option another of ours, with these keys of the
registry entry (and of another build); with --chain gateway, coordinator and worker as processes of their own. Ratios are to
the first of llama-server, the baseline and serve, and the chain's to serve too. With --ideal, llama.cpp's own bench tool
takes its turn in private:C: its tokens/s is what it would take to compute the same prompts in chunks of 64 and then the same
answers, all C at a time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import workloads

# Student's t, two-sided 95 %, by degrees of freedom.
T95 = [0, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13]
CLOCK = os.sysconf("SC_CLK_TCK")


class Server:
    def __init__(self, name: str, commands: list[list[str]], port: int, log: Path, ready: str):
        self.name, self.port = name, port
        self.log = log.open("wb")
        self.processes = [subprocess.Popen(command, stdout=self.log, stderr=self.log) for command in commands]
        for _ in range(600):
            if any(p.poll() is not None for p in self.processes):
                sys.exit(f"{name} ended at once; its log: {log}\n{log.read_text(errors='replace')[-2000:]}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{ready}", timeout=1).read()
                break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit(f"{name} did not start; its log: {log}")
        workloads.closed(port, "warm", 1, 1)

    def cpu(self) -> float:
        stats = [Path(f"/proc/{p.pid}/stat").read_text().rsplit(")", 1)[1].split() for p in self.processes]
        return sum(int(fields[11]) + int(fields[12]) for fields in stats) / CLOCK

    def threads_cpu(self) -> float:
        """Of the threads that there are, finer than cpu()."""
        stats = [f.read_text().split() for p in self.processes for f in Path(f"/proc/{p.pid}/task").glob("*/schedstat")]
        return sum(int(fields[0]) for fields in stats) / 1e9

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_ours(args: argparse.Namespace, folder: Path, name: str, binary: str, options: str, chain: bool) -> Server:
    registry = folder / f"{name}.json"
    entry = {"model_path": args.model, "engine": "llama_cpp", "max_num_seqs": args.sequences, "max_model_len": args.context,
             "kv_cache_mib": args.kv_mib, **json.loads(options)}  # fmt: skip
    registry.write_text(json.dumps({"default": entry}))
    port = free_port()
    listen = ["--listen", f"127.0.0.1:{port}"]
    engine = ["--registry", str(registry), "--threads", str(args.threads), "--preload"]
    commands = [["serve", *listen, *engine]]
    if chain:
        coordinator, worker = free_port(), free_port()
        commands = [["worker", "--port", str(worker), "--health-port", "-1", *engine],
                    ["coordinator", "--listen", f"127.0.0.1:{coordinator}", "--http-listen", "off", "--workers", f"127.0.0.1:{worker}"],
                    ["gateway", *listen, "--coordinator", f"127.0.0.1:{coordinator}"]]  # fmt: skip
    commands = [[binary, *command, "--log-level", "warn"] for command in commands]
    return Server(name, commands, port, folder / f"{name}.log", "ready")


def start_peer(args: argparse.Namespace, folder: Path) -> Server:
    port = free_port()
    total = args.sequences * args.context
    peer = [args.peer, "-m", args.model, "--host", "127.0.0.1", "--port", str(port), "-t", str(args.threads),
            "-np", str(args.sequences), "-c", str(total), "-fa", "on", "--no-kv-unified", "-cram", "0", "--no-ui",
            "--log-disable", *args.peer_option]  # fmt: skip
    return Server("llama-server", [peer], port, folder / "peer.log", "health")


def start(args: argparse.Namespace, folder: Path) -> list[Server]:
    servers = [start_peer(args, folder)] if args.peer else []
    if args.baseline_option is not None:
        binary = args.baseline_binary or args.binary
        servers.append(start_ours(args, folder, "baseline", binary, args.baseline_option, chain=False))
    servers.append(start_ours(args, folder, "cy-llm", args.binary, args.ours_option, chain=False))
    if args.chain:
        servers.append(start_ours(args, folder, "chain", args.binary, args.ours_option, chain=True))
    return servers


def ideal(args: argparse.Namespace, clients: int) -> dict[str, float]:
    """Tokens/s of llama.cpp's own bench tool: of prompts in chunks of 64, of answers that are computed together."""
    run = subprocess.run([args.ideal, "-m", args.model, "-t", str(args.threads), "-c", str(256 * clients), "-b", "64", "-ub", "64",
                          "-fa", "on", "-npp", "160", "-ntg", "64", "-npl", str(clients), "--output-format", "jsonl"],
                         check=True, capture_output=True, text=True)  # fmt: skip
    return json.loads(run.stdout)


def share_of_ideal(row: dict[str, float], tool: dict[str, float]) -> float:
    took = row["prompt tokens computed"] / tool["speed_pp"] + row["output tokens"] / tool["speed_tg"]
    return row["steady tokens/s"] * took / row["output tokens"]


def busy() -> float:
    fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / CLOCK


def measure(server: Server, workload: str, round_: str, requests: int) -> dict[str, float]:
    kind, _, count = workload.partition(":")
    clients = int(count)
    neighbour = None
    if kind == "neighbour":
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    cpu, all_cpu, own, wall = server.cpu(), busy(), time.process_time(), time.monotonic()
    try:
        if kind in ("private", "neighbour"):
            out = workloads.closed(server.port, round_, clients, max(requests, 2 * clients))
        elif kind == "sampled":
            out = workloads.closed(server.port, round_, clients, max(requests, 2 * clients), temperature=1)
        elif kind == "shared":
            out = workloads.closed(server.port, round_, clients, 2 * clients, prompt=30, shared=330)
        elif kind == "copy":
            out = workloads.copy(server.port, round_, max(1, requests // 4))
        elif kind == "cancel":
            out = workloads.cancel(server.port, round_, clients, server.threads_cpu)
        elif kind == "stall":
            out = workloads.stall(server.port, round_, clients)
        else:
            sys.exit(f"no such workload: {workload}")
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()
    took = time.monotonic() - wall
    cpu = server.cpu() - cpu
    out["CPU cores"] = cpu / took
    out["others' CPU %"] = 100 * (busy() - all_cpu - cpu - (time.process_time() - own)) / took
    return out


def interval(ratios: list[float]) -> tuple[float, float, float]:
    logs = [math.log(r) for r in ratios]
    mean = statistics.fmean(logs)
    half = 0.0
    if len(logs) > 1:
        half = T95[min(len(logs) - 1, len(T95) - 1)] * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def report(workload: str, turns: int, rows: dict[str, list[dict[str, float]]]) -> None:
    first, *others = rows
    against = [(name, first) for name in others]
    if "chain" in rows and first != "cy-llm":
        against.append(("chain", "cy-llm"))
    print(f"\n{workload}, {turns} turns".ljust(35) + "".join(f"{name:>14}" for name in rows)
          + "".join(f"{f'{a} / {b}':>30}" for a, b in against))  # fmt: skip
    for key in rows[first][0]:
        values = {name: [r[key] for r in of] for name, of in rows.items()}
        line = f"  {key:32}" + "".join(f"{statistics.median(v):14.{2 if key == 'of the ideal' else 1}f}" for v in values.values())
        for a, b in against:
            if all(x > 0 for x in values[a] + values[b]) and "CPU %" not in key:
                mean, low, high = interval([y / x for y, x in zip(values[a], values[b])])
                line += f"{f'{mean:.3f} ({low:.3f} to {high:.3f})':>30}"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--peer", help="llama-server (bench/engine/peer builds it)")
    parser.add_argument("--ideal", help="llama-batched-bench (bench/engine/peer builds it)")
    parser.add_argument("--baseline-option", help="another of ours, with these keys, as JSON")
    parser.add_argument("--binary", default=str(Path(__file__).parents[2] / "build/release/bin/cy-llm"))
    parser.add_argument("--baseline-binary", help="of another build; default: --binary")
    parser.add_argument("--chain", action="store_true", help="ours as three processes, too")
    parser.add_argument("--workload", action="append", help="default: private:1 private:8 private:16 shared:16 stall:8")
    parser.add_argument("--pairs", type=int, default=7, help="turns")
    parser.add_argument("--requests", type=int, default=24, help="requests of a private run, at least two per client")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--context", type=int, default=1024, help="tokens per sequence")
    parser.add_argument("--kv-mib", type=int, default=2048, help="ours: what the KV cache may take, with prefixes kept")
    parser.add_argument("--peer-option", action="append", default=[])
    parser.add_argument("--ours-option", default="{}", help="more keys of the registry entry, as JSON")
    parser.add_argument("--round", default="0", help="another name, other prompts")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not (args.peer or args.baseline_option or args.chain):
        parser.error("one of --peer, --baseline-option and --chain: what to compare with")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # the servers end too
    args.model = str(Path(args.model).resolve())
    everything: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        servers = start(args, Path(folder))
        try:
            for workload in args.workload or ["private:1", "private:8", "private:16", "shared:16", "stall:8"]:
                rows: dict[str, list[dict[str, float]]] = {s.name: [] for s in servers}
                for pair in range(args.pairs):
                    for server in servers if pair % 2 == 0 else servers[::-1]:
                        rows[server.name].append(measure(server, workload, f"{args.round}.{workload}.{pair}", args.requests))
                    kind, _, count = workload.partition(":")
                    if args.ideal and kind == "private":
                        tool = ideal(args, int(count))
                        for of in rows.values():
                            of[-1]["of the ideal"] = share_of_ideal(of[-1], tool)
                everything[workload] = rows
                report(workload, args.pairs, rows)
        finally:
            for server in servers:
                server.stop()
    if args.json:
        args.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
