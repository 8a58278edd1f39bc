"""The model on this machine: a real GGUF that streams, stops when it is closed, and takes its turn."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

import satellite.engines.chat
from satellite.config.chat import ChatSettings, LocalSettings
from satellite.engines.chat import llama_process
from satellite.engines.chat.llama_cpp import LlamaCppChat
from satellite.engines.protocols import ChatDelta, ChatStats, Message
from satellite.errors import ChatError, ChatRejected, ChatUnavailable
from tests.waiting import PATIENCE_SECONDS, meanwhile, until

pytestmark = pytest.mark.asyncio(loop_scope="module")  # a process belongs to one event loop

SYSTEM_PROMPT = "You are the voice of the house. Answer in one short sentence."
FRANCE, SPAIN = "What is the capital of France?", "What is the capital of Spain?"
STORY = "Tell me a very long story about a dog who travels around the world."
LONG = "The cat sat on the mat and watched the birds outside. " * 25
SILENCE_SECONDS = 5.0


class Brain:
    """A model of few words."""

    def __init__(self, *, parallel: int = 8, silence_seconds: float = SILENCE_SECONDS) -> None:
        settings = LocalSettings(type="local", parallel=parallel)
        self.chat = LlamaCppChat(settings, ChatSettings(max_tokens=60), silence_seconds=silence_seconds, queue_size=2)

    def ask(self, question: str) -> "asyncio.Future[list[ChatDelta]]":
        """Begin to collect a whole answer."""
        return asyncio.ensure_future(self._collect(messages(question)))

    async def stats(self, *conversation: Message) -> ChatStats:
        stats = (await self._collect(list(conversation)))[-1].stats
        assert stats is not None
        return stats

    async def _collect(self, conversation: list[Message]) -> list[ChatDelta]:
        async with aclosing(self.chat.stream(conversation)) as deltas:
            return [delta async for delta in deltas]

    async def knows_france(self) -> bool:
        """Return whether it answers as it should."""
        return "Paris" in text(await self.ask(FRANCE))

    async def at_work(self) -> None:
        """Wait until the model has a request."""
        while self.chat.busy_since is None:
            await asyncio.sleep(0.001)

    def child(self) -> psutil.Process:
        assert self.chat._server is not None
        return psutil.Process(self.chat._server.process.pid)

    async def generating(self) -> int:
        """Return how many answers llama.cpp itself is making."""
        assert self.chat._server is not None
        return sum(slot["is_processing"] for slot in await self.chat._server.slots())


def messages(question: str) -> list[Message]:
    return [Message("system", SYSTEM_PROMPT), Message("user", question)]


def text(deltas: list[ChatDelta]) -> str:
    return "".join(delta.text for delta in deltas)


@asynccontextmanager
async def loaded(file: Path, **settings: Any) -> AsyncIterator[Brain]:
    """Have the model loaded and watched, and leave it at rest."""
    brain = Brain(**settings)
    await brain.chat.load(file)
    try:
        async with meanwhile(brain.chat.watch()):
            yield brain
            await until(lambda: not brain.chat.pending)
    finally:
        await brain.chat.close()


@pytest.fixture(scope="module")
def gguf(models_directory: Path) -> Path:
    """The demo set's chat model."""
    return models_directory / "chat" / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def brain(gguf: Path) -> AsyncIterator[Brain]:
    """The demo set's chat model, for eight rooms."""
    async with loaded(gguf) as one:
        yield one


async def test_it_answers(brain: Brain) -> None:
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
    later = await brain.stats(*messages("Who are you?"))
    assert min(stats.cached_tokens or 0, later.cached_tokens or 0) > 15


async def test_answers_at_once_find_the_system_prompt_read(gguf: Path) -> None:
    async with loaded(gguf, parallel=3, silence_seconds=PATIENCE_SECONDS) as brain:
        system = Message("system", ChatSettings().system_prompt)
        asked = [brain.stats(system, Message("user", question)) for question in (FRANCE, SPAIN, STORY)]
        assert min(stats.cached_tokens or 0 for stats in await asyncio.gather(*asked)) > 25


