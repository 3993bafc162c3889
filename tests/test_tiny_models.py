"""The llama_cpp engine with kinds of models that the default one is not: sliding windows, recurrent memory, alone and
beside attention, encoders that rank and embed, tokens for infill. Random weights; what is said means nothing, but has to be the same."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import client
from support import tiny_models
from support.process import http, wait_until

TEXT = "the rain fell on the house and over the river it was " * 8


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_models.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def serve(start, files):
    """serve(name, **options): the URL of the all-in-one with that model; options are its registry entry's."""

    def begin(name: str, **options) -> str:
        entry = {"default": {"engine": "llama_cpp", "model_path": str(files[name]), "max_model_len": 1024, "max_num_seqs": 4, **options}}
        process = start("serve", "--listen", "127.0.0.1:0", "--preload", env={"CY_LLM_MODEL_REGISTRY": json.dumps(entry)}, expect=("gateway",))
        url = process.address("gateway")
        wait_until(lambda: http.get(url + "/ready").status_code == 200, what="/ready")
        return url

    return begin


def said(url: str, prompt: str, tokens: int = 24):
    """(tokens' log-probabilities and text, cached tokens): greedy."""
    answer = client(url).completions.create(model="default", prompt=prompt, max_tokens=tokens, temperature=0, logprobs=1,
                                            extra_body={"ignore_eos": True})  # fmt: skip
    choice = answer.choices[0]
    return (choice.logprobs.tokens, choice.logprobs.token_logprobs), answer.usage.prompt_tokens_details.cached_tokens


@pytest.mark.parametrize("name, caches", [("plain", True), ("sliding", True), ("recurrent", False), ("hybrid", False)])
def test_the_same_alone_together_and_from_the_cache(serve, name, caches):
    """With a quantised cache (a state of no cache has no other form), not a bit differs."""
    kind = {} if name == "recurrent" else {"kv_cache_dtype": "q8_0"}
    prompts = [TEXT + f"{n} " * n for n in range(8)]
    plain = serve(name, enable_prefix_caching=False, prefill_lane=False, speculation="off", **kind)
    alone = [said(plain, p) for p in prompts]
    assert all(cached == 0 for _, cached in alone)
    assert len({json.dumps(text) for text, _ in alone}) == len(prompts)
    url = serve(name, **kind)
    for _ in range(2):
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda p: said(url, p), prompts))
        assert [text[0] for text, _ in together] == [text[0] for text, _ in alone]
        if caches:  # llama.cpp scans a sequence's rows in the step's order: last digits
            assert [text for text, _ in together] == [text for text, _ in alone]
    assert (min(cached for _, cached in together) > 300) == caches
    assert caches or max(cached for _, cached in together) == 0


@pytest.mark.parametrize("name", ["recurrent", "hybrid"])
def test_a_conversation_goes_on_where_nothing_can_be_cached(serve, name):
    """What a sequence still holds of the beginning is neither taken over nor mixed in."""
    url, fresh = serve(name), serve(name, enable_prefix_caching=False)
    prompt = TEXT
    for _ in range(3):
        (tokens, _), cached = said(url, prompt)
        assert cached == 0 and tokens == said(fresh, prompt)[0][0]
        prompt += "".join(t for t in tokens if t.isascii()) + " and over the river "
    assert said(url, TEXT)[0][0] == said(fresh, TEXT)[0][0]


@pytest.mark.parametrize("name", ["plain", "sliding", "recurrent", "hybrid"])
def test_a_prompt_past_the_context_is_the_clients_error(serve, name):
    url = serve(name)
    refused = http.post(url + "/v1/completions", json={"model": "default", "prompt": "x " * 2000})
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "context_length_exceeded"
    assert said(url, "the rain", 4)


def test_ranks(serve):
    url = serve("ranking")
    ask = {"model": "default", "query": "the rain", "documents": ["the house", "over the river", "x" * 50, "the house"]}
    got = http.post(url + "/v1/rerank", json=ask).json()["results"]
    score = {r["index"]: r["relevance_score"] for r in got}
    assert sorted(score) == [0, 1, 2, 3] and score[0] == score[3] and len(set(score.values())) == 3
    assert [r["relevance_score"] for r in got] == sorted(score.values(), reverse=True)
    alone = http.post(url + "/v1/rerank", json=ask | {"documents": ["over the river"]}).json()["results"]
    assert alone[0]["relevance_score"] == pytest.approx(score[1], rel=0.02)  # many rows are computed in tiles
    for path, body in (("/v1/completions", {"prompt": "x"}), ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]})):
        assert 400 <= http.post(url + path, json={"model": "default", **body}).status_code < 502


def test_an_encoder_embeds_and_does_no_more(serve):
    url = serve("embedding")

    def embed(inputs, **more) -> list:
        answer = http.post(url + "/v1/embeddings", json={"model": "default", "input": inputs, **more})
        assert answer.status_code == 200, answer.text
        return [d["embedding"] for d in answer.json()["data"]]

    def product(a, b) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    texts = ["the rain", "over the river", "the house on the river", "x" * 50, "the rain"]
    vectors = embed(texts)
    assert [len(v) for v in vectors] == [tiny_models.WIDTH] * 5
    assert all(math.isclose(product(v, v), 1, rel_tol=1e-3) for v in vectors)
    assert vectors[0] == vectors[4] and product(vectors[0], vectors[1]) < 0.999
    alone = [embed(text)[0] for text in texts]
    assert all(product(a, v) > 0.999 for a, v in zip(alone, vectors, strict=True))  # many rows are computed in tiles
    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(lambda text: embed(text)[0], texts)) == alone
    [short] = embed("the rain", dimensions=16)
    length = math.sqrt(product(alone[0][:16], alone[0][:16]))
    assert short == pytest.approx([x / length for x in alone[0][:16]], abs=1e-3)
    chat = {"messages": [{"role": "user", "content": "x"}]}
    for path, body, what in (("/v1/completions", {"prompt": "x"}, "completions"), ("/v1/chat/completions", chat, "chats"),
                             ("/v1/rerank", {"query": "x", "documents": ["y"]}, "ranks")):  # fmt: skip
        refused = http.post(url + path, json={"model": "default", **body})
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "unsupported", refused.text
        assert refused.json()["error"]["message"].endswith(f"needs: {what}")
    assert embed("the rain") == [alone[0]]


def test_infill_and_its_absence(serve):
    url = serve("plain")
    ask = {"model": "default", "prompt": "the rain", "suffix": " the house", "max_tokens": 8, "temperature": 0}
    filled = http.post(url + "/v1/completions", json=ask).json()
    # <fim_pre> prompt <fim_suf> suffix <fim_mid>, after what every text begins with
    tokens = http.post(url + "/tokenize", json={"model": "default", "prompt": "the rain"}).json()["count"]
    assert filled["usage"]["prompt_tokens"] > tokens + 3
    assert filled["choices"][0]["text"] != http.post(url + "/v1/completions", json=ask | {"suffix": None}).json()["choices"][0]["text"]
    refused = http.post(serve("sliding") + "/v1/completions", json=ask)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "suffix", refused.text
