"""The official Ollama client against the all-in-one on echo."""

import json

import ollama
import pytest

from conftest import echo_process
from support.process import http


@pytest.fixture(scope="module")
def url():
    with echo_process() as url:
        yield url


@pytest.fixture
def api(url):
    return ollama.Client(host=url)


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


def test_chat(api):
    done = api.chat(model="default", messages=user("one two three"))
    assert done.message.content == "one two three" and done.message.role == "assistant"
    assert done.done and done.done_reason == "stop" and done.eval_count == 3 and done.prompt_eval_count > 0
    assert done.total_duration >= 0 and done.created_at


def test_chat_streams(api):
    parts = list(api.chat(model="default:latest", messages=user("a b c"), stream=True, options={"num_predict": 2}))
    assert "".join(p.message.content for p in parts) == "a b"
    assert [p.done for p in parts] == [False] * (len(parts) - 1) + [True] and parts[-1].done_reason == "length"
    assert {p.model for p in parts} == {"default:latest"}


def test_generate(api):
    assert api.generate(model="default", prompt="x y", system="s").response == "x y"
    assert "".join(p.response for p in api.generate(model="default", prompt="x y", stream=True)) == "x y"
    loaded = api.generate(model="default")
    assert loaded.done and loaded.done_reason == "load" and loaded.response == ""


def test_models(api):
    assert [m.model for m in api.list().models] == ["default"]
    shown = api.show("default")
    assert "completion" in shown.capabilities and shown.modelinfo["general.architecture"]
    api.chat(model="default", messages=user("a"))
    assert [m.model for m in api.ps().models] == ["default"]


def test_errors(api, url):
    for call in (lambda: api.chat(model="nope", messages=user("a")), lambda: api.show("nope")):
        with pytest.raises(ollama.ResponseError) as error:
            call()
        assert error.value.status_code == 404
    with pytest.raises(ollama.ResponseError):
        list(api.chat(model="nope", messages=user("a"), stream=True))
    for path in ("/api/chat", "/api/nothing"):
        assert set(http.post(url + path, content="{").json()) == {"error"}


def test_an_error_after_the_first_token(echo):
    api = ollama.Client(host=echo(fail_after=2))
    text = ""
    with pytest.raises(ollama.ResponseError):
        for part in api.chat(model="default", messages=user("a b c"), stream=True):
            text += part.message.content
    assert text == "a b"


def test_curl_without_a_content_type(url):
    body = json.dumps({"model": "default", "messages": user("a b")})
    reply = http.post(url + "/api/chat", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert reply.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert lines[-1]["done"] and reply.text.endswith("\n")


def test_what_its_tools_look_for(url):
    assert http.get(url + "/").text == "Ollama is running" and http.head(url + "/").status_code == 200
    version = http.get(url + "/api/version").json()["version"].split(".")
    assert len(version) == 3 and all(part.isdigit() for part in version)
