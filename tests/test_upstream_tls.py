"""Model servers over TLS: their certificate is checked, against the system's authorities or a given one; MindIE wants ours."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai
import pytest

from conftest import client
from support.process import http, wait_until
from test_tls import Authority

ANSWER = (Path(__file__).parent.parent / "src/upstream/openai/samples/mindie/chat.sse").read_bytes()


class Mindie(BaseHTTPRequestHandler):
    """What we ask of a MindIE: its health, its models, a chat."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, body: bytes, kind: str = "application/json"):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.seen.append((self.path, self.connection.getpeercert()))
        self.reply(json.dumps({"data": [{"id": "m", "owned_by": "MindIE Server"}]}).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.reply(ANSWER, "text/event-stream")


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


@pytest.fixture
def serve_tls():
    """serve_tls(certificate, ask=authority or None): a MindIE on a port of its own; (url, what it was asked)."""
    servers = []

    def begin(cert: dict, ask: str | None = None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert["CY_LLM_GRPC_TLS_CERT"], cert["CY_LLM_GRPC_TLS_KEY"])
        if ask:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(ask)
        server = Quiet(("127.0.0.1", 0), Mindie)
        server.seen = []
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return f"https://127.0.0.1:{server.server_address[1]}", server.seen

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("upstream-tls"), "ca")


@pytest.fixture
def router(start):
    def begin(url: str, **env: str):
        return start("serve", "--listen", "127.0.0.1:0", "--engine", "mindie", "--upstream", url, env=env, expect=("gateway",))

    return begin


def chat(process):
    return client(process.address("gateway")).chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])


def ready(process) -> bool:
    return http.get(process.address("gateway") + "/ready").status_code == 200


def test_a_server_of_our_authority_that_asks_for_our_certificate(serve_tls, router, ca):
    ours = ca.sign("router")
    url, seen = serve_tls(ca.sign("mindie"), ask=str(ca.path / "ca.pem"))
    process = router(url, CY_LLM_UPSTREAM_CA=str(ca.path / "ca.pem"), CY_LLM_UPSTREAM_CERT=ours["CY_LLM_GRPC_TLS_CERT"],
                     CY_LLM_UPSTREAM_KEY=ours["CY_LLM_GRPC_TLS_KEY"])  # fmt: skip
    wait_until(lambda: ready(process), what="/ready")
    done = chat(process)
    assert done.choices[0].message.content == "Hello you" and done.usage.prompt_tokens == 54
    path, peer = seen[0]
    assert path == "/v2/health/ready" and ((("commonName", "router"),),) == peer["subject"]


def test_who_shows_no_certificate_is_not_served(serve_tls, router, ca):
    url, seen = serve_tls(ca.sign("mindie"), ask=str(ca.path / "ca.pem"))
    process = router(url, CY_LLM_UPSTREAM_CA=str(ca.path / "ca.pem"))
    process.wait_log("does not serve")
    assert not ready(process) and not seen


@pytest.mark.parametrize("trust", ["another", "the system's"])
def test_a_server_of_another_authority_is_not_trusted(serve_tls, router, ca, trust):
    url, seen = serve_tls(Authority(ca.path, "evil").sign("impostor"))
    process = router(url, **({"CY_LLM_UPSTREAM_CA": str(ca.path / "ca.pem")} if trust == "another" else {}))
    process.wait_log("does not serve")
    with pytest.raises(openai.InternalServerError):
        chat(process)
    assert not ready(process) and not seen


def test_a_certificate_of_another_name_is_not_trusted(serve_tls, router, ca):
    url, seen = serve_tls(ca.sign("mindie"))
    process = router(url.replace("127.0.0.1", "127.0.0.2"), CY_LLM_UPSTREAM_CA=str(ca.path / "ca.pem"))
    process.wait_log("does not serve")
    assert not ready(process) and not seen
