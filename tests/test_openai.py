"""The official OpenAI client against the all-in-one on echo."""

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from conftest import client, registry
from support.process import Process, http


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


def joined(stream) -> str:
    return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)


@pytest.fixture
def api(echo):
    return client(echo())


def test_a_chat_answer(api):
    done = api.chat.completions.create(model="default", messages=user("one two three"))
    assert done.object == "chat.completion" and done.id.startswith("chatcmpl-") and done.model == "default"
    (choice,) = done.choices
    assert (choice.index, choice.message.role, choice.message.content) == (0, "assistant", "one two three")
    assert choice.finish_reason == "stop" and choice.message.tool_calls is None
    assert done.usage.completion_tokens == 3
    assert done.usage.total_tokens == done.usage.prompt_tokens + 3
    performance = done.model_extra["performance"]
    assert performance["ttft_ms"] >= 0 and performance["tps"] >= 0 and len(performance["trace_id"]) == 36


def test_a_streamed_answer_is_the_same(api):
    ask = dict(model="default", messages=user("a b c"), max_tokens=5)
    whole = api.chat.completions.create(**ask)
    chunks = list(api.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    *parts, usage = chunks
    assert joined(parts) == whole.choices[0].message.content == "a b c a b"
    assert parts[0].choices[0].delta.role == "assistant" and parts[0].choices[0].delta.content == ""
    assert all(c.choices[0].delta.role is None for c in parts[1:])
    assert [c.choices[0].finish_reason for c in parts if c.choices[0].finish_reason] == ["length"]
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1
    assert usage.choices == [] and usage.usage == whole.usage
    assert all(c.usage is None for c in parts)


def test_without_include_usage_none_comes(api):
    chunks = list(api.chat.completions.create(model="default", messages=user("a"), stream=True))
    assert all(c.choices and c.usage is None for c in chunks)


def test_the_helper_that_accumulates(api):
    with api.chat.completions.stream(model="default", messages=user("x y z"), n=2) as stream:
        for _ in stream:
            pass
        done = stream.get_final_completion()
    assert [c.message.content for c in done.choices] == ["x y z", "x y z"]


def test_several_choices(api):
    done = api.chat.completions.create(model="default", messages=user("p q"), n=3)
    assert [(c.index, c.message.content) for c in done.choices] == [(i, "p q") for i in range(3)]
    assert done.usage.completion_tokens == 6
    seen = [c.choices[0].index for c in api.chat.completions.create(model="default", messages=user("p q"), n=3, stream=True)]
    assert list(dict.fromkeys(seen)) == [0, 1, 2], "choices must appear in order"


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_across_tokens(api, stream):
    done = api.chat.completions.create(model="default", messages=user("one two three four"), stop=["o thr"], stream=stream)
    if stream:
        chunks = list(done)
        text, reasons = joined(chunks), [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason]
    else:
        text, reasons = done.choices[0].message.content, [done.choices[0].finish_reason]
    assert text == "one tw" and reasons == ["stop"]


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_limits_of_tokens(api, limit):
    done = api.chat.completions.create(model="default", messages=user("a b c"), **{limit: 2})
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == ("a b", "length")
    done = api.chat.completions.create(model="default", messages=user("a b c"), **{limit: 0})
    assert (done.choices[0].message.content or "", done.choices[0].finish_reason) == ("", "length")


def test_content_parts_and_other_roles(api):
    messages = [
        {"role": "developer", "content": "be short"},
        {"role": "user", "content": "ignored"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "part one "}, {"type": "text", "text": "part two"}]},
    ]
    assert api.chat.completions.create(model="default", messages=messages).choices[0].message.content == "part one part two"


def test_unknown_fields_and_the_contracts_are_accepted(api):
    done = api.chat.completions.create(
        model="default", messages=user("a"), user="u", metadata={"k": "v"}, store=False, temperature=0, top_p=0,
        extra_body={"repetition_penalty": 1.1, "colour": "red", "top_k": 40},
    )  # fmt: skip
    assert done.choices[0].message.content == "a"


