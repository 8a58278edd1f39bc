"""A chat model on this machine: a GGUF in llama.cpp, in a process of its own (`llama_child.py` says why)."""

import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from satellite.backoff import Backoff
from satellite.config.settings import Chat, Local, cpu_threads
from satellite.engines.chat.http_failures import failure
from satellite.engines.chat.libgomp import library_path
from satellite.engines.chat.provider_health import Health
from satellite.engines.chat.reply import Answers
from satellite.engines.chat.tokens import fitting
from satellite.engines.chat.usage import ChatStats
from satellite.engines.protocols import AS_CONFIGURED, ChatDelta, Message, Sampling
from satellite.errors import ChatError, ChatUnavailable, in_words
from satellite.system.child_process import Child, start
from satellite.tasks import begin_task, end_tasks

_LOGGER = logging.getLogger(__name__)

_CPU_BATCH = 32
"""Tokens of a conversation that are read in one go on a CPU: whoever cancels waits for them (0.1 s on two old
cores). 512 read short conversations no faster and took 13 MB more."""

_GPU_BATCH = 512

_SPINS = "2000"
"""How often libgomp looks whether the other threads are done before it sleeps. Its default, milliseconds at each of
hundreds of barriers a token, makes a model 30 times slower as soon as another program wants one of its cores."""

_LONGEST_LINE = 1 << 20
_LOOK_SECONDS = 1.0
"""How often it is looked whether the child lives, and says something."""

_FIRST_BACKOFF_SECONDS = 1.0
_LONGEST_BACKOFF_SECONDS = 60.0
"""A child that dies at once, as for want of memory, is not loaded over and over."""

_CHILD = Path(__file__).with_name("llama_child.py")


