"""The official OpenAI client against the real model. Golden texts: greedy, as llama.cpp's own server gives them."""

import json
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import jsonschema
import openai
import pytest

from conftest import client
from support.process import http, wait_until

pytestmark = pytest.mark.real

GOLDEN = {
    "Count from one to ten in words.": ("\n".join(f"{n}. {n}" for n in range(1, 11)), "stop"),
    "Translate 'good morning' to Spanish.": ("Hoy, buen hora!", "stop"),
}


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


def ask(api, text: str, **kw):
    return api.chat.completions.create(**(dict(model="default", messages=user(text), temperature=0, seed=1, max_tokens=64) | kw))


def read(stream) -> tuple[str, str]:
    text, reason = "", None
    for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        reason = chunk.choices[0].finish_reason or reason
    return text, reason


@pytest.fixture
def api(real):
    return client(real, timeout=300)


@pytest.mark.parametrize("prompt", GOLDEN)
def test_golden_texts(api, prompt):
    done = ask(api, prompt)
    choice = done.choices[0]
    assert (choice.message.content, choice.finish_reason) == GOLDEN[prompt]
    assert done.usage.completion_tokens > 3 and done.usage.prompt_tokens > 10
    assert read(ask(api, prompt, stream=True)) == GOLDEN[prompt]


def test_every_token_is_a_chunk(api):
    prompt = "Count from one to ten in words."
    chunks = list(ask(api, prompt, stream=True, stream_options={"include_usage": True}))
    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert "".join(texts) == GOLDEN[prompt][0]
    assert len(texts) >= chunks[-1].usage.completion_tokens - 2


def test_streaming_and_not_agree_with_a_seed(api):
    kw = dict(temperature=1.0, seed=7, max_tokens=24)
    whole = ask(api, "Tell me a story.", **kw).choices[0].message.content
    assert read(ask(api, "Tell me a story.", stream=True, **kw))[0] == whole
    assert ask(api, "Tell me a story.", **kw | {"seed": 8}).choices[0].message.content != whole


def test_16_at_once_all_right(api):
    prompts = list(GOLDEN) * 8

    def one(n):
        if n % 2:
            return read(ask(api, prompts[n // 2 * 2 % 16], stream=True)) == GOLDEN[prompts[n // 2 * 2 % 16]]
        choice = ask(api, prompts[n]).choices[0]
        return (choice.message.content, choice.finish_reason) == GOLDEN[prompts[n]]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(16)))


def test_64_streams_finish_while_health_answers(real, api, record_property):
    """The latency of /health is reported; what it must be is measured on a quiet machine."""
    stop, probes = threading.Event(), []

    def probe():
        with httpx.Client() as own:
            while not stop.is_set() and len(probes) < 200:
                begin = time.monotonic()
                assert own.get(real + "/health").status_code == 200
                probes.append(time.monotonic() - begin)
                stop.wait(0.02)

    prober = threading.Thread(target=probe)
    prober.start()
    prompt = "Translate 'good morning' to Spanish."
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda n: read(ask(api, prompt, stream=True, max_tokens=16)), range(64)))
    stop.set()
    prober.join(60)
    assert answers == [GOLDEN[prompt]] * 64
    probes.sort()
    p99 = probes[int(len(probes) * 0.99)] * 1000
    record_property("health_p99_ms", round(p99, 1))
    print(f"/health under 64 streams: {len(probes)} probes, p99 {p99:.1f} ms")
    assert p99 < 5000


