"""A Python client of the prototype's kind in front of our worker and our coordinator."""

import threading

import grpc
import pytest

from conftest import registry
from support.legacy import LOADING, pb
from support.process import wait_until


@pytest.fixture(params=["worker", "coordinator", "worker-unix", "coordinator-unix"])
def peer(request, worker, coordinator, legacy_client, tmp_path):
    """peer(options, env=...): a client of a server with the echo model `default`."""
    kind, _, unix = request.param.partition("-")

    def begin(options=None, env=None, token=""):
        if kind == "worker":
            args = ("--uds-path", str(tmp_path / "w.sock")) if unix else ()
            server = worker(options, *args, env=env)
        else:
            behind = worker(options, env=env)
            listen = ("--listen", f"127.0.0.1:0,unix:{tmp_path}/c.sock") if unix else ()
            server = coordinator(behind.address("worker"), args=listen, env=env)
        return legacy_client(server.address(kind, unix=bool(unix)), token)

    return begin


def test_chunks_come_in_order_and_end_with_the_final_message(peer):
    messages = list(peer().stream("one two three four", trace="trace-7"))
    *chunks, last = [m for m in messages if LOADING not in m.chunk]
    assert "".join(m.chunk for m in chunks) == "one two three four"
    assert [m.index for m in messages] == list(range(len(messages)))
    assert all(m.chunk and not m.end_of_stream for m in messages[:-1])
    assert last.end_of_stream and last.chunk == ""
    assert {m.trace_id for m in messages} == {"trace-7"}
    assert last.ttft_ms > 0


def test_generation_parameters_count_and_0_means_unset(peer):
    client = peer()
    text = "".join(m.chunk for m in client.stream("a b c", max_tokens=5) if LOADING not in m.chunk)
    assert text == "a b c a b"
    text = "".join(m.chunk for m in client.stream("a b c", max_tokens=0) if LOADING not in m.chunk)
    assert text == "a b c"


def test_loading_shows_as_marked_lines_before_the_text(peer):
    messages = list(peer({"load_ms": 300}).stream("hello"))
    marked = [LOADING in m.chunk for m in messages]
    assert marked[0] and messages[0].chunk.endswith("\n")
    assert marked == sorted(marked, reverse=True), "a loading line came after text"
    assert [m.index for m in messages] == list(range(len(messages)))


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (dict(prompt="x", model="nope"), grpc.StatusCode.NOT_FOUND, "Model 'nope' not found in registry"),
        (dict(prompt="x" * 50_001), grpc.StatusCode.INVALID_ARGUMENT, "50000"),
        (dict(prompt=" \n"), grpc.StatusCode.INVALID_ARGUMENT, ""),
    ],
    ids=["unknown model", "long prompt", "blank prompt"],
)
def test_refusals_have_the_contracts_codes(peer, request_, code, words):
    client = peer()
    with pytest.raises(grpc.RpcError) as error:
        list(client.stream(**request_))
    assert error.value.code() == code
    assert words in error.value.details()


def test_50000_code_points_are_no_long_prompt(peer):
    prompt = "é" * 49_998 + " z"
    assert "".join(m.chunk for m in peer().stream(prompt) if LOADING not in m.chunk) == prompt


def test_an_engine_that_is_full_says_so(peer):
    with pytest.raises(grpc.RpcError) as error:
        list(peer({"refuse": True}).stream("x"))
    assert error.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


def test_a_call_without_a_request_is_an_error(peer):
    with pytest.raises(grpc.RpcError) as error:
        list(peer().stub.StreamPredict(iter([]), timeout=60))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "Empty request stream"


def test_the_clients_deadline_and_cancellation_are_kept(peer):
    client = peer({"hang_after": 1})
    with pytest.raises(grpc.RpcError) as error:
        list(client.stream("a b c", timeout=1))
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    call = client.stream("a b c")
    next(call)
    call.cancel()
    with pytest.raises(grpc.RpcError) as error:
        list(call)
    assert error.value.code() == grpc.StatusCode.CANCELLED


def test_control_and_health(peer):
    client = peer()
    reply = client.control("ping")
    assert (reply.command, dict(reply.payload)) == ("ping_response", {"status": "ok", "message": "pong"})
    assert "default" in client.control("list_models").payload["models"].split(",")
    reply = client.control("dance")
    assert reply.payload["status"] == "error" and "Unknown command: dance" in reply.payload["message"]
    reply = client.control("unload_model")
    assert reply.payload["status"] == "error" and "Missing model_id" in reply.payload["message"]
    assert client.control("unload_model", model_id="default").payload["status"] == "ok"
    health = client.health()
    assert health.healthy and "requests_inflight" in health.metrics


def test_an_unset_trace_id_of_a_control_message_is_made_up(peer):
    assert peer().control("ping").trace_id


def test_the_internal_token_guards_all_but_health(peer, legacy_client):
    env = {"CY_LLM_INTERNAL_TOKEN": "s3cret"}
    client = peer(env=env, token="s3cret")
    assert "".join(m.chunk for m in client.stream("hi there") if LOADING not in m.chunk) == "hi there"
    for metadata in ((), (("authorization", "Bearer wrong!"),), (("authorization", "bearer s3cret"),)):
        client.metadata = metadata
        with pytest.raises(grpc.RpcError) as error:
            list(client.stream("hi"))
        assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as error:
            client.control("ping")
        assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert client.health().healthy


def test_training_is_refused_with_the_reason(peer):
    with pytest.raises(grpc.RpcError) as error:
        list(peer().training.StartTraining(pb.TrainingRequest(job_id="j"), timeout=60))
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "training" in error.value.details()


def test_32_calls_at_once_get_their_own_answers(peer):
    client, answers = peer(), {}

    def ask(n):
        chunks = client.stream(f"call {n} is mine", max_tokens=40, trace=f"t{n}")
        answers[n] = "".join(m.chunk for m in chunks if LOADING not in m.chunk and m.trace_id == f"t{n}")

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(32)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert answers == {n: " ".join([f"call {n} is mine"] * 10) for n in range(32)}


def test_a_coordinator_without_workers_says_so(coordinator, legacy_client):
    process = coordinator(ready=False)
    client = legacy_client(process.address("coordinator"))
    with pytest.raises(grpc.RpcError) as error:
        list(client.stream("x"))
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    health = client.health()
    assert health.metrics["error"] == "worker_not_configured"
    assert client.control("unload_model", model_id="x").payload["error"] == "worker_not_configured"


def test_models_of_all_workers_are_listed_and_reached(worker, coordinator, legacy_client):
    first = worker(env={"CY_LLM_MODEL_REGISTRY": registry(default={}, red={"reply_tokens": 1})})
    second = worker(env={"CY_LLM_MODEL_REGISTRY": registry(default={}, blue={"reply_tokens": 2})})
    front = coordinator(first.address("worker"), second.address("worker"))
    client = legacy_client(front.address("coordinator"))
    wait_until(lambda: client.health().metrics["workers_healthy"] == "2", what="both workers")
    models = client.control("list_models").payload["models"].split(",")
    assert {"red", "blue", "default"} <= set(models)
    for _ in range(4):  # whoever's turn it is
        for model, answer in (("red", "a"), ("blue", "a b")):
            chunks = client.stream("a b c", model=model, max_tokens=9)
            assert "".join(m.chunk for m in chunks if LOADING not in m.chunk) == answer
