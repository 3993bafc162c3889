"""`"isolation": "process"`: an engine in a process of its own, and what happens to it there."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.process import Process, http, run, wait_until

MODELS = {
    "apart": {"engine": "echo", "isolation": "process", "itl_ms": 20},
    "within": {"engine": "echo", "itl_ms": 20},
}


@pytest.fixture
def serve(start):
    """serve(*arguments, **models): the all-in-one with these models."""

    def begin(*args: str, env=None, **models) -> Process:
        process = start("serve", "--listen", "127.0.0.1:0", "--engine", "echo", *args,
                        env={"CY_LLM_MODEL_REGISTRY": json.dumps(models or MODELS)} | (env or {}), expect=("gateway",))  # fmt: skip
        url = process.address("gateway")
        wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
        return process

    return begin


def ask(process, model: str, words: int = 3, stream: bool = False, **kw):
    body = {"model": model, "messages": [{"role": "user", "content": "one two three"}], "max_tokens": words, "stream": stream}
    return http.stream("POST", process.address("gateway") + "/v1/chat/completions", json=body, **kw) if stream else \
        http.post(process.address("gateway") + "/v1/chat/completions", json=body, **kw)  # fmt: skip


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children(parent: int) -> list[int]:
    """The `cy-llm worker` processes that `parent` has started."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            ppid = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            line = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if ppid == parent and b"worker" in line:
            found.append(int(folder.name))
    return found


def child(process) -> int:
    (pid,) = children(process.pid)
    return pid


def child_of(process, model: str) -> int:
    (pid,) = [p for p in children(process.pid) if f'{{"{model}":'.encode() in Path(f"/proc/{p}/environ").read_bytes()]
    return pid


def words(n: int) -> list[str]:
    """What echo answers to ask()."""
    return ["one", "two", "three"] * (n // 3) + ["one", "two", "three"][: n % 3]


def first_word(lines) -> None:
    """Reads until the first one came."""
    while '"content":"one"' not in next(lines).replace(" ", ""):
        pass


def text(chunks) -> str:
    out = ""
    for line in chunks:
        if line.startswith("data: {"):
            event = json.loads(line[6:])
            if "error" in event:
                return out + f"[{event['error']['code']}]"
            out += "".join(c["delta"].get("content") or "" for c in event["choices"])
    return out


def test_it_is_started_on_first_use_and_answers(serve):
    process = serve()
    assert children(process.pid) == []
    answer = ask(process, "apart").json()
    assert answer["choices"][0]["message"]["content"] == "one two three"
    assert answer["usage"]["completion_tokens"] == 3
    pid = child(process)
    assert ask(process, "apart").status_code == 200 and child(process) == pid
    assert {m["id"] for m in http.get(process.address("gateway") + "/v1/models").json()["data"]} >= {"apart", "within"}


def test_its_engine_hangs(serve):
    process = serve("--engine-stall", "1", apart={"engine": "echo", "isolation": "process", "hang_after": 2},
                    env={"CY_LLM_RESUME_PATIENCE": "0"})  # fmt: skip
    assert ask(process, "apart").json()["error"]["code"] == "engine_stalled"
    process.wait_log("its engine stands still")
    assert ask(process, "apart", words=0).status_code == 200  # started again


def test_its_environment_and_its_socket_are_its_own(serve):
    process = serve()
    ask(process, "apart")
    env = dict(e.split("=", 1) for e in Path(f"/proc/{child(process)}/environ").read_text().split("\0") if "=" in e)
    assert json.loads(env["CY_LLM_MODEL_REGISTRY"]) == {"apart": {"engine": "echo", "itl_ms": 20}}
    assert len(env["CY_LLM_INTERNAL_TOKEN"]) == 32


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP], ids=lambda n: n.name)
def test_what_kills_or_stops_it_ends_its_requests_only(serve, number):
    process = serve()
    ask(process, "apart")
    pid = child(process)
    with ask(process, "apart", 60, stream=True) as lost, ask(process, "within", 300, stream=True) as other:
        lines, others = lost.iter_lines(), other.iter_lines()
        first_word(lines)
        first_word(others)
        os.kill(pid, number)
        # The error may be tried again: our own gateway does, and the client sees an unbroken answer.
        assert text(lines).split() == words(60)[1:]
        assert text(others).split() == words(300)[1:]
    wait_until(lambda: not alive(pid), what="the old process to be gone")
    assert ask(process, "apart").json()["choices"][0]["message"]["content"] == "one two three"
    assert child(process) != pid
    process.wait_log("process of model 'apart': ended unasked")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda n: n.name)
def test_the_error_says_that_it_may_be_tried_again(serve, number):
    """Where nobody goes on with an answer, the client is told, in the middle of it or before it."""
    process = serve(env={"CY_LLM_RESUME_PATIENCE": "0"}, apart=MODELS["apart"] | {"ttft_ms": 300}, within=MODELS["within"])
    ask(process, "apart")
    pid = child(process)
    with ask(process, "apart", 300, stream=True) as lost, ThreadPoolExecutor(1) as pool:
        lines = lost.iter_lines()
        first_word(lines)
        whole = pool.submit(ask, process, "apart", 300)
        wait_until(lambda: running(process) == 2, what="the second request")
        os.kill(pid, number)
        assert text(lines).endswith("[connection_lost]")
        refused = whole.result()
    assert refused.status_code == 503 and "Retry-After" in refused.headers, refused.text
    assert refused.json()["error"]["code"] == "connection_lost"
    assert ask(process, "within").status_code == 200
    wait_until(lambda: ask(process, "apart").status_code == 200, what="the next process")
    assert child(process) != pid


