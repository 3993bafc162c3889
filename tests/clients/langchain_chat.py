"""LangChain by its three providers that speak to us."""

import os

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

GATEWAY, KEY = os.environ["GATEWAY"], os.environ["KEY"]


class City(BaseModel):
    city: str


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return "rain in " + city


openai = dict(model="default", base_url=GATEWAY + "/v1", api_key=KEY, max_retries=0)
models = [
    ChatOpenAI(**openai),
    ChatOpenAI(**openai, use_responses_api=True),
    ChatAnthropic(model="default", base_url=GATEWAY, api_key=KEY, max_tokens=64, max_retries=0),
    ChatOllama(model="default", base_url=GATEWAY),
]
for model in models:
    assert model.invoke("apple pear").text.startswith("apple pear"), model
    assert "".join(part.text for part in model.stream("apple pear")).startswith("apple pear"), model
    armed = model.bind_tools([weather])
    asked = armed.invoke("weather please")
    (call,) = asked.tool_calls
    assert call["name"] == "weather" and isinstance(call["args"]["city"], str), model
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage)
    armed.invoke([("human", "weather please"), asked, result])
    streamed = None
    for part in armed.stream("weather please"):
        streamed = part if streamed is None else streamed + part
    assert [c["args"] for c in streamed.tool_calls] == [call["args"]], model
    assert isinstance(model.with_structured_output(City).invoke("City apple"), City), model

for embeddings in (
    OpenAIEmbeddings(**openai, check_embedding_ctx_length=False),
    OllamaEmbeddings(model="default", base_url=GATEWAY),
):
    assert [len(v) for v in embeddings.embed_documents(["a b", "b c"])] == [64, 64]
