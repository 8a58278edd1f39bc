"""OpenAI's own client: what it asks of an answer is done, or refused by name; never passed over."""

from typing import Any

import httpx
import openai
import pytest

from tests.http_daemon import QUESTION, last_run

pytestmark = pytest.mark.models

STORY = "Tell me a long story about a ship, please."
TIME = "What time is it?"
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}


def ask(ai: openai.OpenAI, /, text: Any = STORY, before: Any = (), **wishes: Any) -> Any:
    return ai.chat.completions.create(model="gpt-4o", messages=[*before, {"role": "user", "content": text}], **wishes)


def test_chat_is_a_run_like_others(ai: openai.OpenAI, http: httpx.Client) -> None:
    answer = ask(ai, QUESTION, [{"role": "system", "content": "Answer briefly."}], temperature=0.5)
    assert answer.object == "chat.completion"
    [choice] = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    run = last_run(http)
    assert (run["heard"], run["said"], run["provider"]) == (QUESTION, choice.message.content, "local")
    assert (run["outcome"], [stage["name"] for stage in run["stages"]]) == ("done", ["chat"])


def test_chat_streams(ai: openai.OpenAI) -> None:
    text = [{"type": "text", "text": QUESTION}]
    *chunks, last = ask(ai, text, stream=True, stream_options={"include_usage": True})
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert len(texts) > 2
    assert "".join(texts).strip()
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert last.usage is not None


def test_the_house_answers_first(ai: openai.OpenAI) -> None:
    answer = ask(ai, TIME)
    assert answer.usage.total_tokens == 0
    assert answer.choices[0].message.content


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_longest_answer(ai: openai.OpenAI, name: str) -> None:
    answer = ask(ai, **{name: 3})
    assert answer.usage.completion_tokens <= 3
    assert answer.choices[0].finish_reason == "length"
    assert len(answer.choices[0].message.content.split()) <= 3
    *chunks, last = ask(ai, stream=True, stream_options={"include_usage": True}, **{name: 3})
    assert chunks[-1].choices[0].finish_reason == "length"
    assert last.usage.completion_tokens <= 3
    answer = ask(ai, "Say the word hello.", **{name: 4000})
    assert (answer.choices[0].finish_reason == "length") is (answer.usage.completion_tokens >= 200)


def test_texts_before_which_it_ends(ai: openai.OpenAI) -> None:
    whole = ask(ai, seed=7, max_tokens=16).choices[0].message.content
    word = whole.split()[5]
    cut = ask(ai, seed=7, max_tokens=16, stop=[word, "never said"]).choices[0]
    assert cut.message.content == whole[: whole.index(word)].strip()
    assert cut.finish_reason == "stop"
    assert "is" not in ask(ai, TIME, stop="is").choices[0].message.content


def test_the_same_seed_is_the_same_answer(ai: openai.OpenAI) -> None:
    hot = {"temperature": 1.9, "top_p": 0.99, "max_tokens": 16}
    one, same, other = (ask(ai, seed=seed, **hot).choices[0].message.content for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    "wish",
    [
        {"n": 2},
        {"logprobs": True},
        {"top_logprobs": 3},
        {"logit_bias": {"1": 5}},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"response_format": {"type": "json_object"}},
        {"tools": [WEATHER]},
        {"tools": [WEATHER], "tool_choice": "required"},
        {"tool_choice": "required"},
        {"functions": [{"name": "f"}]},
        {"store": True},
        {"modalities": ["text", "audio"]},
        {"reasoning_effort": "high"},
        {"service_tier": "priority"},
        {"web_search_options": {}},
        {"extra_body": {"top_k": 3}},
    ],
    ids=lambda wish: "-".join(wish),
)
def test_what_is_not_understood_is_refused_by_name(ai: openai.OpenAI, wish: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(ai, **wish)
    assert (caught.value.code, caught.value.type) == ("unsupported_parameter", "invalid_request_error")
    assert caught.value.param in wish.get("extra_body", wish)
    assert str(caught.value.param) in caught.value.message


def test_what_changes_nothing_is_taken(ai: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "n": 1,
        "logprobs": False,
        "logit_bias": {},
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "response_format": {"type": "text"},
        "tools": [WEATHER],
        "tool_choice": "none",
        "parallel_tool_calls": False,
        "store": False,
        "temperature": None,
        "top_p": 1.0,
        "stop": None,
        "user": "somebody",
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "modalities": ["text"],
    }
    assert ask(ai, TIME, **asked).choices[0].message.content
    assert ask(ai, TIME, tools=[], tool_choice="auto").choices[0].message.content


def test_the_second_turn_of_an_agent(ai: openai.OpenAI, http: httpx.Client) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    messages: list[Any] = [
        {"role": "developer", "content": "Answer briefly."},
        {"role": "user", "content": [{"type": "text", "text": "How is the weather in Paris?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": TIME},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "20 degrees"}]},
    ]
    answer = ai.chat.completions.create(model="satellite", messages=messages).choices[0].message.content
    assert answer
    run = last_run(http)
    assert run["provider"] == "local"
    assert run["heard"] == "[get_weather returned: What time is it?]\n[get_weather returned: 20 degrees]"
    assert ask(ai, TIME, [*messages, {"role": "assistant", "content": answer}]).usage.total_tokens == 0


def test_an_image_is_refused(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(ai, [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}])
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "messages.content.image_url")


def test_models(ai: openai.OpenAI) -> None:
    names = [model.id for model in ai.models.list()]
    assert names[0] == "satellite"
    assert {"tiny.en", "en_US-joe-medium"} <= set(names)
    assert [ai.models.retrieve(name).id for name in names] == names
    with pytest.raises(openai.NotFoundError) as caught:
        ai.models.retrieve("gpt-4o")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