def test_text_completions(api):
    done = api.completions.create(model="default", prompt="w1 w2", max_tokens=3, echo=True)
    assert done.object == "text_completion" and done.id.startswith("cmpl-")
    assert done.choices[0].text == "w1 w2 w1 w2 w1"
    many = api.completions.create(model="default", prompt=["a b", "c d"], n=2, max_tokens=2)
    assert [(c.index, c.text) for c in many.choices] == [(0, "a b"), (1, "a b"), (2, "c d"), (3, "c d")]
    streamed = "".join(c.choices[0].text for c in api.completions.create(model="default", prompt="a b", max_tokens=3, stream=True))
    assert streamed == "a b a"
    assert api.completions.create(model="default", prompt="x").usage.completion_tokens == 16, "OpenAI's default"


def test_models(api):
    models = api.models.list().data
    assert [m.id for m in models] == ["default"]
    assert api.models.retrieve("default").id == "default"
    with pytest.raises(openai.NotFoundError) as error:
        api.models.retrieve("no/such")
    assert error.value.code == "model_not_found"


WRONG = {
    "max_tokens negative": ({"max_tokens": -5}, "max_tokens"),
    "max_tokens huge": ({"max_tokens": 2**40}, "max_tokens"),
    "temperature text": ({"temperature": "hot"}, "temperature"),
    "temperature range": ({"temperature": 2.5}, "temperature"),
    "top_p range": ({"top_p": -0.1}, "top_p"),
    "n zero": ({"n": 0}, "n"),
    "n too many": ({"n": 1000}, "n"),
    "stop number": ({"stop": 7}, "stop"),
    "messages empty": ({"messages": []}, "messages"),
    "messages text": ({"messages": "hello"}, "messages"),
    "message number": ({"messages": [123]}, "messages"),
    "message without role": ({"messages": [{"content": "x"}]}, "messages"),
    "content number": ({"messages": [{"role": "user", "content": 123}]}, "messages"),
    "stream text": ({"stream": "yes"}, "stream"),
    "logprobs": ({"top_logprobs": 3}, "top_logprobs"),
    "logit_bias": ({"logit_bias": {"x": 5}}, "logit_bias"),
    "response_format": ({"response_format": {"type": "poem"}}, "response_format"),
    "tool_choice": ({"tool_choice": "required"}, "tool_choice"),
}


