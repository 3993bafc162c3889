"""What the gateway's port makes of strange, broken and hostile HTTP."""

import json
import random
import socket
import time

import httpx
import pytest

from conftest import registry
from support.process import Process, http, wait_until

ASK = {"model": "default", "messages": [{"role": "user", "content": "a b c"}]}


@pytest.fixture(scope="module")
def server():
    process = Process("serve", "--listen", "127.0.0.1:0", "--engine", "echo", expect=("gateway",))
    yield process
    process.kill()


@pytest.fixture
def url(server):
    yield server.address("gateway")
    assert server.alive(), server.log
    assert http.get(server.address("gateway") + "/health").json() == {"status": "ok"}


def raw(url: str, data: bytes, half_close: bool = False) -> bytes:
    """Everything that comes back; b"" when the connection is reset."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as s:
        out = b""
        try:
            s.sendall(data)
            if half_close:
                s.shutdown(socket.SHUT_WR)
            while piece := s.recv(65536):
                out += piece
        except ConnectionError:
            pass
        return out


def post(body: bytes, path: str = "/v1/chat/completions", headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_sse_framing_byte_by_byte(url):
    reply = raw(url, post(json.dumps(ASK | {"stream": True, "max_tokens": 3}).encode()))
    head, _, body = reply.partition(b"\r\n\r\n")
    head = head.decode().lower()
    assert head.startswith("http/1.1 200")
    assert "content-type: text/event-stream" in head and "cache-control: no-cache" in head
    assert "x-accel-buffering: no" in head and "content-length" not in head
    assert "transfer-encoding: chunked" in head
    text = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        text, body = text + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    frames = text.decode().split("\n\n")
    assert frames[-1] == "" and frames[-2] == "data: [DONE]"
    for frame in frames[:-2]:
        assert frame.startswith("data: {") and "\n" not in frame
        chunk = json.loads(frame[6:])
        assert chunk["object"] == "chat.completion.chunk" and isinstance(chunk["choices"], list)
    assert text.count(b'"finish_reason":"length"') == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405), ("PUT", "/v1/completions", 405), ("POST", "/v1/models", 405),
        ("POST", "/health", 405), ("GET", "/nothing", 404), ("GET", "/v1/models/none", 404), ("GET", "/../etc/passwd", 404),
        ("OPTIONS", "/v1/chat/completions", 204), ("HEAD", "/health", 200), ("GET", "/health?x=1", 200),
    ],
)  # fmt: skip
def test_paths_and_methods(url, method, path, status):
    reply = http.request(method, url + path)
    assert reply.status_code == status
    if status == 405:
        assert reply.headers["allow"]
    if status >= 400 and method != "HEAD":
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b'{"model": "\xc3\x28"}', b"{}" * 2, b"[" * 100_000,
     b'{"a":' * 50_000, b'{"messages": ' + b"[" * 200 + b"]" * 200 + b"}", b'{"max_tokens": 1e400}', b'{"n": -0}'],
)  # fmt: skip
def test_broken_bodies_are_400(url, body):
    reply = raw(url, post(body))
    assert reply.startswith(b"HTTP/1.1 400"), reply[:200]
    assert b'"error"' in reply and len(reply) < 4096


def test_form_data_is_refused(url):
    assert http.post(url + "/v1/chat/completions", data={"model": "default"}).status_code in (400, 415)


def test_a_body_of_100_mb_is_refused_before_it_is_read(url):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"
    reply = raw(url, head)
    assert reply.startswith(b"HTTP/1.1 413") and b"request_too_large" in reply
    reply = http.post(url + "/v1/chat/completions", content=b"[" + b" " * (33 << 20))
    assert reply.status_code == 413


def test_a_chunked_body_is_bounded_too(url):
    def pieces():
        for _ in range(40):
            yield b" " * (1 << 20)

    try:
        assert http.post(url + "/v1/chat/completions", content=pieces()).status_code == 413
    except httpx.TransportError:
        pass  # cut off in the middle of sending


def test_a_chunked_body_is_read(url):
    body = json.dumps(ASK).encode()
    reply = http.post(url + "/v1/chat/completions", content=iter([body[:10], body[10:]]))
    assert reply.json()["choices"][0]["message"]["content"] == "a b c"


def test_headers_are_bounded(url):
    assert raw(url, b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431")
    many = b"".join(b"X-%d: y\r\n" % i for i in range(10_000))
    assert raw(url, b"GET /health HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n").startswith(b"HTTP/1.1 431")


def test_two_requests_at_once_on_one_connection_are_answered_in_order(url):
    one = post(json.dumps(ASK).encode()).replace(b"Connection: close\r\n", b"")
    reply = raw(url, one + post(json.dumps(ASK | {"max_tokens": 1}).encode()))
    assert reply.count(b"HTTP/1.1 200") == 2
    assert reply.index(b'"a b c"') < reply.index(b'"content":"a"')


def test_smuggling_is_refused(url):
    both = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    reply = raw(url, both + b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", half_close=True)
    assert reply.count(b"HTTP/1.1 200") == 0


def test_a_client_that_goes_away_frees_the_engine(start):
    process = start("serve", "--listen", "127.0.0.1:0", "--engine", "echo",
                    env={"CY_LLM_MODEL_REGISTRY": registry(default={"itl_ms": 20})})  # fmt: skip
    url = process.address("gateway")
    running = lambda: any(  # noqa: E731
        line.startswith("worker_inflight_requests") and float(line.split()[-1]) > 0
        for line in http.get(url + "/metrics").text.splitlines()
    )
    for stream in (True, False):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as s:
            s.sendall(post(json.dumps(ASK | {"stream": stream, "max_tokens": 1_000_000}).encode()))
            wait_until(running, what="the engine to work")
        wait_until(lambda: not running(), limit=20, what="the engine to be free")


MORE_SEEDS = [pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 11)]


@pytest.mark.parametrize("seed", [20261123, *MORE_SEEDS])
def test_seeded_garbage(url, seed):
    """Mutations of a proper request: any answer but a crash, a hang, or a 5xx."""
    rng = random.Random(seed)
    proper = post(json.dumps(ASK | {"stream": True, "max_tokens": 2}).encode())
    begin = time.monotonic()
    for n in range(400):
        data = bytearray(proper)
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at : at + rng.randint(1, 20)]
            elif kind == 2:
                data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 20)))
            else:
                data[at:at] = data[at : at + rng.randint(1, 200)]
            if not data:
                break
        reply = raw(url, bytes(data), half_close=True)
        assert not reply or reply.startswith(b"HTTP/1."), (n, bytes(data), reply[:100])
        assert not reply.startswith(b"HTTP/1.1 5"), (n, bytes(data), reply[:300])
        if time.monotonic() - begin > 30:
            break
    assert n > 50, "too slow to mean anything"


@pytest.mark.parametrize("seed", [7, *MORE_SEEDS])
def test_seeded_json(url, seed):
    """Wrong types everywhere: 200 or an error that is OpenAI's, never a 5xx."""
    rng = random.Random(seed)
    values = [None, True, 0, -1, 2**63, 1.5, 1e308, "", "x", [], {}, [None], [[]], {"a": {}}, "\u0000", "\ud83d\ude00", "\ud83d", ["a", 1]]
    names = ["model", "messages", "stream", "stream_options", "n", "seed", "stop", "temperature", "top_p", "top_k", "max_tokens",
             "max_completion_tokens", "logprobs", "top_logprobs", "logit_bias", "tools", "tool_choice", "response_format",
             "presence_penalty", "frequency_penalty", "repetition_penalty", "prompt", "echo", "best_of", "suffix", "modalities",
             "priority", "stop_token_ids", "min_tokens", "ignore_eos", "chat_template_kwargs", "user"]  # fmt: skip
    with httpx.Client(base_url=url, timeout=30) as own:
        for n in range(500):
            path = rng.choice(["/v1/chat/completions", "/v1/completions"])
            body = ASK | {"prompt": "a b", "max_tokens": 2} | {rng.choice(names): rng.choice(values) for _ in range(rng.randint(1, 3))}
            reply = own.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
            assert reply.status_code in (200, 400, 404), (n, body, reply.text)
            if reply.status_code != 200:
                assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
