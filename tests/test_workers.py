"""The operator's view: adding, draining and removing workers while requests run; who may."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import registry
from support.process import http, run, wait_until
from test_chain import healthy, metric, user
from test_resume import Stream, begun

ECHO = registry(default={"itl_ms": 15})


def admin(c, method: str, path: str = "", **kw):
    return http.request(method, c.coordinator.address("coordinator-http") + "/workers" + path, **kw)


def listed(c) -> dict:
    return {w["url"]: w for w in admin(c, "GET").json()["workers"]}


def cli(c, *args):
    return run("workers", *args, "--url", c.coordinator.address("coordinator-http"))


def test_a_worker_is_added_seen_and_removed(chain):
    c = chain(ECHO)
    second = c.add_worker(ECHO)
    address = second.address("worker")
    reply = admin(c, "POST", json={"url": "grpc://" + address})
    assert reply.status_code == 202, reply.text
    where = "/" + reply.json()["id"]
    wait_until(lambda: admin(c, "GET", where).json()["is_healthy"], what="the new worker")
    assert admin(c, "GET", where).json()["job_status"] == "ready"
    assert admin(c, "POST", json={"url": address}).status_code == 409
    assert healthy(c) == 2 and set(listed(c)) == {c.workers[0].address("worker"), address}
    assert admin(c, "DELETE", where).status_code == 202
    wait_until(lambda: admin(c, "GET", where).status_code == 404, what="its removal")
    assert healthy(c) == 1 and second.alive()


def test_a_drain_moves_what_is_left_at_its_deadline(chain):
    c = chain(ECHO, ECHO)
    wait_until(lambda: healthy(c) == 2, what="both workers")
    streams = [Stream(c.url) for _ in range(8)]
    begun(streams)
    busy = max(listed(c).values(), key=lambda w: w["inflight"])
    assert busy["inflight"] > 0
    assert admin(c, "PATCH", "/" + busy["id"], json={"draining": True, "deadline_s": 0.3}).status_code == 202
    assert listed(c)[busy["url"]]["job_status"] in ("draining", "drained")
    wait_until(lambda: listed(c)[busy["url"]]["job_status"] == "drained", limit=10, what="the drain")
    for s in streams:
        s.check()
    assert healthy(c) == 1
    assert admin(c, "PATCH", "/" + busy["id"], json={"draining": False}).status_code == 202
    wait_until(lambda: healthy(c) == 2, what="both workers again")


def test_the_gateway_tells_all_its_coordinators(start, worker, coordinator):
    behind = worker({})
    address = behind.address("worker")
    pair = [coordinator(address) for _ in range(2)]
    gateway = start("gateway", "--listen", "127.0.0.1:0", env={
        "COORDINATOR_GRPC_ADDR": ",".join(p.address("coordinator") for p in pair), "CY_LLM_ADMIN_KEY": "secret"})  # fmt: skip
    url = gateway.address("gateway")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")

    def drain(on: bool):
        return http.patch(f"{url}/workers/{address}", headers={"authorization": "Bearer secret"}, json={"draining": on})

    def jobs():
        return [http.get(p.address("coordinator-http") + f"/workers/{address}").json()["job_status"] for p in pair if p.alive()]

    wait_until(lambda: "not_done" not in drain(True).json(), what="both to be connected")
    assert jobs() == ["drained", "drained"]
    pair[0].kill()

    def undrained():
        reply = drain(False).json()
        return reply.get("not_done") == [{"coordinator": pair[0].address("coordinator"), "status": 503}]

    wait_until(undrained, what="the loss to be noticed")
    assert jobs() == ["ready"]


def test_sigterm_of_a_worker_moves_its_streams_at_the_deadline(chain, start):
    c = chain(ECHO, start("worker", "--port", "0", "--health-port", "0", "--engine", "echo", "--drain-timeout", "0.3",
                          env={"CY_LLM_MODEL_REGISTRY": ECHO}, expect=("worker", "worker-http")))  # fmt: skip
    wait_until(lambda: healthy(c) == 2, what="both workers")
    streams = [Stream(c.url) for _ in range(8)]
    begun(streams)
    assert c.workers[1].terminate(20) == 0
    for s in streams:
        s.check()


def test_all_coordinators_hear_at_once_that_a_worker_goes(start, worker, coordinator):
    pair = [coordinator(ready=False) for _ in range(2)]
    behind = worker({"itl_ms": 60}, "--coordinator", ",".join(c.address("coordinator") for c in pair), "--drain-timeout", "60")
    ready = [lambda c=c: metric(c.address("coordinator-http"), "coordinator_workers_healthy") for c in pair]
    wait_until(lambda: [r() for r in ready] == [1, 1], what="the worker at both")
    url = start("gateway", "--listen", "127.0.0.1:0", "--coordinator", pair[0].address("coordinator")).address("gateway")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    stream = Stream(url)
    begun([stream])
    behind.signal(signal.SIGTERM)
    wait_until(lambda: ready[1]() == 0, what="the other coordinator to hear it")
    assert stream.is_alive(), "it heard it when the first one had nothing more to wait for"
    stream.check()
    assert behind.wait_exit(20) == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "", "{", 400),
        ("POST", "", '{"url": 3}', 400),
        ("POST", "", '{"url": "no address"}', 400),
        ("POST", "", '{"url": "127.0.0.1:1", "more": 1}', 400),
        ("PATCH", "/nobody", '{"draining": true}', 404),
        ("PATCH", "/nobody", '{"draining": "yes"}', 400),
        ("PATCH", "/nobody", '{"draining": true, "deadline_s": -1}', 400),
        ("DELETE", "/nobody?deadline_s=x", "", 400),
        ("DELETE", "/nobody", "", 404),
        ("GET", "/nobody", "", 404),
        ("PUT", "", "{}", 405),
    ],
)
def test_mistakes_have_their_status(chain, method, path, body, status):
    c = chain(ECHO)
    reply = admin(c, method, path, content=body)
    assert reply.status_code == status
    assert reply.json()["error"]["message"]


def test_the_command(chain):
    c = chain(ECHO)
    second = c.add_worker(ECHO).address("worker")
    assert second in cli(c, "add", second).stdout
    wait_until(lambda: healthy(c) == 2, what="both workers")
    assert cli(c, "add", second).returncode == 1
    out = cli(c).stdout
    assert second in out and "ready" in out and c.workers[0].address("worker") in out
    assert cli(c, "drain", second, "--deadline", "1", "--wait").returncode == 0
    assert listed(c)[second]["job_status"] == "drained"
    assert cli(c, "undrain", second).returncode == 0
    wait_until(lambda: healthy(c) == 2, what="both workers again")
    assert cli(c, "remove", second, "--wait").returncode == 0
    assert list(listed(c)) == [c.workers[0].address("worker")]
    assert cli(c, "dance").returncode == 2 and cli(c, "drain").returncode == 2


def test_waiting_for_a_removal_ends_with_an_error_where_nobody_answers(chain):
    c = chain(ECHO)
    wait_until(lambda: healthy(c) == 1, what="the worker")
    stream = Stream(c.url)
    begun([stream])
    url = c.coordinator.address("coordinator-http")
    with ThreadPoolExecutor(1) as pool:
        command = pool.submit(run, "workers", "remove", c.workers[0].address("worker"), "--deadline", "600", "--wait", "--url", url)
        wait_until(lambda: list(listed(c).values())[0]["job_status"] == "removing", what="the removal to begin")
        c.coordinator.kill()
        assert command.result(60).returncode == 1


def test_the_commands_heed_no_proxy():
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"workers": [], "total": 0, "healthy": 0}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.2", 0), Answer) as server:  # not one that no proxy is ever asked for
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.2:{server.server_port}"
        codes = [
            run("workers", "list", "--url", url, env={"http_proxy": "http://127.0.0.1:1", "NO_PROXY": "", "no_proxy": hosts}).returncode
            for hosts in ("elsewhere", "elsewhere,127.0.0.2", "*")
        ]
        server.shutdown()
    assert codes == [1, 0, 0]


def test_the_admin_key(start, worker):
    behind = worker({})
    c = start("coordinator", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--workers", behind.address("worker"),
              env={"CY_LLM_ADMIN_KEY": "secret"}, expect=("coordinator", "coordinator-http"))  # fmt: skip
    url = c.address("coordinator-http")
    assert http.get(url + "/workers").status_code == 401
    assert http.get(url + "/workers", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert http.get(url + "/workers", headers={"Authorization": "Bearer secret"}).status_code == 200
    assert http.get(url + "/health").status_code == 200
    assert run("workers", "--url", url, env={"CY_LLM_ADMIN_KEY": "secret"}).returncode == 0
    assert run("workers", "--url", url).returncode == 1


def test_the_gateway_has_it_for_who_has_the_key(chain):
    c = chain(ECHO, gateway_env={"CY_LLM_ADMIN_KEY": "secret"})
    key = {"Authorization": "Bearer secret"}
    assert http.get(c.url + "/workers").status_code == 401
    workers = http.get(c.url + "/workers", headers=key).json()["workers"]
    assert [w["url"] for w in workers] == [c.workers[0].address("worker")]
    second = c.add_worker(ECHO).address("worker")
    assert http.post(c.url + "/workers", headers=key, json={"url": second}).status_code == 202
    wait_until(lambda: healthy(c) == 2, what="both workers")
    assert http.post(c.url + "/workers", headers=key, json={"url": second}).status_code == 409
    assert http.get(chain(ECHO).url + "/workers", headers=key).status_code == 404


def route(reply) -> dict:
    return dict(part.split("=", 1) for part in reply.headers["x-cy-route"].split("; "))


def test_every_answer_says_why_it_is_where_it_is(chain):
    c = chain(ECHO, ECHO)
    wait_until(lambda: healthy(c) == 2, what="both workers")
    body = {"model": "default", "messages": user("word " * 200), "max_tokens": 2}
    first = http.post(c.url + "/v1/chat/completions", json=body)
    told = route(first)
    assert told["policy"] == "prefix_aware" and told["attempts"] == "1" and told["resumed"] == "0" and told["worker"]
    again = route(http.post(c.url + "/v1/chat/completions", json=body | {"stream": True}))
    assert again["worker"] == told["worker"] and float(again["prefix_hit"]) > 0.9
    for worker in c.workers:
        hint = {"x-cy-worker": worker.address("worker")}
        hinted = route(http.post(c.url + "/v1/chat/completions", json=body, headers=hint))
        listed_name = listed(c)[worker.address("worker")]["name"]
        assert hinted["worker"] == listed_name
    c.gateway.wait_log("policy=prefix_aware")


def test_errors_say_it_too(chain):
    c = chain(registry(default={"load_fails": True}))
    body = {"model": "default", "messages": user("x")}
    name = listed(c)[c.workers[0].address("worker")]["name"]
    failed = http.post(c.url + "/v1/chat/completions", json=body)
    assert failed.status_code == 503 and route(failed)["worker"] == name and route(failed)["attempts"] == "1"
    missing = http.post(c.url + "/v1/chat/completions", json=body | {"model": "missing"})
    assert missing.status_code >= 400 and route(missing)["worker"] == "-" and route(missing)["attempts"] == "0"


def test_requests_wait_while_every_worker_is_full(chain):
    """A worker takes so many; the others wait their turn at the coordinator, and nobody is refused."""
    c = chain(registry(default={"itl_ms": 5, "max_running": 2}))
    streams = [Stream(c.url) for _ in range(6)]
    for s in streams:
        s.check()


def test_the_more_urgent_of_those_that_wait_is_first(chain):
    c = chain(registry(default={"itl_ms": 10, "max_running": 1, "stamp": "monotonic"}))
    url, done = c.coordinator.address("coordinator-http"), []

    def ask(priority):
        answer = c.client().chat.completions.create(model="default", messages=user("x"), max_tokens=3, extra_body={"priority": priority})
        first = answer.choices[0].message.content.split("@T")[1]  # when its first token was made
        done.append((int(first, 16), priority))

    holder = c.client().chat.completions.create(model="default", messages=user("x"), max_tokens=10_000, stream=True)
    next(iter(holder))
    with ThreadPoolExecutor(4) as pool:
        asked = []
        for n, priority in enumerate((5, 0, 5, -3)):
            asked.append(pool.submit(ask, priority))
            wait_until(lambda n=n: metric(url, "coordinator_queue_waiting") == n + 1, what="it to wait")
        holder.close()
        for a in asked:
            a.result(60)
    assert [priority for _, priority in sorted(done)] == [-3, 0, 5, 5]


def test_a_conversation_stays_with_its_worker(chain):
    c = chain(*[registry(default={})] * 3)
    wait_until(lambda: healthy(c) == 3, what="all workers")
    client = c.client()
    history = [{"role": "system", "content": "be brief " * 200}]
    served = []

    def ask(text):
        before = [metric(w.address("worker-http"), "worker_success_total") for w in c.workers]
        history.append({"role": "user", "content": text})
        answer = client.chat.completions.create(model="default", messages=history, max_tokens=3)
        history.append({"role": "assistant", "content": answer.choices[0].message.content})
        wait_until(lambda: sum(metric(w.address("worker-http"), "worker_success_total") for w in c.workers) > sum(before), what="its count")
        after = [metric(w.address("worker-http"), "worker_success_total") for w in c.workers]
        served.append(next(i for i in range(3) if after[i] > before[i]))

    for n in range(6):
        ask(f"question {n} " * 40)
    assert len(set(served)) == 1, served


def test_admin_from_many_threads_under_load(chain):
    """Lists, drains and undrains at once, under load: nothing breaks."""
    c = chain(ECHO, ECHO)
    wait_until(lambda: healthy(c) == 2, what="both workers")
    streams = [Stream(c.url) for _ in range(4)]
    begun(streams)
    ids = [w["id"] for w in listed(c).values()]

    def stir(n):
        for i in range(10):
            admin(c, "PATCH", "/" + ids[0], json={"draining": i % 2 == 0, "deadline_s": 0})
            admin(c, "GET")

    threads = [threading.Thread(target=stir, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    for s in streams:
        s.check()
    admin(c, "PATCH", "/" + ids[0], json={"draining": False})
    wait_until(lambda: healthy(c) == 2, what="both workers again")


def loads(worker, model: str) -> int:
    return worker.log.count(f"model '{model}': loading")


def test_a_model_nobody_uses_is_unloaded_and_loaded_again_on_demand(chain):
    c = chain(registry(default={}, idle={"idle_unload_s": 0.3, "load_ms": 100}))
    worker, body = c.workers[0], {"model": "idle", "messages": user("hello there")}
    for n in range(1, 4):
        answer = http.post(c.url + "/v1/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == "hello there", answer.text
        wait_until(lambda n=n: loads(worker, "idle") == n, what="its load in the log")
        wait_until(lambda n=n: worker.log.count("model 'idle': unused for 300 ms, unloaded") == n, what="the model to be unloaded")
    # No request is lost between the two, whenever it comes.
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(http.post, c.url + "/v1/chat/completions", json=body) for _ in range(200)]
        assert {a.result().status_code for a in answers} == {200}


def test_models_take_turns_in_the_memory_there_is(start, chain):
    """Three models, room for two: the one not used for longest makes room, and none goes to and fro faster than allowed."""
    models = registry(**{name: {"memory_mib": 40} for name in ("a", "b", "c")}, huge={"memory_mib": 101})
    behind = start("worker", "--port", "0", "--health-port", "0", "--engine", "echo", "--memory-budget-mib", "100",
                   "--min-residency", "0", env={"CY_LLM_MODEL_REGISTRY": models}, expect=("worker", "worker-http"))  # fmt: skip
    c = chain(behind)

    def ask(model: str):
        return http.post(c.url + "/v1/chat/completions", json={"model": model, "messages": user("x")})

    for model in ("a", "b", "a", "c"):
        assert ask(model).status_code == 200
    behind.wait_log("model 'b' makes room")
    wait_until(lambda: [loads(behind, m) for m in "abc"] == [1, 1, 1], what="the loads in the log")
    assert "model 'a' makes room" not in behind.log
    refused = ask("huge")
    assert refused.status_code == 503 and "Retry-After" in refused.headers
    with ThreadPoolExecutor(6) as pool:  # all at once: they wait, nobody is refused
        assert {a.result().status_code for a in [pool.submit(ask, m) for m in "abcabc"]} == {200}
    assert sum(loads(behind, m) for m in "abc") <= 3 + 6


def test_a_model_is_asked_for_where_it_is(start, chain):
    """Two workers with room for one model each: their models are not loaded to and fro."""
    models = registry(**{name: {"memory_mib": 80} for name in ("a", "b")})
    pair = [start("worker", "--port", "0", "--health-port", "0", "--engine", "echo", "--memory-budget-mib", "100",
                  env={"CY_LLM_MODEL_REGISTRY": models}, expect=("worker", "worker-http")) for _ in range(2)]  # fmt: skip
    c = chain(*pair)
    wait_until(lambda: healthy(c) == 2, what="both workers")
    for n in range(20):
        answer = http.post(c.url + "/v1/chat/completions", json={"model": "ab"[n % 2], "messages": user("x")})
        assert answer.status_code == 200
        loaded = lambda: {m["name"] for m in http.get(c.url + "/api/ps").json()["models"]}  # noqa: E731
        wait_until(lambda n=n: any(name.startswith("ab"[n % 2]) for name in loaded()), what="the worker's report")
    assert [loads(pair[0], m) + loads(pair[1], m) for m in "ab"] == [1, 1]
