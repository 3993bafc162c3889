"""The contract's `unload_model` while requests run or wait: none is refused for it, wherever the engine is."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

FAKE = Path(__file__).parent / "support" / "fake_vllm.py"
PROMPT = " ".join(f"w{i}" for i in range(60))
MODELS = {
    "within": {"engine": "echo", "itl_ms": 20, "load_ms": 500},
    "apart": {"engine": "echo", "itl_ms": 20, "load_ms": 500, "isolation": "process"},
    "server": {"engine": "cuda-vllm", "model_path": "models/smol", "command": [sys.executable, str(FAKE), "serve"], "stop_grace": 10},
}
ENV = {"CY_LLM_RESUME_PATIENCE": "0", "FAKE_VLLM_TOKEN_S": "0.02", "FAKE_VLLM_START_S": "0.5"}  # nothing is tried twice


@pytest.fixture
def unload(chain, legacy_client):
    """The chain, and unload(model)."""
    running = chain(json.dumps(MODELS), env=ENV)
    control = legacy_client(running.workers[0].address("worker"))
    return running, lambda model: control.control("unload_model", model_id=model).payload["status"]


def words(api, model: str):
    stream = api.chat.completions.create(model=model, messages=[{"role": "user", "content": PROMPT}], max_tokens=60, stream=True)
    return (chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


@pytest.mark.parametrize("model", MODELS)
def test_what_runs_ends_and_what_comes_waits(unload, model):
    running, unload = unload
    api = running.client()
    first = words(api, model)
    head = next(word for word in first if word)
    assert unload(model) == "ok"
    with ThreadPoolExecutor(4) as pool:
        later = [pool.submit(lambda: "".join(words(api, model))) for _ in range(4)]
        assert head + "".join(first) == PROMPT
        assert [answer.result() for answer in later] == [PROMPT] * 4


@pytest.mark.parametrize("model", MODELS)
def test_who_waits_for_a_model_goes_on_waiting(unload, model):
    running, unload = unload
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(lambda: "".join(words(running.client(), model)))
        running.workers[0].wait_log(f"model '{model}': ")  # it is loaded, or started
        assert unload(model) == "ok"
        assert waits.result() == PROMPT
