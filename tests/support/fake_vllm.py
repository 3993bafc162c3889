"""A vLLM that computes nothing: what vLLM 0.32 says and does on the wire, its traps included, without its weight.

Run like the real one: `fake_vllm.py serve MODEL --uds PATH ...` (or --host, --port). It answers with the words of the
last message. What goes wrong is chosen by that message: "fault: NAME words..."; see Handler.fault. How it lives and
dies is chosen by FAKE_VLLM_* variables; see Server. GET /fake tells its process ids, flags and requests."""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEEP_ALIVE = 5  # seconds; uvicorn's
ANSWER = 2  # the token after which the assistant speaks: what a chat's template ends with


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("serve")
    parser.add_argument("model")
    text = ["served-model-name", "uds", "host", "api-key", "tool-call-parser", "scheduling-policy", "quantization", "kv-cache-dtype",
            "dtype", "max-loras", "max-lora-rank"]  # fmt: skip
    for name in text:
        parser.add_argument(f"--{name}", default="")
    for name in ("port", "shutdown-timeout", "max-num-queued-reqs", "max-model-len", "max-num-seqs", "tensor-parallel-size",
                 "max-num-batched-tokens"):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--gpu-memory-utilization", type=float)
    parser.add_argument("--lora-modules", nargs="*")
    for name in ("enable-auto-tool-choice", "enable-prompt-tokens-details", "enforce-eager", "enable-scale-out", "enable-prefix-caching",
                 "no-enable-prefix-caching", "enable-lora", "trust-remote-code"):  # fmt: skip
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args(argv)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # as many may come at once as tests have threads

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.name = args.served_model_name or args.model
        self.state = "serving"  # draining, dead
        self.running = 0
        self.changed = threading.Condition()
        self.requests: list[dict] = []
        self.words: dict[int, str] = {}  # by their ids, as far as it has met them
        self.delay = float(os.environ.get("FAKE_VLLM_TOKEN_S", "0"))
        if args.uds:
            self.address_family = socket.AF_UNIX
        super().__init__(args.uds or (args.host or "127.0.0.1", args.port), Handler, bind_and_activate=False)
        self.server_bind()  # the socket's file is there long before anybody listens, and stays when all is over
        self.children = [
            subprocess.Popen([sys.executable, "-c", "import time\nwhile True: time.sleep(60)"], stdin=subprocess.DEVNULL)
            for _ in ("EngineCore", "Worker")
        ]
        time.sleep(float(os.environ.get("FAKE_VLLM_START_S", "0")))
        if os.environ.get("FAKE_VLLM_FAILS"):
            print("RuntimeError: Engine core initialization failed.", flush=True)
            sys.exit(1)
        self.server_activate()
        print(f"Starting vLLM server on {'unix:' + args.uds if args.uds else self.server_address}", flush=True)

    def server_bind(self):
        if self.address_family == socket.AF_UNIX:
            self.socket.bind(self.args.uds)
            self.server_name, self.server_port = "localhost", 0
        else:
            super().server_bind()

    def get_request(self):
        connection, address = super().get_request()
        return connection, address or ("unix", 0)

    def handle_error(self, request, client_address):
        pass

    def watch(self):
        """When one of its processes dies, so does everything within 2 s, with exit code 0."""
        while all(child.poll() is None for child in self.children):
            time.sleep(0.02)
        with self.changed:
            self.state = "dead"
            self.changed.notify_all()
        time.sleep(0.5)
        os._exit(0)

    def stop(self):
        """SIGTERM. Without --shutdown-timeout, open streams hang, and it hangs with them."""
        if not self.args.shutdown_timeout:
            with self.changed:
                self.state = "hanging"
                self.changed.notify_all()
            self.socket.close()
            for child in self.children:
                child.kill()
            with self.changed:
                self.changed.wait_for(lambda: self.running == 0)
            os._exit(0)
        with self.changed:
            self.state = "draining"
            self.changed.wait_for(lambda: self.running == 0, self.args.shutdown_timeout)
        for child in self.children:
            child.kill()
        os._exit(0)

    def run(self):
        threading.Thread(target=self.watch, daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=self.stop, daemon=True).start())
        try:
            self.serve_forever(poll_interval=0.05)
        except (OSError, ValueError):
            threading.Event().wait()  # its listener is closed; stop() ends the process


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = KEEP_ALIVE
    server: Server

    def log_message(self, *_):
        pass

    # ---- answers

    def reply(self, status: int, body, kind: str = "application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def error(self, status: int, message: str, kind: str = "BadRequestError", param=None):
        self.reply(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})

    def begin(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def chunk(self, text: str):
        self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
        self.wfile.flush()

    def event(self, data):
        self.chunk(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n")

    def error_event(self, status: int, message: str, kind: str):
        self.event({"error": {"message": message, "type": kind, "param": None, "code": status}})
        self.end()

    def end(self):
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    # ---- routes

    def do_GET(self):
        server = self.server
        if self.path.startswith("/v1/") and self.refuse_key():
            return
        if self.path == "/health":
            self.reply(503 if server.state == "dead" else 200, b"", "text/plain")
        elif self.path == "/v1/models":
            self.reply(200, {"object": "list", "data": [
                {"id": server.name, "object": "model", "created": 1795393057, "owned_by": "vllm", "root": os.environ.get("FAKE_VLLM_ROOT", server.args.model),
                 "parent": None, "max_model_len": server.args.max_model_len or 2048}]})  # fmt: skip
        elif self.path == "/metrics":
            lines = [f'vllm:num_requests_running{{engine="0",model_name="{server.name}"}} {float(server.running)}',
                     f'vllm:num_requests_waiting{{engine="0",model_name="{server.name}"}} 0.0',
                     f'vllm:kv_cache_usage_perc{{engine="0",model_name="{server.name}"}} 0.25']  # fmt: skip
            self.reply(200, "\n".join(lines).encode() + b"\n", "text/plain; version=0.0.4")
        elif self.path == "/fake":
            self.reply(200, {"pids": [os.getpid()] + [c.pid for c in server.children], "argv": sys.argv[1:], "env": dict(os.environ),
                             "running": server.running, "requests": server.requests, "fds": os.listdir("/proc/self/fd")})  # fmt: skip
        else:
            self.reply(404, {"detail": "Not Found"})

    def refuse_key(self) -> bool:
        key = self.server.args.api_key
        if not key or self.headers.get("authorization") == f"Bearer {key}":
            return False
        self.reply(401, {"error": "Unauthorized"})
        return True

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        if self.path.startswith("/v1/") and self.refuse_key():
            return
        server = self.server
        with server.changed:
            server.requests.append({"path": self.path, "body": body, "id": self.headers.get("x-request-id")})
            server.running += 1
            state, running = server.state, server.running
        try:
            if state == "draining":
                return self.error(500, "cannot schedule new futures after shutdown", "InternalServerError")
            if body.get("model", server.name) != server.name:
                return self.error(404, f"The model `{body['model']}` does not exist.", "NotFoundError", "model")
            if self.path in ("/v1/chat/completions", "/v1/completions"):
                limit = server.args.max_num_queued_reqs
                self.generate(body, overloaded=bool(limit) and running > limit)
            elif self.path == "/tokenize":
                text = body.get("prompt") or " ".join(m["content"] for m in body["messages"])
                ids = [self.identity(w) for w in text.split()] + ([] if "prompt" in body else [ANSWER])
                self.reply(200, {"count": len(ids), "max_model_len": 2048, "tokens": ids, "token_strs": None})
            elif self.path == "/detokenize":
                self.reply(200, {"prompt": " ".join(server.words.get(i, f"<{i}>") for i in body["tokens"])})
            elif self.path == "/v1/rerank":
                scores = [{"index": i, "document": {"text": d}, "relevance_score": len(d) / 100} for i, d in enumerate(body["documents"])]
                self.reply(200, {"id": "r", "model": server.name, "results": sorted(scores, key=lambda s: -s["relevance_score"]),
                                 "usage": {"total_tokens": 7}})  # fmt: skip
            elif self.path == "/v1/embeddings" and os.environ.get("FAKE_VLLM_EMBEDS"):
                data = [{"object": "embedding", "index": i, "embedding": base64.b64encode(struct.pack("<2f", len(t), 0.5)).decode()}
                        for i, t in enumerate(body["input"])]  # fmt: skip
                self.reply(200, {"object": "list", "model": server.name, "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}})
            else:
                self.reply(404, {"detail": "Not Found"})
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.changed:
                server.running -= 1
                server.changed.notify_all()

    def fault(self, name: str):
        """What goes wrong before or in an answer of three words."""
        if name == "500":
            self.error(500, "Internal error in /usr/lib/python3/secret.py", "InternalServerError")
        elif name == "garbage":
            self.wfile.write(b"\x00\x01garbage\r\n\r\n")
            self.close_connection = True
        elif name == "die-before":
            self.close_connection = True
        else:
            return False
        return True

    def wait_gone(self):
        """Until the client has closed, as uvicorn notices it."""
        self.connection.settimeout(60)
        try:
            self.connection.recv(1)
        except OSError:
            pass
        self.close_connection = True

    def hang(self):
        """As a stream of a vLLM whose engine was killed under it: no end, and nothing more."""
        self.wait_gone()

    # ---- generation

    def generate(self, body: dict, overloaded: bool):
        chat, done = self.path == "/v1/chat/completions", 0
        stream = body.get("stream", False)
        if body.get("temperature", 1) < 0:
            return self.error(400, "temperature must be non-negative, got -1.0.", param="temperature")
        if body.get("n", 1) > 1 and body.get("temperature") == 0:
            return self.error(400, "n must be 1 when using greedy sampling, got 2.", param="n")
        if not stream:
            return self.error(400, "this fake only streams")
        if chat:
            text = body["messages"][-1]["content"]
        else:
            prompt = body["prompt"]
            text = prompt if isinstance(prompt, str) else " ".join(self.server.words.get(i, f"t{i}") for i in prompt)
            if not isinstance(prompt, str) and ANSWER in prompt:  # a chat that was begun elsewhere
                done = len(prompt) - prompt.index(ANSWER) - 1
                text = " ".join(self.server.words[i] for i in prompt[: prompt.index(ANSWER)])
        words, name = text.split(), ""
        if words[:1] == ["fault:"]:
            name, words = words[1], words[2:] or ["one", "two", "three"]
        if self.fault(name):
            return None
        self.begin()
        if overloaded or name == "overloaded":
            return self.error_event(503, "Too many queued requests", "Service Unavailable")
        return Answer(self, body, chat, words, name, done).write()

    def identity(self, word: str) -> int:
        number = sum(word.encode()) + 1000 if len(word) < 3 else zlib.crc32(word.encode()) >> 4 | 1 << 20
        self.server.words[number] = word
        return number


class Answer:
    def __init__(self, handler: Handler, body: dict, chat: bool, words: list[str], fault: str, done: int):
        """`done`: of the words, said elsewhere."""
        self.handler, self.body, self.chat, self.fault = handler, body, chat, fault
        self.done = done
        limit = done + body.get("max_tokens", len(words))
        self.reason = "length" if limit < len(words) else "stop"
        self.words = words[:limit]
        self.ids = body.get("return_token_ids", False)
        self.prompt = [1, 2, 3]

    def chunk(self, choice: dict | None, **more):
        if os.environ.get("FAKE_VLLM_NEWER"):  # says things that nobody knows yet, beside all it says
            more |= {"new_of_chunk": {"at": [1.50, "}"]}}
            if choice:
                choice["new_of_choice"] = "ü"
                if choice.get("delta", {}).get("content"):
                    choice["delta"]["new_of_delta"] = len(choice["delta"]["content"])
            if "usage" in more:
                more["usage"]["cost"] = 0.25
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        self.handler.event({"id": "chatcmpl-x", "object": kind, "created": 1795393057, "model": self.handler.server.name,
                            "choices": [choice] if choice else [], **more})  # fmt: skip

    def piece(self, index: int, text: str, ids, reason=None, stop=None, logprobs=None):
        choice = {"index": index, "logprobs": logprobs, "finish_reason": reason, "stop_reason": stop, "token_ids": ids if self.ids else None}
        choice |= {"delta": {"content": text}} if self.chat else {"text": text}
        self.chunk(choice)

    def write(self):
        handler, server = self.handler, self.handler.server
        if self.chat:
            more = {"prompt_token_ids": self.prompt if self.ids else None, "prompt_text": None}
            for index in range(self.body.get("n", 1)):
                self.chunk({"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}, **more)
        choice = self.body.get("tool_choice")
        forced = self.chat and self.body.get("tools") and choice not in (None, "auto", "none")
        if forced:
            if not server.args.tool_call_parser:
                return handler.error_event(400, '"required" tool choice requires --tool-call-parser to be set', "BadRequestError")
            self.tool_call(choice)
        else:
            for index in range(self.body.get("n", 1)):
                if not self.text(index):
                    return None
        if (self.body.get("stream_options") or {}).get("include_usage"):
            tokens = (len(self.words) - self.done) * self.body.get("n", 1)
            usage = {"prompt_tokens": len(self.prompt), "total_tokens": len(self.prompt) + tokens, "completion_tokens": tokens}
            details = {"cached_tokens": 2, "created_cache_tokens": 0, "multimodal_tokens": None}
            usage["prompt_tokens_details"] = details if server.args.enable_prompt_tokens_details else None
            self.chunk(None, usage=usage, system_fingerprint="vllm-0.32.0-b6122487")
        return handler.end()

    def text(self, index: int) -> bool:
        """One choice; false when the stream is over already."""
        handler, server = self.handler, self.handler.server
        stops = self.body.get("stop") or []
        held = max((len(s) for s in stops), default=1) - 1
        shown, whole = 0, ""
        for i, word in enumerate(self.words):
            if i < self.done:
                whole += (" " if i else "") + word
                shown = len(whole)
                continue
            with server.changed:
                server.changed.wait_for(lambda: server.state in ("dead", "hanging"), server.delay)
                state = server.state
            if state == "hanging":
                handler.hang()
                return False
            if state == "dead" or (self.fault == "engine-dies" and i == 1):
                handler.error_event(500, "EngineCore encountered an issue. See stack trace (above) for the root cause.", "InternalServerError")
                return False
            if self.fault == "die" and i == 1:
                handler.close_connection = True
                return False
            if self.fault == "stall" and i == 1:
                handler.wait_gone()
                return False
            if self.fault == "garbage-event" and i == 1:
                handler.event("{not json")
                return False
            whole += (" " if i else "") + word
            found = [(whole.find(s), s) for s in stops if s in whole]
            if found:
                at, stop = min(found)
                self.piece(index, whole[shown:at], [handler.identity(word)], "stop", stop)
                return True
            last = i + 1 == len(self.words)
            upto = len(whole) if last and self.reason == "stop" else max(shown, len(whole) - held)
            logprobs = None
            if self.body.get("logprobs") is True:
                entry = {"token": word, "logprob": -0.5, "bytes": list(word.encode())}
                logprobs = {"content": [entry | {"top_logprobs": [entry] * self.body.get("top_logprobs", 0)}]}
            self.piece(index, whole[shown:upto], [handler.identity(word)], self.reason if last else None, logprobs=logprobs)
            shown = upto
        if not self.words:
            self.piece(index, "", [], "stop")
        return True

    def tool_call(self, choice):
        functions = {t["function"]["name"]: t["function"] for t in self.body["tools"]}
        named = isinstance(choice, dict)
        name = choice["function"]["name"] if named else next(iter(functions))
        # The schema is kept only where the tool is strict.
        arguments = '{"city": "Paris"}' if functions[name].get("strict") else '"gabenwelter"'
        call = {"id": "chatcmpl-tool-1", "type": "function", "index": 0, "function": {"name": name}}
        self.chunk({"index": 0, "delta": {"tool_calls": [call]}, "logprobs": None, "finish_reason": None, "token_ids": None})
        for part in (arguments[:5], arguments[5:]):
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}
            self.chunk({"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, "token_ids": None})
        self.chunk({"index": 0, "delta": {}, "finish_reason": "stop" if named else "tool_calls", "stop_reason": None, "token_ids": None})


if __name__ == "__main__":
    Server(arguments(sys.argv[1:])).run()