class LlamaCppChat:
    """A `ChatModel` with one answer at a time; `queue_size` others may wait.

    A child that dies is started again; one that owes an answer and says nothing for `silence_seconds` is killed before.
    """

    provider: str = "local"
    leaves_house = False

    def __init__(
        self,
        settings: Local,
        chat: Chat,
        *,
        load_seconds: float = 60.0,
        silence_seconds: float = 10.0,
        queue_size: int = 16,
    ) -> None:
        self.busy_since: float | None = None
        """Since when it owes an answer without a sign of life (`time.monotonic()`), for whoever watches for a hang.

        Further questions change nothing about that.
        """

        self.model = settings.model
        self.context_tokens: int | None = settings.context_tokens
        self._answers = Answers(self.provider)
        self._state = "loading"
        self._words = f"{settings.model} is being loaded"
        self._since = time.monotonic()
        self._settings = settings
        self._chat = chat
        self._load_seconds = load_seconds
        self._silence_seconds = silence_seconds
        self._queue_size = queue_size
        self._file: Path | None = None
        self._process: Child | None = None
        self._ended: Child | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._generations: dict[int, _Generation] = {}
        self._number = 0
        self._closed = False

    @property
    def pending(self) -> int:
        """Answers that are being made or wait for their turn."""
        return len(self._generations)

    async def load(self, file: Path) -> None:
        """Load `file`, a GGUF, and warm it up. Raises `ChatUnavailable`(not-ready)."""
        self._file = file
        await self._start()

    def lacks(self, words: str) -> None:
        """Tell, from now on, why there is nothing to load."""
        self._become("failed", words)

    @property
    def health(self) -> Health:
        """Return whether it is loaded; one that died is being started again."""
        return Health(self._state, self._state == "ready", self._words, since=self._since)

    @property
    def details(self) -> dict[str, Any]:
        """Return how many answers it has to give."""
        return {"pending": self.pending}

    def _become(self, state: str, words: str) -> None:
        self._state, self._words, self._since = state, words, time.monotonic()

    def prepare(self, messages: Sequence[Message]) -> None:
        """Read `messages` now, unless there is something to answer; its token is for nobody."""
        alive = self._process is not None and self._process.returncode is None
        if messages and alive and not self._generations:
            self._begin(self._request(messages, Sampling(max_tokens=1)))

    async def warm_up(self) -> None:
        """Loading has answered already."""
        if self._state == "failed":
            raise ChatUnavailable(self._words, kind="not-ready")

    async def watch(self) -> None:
        """Kill a child that hangs, and start the next one, until cancelled."""
        backoff = Backoff(_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)
        silent_since, looks = self.busy_since, 0  # looks, and not the clock: the event loop may have stood still
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            looks = looks + 1 if self.busy_since is not None and self.busy_since == silent_since else 0
            silent_since = self.busy_since
            if looks * _LOOK_SECONDS >= self._silence_seconds:
                _LOGGER.error("llama.cpp owes an answer and has said nothing for %.0f s: it is killed", looks)
                await self._end(f"llama.cpp said nothing for {looks * _LOOK_SECONDS:.0f} s")
            if self._process is None or self._process.returncode is None:
                continue
            try:
                await self._start()
            except ChatUnavailable as error:
                _LOGGER.warning("llama.cpp does not start: %s", error)
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer; see `ChatModel`. Raises `ChatError`."""
        if self._closed or self._file is None:
            raise ChatUnavailable("the chat model is not loaded", kind="not-ready")
        if self.pending > self._queue_size:
            raise ChatError(f"chat has {self._queue_size} requests waiting; try again later", kind="busy")
        await self._start()
        answer = self._answers.begin(may_be_empty=sampling.may_be_empty)
        number = self._begin(self._request(messages, sampling))
        generation = self._generations[number]
        try:
            while (text := await generation.next()) is not None:
                if delta := answer.delta(text):
                    yield delta
        finally:
            if number in self._generations:
                self._write({"cancel": number})  # it goes on to its next token, or to the end of the batch it reads
        yield answer.end(generation.stats)

    def _begin(self, request: dict[str, Any]) -> int:
        """Have the child answer `request`; return the number of the generation."""
        self._number += 1
        self._generations[self._number] = _Generation()
        if self.busy_since is None:
            self._mark_busy()
        self._write({"id": self._number, "request": request})
        return self._number

    async def close(self) -> None:
        """Stop every answer and end the child; may be called twice."""
        self._closed = True
        self._fail_all("the chat model is shutting down")
        process, self._process = self._process, None
        if process is not None:
            await process.end()
        if self._reader is not None:
            await end_tasks(self._reader)

    async def _end(self, reason: str) -> None:
        """Kill the child, and fail whoever waits for it."""
        self._ended = self._process
        self._become("failing", reason)
        self._fail_all(reason)
        if self._process is not None:
            await self._process.end()

    async def _start(self) -> None:
        """Start the child unless it lives."""
        async with self._starting:
            if self._closed or (self._process is not None and self._process.returncode is None):
                return
            file = self._file
            if file is None:
                raise ChatUnavailable("the chat model is not loaded", kind="not-ready")
            if self._state == "failing":
                self._become("loading", f"{self.model} is being loaded again: {self._words}")
            try:
                with tempfile.TemporaryDirectory(prefix="satellite-") as folder:
                    process = await self._spawn(file, Path(folder))
                    await self._until_ready(process, file)
            except ChatUnavailable as error:
                self._become("failed", str(error))
                raise
            self._process = process
            self._reader = begin_task(self._read(process), "llama.cpp")
            self._become("ready", f"{self.model} runs on this machine")

    async def _spawn(self, file: Path, folder: Path) -> Child:
        greeting = [Message("system", self._chat.system_prompt), Message("user", "Hi")]
        settings = {
            "file": str(file),
            "context_tokens": self._settings.context_tokens,
            "batch_tokens": _GPU_BATCH if self._settings.gpu_layers else _CPU_BATCH,
            "gpu_layers": self._settings.gpu_layers,
            "threads": cpu_threads(self._settings.threads),
            "warm_up": self._request(greeting, Sampling(max_tokens=1)),
        }
        environment = {"GOMP_SPINCOUNT": _SPINS, **os.environ}
        try:
            if path := library_path(folder):
                environment["LD_LIBRARY_PATH"] = path
            process = await start(
                *(sys.executable, str(_CHILD)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stream_bytes=_LONGEST_LINE,
                environment=environment,
            )
            assert process.stdin is not None
            process.stdin.write(json.dumps(settings).encode() + b"\n")  # no argument: everybody could read the prompt
        except OSError as error:
            raise ChatUnavailable(f"llama.cpp cannot be started: {error}", kind="not-ready") from error
        return process

    async def _until_ready(self, process: Child, file: Path) -> None:
        """Wait for the child's first line; a child that has none, or not in time, is ended."""
        reason = ""
        try:
            async with asyncio.timeout(self._load_seconds):
                assert process.stdout is not None
                line = await process.stdout.readline()
                message = (
                    json.loads(line) if line else {"failed": f"llama.cpp ended with status {await process.wait()}"}
                )
                reason = message.get("failed", "")
        except TimeoutError:
            reason = f"it took longer than {self._load_seconds:g} s"
        finally:
            if reason or sys.exc_info()[0]:
                await process.end()
        if reason:
            raise ChatUnavailable(f"chat model {file} cannot be loaded: {reason}", kind="not-ready")

    async def _read(self, process: Child) -> None:
        """Hand the child's lines to those who wait for them, until it ends."""
        try:
            await self._pass_on(process)
            reason = f"llama.cpp ended with status {await process.wait()}"
        except (ValueError, KeyError) as error:
            reason = f"llama.cpp has sent nonsense: {in_words(error)}"
        if process is self._process and process is not self._ended:
            _LOGGER.error("%s; it is started again", reason)
            await self._end(reason)

    async def _pass_on(self, process: Child) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            message = json.loads(line)
            self._mark_busy()
            generation = self._generations.get(message["id"])
            if generation is None:
                continue
            if "done" in message:
                del self._generations[message["id"]]
                self._mark_busy()
            generation.take(message)

    def _mark_busy(self) -> None:
        """A sign of life has come, or it owes an answer from now on, or none any more."""
        self.busy_since = time.monotonic() if self._generations else None

    def _fail_all(self, reason: str) -> None:
        kind = "not-ready" if self._closed else "failed"
        for generation in self._generations.values():
            generation.fail(ChatUnavailable(reason, kind=kind))
        self._generations.clear()
        self._mark_busy()

    def _write(self, message: dict[str, Any]) -> None:
        """Send a line to the child; what it does not get any more, `_read` reports."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def _request(self, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        fitted = fitting(messages, self._settings.context_tokens - self._chat.max_tokens)
        return {
            "messages": [
                {"role": message.role, "content": message.whole if self._settings.tell else message.content}
                for message in fitted
            ],
            **sampling.options(self._chat.max_tokens, self._chat.temperature),
            "stream": True,
            "cache_prompt": True,
            "return_progress": True,  # calls back while the conversation is read, so that it can be stopped there
            "chat_template_kwargs": {"enable_thinking": False},
        }


class _Generation:
    """One answer on its way from the child; it holds no more than the model's longest answer."""

    def __init__(self) -> None:
        self.stats: ChatStats | None = None
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._error: ChatError | None = None
        self._finished = self._truncated = False

    def take(self, message: dict[str, Any]) -> None:
        """Note one of the child's lines."""
        if "done" in message:
            self._pieces.put_nowait(None)
            return
        chunk = message["chunk"]
        if "error" in chunk:
            error = chunk["error"]
            self._error = failure("the chat model", int(error.get("code", 500)), str(error.get("message", error)))
        for choice in chunk.get("choices", ()):
            self._finished = self._finished or choice.get("finish_reason") is not None
            self._truncated = self._truncated or choice.get("finish_reason") == "length"
            if text := choice["delta"].get("content"):
                self._pieces.put_nowait(text)
        if timings := chunk.get("timings"):
            self.stats = _stats(timings, truncated=self._truncated)

    def fail(self, error: ChatError) -> None:
        """End the answer with `error`."""
        self._error = error
        self._pieces.put_nowait(None)

    async def next(self) -> str | None:
        """Return the next piece of text, None at the end; raises what kept the model from finishing."""
        text = await self._pieces.get()
        if text is None and self._error is not None:
            raise self._error
        if text is None and not self._finished:
            raise ChatError("the chat model broke off")
        return text


def _stats(timings: dict[str, Any], *, truncated: bool) -> ChatStats:
    return ChatStats(
        truncated=truncated,
        prompt_tokens=timings["cache_n"] + timings["prompt_n"],
        cached_tokens=timings["cache_n"],
        answer_tokens=timings["predicted_n"],
        prompt_seconds=timings["prompt_ms"] / 1000,
        answer_seconds=timings["predicted_ms"] / 1000,
    )
