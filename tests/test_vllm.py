"""The real vLLM (CPU) behind the all-in-one, which starts and supervises it, and two of them behind the router. Optional: ./cy-llm test --vllm installs it
(1 to 6 GB) and sets CY_TEST_VLLM and CY_TEST_VLLM_MODEL.

Shapes, counts and states are compared, texts never: in bf16 two best tokens may tie."""

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
from support.process import OWN_VARIABLES, Process, http, wait_until

VLLM, MODEL = os.environ.get("CY_TEST_VLLM", ""), os.environ.get("CY_TEST_VLLM_MODEL", "")
pytestmark = pytest.mark.skipif(not VLLM, reason="CY_TEST_VLLM names no vllm (./cy-llm test --vllm)")
START = 300  # seconds; 35 on an idle machine


def figures(**values):
    print("vllm:", json.dumps(values))


def count(metrics: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(name + "{"))


ADAPTER = """
import json, sys
import torch
from safetensors.torch import save_file

base, out = json.load(open(sys.argv[1] + "/config.json")), sys.argv[2]
hidden, heads = base["hidden_size"], base["num_attention_heads"]
sizes = {"q_proj": hidden, "v_proj": hidden // heads * base["num_key_value_heads"]}
torch.manual_seed(1)
parts = {}
for layer in range(base["num_hidden_layers"]):
    for name, size in sizes.items():
        at = f"base_model.model.model.layers.{layer}.self_attn.{name}."
        parts[at + "lora_A.weight"] = torch.randn(8, hidden) * 0.05
        parts[at + "lora_B.weight"] = torch.randn(size, 8) * 0.05
save_file(parts, out + "/adapter_model.safetensors")
json.dump({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": list(sizes), "bias": "none", "task_type": "CAUSAL_LM",
           "base_model_name_or_path": sys.argv[1]}, open(out + "/adapter_config.json", "w"))
"""


class Served:
    def __init__(self, adapter: Path):
        subprocess.run([Path(VLLM).parent / "python", "-c", ADAPTER, MODEL, adapter], check=True)
        entry = {"model_path": MODEL, "engine": "cuda-vllm", "command": VLLM, "max_model_len": 2048, "max_num_seqs": 16,
                 "enforce_eager": True, "tool_call_parser": "hermes", "stop_grace": 10, "adapter_path": str(adapter),
                 "args": ["--scheduling-policy", "priority", "--max-num-queued-reqs", "20", "--max-lora-rank", "8"],
                 "env": {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}}  # fmt: skip
        self.process = Process("serve", "--listen", "127.0.0.1:0", "--preload", env={"CY_LLM_MODEL_REGISTRY": json.dumps({"smol": entry})},
                               expect=("gateway",))  # fmt: skip
        self.url = self.process.address("gateway")
        begun = time.monotonic()
        wait_until(lambda: http.get(self.url + "/ready").status_code == 200, limit=START, what="vLLM")
        figures(start_s=round(time.monotonic() - begun, 1))

    def below(self) -> list[int]:
        return children(self.process.pid)

    def api(self):
        return client(self.url)

    def direct(self) -> httpx.Client:
        """vLLM's own face, past us."""
        line = next(c for c in map(command_line, self.below()) if "--uds" in c)
        path = line.split("--uds ")[1].split()[0]
        return httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://x", timeout=60)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    below = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [c for b in below for c in [int(b), *children(int(b))]]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    served = Served(tmp_path_factory.mktemp("adapter"))
    yield served
    served.process.kill()


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


def ask(api, text="Tell me about Paris.", **kw):
    return api.chat.completions.create(model="smol", messages=user(text), **kw)


def test_chat(served):
    done = ask(served.api(), max_tokens=8, temperature=0)
    assert done.choices[0].message.content and done.choices[0].finish_reason == "length"
    assert done.usage.completion_tokens == 8 and done.usage.prompt_tokens > 5
    chunks = list(ask(served.api(), max_tokens=8, temperature=0, stream=True, stream_options={"include_usage": True}))
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) >= 6
    assert chunks[-1].usage.completion_tokens == 8
    assert chunks[-1].system_fingerprint.startswith("vllm-")  # its own chunks: we know no such thing
    assert "stop_reason" in chunks[-2].choices[0].model_extra and "token_ids" not in chunks[-2].choices[0].model_extra


def test_n_and_seed(served):
    done = ask(served.api(), max_tokens=6, n=3, temperature=0.9, seed=5)
    assert len(done.choices) == 3 and done.usage.completion_tokens <= 18
    assert len(ask(served.api(), max_tokens=6, n=2, temperature=0).choices) == 2


