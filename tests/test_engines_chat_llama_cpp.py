"""The model in the process: a real GGUF that streams, stops when told, and takes its turn."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import satellite.engines.chat
from satellite.config.chat import ChatSettings, LocalSettings
from satellite.engines.chat.llama_cpp import LlamaCppChat
from satellite.engines.chat.llama_process import LlamaProcess, link_to_bundled
from satellite.engines.protocols import ChatDelta, Message
from satellite.errors import ChatError, ChatRejected, ChatUnavailable
from tests.waiting import PATIENCE_SECONDS

SYSTEM_PROMPT = "You are the voice of the house. Answer in one short sentence."
FRANCE = "What is the capital of France?"
STORY = "Tell me a very long story about a dog who travels around the world."
LONG = "The cat sat on the mat and watched the birds outside. " * 25


class Brain:
    """A model of few words, which is loaded for each scenario: a process belongs to one event loop."""

    def __init__(self, file: Path, *, parallel: int = 4) -> None:
        self.file = file
        self.chat = LlamaCppChat(
            LocalSettings(type="local", parallel=parallel), ChatSettings(max_tokens=60), queue_size=2
        )

    def ask(self, question: str) -> "asyncio.Future[list[ChatDelta]]":
        """Begin to collect a whole answer."""
        return asyncio.ensure_future(self._collect(question))

    async def _collect(self, question: str) -> list[ChatDelta]:
        async with aclosing(self.chat.stream(messages(question))) as deltas:
            return [delta async for delta in deltas]

    @asynccontextmanager
    async def loaded(self) -> AsyncIterator[None]:
        """Have the model loaded, and leave it at rest."""
        await self.chat.load(self.file)
        try:
            yield
            await self.at_rest()
        finally:
            await self.chat.close()

    async def at_rest(self) -> None:
        """Wait until the model has nothing to do."""
        while self.chat.pending:
            await asyncio.sleep(0.001)

    async def at_work(self) -> None:
        """Wait until the model has a request."""
        while self.chat.busy_since is None:
            await asyncio.sleep(0.001)

    def child(self) -> psutil.Process:
        """Return the process that runs llama.cpp."""
        assert self.chat._server is not None
        return psutil.Process(self.chat._server.process.pid)

    async def generating(self) -> int:
        """Return how many answers llama.cpp itself is making."""
        assert self.chat._server is not None
        slots = await self.chat._server.slots()
        return sum(slot["is_processing"] for slot in slots)


def messages(question: str) -> list[Message]:
    """Return a conversation."""
    return [Message("system", SYSTEM_PROMPT), Message("user", question)]


def text(deltas: list[ChatDelta]) -> str:
    """Return what was said."""
    return "".join(delta.text for delta in deltas)


class Dying:
    """A llama.cpp that loads its model, and dies of the first request."""

    def __init__(self) -> None:
        self.requests = 0
        self.is_running = True
        self.exit_reason = "llama.cpp ended with status -9"
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self._die), base_url="http://llama.cpp/v1/")

    def _die(self, _: httpx.Request) -> httpx.Response:
        self.requests += 1
        self.is_running = False
        raise httpx.ReadError("reset")

    async def ready(self) -> str:
        """Be loaded."""
        return ""

    async def failure_reason(self, _: Exception) -> str:
        """Return why a request failed."""
        return self.exit_reason

    async def end(self, _: str) -> None:
        """Close the connection."""
        await self.client.aclose()


@pytest.fixture(scope="module")
def gguf(models_directory: Path) -> Path:
    """The demo set's chat model."""
    return models_directory / "chat" / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture
def brain(gguf: Path) -> Brain:
    """The demo set's chat model."""
    return Brain(gguf)


@pytest.mark.models
async def test_it_answers(brain: Brain) -> None:
    async with brain.loaded():
        deltas = await brain.ask(FRANCE)
        assert "Paris" in text(deltas)
        assert len(deltas) > 3
        assert all(delta.provider == "local" for delta in deltas)
        stats = deltas[-1].stats
        assert stats is not None
        assert stats.prompt_tokens == 35
        assert stats.answer_tokens in (len(deltas) - 1, len(deltas))
        assert stats.tokens_per_second
        assert stats.tokens_per_second > 1
        later = (await brain.ask("Who are you?"))[-1].stats
        assert later is not None
        assert min(stats.cached_tokens or 0, later.cached_tokens or 0) > 15


