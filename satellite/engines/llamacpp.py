"""A chat model in the process: a GGUF in llama.cpp, by xllamacpp.

The library is a whole HTTP server with a side door: `handle_chat_completions` runs a request in the calling thread
and calls back with every chunk. The side door is used, and the front door is closed before anybody can knock: the
server listens at a socket in a private folder that is gone once it is loaded. Besides, only the side door stops at
once: a callback that returns True ends the generation at this token, or while the conversation is still being read
at this batch, whereas the server looks only once a second whether an HTTP client has gone.
"""

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from satellite.config import Chat, Local, cpu_threads
from satellite.engines import ChatDelta, Message, libgomp
from satellite.engines.chat.answer import Answer
from satellite.engines.chat.failures import failure
from satellite.engines.chat.stats import ChatStats
from satellite.engines.worker import Worker
from satellite.errors import ChatError, ChatUnavailable

_LOGGER = logging.getLogger(__name__)

_CPU_BATCH = 32
"""Tokens of a conversation that are read in one go on a CPU: whoever cancels waits for them (0.1 s on two old
cores). 512 read short conversations no faster and took 13 MB more."""

_GPU_BATCH = 512

_SPINS = "2000"
"""How often libgomp looks whether the other threads are done before it sleeps. Its default, milliseconds at each of
hundreds of barriers a token, makes a model 30 times slower as soon as another program wants one of its cores."""

_READ_BYTES = 1 << 20


class LlamaCppChat:
    """A `ChatModel` with one answer at a time; others wait in the worker's queue. `load` must have run."""

    provider = "local"

    def __init__(self, settings: Local, chat: Chat, worker: Worker) -> None:
        self._settings = settings
        self._chat = chat
        self._worker = worker
        self._server: Any = None
        self._in_use = threading.Lock()
        self._closed = threading.Event()
        if "OMP_WAIT_POLICY" not in os.environ:
            # Here, not in `load`: the environment must not change while several threads load engines.
            os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)

    def load(self, file: Path) -> None:
        """Load `file`, a GGUF, and warm it up; blocking. Raises `ChatUnavailable`(not-ready)."""
        try:
            _read_ahead(file)
            libgomp.provide()
            import xllamacpp

            with tempfile.TemporaryDirectory(prefix="satellite-") as folder:
                server = xllamacpp.Server(self._parameters(xllamacpp, file, Path(folder, "llama.sock")))
            # Also what makes the server safe to destroy: it deadlocks when its loop has not begun by then.
            server.handle_chat_completions(self._warm_up(), lambda _: False)
        except (OSError, ImportError, RuntimeError, ValueError) as error:
            raise ChatUnavailable(f"chat model {file} cannot be loaded: {error}", kind="not-ready") from error
        with self._in_use:
            if not self._closed.is_set():
                self._server = server

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer; see `ChatModel`. Raises `ChatError`."""
        answer = Answer(self.provider)
        generation = _Generation(self._chat.max_tokens, self._closed)
        call = asyncio.create_task(self._worker.run(self._generate, self._request(messages), generation), name="chat")
        call.add_done_callback(generation.finish)
        try:
            while (text := await generation.pieces.get()) is not None:
                if delta := answer.delta(text):
                    yield delta
            await call
        finally:
            generation.stop.set()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)  # the task: the thread goes on to its next token
        yield answer.end(generation.stats)

    async def close(self) -> None:
        """Stop every answer and release the memory; may be called twice."""
        self._closed.set()
        await asyncio.to_thread(self._unload)

    def _unload(self) -> None:
        with self._in_use:
            self._server = None

    def _generate(self, request: dict[str, Any], generation: "_Generation") -> None:
        """Run `request` in the engine's thread."""
        with self._in_use:
            if self._server is None:
                raise ChatUnavailable("the chat model is not loaded", kind="not-ready")
            if not generation.stopped:
                self._server.handle_chat_completions(request, generation)
        generation.check()

    def _request(self, messages: Sequence[Message]) -> dict[str, Any]:
        return {
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": self._chat.max_tokens,
            "temperature": self._chat.temperature,
            "stream": True,
            "cache_prompt": True,
            "return_progress": True,  # calls back while the conversation is read, so that it can be stopped there
            "chat_template_kwargs": {"enable_thinking": False},
        }

    def _warm_up(self) -> dict[str, Any]:
        """Return a request that leaves what every conversation begins with in the context."""
        return {**self._request([Message("system", self._chat.system_prompt), Message("user", "Hi")]), "max_tokens": 1}

    def _parameters(self, xllamacpp: Any, file: Path, socket: Path) -> Any:
        threads = cpu_threads(self._settings.threads)
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(file)
        parameters.hostnames = [str(socket)]
        parameters.ui = False
        parameters.verbosity = -1
        parameters.n_threads_http = 1
        parameters.n_parallel = 1
        parameters.n_ctx = self._settings.context_tokens
        parameters.n_batch = parameters.n_ubatch = _GPU_BATCH if self._settings.gpu_layers else _CPU_BATCH
        parameters.n_gpu_layers = self._settings.gpu_layers
        parameters.cpuparams.n_threads = threads
        parameters.cpuparams_batch.n_threads = threads
        parameters.cache_ram_mib = 0  # one conversation's prefix stays in the context; others are not worth gigabytes
        # The constructor holds Python's lock: nothing is done in it that can be left out or done by `load`.
        parameters.fit_params = False
        parameters.warmup = False
        return parameters