def test_parameters_are_applied(api):
    stopped = ask(api, "Count from one to ten in words.", stop=["4. 4"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("1. 1\n2. 2\n3. 3\n", "stop")
    cut = ask(api, "Count from one to ten in words.", max_tokens=3)
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 3
    many = ask(api, "Tell me a story.", n=3, temperature=1.2, max_tokens=12)
    assert len({c.message.content for c in many.choices}) == 3
    biased = ask(api, "Say a number.", temperature=1.0, max_tokens=8, extra_body={"top_k": 1}).choices[0].message.content
    assert biased == ask(api, "Say a number.", max_tokens=8).choices[0].message.content


def test_text_completions(api):
    done = api.completions.create(model="default", prompt="Once upon a time", temperature=0, max_tokens=16)
    assert done.choices[0].text.startswith(", ") and done.usage.completion_tokens == 16


def test_other_scripts_arrive_whole(api):
    """A code point of several tokens is held back until it is whole; only the limit may cut the last one."""
    text, _ = read(ask(api, "Repeat: 你好世界 🌍 é", stream=True, max_tokens=32))
    assert "\ufffd" not in text.rstrip("\ufffd") and any(ord(c) > 0x2000 for c in text)


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
        },
    },
}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_forced_tool_call(api, choice):
    kw = dict(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False, max_tokens=128)
    done = ask(api, "What is the weather in Oslo?", **kw).choices[0]
    assert done.finish_reason == "tool_calls" and not done.message.content
    (call,) = done.message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "get_weather" and call.id
    assert isinstance(arguments["city"], str) and arguments["unit"] in ("C", "F")
    pieces = [c.choices[0].delta.tool_calls[0] for c in ask(api, "What is the weather in Oslo?", stream=True, **kw)
              if c.choices and c.choices[0].delta.tool_calls]  # fmt: skip
    assert pieces[0].function.name == "get_weather" and len(pieces) > 3
    assert json.loads("".join(p.function.arguments or "" for p in pieces)) == arguments
    history = user("What is the weather in Oslo?") + [
        done.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "4 degrees, rain"},
    ]
    after = ask(api, "", messages=history, tools=[WEATHER], tool_choice="none", max_tokens=32).choices[0].message
    assert after.content and not after.tool_calls


def test_a_schema_is_held_to(api):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 1, "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}
    for seed in range(3):
        text = ask(api, "Invent a person.", response_format=form, temperature=1.2, seed=seed, max_tokens=96).choices[0].message.content
        person = json.loads(text)
        assert set(person) == {"name", "age"} and 1 <= person["age"] <= 99
    endless = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}
    with pytest.raises(openai.BadRequestError) as error:
        ask(api, "x", response_format=endless)
    assert "response_format" in str(error.value)


def some_schema(source: random.Random, depth: int = 0) -> dict:
    """An object of one to three properties, all bounded, so that answers end."""

    def one() -> dict:
        kind = source.choice(["string", "integer", "boolean", "enum", "array", "null"] + ["object"] * (depth < 1))
        if kind == "string":
            return {"type": "string", "minLength": source.randint(0, 3), "maxLength": source.randint(4, 12)}
        if kind == "integer":
            low = source.randint(-200, 1000)
            return {"type": "integer", "minimum": low, "maximum": low + source.choice([0, 1, 7, 99, 12345])}
        if kind == "enum":
            return {"enum": source.sample(["red", "Blue\n", "grün", 'a "b"', 7, -1.5, None, True], source.randint(1, 5))}
        if kind == "array":
            low = source.randint(0, 2)
            return {"type": "array", "items": one_simple(), "minItems": low, "maxItems": low + source.randint(0, 2)}
        return some_schema(source, depth + 1) if kind == "object" else {"type": kind}

    def one_simple() -> dict:
        return source.choice([{"type": "integer", "minimum": 0, "maximum": 9}, {"type": "string", "maxLength": 8}, {"enum": ["x", "y"]}])

    names = source.sample(["city", "unit", "name", "count", "is_open", "tags", "größe", "a b"], source.randint(1, 3))
    return {"type": "object", "properties": {name: one() for name in names}, "required": names, "additionalProperties": False}


# With another implementation of JSON Schema as the judge; drawn at a temperature that makes the model ramble, 16 at once.
@pytest.mark.long
@pytest.mark.parametrize("kind", ["schema", "tool"])
def test_a_hundred_of_a_hundred_are_valid(real, kind):
    def once(n: int) -> None:
        schema = some_schema(random.Random(n))
        kw = dict(temperature=1.3, seed=n, max_tokens=500)
        if kind == "schema":
            form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
            choice = ask(client(real, timeout=300), f"Invent something, number {n}.", response_format=form, **kw).choices[0]
            assert choice.finish_reason == "stop", choice
            text = choice.message.content
        else:
            tools = [WEATHER, {"type": "function", "function": {"name": "act", "description": "Acts.", "parameters": schema}}]
            named = {"type": "function", "function": {"name": "act"}}
            choice = ask(client(real, timeout=300), f"Do something, number {n}.", tools=tools, tool_choice=named, **kw).choices[0]
            assert choice.finish_reason == "tool_calls" and not choice.message.content, choice
            (call,) = choice.message.tool_calls
            assert call.function.name == "act"
            text = call.function.arguments
        jsonschema.validate(json.loads(text), schema)

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(once, n) for n in range(100)]:
            done.result()


def test_embeddings(api):
    texts = ["The cat sleeps on the sofa.", "A cat is sleeping on the couch.", "Interest rates rose by two percent."]
    vectors = [d.embedding for d in api.embeddings.create(model="default", input=texts).data]
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))  # noqa: E731
    assert all(abs(dot(v, v) - 1) < 1e-3 for v in vectors)
    assert dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2])
    assert len(api.embeddings.create(model="default", input="x", dimensions=16).data[0].embedding) == 16