async def test_closing_stops_the_model_at_its_next_token(brain: Brain) -> None:
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
    assert await brain.knows_france()


async def test_cancelling_stops_the_model_while_it_still_reads(gguf: Path) -> None:
    async with loaded(gguf, parallel=1, silence_seconds=PATIENCE_SECONDS) as brain:
        reading = brain.ask(LONG)
        await brain.at_work()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        stats = await brain.stats(*messages(LONG))
        assert stats.prompt_tokens is not None
        assert stats.cached_tokens is not None
        assert stats.prompt_tokens > 250
        assert stats.cached_tokens < stats.prompt_tokens / 2


async def test_eight_rooms_are_answered_together(brain: Brain) -> None:
    countries = "France", "Spain", "Italy", "Germany", "Sweden", "Norway", "Portugal"
    capitals = "Paris", "Madrid", "Rome", "Berlin", "Stockholm", "Oslo", "Lisbon"
    story = brain.ask(STORY)
    answers = [brain.ask(f"What is the capital of {country}?") for country in countries]
    most = 0
    while not all(answer.done() for answer in answers):
        most = max(most, await brain.generating())
        await asyncio.sleep(0)
    assert most == 8
    said = [text(await answer) for answer in answers]
    assert [[capital in one for capital in capitals].index(True) for one in said] == [*range(7)]
    assert text(await story)


async def test_what_was_read_ahead_is_not_read_again(brain: Brain) -> None:
    history = [*messages(LONG), Message("assistant", "I see.")]
    brain.chat.prepare(history)
    assert ((await brain.stats(*history, Message("user", FRANCE))).cached_tokens or 0) > 250


@pytest.mark.parametrize(("question", "code"), [("word " * 3000, "chat-too-long"), ("\ud800", "chat-failed")])
async def test_a_conversation_that_does_not_fit_or_is_no_text_is_rejected(
    brain: Brain, question: str, code: str
) -> None:
    with pytest.raises(ChatRejected) as caught:
        await brain.ask(question)
    assert caught.value.code == code
    assert await brain.knows_france()


