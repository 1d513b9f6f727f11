"""LangChain over OpenAI's API and Anthropic's: chats, streams, a loop with tools, structured output and
embeddings. langchain_clients.py BASE_URL MODEL, where BASE_URL ends in /v1
"""
import sys
from typing import Literal

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

url, model = sys.argv[1:3]
root = url.removesuffix("/v1")
question = "How is the weather?"


class Answer(BaseModel):
    """The weather in short."""

    sky: Literal["blue", "grey"]
    rain: bool


@tool
def weather(city: Literal["Paris", "Oslo"]) -> str:
    """The weather of a city."""
    return f"7 degrees in {city}"


def loop(llm, turns=3):
    """Has tools called in each turn, as an agent does."""
    bound = llm.bind_tools([weather], tool_choice="any")
    history = [HumanMessage(question)]
    for _ in range(turns):
        said = bound.invoke(history)
        assert said.tool_calls, said
        history.append(said)
        for call in said.tool_calls:
            assert call["name"] == "weather" and call["args"]["city"] in ("Paris", "Oslo"), call
            history.append(ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]))


openai = {"base_url": url, "api_key": "none", "model": model, "max_retries": 0, "temperature": 0}
models = {
    # Without the setting, it asks only OpenAI's own host for the usage of streams.
    "chat": ChatOpenAI(max_tokens=200, seed=3, stream_usage=True, **openai),
    "responses": ChatOpenAI(use_responses_api=True, max_tokens=200, **openai),
    "anthropic": ChatAnthropic(base_url=root, api_key="none", model=model, max_tokens=200, max_retries=0, temperature=0),
}
for api, llm in models.items():
    whole = llm.invoke(question)
    assert whole.text and whole.usage_metadata["output_tokens"] > 0, (api, whole)

    pieces = list(llm.stream(question))
    assert "".join(p.text for p in pieces) == whole.text, (api, pieces, whole)
    assert sum(p.usage_metadata["output_tokens"] for p in pieces if p.usage_metadata) > 0, (api, pieces)

    loop(llm)

    formed = llm.with_structured_output(Answer).invoke(question)
    assert isinstance(formed, Answer), (api, formed)

# Without the setting, it sends tokens of OpenAI's own tokenizer.
embeddings = OpenAIEmbeddings(base_url=url, api_key="none", model=model, check_embedding_ctx_length=False)
first, second = embeddings.embed_documents(["the man", "the sea"])
alone = embeddings.embed_query("the man")
assert len(first) == len(second) > 0 and max(abs(a - b) for a, b in zip(first, alone)) < 1e-3
print("ok")