class _Generation:
    """One answer on its way from the engine's thread to the event loop; called with every chunk, in the thread."""

    def __init__(self, max_tokens: int, closed: threading.Event) -> None:
        self.pieces: asyncio.Queue[str | None] = asyncio.Queue(max_tokens + 8)
        """Text, then None. It cannot overflow: a token makes at most one piece, and the rest is for the ends."""

        self.stop = threading.Event()
        """Set when nobody wants the answer any more."""

        self.stats: ChatStats | None = None
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._error: dict[str, Any] | None = None
        self._finished = False

    @property
    def stopped(self) -> bool:
        """True when the model shall say no more."""
        return self.stop.is_set() or self._closed.is_set()

    def __call__(self, chunk: dict[str, Any]) -> bool:
        """Pass a chunk on; True stops the model."""
        if "error" in chunk:
            self._error = chunk["error"]
            return True
        for choice in chunk.get("choices", ()):
            self._finished = self._finished or choice.get("finish_reason") is not None
            if text := choice["delta"].get("content"):
                self._loop.call_soon_threadsafe(self.pieces.put_nowait, text)
        if timings := chunk.get("timings"):
            self.stats = _stats(timings)
        return self.stopped

    def finish(self, _: object) -> None:
        """End the pieces; called on the loop once the thread has passed the last one on."""
        self.pieces.put_nowait(None)

    def check(self) -> None:
        """Raise what kept the model from finishing; called in the thread, after the last chunk."""
        if self._error is not None:
            raise _failure(self._error)
        if self._closed.is_set():
            raise ChatUnavailable("the chat model is shutting down", kind="not-ready")
        if not self._finished and not self.stopped:
            raise ChatError("the chat model broke off")


def _failure(error: dict[str, Any]) -> ChatError:
    return failure("the chat model", int(error.get("code", 500)), str(error.get("message", error)))


def _stats(timings: dict[str, Any]) -> ChatStats:
    return ChatStats(
        prompt_tokens=timings["cache_n"] + timings["prompt_n"],
        cached_tokens=timings["cache_n"],
        answer_tokens=timings["predicted_n"],
        prompt_seconds=timings["prompt_ms"] / 1000,
        answer_seconds=timings["predicted_ms"] / 1000,
    )


def _read_ahead(file: Path) -> None:
    """Bring `file` into the page cache: the library reads it while it holds Python's lock, this does not."""
    buffer = bytearray(_READ_BYTES)
    with file.open("rb", buffering=0) as data:
        if data.read(4) != b"GGUF":
            raise ValueError("it is no GGUF file")
        while data.readinto(buffer):
            pass