@pytest.mark.models
async def test_closing_stops_the_model_at_its_next_token(brain: Brain) -> None:
    async with brain.loaded():
        deltas = brain.chat.stream(messages(STORY))
        begun = time.monotonic()
        for _ in range(20):
            await anext(deltas)
            assert brain.chat.busy_since is not None  # each word comes while the next is being made
        closed = time.monotonic()
        await deltas.aclose()
        while await brain.generating():
            await asyncio.sleep(0.001)
        assert time.monotonic() - closed < closed - begun
        assert "Paris" in text(await brain.ask(FRANCE))


@pytest.mark.models
async def test_cancelling_stops_the_model_while_it_still_reads(gguf: Path) -> None:
    brain = Brain(gguf, parallel=1)
    async with brain.loaded():
        reading = brain.ask(LONG)
        await brain.at_work()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        stats = (await brain.ask(LONG))[-1].stats
        assert stats is not None
        assert stats.prompt_tokens is not None
        assert stats.cached_tokens is not None
        assert stats.prompt_tokens > 250
        assert stats.cached_tokens < stats.prompt_tokens / 2


@pytest.mark.models
@pytest.mark.parametrize("parallel", [1, 2])
async def test_two_questions_do_not_mix(gguf: Path, parallel: int) -> None:
    brain = Brain(gguf, parallel=parallel)
    async with brain.loaded():
        france, spain = await asyncio.gather(brain.ask(FRANCE), brain.ask("What is the capital of Spain?"))
        assert ("Paris" in text(france), "Madrid" in text(france)) == (True, False)
        assert ("Paris" in text(spain), "Madrid" in text(spain)) == (False, True)


@pytest.mark.models
async def test_eight_rooms_are_answered_together(gguf: Path) -> None:
    capitals = {
        "France": "Paris",
        "Spain": "Madrid",
        "Italy": "Rome",
        "Germany": "Berlin",
        "Sweden": "Stockholm",
        "Norway": "Oslo",
        "Portugal": "Lisbon",
    }
    brain = Brain(gguf, parallel=8)
    async with brain.loaded():
        story = brain.ask(STORY)
        answers = [brain.ask(f"What is the capital of {country}?") for country in capitals]
        most = 0
        while not all(answer.done() for answer in answers):
            most = max(most, await brain.generating())
            await asyncio.sleep(0)
        assert most == 8
        for capital, answer in zip(capitals.values(), answers, strict=True):
            assert capital in text(await answer)
        assert text(await story)


@pytest.mark.models
async def test_what_was_read_ahead_is_not_read_again(gguf: Path) -> None:
    brain = Brain(gguf, parallel=4)
    async with brain.loaded():
        history = [*messages(LONG), Message("assistant", "I see.")]
        brain.chat.prepare(history)
        async with aclosing(brain.chat.stream([*history, Message("user", FRANCE)])) as deltas:
            stats = [delta async for delta in deltas][-1].stats
        assert stats is not None
        assert stats.cached_tokens is not None
        assert stats.cached_tokens > 250


@pytest.mark.models
async def test_a_full_queue_is_busy(gguf: Path) -> None:
    brain = Brain(gguf, parallel=1)
    async with brain.loaded():
        story = brain.ask(STORY)
        await brain.at_work()
        waiting = [brain.ask(FRANCE), brain.ask(FRANCE)]
        await asyncio.sleep(0)  # each puts its call into the queue
        await asyncio.sleep(0)
        with pytest.raises(ChatError) as caught:
            await brain.ask(FRANCE)
        assert caught.value.code == "chat-busy"
        story.cancel()
        assert all("Paris" in text(deltas) for deltas in await asyncio.gather(*waiting))


@pytest.mark.models
async def test_a_conversation_that_does_not_fit_is_rejected(brain: Brain) -> None:
    async with brain.loaded():
        with pytest.raises(ChatRejected) as caught:
            await brain.ask("word " * 3000)
        assert caught.value.code == "chat-too-long"
        assert "Paris" in text(await brain.ask(FRANCE))