def test_too_long_is_a_400_before_the_stream(api):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as error:
            ask(api, "word " * 20_000, stream=stream)
        assert error.value.code == "context_length_exceeded"
        assert "maximum context length is " in error.value.message and "exceeds the available context size" in error.value.message
        assert error.value.body["n_prompt_tokens"] > error.value.body["n_ctx"] > 0


def test_clients_that_leave_free_the_engine(real, api):
    def running():
        lines = http.get(real + "/metrics").text.splitlines()
        return any(line.startswith("worker_inflight_requests") and float(line.split()[-1]) > 0 for line in lines)

    streams = [ask(api, "Write a long story.", stream=True, max_tokens=2000, extra_body={"ignore_eos": True}) for _ in range(4)]
    for stream in streams:
        next(stream)
    assert running()
    for stream in streams:
        stream.close()
    wait_until(lambda: not running(), limit=20, what="the engine to be free")
    assert ask(api, "Translate 'good morning' to Spanish.").choices[0].message.content == "Hoy, buen hora!"


def test_forms_by_the_names_of_vllm(real, api):
    """In chats and completions, with seeds at a temperature at which the model says anything."""

    def chat(seed, **form):
        done = ask(api, "Left or right?", temperature=1.5, seed=seed, extra_body=form).choices[0]
        assert done.finish_reason == "stop"
        return done.message.content

    def text(seed, **form):
        done = api.completions.create(model="default", prompt="I was born in", temperature=1.5, seed=seed, max_tokens=64, extra_body=form).choices[0]
        assert done.finish_reason == "stop"
        return done.text

    for say in chat, text:
        for form in {"guided_choice": ["left", "right"]}, {"structured_outputs": {"choice": ["left", "right"]}}:
            assert {say(seed, **form) for seed in range(12)} == {"left", "right"}
        years = {say(seed, guided_regex="(19|20)[0-9]{2}") for seed in range(6)}
        assert len(years) > 1 and all(re.fullmatch("(19|20)[0-9]{2}", year) for year in years)
        assert re.fullmatch("(ab)+c", say(1, guided_grammar='root ::= "ab"{1,4} "c"'))
        assert json.loads(say(1, guided_json={"enum": [4, 5]})) in (4, 5)
    with api.chat.completions.with_streaming_response.create(
        model="default", messages=user("?"), stream=True, temperature=1.5, extra_body={"guided_choice": ["left", "right"]}
    ) as stream:
        chunks = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {")]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) in ("left", "right")


@pytest.mark.parametrize("path, body", [("/v1/chat/completions", {"messages": user("x")}), ("/v1/completions", {"prompt": "x"})])
@pytest.mark.parametrize("form, param, words", [
    ({"guided_choice": []}, "guided_choice", "from 1 to"),
    ({"guided_regex": "(?=a)b"}, "guided_regex", "of this kind are not known (at character 2)"),
    ({"guided_grammar": "root ::= root"}, "guided_grammar", "cannot be used"),
    ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs", "'structural_tag'"),
    ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice", "guided_regex"),
    ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex", "response_format"),
])  # fmt: skip
def test_forms_that_cannot_be_are_refused_by_name(real, path, body, form, param, words):
    refused = http.post(real + path, json={"model": "default", **body, **form})
    assert refused.status_code == 400, refused.text
    error = refused.json()["error"]
    assert error["param"] == param and param in error["message"] and words in error["message"], error


def test_through_three_processes(start, model):
    worker = start("worker", "--port", "0", "--health-port", "0", "--model", model, "--preload", expect=("worker",))
    coordinator = start("coordinator", "--listen", "127.0.0.1:0", "--http-listen", "off", "--workers", worker.address("worker"))
    gateway = start("gateway", "--listen", "127.0.0.1:0", "--coordinator", coordinator.address("coordinator"))
    url = gateway.address("gateway")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    api = client(url)
    arrived = []
    text = ""
    for chunk in ask(api, "Count from one to ten in words.", stream=True):
        if chunk.choices[0].delta.content:
            arrived.append(time.monotonic())
            text += chunk.choices[0].delta.content
    assert text == GOLDEN["Count from one to ten in words."][0]
    assert len(set(arrived)) > 5 and arrived[0] < arrived[-1]
    models = {m.id for m in api.models.list()}
    assert "default" in models and len(models) == 2
