"""A daemon whose answers come from Ollama: what is asked, remembered, spoken and told when Ollama is not well."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wyoming.asr import Transcript
from wyoming.event import Event
from wyoming.ping import Ping
from wyoming.pipeline import PipelineStage, RunPipeline

from satellite.audio.pcm import BYTES_PER_SECOND, AudioFormat, Converter, read_wav
from satellite.config.loader import parse
from satellite.config.settings import Config
from satellite.wire import client as our_client
from tests.doubles.http import script
from tests.doubles.ollama import Fault
from tests.running_daemon import CLEAR_VOICE, DATA, RunningDaemon
from tests.running_ollama import Ollama
from tests.waiting import PATIENCE_SECONDS
from tests.wyoming_client import Client, connect, sound, types

pytestmark = pytest.mark.models

ASR, HANDLE, TTS = PipelineStage.ASR, PipelineStage.HANDLE, PipelineStage.TTS
LIGHTS = read_wav(DATA / "commands" / "turn_on_the_lights.wav") + bytes(BYTES_PER_SECOND)
SORRY = "Sorry, I lost the rest of my answer."
VOICE = AudioFormat(22050, 2, 1)


@dataclass
class DaemonWithOllama:
    ollama: Ollama
    daemon: RunningDaemon
    stt_calls_at_start: int
    primes_at_start: list[list[dict[str, str]]]
    ollama_at_start: dict[str, Any] = field(default_factory=dict)
    """What the status told of it."""

    first_provider: str = ""
    """Which one answered first."""

    async def told_of_ollama(self) -> dict[str, Any]:
        told: dict[str, Any] = (await our_client.status(self.daemon.uri))["chat"]["providers"][0]
        return told

    async def until(self, state: str) -> None:
        """Wait until Ollama is in `state`, and asked again if that is a good one."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (told := await self.told_of_ollama())["keepalive"]["state"] != state or told["up"] != (
                state == "warm"
            ):
                await asyncio.sleep(0.02)

    async def heal(self) -> None:
        """Set right whatever a test has done, and have an answer from Ollama."""
        self.ollama.start()
        await self.until("warm")
        async with connect(self.daemon.port()) as client:
            assert (await handled(client, "Who answers?")).data["context"]["provider"] == "ollama"


def configured(models: Path, url: str, more: str) -> Config:
    """Return a configuration with Ollama at `url` as the first provider."""
    return parse(
        f"models: {{directory: {models}}}\nzeroconf: {{enabled: false}}\nwyoming: {{host: 127.0.0.1}}\n"
        f"{CLEAR_VOICE}keepalive: {{interval_seconds: 0.1}}\n"
        f"chat:\n  providers:\n    - {{type: ollama, url: '{url}', model: smollm2}}\n{more}"
    )


@contextmanager
def running(models: Path, more: str, *, frozen: bool = False) -> Iterator[DaemonWithOllama]:
    """Run a daemon beside an Ollama that is silent, if `frozen`, when the daemon starts."""
    with Ollama() as ollama:
        if frozen:
            ollama.freeze()
        with RunningDaemon(configured(models, ollama.server.url, more)) as daemon:
            yield DaemonWithOllama(ollama, daemon, daemon.daemon._workers["stt"].completed, ollama.primes)


@pytest.fixture(scope="module")
def two_providers(models_directory: Path) -> Iterator[DaemonWithOllama]:
    """Ollama first, silent at the start, and the model in the process behind it."""

    async def begin(house: DaemonWithOllama) -> None:
        house.ollama_at_start = await house.told_of_ollama()
        async with connect(house.daemon.port()) as client:
            house.first_provider = (await handled(client, "Who answers?")).data["context"]["provider"]
        await house.heal()

    with running(models_directory, "    - {type: local}\n", frozen=True) as house:
        asyncio.run(begin(house))
        yield house


@pytest.fixture(scope="module")
def one_provider(models_directory: Path) -> Iterator[DaemonWithOllama]:
    """Ollama, and nobody behind it."""
    with running(models_directory, "") as house:
        yield house


