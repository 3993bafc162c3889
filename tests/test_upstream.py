"""`cy-llm serve --upstream`: a router in front of model servers over HTTP. The servers are our own vLLM that computes
nothing (its traps: support/fake_vllm.py), and cy-llm itself."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from conftest import client, registry
from support.process import OWN_VARIABLES, http, run, wait_until

FAKE = Path(__file__).parent / "support" / "fake_vllm.py"


class FakeVllm:
    def __init__(self, folder: Path, name: str, *args: str, **env: str):
        self.socket = folder / f"{name}.sock"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(OWN_VARIABLES + ("FAKE_",))}
        self.popen = subprocess.Popen(
            [sys.executable, str(FAKE), "serve", "models/smol", "--served-model-name", "smol", "--uds", str(self.socket),
             "--tool-call-parser", "hermes", *args],
            env=clean | env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        self.http = httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://x", timeout=30)
        wait_until(self.up, what="the fake vLLM")

    def up(self) -> bool:
        try:
            return self.http.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def url(self) -> str:
        return f"unix:{self.socket}"

    def told(self) -> dict:
        return self.http.get("/fake").json()

    def kill(self):
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()


@pytest.fixture
def vllm(tmp_path):
    running: list[FakeVllm] = []

    def begin(*args: str, **env: str) -> FakeVllm:
        running.append(FakeVllm(tmp_path, f"v{len(running)}", *args, **env))
        return running[-1]

    yield begin
    for server in running:
        server.kill()


@pytest.fixture
def router(start):
    def begin(*servers, args=(), env=None, ready=True) -> str:
        urls = [s if isinstance(s, str) else s.url for s in servers]
        env = {"CY_LLM_RESUME_PATIENCE": "1"} | (env or {})
        process = start("serve", "--listen", "127.0.0.1:0", "--upstream", ",".join(urls), *args, env=env, expect=("gateway",))
        url = process.address("gateway")
        begin.process = process
        if ready:
            wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
            for known in urls:
                process.wait_log(f"({known}) serves")
        return url

    return begin


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


def ask(api, text: str, **kw):
    return api.chat.completions.create(model="smol", messages=user(text), **kw)


def text_of(chunks) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_a_chat_through_it(vllm, router):
    server = vllm("--enable-prompt-tokens-details")
    url = router(server)
    api = client(url)
    done = ask(api, "one two three", temperature=0, seed=7, user="x", extra_body={"guided_regex": "a+", "request_id": "mine"})
    assert done.choices[0].message.content == "one two three" and done.choices[0].finish_reason == "stop"
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (3, 3)
    assert done.usage.prompt_tokens_details.cached_tokens == 2
    chunks = list(ask(api, "one two three", stream=True, stream_options={"include_usage": True}, max_tokens=2))
    assert text_of(chunks) == "one two" and chunks[-1].usage.completion_tokens == 2
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]
    sent = server.told()["requests"][0]
    assert sent["body"]["seed"] == 7 and sent["body"]["temperature"] == 0 and sent["body"]["return_token_ids"] is True
    assert sent["body"]["user"] == "x" and sent["body"]["guided_regex"] == "a+" and "request_id" not in sent["body"]
    assert sent["id"]
    assert [m.id for m in api.models.list()].count("smol") == 1


def test_every_kind_of_request(vllm, router):
    url = router(vllm(FAKE_VLLM_EMBEDS="1"), args=("--engine", "vllm"))
    api = client(url)
    assert api.completions.create(model="smol", prompt="a b c", max_tokens=2).choices[0].text == "a b"
    assert api.completions.create(model="smol", prompt=[5, 6], max_tokens=2).choices[0].text == "t5 t6"
    two = ask(api, "x y", n=2, temperature=0)
    assert [c.message.content for c in two.choices] == ["x y", "x y"] and two.usage.completion_tokens == 4
    logprobs = ask(api, "x y", logprobs=True, top_logprobs=1).choices[0].logprobs.content
    assert [(t.token, t.logprob, t.top_logprobs[0].token) for t in logprobs] == [("x", -0.5, "x"), ("y", -0.5, "y")]
    vectors = api.embeddings.create(model="smol", input=["a", "bcd"])
    assert [d.embedding for d in vectors.data] == [[1, 0.5], [3, 0.5]] and vectors.usage.prompt_tokens == 3
    ranked = http.post(url + "/v1/rerank", json={"model": "smol", "query": "q", "documents": ["a", "bcd"]}).json()["results"]
    assert [r["index"] for r in ranked] == [1, 0]
    tokens = http.post(url + "/tokenize", json={"model": "smol", "prompt": "a b"}).json()["tokens"]
    assert tokens == [1097, 1098]


def test_forced_tool_calls_keep_their_schema(vllm, router):
    api = client(router(vllm()))
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        done = ask(api, "x", tools=[tool], tool_choice=choice)
        (call,) = done.choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
        assert done.choices[0].finish_reason == "tool_calls"


def test_stop_strings_hold_text_back_but_lose_none(vllm, router):
    api = client(router(vllm()))
    assert text_of(ask(api, "Hello there you", stream=True, stop=["e y"])) == "Hello ther"
    assert text_of(ask(api, "Hello there you", stream=True, stop=["nothing like it"])) == "Hello there you"


def test_a_missing_route_and_a_missing_model(vllm, router):
    api = client(router(vllm()))
    with pytest.raises(openai.BadRequestError):  # no embeddings with this model
        api.embeddings.create(model="smol", input="a")
    with pytest.raises(openai.NotFoundError):
        api.chat.completions.create(model="other", messages=user("x"))


def test_what_the_server_refuses_is_the_clients_error(vllm, router):
    server = vllm()
    url = router(server)
    done = http.post(url + "/v1/chat/completions", json={"model": "smol", "messages": user("x"), "top_k": 5, "n": 2, "temperature": 0.5})
    assert done.status_code == 200
    for _ in range(10):  # as many as one likes
        with pytest.raises(openai.BadRequestError):
            client(url).chat.completions.create(model="smol", messages=[{"role": "user", "content": "x"}], tool_choice="required", tools=[
                {"type": "function", "function": {"name": "f"}}], top_p=7)  # fmt: skip
    assert http.get(url + "/ready").status_code == 200


def test_one_of_two_servers_fails(vllm, router):
    good, bad = vllm(FAKE_VLLM_TOKEN_S="0.05"), vllm(FAKE_VLLM_TOKEN_S="0.05")
    api = client(router(good, bad))
    with ThreadPoolExecutor(8) as pool:
        assert {d.choices[0].message.content for d in pool.map(lambda _: ask(api, "a b c"), range(16))} == {"a b c"}
    asked = [len(s.told()["requests"]) for s in (good, bad)]
    assert min(asked) >= 1  # both take part
    bad.kill()
    for _ in range(10):
        assert ask(api, "a b c").choices[0].message.content == "a b c"


@pytest.mark.parametrize("fault", ["500", "garbage", "die-before", "overloaded"])
def test_failures_before_the_first_token_are_tried_elsewhere(vllm, router, fault):
    servers = vllm(), vllm()
    api = client(router(*servers))
    with pytest.raises(openai.InternalServerError) as error:
        ask(api, f"fault: {fault}")
    assert "secret.py" not in str(error.value)
    asked = [r for s in servers for r in s.told()["requests"]]
    assert len(asked) >= 2, "only one was asked"


@pytest.mark.parametrize("fault", ["die", "engine-dies", "garbage-event"])
def test_failures_in_the_middle_are_an_error_never_an_end(vllm, router, fault):
    api = client(router(vllm()))
    got = []
    with pytest.raises(openai.APIError):
        for chunk in ask(api, f"fault: {fault} one two", stream=True):
            got += [c.delta.content for c in chunk.choices if c.delta.content]
            assert not any(c.finish_reason for c in chunk.choices)
    assert "".join(got) == "one"


def test_a_stall_ends_at_its_limit(vllm, router, tmp_path):
    config = tmp_path / "serve.toml"
    config.write_text("[upstream]\nsilence_limit = 0.3\n")
    api = client(router(vllm(), args=("--config", str(config))))
    with pytest.raises(openai.APIError):
        list(ask(api, "fault: stall one two", stream=True))


def test_a_client_that_goes_away_ends_the_work(vllm, router):
    server = vllm(FAKE_VLLM_TOKEN_S="0.05")
    url = router(server)
    stream = ask(client(url), "word " * 2000, stream=True)
    next(iter(stream))
    assert server.told()["running"] == 1
    stream.close()
    wait_until(lambda: server.told()["running"] == 0, limit=10, what="the server to be free")


def test_a_key_is_shown_and_a_wrong_one_is_said(vllm, router):
    server = vllm("--api-key", "sesame")
    api = client(router(server, env={"CY_LLM_UPSTREAM_API_KEY": "sesame"}))
    assert ask(api, "a").choices[0].message.content == "a"
    url = router(server, env={"CY_LLM_UPSTREAM_API_KEY": "wrong"}, ready=False)
    wait_until(lambda: "does not accept our key" in http.get(url + "/ready").text, what="the reason")


def test_a_server_that_drains_answers_500_while_its_health_is_good(vllm, router):
    old, new = vllm("--shutdown-timeout", "20", FAKE_VLLM_TOKEN_S="0.05"), vllm()
    api = client(router(old, new))
    streams = [ask(api, "word " * 60, stream=True) for _ in range(2)]  # one on each, in turns
    firsts = [next(iter(s)) for s in streams]
    assert firsts and old.told()["running"] >= 1
    old.popen.send_signal(signal.SIGTERM)
    wait_until(lambda: old.http.post("/v1/chat/completions", json={"messages": user("x"), "stream": True}).status_code == 500, what="the drain")
    assert old.up()
    for _ in range(10):
        assert ask(api, "a b").choices[0].message.content == "a b"
    for stream in streams:
        assert len([c for c in stream if c.choices and c.choices[0].delta.content]) >= 59
    assert old.popen.wait(20) == 0


def test_a_server_that_hangs_on_sigterm_is_left_behind(vllm, router, tmp_path):
    config = tmp_path / "serve.toml"
    config.write_text("[upstream]\nsilence_limit = 0.5\n")
    old = vllm(FAKE_VLLM_TOKEN_S="0.02")
    api = client(router(old, args=("--config", str(config))))
    stream = ask(api, "word " * 1000, stream=True, stop=["never said"])  # which nobody can go on with
    next(iter(stream))
    old.popen.send_signal(signal.SIGTERM)
    with pytest.raises(openai.APIError):
        list(stream)
    assert old.popen.wait(20) == 0  # our side closed: now it can end


def test_the_death_of_its_worker_is_no_success(vllm, router):
    server = vllm(FAKE_VLLM_TOKEN_S="0.02")
    url = router(server)
    stream = ask(client(url), "word " * 1000, stream=True, stop=["never said"])
    next(iter(stream))
    os.kill(server.told()["pids"][2], signal.SIGKILL)
    with pytest.raises(openai.APIError):
        list(stream)
    assert server.popen.wait(20) == 0
    wait_until(lambda: http.get(url + "/ready").status_code == 503, what="/ready to say so")
    assert server.socket.exists()  # which says nothing


def test_an_answer_goes_on_at_the_other_server(vllm, router):
    servers = [vllm(FAKE_VLLM_TOKEN_S="0.03") for _ in range(2)]
    api = client(router(*servers))
    words = [f"word{n}" for n in range(200)]
    stream = ask(api, " ".join(words), stream=True, stream_options={"include_usage": True})
    chunks = [c for _, c in zip(range(20), stream, strict=False)]
    first = next(s for s in servers if s.told()["running"])
    other = next(s for s in servers if s is not first)
    first.kill()
    chunks += stream
    assert text_of(chunks) == " ".join(words)
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (3, 200)
    asked = [r["path"] for r in other.told()["requests"]]
    assert asked == ["/tokenize", "/detokenize", "/v1/completions"]
    rest = other.told()["requests"][-1]["body"]
    assert len(rest["prompt"]) > 200 + 15 and rest["max_tokens"] == 2048 - len(rest["prompt"])


def events(response: httpx.Response) -> list[str]:
    return [line[6:] for line in response.iter_lines() if line.startswith("data: ")]


def test_a_servers_own_chunks_go_on_as_they_came(vllm, router):
    server = vllm(FAKE_VLLM_NEWER="1")
    api = client(router(server))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(ask(api, "one two three", max_tokens=2, **options))
    assert text_of(chunks) == "one two" and len({(c.id, c.created, c.model) for c in chunks}) == 1
    assert [c.choices[0].delta.role for c in chunks if c.choices] == ["assistant", None, None, None]
    assert [c.choices[0].finish_reason for c in chunks if c.choices] == [None, None, None, "length"]
    one, two, end, usage = chunks[1:]
    new = {"at": [1.5, "}"]}
    assert one.new_of_chunk == new and one.choices[0].new_of_choice == "ü" and one.choices[0].delta.new_of_delta == 3
    assert two.choices[0].delta.new_of_delta == 4
    assert end.new_of_chunk == new and end.choices[0].new_of_choice == "ü" and end.choices[0].stop_reason is None
    assert usage.usage.cost == 0.25 and usage.new_of_chunk == new and usage.system_fingerprint == "vllm-0.32.0-b6122487"
    assert [c.usage is None for c in chunks] == [True] * 4 + [False] and usage.usage.total_tokens == 5
    texts = list(api.completions.create(model="smol", prompt="a b", **options))
    assert "".join(c.choices[0].text for c in texts if c.choices) == "a b" and texts[0].choices[0].new_of_choice == "ü"
    two = list(ask(api, "x y", n=2, temperature=0.5, **options))
    assert [c.choices[0].new_of_choice for c in two if c.choices and c.choices[0].finish_reason] == ["ü", "ü"]
    assert two[-1].usage.completion_tokens == 4
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    calls = list(ask(api, "x", tools=[tool], tool_choice="required", **options))
    assert [c.choices[0].new_of_choice for c in calls if c.choices and c.choices[0].delta.tool_calls] == ["ü"] * 3
    assert "".join(t.function.arguments or "" for c in calls if c.choices for t in c.choices[0].delta.tool_calls or []) == '{"city": "Paris"}'


def test_the_bytes_of_a_chunk_are_the_servers(vllm, router):
    server = vllm(FAKE_VLLM_NEWER="1")
    url = router(server)
    body = {"model": "smol", "messages": user("one"), "stream": True}
    with http.stream("POST", url + "/v1/chat/completions", json=body) as ours:
        got = events(ours)
    with server.http.stream("POST", "/v1/chat/completions", json=body) as direct:
        theirs = events(direct)
    assert got[-1] == theirs[-1] == "[DONE]" and "token_ids" not in "".join(got)
    assert '"new_of_choice": "\\u00fc"' in got[2] and got[2].endswith('"new_of_chunk": {"at": [1.5, "}"]}}')
    assert '"new_of_chunk": {"at": [1.5, "}"]}' in theirs[1]
    assert '"delta": {"content": "one", "new_of_delta": 3}' in got[1]


def test_own_chunks_before_another_takes_over_and_none_after(vllm, router):
    servers = [vllm(FAKE_VLLM_TOKEN_S="0.03", FAKE_VLLM_NEWER="1") for _ in range(2)]
    api = client(router(*servers))
    words = [f"word{n}" for n in range(200)]
    stream = ask(api, " ".join(words), stream=True, stream_options={"include_usage": True})
    chunks = [c for _, c in zip(range(20), stream, strict=False)]
    next(s for s in servers if s.told()["running"]).kill()
    chunks += stream
    assert text_of(chunks) == " ".join(words)
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1
    assert [c.choices[0].delta.role for c in chunks if c.choices and c.choices[0].delta.role] == ["assistant"]
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    told = [c.usage for c in chunks if c.usage]
    assert [(u.prompt_tokens, u.completion_tokens, u.total_tokens) for u in told] == [(3, 200, 203)]
    assert all(c.new_of_chunk for c in chunks[1:20])


def test_an_answer_goes_on_at_the_same_server_when_it_is_back(supervised):
    process, url = supervised(env={"FAKE_VLLM_TOKEN_S": "0.01"})
    words = [f"word{n}" for n in range(150)]
    stream = ask(client(url), " ".join(words), stream=True, max_tokens=140)
    chunks = [c for _, c in zip(range(20), stream, strict=False)]
    (server,) = [p for p in children(process.pid) if "fake_vllm" in Path(f"/proc/{p}/cmdline").read_text()]
    os.kill(server, signal.SIGKILL)
    chunks += stream
    assert text_of(chunks) == " ".join(words[:140])
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("how", [{"stop": ["never said"]}, {"n": 2, "temperature": 0.5}, {"logprobs": True},
                                 {"response_format": {"type": "json_object"}}, {"presence_penalty": 1}])  # fmt: skip
def test_what_cannot_go_on_exactly_is_an_error(vllm, router, how):
    servers = [vllm(FAKE_VLLM_TOKEN_S="0.01") for _ in range(2)]
    api = client(router(*servers))
    stream = ask(api, "word " * 500, stream=True, **how)
    assert len([c for _, c in zip(range(5), stream, strict=False)]) == 5
    next(s for s in servers if s.told()["running"]).kill()
    with pytest.raises(openai.APIError):
        list(stream)


def test_a_server_of_another_model_does_not_go_on(vllm, router):
    servers = [vllm(FAKE_VLLM_TOKEN_S="0.01"), vllm(FAKE_VLLM_TOKEN_S="0.01", FAKE_VLLM_ROOT="models/other")]
    api = client(router(*servers))
    stream = ask(api, "word " * 500, stream=True)
    assert len([c for _, c in zip(range(5), stream, strict=False)]) == 5
    next(s for s in servers if s.told()["running"]).kill()
    with pytest.raises(openai.APIError):
        list(stream)


def test_many_at_once(vllm, router):
    servers = vllm(), vllm()
    api = client(router(*servers))
    with ThreadPoolExecutor(16) as pool:
        texts = [f"request number {i} of many" for i in range(200)]
        assert [d.choices[0].message.content for d in pool.map(lambda t: ask(api, t), texts)] == texts


def test_cy_llm_behind_cy_llm(echo, router):
    inner = echo()
    url = router(inner)
    api = client(url)
    done = api.chat.completions.create(model="default", messages=user("one two three"), temperature=0)
    assert done.choices[0].message.content == "one two three" and done.usage.completion_tokens == 3
    chunks = list(api.chat.completions.create(model="default", messages=user("a b"), stream=True, max_tokens=3, n=2))
    assert {c.choices[0].index for c in chunks} == {0, 1}
    assert text_of([c for c in chunks if c.choices[0].index == 1]) == "a b a"
    assert api.completions.create(model="default", prompt="x y", max_tokens=2).choices[0].text
    with pytest.raises(openai.BadRequestError):
        api.chat.completions.create(model="default", messages=user("x"), temperature=9)


def test_sighup_reads_the_servers_again(vllm, start, tmp_path):
    old, new = vllm(FAKE_VLLM_TOKEN_S="0.01"), vllm()
    config = tmp_path / "serve.toml"
    config.write_text(f'[upstream]\nurls = "{old.url}"\n[gateway]\napi_token = "first"\n')
    process = start("serve", "--listen", "127.0.0.1:0", "--config", str(config), expect=("gateway",))
    url = process.address("gateway")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    api = client(url, api_key="first")
    stream = ask(api, "word " * 200, stream=True, stop=["never said"])
    first = next(iter(stream))
    config.write_text(f'[upstream]\nurls = "{new.url}"\n[gateway]\napi_token = "second"\n')
    process.signal(signal.SIGHUP)
    process.wait_log("the configuration was read again")
    with pytest.raises(openai.AuthenticationError):
        ask(api, "a")
    wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
    asked = len(old.told()["requests"])
    for _ in range(4):
        assert ask(client(url, api_key="second"), "a b").choices[0].message.content == "a b"
    assert len(old.told()["requests"]) == asked and len(new.told()["requests"]) == 4
    assert text_of([first, *stream]) == " ".join(["word"] * 200)  # what the old one began, it ends
    config.write_text('[upstream]\nurls = "nowhere"\n')
    process.signal(signal.SIGHUP)
    process.wait_log("not all of it was taken over")
    assert ask(client(url, api_key="second"), "a b").choices[0].message.content == "a b"
    assert process.terminate() == 0


def test_wrong_settings_are_said():
    for args, words in (
        (["--upstream", "127.0.0.1:1"], ["http://host:port"]),
        (["--upstream", "http://127.0.0.1:1", "--engine", "no-such"], ["no-such", "vllm", "cuda-trt"]),
        (["--upstream", "http://127.0.0.1:1", "--registry", "x.json"], ["exclude"]),
    ):
        done = run("serve", "--listen", "127.0.0.1:0", *args)
        assert done.returncode == 2, args
        assert all(word in done.stderr for word in words), done.stderr


def test_it_ends_when_told_with_servers_that_never_answered(router):
    url = router("http://127.0.0.1:9", ready=False)
    assert http.get(url + "/ready").status_code == 503
    assert router.process.terminate() == 0


# ---- servers that a worker starts


def entry(**more) -> str:
    return json.dumps({"smol": {"model_path": "models/smol", "engine": "cuda-vllm", "command": [sys.executable, str(FAKE), "serve"],
                                "tool_call_parser": "hermes", "stop_grace": 5} | more})  # fmt: skip


def children(pid: int) -> list[int]:
    """All processes below, the shell that guards them included."""
    below = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [c for b in below for c in [int(b), *children(int(b))]]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def supervised(start):
    def begin(env=None, **more):
        process = start("serve", "--listen", "127.0.0.1:0", env={"CY_LLM_MODEL_REGISTRY": entry(**more)} | (env or {}), expect=("gateway",))
        return process, process.address("gateway")

    return begin


def test_a_server_is_started_on_first_use_with_the_contracts_options(supervised):
    process, url = supervised(max_model_len=512, env={"VLLM_TENSOR_PARALLEL_SIZE": "2"})
    assert not children(process.pid)
    assert ask(client(url), "one two").choices[0].message.content == "one two"
    below = children(process.pid)
    lines = [Path(f"/proc/{p}/cmdline").read_text().replace("\0", " ") for p in below]
    (line,) = [x for x in lines if "fake_vllm" in x]
    for words in ("--tensor-parallel-size 2", "--max-model-len 512", "--served-model-name smol", "--shutdown-timeout 5", "--uds "):
        assert words in line
    socket_path = Path(line.split("--uds ")[1].split()[0])
    assert socket_path.exists()
    assert process.terminate() == 0
    wait_until(lambda: not any(alive(p) for p in below), limit=10, what="all of it to be gone")
    assert not socket_path.exists()


def test_hybrid_is_the_first_that_is_here_and_says_why(start, tmp_path):
    program = tmp_path / "vllm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    program.chmod(0o755)
    models = {"CY_LLM_MODEL_REGISTRY": json.dumps({"smol": {"engine": "hybrid", "model_path": "models/smol"}})}
    process = start("serve", "--listen", "127.0.0.1:0", env=models | {"PATH": f"{tmp_path}:/usr/bin:/bin"}, expect=("gateway",))
    process.wait_log("engine hybrid is vllm here: there is a program vllm")
    assert ask(client(process.address("gateway")), "one two").choices[0].message.content == "one two"
    process = start("serve", "--listen", "127.0.0.1:0", env=models | {"PATH": "/usr/bin:/bin"}, expect=("gateway",))
    process.wait_log("engine hybrid is llama_cpp here: neither vllm nor trtllm-serve is here")


def test_waiting_for_a_server_that_starts_slowly(supervised):
    _, url = supervised(env={"FAKE_VLLM_START_S": "1"})
    with ThreadPoolExecutor(8) as pool:
        texts = [d.choices[0].message.content for d in pool.map(lambda i: ask(client(url), f"number {i}"), range(8))]
    assert texts == [f"number {i}" for i in range(8)]


def test_a_server_that_cannot_start_says_why_in_the_log(supervised):
    process, url = supervised(env={"FAKE_VLLM_FAILS": "1"})
    with pytest.raises(openai.InternalServerError):
        ask(client(url), "a")
    process.wait_log("Engine core initialization failed")
    process, url = supervised(command="no-such-vllm")
    with pytest.raises(openai.InternalServerError):
        ask(client(url), "a")
    process.wait_log("no program 'no-such-vllm'")


def test_a_server_whose_worker_is_killed_is_started_again(supervised):
    process, url = supervised(env={"FAKE_VLLM_TOKEN_S": "0.02"})
    stream = ask(client(url), "word " * 1000, stream=True, stop=["never said"])
    next(iter(stream))
    (server,) = [p for p in children(process.pid) if "fake_vllm" in Path(f"/proc/{p}/cmdline").read_text()]
    (engine, worker) = children(server)
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(openai.APIError):
        list(stream)

    def again():
        try:
            return ask(client(url), "one two").choices[0].message.content == "one two"
        except openai.APIError:
            return False

    wait_until(again, what="the next server")
    assert not alive(server) and not alive(engine)
    assert "exited with status 0" in process.log


def test_no_orphans_when_the_supervisor_is_killed(supervised):
    process, url = supervised()
    ask(client(url), "a")
    below = children(process.pid)
    assert len(below) >= 4
    process.kill()
    wait_until(lambda: not any(alive(p) for p in below), limit=10, what="all of it to be gone")


def test_sigterm_with_an_open_stream_ends_in_order(supervised):
    process, url = supervised(env={"FAKE_VLLM_TOKEN_S": "0.02"})
    stream = ask(client(url), "word " * 100, stream=True)
    first = next(iter(stream))
    process.signal(signal.SIGTERM)
    rest = list(stream)
    assert len([c for c in [first, *rest] if c.choices and c.choices[0].delta.content]) == 100
    assert process.wait_exit() == 0


def test_an_entry_with_a_url(vllm, start):
    server = vllm("--api-key", "sesame")
    models = {"mine": {"engine": "vllm", "url": server.url, "model_path": "smol", "api_key_env": "SOME_KEY"}}
    worker = start("serve", "--listen", "127.0.0.1:0", env={"CY_LLM_MODEL_REGISTRY": json.dumps(models), "SOME_KEY": "sesame"}, expect=("gateway",))
    api = client(worker.address("gateway"))
    assert api.chat.completions.create(model="mine", messages=user("a b")).choices[0].message.content == "a b"
    assert server.told()["requests"][0]["body"]["model"] == "smol"


@pytest.mark.parametrize(
    "more, words",
    [({"tensor_parallel_size": 0}, "tensor_parallel_size"), ({"colour": 1}, "colour"), ({"engine": "mindie"}, "url"),
     ({"url": "nowhere"}, "http://host:port"), ({"url": "http://127.0.0.1:1", "api_key_env": "NOT_SET"}, "NOT_SET")],
)  # fmt: skip
def test_wrong_entries_are_named(more, words):
    models = json.loads(entry(**more))
    if more.get("engine"):
        models["smol"] = {"engine": more["engine"], "model_path": "x"}
    done = run("serve", "--listen", "127.0.0.1:0", env={"CY_LLM_MODEL_REGISTRY": json.dumps(models)})
    assert done.returncode == 2 and words in done.stderr and "smol" in done.stderr