@pytest.mark.models
async def test_text_that_is_no_text_is_rejected(brain: Brain) -> None:
    async with brain.loaded():
        with pytest.raises(ChatRejected):
            await brain.ask("\ud800")
        assert "Paris" in text(await brain.ask(FRANCE))


@pytest.mark.models
async def test_nobody_else_can_connect(brain: Brain) -> None:
    async with brain.loaded():
        child = brain.child()
        assert not [c for c in child.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert brain.chat._server is not None
        socket = brain.chat._server.socket
        assert socket.is_socket()
        assert socket.parent.stat().st_mode & 0o077 == 0
    assert not socket.parent.exists()


@pytest.mark.models
async def test_closing_the_model_ends_every_answer(gguf: Path) -> None:
    brain = Brain(gguf, parallel=1)
    async with brain.loaded():
        child = brain.child()
        story = brain.ask(STORY)
        await brain.at_work()
        waiting = brain.ask(FRANCE)
        await asyncio.sleep(0)
        await brain.chat.close()
        for question in (story, waiting, brain.ask(FRANCE)):
            with pytest.raises(ChatUnavailable) as caught:
                await question
            assert caught.value.code == "chat-not-ready"
        await brain.chat.close()
        assert not child.is_running()


@pytest.mark.models
async def test_a_model_that_dies_is_an_error_and_comes_back(brain: Brain, caplog: pytest.LogCaptureFixture) -> None:
    async with brain.loaded():
        deltas = brain.chat.stream(messages(STORY))
        await anext(deltas)
        brain.child().kill()
        with pytest.raises(ChatUnavailable, match="ended with status") as caught:
            async for _ in deltas:
                pass
        assert caught.value.code == "chat-failed"
        assert "Paris" in text(await brain.ask(FRANCE))
    assert "restarting it" in caplog.text


@pytest.mark.models
def test_the_model_ends_with_the_daemon(gguf: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from satellite.config.chat import ChatSettings, LocalSettings\n"
        "from satellite.engines.chat.llama_cpp import LlamaCppChat\n"
        "async def main():\n"
        "    chat = LlamaCppChat(LocalSettings(type='local'), ChatSettings())\n"
        "    await chat.load(Path(sys.argv[1]))\n"
        "    print(chat._server.process.pid, chat._server.socket, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", code, str(gguf)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as daemon:
        assert daemon.stdout is not None
        pid, socket = daemon.stdout.readline().split()
        child = psutil.Process(int(pid))
        daemon.kill()
    child.wait(30)
    assert not child.is_running()
    assert not Path(socket).parent.exists()


async def test_a_model_that_is_not_loaded_says_so() -> None:
    chat = LlamaCppChat(LocalSettings(type="local"), ChatSettings())
    with pytest.raises(ChatUnavailable) as caught:
        await anext(chat.stream(messages(FRANCE)))
    assert caught.value.code == "chat-not-ready"


@pytest.mark.parametrize("content", [None, b"", b"<html>", b"GGUF\x03\x00\x00\x00 and then nothing"])
async def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes | None) -> None:
    before = psutil.Process().children()
    file = tmp_path / "model.gguf"
    if content is not None:
        file.write_bytes(content)
    chat = LlamaCppChat(LocalSettings(type="local"), ChatSettings())
    with pytest.raises(ChatUnavailable, match=r"model\.gguf cannot be loaded") as caught:
        await chat.load(file)
    assert caught.value.code == "chat-not-ready"
    await chat.close()
    assert psutil.Process().children() == before


async def test_certificates_that_cannot_be_read_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    before = psutil.Process().children()
    chat = LlamaCppChat(LocalSettings(type="local"), ChatSettings())
    with pytest.raises(ChatUnavailable) as caught:
        await chat.load(tmp_path / "model.gguf")
    assert "cannot be started" not in str(caught.value)
    await chat.close()
    assert psutil.Process().children() == before


async def test_a_model_that_dies_of_its_first_answer_owes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Dying()

    async def begin(_: object) -> Dying:
        return process

    monkeypatch.setattr(LlamaProcess, "begin", begin)
    chat = LlamaCppChat(LocalSettings(type="local"), ChatSettings())
    with pytest.raises(ChatUnavailable, match="ended with status -9"):
        await chat.load(tmp_path / "model.gguf")
    assert process.requests == 1
    assert chat.busy_since is None
    await chat.close()


class Full(Dying):
    """A llama.cpp that hangs, and to which so many wait to be connected that nobody else can."""

    ended = ""

    async def slots(self) -> None:
        """Fail to connect."""
        raise httpx.ConnectError("try again")

    async def end(self, reason: str) -> None:
        """Be killed."""
        self.ended = self.ended or reason
        self.is_running = False
        await super().end(reason)


async def test_a_model_that_hangs_and_accepts_no_connection_is_killed(tmp_path: Path) -> None:
    chat = LlamaCppChat(LocalSettings(type="local"), ChatSettings(), silence_seconds=2.0)
    server: Any = Full()
    chat._server, chat._file, chat.busy_since = server, tmp_path / "model.gguf", time.monotonic()
    watch = asyncio.create_task(chat.watch())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not server.ended:
            await asyncio.sleep(0.05)
    assert server.ended == "llama.cpp sent nothing for 2 s"
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    await chat.close()


@pytest.mark.models
def test_a_system_without_libgomp_is_given_one(tmp_path: Path) -> None:
    path = link_to_bundled(tmp_path)
    assert path is not None
    environment = {**os.environ, "LD_LIBRARY_PATH": path}
    code = "import ctypes; ctypes.CDLL('libgomp.so.1'); print(open('/proc/self/maps').read())"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "ctranslate2.libs/libgomp-" in result.stdout


@pytest.mark.models
async def test_a_model_that_hangs_is_killed_and_comes_back(gguf: Path, caplog: pytest.LogCaptureFixture) -> None:
    brain = Brain(gguf)
    brain.chat = LlamaCppChat(LocalSettings(type="local"), ChatSettings(max_tokens=60), silence_seconds=3.0)
    async with brain.loaded():
        watch = asyncio.create_task(brain.chat.watch())
        child = brain.child()
        child.suspend()
        first = brain.ask(FRANCE)
        await brain.at_work()
        since = brain.chat.busy_since
        for _ in range(4):
            impatient = brain.ask("And of Italy?")
            await asyncio.sleep(0.5)
            impatient.cancel()
            assert brain.chat.busy_since in (since, None)
        with pytest.raises(ChatUnavailable, match="sent nothing for 3 s") as caught:
            await first
        assert caught.value.code == "chat-failed"
        assert brain.chat.health.state in ("failing", "loading")
        assert not brain.chat.health.up
        child.wait(60)
        while not brain.chat.health.up:
            await asyncio.sleep(0.05)
        assert "Paris" in text(await brain.ask(FRANCE))
        watch.cancel()
    assert "sent nothing for 3 s while it owed an answer" in caplog.text
    assert "ended with status" not in caplog.text


@pytest.mark.models
async def test_a_model_that_hangs_is_killed_though_nobody_waits_any_more(gguf: Path) -> None:
    brain = Brain(gguf)
    brain.chat = LlamaCppChat(LocalSettings(type="local"), ChatSettings(max_tokens=60), silence_seconds=2.0)
    async with brain.loaded():
        watch = asyncio.create_task(brain.chat.watch())
        child = brain.child()
        child.suspend()
        asked = brain.ask(FRANCE)
        await brain.at_work()
        asked.cancel()
        while child.is_running():
            await asyncio.sleep(0.05)
        assert "Paris" in text(await brain.ask(FRANCE))
        watch.cancel()


@pytest.mark.models
async def test_a_model_at_rest_says_nothing_and_is_left_alone(gguf: Path) -> None:
    brain = Brain(gguf)
    brain.chat = LlamaCppChat(LocalSettings(type="local"), ChatSettings(max_tokens=60), silence_seconds=2.0)
    async with brain.loaded():
        watch = asyncio.create_task(brain.chat.watch())
        child = brain.child()
        await asyncio.sleep(4)
        answer = brain.ask(STORY)
        await brain.at_work()
        time.sleep(4)  # noqa: ASYNC251  # the loop stands still
        assert text(await answer)
        assert brain.child() == child
        watch.cancel()


async def test_without_its_package_it_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ModuleNotFoundError(__name__)\n")
    program = Path(satellite.engines.chat.__file__).with_name("llama_server.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    output, _ = await process.communicate(b'{"file": "any.gguf"}\n')
    assert "pip install 'satellite-voice[local-chat]'" in json.loads(output)["failed"]
