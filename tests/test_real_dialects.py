"""Tool loops, constrained output and embeddings of the real model through the clients of each dialect."""

import json

import anthropic
import ollama
import pytest
from pydantic import BaseModel, Field

from conftest import client

pytestmark = pytest.mark.real

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"],
}
QUESTION = [{"role": "user", "content": "What is the weather in Oslo?"}]


def holds(arguments: dict) -> bool:
    return set(arguments) == {"city", "unit"} and isinstance(arguments["city"], str) and arguments["unit"] in ("C", "F")


def test_anthropics_tool_loop(real):
    api = anthropic.Anthropic(base_url=real, api_key="none", max_retries=0, timeout=300)
    kw = dict(
        model="default", max_tokens=128, messages=QUESTION, extra_body={"temperature": 0},
        tools=[{"name": "get_weather", "description": "The weather of a city", "input_schema": SCHEMA}],
        tool_choice={"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
    )  # fmt: skip
    done = api.messages.create(**kw)
    (call,) = [b for b in done.content if b.type == "tool_use"]
    assert done.stop_reason == "tool_use" and call.name == "get_weather" and holds(call.input)
    with api.messages.stream(**kw) as stream:
        streamed = stream.get_final_message()
    assert [b.input for b in streamed.content if b.type == "tool_use"] == [call.input]
    history = QUESTION + [
        {"role": "assistant", "content": [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "4 degrees, rain"}]},
    ]
    after = api.messages.create(**kw | {"messages": history, "tool_choice": {"type": "none"}, "max_tokens": 24})
    assert after.content[0].type == "text" and after.stop_reason in ("end_turn", "max_tokens")
    assert api.messages.count_tokens(model="default", messages=QUESTION).input_tokens > 10


def test_ollamas_format_and_embeddings(real):
    api = ollama.Client(host=real, timeout=300)
    done = api.chat(model="default", messages=QUESTION, format=SCHEMA, options={"temperature": 0, "num_predict": 96})
    assert holds(json.loads(done.message.content)) and done.done_reason == "stop"
    text = "".join(part.response for part in api.generate(model="default", prompt="Say hello.", stream=True, options={"num_predict": 8}))
    assert text
    vectors = api.embed(model="default", input=["a cat", "a dog"]).embeddings
    assert len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 100


class Weather(BaseModel):
    city: str = Field(max_length=20)
    degrees: int = Field(ge=-50, le=50)


def test_openais_parse_helper_and_responses(real):
    api = client(real, timeout=300)
    parsed = api.chat.completions.parse(model="default", messages=QUESTION, response_format=Weather, temperature=0, max_tokens=96)
    assert isinstance(parsed.choices[0].message.parsed, Weather)
    tool = {"type": "function", "name": "get_weather", "parameters": SCHEMA}
    done = api.responses.create(model="default", input=QUESTION, tools=[tool], tool_choice="required", temperature=0,
                                parallel_tool_calls=False, max_output_tokens=128)  # fmt: skip
    (call,) = [item for item in done.output if item.type == "function_call"]
    assert done.status == "completed" and call.name == "get_weather" and holds(json.loads(call.arguments))
    with api.responses.stream(model="default", input="Translate 'good morning' to Spanish.", temperature=0) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == "Hoy, buen hora!"


def test_a_grammar_is_a_response_format(real):
    form = {"type": "grammar", "grammar": 'root ::= ("yes" | "no") "!"'}
    done = client(real, timeout=300).chat.completions.create(
        model="default", messages=[{"role": "user", "content": "Is the sea wet?"}], response_format=form, temperature=0, max_tokens=8)  # fmt: skip
    assert done.choices[0].message.content in ("yes!", "no!") and done.choices[0].finish_reason == "stop"


# Has tools of its own, and reads the arguments of calls.
TEMPLATE = """{%- for tool in tools or [] %}{{- tool | tojson }}{%- endfor %}
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' + (m.content or '') }}
{%- for call in m.tool_calls or [] %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": {' }}
{%- for key, value in call.function.arguments | items %}{{- '"' + key + '": ' + (value | tojson) + ('' if loop.last else ', ') }}
{%- endfor %}
{{- '}}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""


def test_a_call_that_was_cut_off_does_not_end_the_conversation(start, model):
    entry = {"model_path": model, "engine": "llama_cpp", "chat_template": TEMPLATE, "max_model_len": 2048}
    one = start("serve", "--listen", "127.0.0.1:0", "--threads", "1", expect=("gateway",),
                env={"CY_LLM_MODEL_REGISTRY": json.dumps({"default": entry})})  # fmt: skip
    api = client(one.address("gateway"))
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
    for arguments in ('{"city": "Os', "", "[1]", '{"city": "Oslo", "unit": "C"}'):
        call = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
        history = QUESTION + [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "the call was cut off"},
        ]
        for choice in ("auto", "none"):
            done = api.chat.completions.create(model="default", messages=history, tools=[tool], tool_choice=choice, max_tokens=8)
            assert done.usage.completion_tokens > 0, arguments
