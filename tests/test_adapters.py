"""Adapters (LoRA) of llama_cpp with the real model: their names are models."""

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from conftest import client, registry
from support import lora
from support.process import http

pytestmark = pytest.mark.real


def begin(start, **model):
    small = {"engine": "llama_cpp", "max_num_seqs": 4, "max_model_len": 1024}
    return start("serve", "--listen", "127.0.0.1:0", "--threads", "1", expect=("gateway",),
                 env={"CY_LLM_MODEL_REGISTRY": registry(smol=small | model)})  # fmt: skip


def said(url: str, model: str) -> str:
    done = client(url, timeout=300).chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Tell me about Paris."}], temperature=0, max_tokens=16)  # fmt: skip
    return done.choices[0].message.content


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_each_by_its_name(start, model, tmp_path, isolation):
    files = {name: str(lora.write(tmp_path / f"{name}.gguf", seed)) for seed, name in enumerate(("cook", "poet"))}
    url = begin(start, model_path=model, adapters=files, isolation=isolation).address("gateway")
    listed = {m["id"]: m.get("parent") for m in http.get(url + "/v1/models").json()["data"]}
    assert listed["cook"] == listed["poet"] == "smol" and listed["smol"] is None
    base = said(url, "smol")
    alone = {name: said(url, name) for name in files}
    assert len({base, *alone.values()}) == 3
    names = ["smol", "poet", "cook", "smol:poet"] * 3
    with ThreadPoolExecutor(len(names)) as pool:
        texts = list(pool.map(lambda name: said(url, name), names))
    assert texts == [base, alone["poet"], alone["cook"], alone["poet"]] * 3
    for unknown in ("smol:baker", "baker"):
        with pytest.raises(openai.NotFoundError) as error:
            said(url, unknown)
        assert error.value.code == "model_not_found"
    body = {"modelId": "smol", "prompt": "Hello", "generation": {"maxNewTokens": 2}, "adapter": "baker"}
    refused = http.post(url + "/api/v1/inference", json=body)
    assert refused.status_code == 404, refused.text
    http.post(url + "/api/v1/inference", json=body | {"adapter": "poet"}, timeout=300).raise_for_status()


def test_the_contracts_one(start, model, tmp_path):
    url = begin(start, model_path=model, adapter_path=str(lora.write(tmp_path / "a.gguf", 1))).address("gateway")
    assert said(url, "adapter") == said(url, "smol:adapter") != said(url, "smol")


def test_a_file_that_does_not_fit_is_named_in_the_log(start, model, tmp_path):
    file = lora.write(tmp_path / "other.gguf", 1, architecture="qwen2")
    process = begin(start, model_path=model, adapters={"poet": str(file)})
    with pytest.raises(openai.APIStatusError) as error:
        said(process.address("gateway"), "poet")
    assert error.value.status_code == 503
    process.wait_log(f"the adapter 'poet': {file} is for another model")
