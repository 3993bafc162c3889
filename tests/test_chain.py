"""Gateway, coordinator and workers as processes of their own."""

import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from conftest import Chain, client, registry
from support.process import http, run, wait_until


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def test_the_first_byte_arrives_with_the_first_token(chain):
    api = chain(registry(default={"stamp": "monotonic", "itl_ms": 300})).client()
    delays, stamps = [], []
    for chunk in api.chat.completions.create(model="default", messages=user("x"), max_tokens=6, stream=True):
        if text := chunk.choices[0].delta.content:
            arrived = now_ns()
            stamps += [int(s, 16) for s in text.split("@T")[1:]]
            delays.append((arrived - stamps[-1]) / 1e6)
    assert len(stamps) == len(delays) == 6, "each token came in a chunk of its own"
    assert (stamps[-1] - stamps[0]) / 1e6 > 1000
    # A token that waited for the next one, or for the end, would be 300 ms late.
    assert sorted(delays)[3] < 150, delays


def test_every_worker_gets_its_turn(chain):
    c = chain(registry(default={}), registry(default={}), env={"CY_LLM_ROUTING_POLICY": "round_robin"})
    wait_until(lambda: healthy(c) == 2, what="both workers")
    for n in range(8):
        done = c.client().chat.completions.create(model="default", messages=user(f"turn {n}"))
        assert done.choices[0].message.content == f"turn {n}"
    served = [metric(w.address("worker-http"), "worker_success_total") for w in c.workers]
    assert served == [4, 4]


def metric(url: str, name: str) -> float:
    lines = http.get(url + "/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def healthy(c: Chain) -> float:
    return metric(c.coordinator.address("coordinator-http"), "coordinator_workers_healthy")


def test_a_worker_that_registers_itself(start, worker):
    coordinator = start("coordinator", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--workers", "none",
                        expect=("coordinator", "coordinator-http"))  # fmt: skip
    address = coordinator.address("coordinator")
    gateway = start("gateway", "--listen", "127.0.0.1:0", "--coordinator", address, expect=("gateway",))
    url = gateway.address("gateway")
    assert http.get(url + "/ready").status_code == 503
    first = worker({}, env={"COORDINATOR_GRPC_ADDR": address})
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="the worker to register")
    say = lambda: client(url).chat.completions.create(model="default", messages=user("hi")).choices[0].message.content  # noqa: E731
    assert say() == "hi"
    second = worker({}, "--coordinator", address)
    status = coordinator.address("coordinator-http")
    wait_until(lambda: metric(status, "coordinator_workers_healthy") == 2, what="the second worker")
    assert first.terminate() == 0
    assert [say() for _ in range(4)] == ["hi"] * 4
    second.kill()
    wait_until(lambda: http.get(url + "/ready").status_code == 503, what="the loss of the last worker")
    with pytest.raises(openai.InternalServerError) as error:
        say()
    assert error.value.status_code == 503


def test_sockets_instead_of_ports(start, tmp_path):
    env = {"WORKER_UDS_PATH": str(tmp_path / "w.sock"), "COORDINATOR_UDS_PATH": str(tmp_path / "c.sock")}
    start("worker", "--uds-path", env["WORKER_UDS_PATH"], "--health-port", "0", "--engine", "echo")
    start("coordinator", "--http-listen", "off", env=env)
    url = start("gateway", "--listen", "127.0.0.1:0", env=env).address("gateway")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    done = client(url).chat.completions.create(model="default", messages=user("by socket"))
    assert done.choices[0].message.content == "by socket"


def test_the_internal_token_goes_all_the_way(chain):
    env = {"CY_LLM_INTERNAL_TOKEN": "s3cret", "CY_LLM_ENV": "production"}
    done = chain(registry(default={}), env=env).client().chat.completions.create(model="default", messages=user("hi"))
    assert done.choices[0].message.content == "hi"


def test_a_wrong_internal_token_is_no_answer_and_no_secret(start, worker, coordinator):
    behind = worker(env={"CY_LLM_INTERNAL_TOKEN": "right-one"})
    front = coordinator(behind.address("worker"), env={"CY_LLM_INTERNAL_TOKEN": "wrong-one"}, ready=False)
    url = start("gateway", "--listen", "127.0.0.1:0", "--coordinator", front.address("coordinator"),
                env={"CY_LLM_INTERNAL_TOKEN": "wrong-one"}).address("gateway")  # fmt: skip
    front.wait_log("UNAUTHENTICATED")
    with pytest.raises(openai.InternalServerError) as error:
        client(url).chat.completions.create(model="default", messages=user("hi"))
    assert "right-one" not in str(error.value) and "wrong-one" not in str(error.value)


