"""The gateway against broken, slow and hostile clients, by raw sockets: each case with its one expected answer."""

import json
import os
import resource
import select
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack

import pytest

from conftest import registry
from support.process import Process, http, wait_until

ASK = {"model": "default", "messages": [{"role": "user", "content": "a b c"}]}
BODY = json.dumps(ASK).encode()
FAST = "[gateway]\nheader_timeout = 0.5\nbody_timeout = 0.5\nidle_timeout = 1.0\nwrite_stall = 0.5\n"


def serve(*args, **options) -> Process:
    return Process("serve", "--listen", "127.0.0.1:0", "--engine", "echo", *args,
                   env={"CY_LLM_MODEL_REGISTRY": registry(default=options)}, expect=("gateway",))  # fmt: skip


@pytest.fixture(scope="module")
def server():
    process = serve()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    """With short limits."""
    config = tmp_path_factory.mktemp("fast") / "config.toml"
    config.write_text(FAST)
    process = serve("--config", config)
    yield process
    process.kill()


@pytest.fixture
def url(server):
    yield server.address("gateway")
    healthy(server)


@pytest.fixture
def fast_url(fast):
    yield fast.address("gateway")
    healthy(fast)


def healthy(process: Process):
    assert process.alive(), process.log
    assert http.get(process.address("gateway") + "/health").json() == {"status": "ok"}


def dial(url: str, timeout: float = 30) -> socket.socket:
    host, port = url.split("://")[1].split(":")
    return socket.create_connection((host, int(port)), timeout=timeout)


def rest(s: socket.socket) -> bytes:
    out = b""
    try:
        while piece := s.recv(65536):
            out += piece
    except ConnectionError:
        pass
    return out


def ask(url: str, data: bytes, half_close: bool = True) -> bytes:
    """All that comes back until the server closes. With half_close the client says that it is done: to an answer under
    way it is gone then."""
    with dial(url) as s:
        try:
            s.sendall(data)
            if half_close:
                s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return rest(s)


def head(method: str = "GET", path: str = "/health", lines: str = "", version: str = "HTTP/1.1") -> bytes:
    return f"{method} {path} {version}\r\nHost: x\r\n{lines}\r\n".encode("latin-1")


def post(body: bytes = BODY, lines: str = "", path: str = "/v1/chat/completions") -> bytes:
    return head("POST", path, f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{lines}") + body


def status(reply: bytes) -> int:
    assert reply.startswith(b"HTTP/1.1 "), reply[:200]
    return int(reply[9:12])


def refused(url: str, data: bytes, *allowed: int):
    """One refusal with a JSON body, then the end: nothing of what follows is taken for a request."""
    reply = ask(url, data + head())
    assert status(reply) in (allowed or (400,)), reply[:300]
    assert reply.count(b"HTTP/1.1") == 1 and b"Connection: close" in reply and b'"error"' in reply


# ---- framing


@pytest.mark.parametrize(
    "lines",
    ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4",
     "Content-Length: 5\r\nContent-Length: 6", "Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5, 6",
     "Content-Length: +5", "Content-Length: -0", "Content-Length: 0x5", "Content-Length: 1_0", "Content-Length: 5 5",
     "Content-Length:", "Content-Length: 99999999999999999999", "Transfer-Encoding: chunked, identity",
     "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding:", "Transfer-Encoding: gzip, chunked",
     "X: a\r\n folded", "X : a", ": a", "X(: a", "NoColon", "Host: y", "X: a\x00b", "X: a\x01b", "X: a\rb"],
)  # fmt: skip
def test_ambiguous_heads_are_400(url, lines):
    refused(url, head("POST", "/v1/chat/completions", lines + "\r\n"), 400)


@pytest.mark.parametrize("coding", ["xchunked", "identity", "gzip"])
def test_unknown_codings_are_400(url, coding):
    refused(url, head("POST", "/v1/chat/completions", f"Transfer-Encoding: {coding}\r\n"), 400)