@pytest.fixture
async def house(two_providers: DaemonWithOllama) -> AsyncIterator[DaemonWithOllama]:
    yield two_providers
    await two_providers.heal()


@pytest.fixture
async def lonely(one_provider: DaemonWithOllama) -> AsyncIterator[DaemonWithOllama]:
    yield one_provider
    await one_provider.heal()


async def asked(
    client: Client, text: str, context: dict[str, Any] | None = None, language: str | None = "en"
) -> list[Event]:
    await client.send(Transcript(text=text, language=language, context=context))
    return await client.until("handled-stop", "not-handled", "error")


async def handled(client: Client, text: str, context: dict[str, Any] | None = None) -> Event:
    """Return the whole answer to a question, once the request is over."""
    return next(event for event in await asked(client, text, context) if event.type == "handled")


async def understood(house: DaemonWithOllama, pcm: bytes) -> str:
    """Return the words in the sound of an answer."""
    converter = Converter(VOICE)
    heard = await our_client.transcribe(house.daemon.uri, converter.convert(pcm) + converter.flush())
    return heard.transcript.lower()


async def spoken(house: DaemonWithOllama, text: str) -> bytes:
    """Return the sound of `text`; the voice always says the same words in the same way."""
    return bytes((await our_client.say(house.daemon.uri, text)).pcm)


def is_the_same(one: bytes, other: bytes) -> bool:
    """Return whether two sounds are the same, but for where windows were cut, which makes up to a thousandth."""
    samples = [np.frombuffer(sound, np.int16).astype(np.int32) for sound in (one, other)]
    return len(one) == len(other) and int(np.abs(samples[0] - samples[1]).max()) <= 33


# The conversation service.


async def test_a_conversation_is_continued_by_its_name_and_not_read_again(house: DaemonWithOllama) -> None:
    context = {"conversation_id": "a", "anything": [1, {"of": "theirs"}]}
    async with connect(house.daemon.port()) as client:
        told = (await handled(client, "What is the capital of France?", context)).data["context"]
        assert told.items() >= {**context, "provider": "ollama", "answer_tokens": 3}.items()
        assert told["load_ms"] >= 0
        assert "switch_reason" not in told
        first = house.ollama.questions[-1]
        await handled(client, "And how big is it?", {"conversation_id": "a"})
        second = house.ollama.questions[-1]
        read = house.ollama.server.counts.generations[-1]
        assert read.cached_tokens > 2 * read.evaluated_tokens
        await handled(client, "And of Spain?", {"conversation_id": "b"})
        other = house.ollama.questions[-1]
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert json.dumps(second).startswith(json.dumps(first)[:-1])
    assert second[2]["content"] == "Paris is the capital of France."
    assert second[3]["content"].startswith("[It is ")
    assert second[3]["content"].endswith("]\nAnd how big is it?")
    assert other[:1] == first[:1]
    assert [message["role"] for message in other] == ["system", "user"]


async def test_a_room_goes_on_with_its_conversation(house: DaemonWithOllama) -> None:
    async def commanded(client: Client, text: str) -> list[str]:
        await client.send(RunPipeline(start_stage=HANDLE, end_stage=HANDLE, announce_text=text))
        await client.until("handled")
        return [message["content"].rpartition("\n")[2] for message in house.ollama.questions[-1][1:]]

    async with connect(house.daemon.port()) as client, connect(house.daemon.port()) as other:
        await commanded(client, "Where are we?")
        answer = "Paris is the capital of France."
        assert await commanded(client, "Where else?") == ["Where are we?", answer, "Where else?"]
        assert await commanded(other, "Where else?") == ["Where else?"]


async def test_a_room_without_a_conversation_has_its_own(house: DaemonWithOllama) -> None:
    async def turns(client: Client, context: dict[str, Any] | None) -> int:
        await handled(client, "Where are we?", context)
        await handled(client, "Where else?", context)
        return len(house.ollama.questions[-1])

    async with connect(house.daemon.port()) as client:
        for key in ("satellite_id", "device_id"):
            assert await turns(client, {key: f"kitchen by {key}"}) == 4
            assert await turns(client, {key: f"bath by {key}"}) == 4
            assert await turns(client, {key: ""}) == 2
        assert await turns(client, None) == 2


