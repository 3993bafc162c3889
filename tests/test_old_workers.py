"""The prototype's Python worker behind our coordinator."""

import threading
import time

import grpc
import pytest

from support.legacy import LOADING, Worker
from support.process import http, wait_until


def words(request, context):
    yield from (w + " " for w in request.prompt.split())


@pytest.fixture(params=["tcp", "unix"])
def place(request, tmp_path):
    return {} if request.param == "tcp" else {"path": tmp_path / "old.sock"}


def text(messages) -> str:
    return "".join(m.chunk for m in messages)


def test_chunks_pass_through_in_order(serve_legacy, place, coordinator, legacy_client):
    old = serve_legacy(Worker(words), **place)
    client = legacy_client(coordinator(old.address).address("coordinator"))
    messages = list(client.stream("a b c", max_tokens=7, trace="t-9", temperature=0.5))
    assert [m.chunk for m in messages] == ["a ", "b ", "c ", ""]
    assert [m.index for m in messages] == [0, 1, 2, 3]
    assert messages[-1].end_of_stream and messages[-1].ttft_ms > 0 and messages[-1].tokens_per_sec > 0
    assert {m.trace_id for m in messages} == {"t-9"}
    request = old.servicer.requests[0]
    assert (request.model_id, request.prompt) == ("default", "a b c")
    assert request.generation.max_new_tokens == 7 and request.generation.temperature == 0.5
    assert request.metadata.trace_id == "t-9"


def test_the_first_chunk_does_not_wait_for_the_second(serve_legacy, place, coordinator, legacy_client):
    more = threading.Event()

    def script(request, context):
        yield "first"
        assert more.wait(60)
        yield "second"

    old = serve_legacy(Worker(script), **place)
    client = legacy_client(coordinator(old.address).address("coordinator"))
    stream = client.stream("x")
    assert next(stream).chunk == "first"
    more.set()
    assert text(stream) == "second"


def test_loading_marks_stay_marks_and_no_text(serve_legacy, coordinator, legacy_client):
    def script(request, context):
        yield LOADING + " 10%\n"
        yield LOADING + " 90%\n"
        yield "ready"

    old = serve_legacy(Worker(script))
    client = legacy_client(coordinator(old.address).address("coordinator"))
    messages = list(client.stream("x"))
    assert [LOADING in m.chunk for m in messages] == [True, True, False, False]
    assert [m.index for m in messages] == [0, 1, 2, 3]
    assert messages[2].chunk == "ready"


def test_the_coordinator_shows_its_token_to_workers(serve_legacy, coordinator, legacy_client):
    old = serve_legacy(Worker(words, token="s3cret"))
    front = coordinator(old.address, env={"CY_LLM_INTERNAL_TOKEN": "s3cret"})
    assert text(legacy_client(front.address("coordinator"), "s3cret").stream("a b")) == "a b "
    assert {m["authorization"] for m in old.servicer.metadata if "authorization" in m} == {"Bearer s3cret"}


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (grpc.StatusCode.NOT_FOUND, "Model 'x' not found in registry", grpc.StatusCode.NOT_FOUND),
        (grpc.StatusCode.INVALID_ARGUMENT, "Prompt exceeds 50000 characters", grpc.StatusCode.INVALID_ARGUMENT),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Inference failed", grpc.StatusCode.RESOURCE_EXHAUSTED),
        (grpc.StatusCode.INTERNAL, "Internal error: ValueError", grpc.StatusCode.INTERNAL),
    ],
)
def test_status_codes_pass_through(serve_legacy, coordinator, legacy_client, code, details, expected):
    def script(request, context):
        context.abort(code, details)
        yield ""

    old = serve_legacy(Worker(script))
    client = legacy_client(coordinator(old.address).address("coordinator"))
    with pytest.raises(grpc.RpcError) as error:
        list(client.stream("x"))
    assert error.value.code() == expected
    assert old.address not in error.value.details()


def test_cancellation_reaches_the_worker(serve_legacy, place, coordinator, legacy_client):
    def script(request, context):
        while context.is_active():
            yield "x "
            time.sleep(0.005)

    old = serve_legacy(Worker(script), **place)
    client = legacy_client(coordinator(old.address).address("coordinator"))
    call = client.stream("x")
    next(call)
    call.cancel()
    assert old.servicer.cancelled.wait(60)


