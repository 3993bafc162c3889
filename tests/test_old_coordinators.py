"""The prototype's Python coordinator behind our gateway, with its Python worker or ours behind it."""

import time

import grpc
import openai
import pytest

from conftest import client
from support.legacy import LOADING, Coordinator, Worker
from support.process import http, wait_until


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


@pytest.fixture(params=["tcp", "unix"])
def place(request, tmp_path):
    return lambda name: {} if request.param == "tcp" else {"path": tmp_path / name}


@pytest.fixture
def gateway(start):
    def begin(coordinator_address: str) -> str:
        name = "COORDINATOR_UDS_PATH" if coordinator_address.startswith("unix:") else "COORDINATOR_GRPC_ADDR"
        url = start("gateway", "--listen", "127.0.0.1:0", env={name: coordinator_address.removeprefix("unix:")}).address("gateway")
        wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
        return url

    return begin


def words(request, context):
    yield LOADING + " 50%\n"
    yield from (w + " " for w in request.prompt.split())


def test_answers_without_the_loading_marks(serve_legacy, gateway, place):
    old = serve_legacy(Worker(words), **place("w"))
    api = client(gateway(serve_legacy(Coordinator(old.address), **place("c")).address))
    done = api.chat.completions.create(model="default", messages=user("a b c"), max_tokens=9, temperature=0.3)
    assert done.choices[0].message.content == "a b c " and done.choices[0].finish_reason == "stop"
    assert done.usage.completion_tokens == 3
    generation = old.servicer.requests[0].generation
    assert (generation.max_new_tokens, generation.temperature) == (9, 0.3)
    chunks = api.chat.completions.create(model="default", messages=user("a b c"), stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "a b c "


def test_a_conversation_is_flattened_the_prototypes_way(serve_legacy, gateway):
    old = serve_legacy(Worker(words))
    api = client(gateway(serve_legacy(Coordinator(old.address)).address))
    messages = [{"role": "system", "content": "S"}, *user("U1"), {"role": "assistant", "content": "A"}, *user("U2")]
    api.chat.completions.create(model="default", messages=messages)
    assert old.servicer.requests[0].prompt == "System: S\nUser: U1\nAssistant: A\nUser: U2\nAssistant:"


def test_the_first_chunk_is_not_held_back(serve_legacy, gateway):
    def script(request, context):
        yield "first"
        while context.is_active():
            time.sleep(0.005)

    old = serve_legacy(Worker(script))
    api = client(gateway(serve_legacy(Coordinator(old.address)).address))
    stream = api.chat.completions.create(model="default", messages=user("x"), stream=True)
    assert next(c for c in stream if c.choices[0].delta.content).choices[0].delta.content == "first"
    stream.close()
    assert old.servicer.cancelled.wait(30), "the client's leaving reaches the worker"


@pytest.mark.parametrize(
    ("code", "status"),
    [(grpc.StatusCode.NOT_FOUND, 404), (grpc.StatusCode.INVALID_ARGUMENT, 400), (grpc.StatusCode.RESOURCE_EXHAUSTED, 503),
     (grpc.StatusCode.INTERNAL, 500), (grpc.StatusCode.UNAUTHENTICATED, 500)],
)  # fmt: skip
def test_errors_wrapped_by_the_old_coordinator(serve_legacy, gateway, code, status):
    def script(request, context):
        context.abort(code, "details of it")
        yield ""

    old = serve_legacy(Worker(script))
    api = client(gateway(serve_legacy(Coordinator(old.address)).address))
    with pytest.raises(openai.APIStatusError) as error:
        api.chat.completions.create(model="default", messages=user("x"))
    assert error.value.status_code == status
    assert old.address not in error.value.response.text and "RpcError" not in error.value.response.text


def test_our_worker_behind_an_old_coordinator(serve_legacy, gateway, worker):
    api = client(gateway(serve_legacy(Coordinator(worker().address("worker"))).address))
    done = api.chat.completions.create(model="default", messages=user("a b c"), max_tokens=4)
    assert done.choices[0].message.content == "a b c a"
