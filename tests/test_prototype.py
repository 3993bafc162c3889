"""The HTTP API of the prototype before this one."""

import json

import pytest

from conftest import echo_process
from support.process import http


@pytest.fixture(scope="module")
def url():
    with echo_process() as url:
        yield url


def test_inference(url):
    body = {"modelId": "default", "prompt": "a b c", "generation": {"maxNewTokens": 2}, "metadata": {"traceId": "T"}}
    reply = http.post(url + "/api/v1/inference", json=body).json()
    assert (reply["traceId"], reply["modelId"], reply["content"]) == ("T", "default", "a b") and reply["latencyMillis"] >= 0
    assert reply["choices"] == [{"index": 0, "text": "a b", "finish_reason": "length"}]
    assert reply["usage"]["completion_tokens"] == 2


def test_inference_streamed(url):
    reply = http.post(url + "/api/v1/inference/stream", json={"modelId": "default", "prompt": "a b c", "generation": {"maxNewTokens": 3}})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *frames, end = reply.text.strip().split("\n\n")
    assert end == "data: [DONE]"
    events = [json.loads(f.removeprefix("data: ")) for f in frames]
    assert "".join(e["content"] for e in events) == "a b c"
    assert [e["done"] for e in events] == [False, False, False, True] and [e["index"] for e in events] == [0, 1, 2, 3]


def test_errors(url):
    reply = http.post(url + "/api/v1/inference", json={"modelId": "nope", "prompt": "a"})
    assert reply.status_code == 404 and reply.json()["error"]["code"] == "MODEL_NOT_FOUND"
    assert http.post(url + "/api/v1/inference", json={"modelId": "default"}).json()["error"]["code"] == "INVALID_REQUEST"