async def test_the_language_of_the_event_is_told_before_the_words_of_the_question(house: DaemonWithOllama) -> None:
    async with connect(house.daemon.port()) as client:
        for language in ("fr", "en"):
            assert (await asked(client, "Quelle est la capitale ?", None, language))[-1].type == "handled-stop"
    french, english = house.ollama.questions[-2:]
    assert french[-1]["content"].endswith("; language: fr]\nQuelle est la capitale ?")
    assert english[-1]["content"].endswith("; language: en]\nQuelle est la capitale ?")
    assert french[:-1] == english[:-1]


# Somebody else answers, and Ollama again.


async def test_ollama_goes_and_comes_back_and_the_status_says_so(house: DaemonWithOllama) -> None:
    async with connect(house.daemon.port()) as client:
        assert (await handled(client, "Who answers?")).data["context"]["provider"] == "ollama"
        house.ollama.stop()
        for _ in range(2):
            told = (await handled(client, "What is the capital of France?")).data["context"]
            assert told["provider"] == "local"
            assert "Ollama at http://127.0.0.1" in told["switch_reason"]
        await house.until("unreachable")
        await client.send(Event("status"))
        (event,) = await client.until("status")
        house.ollama.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await handled(client, "Who answers?")).data["context"]["provider"] != "ollama":
                await asyncio.sleep(0.02)
    state = event.data
    assert state["ready"] is True
    assert {stage["stage"] for stage in state["stages"]} >= {"openwakeword", "vad", "stt", "chat", "tts"}
    assert {stage["state"] for stage in state["stages"]} <= {"ready", "idle"}
    ollama, local = state["chat"]["providers"]
    assert (ollama["provider"], ollama["model"], ollama["up"]) == ("ollama", "smollm2", False)
    assert "cannot be reached; is it running?" in ollama["message"]
    assert (local["provider"], local["up"], local["leaves_house"]) == ("local", True, False)
    assert ollama["keepalive"]["requests"]["look"] > 0
    assert ollama["keepalive"]["seen"]["warm"] >= 1
    assert state["chat"]["answering"] == "local"
    switch = state["chat"]["last_switch"]
    assert (switch["from"], switch["to"]) == ("ollama", "local")
    assert "Ollama at http://127.0.0.1" in switch["reason"]


# Nobody answers.


async def test_when_nobody_answers_an_apology_is_heard(lonely: DaemonWithOllama) -> None:
    lonely.ollama.stop()

    async def commanded(client: Client) -> list[Event]:
        await client.send(RunPipeline(start_stage=ASR, end_stage=TTS))
        await client.send_audio(LIGHTS)
        return await client.until("error")

    async with connect(lonely.daemon.port()) as client:
        events = await commanded(client)
        assert [step for step in types(events) if not step.startswith("voice")] == [
            "transcribe",
            "transcript",
            "audio-start",
            "audio-chunk",
            "audio-stop",
            "error",
        ]
        heard = await understood(lonely, sound(events))
        assert "sorry" in heard or "answer" in heard
        assert events[-1].data["code"] in ("chat-unreachable", "chat-not-ready")
        assert "cannot be reached" in events[-1].data["text"]
        lonely.ollama.start()
        await lonely.until("warm")
        await client.send(RunPipeline(start_stage=HANDLE, end_stage=TTS, announce_text="Capital of France?"))
        events = await client.until("audio-stop")
        assert "handled" in types(events)  # before or behind the beginning of the sound
        sounds = [step for step in types(events) if step != "handled"]
        assert sounds == ["audio-start", "audio-chunk", "audio-stop"]
        assert is_the_same(sound(events), await spoken(lonely, "Paris is the capital of France."))


