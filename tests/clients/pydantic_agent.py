"""Pydantic AI, chat and responses."""

import os

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=os.environ["GATEWAY"] + "/v1", api_key=os.environ["KEY"])


class City(BaseModel):
    city: str


for kind in (OpenAIChatModel, OpenAIResponsesModel):
    model = kind("default", provider=provider)
    assert Agent(model).run_sync("apple pear").output == "apple pear"
    assert isinstance(Agent(model, output_type=City).run_sync("apple").output, City)
    with_stream = Agent(model).run_stream_sync("apple pear")
    assert with_stream.get_output() == "apple pear"
