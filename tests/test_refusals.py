"""Bodies that clients got wrong, or that were made to hurt: what is the client's fault is a 4xx with a short message, before
any stream begins, and the process goes on."""

import json

import pytest

from conftest import echo_process
from support.process import http

ASK = [{"role": "user", "content": "a b"}]
ENDLESS = {"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/x"}}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{bad"}}


@pytest.fixture(scope="module")
def url():
    with echo_process() as url:
        yield url


def answers(url: str, path: str, body: str, expected: int) -> None:
    reply = http.post(url + path, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == expected, (body[:200], reply.text[:200])
    assert len(reply.text) < 1000 and reply.headers["content-type"].startswith("application/json")


def schema(value) -> dict:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": value}}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wrong", [
    {"temperature": -1}, {"temperature": 2.1}, {"seed": 1 << 63}, {"n": 1000000}, {"max_tokens": 5.5}, {"top_logprobs": 5},
    {"logprobs": True, "top_logprobs": 21}, {"stop": ["x"] * 10000}, {"tool_choice": "required"}, {"logit_bias": {"foo": 1}},
    {"modalities": ["audio"]}, {"response_format": {"type": "json_schema", "schema": 123}}, {"response_format": {"type": "nope"}},
    {"response_format": {"type": "json_object", "schema": 123}}, {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"tools": [{"type": "web_search"}]}, {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
    schema(123), schema(ENDLESS), {"messages": None}, {"messages": "x"}, {"messages": [123]}, {"messages": [{}]}, {"messages": []},
    {"messages": [{"role": 1, "content": "a"}]}, {"messages": [{"role": "user", "content": 123}]},
    {"messages": [{"role": "user", "content": []}]}, {"messages": [*ASK, *[{"role": "assistant", "content": "b"}] * 2]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]},
    {"messages": [{"role": "user", "content": "\ud800"}]},
], ids=lambda wrong: json.dumps(wrong)[:60])  # fmt: skip
def test_chat(url, wrong, stream):
    answers(url, "/v1/chat/completions", json.dumps({"model": "default", "messages": ASK, "stream": stream} | wrong), 400)


@pytest.mark.parametrize("odd", [
    {"max_tokens": 0}, {"stream_options": {"include_usage": True}}, {"logprobs": True, "top_logprobs": 0}, {"stop": ["x"] * 9}, {"tools": []}, {"tools": [], "tool_choice": None}, {"logit_bias": {"foo": 0}},
    {"messages": [{"role": "user", "content": "a\0b"}]}, {"messages": [*ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                                                                       {"role": "tool", "tool_call_id": "1", "content": "x"}]},
    {"messages": [{"role": "developer", "content": "d"}, {"role": "user", "content": ""}]},
], ids=lambda odd: json.dumps(odd)[:60])  # fmt: skip
def test_odd_chat_is_answered(url, odd):
    answers(url, "/v1/chat/completions", json.dumps({"model": "default", "messages": ASK} | odd), 200)


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/chat/completions", "[" * 100000), ("/v1/chat/completions", '{"a":' * 100000), ("/v1/chat/completions", "\ufeff{}"),
    ("/v1/chat/completions", '{"model":"default","messages":[{"role":"user","content":"a"}],"temperature":1e999}'),
    ("/v1/chat/completions", '{"model":"default","messages":[{"role":"user","content":"a"}],"top_p":NaN}'),
    ("/v1/completions", '{"model":"default","prompt":[]}'), ("/v1/completions", '{"model":"default","prompt":[-5]}'),
    ("/v1/completions", '{"model":"default","prompt":"a","best_of":1000000}'),
    ("/v1/embeddings", '{"model":"default","input":[]}'), ("/v1/embeddings", '{"model":"default","input":"a","dimensions":0}'),
    ("/v1/embeddings", '{"model":"default","input":["a",1]}'),
    ("/v1/responses", '{"model":"default","input":"a","previous_response_id":"x"}'), ("/v1/responses", "{}"),
    ("/v1/messages", '{"model":"default","messages":[],"max_tokens":5}'),
    ("/v1/messages", '{"model":"default","messages":[{"role":"user","content":"a"}],"max_tokens":-1}'),
    ("/v1/rerank", '{"model":"default","query":"q","documents":[]}'), ("/v1/rerank", '{"model":"default","query":"q","documents":[1,2]}'),
    ("/detokenize", '{"model":"default","tokens":[99999999]}'), ("/detokenize", '{"model":"default","tokens":[-1]}'),
    ("/api/chat", '{"model":"default","messages":"x"}'), ("/api/embed", '{"model":"default","input":1}'), ("/api/show", "{}"),
    ("/api/v1/inference", '{"prompt":1}'),
])  # fmt: skip
def test_the_others(url, path, body):
    answers(url, path, body, 400)