async def test_when_nobody_answers_a_client_gets_a_sentence_to_speak(lonely: DaemonWithOllama) -> None:
    """It is `not-handled`, which Home Assistant speaks as it is, with the reason beside it, and no `error`, which it
    speaks with a prefix and the code."""
    lonely.ollama.stop()
    sentences = {"fr": "Désolé, je ne peux pas répondre pour le moment.", None: "Sorry, I can't answer right now."}
    async with connect(lonely.daemon.port()) as client:
        for language, sentence in sentences.items():
            (event,) = await asked(client, "Quelle est la capitale ?", {"conversation_id": "f"}, language)
            assert (event.type, event.data["text"]) == ("not-handled", sentence)
            assert event.data["context"] == {"conversation_id": "f"}
            assert event.data["detail"].startswith("no provider answers: ollama: ")
            assert event.data["code"] in ("chat-unreachable", "chat-not-ready")


# The answer breaks off.


@pytest.mark.parametrize(
    ("begun", "heard"),
    [("Paris is a lovely city, ", [SORRY]), ("Paris is a lovely city. ", [])],
    ids=["clause", "sentence"],
)
async def test_an_answer_that_breaks_off_within_a_sentence_is_apologised_for(
    house: DaemonWithOllama, begun: str, heard: list[str]
) -> None:
    asked_before = len(house.ollama.questions)
    async with connect(house.daemon.port()) as client:
        house.ollama.say(script(begun, "And so on."), Fault.ERROR_LINE)
        await client.send(RunPipeline(start_stage=HANDLE, end_stage=TTS, announce_text="Tell me of Paris."))
        events = await client.until("error")
        assert types(events) == ["audio-start", "audio-chunk", "audio-stop", "error"]
        sounds = [await spoken(house, text) for text in (begun.strip(), *heard)]
        assert is_the_same(sound(events), b"".join(sounds))
        assert events[-1].data["code"] == "chat-failed"
        await client.send(Ping())
        assert types(await client.until("pong")) == ["pong"]
    assert len(house.ollama.questions) == asked_before + 1


@pytest.mark.parametrize(
    ("begun", "text"),
    [
        ("Paris is a lovely city, ", "Tut mir leid, der Rest meiner Antwort fehlt."),
        ("Paris is lovely. It ", "Paris is lovely. Tut mir leid, der Rest meiner Antwort fehlt."),
    ],
)
async def test_the_text_of_an_answer_that_breaks_off_says_so(house: DaemonWithOllama, begun: str, text: str) -> None:
    """A stream that began is closed, and no `handled` claims that it is complete; it is not remembered.

    Who does not take it as it comes, such as Home Assistant, is told the sentences that were complete.
    """
    async with connect(house.daemon.port()) as client:
        house.ollama.say(script(begun, "and so on."), Fault.ERROR_LINE)
        await client.send(Transcript(text="Paris?", language="de", context={"conversation_id": begun}))
        events = await client.until("handled-stop")
        assert types(events) == ["handled-start", "handled-chunk", "not-handled", "handled-stop"]
        assert events[-2].data["text"] == text
        assert "unexpected EOF" in events[-2].data["detail"]
        await house.until("warm")
        await handled(client, "Again?", {"conversation_id": begun})
    assert [message["role"] for message in house.ollama.questions[-1]] == ["system", "user"]


# The start.


async def test_every_stage_has_worked_before_the_daemon_is_ready(lonely: DaemonWithOllama) -> None:
    assert lonely.stt_calls_at_start >= 1
    assert [[message["role"] for message in prime] for prime in lonely.primes_at_start][:1] == [["system", "user"]]
    assert len(lonely.daemon.daemon._stages._phrases) >= 2
    assert lonely.daemon.daemon._startup.cold == {}
    async with connect(lonely.daemon.port()) as client:
        await handled(client, "What is the capital of France?")
    assert lonely.ollama.questions[-1][:1] == lonely.primes_at_start[0][:1]


def test_an_ollama_that_is_silent_at_the_start_delays_nothing(two_providers: DaemonWithOllama) -> None:
    assert not two_providers.ollama_at_start["up"]
    assert "if this lasts, restart Ollama" in two_providers.ollama_at_start["message"]
    assert two_providers.daemon.daemon._startup.cold == {}
    assert two_providers.first_provider == "local"
    assert two_providers.ollama.primes  # since it is well
