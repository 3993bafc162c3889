"""Starting, configuring and ending each process."""

import json
import signal
import socket
import subprocess
import threading

import httpx
import pytest

from conftest import client, registry
from support.process import BINARY, http, run, wait_until

ECHO = ("--engine", "echo")

# What is wrong, how it is started, what stderr must name.
BAD = {
    "unknown flag": (["gateway", "--lissten", "x"], {}, ["--lissten", "--listen"]),
    "listen without port": (["gateway", "--listen", "localhost"], {}, ["--listen", "host:port"]),
    "gateway on a socket": (["gateway", "--listen", "unix:/x"], {}, ["--listen", "host:port"]),
    "public without token": (["gateway", "--listen", "0.0.0.0:0"], {}, ["0.0.0.0", "GATEWAY_API_TOKEN"]),
    "serve public without token": (["serve", "--listen", "0.0.0.0:0", *ECHO], {}, ["0.0.0.0", "GATEWAY_API_TOKEN"]),
    "public coordinator": (["coordinator", "--listen", "0.0.0.0:0"], {}, ["0.0.0.0", "CY_LLM_INTERNAL_TOKEN"]),
    "public worker": (["worker", "--host", "0.0.0.0", *ECHO], {}, ["0.0.0.0", "CY_LLM_INTERNAL_TOKEN"]),
    "no configuration file": (["gateway"], {"GATEWAY_LITE_CONFIG": "/nowhere/config.json"}, ["/nowhere/config.json"]),
    "timeout no number": (["gateway"], {"GATEWAY_REQUEST_TIMEOUT": "soon"}, ["GATEWAY_REQUEST_TIMEOUT", "number"]),
    "token with blanks": (["gateway"], {"GATEWAY_API_TOKEN": "a b"}, ["GATEWAY_API_TOKEN"]),
    "log level": (["gateway"], {"CY_LLM_LOG_LEVEL": "loud"}, ["CY_LLM_LOG_LEVEL", "debug"]),
    "bad coordinator": (["gateway"], {"COORDINATOR_GRPC_ADDR": "nowhere"}, ["COORDINATOR_GRPC_ADDR", "host:port"]),
    "bad worker": (["coordinator"], {"WORKER_GRPC_ADDRS": "a:1,b"}, ["WORKER_GRPC_ADDRS", "host:port"]),
    "port out of range": (["worker", "--port", "70000", *ECHO], {}, ["--port", "65535"]),
    "engine of the contract": (["worker"], {"CY_LLM_ENGINE": "cuda-vllm"}, ["cuda-vllm", "url", "model_path"]),
    "engine unknown": (["worker", "--engine", "magic"], {}, ["magic", "echo"]),
    "production without token": (["worker", *ECHO], {"CY_LLM_ENV": "production"}, ["CY_LLM_INTERNAL_TOKEN"]),
    "TLS": (["worker", *ECHO], {"CY_LLM_GRPC_TLS_CERT": "/c.pem"}, ["CY_LLM_GRPC_TLS_CERT"]),
    "adapter": (["serve", *ECHO], {"CY_LLM_DEFAULT_ADAPTER": "/lora"}, ["CY_LLM_DEFAULT_ADAPTER"]),
    "registry no JSON": (["worker", *ECHO], {"CY_LLM_MODEL_REGISTRY": "{"}, ["CY_LLM_MODEL_REGISTRY"]),
    "registry no file": (["worker", *ECHO, "--registry", "/nowhere/models.json"], {}, ["/nowhere/models.json"]),
    "registry key": (["worker", *ECHO], {"CY_LLM_MODEL_REGISTRY": registry(default={"colour": "red"})}, ["colour"]),
    "registry value": (["worker", *ECHO], {"CY_LLM_MODEL_REGISTRY": '{"m": {"engine": 7}}'}, ["engine"]),
    "no such command": (["serv"], {}, ["serv", "serve"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_configuration_refuses_to_start(case):
    args, env, named = BAD[case]
    done = run(*args, env=env, limit=20)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    for word in named:
        assert word in done.stderr
    if args[0] != "serv":
        checked = run(*args, "--check-config", env=env, limit=20)
        assert (checked.returncode, checked.stdout) == (2, "")


FILES = {
    "broken TOML": ("c.toml", "[gateway\nlisten = 1", ["c.toml", "line"]),
    "unknown key": ("c.toml", '[gateway]\nlisten = "127.0.0.1:0"\ntokn = "x"', ["tokn", "line 3", "gateway.api_token"]),
    "wrong type": ("c.toml", "[gateway]\nlisten = 8000", ["gateway.listen", "line 2"]),
    "out of range": ("c.toml", "[gateway]\nmax_connections = 0", ["gateway.max_connections", "1"]),
    "broken JSON": ("c.json", '{"api_token": ', ["c.json"]),
    "unknown JSON key": ("c.json", '{"apitoken": "x"}', ["apitoken", "api_token"]),
    "wrong JSON type": ("c.json", '{"request_timeout_sec": []}', ["request_timeout_sec"]),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_never_means_open_access(case, tmp_path):
    name, text, named = FILES[case]
    path = tmp_path / name
    path.write_text(text)
    for args, env in ((["--config", path], {}), ([], {"GATEWAY_LITE_CONFIG": str(path)})):
        done = run("gateway", *args, env=env, limit=20)
        assert done.returncode == 2 and done.stdout == ""
        for word in named:
            assert word in done.stderr


def test_secrets_are_never_shown(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('internal_token = "hidden-1"\n[gateway]\napi_token = "hidden-2"\n')
    shown = run("gateway", "--config", path, "--print-config")
    assert shown.returncode == 0 and "hidden" not in shown.stdout + shown.stderr
    path.write_text('[gateway]\napi_token = "hid den"\n')
    done = run("gateway", "--config", path)
    assert done.returncode == 2 and "hid den" not in done.stderr and "gateway.api_token" in done.stderr


@pytest.mark.parametrize("command", ["serve", "gateway", "coordinator", "worker"])
def test_what_print_config_shows_loads_again(command, tmp_path):
    shown = run(command, "--print-config", "--drain-timeout", "7")
    assert "drain_timeout = 7.0  # flag --drain-timeout" in shown.stdout
    path = tmp_path / "c.toml"
    path.write_text(shown.stdout)
    again = run(command, "--config", path, "--print-config")
    assert again.returncode == 0, again.stderr
    values = lambda text: [line.split("  # ")[0] for line in text.splitlines()]  # noqa: E731
    assert values(again.stdout) == values(shown.stdout)


def test_check_config_says_ok():
    done = run("serve", *ECHO, "--check-config")
    assert (done.returncode, done.stdout) == (0, "configuration ok\n")


@pytest.mark.parametrize("command", ["", "serve", "gateway", "coordinator", "worker", "pull", "engines", "chat"])
def test_help_is_help(command):
    done = run(*[command] if command else [], "--help")
    assert done.returncode == 0 and "Usage: cy-llm" in done.stdout


def test_version_and_engines():
    assert run("version").stdout.startswith("cy-llm ")
    assert run("--version").stdout == run("version").stdout
    assert "echo" in run("engines").stdout


SERVERS = {
    "serve": (["serve", "--listen", "127.0.0.1:0", *ECHO], ["gateway"]),
    "gateway": (["gateway", "--listen", "127.0.0.1:0", "--coordinator", "127.0.0.1:1"], ["gateway"]),
    "coordinator": (["coordinator", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--workers", "none"],
                    ["coordinator", "coordinator-http"]),
    "worker": (["worker", "--port", "0", "--health-port", "0", *ECHO], ["worker", "worker-http"]),
}  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", SERVERS)
def test_an_idle_server_ends_at_once_with_0(start, kind, number):
    args, listeners = SERVERS[kind]
    process = start(*args, expect=tuple(listeners))
    process.signal(number)
    assert process.wait_exit(10) == 0, process.log


def test_a_taken_port_is_told_with_status_1():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for args in (["serve", "--listen", address, *ECHO], ["gateway", "--listen", address],
                     ["coordinator", "--listen", address, "--http-listen", "off"],
                     ["coordinator", "--listen", "127.0.0.1:0", "--http-listen", address]):  # fmt: skip
            done = run(*args, limit=20)
            assert done.returncode == 1 and address in done.stderr, (args, done.stderr)


def test_a_socket_with_a_living_owner_is_left_alone(start, tmp_path):
    path = tmp_path / "w.sock"
    args = ("worker", "--uds-path", path, "--health-port", "0", *ECHO)
    first = start(*args)
    first.address("worker", unix=True)
    second = run(*args, limit=20)
    assert second.returncode == 1 and str(path) in second.stderr
    first.kill()
    assert path.exists()
    third = start(*args)
    third.address("worker", unix=True)
    assert third.terminate() == 0 and not path.exists()


def test_the_worker_says_the_contracts_readiness_line(start):
    start("worker", "--port", "0", "--health-port", "0", *ECHO).wait_log("Worker gRPC 服务已启动")


@pytest.mark.parametrize("kind", ["worker", "coordinator"])
def test_the_status_port(start, kind):
    args, _ = SERVERS[kind]
    url = start(*args).address(f"{kind}-http")
    assert http.get(url + "/health").json() == {"status": "ok"}
    assert http.get(url + "/healthz").json() == {"status": "ok"}
    assert http.get(url + "/ready").status_code == (200 if kind == "worker" else 503)
    metrics = http.get(url + "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert ("worker_success_total" if kind == "worker" else "coordinator_inference_requests_total") in metrics.text
    assert http.get(url + "/nothing").status_code == 404
    assert http.post(url + "/health").status_code == 405
    assert http.head(url + "/health").status_code == 200
    ready = run("healthcheck", url + "/ready")
    assert ready.returncode == (0 if kind == "worker" else 1)


def test_the_status_port_survives_nonsense_and_silence(start):
    url = start(*SERVERS["worker"][0]).address("worker-http")
    host, port = url.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(100)]
    for nonsense in (b"\r\n\r\n", b"\0" * 100 + b"\r\n\r\n", b"GET\r\n\r\n", b"GET /health\r\n\r\n", b"A" * 20_000):
        with socket.create_connection((host, int(port))) as c:
            c.settimeout(20)
            try:
                c.sendall(nonsense)
                assert c.recv(100).startswith(b"HTTP/1.1 4")
            except ConnectionError:
                pass
    assert http.get(url + "/health").status_code == 200
    for c in silent:
        c.close()


def slow_answer(url, seen: list, failed: list):
    """Reads a streamed answer of 100 words in a thread; `seen` gets the chunks, `failed` what went wrong."""

    def read():
        try:
            for chunk in client(url).chat.completions.create(
                model="default", messages=[{"role": "user", "content": "w"}], max_tokens=100, stream=True
            ):
                seen.append(chunk.choices[0].delta.content)
        except Exception as e:  # noqa: BLE001
            failed.append(e)

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def test_sigterm_lets_running_answers_end(start):
    process = start("serve", "--listen", "127.0.0.1:0", *ECHO, env={"CY_LLM_MODEL_REGISTRY": registry(default={"itl_ms": 50})})
    url = process.address("gateway")
    seen, failed = [], []
    thread = slow_answer(url, seen, failed)
    wait_until(lambda: len(seen) > 2, what="the answer to begin")
    process.signal(signal.SIGTERM)
    process.wait_log("SIGTERM")

    def refused():
        try:
            return http.get(url + "/ready").status_code == 503
        except httpx.TransportError:
            return True

    wait_until(refused, what="no new requests")
    assert process.alive()
    thread.join(60)
    assert not failed and "".join(s or "" for s in seen).split() == ["w"] * 100
    assert process.wait_exit(20) == 0


def test_the_drain_timeout_bounds_it(start):
    process = start("serve", "--listen", "127.0.0.1:0", "--drain-timeout", "0.2", *ECHO,
                    env={"CY_LLM_MODEL_REGISTRY": registry(default={"hang_after": 1})})  # fmt: skip
    seen, failed = [], []
    thread = slow_answer(process.address("gateway"), seen, failed)
    wait_until(lambda: len(seen) > 1, what="the answer to begin")
    assert process.terminate(20) == 0
    thread.join(20)
    assert failed, "a cut answer must not look complete"


def test_a_second_signal_ends_it_at_once(start):
    process = start("serve", "--listen", "127.0.0.1:0", *ECHO, env={"CY_LLM_MODEL_REGISTRY": registry(default={"hang_after": 1})})
    seen, failed = [], []
    thread = slow_answer(process.address("gateway"), seen, failed)
    wait_until(lambda: len(seen) > 1, what="the answer to begin")
    process.signal(signal.SIGTERM)
    process.wait_log("SIGTERM")
    assert process.alive()
    process.signal(signal.SIGINT)
    assert process.wait_exit(10) == 128 + signal.SIGINT
    thread.join(20)
    assert failed


def test_sigterm_while_a_model_loads(start):
    process = start("serve", "--listen", "127.0.0.1:0", "--preload", *ECHO,
                    env={"CY_LLM_MODEL_REGISTRY": registry(default={"load_ms": 10_000})})  # fmt: skip
    url = process.address("gateway")
    assert http.get(url + "/ready").status_code == 503
    assert http.get(url + "/health").status_code == 200
    assert process.terminate(8) == 0


def test_a_model_that_cannot_be_loaded(start):
    fails = {"CY_LLM_MODEL_REGISTRY": registry(default={"load_fails": True})}
    url = start("serve", "--listen", "127.0.0.1:0", *ECHO, env=fails).address("gateway")
    reply = http.post(url + "/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}]})
    assert reply.status_code == 503 and reply.headers["retry-after"]
    ready = http.get(url + "/ready")
    assert ready.status_code == 503 and any("default" in reason for reason in ready.json()["reasons"])

    done = run("serve", "--listen", "127.0.0.1:0", "--preload", *ECHO, env=fails, limit=20)
    assert done.returncode == 1 and "default model could not be loaded" in done.stderr


def test_the_prototypes_gateway_file(start, tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"api_token": "from-file", "coordinator_grpc_addr": "127.0.0.1:1", "request_timeout_sec": 5}')
    models = lambda url, token: http.get(url + "/v1/models", headers={"Authorization": f"Bearer {token}"}).status_code  # noqa: E731
    url = start("gateway", "--listen", "127.0.0.1:0", env={"GATEWAY_LITE_CONFIG": str(path)}).address("gateway")
    assert (models(url, "from-file"), models(url, "other")) == (200, 401)
    env = {"GATEWAY_LITE_CONFIG": str(path), "GATEWAY_API_TOKEN": "from-env"}
    url = start("gateway", "--listen", "127.0.0.1:0", env=env).address("gateway")
    assert (models(url, "from-env"), models(url, "from-file")) == (200, 401)


def test_the_request_timeout(start):
    process = start("serve", "--listen", "127.0.0.1:0", *ECHO,
                    env={"CY_LLM_MODEL_REGISTRY": registry(default={"hang_after": 0}), "GATEWAY_REQUEST_TIMEOUT": "0.5"})  # fmt: skip
    reply = http.post(process.address("gateway") + "/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}]})
    assert reply.status_code == 504 and reply.json()["error"]["type"] == "server_error"


def test_the_log_as_json(start):
    process = start("serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug", *ECHO)
    url = process.address("gateway")
    assert http.post(url + "/v1/chat/completions", content=b'{"model":"\\u0007\\"\\n","messages":[]}').status_code == 400
    assert http.post(url + "/v1/chat/completions", json={"messages": [{"role": "user", "content": "s3cret words"}]}).status_code == 200
    assert process.terminate() == 0
    entries = [json.loads(line) for line in process.log.splitlines() if not line.startswith("listening ")]
    assert entries and all(set(e) == {"time", "level", "role", "message"} for e in entries)
    assert "s3cret" not in process.log, "prompts are not logged"


def test_chat_over_a_pipe(echo):
    url = echo()
    done = subprocess.run([str(BINARY), "chat", "--url", url, "--system", "be kind"], input="one two\n\n/clear\nthree\n/exit\nnever",
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "one two\nthree\n"), done.stderr


def test_pull_of_a_local_file_and_of_nothing(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    done = run("pull", path)
    assert done.returncode == 0 and done.stdout == f"{path}\n"
    for source in ("hf:owner", "ftp://x/y.gguf", str(tmp_path / "none.gguf"), "http://127.0.0.1:1/x.gguf"):
        done = run("pull", source, "--model-cache", tmp_path, limit=60)
        assert done.returncode in (1, 2) and done.stdout == "", source
        assert done.stderr.splitlines()[-1].startswith("cy-llm: "), source
