"""The official Anthropic client against the all-in-one on echo."""

import anthropic
import pytest

from conftest import echo_process
from support.process import http


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def url():
    with echo_process(reply_tokens=3) as url:
        yield url


@pytest.fixture
def api(url):
    return anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=60)


def test_a_message(api):
    done = api.messages.create(model="default", max_tokens=10, messages=user("one two three"))
    assert done.type == "message" and done.role == "assistant" and done.id.startswith("msg_") and done.model == "default"
    assert [(b.type, b.text) for b in done.content] == [("text", "one two three")]
    assert done.stop_reason == "end_turn" and done.stop_sequence is None
    assert done.usage.output_tokens == 3 and done.usage.input_tokens > 0
    assert done._request_id


def test_limits_and_stop_sequences(api):
    done = api.messages.create(model="default", max_tokens=2, messages=user("a b c"))
    assert (done.content[0].text, done.stop_reason) == ("a b", "max_tokens")
    done = api.messages.create(model="default", max_tokens=9, messages=user("a b c"), stop_sequences=["b"])
    assert (done.content[0].text.strip(), done.stop_reason, done.stop_sequence) == ("a", "stop_sequence", "b")


def test_the_streaming_helper(api):
    with api.messages.stream(model="default", max_tokens=9, system="be short", messages=user("x y z")) as stream:
        assert "".join(stream.text_stream) == "x y z"
        done = stream.get_final_message()
    assert done.stop_reason == "end_turn" and done.usage.output_tokens == 3 and done.usage.input_tokens > 0


def test_raw_events_come_in_order(api):
    events = [e.type for e in api.messages.create(model="default", max_tokens=2, messages=user("a b c"), stream=True)]
    assert events == ["message_start", "content_block_start", "content_block_delta", "content_block_delta",
                      "content_block_stop", "message_delta", "message_stop"]  # fmt: skip


def test_tokens_are_counted(api):
    few = api.messages.count_tokens(model="default", messages=user("a b")).input_tokens
    many = api.messages.count_tokens(model="default", messages=user("a b c d e f"), system="s").input_tokens
    assert 0 < few < many


@pytest.mark.parametrize(
    ("fields", "kind", "status"),
    [
        ({"model": "nope"}, anthropic.NotFoundError, 404),
        ({"messages": []}, anthropic.BadRequestError, 400),
        ({"max_tokens": -1}, anthropic.BadRequestError, 400),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, anthropic.BadRequestError, 400),
    ],
)  # fmt: skip
def test_errors_have_its_form(api, fields, kind, status):
    ask = {"model": "default", "max_tokens": 5, "messages": user("x")} | fields
    with pytest.raises(kind) as error:
        api.messages.create(**ask)
    body = error.value.response.json()
    assert error.value.status_code == status and body["type"] == "error" and set(body["error"]) == {"type", "message"}
    assert body["request_id"] == error.value.response.headers["request-id"] == error.value.request_id


def test_what_claude_code_sends_is_accepted(url):
    body = {
        "model": "default", "max_tokens": 64, "stream": False, "metadata": {"user_id": "u"}, "temperature": 1,
        "system": [{"type": "text", "text": "x-anthropic-billing-header: cc=1\n", "cache_control": {"type": "ephemeral"}},
                   {"type": "text", "text": "You are a tool."}],
        "thinking": {"type": "adaptive"}, "context_management": {"edits": []}, "output_config": {"effort": "high"},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello to you", "cache_control": {"type": "ephemeral"}}]}],
    }  # fmt: skip
    reply = http.post(url + "/v1/messages?beta=true", json=body, headers={"anthropic-version": "2023-06-01", "anthropic-beta": "x"})
    assert reply.status_code == 200, reply.text
    assert reply.json()["content"][0]["text"] == "hello to you"


def test_models_have_its_form_for_its_clients(api, url):
    assert [m.id for m in api.models.list()] == ["default"]
    assert http.get(url + "/v1/models").json()["object"] == "list"


def test_an_error_after_the_first_token(echo):
    api = anthropic.Anthropic(base_url=echo(fail_after=2), api_key="none", max_retries=0)
    text = ""
    with pytest.raises(anthropic.APIStatusError):
        with api.messages.stream(model="default", max_tokens=9, messages=user("a b c")) as stream:
            for piece in stream.text_stream:
                text += piece
    assert text == "a b"


def test_a_busy_server_is_overloaded(echo):
    api = anthropic.Anthropic(base_url=echo(refuse=True), api_key="none", max_retries=0)
    with pytest.raises(anthropic.APIStatusError) as error:
        api.messages.create(model="default", max_tokens=9, messages=user("a"))
    assert error.value.status_code == 529 and error.value.response.json()["error"]["type"] == "overloaded_error"
    assert float(error.value.response.headers["retry-after"]) >= 1


def test_its_key_header(echo):
    url = echo(env={"GATEWAY_API_TOKEN": "secret"})
    api = anthropic.Anthropic(base_url=url, api_key="secret", max_retries=0)
    assert api.messages.create(model="default", max_tokens=1, messages=user("a")).content[0].text == "a"
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=url, api_key="wrong", max_retries=0).messages.create(
            model="default", max_tokens=5, messages=user("a"))  # fmt: skip
