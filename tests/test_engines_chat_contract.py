"""What every chat model behind an API has in common: streaming, stopping, and no failure without a name."""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from satellite.config.chat import ChatSettings, OllamaSettings, OpenAISettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.ollama import OllamaChat
from satellite.engines.chat.openai import OpenAIChat
from satellite.engines.protocols import AS_CONFIGURED, ChatDelta, ChatModel, Message, Sampling
from satellite.errors import ChatError, ChatUnavailable
from tests.doubles import ollama, openai
from tests.doubles.http import Exchange, HttpServer, Words, dictated, script
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.virtual_clock

CAPITAL = "What is the capital of France?"
CHAT = ChatSettings(first_token_seconds=PATIENCE_SECONDS)
PARIS = script("Paris", " it", " is.")


@dataclass(frozen=True)
class Api:
    """One kind of server and the chat model for it."""

    serve: Callable[[Words], HttpServer]
    connect: Callable[..., ChatModel]
    faults: Any
    at_once: int
    """How many answers it gives at a time."""

    @asynccontextmanager
    async def running(
        self, words: Words, *, first: float = PATIENCE_SECONDS, gap: float = PATIENCE_SECONDS
    ) -> AsyncIterator[tuple[Any, ChatModel]]:
        """A server that says `words`, and a model that waits for them so many seconds."""
        async with self.serve(words) as server:
            model = self.connect(server.url, DeadlineSettings(chat_first_token_seconds=first, chat_gap_seconds=gap))
            try:
                yield server, model
            finally:
                await model.close()
                await model.close()


def _ollama(url: str, deadlines: DeadlineSettings, **more: Any) -> ChatModel:
    return OllamaChat(OllamaSettings(type="ollama", url=url, model="smollm2", **more), CHAT, deadlines)


def _openai(url: str, deadlines: DeadlineSettings, **more: Any) -> ChatModel:
    settings = OpenAISettings(type="openai", url=f"{url}/openai/v1", model="llama-3.1-8b-instant", **more)
    return OpenAIChat(settings, CHAT, deadlines)


APIS = {
    "ollama": Api(ollama.OllamaServer, _ollama, ollama.Fault, 1),
    "openai": Api(openai.OpenAIServer, _openai, openai.Fault, 2),
}


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> Api:
    return APIS[request.param]


def ask(
    model: ChatModel, question: str = CAPITAL, sampling: Sampling = AS_CONFIGURED
) -> AsyncGenerator[ChatDelta, None]:
    return model.stream([Message("system", "Be brief."), Message("user", question)], sampling)


async def answered(model: ChatModel, question: str = CAPITAL) -> str:
    async with aclosing(ask(model, question)) as deltas:
        return "".join([delta.text async for delta in deltas])


async def test_an_answer_comes_whole_without_thoughts_and_with_its_figures(api: Api) -> None:
    async with api.running(script("<thi", "nk>The user", " asks</th", "ink>\n\n", "Paris", ".")) as (server, model):
        server.seconds_per_token = 1
        deltas = [delta async for delta in ask(model)]
        assert "".join(delta.text for delta in deltas) == "Paris."
        assert {delta.provider for delta in deltas} == {model.provider}
        assert [delta.stats is None for delta in deltas] == [True] * (len(deltas) - 1) + [False]
        stats = deltas[-1].stats
        assert stats is not None
        assert stats.answer_tokens == 6
        assert stats.prompt_tokens
        assert stats.tokens_per_second == pytest.approx(1)


async def test_wishes_reach_the_server(api: Api) -> None:
    async with api.running(PARIS) as (server, model):
        wishes = Sampling(max_tokens=2, temperature=0.7, top_p=0.5, seed=42, stop=("END",))
        deltas = [delta async for delta in ask(model, sampling=wishes)]
        assert deltas[-1].stats is not None
        assert deltas[-1].stats.truncated
        assert _sent(server) == {"max_tokens": 2, "temperature": 0.7, "top_p": 0.5, "seed": 42, "stop": ["END"]}
        assert [delta async for delta in ask(model, sampling=Sampling(max_tokens=100_000))]
        assert _sent(server)["max_tokens"] == CHAT.max_tokens


def _sent(server: HttpServer) -> dict[str, Any]:
    """Return the parameters of the last request, by OpenAI's names."""
    body = server.exchanges[-1].body
    sent = {"max_tokens": body.get("options", {}).get("num_predict"), **body, **body.get("options", {})}
    return {name: sent[name] for name in ("max_tokens", "temperature", "top_p", "seed", "stop") if name in sent}


async def test_an_answer_may_be_empty_only_where_that_was_asked_for(api: Api) -> None:
    async with api.running(script()) as (_, model):
        assert [delta.text async for delta in ask(model, sampling=Sampling(stop=("Paris",)))] == [""]
        with pytest.raises(ChatUnavailable, check=lambda error: error.code == "chat-empty"):
            await answered(model)