@pytest.mark.parametrize(
    "body",
    [b"x\r\n", b" 3\r\nabc\r\n", b"0x3\r\nabc\r\n", b"-1\r\n", b"+3\r\nabc\r\n", b"ffffffffffffffffff\r\n", b"3\nabc\r\n", b"3\r\nabcd\r\n",
     b"3\r\nabc\n0\r\n\r\n", b"3\r\rabc", b"3;" + b"x" * 65536 + b"\r\nabc\r\n", b"0\r\nA: b\n\r\n", b"0\r\n A: b\r\n\r\n"],
)  # fmt: skip
def test_malformed_chunks_are_400(url, body):
    refused(url, head("POST", "/v1/chat/completions", "Transfer-Encoding: chunked\r\n") + body, 400)


def test_a_missing_host_is_400_and_http10_needs_none(url):
    assert status(ask(url, b"GET /health HTTP/1.1\r\n\r\n")) == 400
    assert status(ask(url, b"GET /health HTTP/1.0\r\n\r\n")) == 200
    assert status(ask(url, b"POST /v1/chat/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")) == 400


def test_smuggled_requests_are_never_answered(url):
    both = head("POST", "/v1/chat/completions", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n")
    assert ask(url, both + b"0\r\n\r\nG" + head()).count(b"HTTP/1.1") == 1
    # What a refused request brought along is not the next request.
    early = ask(url, post(head(), path="/nothing") + head(lines="Connection: close\r\n"))
    assert [status(b"HTTP/1.1" + part) for part in early.split(b"HTTP/1.1")[1:]] == [404, 200]


# ---- the request line


@pytest.mark.parametrize(
    ("line", "code"),
    [(b"GET /health http/1.1", 400), (b"GET /health HTTP/2.0", 400), (b"GET /health", 400), (b"GET  /health HTTP/1.1", 400),
     (b"GET /he alth HTTP/1.1", 400), (b"GET /h\x01 HTTP/1.1", 400), (b"GET /h\xc3\xa9 HTTP/1.1", 400), (b"GET health HTTP/1.1", 400),
     (b"GET /health HTTP/1.2", 200), (b"GET http://x/health HTTP/1.1", 200), (b"GET //health HTTP/1.1", 404), (b"GET /../health HTTP/1.1", 404),
     (b"GET /%00 HTTP/1.1", 404), (b"GET /v1/models/%0d%0aX:y HTTP/1.1", 404), (b"OPTIONS * HTTP/1.1", 204), (b"TRACE /health HTTP/1.1", 405),
     (b"BREW /health HTTP/1.1", 405), (b"CONNECT x:1 HTTP/1.1", 405), (b"A" * 100_000 + b" / HTTP/1.1", 400)],
)  # fmt: skip
def test_request_lines(url, line, code):
    reply = ask(url, line + b"\r\nHost: x\r\n\r\n")
    assert status(reply) == code


def test_long_lines_and_many_headers(url):
    assert status(ask(url, head(path="/health?" + "a" * 8000))) == 200
    assert status(ask(url, head(path="/" + "a" * 20_000))) == 414
    assert status(ask(url, head(path="/" + "a" * 200_000))) == 414
    assert status(ask(url, head(lines="X: " + "a" * 100_000 + "\r\n"))) == 431
    assert status(ask(url, head(lines="".join(f"X-{i}: y\r\n" for i in range(101))))) == 431
    assert status(ask(url, head(lines="".join(f"X-{i}: y\r\n" for i in range(90))))) == 200


@pytest.mark.parametrize("data", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
                                  bytes(range(256)) * 4, b"\x00" * 1000, b"{}\r\n\r\n"])  # fmt: skip
def test_other_protocols_are_refused(url, data):
    reply = ask(url, data)
    assert status(reply) == 400


def test_request_ids_cannot_break_headers_or_the_log(server, url):
    reply = ask(url, head(lines="X-Request-Id: fine-1\r\n"))
    assert b"X-Request-Id: fine-1\r\n" in reply
    for bad in ("a b", 'a"b', "é", "x" * 200):
        reply = ask(url, head(lines=f"X-Request-Id: {bad}\r\n"))
        assert bad.encode("latin-1") not in reply and b"X-Request-Id: req-" in reply


# ---- bodies


