"""LlamaIndex by its OpenAI-like and Ollama classes."""

import os

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.ollama import Ollama
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

GATEWAY, KEY = os.environ["GATEWAY"], os.environ["KEY"]
ASK = [ChatMessage(role="user", content="apple pear")]


class City(BaseModel):
    city: str


def weather(city: str) -> str:
    """The weather of a city."""
    return "rain in " + city


openai = dict(api_base=GATEWAY + "/v1", api_key=KEY)
models = [
    OpenAILike(model="default", is_chat_model=True, is_function_calling_model=True, max_retries=0, **openai),
    Ollama(model="default", base_url=GATEWAY, context_window=8192),
]
for llm in models:
    assert llm.chat(ASK).message.content == "apple pear", llm
    assert "".join(part.delta or "" for part in llm.stream_chat(ASK)) == "apple pear", llm
    assert llm.complete("apple pear").text == "apple pear", llm
    tools = [FunctionTool.from_defaults(weather)]
    asked = llm.chat_with_tools(tools, user_msg="weather please")
    (call,) = llm.get_tool_calls_from_response(asked)
    assert call.tool_name == "weather" and isinstance(call.tool_kwargs["city"], str), llm
    done = llm.predict_and_call(tools, user_msg="weather please")
    assert str(done).startswith("rain in"), llm
    assert isinstance(llm.as_structured_llm(City).chat(ASK).raw, City), llm

for embeddings in (
    OpenAILikeEmbedding(model_name="default", **openai),
    OllamaEmbedding(model_name="default", base_url=GATEWAY),
):
    assert [len(v) for v in embeddings.get_text_embedding_batch(["a b", "b c"])] == [64, 64]