@pytest.fixture(scope="module")
def shared():
    """One all-in-one for tests that only ask it."""
    process = Process("serve", "--listen", "127.0.0.1:0", "--engine", "echo", expect=("gateway",))
    yield process
    process.kill()


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_a_400_that_names_it(shared, case):
    fields, param = WRONG[case]
    body = {"model": "default", "messages": user("x")} | fields
    reply = http.post(shared.address("gateway") + "/v1/chat/completions", json=body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error" and error["param"].startswith(param)
    assert reply.headers["x-request-id"]


def test_an_unknown_model_is_a_404(shared):
    api = client(shared.address("gateway"))
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as error:
            api.chat.completions.create(model="nope", messages=user("x"), stream=stream)
        assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_errors_of_the_engine(echo):
    api = client(echo(refuse=True))
    with pytest.raises(openai.InternalServerError) as error:
        api.chat.completions.create(model="default", messages=user("x"))
    assert error.value.status_code == 503 and float(error.value.response.headers["retry-after"]) >= 1


def test_an_error_after_the_first_token(echo):
    url = echo(fail_after=2)
    api = client(url)
    text = ""
    with pytest.raises(openai.APIError):
        for chunk in api.chat.completions.create(model="default", messages=user("a b c"), max_tokens=9, stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text == "a b"
    with pytest.raises(openai.InternalServerError):
        api.chat.completions.create(model="default", messages=user("a b c"), max_tokens=9)
    body = {"model": "default", "messages": user("a b c"), "max_tokens": 9, "stream": True}
    raw = http.post(url + "/v1/chat/completions", json=body).text.strip().split("\n\n")
    assert set(json.loads(raw[-1].removeprefix("data: "))["error"]) == {"message", "type", "param", "code"}
    assert "[DONE]" not in raw[-1]


def test_a_token_guards_the_api(echo):
    url = echo(env={"GATEWAY_API_TOKEN": "s3cret"})
    for key in ("wrong", "s3cret2", "S3CRET"):
        with pytest.raises(openai.AuthenticationError) as error:
            client(url, api_key=key).chat.completions.create(model="default", messages=user("x"))
        assert error.value.response.headers["www-authenticate"].startswith("Bearer")
    assert client(url, api_key="s3cret").chat.completions.create(model="default", messages=user("x"))
    ask = {"model": "default", "messages": user("x")}
    post = lambda **headers: http.post(url + "/v1/chat/completions", json=ask, headers=headers).status_code  # noqa: E731
    assert post() == 401
    assert post(Authorization="bearer s3cret") == 200
    assert post(**{"X-Api-Key": "s3cret"}) == 200
    assert http.get(url + "/v1/models").status_code == 401
    assert http.get(url + "/health").status_code == 200


def test_the_list_of_models_may_be_open(start, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('[gateway]\napi_token = "s3cret"\nmodels_need_token = false\n')
    url = start("serve", "--listen", "127.0.0.1:0", "--engine", "echo", "--config", config, expect=("gateway",)).address("gateway")
    for path in ("/v1/models", "/v1/models/default", "/api/tags"):
        assert http.get(url + path).status_code == 200
    assert http.post(url + "/v1/chat/completions", json={}).status_code == 401


def test_tool_calls_are_streamed_as_the_clients_join_them(api):
    """Each call with an index of its own; its id, type and name once, with the first piece."""
    function = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}
    ask = dict(model="default", messages=user("call it"), tools=[{"type": "function", "function": function}], tool_choice="required", n=2)
    chunks = [c for c in api.chat.completions.create(**ask, stream=True) if c.choices]
    for choice in (0, 1):
        own = [c.choices[0] for c in chunks if c.choices[0].index == choice]
        (first, *more) = [d for c in own for d in c.delta.tool_calls or []]
        assert (first.index, first.type, first.function.name) == (0, "function", "f") and first.id and first.function.arguments is not None
        assert all(d.index == 0 and d.id is None and d.type is None and d.function.name is None for d in more)
        assert json.loads("".join(d.function.arguments for d in (first, *more)))
        assert [c.finish_reason for c in own if c.finish_reason] == ["tool_calls"]
    with api.chat.completions.stream(**ask) as stream:
        for _ in stream:
            pass
        done = stream.get_final_completion()
    assert [c.finish_reason for c in done.choices] == ["tool_calls"] * 2
    whole = api.chat.completions.create(**ask).choices[0].message
    assert whole.content is None and whole.tool_calls[0].function.name == "f"


@pytest.mark.parametrize(("options", "status", "again"), [({"refuse": True}, 503, None), ({"fail_after": 0}, 503, None)])
def test_whether_a_later_try_may_help_is_told(echo, options, status, again):
    reply = http.post(echo(**options) + "/v1/chat/completions", json={"messages": user("x")})
    assert (reply.status_code, reply.headers.get("x-should-retry")) == (status, again) and 1 <= float(reply.headers["retry-after"]) <= 60


def test_64_at_once_all_right(shared):
    api = client(shared.address("gateway"))

    def ask(n):
        text = f"asked by number {n}"
        limit = 4 * 50
        stream = api.chat.completions.create(model="default", messages=user(text), max_tokens=limit, stream=True)
        return joined(stream) == " ".join([text] * 50)

    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(ask, range(64)))


def test_request_ids_and_the_log_line(shared):
    url = shared.address("gateway") + "/v1/chat/completions"
    ask = {"model": "default", "messages": user("x")}
    assert http.post(url, json=ask, headers={"X-Request-Id": "mine-42"}).headers["x-request-id"] == "mine-42"
    shared.wait_log("mine-42")
    own = http.post(url, json={"model": "default"}).headers["x-request-id"]
    shared.wait_log(own)
    assert http.post(url, json=ask, headers={"X-Request-Id": "x" * 500}).headers["x-request-id"] != "x" * 500


def test_models_of_a_registry(echo):
    url = echo(env={"CY_LLM_MODEL_REGISTRY": registry(**{"org/red": {"reply_tokens": 1}, "blue": {"reply_tokens": 2}}),
                    "CY_LLM_DEFAULT_MODEL": "blue"})  # fmt: skip
    api = client(url)
    assert {m.id for m in api.models.list()} == {"default", "org/red", "blue"}
    say = lambda model: api.chat.completions.create(model=model, messages=user("a b c"), max_tokens=9).choices[0].message.content  # noqa: E731
    assert (say("org/red"), say("blue"), say("default")) == ("a", "a b", "a b")
    assert http.get(url + "/v1/models/org/red").json()["id"] == "org/red"
    assert http.get(url + "/v1/models/org%2Fred").json()["id"] == "org/red"