def test_limits_of_bodies(url):
    big = head("POST", "/v1/chat/completions", "Content-Type: application/json\r\nContent-Length: 999999999\r\n")
    with dial(url) as s:
        s.sendall(big)
        assert status(rest(s)) == 413
    with dial(url) as s:
        s.sendall(big.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        reply = rest(s)
        assert status(reply) == 413 and b" 100 " not in reply


def test_an_announced_body_takes_no_memory(server, url):
    def rss():
        return int(next(l for l in open(f"/proc/{server.pid}/status") if l.startswith("VmRSS")).split()[1])

    before = rss()
    with ExitStack() as stack:
        for _ in range(50):
            s = stack.enter_context(dial(url))
            s.sendall(head("POST", "/v1/chat/completions", "Content-Length: 30000000\r\n") + b"{")
        wait_until(lambda: http.get(url + "/health").status_code == 200)
        assert rss() - before < 20_000, "KiB"


def test_expectations(url):
    with dial(url) as s:
        begin = time.monotonic()
        s.sendall(post(b"", "Expect: 100-continue\r\n").replace(b"Content-Length: 0", b"Content-Length: %d" % len(BODY)))
        assert s.recv(100).startswith(b"HTTP/1.1 100") and time.monotonic() - begin < 10
        s.sendall(BODY)
        assert s.recv(100).startswith(b"HTTP/1.1 200")
    assert status(ask(url, post(lines="Expect: magic\r\n"))) == 417


def test_compressed_bodies_are_415(url):
    assert status(ask(url, post(lines="Content-Encoding: gzip\r\n"))) == 415


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/v1/rerank",
                                  "/tokenize", "/detokenize", "/api/chat", "/api/generate", "/api/embed", "/api/show", "/api/v1/inference"])  # fmt: skip
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"\xff\xfe{}", b'{"model":"\xc3("}', b'{"model":"\\ud800"}', b"[" * 100_000, b'{"a":' * 100_000,
     b'{"tools":[{"type":"function","function":{"name":"f","parameters":' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}}]}",
     b'{"temperature":1e999,"options":{"temperature":1e999}}', b'{"max_tokens":NaN}', b'{"a":1}{"b":2}', b"\x00"],
)  # fmt: skip
def test_bodies_that_are_none(url, path, body):
    begin = time.monotonic()
    reply = ask(url, post(body, path=path))
    assert 400 <= status(reply) < 500 and len(reply) < 4096 and time.monotonic() - begin < 10


@pytest.mark.parametrize(
    "fields",
    [{"n": 10**9}, {"max_tokens": 2**63}, {"top_logprobs": 10**6, "logprobs": True}, {"stop": ["x"] * 10**5}, {"seed": 2**64},
     {"max_tokens": 1.5}, {"logit_bias": {"1": 1e308}}, {"n": -1}, {"min_tokens": -1}, {"top_k": 2**40}],
)  # fmt: skip
def test_numbers_beyond_the_caps_are_400(url, fields):
    reply = http.post(url + "/v1/chat/completions", json=ASK | fields)
    assert reply.status_code == 400 and reply.json()["error"]["param"] in fields


def test_odd_but_proper_json(url):
    raw = b'{"model":"default","model":"nope","messages":[{"role":"user","content":"x"}]}'
    assert status(ask(url, post(raw))) == 404, "the last of two counts"
    raw = b'{"max_tokens":2.0,"messages":[{"role":"user","content":"a\\u0000b c d"}]}'
    reply = ask(url, post(raw, "Connection: close\r\n"), half_close=False)
    assert status(reply) == 200 and b"\\u0000" in reply


def test_a_prompt_of_many_megabytes(url):
    text = "word " * (3 << 20)
    reply = http.post(url + "/v1/chat/completions", json=ASK | {"messages": [{"role": "user", "content": text}], "max_tokens": 1})
    assert reply.status_code == 200 and reply.json()["choices"][0]["message"]["content"] == "word"


# ---- time


def test_slow_heads_are_cut_off_and_others_served(fast_url):
    with dial(fast_url) as s:
        begin = time.monotonic()
        for byte in head():
            s.sendall(bytes([byte]))
            assert http.get(fast_url + "/health").status_code == 200
            if select.select([s], [], [], 0.05)[0]:
                break
        assert status(rest(s)) == 408 and time.monotonic() - begin < 5