def running(process) -> int:
    metrics = http.get(process.address("gateway") + "/metrics").text
    return sum(int(float(line.split()[-1])) for line in metrics.splitlines() if line.startswith("worker_inflight_requests"))


def test_it_has_a_place_in_the_memory_there_is(serve):
    """Two of three fit, whatever runs where: what is unloaded is ended, and its memory is free."""
    echo = {"engine": "echo", "memory_mib": 40}
    apart = echo | {"isolation": "process"}
    process = serve("--memory-budget-mib", "100", "--min-residency", "0", a=apart, b=apart, c=echo, huge=apart | {"memory_mib": 101})
    assert ask(process, "a").status_code == ask(process, "b").status_code == 200
    a, b = child_of(process, "a"), child_of(process, "b")
    assert ask(process, "c").status_code == 200  # in this process
    process.wait_log("model 'a' makes room")
    assert "model 'b' makes room" not in process.log
    wait_until(lambda: not alive(a), what="the first to be gone")
    assert alive(b)
    os.kill(b, signal.SIGKILL)  # and comes again: its place is not counted twice
    wait_until(lambda: not alive(b) and children(process.pid), what="the next process")
    assert ask(process, "b").status_code == ask(process, "c").status_code == 200
    assert process.log.count("makes room") == 1
    refused = ask(process, "huge")
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "load_failed"
    process.wait_log("the model needs 101 MiB, and worker.memory_budget_mib allows 100")
    with ThreadPoolExecutor(6) as pool:  # all at once: they wait, nobody is refused
        answers = list(pool.map(lambda m: ask(process, m), "abcabc"))
    assert {r.status_code for r in answers} == {200}, [r.text[:400] for r in answers if r.status_code != 200]
    assert len(children(process.pid)) <= 2


def test_one_that_nobody_uses_is_ended_and_started_again_on_demand(serve):
    process = serve(idle=MODELS["apart"] | {"idle_unload_s": 0.3})
    for n in range(1, 4):
        assert ask(process, "idle").status_code == 200
        wait_until(lambda n=n: process.log.count("model 'idle': unused for 300 ms, unloaded") == n, what="the model to be unloaded")
        wait_until(lambda: not children(process.pid), what="the process to end")
    # No request is lost between the two, whenever it comes.
    with ThreadPoolExecutor(8) as pool:
        assert {r.status_code for r in pool.map(lambda _: ask(process, "idle"), range(100))} == {200}


def test_a_worker_alone_says_that_it_may_be_tried_again(start):
    worker = start("worker", "--port", "0", "--health-port", "0", "--engine", "echo",
                   env={"CY_LLM_MODEL_REGISTRY": json.dumps(MODELS)}, expect=("worker",))  # fmt: skip
    coordinator = start("coordinator", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                        "--workers", worker.address("worker"), expect=("coordinator",))  # fmt: skip
    gateway = start("gateway", "--listen", "127.0.0.1:0", "--coordinator", coordinator.address("coordinator"), expect=("gateway",))
    wait_until(lambda: http.get(gateway.address("gateway") + "/ready").status_code == 200, what="/ready")
    assert ask(gateway, "apart").status_code == 200
    with ask(gateway, "apart", 100, stream=True) as lost:
        lines = lost.iter_lines()
        first_word(lines)
        os.kill(child(worker), signal.SIGKILL)
        assert text(lines).split() == words(100)[1:]
    assert worker.alive() and ask(gateway, "within").status_code == 200
    assert ask(gateway, "apart").status_code == 200


def test_a_load_that_fails_fails_there(serve):
    process = serve(apart={"engine": "echo", "isolation": "process", "load_fails": True}, within={"engine": "echo"})
    refused = ask(process, "apart")
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "load_failed"
    assert ask(process, "within").status_code == 200


def test_it_ends_with_us(serve):
    process = serve()
    ask(process, "apart")
    pid = child(process)
    assert process.terminate() == 0 and not alive(pid)


def test_it_does_not_outlive_us(serve):
    process = serve()
    ask(process, "apart")
    pid = child(process)
    process.kill()
    wait_until(lambda: not alive(pid), what="the process to be gone")


def test_what_runs_ends_first(serve):
    process = serve()
    ask(process, "apart")
    with ask(process, "apart", 50, stream=True) as stream:
        lines = stream.iter_lines()
        first_word(lines)
        process.signal(signal.SIGTERM)
        assert text(lines).split() == words(50)[1:]
    assert process.wait_exit() == 0


def test_other_words_are_refused():
    done = run("serve", "--engine", "echo", "--check-config",
               env={"CY_LLM_MODEL_REGISTRY": json.dumps({"m": {"engine": "echo", "isolation": "thread"}})})  # fmt: skip
    assert done.returncode == 2 and '\'isolation\' must be "none" or "process"' in done.stderr
