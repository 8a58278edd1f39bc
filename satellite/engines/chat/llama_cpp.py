"""A chat model on this machine: a GGUF served by llama.cpp, in a process of its own (`llama_server.py` says why)."""

import asyncio
import logging
import math
import os
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from satellite.backoff import Backoff
from satellite.config.chat import ChatSettings, LocalSettings
from satellite.config.settings import cpu_threads
from satellite.engines.chat.completions import Completion, ServerError, failures
from satellite.engines.chat.http_errors import failure
from satellite.engines.chat.llama_process import LlamaProcess, while_working
from satellite.engines.chat.provider_status import ProviderStatus, provider_status
from satellite.engines.chat.reply import ChatReplies
from satellite.engines.chat.tokens import fitting
from satellite.engines.protocols import AS_CONFIGURED, ChatDelta, Message, Sampling, starts_with
from satellite.errors import ChatError, ChatUnavailable
from satellite.net.provider_states import ProviderHealth
from satellite.tasks import begin_task, end_tasks, failure_of

_LOGGER = logging.getLogger(__name__)

_CPU_BATCH = 32
"""Prompt tokens per batch on a CPU. A cancelled request runs to the end of its batch (0.1 s on two old cores); 512
tokens read short conversations no faster and took 13 MB more."""

_GPU_BATCH = 512

_CHECK_SECONDS = 1.0
_FIRST_BACKOFF_SECONDS = 1.0
_LONGEST_BACKOFF_SECONDS = 60.0
"""Keeps a server that exits at once, for example for lack of memory, from being restarted over and over."""

_NOT_LOADED = "the chat model is not loaded"


