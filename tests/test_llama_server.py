"""The real llama-server as a model server: started and supervised by the all-in-one, and two by URL behind our router.
Optional: ./cy-llm test --llama-server builds it and sets CY_TEST_LLAMA_SERVER, CY_TEST_LLAMA_TEMPLATE (a chat template with
tools) and CY_TEST_MODEL.

Its arithmetic is the same in each run of one server, but not with other requests in the batch: texts are compared only where
they must be the same for other reasons."""

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from conftest import client
from support.process import Process, http, run, wait_until

SERVER, TEMPLATE = os.environ.get("CY_TEST_LLAMA_SERVER", ""), os.environ.get("CY_TEST_LLAMA_TEMPLATE", "")
pytestmark = pytest.mark.skipif(not SERVER, reason="CY_TEST_LLAMA_SERVER names no llama-server (./cy-llm test --llama-server)")
CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": False}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "weather of a city", "parameters": CITY}}
OTHER = {"type": "function", "function": {"name": "time", "parameters": CITY}}


def figures(**values):
    print("llama-server:", json.dumps(values))


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


def ask(api, text="Tell me about Paris.", **kw):
    return api.chat.completions.create(model="smol", messages=user(text), **kw)


def text_of(chunks) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def over(path: str) -> httpx.Client:
    """A server's own face, past us. Its connections are not kept: it closes them when it likes."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(transport=httpx.HTTPTransport(uds=path, limits=limits), base_url="http://x", timeout=60)


def busy(direct: httpx.Client) -> int:
    lines = direct.get("/metrics").text.splitlines()
    return int(next(x for x in lines if x.startswith("llamacpp:requests_processing ")).split()[1])


def children(pid: int) -> list[int]:
    below = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [c for b in below for c in [int(b), *children(int(b))]]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Supervised:
    """The all-in-one, whose model is served by a llama-server that it starts."""

    def __init__(self, model: str, *args: str, **more):
        entry = {"model_path": model, "engine": "llama-server", "command": SERVER, "max_model_len": 8192, "max_num_seqs": 4, "stop_grace": 5,
                 "args": ["--threads", "1", *args]} | more  # fmt: skip
        self.process = Process("serve", "--listen", "127.0.0.1:0", "--preload", env={"CY_LLM_MODEL_REGISTRY": json.dumps({"smol": entry})},
                               expect=("gateway",))  # fmt: skip
        self.url = self.process.address("gateway")
        begun = time.monotonic()
        wait_until(lambda: http.get(self.url + "/ready").status_code == 200, limit=120, what="llama-server")
        figures(start_s=round(time.monotonic() - begun, 1))

    def api(self):
        return client(self.url)

    def server(self) -> int:
        return next(p for p in children(self.process.pid) if command_line(p).startswith(SERVER))

    def direct(self) -> httpx.Client:
        return over(command_line(self.server()).split("--host ")[1].split()[0])


@pytest.fixture(scope="module")
def served(model):
    served = Supervised(model, "--jinja", "--chat-template-file", TEMPLATE)
    yield served
    served.process.kill()


def test_chat(served):
    done = ask(served.api(), max_tokens=8, temperature=0)
    assert done.choices[0].message.content and done.choices[0].finish_reason == "length"
    assert done.usage.completion_tokens == 8 and done.usage.prompt_tokens > 5
    chunks = list(ask(served.api(), max_tokens=8, temperature=0, stream=True, stream_options={"include_usage": True}))
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) == 8
    assert text_of(chunks) == done.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == 8


def test_cached_tokens_are_told(served):
    text = "All work and no play makes Jack a dull boy. " * 20
    ask(served.api(), text, max_tokens=1)
    assert ask(served.api(), text, max_tokens=1).usage.prompt_tokens_details.cached_tokens >= 200


def test_several_choices_are_counted_together(served):
    done = ask(served.api(), max_tokens=6, n=3, temperature=0.9, seed=5, extra_body={"ignore_eos": True})
    assert [c.index for c in done.choices] == [0, 1, 2] and all(c.message.content for c in done.choices)
    assert done.usage.completion_tokens == 18


def test_logprobs(served):
    done = ask(served.api(), max_tokens=4, temperature=0, logprobs=True, top_logprobs=2)
    content = done.choices[0].logprobs.content
    assert len(content) == 4 and all(t.logprob <= 0 and len(t.top_logprobs) == 2 for t in content)
    assert "".join(t.token for t in content) == done.choices[0].message.content
    done = served.api().completions.create(model="smol", prompt="one two", max_tokens=2, temperature=0, logprobs=2)
    assert len(done.choices[0].logprobs.tokens) == 2


def test_schema(served):
    done = ask(served.api(), "Where is the Louvre? Answer in JSON.", temperature=0, max_tokens=200,
               response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": CITY}})  # fmt: skip
    assert json.loads(done.choices[0].message.content)["city"] in ("Paris", "Rome")
    with pytest.raises(openai.BadRequestError):
        ask(served.api(), response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nonsense"}}})


def conversation() -> list:
    """llama-server lets a model say anything before a call that is required: it must be shown how."""
    shots = []
    for city in ("Rome", "Paris", "Rome"):
        call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": json.dumps({"city": city})}}
        shots += user(f"What is the weather in {city}?") + [{"role": "assistant", "content": None, "tool_calls": [call]},
                                                            {"role": "tool", "tool_call_id": "c", "content": "sunny"}]  # fmt: skip
    return shots + user("What is the weather in Paris?")


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "weather"}}])
def test_tools(served, choice):
    done = served.api().chat.completions.create(model="smol", messages=conversation(), tools=[OTHER, WEATHER], tool_choice=choice,
                                                temperature=0, max_tokens=60)  # fmt: skip
    (call,) = done.choices[0].message.tool_calls
    assert call.function.name == "weather" and json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    assert done.choices[0].finish_reason == "tool_calls"


def test_a_named_tool_is_the_only_one(served):
    """llama-server takes an object as tool_choice for "auto"."""
    done = served.api().chat.completions.create(model="smol", messages=conversation(), tools=[WEATHER, OTHER], temperature=0, max_tokens=60,
                                                tool_choice={"type": "function", "function": {"name": "time"}})  # fmt: skip
    (call,) = done.choices[0].message.tool_calls
    assert call.function.name == "time"


def test_completions_tokens_and_stop(served):
    api = served.api()
    done = api.completions.create(model="smol", prompt="one two three four five", max_tokens=12, temperature=0)
    assert done.choices[0].text and done.usage.completion_tokens <= 12
    tokens = http.post(served.url + "/tokenize", json={"model": "smol", "prompt": "one two three"}).json()["tokens"]
    assert len(tokens) == 3
    assert http.post(served.url + "/detokenize", json={"model": "smol", "tokens": tokens}).json()["prompt"] == "one two three"
    assert api.completions.create(model="smol", prompt=tokens, max_tokens=2, temperature=0).usage.prompt_tokens == 3
    stopped = ask(api, "Count: 1 2 3 4 5 6 7", temperature=0, max_tokens=64, stop=[" "])
    assert " " not in stopped.choices[0].message.content and stopped.choices[0].finish_reason == "stop"


def test_refusals(served):
    api = served.api()
    with pytest.raises(openai.BadRequestError) as error:
        ask(api, "word " * 9000, max_tokens=4)
    assert error.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError):
        api.completions.create(model="smol", prompt=[10**6], max_tokens=2)
    with pytest.raises(openai.APIStatusError) as error:  # not started with --embeddings
        api.embeddings.create(model="smol", input="a")
    assert error.value.status_code in (400, 501)
    assert http.get(served.url + "/ready").status_code == 200


def test_a_client_that_goes_away(served):
    direct = served.direct()
    stream = ask(served.api(), "Write a long story.", stream=True, max_tokens=4000, extra_body={"ignore_eos": True})
    next(iter(stream))
    assert busy(direct) == 1
    stream.close()
    begun = time.monotonic()
    wait_until(lambda: busy(direct) == 0, limit=10, what="llama-server to be free")
    figures(abort_ms=round((time.monotonic() - begun) * 1000))


def test_many_at_once(served):
    def one(i: int) -> int:
        return ask(served.api(), f"Tell me about the number {i}.", max_tokens=16, temperature=0, extra_body={"ignore_eos": True}).usage.completion_tokens

    begun = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(32))) == [16] * 32
    figures(tokens_per_second_at_16=round(32 * 16 / (time.monotonic() - begun), 1))


def test_killed_and_started_again(served):
    stream = ask(served.api(), "Write a long story.", stream=True, max_tokens=4000, stop=["never said"])
    next(iter(stream))
    before = children(served.process.pid)
    os.kill(served.server(), signal.SIGKILL)
    begun = time.monotonic()
    with pytest.raises(openai.APIError):
        list(stream)
    seen = time.monotonic() - begun

    def again():
        try:
            return ask(served.api(), max_tokens=2).usage.completion_tokens == 2
        except openai.APIError:
            return False

    wait_until(again, limit=120, what="the next llama-server")
    figures(killed_seen_after_s=round(seen, 2), serving_after_s=round(time.monotonic() - begun, 1))
    assert not [p for p in before if alive(p)], "left behind"


def test_killed_and_gone_on_with(served):
    stream = ask(served.api(), "Write a long story.", stream=True, max_tokens=150, temperature=0, extra_body={"ignore_eos": True},
                 stream_options={"include_usage": True})  # fmt: skip
    chunks = [c for _, c in zip(range(20), stream, strict=False)]
    os.kill(served.server(), signal.SIGKILL)
    chunks += stream
    assert chunks[-1].usage.completion_tokens == 150
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]


def test_sigterm_with_an_open_stream(served):
    stream = ask(served.api(), "Write a story.", stream=True, max_tokens=40, extra_body={"ignore_eos": True})
    first = next(iter(stream))
    below = children(served.process.pid)
    begun = time.monotonic()
    served.process.signal(signal.SIGTERM)
    assert len([c for c in [first, *stream] if c.choices and c.choices[0].delta.content]) >= 38
    assert served.process.wait_exit(60) == 0
    figures(stopped_after_s=round(time.monotonic() - begun, 1))
    wait_until(lambda: not any(alive(p) for p in below), limit=10, what="all of it to be gone")


def test_embeddings(model):
    served = Supervised(model, "--embeddings", "--pooling", "mean")
    try:
        one, two = served.api().embeddings.create(model="smol", input=["one two", "three"]).data
        assert len(one.embedding) == len(two.embedding) == 576 and one.embedding != two.embedding
        assert abs(sum(x * x for x in one.embedding) - 1) < 1e-3
        assert served.process.terminate() == 0
    finally:
        served.process.kill()


def test_a_server_that_cannot_start_says_why(model, start):
    entry = {"model_path": "/nowhere.gguf", "engine": "llama-server", "command": SERVER}
    process = start("serve", "--listen", "127.0.0.1:0", env={"CY_LLM_MODEL_REGISTRY": json.dumps({"smol": entry})}, expect=("gateway",))
    with pytest.raises(openai.InternalServerError):
        ask(client(process.address("gateway")))
    process.wait_log("/nowhere.gguf")


class Running:
    """A llama-server of its own, on a Unix socket."""

    def __init__(self, folder: Path, name: str, model: str, *args: str):
        self.path = str(folder / f"{name}.sock")
        command = [SERVER, "--model", model, "--alias", "smol", "--host", self.path, "--ctx-size", "8192", "--parallel", "4",
                   "--threads", "1", "--metrics", *args]  # fmt: skip
        self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.http = over(self.path)

    def up(self) -> bool:
        try:
            return self.http.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def url(self) -> str:
        return f"unix:{self.path}"

    def kill(self):
        self.popen.kill()
        self.popen.wait()


@pytest.fixture
def pair(model, tmp_path):
    servers = [Running(tmp_path, f"s{i}", model) for i in range(2)]
    yield servers
    for server in servers:
        server.kill()


def test_the_router_finds_out_what_they_are_and_waits_until_they_are_loaded(pair, start):
    router = start("serve", "--listen", "127.0.0.1:0", "--upstream", ",".join(s.url for s in pair), expect=("gateway",))
    url = router.address("gateway")
    wait_until(lambda: all(s.up() for s in pair), limit=120, what="both")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    router.wait_log("is a llama-server")
    api = client(url)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda i: ask(api, f"Say {i}.", max_tokens=4, extra_body={"top_k": 1}), range(8)))
    assert all(d.choices[0].message.content for d in done)
    used = [s for s in pair if "llamacpp:tokens_predicted_total 0" not in s.http.get("/metrics").text]
    assert len(used) == 2, "one did all"
    pair[0].kill()
    assert all(ask(api, max_tokens=2).choices[0].message.content for _ in range(6))


def test_an_answer_goes_on_at_the_other_one(pair, start):
    """No token lost, none twice. The rest is decoded after another prefill, in which two best tokens may change places: its
    text is compared as a figure."""
    wait_until(lambda: all(s.up() for s in pair), limit=120, what="both")
    router = start("serve", "--listen", "127.0.0.1:0", "--upstream", ",".join(s.url for s in pair), expect=("gateway",))
    url = router.address("gateway")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    how = {"max_tokens": 200, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}, "extra_body": {"ignore_eos": True}}
    whole = text_of(ask(client(url), "Write a story about a river.", **how))
    stream = ask(client(url), "Write a story about a river.", **how)
    chunks = [c for _, c in zip(range(30), stream, strict=False)]
    begun = text_of(chunks)
    next(s for s in pair if busy(s.http)).kill()
    killed = time.monotonic()
    chunks.append(next(iter(stream)))
    while text_of(chunks) == begun:
        chunks.append(next(iter(stream)))
    gap = time.monotonic() - killed
    chunks += stream
    text = text_of(chunks)
    assert text.startswith(begun) and whole.startswith(begun)
    assert chunks[-1].usage.completion_tokens == 200
    assert "goes on at" in router.log
    tokens = [len(http.post(url + "/tokenize", json={"model": "smol", "prompt": t}).json()["tokens"]) for t in (text, whole)]
    assert abs(tokens[0] - tokens[1]) <= 10  # none is missing; a text can be cut into tokens in other ways
    figures(resume_gap_ms=round(gap * 1000), same_text=text == whole)


def test_a_half_shown_character_is_not_gone_on_with(pair, start):
    """llama-server tells only the last id of a character in several tokens: the answer breaks off instead of going wrong."""
    wait_until(lambda: all(s.up() for s in pair), limit=120, what="both")
    router = start("serve", "--listen", "127.0.0.1:0", "--upstream", ",".join(s.url for s in pair), env={"CY_LLM_RESUME_PATIENCE": "1"}, expect=("gateway",))
    url = router.address("gateway")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    stream = client(url).completions.create(model="smol", prompt="\U0001f600" * 12, max_tokens=2000, temperature=0, stream=True,
                                            extra_body={"ignore_eos": True})  # fmt: skip
    chunks = [c for _, c in zip(range(5), stream, strict=False)]
    assert "\U0001f600" in "".join(c.choices[0].text for c in chunks)
    next(s for s in pair if busy(s.http)).kill()
    with pytest.raises(openai.APIError):
        list(stream)


def test_wrong_options_of_an_entry_are_named(model):
    entry = {"model_path": model, "engine": "llama-server", "colour": 1}
    done = run("serve", "--listen", "127.0.0.1:0", env={"CY_LLM_MODEL_REGISTRY": json.dumps({"smol": entry})})
    assert done.returncode == 2 and "colour" in done.stderr