def test_silent_connections_are_closed(fast_url):
    with dial(fast_url) as s:
        assert rest(s) == b""


def test_slow_bodies_are_cut_off(fast_url):
    with dial(fast_url) as s:
        s.sendall(head("POST", "/v1/chat/completions", "Content-Length: 100\r\n") + b"{")
        assert status(rest(s)) == 408
    with dial(fast_url) as s:
        s.sendall(head("POST", "/v1/chat/completions", "Transfer-Encoding: chunked\r\n") + b"5\r\n{")
        assert status(rest(s)) == 408


def test_idle_connections_end_silently(fast_url):
    with dial(fast_url) as s:
        s.sendall(head())
        reply = rest(s)  # up to the close
        assert status(reply) == 200 and reply.count(b"HTTP/1.1") == 1 and b"Keep-Alive: timeout=1\r\n" in reply


def test_a_reader_that_stops_is_cut_off_and_memory_stays_flat(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(FAST)
    process = serve("--config", config)
    try:
        url = process.address("gateway")
        assert http.get(url + "/health").status_code == 200

        def rss():
            return int(next(l for l in open(f"/proc/{process.pid}/status") if l.startswith("VmRSS")).split()[1])

        def metric(name):
            lines = http.get(url + "/metrics").text.splitlines()
            return sum(float(l.split()[-1]) for l in lines if l.startswith(name))

        http.post(url + "/v1/chat/completions", json=ASK)
        before = rss()
        word = "w" * 2000
        body = json.dumps({"messages": [{"role": "user", "content": word}], "stream": True, "max_tokens": 10_000_000}).encode()
        with ExitStack() as stack:
            for _ in range(8):
                s = stack.enter_context(dial(url))
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                s.sendall(post(body))
            wait_until(lambda: metric("gateway_client_hangups_total") >= 8, what="the readers to be cut off")
            wait_until(lambda: metric("worker_inflight_requests") == 0, limit=20, what="their requests to be cancelled")
            assert rss() - before < 30_000, "KiB"
        healthy(process)
    finally:
        process.kill()


# ---- connections


def test_pipelined_requests_are_answered_in_order(url):
    reply = ask(url, head() * 20 + head(lines="Connection: close\r\n"))
    assert reply.count(b'{"status":"ok"}') == 21
    stream = post(json.dumps(ASK | {"stream": True}).encode())
    reply = ask(url, stream + head(lines="Connection: close\r\n"), half_close=False)
    assert reply.index(b"[DONE]") < reply.index(b'{"status":"ok"}')


def test_head_and_options(url):
    reply = ask(url, head("HEAD", lines="Connection: close\r\n"))
    assert status(reply) == 200 and reply.endswith(b"\r\n\r\n")
    for path in ("/v1/chat/completions", "/v1/models", "/nothing", "/api/chat"):
        assert status(ask(url, head("OPTIONS", path))) == 204


@pytest.mark.parametrize("stream", [False, True])
def test_200_clients_that_vanish_free_the_engine(stream):
    process = serve(itl_ms=5)
    try:
        url = process.address("gateway")
        body = json.dumps(ASK | {"stream": stream, "max_tokens": 1_000_000}).encode()
        sockets = [dial(url) for _ in range(200)]
        for s in sockets:
            s.sendall(post(body))
        gauge = lambda: [l for l in http.get(url + "/metrics").text.splitlines() if l.startswith("gateway_inflight_requests")]  # noqa: E731
        wait_until(lambda: float(gauge()[0].split()[-1]) > 100, what="half of them to run, the others in any phase")
        for s in sockets:
            s.close()
        begin = time.monotonic()
        assert http.post(url + "/v1/chat/completions", json=ASK).status_code == 200
        assert time.monotonic() - begin < 5
        wait_until(lambda: float(gauge()[0].split()[-1]) == 0, limit=5, what="all of them to be gone")
        healthy(process)
    finally:
        process.kill()


@pytest.mark.long
def test_10000_idle_connections(server):
    """Each takes at most 20 KiB, while requests are served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 11_000:
        pytest.skip(f"only {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    process = serve()
    try:
        url = process.address("gateway")

        def rss():
            return int(next(l for l in open(f"/proc/{process.pid}/status") if l.startswith("VmRSS")).split()[1])

        http.post(url + "/v1/chat/completions", json=ASK)
        before, count = rss(), 10_000
        with ExitStack() as stack:
            idle = []
            for n in range(count):
                s = stack.enter_context(dial(url))
                s.sendall(post() if n % 10 == 0 else head())
                idle.append(s)
                if len(idle) % 200 == 0:
                    for one in idle[-200:]:
                        assert one.recv(4096).startswith(b"HTTP/1.1 200")
            each = (rss() - before) / count
            print(f"\n{each:.1f} KiB for each of {count} idle connections")
            assert each <= 20
            took = []
            for _ in range(50):
                begin = time.monotonic()
                assert http.post(url + "/v1/chat/completions", json=ASK).status_code == 200
                took.append(time.monotonic() - begin)
            assert sorted(took)[-3] < 0.5
        healthy(process)
    finally:
        process.kill()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_keys_are_refused_alike(start):
    process = start("serve", "--listen", "127.0.0.1:0", "--engine", "echo", env={"GATEWAY_API_TOKEN": "right-key"}, expect=("gateway",))
    url = process.address("gateway")
    replies = set()
    for lines in ("", "Authorization: Bearer wrong\r\n", "Authorization: Bearer\r\n", "Authorization: Basic x\r\n", "X-Api-Key: right-ke\r\n"):
        reply = ask(url, post(lines=lines + "X-Request-Id: r\r\n"))
        assert status(reply) == 401 and b"WWW-Authenticate: Bearer" in reply
        replies.add(reply)
    assert len(replies) == 1
    for key in ("right-key", "right-ke", "wrong"):
        assert key not in process.log
    proper = post(lines="Authorization: bearer right-key\r\nConnection: close\r\n")
    assert status(ask(url, proper, half_close=False)) == 200


def test_answers_are_never_compressed(url):
    lines = "Accept-Encoding: gzip, br, zstd\r\nConnection: close\r\n"
    for stream in (True, False):
        reply = ask(url, post(json.dumps(ASK | {"stream": stream}).encode(), lines), half_close=False)
        assert status(reply) == 200 and b"content-encoding" not in reply.lower() and b'"content":' in reply


def test_connections_outlive_the_pools_of_clients(url):
    with dial(url) as s:
        s.sendall(head())
        reply = s.recv(4096)
    assert b"Keep-Alive: timeout=180\r\n" in reply


def test_prompts_in_the_log_are_announced(start, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("[gateway]\nlog_prompts = true\n")
    process = start("serve", "--listen", "127.0.0.1:0", "--engine", "echo", "--config", config, expect=("gateway",))
    process.wait_log("the log holds what users write")
    http.post(process.address("gateway") + "/v1/chat/completions", json=ASK)
    process.wait_log("a b c")


def test_new_paths_make_no_new_metrics(url):
    before = len(http.get(url + "/metrics").text.splitlines())
    for n in range(50):
        http.get(f"{url}/nothing-{n}")
        http.post(url + "/v1/chat/completions", json=ASK | {"model": f"none-{n}"})
    assert len(http.get(url + "/metrics").text.splitlines()) - before < 100


# ---- reload and TLS


def certificate(folder, name: str):
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)  # fmt: skip
    return cert, key


def name_of(url: str) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(dial(url)) as s:
        return s.getpeercert(binary_form=True)


def test_tls_and_new_certificates_without_a_restart(start, tmp_path):
    cert, key = certificate(tmp_path, "one")
    process = start("serve", "--listen", "127.0.0.1:0", "--engine", "echo", "--tls-certificate", cert, "--tls-key", key,
                    env={"CY_LLM_MODEL_REGISTRY": registry(default={"itl_ms": 20})}, expect=("gateway",))  # fmt: skip
    url = process.address("gateway")
    assert url.startswith("https://")
    context = ssl.create_default_context(cafile=str(cert))
    body = json.dumps(ASK | {"stream": True, "max_tokens": 100}).encode()
    with context.wrap_socket(dial(url), server_hostname="127.0.0.1") as s:
        s.sendall(post(body, "Connection: close\r\n"))
        reply = s.recv(65536)
        first = name_of(url)
        new_cert, new_key = certificate(tmp_path, "two")
        os.replace(new_key, key)
        os.replace(new_cert, cert)
        process.signal(1)
        process.wait_log("read again")
        assert name_of(url) != first
        while b"[DONE]" not in reply:
            piece = s.recv(65536)
            assert piece, "the stream broke off"
            reply += piece
        assert reply.startswith(b"HTTP/1.1 200")
    plain = ask(url, head())
    assert plain == b"" or not plain.startswith(b"HTTP/1.1 200")
    key.write_text("broken")
    process.signal(1)
    process.wait_log("nothing changed")
    name_of(url)  # still served


def test_a_client_that_leaves_a_tls_stream_is_noticed(start, tmp_path):
    cert, key = certificate(tmp_path, "one")
    process = start("serve", "--listen", "127.0.0.1:0", "--engine", "echo", "--tls-certificate", cert, "--tls-key", key,
                    env={"CY_LLM_MODEL_REGISTRY": registry(default={"itl_ms": 20})}, expect=("gateway",))  # fmt: skip
    url = process.address("gateway")
    context = ssl.create_default_context(cafile=str(cert))

    def running():
        with context.wrap_socket(dial(url), server_hostname="127.0.0.1") as m:
            m.sendall(head(path="/metrics", lines="Connection: close\r\n"))
            text = rest(m).decode()
        return float(next(l for l in text.splitlines() if l.startswith("gateway_inflight_requests")).split()[-1])

    for stream in (True, False):
        s = context.wrap_socket(dial(url), server_hostname="127.0.0.1")
        s.sendall(post(json.dumps(ASK | {"stream": stream, "max_tokens": 1_000_000}).encode()))
        wait_until(lambda: running() == 1, what="the request to run")
        s.close()
        wait_until(lambda: running() == 0, limit=10, what="it to be cancelled")


def test_configuration_reloads_without_dropping_a_stream(start, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('[gateway]\napi_token = "old"\n')
    process = start("serve", "--listen", "127.0.0.1:0", "--engine", "echo", "--config", config,
                    env={"CY_LLM_MODEL_REGISTRY": registry(default={"itl_ms": 20})}, expect=("gateway",))  # fmt: skip
    url = process.address("gateway")
    with dial(url) as s:
        s.sendall(post(json.dumps(ASK | {"stream": True, "max_tokens": 60}).encode(), "Authorization: Bearer old\r\nConnection: close\r\n"))
        assert select.select([s], [], [], 20)[0]
        config.write_text('[gateway]\napi_token = "new"\nmodel_aliases = ["gpt=default"]\nmax_body_bytes = 2000\n')
        process.signal(1)
        process.wait_log("read again")
        assert status(ask(url, post(lines="Authorization: Bearer old\r\n"))) == 401
        aliased = json.dumps(ASK | {"model": "gpt"}).encode()
        assert status(ask(url, post(aliased, "Authorization: Bearer new\r\nConnection: close\r\n"), half_close=False)) == 200
        assert status(ask(url, post(b" " * 3000, "Authorization: Bearer new\r\n"))) == 413
        assert b"[DONE]" in rest(s)
    config.write_text("[gateway]\nno_such_key = 1\n")
    process.signal(1)
    process.wait_log("nothing changed")
    assert status(ask(url, post(lines="Authorization: Bearer new\r\nConnection: close\r\n"), half_close=False)) == 200


def test_the_echo_for_conformance_suites(start, tmp_path, url):
    config = tmp_path / "config.toml"
    config.write_text("[gateway]\necho_root = true\n")
    own = start("serve", "--listen", "127.0.0.1:0", "--engine", "echo", "--config", config, expect=("gateway",)).address("gateway")
    assert http.post(own + "/", content=b"x\x00y").content == b"x\x00y"
    assert http.post(url + "/", content=b"x").status_code == 405
