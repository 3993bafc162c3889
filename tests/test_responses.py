"""The Responses API with the official OpenAI client, against the all-in-one on echo."""

import json

import openai
import pytest

from conftest import client, echo_process
from support.process import http


@pytest.fixture(scope="module")
def url():
    with echo_process() as url:
        yield url


@pytest.fixture
def api(url):
    return client(url)


def test_a_response(api):
    done = api.responses.create(model="default", input="one two three", instructions="be short", metadata={"k": "v"})
    assert done.object == "response" and done.id.startswith("resp_") and done.status == "completed" and done.error is None
    assert done.output_text == "one two three" and done.metadata == {"k": "v"} and done.instructions == "be short"
    assert done.usage.output_tokens == 3 and done.usage.total_tokens == 3 + done.usage.input_tokens


def test_the_limit_makes_it_incomplete(api):
    done = api.responses.create(model="default", input="a b c", max_output_tokens=2)
    assert (done.status, done.incomplete_details.reason, done.output_text) == ("incomplete", "max_output_tokens", "a b")


def test_the_events_of_a_stream(api):
    events = list(api.responses.create(model="default", input=[{"role": "user", "content": "a b"}], stream=True))
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert [e.type for e in events] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert events[-1].response.output_text == "a b" and len({e.item_id for e in events if hasattr(e, "item_id")}) == 1


def test_the_streaming_helper(api):
    with api.responses.stream(model="default", input="x y z") as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        done = stream.get_final_response()
    assert text == done.output_text == "x y z"


def test_the_body_ends_after_completed(url):
    body = {"model": "default", "input": "a", "stream": True}
    with http.stream("POST", url + "/v1/responses", json=body) as reply:
        text = "".join(reply.iter_text())
    assert text.rstrip().split("\n\n")[-1].startswith("event: response.completed\n") and "[DONE]" not in text


def test_what_codex_sends_is_accepted(url):
    body = {
        "model": "default", "instructions": "You are a coding agent.", "stream": True, "store": False, "include": ["reasoning.encrypted_content"],
        "parallel_tool_calls": False, "prompt_cache_key": "k", "reasoning": {"effort": "medium", "summary": "auto"}, "client_metadata": {},
        "tool_choice": "auto", "tools": [{"type": "local_shell"}, {"type": "web_search"}, {"type": "namespace", "name": "x", "tools": []}],
        "input": [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
                  {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "do it"}]}],
    }  # fmt: skip
    reply = http.post(url + "/v1/responses", json=body)
    assert reply.status_code == 200, reply.text
    last = json.loads(reply.text.strip().split("\n\n")[-1].split("data: ")[1])
    assert last["type"] == "response.completed"
    assert {"input_tokens", "output_tokens", "total_tokens"} <= set(last["response"]["usage"])


def test_logprobs(api):
    ask = {"model": "default", "input": "a b", "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    part = api.responses.create(**ask).output[0].content[0]
    assert "".join(t.token for t in part.logprobs) == part.text and all(len(t.top_logprobs) <= 2 for t in part.logprobs)
    with api.responses.stream(**ask) as stream:
        events = list(stream)
        streamed = stream.get_final_response().output[0].content[0]
    deltas = [e for e in events if e.type == "response.output_text.delta"]
    assert ["".join(t.token for t in e.logprobs) for e in deltas] == [e.delta for e in deltas]
    assert streamed.logprobs == part.logprobs and part.logprobs[0].bytes == list(part.logprobs[0].token.encode())
    assert api.responses.create(model="default", input="a").output[0].content[0].logprobs == []
    with pytest.raises(openai.BadRequestError) as error:
        api.responses.create(model="default", input="a", top_logprobs=21)
    assert error.value.param == "top_logprobs"


def test_errors(api):
    with pytest.raises(openai.BadRequestError) as error:
        api.responses.create(model="default", input="a", previous_response_id="resp_1")
    assert error.value.code == "unsupported" and error.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):
        api.responses.create(model="nope", input="a", stream=True)


def test_input_tokens_are_counted(url):
    count = http.post(url + "/v1/responses/input_tokens", json={"model": "default", "input": "a b c"}).json()
    assert count["object"] == "response.input_tokens" and count["input_tokens"] > 0


def test_an_error_after_the_first_token(echo):
    reply = http.post(echo(fail_after=2) + "/v1/responses", json={"model": "default", "input": "a b c", "stream": True})
    name, data = reply.text.strip().split("\n\n")[-1].split("\n")
    assert name == "event: response.failed" and json.loads(data.removeprefix("data: "))["response"]["error"]["code"]