async def test_each_delta_comes_before_the_next_word_exists(api: Api) -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()
    async with api.running(dictated(words)) as (_, model), aclosing(ask(model)) as deltas:
        for word in ("Paris", " it", " is."):
            words.put_nowait(word)
            assert (await anext(deltas)).text == word
        words.put_nowait(None)
        assert [delta.text async for delta in deltas] == [""]


async def test_closing_the_answer_stops_the_server_and_frees_it(api: Api) -> None:
    async with api.running(PARIS) as (server, model):
        server.faults = [api.faults.STALL]
        deltas = ask(model)
        assert (await anext(deltas)).text == "Paris"
        await deltas.aclose()
        await server.abandoned.wait()
        assert await answered(model) == "Paris it is."


async def test_cancelling_before_the_first_word_stops_the_server_and_blames_nobody(api: Api) -> None:
    async with api.running(PARIS) as (server, model):
        server.faults = [api.faults.HANG]
        waiting = asyncio.create_task(anext(ask(model)))
        await server.asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await server.abandoned.wait()
        assert model.health.up
        assert await answered(model) == "Paris it is."


async def test_two_answers_at_once_do_not_mix(api: Api) -> None:
    meeting = asyncio.Barrier(api.at_once)

    async def in_step(messages: list[dict[str, str]]) -> AsyncGenerator[str, None]:
        for _ in range(3):
            await meeting.wait()
            yield messages[-1]["content"]

    async with api.running(in_step) as (_, model):
        assert await asyncio.gather(*(answered(model, name) for name in "ab")) == ["aaa", "bbb"]


async def test_a_connection_serves_many_answers_until_the_model_is_closed(api: Api) -> None:
    async with api.running(PARIS) as (server, model):
        for _ in range(3):
            assert await answered(model) == "Paris it is."
        assert server.connections == 1
        await model.close()
        with pytest.raises(ChatUnavailable, match="closed"):
            await answered(model)


@pytest.mark.parametrize(
    ("fault", "seconds", "said", "code"),
    [
        ("HANG", {"first": 0.2}, "", "chat-timeout"),
        ("STALL", {"gap": 0.2}, "Paris", "chat-timeout"),
        ("CUT", {}, "Paris", "chat-failed"),
        ("RESET", {}, "Paris", "chat-failed"),
        ("GARBAGE", {}, "Paris", "chat-failed"),
        ("CRASH", {}, "", "chat-failed"),
    ],
)
async def test_an_answer_that_goes_wrong_is_an_error(
    api: Api, fault: str, seconds: dict[str, float], said: str, code: str
) -> None:
    async with api.running(PARIS, **seconds) as (server, model):
        server.faults = [api.faults[fault]]
        texts = []
        async with aclosing(ask(model)) as deltas:
            with pytest.raises(ChatUnavailable, match=r"127\.0\.0\.1") as caught:
                async for delta in deltas:
                    texts.append(delta.text)  # noqa: PERF401  # what came before the error counts
        assert ("".join(texts), caught.value.code) == (said, code)
        assert await answered(model) == "Paris it is."  # server and model are none the worse


async def test_a_server_that_is_not_there_is_named(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    model = api.connect(f"http://127.0.0.1:{port}", DeadlineSettings())
    with pytest.raises(ChatUnavailable, match=f"127.0.0.1:{port}.* cannot be reached") as caught:
        await answered(model)
    assert caught.value.code == "chat-unreachable"
    await model.close()


async def test_a_proxy_of_the_environment_is_not_used_inside_the_house(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with api.running(PARIS) as (_, model):
        assert await answered(model) == "Paris it is."


class Echo(HttpServer):
    """A proxy that quotes the key that it was sent: as a refusal, then in the place of a status."""

    has_refused = False

    async def answer(self, exchange: Exchange) -> None:
        given = exchange.headers["authorization"]
        if self.has_refused:
            exchange.writer.write(f"{given}\r\n\r\n".encode())
        else:
            self.has_refused = True
            await exchange.reply(403, {"error": given})


async def test_what_a_proxy_says_is_quoted_without_the_key(api: Api, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("gsk_NobodyMayEverSeeThis")
    async with Echo() as server:
        model = api.connect(server.url, DeadlineSettings(), api_key_file=tmp_path / "key")
        for said in (r"Bearer \[key\]", r"broke off: .*Bearer \[key\]"):
            with pytest.raises(ChatError, match=said):
                await answered(model)
        await model.close()


async def test_certificates_that_cannot_be_read_are_an_error_of_the_settings(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    monkeypatch.delitem(sys.modules, "ollama", raising=False)  # which makes a client when it is imported
    model = api.connect("http://127.0.0.1:9", DeadlineSettings())
    with pytest.raises(ChatUnavailable, match=r"cannot be asked: .*No such file") as caught:
        await answered(model)
    assert caught.value.code == "chat-misconfigured"
    assert model.health.state in ("misconfigured", "unknown")
    await model.close()


async def test_a_question_that_is_no_text_is_an_error(api: Api) -> None:
    async with api.running(PARIS) as (_, model):
        with pytest.raises(ChatError):
            await answered(model, "\ud800")
        assert await answered(model) == "Paris it is."