def test_logprobs(served):
    done = ask(served.api(), max_tokens=4, temperature=0, logprobs=True, top_logprobs=2)
    content = done.choices[0].logprobs.content
    assert len(content) == 4 and all(t.logprob <= 0 and len(t.top_logprobs) == 2 for t in content)


def test_schema(served):
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": False}
    done = ask(served.api(), "Where is the Louvre? Answer in JSON.", temperature=0, max_tokens=64,
               response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})  # fmt: skip
    assert json.loads(done.choices[0].message.content)["city"] in ("Paris", "Rome")


def test_forced_tools(served):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": False}}}  # fmt: skip
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        done = ask(served.api(), "How is the weather in Paris?", tools=[tool], tool_choice=choice, temperature=0, max_tokens=64)
        (call, *_) = done.choices[0].message.tool_calls
        assert call.function.name == "weather" and json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
        assert done.choices[0].finish_reason == "tool_calls"


def test_completions_tokens_and_stop(served):
    api = served.api()
    done = api.completions.create(model="smol", prompt="one two three four five", max_tokens=12, temperature=0)
    assert done.choices[0].text and done.usage.completion_tokens <= 12
    tokens = http.post(served.url + "/tokenize", json={"model": "smol", "prompt": "one two three"}).json()["tokens"]
    assert len(tokens) == 3
    assert api.completions.create(model="smol", prompt=tokens, max_tokens=2, temperature=0).usage.prompt_tokens == 3
    stopped = ask(api, "Count: 1 2 3 4 5 6 7", temperature=0, max_tokens=64, stop=[" "])
    assert " " not in stopped.choices[0].message.content and stopped.choices[0].finish_reason in ("stop", "length")


def test_cached_tokens_are_told(served):
    text = "All work and no play makes Jack a dull boy. " * 40
    ask(served.api(), text, max_tokens=1)
    assert ask(served.api(), text, max_tokens=1).usage.prompt_tokens_details.cached_tokens >= 128


def test_refusals(served):
    api = served.api()
    with pytest.raises(openai.BadRequestError) as error:
        ask(api, "word " * 4000, max_tokens=4)
    assert error.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError):
        api.completions.create(model="smol", prompt=[10**6], max_tokens=2)
    with pytest.raises(openai.BadRequestError):
        api.embeddings.create(model="smol", input="a")
    assert http.get(served.url + "/ready").status_code == 200


def test_an_adapter(served):
    direct = served.direct()
    (adapter,) = [m for m in direct.get("/v1/models").json()["data"] if m["parent"]]
    assert (adapter["id"], adapter["parent"]) == ("adapter", "smol")

    def said(**more) -> httpx.Response:
        body = {"modelId": "smol", "prompt": "Tell me about Paris.", "generation": {"maxNewTokens": 12, "temperature": 0}}
        return http.post(served.url + "/api/v1/inference", json=body | more, timeout=START)

    base, other = said(), said(adapter="adapter")
    assert base.status_code == other.status_code == 200, other.text
    texts = [answer.json()["choices"][0]["text"] for answer in (base, other)]
    assert texts[0] != texts[1], "weights at random, and the same words"
    assert said(adapter="no-such").status_code == 404


def test_who_comes_too_much_at_once_waits(served):
    direct = served.direct()

    def one(i: int) -> int:
        return ask(served.api(), f"Tell me about the number {i}.", max_tokens=16, temperature=0, extra_body={"ignore_eos": True}).usage.completion_tokens

    with ThreadPoolExecutor(48) as pool:
        assert list(pool.map(one, range(48))) == [16] * 48
    refused = count(direct.get("/metrics").text, "vllm:admission_rejections_total")
    figures(refused_by_vllm=refused)
    assert refused > 0


def test_a_client_that_goes_away(served):
    direct = served.direct()

    def running() -> float:
        return count(direct.get("/metrics").text, "vllm:num_requests_running")

    stream = ask(served.api(), "Write a long story.", stream=True, max_tokens=1500)
    next(iter(stream))
    assert running() == 1
    stream.close()
    begun = time.monotonic()
    wait_until(lambda: running() == 0, limit=10, what="vLLM to be free")
    figures(abort_ms=round((time.monotonic() - begun) * 1000))


def test_many_at_once(served):
    def one(i: int) -> int:
        return ask(served.api(), f"Tell me about the number {i}.", max_tokens=32, temperature=0, extra_body={"ignore_eos": True}).usage.completion_tokens

    begun = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(32))) == [32] * 32
    figures(tokens_per_second_at_16=round(32 * 32 / (time.monotonic() - begun), 1))


