#!/usr/bin/env python3
"""What `"isolation": "process"` costs: echo in the worker's process and in one of its own, one `cy-llm serve`, asked in
turns. Prints medians over the rounds. Needs nothing but Python.

    bench/isolation.py [BINARY] [ROUNDS]"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

BINARY = sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parents[1] / "build/release/bin/cy-llm")
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 9
MODELS = {"within": {"engine": "echo", "reply_tokens": 20_000}, "apart": {"engine": "echo", "reply_tokens": 20_000, "isolation": "process"}}
TOKENS, STREAMS, CALLS = 5_000, 8, 100


def ask(address: tuple, model: str, tokens: int) -> int:
    """The number of events of one streamed answer."""
    connection = http.client.HTTPConnection(*address, timeout=120)
    body = {"model": model, "messages": [{"role": "user", "content": "one two three"}], "max_tokens": tokens, "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    events = connection.getresponse().read().count(b"data: ")
    connection.close()
    return events


def first_token(address, model) -> float:
    """Milliseconds of a request for one token: the median of many."""
    times = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        ask(address, model, 1)
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def rate(address, model, streams: int) -> float:
    """Tokens a second, of all streams together."""
    threads = [threading.Thread(target=ask, args=(address, model, TOKENS)) for _ in range(streams)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return streams * TOKENS / (time.perf_counter() - begin)


def main() -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("CY_LLM_")} | {"CY_LLM_MODEL_REGISTRY": json.dumps(MODELS)}
    serve = subprocess.Popen([BINARY, "serve", "--engine", "echo", "--listen", "127.0.0.1:0"], env=env, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    try:
        host, port = serve.stdout.readline().split("//")[1].strip().split(":")
        address = (host, int(port))
        for model in MODELS:
            assert ask(address, model, 10) >= 10, model
        seen: dict[tuple[str, str], list[float]] = {}
        for _ in range(ROUNDS):
            for what, measure in (("ms for one token", first_token), ("tokens/s, 1 stream", lambda a, m: rate(a, m, 1)),
                                  (f"tokens/s, {STREAMS} streams", lambda a, m: rate(a, m, STREAMS))):  # fmt: skip
                for model in MODELS:
                    seen.setdefault((what, model), []).append(measure(address, model))
        for (what, model), values in seen.items():
            print(f"{what:22} {model:7} median {statistics.median(values):10.2f}   min {min(values):10.2f}   max {max(values):10.2f}")
    finally:
        serve.terminate()
        serve.wait()


if __name__ == "__main__":
    main()
