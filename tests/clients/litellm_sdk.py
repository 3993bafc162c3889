"""LiteLLM's library by its three providers that speak to us, and its Responses."""

import json
import os

import litellm
from pydantic import BaseModel

GATEWAY, KEY = os.environ["GATEWAY"], os.environ["KEY"]
ASK = [{"role": "user", "content": "apple pear"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class City(BaseModel):
    city: str


openai = dict(api_base=GATEWAY + "/v1", api_key=KEY)
providers = [
    dict(model="openai/default", **openai),
    dict(model="hosted_vllm/default", **openai),
    dict(model="anthropic/default", api_base=GATEWAY, api_key=KEY),
    dict(model="ollama_chat/default", api_base=GATEWAY),
]
for provider in providers:

    def complete(provider=provider, **more):
        return litellm.completion(**({"messages": ASK, "max_tokens": 64, "num_retries": 0} | provider | more))

    assert complete(max_tokens=2).choices[0].message.content.startswith("apple pear"), provider
    text = "".join(part.choices[0].delta.content or "" for part in complete(stream=True, max_tokens=2))
    assert text.startswith("apple pear"), (provider, text)
    ask = [{"role": "user", "content": "weather please"}]
    asked = complete(messages=ask, tools=[WEATHER]).choices[0].message
    (call,) = asked.tool_calls
    assert call.function.name == "weather" and isinstance(json.loads(call.function.arguments)["city"], str), provider
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    assert complete(messages=[*ask, asked.model_dump(), result], tools=[WEATHER]).choices, provider
    parts = list(complete(messages=ask, tools=[WEATHER], stream=True))
    streamed = litellm.stream_chunk_builder(parts, messages=ask).choices[0].message.tool_calls
    told = [json.loads(c.function.arguments) for c in streamed]
    assert told == [json.loads(call.function.arguments)], (provider, told)
    City.model_validate_json(complete(response_format=City).choices[0].message.content)

answer = litellm.responses(model="openai/default", input="apple pear", **openai)
assert answer.output[0].content[0].text == "apple pear"
for model, base in (("openai/default", GATEWAY + "/v1"), ("ollama/default", GATEWAY)):
    found = litellm.embedding(model=model, api_base=base, api_key=KEY, input=["a b", "b c"])
    assert [len(v["embedding"]) for v in found.data] == [64, 64], model