class LlamaCppChat:
    """A `ChatModel` that gives `parallel` answers at a time; `queue_size` more may wait.

    Closing a stream closes its connection, at which llama.cpp stops generating. A server that exits is restarted; one
    that does not react for `silence_seconds` while it owes an answer is killed first.
    """

    leaves_house = False

    def __init__(
        self,
        settings: LocalSettings,
        chat: ChatSettings,
        *,
        load_seconds: float = 60.0,
        silence_seconds: float = 10.0,
        queue_size: int = 16,
        name: str = "local",
    ) -> None:
        """Serve the model that `load` is given, as configured, under the provider's `name`.

        A load whose process neither computes nor reads for `load_seconds` is given up.
        """
        self.provider = name
        self.is_loading = False
        """Never what it is busy with: it owes no answer while its model is loaded."""

        self.busy_since: float | None = None
        """Since when the server owes an answer and has sent nothing (`time.monotonic()`), for the watchdog.

        Only the server resets it. Further questions do not, nor does cancelling one: a hung server would go unnoticed.
        """

        self.pending = 0
        """Answers in progress or queued."""

        self.model = settings.model
        self.context_tokens: int | None = settings.context_tokens
        self._replies = ChatReplies(self.provider)
        self._state = "loading"
        self._reason = f"{settings.model} is being loaded"
        self._since = time.monotonic()
        self._settings = settings
        self._chat = chat
        self._load_seconds = load_seconds
        self._silence_seconds = silence_seconds
        self._queue_size = queue_size
        self._slots = asyncio.Semaphore(settings.parallel)
        self._requests = 0
        self._file: Path | None = None
        self._server: LlamaProcess | None = None
        self._starting = asyncio.Lock()
        self._prefix: list[Message] = []
        self._reading: asyncio.Task[None] | None = None
        self._closed = False

    async def load(self, file: Path) -> None:
        """Load `file`, a GGUF, and warm it up. Raises `ChatUnavailable`(not-ready)."""
        self._file = file
        await self._running()

    def report_missing(self, reason: str) -> None:
        """Show why there is no model to load."""
        self._enter("failed", reason)

    @property
    def health(self) -> ProviderHealth:
        """Return whether it is loaded; a server that exited is being restarted."""
        if self._state == "ready" and self._server is not None and not self._server.is_running:
            return ProviderHealth("failing", False, self._server.exit_reason)
        return ProviderHealth(self._state, self._state == "ready", self._reason, since=self._since)

    @property
    def status(self) -> ProviderStatus:
        """Return its state, with the number of pending answers."""
        return provider_status(self, pending=self.pending)

    def _enter(self, state: str, reason: str) -> None:
        self._state, self._reason, self._since = state, reason, time.monotonic()

    def prepare(self, messages: Sequence[Message]) -> None:
        """Read `messages` now, unless an answer is in progress."""
        is_idle = self.pending == 0 and (self._reading is None or self._reading.done())
        if messages and is_idle and self._server is not None and self._server.is_running:
            self._prefix = list(messages)
            self._reading = begin_task(self._read(self._server, messages), "read the prompt")

    async def warm_up(self) -> None:
        """Do nothing: loading has read the system prompt. Raises `ChatUnavailable` when there is no model."""
        if self._state == "failed":
            raise ChatUnavailable(self._reason, kind="not-ready")

    async def watch(self) -> None:
        """Kill a server that hangs, and restart one that has exited, until cancelled."""
        backoff = Backoff(_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            if (server := self._server) is None:
                continue
            if server.is_running and self.busy_since is not None and not await self._reacts(server):
                reason = f"llama.cpp sent nothing for {self._silence_seconds:g} s"
                _LOGGER.error("%s while it owed an answer; it is killed", reason)
                await server.end(reason)
            if server.is_running:
                continue
            try:
                await self._running()
            except ChatUnavailable as error:
                _LOGGER.warning("llama.cpp did not start: %s", error)
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()

    async def _reacts(self, server: LlamaProcess) -> bool:
        """Return whether the computing thread reports its state, which it does between two batches."""
        check = begin_task(server.slots(), "check llama.cpp")
        try:
            # Counted in checks, not by the clock: the event loop itself may have been blocked for longer than that.
            for _ in range(math.ceil(self._silence_seconds / _CHECK_SECONDS)):
                await asyncio.wait((check,), timeout=_CHECK_SECONDS)
                if not check.done():
                    continue
                if failure_of(check) is None or not server.is_running:  # one that has exited is handled elsewhere
                    self._note_life()
                    return True
                # A server that hangs accepts no connection once some others wait for that.
                await asyncio.sleep(_CHECK_SECONDS)
                check = begin_task(server.slots(), "check llama.cpp")
            return False
        finally:
            await end_tasks(check)

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer; see `ChatModel`. Raises `ChatError`."""
        if self._closed or self._file is None:
            raise ChatUnavailable(_NOT_LOADED, kind="not-ready")
        if self.pending >= self._settings.parallel + self._queue_size:
            raise ChatError(f"chat has {self._queue_size} requests waiting; try again later", kind="busy")
        self.pending += 1
        try:
            async with self._slots:
                server = await self._running()
                if self._reading is not None and starts_with(messages, self._prefix):
                    # Only then is the slot free that holds this conversation's beginning in its cache.
                    await asyncio.wait((self._reading,))
                reply = self._replies.begin(may_be_empty=sampling.may_be_empty)
                stats, truncated = None, False
                async with self._completion(server, messages, sampling) as completion:
                    while (chunk := await completion.next()) is not None:
                        self._note_life()
                        stats, truncated = chunk.stats or stats, truncated or chunk.finish_reason == "length"
                        if delta := reply.delta(chunk.text):
                            yield delta
                if stats is None:
                    raise ChatUnavailable("llama.cpp broke off")
                yield reply.end(replace(stats, truncated=truncated))
        finally:
            self.pending -= 1

    @asynccontextmanager
    async def _completion(
        self, server: LlamaProcess, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncIterator[Completion]:
        """Ask `server`. Failures of the request and of the block are raised as a `ChatError`."""
        if not server.is_running:
            raise ChatUnavailable(server.exit_reason)
        self._requests += 1
        if self.busy_since is None:
            self.busy_since = time.monotonic()
        is_over = False
        try:
            async with aclosing(await Completion.begin(server.client, self._request(messages, sampling))) as completion:
                yield completion
            is_over = True
        except ServerError as error:
            is_over = True
            raise failure("the chat model", error.status, error.reason) from error
        except failures() as error:
            if self._closed:
                raise ChatUnavailable("the chat model is shutting down", kind="not-ready") from error
            raise ChatUnavailable(await server.failure_reason(error)) from error
        finally:
            self._requests -= 1
            if is_over:  # else the server may still be computing, and owes the answer until it reacts again
                self._note_life()

    def _note_life(self) -> None:
        """Record that the server has reacted: the time for answers still owed starts over."""
        self.busy_since = time.monotonic() if self._requests else None

    async def _read(self, server: LlamaProcess, messages: Sequence[Message]) -> None:
        """Let llama.cpp read `messages`; the one token of its answer is discarded."""
        with suppress(ChatError):
            async with self._completion(server, messages, Sampling(max_tokens=1)) as completion:
                while await completion.next():
                    self._note_life()

    async def close(self) -> None:
        """Cancel all answers and end the server; may be called twice."""
        self._closed = True
        if self._server is not None:
            await self._server.end("the chat model is shutting down")
        if self._reading is not None:
            await end_tasks(self._reading)
        self.busy_since = None

    async def _running(self) -> LlamaProcess:
        """Return the server, restarted if it has exited. Raises `ChatUnavailable`(not-ready)."""
        async with self._starting:
            if self._closed or self._file is None:
                raise ChatUnavailable(_NOT_LOADED, kind="not-ready")
            if self._server is not None:
                if self._server.is_running:
                    return self._server
                await self._server.end(self._server.exit_reason)
                _LOGGER.error("%s; restarting it", self._server.exit_reason)
                self._enter("loading", f"{self.model} is being loaded again: {self._server.exit_reason}")
            self.busy_since = None  # what the old one owed has failed
            try:
                self._server = await self._start(self._file)
            except ChatUnavailable as error:
                self._enter("failed", str(error))
                raise
            if self._closed:  # while it started
                await self._server.end("the chat model is shutting down")
            self._enter("ready", f"{self.model} runs on this machine")
            return self._server

    async def _start(self, file: Path) -> LlamaProcess:
        settings = {
            "file": str(file),
            "parallel": self._settings.parallel,
            "context_tokens": self._settings.context_tokens,
            "batch_tokens": _GPU_BATCH if self._settings.gpu_layers else _CPU_BATCH,
            "gpu_layers": self._settings.gpu_layers,
            "threads": cpu_threads(self._settings.threads),
            # Of prompts and of several answers at once, while commands are heard and answers spoken: threads that wait
            # for each other on cores that are in use take longer than one fewer.
            "batch_threads": self._settings.threads or max(1, min(cpu_threads(0), len(os.sched_getaffinity(0)) - 1)),
        }
        server: LlamaProcess | None = None
        reason = ""
        try:
            async with asyncio.timeout(self._load_seconds):
                server = await LlamaProcess.begin(settings)
            loading = begin_task(self._warm(server), "load the chat model")
            reason = await while_working(loading, server.progress, self._load_seconds)
        except TimeoutError:
            reason = f"llama.cpp was not started within {self._load_seconds:g} s"
        except OSError as error:
            reason = f"llama.cpp cannot be started: {error}"
        finally:
            if server is not None and (reason or sys.exc_info()[0]):
                self.busy_since = None  # its first answer is no longer owed, or the watchdog would end the daemon
                await server.end(reason)
        if reason or server is None:
            raise ChatUnavailable(f"chat model {file} cannot be loaded: {reason}", kind="not-ready")
        return server

    async def _warm(self, server: LlamaProcess) -> str:
        """Wait until the model is loaded and has read its system prompt; return why it cannot be, or nothing."""
        if reason := await server.ready():
            return reason
        # The first requests are the slowest, and these leave the system prompt in the cache of every slot.
        beginning = [Message("system", self._chat.system_prompt), Message("user", "Hi")]
        await asyncio.gather(*(self._read(server, beginning) for _ in range(self._settings.parallel)))
        return "" if server.is_running else server.exit_reason

    def _request(self, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        fitted = fitting(messages, self._settings.context_tokens - self._chat.max_tokens)
        return {
            "messages": [message.sent(with_aside=self._settings.tell) for message in fitted],
            **sampling.options(self._chat.max_tokens, self._chat.temperature),
            "cache_prompt": True,
            # Makes it write while it reads the prompt: only by writing does it notice that the connection was closed.
            "return_progress": True,
            "chat_template_kwargs": {"enable_thinking": False},
        }
