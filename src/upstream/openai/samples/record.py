#!/usr/bin/env python3
"""record.py URL|unix:PATH FOLDER: asks a server what samples_test.cc reads, and writes down what it says; ids, times and
paths are masked, of metrics the load is kept. An error on a stream (status 200) is an .sse too. Needs httpx
(tests/requirements.txt)."""

import re
import sys
from pathlib import Path

import httpx

CITY = {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "weather", "strict": True, "parameters": CITY}}
SAY = {"messages": [{"role": "user", "content": "Say hello."}]}
STREAM = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0, "max_tokens": 3}
IDS = {"return_token_ids": True}

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASKED = {
    "chat.sse": (CHAT, STREAM | SAY),
    "chat_ids.sse": (CHAT, STREAM | SAY | IDS),
    "chat_logprobs.sse": (CHAT, STREAM | SAY | {"logprobs": True, "top_logprobs": 1}),
    "n.sse": (CHAT, STREAM | SAY | {"n": 2, "temperature": 1, "top_k": 1}),
    "completion.sse": (TEXT, STREAM | {"prompt": "one two"}),
    "completion_ids.sse": (TEXT, STREAM | {"prompt": "one two"} | IDS),
    "completion_logprobs.sse": (TEXT, STREAM | {"prompt": "one two", "logprobs": 1}),
    "stop.sse": (CHAT, STREAM | SAY | {"max_tokens": 24, "stop": ["o"]}),
    "tools.sse": (CHAT, STREAM | SAY | {"max_tokens": 48, "tools": [TOOL], "tool_choice": "required"}),
    "too_long.json": (CHAT, STREAM | {"messages": [{"role": "user", "content": "word " * 9000}]}),
    "bad_token.json": (TEXT, STREAM | {"prompt": [10**6]}),
    "bad_temperature.json": (CHAT, STREAM | SAY | {"temperature": -1}),
    "no_messages.json": (CHAT, STREAM),
    "no_model.json": (CHAT, STREAM | SAY | {"model": "no-such"}),
    "no_route.json": ("/v1/no-such", {}),
    "no_embeddings.json": ("/v1/embeddings", {"input": "a"}),
    "tokenize.json": ("/tokenize", {"prompt": "one two three"}),
    "models.json": ("/v1/models", None),
    "metrics.txt": ("/metrics", None),
}


def masked(text: str) -> str:
    text = re.sub(r'"id":\s*"(chatcmpl-tool|chatcmpl|cmpl|modelperm)-[^"]*"', r'"id":"\1-ID"', text)
    text = re.sub(r'"root":\s*"[^"]*"', '"root":"models/smol"', text)
    return re.sub(r'"created":\s*\d+', '"created":1', text)


def load(text: str) -> str:
    names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "requests_processing", "requests_deferred")
    return "".join(line + "\n" for line in text.splitlines() if not line.startswith("#") and re.search(rf"({'|'.join(names)})(\s|{{|$)", line))


def main(url: str, folder: Path):
    unix = url.startswith("unix:")
    http = httpx.Client(transport=httpx.HTTPTransport(uds=url[5:]) if unix else None, base_url="http://x" if unix else url, timeout=120)
    model = http.get("/v1/models").json()["data"][0]["id"]
    folder.mkdir(exist_ok=True)
    for name, (path, body) in ASKED.items():
        said = http.get(path) if body is None else http.post(path, json={"model": model} | body)
        print(name, said.status_code)
        name = name.replace(".json", ".sse") if "event-stream" in said.headers["content-type"] else name
        (folder / name).write_text(load(said.text) if name.endswith(".txt") else masked(said.text))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