async def test_a_model_that_answers_one_at_a_time_lets_two_wait_and_ends_all_when_it_is_closed(gguf: Path) -> None:
    async with loaded(gguf, parallel=1, silence_seconds=PATIENCE_SECONDS) as brain:
        assert brain.chat._server is not None
        child, socket = brain.child(), brain.chat._server.socket
        assert not [c for c in child.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert (socket.is_socket(), socket.parent.stat().st_mode & 0o077) == (True, 0)  # no other user can connect
        story = brain.ask(STORY)
        await brain.at_work()
        waiting = [brain.ask(FRANCE), brain.ask(SPAIN)]
        await until(lambda: brain.chat.pending == 3)
        with pytest.raises(ChatError, check=lambda error: error.code == "chat-busy"):
            await brain.ask(FRANCE)
        story.cancel()
        france, spain = map(text, await asyncio.gather(*waiting))
        assert ("Paris" in france, "Madrid" in france) == (True, False)
        assert ("Paris" in spain, "Madrid" in spain) == (False, True)
        questions = [brain.ask(STORY), brain.ask(FRANCE)]
        await until(lambda: brain.chat.pending == 2 and brain.chat.busy_since is not None)
        await brain.chat.close()
        for question in (*questions, brain.ask(FRANCE)):
            with pytest.raises(ChatUnavailable, check=lambda error: error.code == "chat-not-ready"):
                await question
        assert (child.is_running(), socket.parent.exists()) == (False, False)


async def test_a_model_that_dies_is_an_error_and_comes_back(brain: Brain, caplog: pytest.LogCaptureFixture) -> None:
    deltas = brain.chat.stream(messages(STORY))
    await anext(deltas)
    brain.child().kill()
    with pytest.raises(ChatUnavailable, match="ended with status", check=lambda error: error.code == "chat-failed"):
        async for _ in deltas:
            pass
    assert await brain.knows_france()
    assert "restarting it" in caplog.text


async def test_a_model_that_hangs_is_killed_and_comes_back(brain: Brain, caplog: pytest.LogCaptureFixture) -> None:
    child = brain.child()
    child.suspend()
    first = brain.ask(FRANCE)
    await brain.at_work()
    since = brain.chat.busy_since
    for _ in range(4):
        impatient = brain.ask("And of Italy?")
        await asyncio.sleep(SILENCE_SECONDS / 6)
        impatient.cancel()
        assert brain.chat.busy_since in (since, None)
    with pytest.raises(
        ChatUnavailable,
        match=f"sent nothing for {SILENCE_SECONDS:g} s",
        check=lambda error: error.code == "chat-failed",
    ):
        await first
    assert brain.chat.health.state in ("failing", "loading")
    assert not brain.chat.health.up
    child.wait(60)
    await until(lambda: brain.chat.health.up)
    assert await brain.knows_france()
    assert f"sent nothing for {SILENCE_SECONDS:g} s while it owed an answer" in caplog.text
    assert "ended with status" not in caplog.text


async def test_a_model_that_hangs_is_killed_though_nobody_waits_any_more(brain: Brain) -> None:
    child = brain.child()
    child.suspend()
    asked = brain.ask(FRANCE)
    await brain.at_work()
    asked.cancel()
    await until(lambda: not child.is_running())
    assert await brain.knows_france()


async def test_a_model_at_rest_says_nothing_and_is_left_alone(brain: Brain) -> None:
    child = brain.child()
    await asyncio.sleep(SILENCE_SECONDS + 1)
    async with aclosing(brain.chat.stream(messages(STORY))) as deltas:
        await anext(deltas)  # llama.cpp waits five seconds for a request
        time.sleep(SILENCE_SECONDS + 1)  # noqa: ASYNC251  # the loop stands still
        assert text([delta async for delta in deltas])
    assert brain.child() == child


async def test_the_model_ends_with_the_daemon(gguf: Path) -> None:
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
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, str(gguf)), stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    )
    assert daemon.stdout is not None
    pid, socket = (await daemon.stdout.readline()).decode().split()
    child = psutil.Process(int(pid))
    daemon.kill()
    await daemon.wait()
    child.wait(30)
    assert not child.is_running()
    assert not Path(socket).parent.exists()


# Without a model.


@asynccontextmanager
async def unloaded(parallel: int = 6, load_seconds: float = PATIENCE_SECONDS) -> AsyncIterator[LlamaCppChat]:
    """A model that is to be loaded; it leaves no process behind."""
    before = psutil.Process().children()
    settings = LocalSettings(type="local", parallel=parallel)
    chat = LlamaCppChat(settings, ChatSettings(), load_seconds=load_seconds, silence_seconds=SILENCE_SECONDS)
    yield chat
    await chat.close()
    assert psutil.Process().children() == before


async def test_a_model_that_is_not_loaded_says_so() -> None:
    async with unloaded() as chat:
        with pytest.raises(ChatUnavailable, check=lambda error: error.code == "chat-not-ready"):
            await anext(chat.stream(messages(FRANCE)))


@pytest.mark.parametrize(
    "content", [None, b"<html>", pytest.param(b"GGUF\x03\x00\x00\x00 and then nothing", marks=pytest.mark.slow)]
)
async def test_a_file_that_is_no_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))  # certificates do not matter
    file = tmp_path / "model.gguf"
    if content is not None:
        file.write_bytes(content)
    async with unloaded() as chat:
        with pytest.raises(ChatUnavailable, match=r"model\.gguf cannot be loaded: (?!.*started)") as caught:
            await chat.load(file)
        assert caught.value.code == "chat-not-ready"


