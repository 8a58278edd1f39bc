"""What every chat model behind an API has in common: streaming, stopping, and no failure without a name."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from satellite.config.chat import ChatSettings, OllamaSettings, OpenAISettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.ollama import OllamaChat
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.protocols import ChatDelta, ChatModel, Message, Sampling
from satellite.errors import ChatError, ChatUnavailable
from tests.doubles import ollama, openai
from tests.doubles.http import Words, dictated, script
from tests.doubles.ollama import OllamaServer
from tests.doubles.openai import OpenAIServer

PATIENCE_SECONDS = 10

Server = OllamaServer | OpenAIServer
Scenario = Callable[[Server, ChatModel], Awaitable[None]]


@dataclass(frozen=True)
class Api:
    """One kind of server and the chat model for it."""

    serve: Callable[[Words], Server]
    connect: Callable[[str, DeadlineSettings], ChatModel]
    faults: Any

    @asynccontextmanager
    async def running(
        self, words: Words, *, first: float = 10, gap: float = 10
    ) -> AsyncIterator[tuple[Any, ChatModel]]:
        """A server that says `words`, and a model that waits for them so many seconds."""
        async with self.serve(words) as server:
            model = self.connect(server.url, DeadlineSettings(chat_first_token_seconds=first, chat_gap_seconds=gap))
            try:
                yield server, model
            finally:
                await model.close()
                await model.close()


def _ollama(url: str, deadlines: DeadlineSettings) -> ChatModel:
    settings = OllamaSettings(type="ollama", url=url, model="smollm2")
    return OllamaChat(settings, ChatSettings(), deadlines)


def _openai(url: str, deadlines: DeadlineSettings) -> ChatModel:
    settings = OpenAISettings(type="openai", url=f"{url}/openai/v1", model="llama-3.1-8b-instant")
    return OpenAIChat(settings, ChatSettings(), deadlines)


@pytest.fixture(params=["ollama", "openai"])
def api(request: pytest.FixtureRequest) -> Api:
    """Each API in turn."""
    if request.param == "ollama":
        return Api(OllamaServer, _ollama, ollama.Fault)
    return Api(OpenAIServer, _openai, openai.Fault)


def ask(model: ChatModel, question: str = "What is the capital of France?") -> AsyncGenerator[ChatDelta, None]:
    """Begin an answer."""
    return model.stream([Message("system", "Be brief."), Message("user", question)])


async def answered(model: ChatModel, question: str = "What is the capital of France?") -> str:
    """Return a whole answer."""
    async with aclosing(ask(model, question)) as deltas:
        return "".join([delta.text async for delta in deltas])


async def last_words(words: list[dict[str, str]]) -> AsyncGenerator[str, None]:
    """Say the question back."""
    for word in words[-1]["content"].split(" "):
        yield word + " "
        await asyncio.sleep(0)


async def failure(api: Api, fault: str, **seconds: float) -> tuple[str, ChatUnavailable]:
    """Return what is said of an answer that goes wrong, and the error that ends it."""
    said: list[str] = []
    errors: list[ChatUnavailable] = []
    async with api.running(script("Paris", " is it."), **seconds) as (server, model):
        server.faults = [api.faults[fault]]
        async with aclosing(ask(model)) as deltas:
            try:
                async for delta in deltas:
                    said.append(delta.text)  # noqa: PERF401  # what came before the error counts
            except ChatUnavailable as error:
                errors.append(error)
        patient = api.connect(server.url, DeadlineSettings())
        assert await answered(patient) == "Paris is it."  # the server is none the worse
        await patient.close()
    return "".join(said), errors[0]


async def test_an_answer_comes_whole_with_its_figures(api: Api) -> None:
    async with api.running(script("Paris", " it", " is.")) as (_, model):
        deltas = [delta async for delta in ask(model)]
        assert "".join(delta.text for delta in deltas) == "Paris it is."
        assert {delta.provider for delta in deltas} == {model.provider}
        assert [delta.stats is None for delta in deltas] == [True] * (len(deltas) - 1) + [False]
        stats = deltas[-1].stats
        assert stats is not None
        assert stats.answer_tokens == 3
        assert stats.prompt_tokens
        assert stats.tokens_per_second


async def test_wishes_reach_the_server(api: Api) -> None:
    async with api.running(script("Paris", " it", " is.")) as (server, model):
        wishes = Sampling(max_tokens=2, temperature=0.7, top_p=0.5, seed=42, stop=("END",))
        deltas = [delta async for delta in model.stream([Message("user", "Hi")], wishes)]
        assert deltas[-1].stats is not None
        assert deltas[-1].stats.truncated
        body = server.exchanges[-1].body
        told = {**body, **body.pop("options", {})}
        told["max_tokens"] = told.pop("num_predict", None) or told["max_tokens"]
        assert {name: told[name] for name in ("max_tokens", "temperature", "top_p", "seed", "stop")} == {
            "max_tokens": 2,
            "temperature": 0.7,
            "top_p": 0.5,
            "seed": 42,
            "stop": ["END"],
        }
        assert [delta async for delta in model.stream([Message("user", "Hi")], Sampling(max_tokens=100_000))]
        body = server.exchanges[-1].body
        assert (body.get("options", {}).get("num_predict") or body["max_tokens"]) == ChatSettings().max_tokens


async def test_an_answer_may_be_empty_where_that_was_asked_for(api: Api) -> None:
    async with api.running(script("")) as (_, model):
        deltas = [delta async for delta in model.stream([Message("user", "Hi")], Sampling(stop=("Paris",)))]
        assert [delta.text for delta in deltas] == [""]
        with pytest.raises(ChatUnavailable) as caught:
            await answered(model)
        assert caught.value.code == "chat-empty"


async def test_each_delta_comes_before_the_next_word_exists(api: Api) -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with api.running(dictated(words)) as (_, model), aclosing(ask(model)) as deltas:
        for word in ("Paris", " it", " is."):
            words.put_nowait(word)
            assert (await anext(deltas)).text == word
        words.put_nowait(None)
        assert [delta.text async for delta in deltas] == [""]


async def test_thoughts_are_dropped(api: Api) -> None:
    async with api.running(script("<thi", "nk>The user", " asks</th", "ink>\n\n", "Paris", ".")) as (_, model):
        assert await answered(model) == "Paris."


async def test_closing_the_answer_stops_the_server_and_frees_it(api: Api) -> None:
    async def endless(_: Any) -> AsyncGenerator[str, None]:
        while True:
            yield "word "
            await asyncio.sleep(0)

    async with api.running(endless) as (server, model):
        deltas = ask(model)
        assert (await anext(deltas)).text == "word "
        await deltas.aclose()
        await server.abandoned.wait()
        server.words = script("Next.")
        assert await answered(model) == "Next."


async def test_cancelling_before_the_first_word_stops_the_server_and_frees_it(api: Api) -> None:
    async with api.running(script("Next.")) as (server, model):
        server.faults = [api.faults.HANG]
        waiting = asyncio.create_task(anext(ask(model)))
        await server.asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await server.abandoned.wait()
        assert await answered(model) == "Next."


async def test_two_answers_at_once_do_not_mix(api: Api) -> None:
    async with api.running(last_words) as (_, model):
        questions = ["one two three four", "five six seven eight"]
        assert await asyncio.gather(*(answered(model, question) for question in questions)) == [
            question + " " for question in questions
        ]


async def test_a_connection_serves_many_answers(api: Api) -> None:
    async with api.running(script("Paris", ".")) as (server, model):
        for _ in range(3):
            assert await answered(model) == "Paris."
        assert server.connections == 1


async def test_a_silent_server_is_given_up_at_the_first_deadline(api: Api) -> None:
    said, error = await failure(api, "HANG", first=0.2)
    assert (said, error.code) == ("", "chat-timeout")


async def test_a_server_that_falls_silent_is_given_up(api: Api) -> None:
    said, error = await failure(api, "STALL", gap=0.2)
    assert (said, error.code) == ("Paris", "chat-timeout")


@pytest.mark.parametrize("fault", ["CUT", "RESET", "GARBAGE"])
async def test_an_answer_that_breaks_off_is_an_error(api: Api, fault: str) -> None:
    said, error = await failure(api, fault)
    assert (said, error.code) == ("Paris", "chat-failed")
    assert "127.0.0.1" in str(error)


async def test_a_crash_before_the_first_word_is_an_error(api: Api) -> None:
    said, error = await failure(api, "CRASH")
    assert (said, error.code) == ("", "chat-failed")


async def test_an_answer_without_a_word_is_an_error(api: Api) -> None:
    async with api.running(script()) as (_, model):
        with pytest.raises(ChatUnavailable) as caught:
            await answered(model)
        assert caught.value.code == "chat-empty"


async def test_a_server_that_is_not_there_is_named(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    model = api.connect(f"http://127.0.0.1:{port}", DeadlineSettings())
    with pytest.raises(ChatUnavailable, match=f"127.0.0.1:{port}.* cannot be reached") as caught:
        await answered(model)
    assert caught.value.code == "chat-unreachable"
    await model.close()


async def test_a_closed_model_says_so(api: Api) -> None:
    async with api.running(script("Paris.")) as (_, model):
        await model.close()
        with pytest.raises(ChatUnavailable):
            await answered(model)


async def test_a_proxy_of_the_environment_is_not_used_inside_the_house(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with api.running(script("Paris.")) as (_, model):
        assert await answered(model) == "Paris."


async def test_a_question_that_is_no_text_is_an_error(api: Api) -> None:
    async with api.running(script("Paris.")) as (_, model):
        with pytest.raises(ChatError):
            await answered(model, "\ud800")
        assert await answered(model) == "Paris."