def test_an_unreachable_coordinator(start):
    url = start("gateway", "--listen", "127.0.0.1:0", "--coordinator", "127.0.0.1:1").address("gateway")
    assert http.get(url + "/health").status_code == 200
    ready = http.get(url + "/ready")
    assert ready.status_code == 503 and ready.json()["reasons"]
    with pytest.raises(openai.InternalServerError) as error:
        client(url).chat.completions.create(model="default", messages=user("hi"))
    assert error.value.status_code == 503 and error.value.response.headers["retry-after"]
    assert "127.0.0.1" not in error.value.response.text


def test_hundreds_of_failed_connections_do_no_harm(coordinator):
    nobody = [f"127.0.0.1:{port}" for port in range(1, 65)]
    status = coordinator(*nobody, ready=False).address("coordinator-http")
    begin = time.monotonic()
    while time.monotonic() - begin < 1.5:  # each address is tried several times
        assert http.get(status + "/ready").status_code == 503


def test_a_large_prompt_comes_through_whole(chain):
    text = " ".join(f"w{n}" for n in range(200_000))  # 1.3 MB, many frames
    done = chain(registry(default={})).client().chat.completions.create(model="default", messages=user(text))
    assert done.choices[0].message.content == text


def test_loading_on_first_use(chain):
    c = chain(registry(default={"load_ms": 500}))
    done = c.client().chat.completions.create(model="default", messages=user("hi"))
    assert done.choices[0].message.content == "hi"


def test_a_header_of_other_bytes_harms_nobody(chain):
    c = chain(registry(default={"itl_ms": 20}), gateway_env={"CY_LLM_RESUME_PATIENCE": "0"})
    body = {"model": "default", "messages": user("w"), "max_tokens": 100}
    odd = [(name, b"v=\xe9") for name in (b"traceparent", b"tracestate", b"x-cy-worker", b"x-cy-affinity", b"x-request-id")]
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(http.post, c.url + "/v1/chat/completions", json=body)
        wait_until(lambda: metric(c.workers[0].address("worker-http"), "worker_inflight_requests") == 1, what="another's answer")
        answer = http.post(c.url + "/v1/chat/completions", json=body | {"max_tokens": 1}, headers=odd)
        assert answer.json()["choices"][0]["message"]["content"] == "w", answer.text
        assert other.result(60).json()["choices"][0]["message"]["content"].split() == ["w"] * 100
    assert metric(c.coordinator.address("coordinator-http"), "coordinator_inference_requests_total") == 2


def test_a_long_load_is_bridged_with_pings(chain, tmp_path):
    config = tmp_path / "gateway.toml"
    # The load reports its progress every 150 ms: that must not count as something that the client hears.
    config.write_text("[gateway]\nheader_commit = 0.1\nsse_ping = 0.2\n")
    c = chain(registry(default={"load_ms": 5000}), gateway_env={"GATEWAY_LITE_CONFIG": str(config)})
    body = {"model": "default", "messages": user("hi"), "stream": True}
    raw = http.post(c.url + "/v1/chat/completions", json=body, timeout=60).text
    frames = raw.split("\n\n")
    assert frames[-2] == "data: [DONE]"
    pings = [n for n, frame in enumerate(frames) if frame.startswith(":")]
    text = next(n for n, frame in enumerate(frames) if '"content":"hi"' in frame)
    assert len(pings) >= 3 and max(pings) < text


def test_64_streams_through_three_processes_while_health_is_asked(chain):
    c = chain(registry(default={"itl_ms": 5}), registry(default={"itl_ms": 5}))
    api = c.client()

    def ask(n):
        text = f"number {n}"
        chunks = api.chat.completions.create(model="default", messages=user(text), max_tokens=60, stream=True)
        return "".join(x.choices[0].delta.content or "" for x in chunks) == " ".join([text] * 30)

    with ThreadPoolExecutor(64) as pool:
        answers = pool.map(ask, range(64))
        for _ in range(20):
            assert http.get(c.url + "/health").status_code == 200
        assert all(answers)


def test_the_chat_command(chain):
    c = chain(registry(default={}))
    done = run("chat", "--url", c.url, "--once", "say this")
    assert (done.returncode, done.stdout) == (0, "say this\n"), done.stderr
    done = run("chat", "--url", c.url + "/v1/", "--model", "nope", "--once", "x")
    assert done.returncode == 1 and "404" in done.stderr and "nope" in done.stderr
    done = run("chat", "--url", "http://127.0.0.1:1", "--once", "x")
    assert done.returncode == 1 and "127.0.0.1" in done.stderr