LISTENS = """
import json, os, socket, sys, time
listening = socket.socket(socket.AF_UNIX)
listening.bind(json.loads(sys.stdin.readline())["folder"] + "/llama.sock")
listening.listen(0)
print('{"ready": true}', flush=True)
connection, _ = listening.accept()
"""
DIES = LISTENS + "os._exit(9)\n"
ANSWERS_ONCE = f"""{LISTENS}
connection.recv(65536)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\nConnection: close\\r\\n\\r\\n")
connection.close()
time.sleep(600)
"""


async def test_a_model_that_dies_of_its_first_answer_owes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served_by(DIES, tmp_path, monkeypatch) as chat:
        with pytest.raises(ChatUnavailable, match="ended with status 9"):
            await chat.load(tmp_path / "model.gguf")
        assert chat.busy_since is None


@pytest.mark.virtual_clock
@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.parametrize(
    ("takes_seconds", "works", "outcome"),
    [
        (900, True, "loaded"),
        (50, False, "loaded"),
        (70, False, "it did nothing for 60 s"),
        (5000, True, "it took longer than 1200 s"),
    ],
)
async def test_a_load_may_take_long_while_it_works(takes_seconds: int, works: bool, outcome: str) -> None:
    loading = asyncio.create_task(asyncio.sleep(takes_seconds, "loaded"))
    work = itertools.count() if works else itertools.repeat(0)
    assert await llama_process.while_working(loading, lambda: next(work), 60) == outcome
    assert loading.done()


async def test_only_a_process_that_works_makes_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_process, "_PROGRAM", tmp_path / "program.py")
    (tmp_path / "program.py").write_text("while True: pass")
    working = await llama_process.LlamaProcess.begin({})
    for _ in range(2):
        before = working.progress()
        await until(lambda before=before: working.progress() != before)  # type: ignore[misc]
    await working.end("")
    async with served_by("import time; time.sleep(600)", tmp_path, monkeypatch, load_seconds=0.5) as chat:
        with pytest.raises(ChatUnavailable, match=r"it did nothing for 0\.5 s"):
            await chat.load(tmp_path / "model.gguf")


@pytest.mark.slow
async def test_a_model_that_hangs_and_accepts_no_connection_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), served_by(ANSWERS_ONCE, tmp_path, monkeypatch) as chat:
        await chat.load(tmp_path / "model.gguf")
        async with meanwhile(chat.watch()):
            questions = [asyncio.ensure_future(anext(chat.stream(messages(FRANCE)))) for _ in range(4)]
            for question in questions:
                with pytest.raises(ChatUnavailable):
                    await question
    assert f"sent nothing for {SILENCE_SECONDS:g} s while it owed an answer; it is killed" in caplog.text


@asynccontextmanager
async def served_by(
    program: str, folder: Path, monkeypatch: pytest.MonkeyPatch, load_seconds: float = PATIENCE_SECONDS
) -> AsyncIterator[LlamaCppChat]:
    """A model whose process runs `program` in the place of llama.cpp."""
    (folder / "program.py").write_text(program)
    monkeypatch.setattr(llama_process, "_PROGRAM", folder / "program.py")
    async with unloaded(parallel=1, load_seconds=load_seconds) as chat:
        yield chat


@pytest.mark.models
async def test_a_system_without_libgomp_is_given_one(tmp_path: Path) -> None:
    path = llama_process.link_to_bundled(tmp_path)
    assert path is not None
    code = "import ctypes; ctypes.CDLL('libgomp.so.1'); print(open('/proc/self/maps').read())"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), env=os.environ | {"LD_LIBRARY_PATH": path}, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert b"ctranslate2.libs/libgomp-" in output


async def test_without_its_package_it_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ModuleNotFoundError(__name__)\n")
    (tmp_path / "any.gguf").write_text("GGUF")
    program = Path(satellite.engines.chat.__file__).with_name("llama_server.py")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    output, _ = await process.communicate(json.dumps({"file": str(tmp_path / "any.gguf")}).encode() + b"\n")
    assert "pip install 'satellite-voice[local-chat]'" in json.loads(output)["failed"]