def test_a_dead_worker_is_left_out_and_comes_back(serve_legacy, coordinator, legacy_client, tmp_path):
    path = tmp_path / "old.sock"
    old = serve_legacy(Worker(words), path)
    front = coordinator(old.address)
    ready = lambda: http.get(front.address("coordinator-http") + "/ready").status_code  # noqa: E731
    old.stop()
    wait_until(lambda: ready() == 503, what="the dead worker to be noticed")
    client = legacy_client(front.address("coordinator"))
    with pytest.raises(grpc.RpcError) as error:
        list(client.stream("x"))
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    serve_legacy(Worker(words), path)
    wait_until(lambda: ready() == 200, what="the worker to come back")
    assert text(client.stream("a b")) == "a b "


def test_what_fails_before_its_first_chunk_is_tried_elsewhere(serve_legacy, coordinator, legacy_client):
    def full(request, context):
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server is overloaded, please retry later.")
        yield ""

    bad, good = serve_legacy(Worker(full)), serve_legacy(Worker(words))
    front = coordinator(bad.address, good.address, args=("--policy", "round_robin"))
    client = legacy_client(front.address("coordinator"))
    wait_until(lambda: client.health().metrics["workers_healthy"] == "2", what="both workers")
    for n in range(6):
        assert text(client.stream(f"call {n}")) == f"call {n} "
    assert bad.servicer.requests and len(good.servicer.requests) == 6


def test_nothing_is_repeated_after_the_first_chunk(serve_legacy, coordinator, legacy_client):
    def breaks(request, context):
        yield "begun "
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    workers = [serve_legacy(Worker(breaks)) for _ in range(2)]
    client = legacy_client(coordinator(*(w.address for w in workers)).address("coordinator"))
    call, seen = client.stream("x"), []
    with pytest.raises(grpc.RpcError):
        for message in call:
            seen.append(message.chunk)
    assert seen == ["begun "]
    assert sum(len(w.servicer.requests) for w in workers) == 1


def test_old_and_new_workers_side_by_side(serve_legacy, worker, coordinator, legacy_client):
    old, new = serve_legacy(Worker(words)), worker()
    front = coordinator(old.address, new.address("worker"), args=("--policy", "round_robin"))
    client = legacy_client(front.address("coordinator"))
    wait_until(lambda: client.health().metrics["workers_healthy"] == "2", what="both workers")
    for n in range(6):
        answer = text(m for m in client.stream(f"call {n}") if LOADING not in m.chunk)
        assert answer.strip() == f"call {n}"
    assert 0 < len(old.servicer.requests) < 6


class Deaf(Worker):
    """Answers Health while `hears`; else lets it wait."""

    def __init__(self, script):
        super().__init__(script)
        self.hears = threading.Event()
        self.hears.set()
        self.asked, self.missed = 0, 0

    def Health(self, request, context):  # noqa: N802
        self.asked += 1
        if not self.hears.is_set():
            self.missed += 1
            while context.is_active() and not self.hears.wait(0.05):
                pass
        return super().Health(request, context)


def test_a_missed_health_call_stops_no_new_request(serve_legacy, coordinator, legacy_client):
    old = serve_legacy(Deaf(words))
    front = coordinator(old.address)
    client, peer = legacy_client(front.address("coordinator")), old.servicer
    assert text(client.stream("a")) == "a "
    peer.hears.clear()
    wait_until(lambda: peer.missed == 1, what="a Health call")
    peer.asked = 0
    assert text(client.stream("b")) == "b "
    wait_until(lambda: peer.missed == 2, what="another one")  # the first was given up
    peer.hears.set()
    assert text(client.stream("c")) == "c "
    wait_until(lambda: peer.asked > 2, what="the polls to go on")
    assert "not reachable" not in front.log


def test_an_old_worker_that_only_streams_is_not_given_up(serve_legacy, coordinator, legacy_client):
    more = threading.Event()

    def script(request, context):
        while not more.wait(0.1):
            yield "x"

    old = serve_legacy(Deaf(script))
    front = coordinator(old.address)
    client, peer = legacy_client(front.address("coordinator")), old.servicer
    stream = client.stream("a")
    seen = [next(stream)]
    peer.hears.clear()
    while peer.missed < 4:  # two would be the end of a silent one
        seen.append(next(stream))
    assert "not reachable" not in front.log
    more.set()
    assert set(text(seen) + text(stream)) == {"x"}
    front.wait_log("not reachable", limit=20)  # silent now
    peer.hears.set()