@pytest.mark.parametrize("name", ["EngineCore", "Worker", "vllm serve"])
def test_killed_and_started_again(served, name):
    stream = ask(served.api(), "Write a long story.", stream=True, max_tokens=1500, stop=["never said"])  # which nobody goes on with
    next(iter(stream))
    before = served.below()
    victims = [p for p in before if name in command_line(p) or (name != "vllm serve" and name in comm(p))]
    assert victims, [command_line(p) for p in before]
    os.kill(victims[0], signal.SIGKILL)
    begun = time.monotonic()
    with pytest.raises(openai.APIError):
        list(stream)
    seen = time.monotonic() - begun

    def again():
        try:
            return ask(served.api(), max_tokens=2).usage.completion_tokens == 2
        except openai.APIError:
            return False

    wait_until(again, limit=START, what="the next vLLM")
    figures(killed=name, seen_after_s=round(seen, 2), serving_after_s=round(time.monotonic() - begun, 1))
    assert not [p for p in before if alive(p) and "cy-llm" not in command_line(p)], "left behind"


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text() + command_line(pid)
    except OSError:
        return ""


def test_sigterm_with_an_open_stream(served):
    stream = ask(served.api(), "Write a story.", stream=True, max_tokens=40, extra_body={"ignore_eos": True})
    next(iter(stream))
    below = served.below()
    begun = time.monotonic()
    served.process.signal(signal.SIGTERM)
    assert len([c for c in stream if c.choices]) >= 35
    assert served.process.wait_exit(60) == 0
    figures(stopped_after_s=round(time.monotonic() - begun, 1))
    wait_until(lambda: not any(alive(p) for p in below), limit=10, what="all of it to be gone")


# ---- two of them


class Alone:
    """A vLLM that nobody supervises."""

    def __init__(self, folder: Path, name: str):
        self.socket = folder / f"{name}.sock"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(OWN_VARIABLES)}
        self.popen = subprocess.Popen(
            [VLLM, "serve", MODEL, "--served-model-name", "smol", "--uds", str(self.socket), "--enforce-eager", "--max-model-len", "2048",
             "--max-num-seqs", "4"],
            env=clean | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        self.http = httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://x", timeout=60)

    def get(self, path: str) -> str:
        try:
            return self.http.get(path).text
        except httpx.TransportError:
            return ""

    def up(self) -> bool:
        return '"smol"' in self.get("/v1/models")

    def count(self, name: str) -> float:
        return count(self.get("/metrics"), name)

    def running(self) -> bool:
        return self.count("vllm:num_requests_running") > 0

    def kill(self):
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


def test_an_answer_goes_on_at_another_vllm_or_is_refused(tmp_path, start):
    servers = [Alone(tmp_path, name) for name in "ab"]
    try:
        wait_until(lambda: all(s.up() for s in servers), limit=2 * START, what="two vLLMs")
        process = start("serve", "--listen", "127.0.0.1:0", "--upstream", ",".join(f"unix:{s.socket}" for s in servers), expect=("gateway",))
        url = process.address("gateway")
        wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
        api = client(url)

        stream = ask(api, "Write a long story.", stream=True, max_tokens=120, temperature=0, stream_options={"include_usage": True},
                     extra_body={"ignore_eos": True})  # fmt: skip
        chunks = [c for _, c in zip(range(20), stream, strict=False)]
        first = next(s for s in servers if s.running())
        other = next(s for s in servers if s is not first)
        first.kill()
        gap, at = 0.0, time.monotonic()
        for chunk in stream:
            gap, at = max(gap, time.monotonic() - at), time.monotonic()
            chunks.append(chunk)
        figures(longest_gap_s=round(gap, 3), tokens_of_the_other=other.count("vllm:generation_tokens_total"))
        assert len({(c.id, c.created, c.model) for c in chunks}) == 1
        assert [c.choices[0].delta.role for c in chunks if c.choices and c.choices[0].delta.role] == ["assistant"]
        assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]
        (usage,) = [c.usage for c in chunks if c.usage]
        assert usage.completion_tokens == 120 and usage.total_tokens == usage.prompt_tokens + 120
        # What was said was a prompt to the other.
        assert other.count("vllm:prompt_tokens_total") >= usage.prompt_tokens + 15
        assert 0 < other.count("vllm:generation_tokens_total") <= 120 - 15

        stream = ask(api, "Write a long story.", stream=True, max_tokens=1500, stop=["never said"])  # which nobody can go on with
        next(iter(stream))
        other.kill()
        with pytest.raises(openai.APIError):
            list(stream)
    finally:
        for server in servers:
            server.kill()
