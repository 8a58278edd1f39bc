"""A small GGUF chat model in the process, by llama.cpp (xllamacpp)."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from satellite.config import Chat, Local, cpu_threads
from satellite.engines import ChatDelta, Message
from satellite.engines.worker import Worker
from satellite.errors import ChatError, ChatRejected


class LlamaCppChat:
    """A `ChatModel`."""

    provider = "local"

    def __init__(self, settings: Local, chat: Chat, worker: Worker) -> None:
        self._settings = settings
        self._chat = chat
        self._worker = worker
        self._server: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def load(self, file: Path) -> None:
        """Load the model; blocking."""
        import xllamacpp

        self._folder = tempfile.TemporaryDirectory(prefix="satellite-")
        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx = self._settings.context_tokens
        params.n_batch = params.n_ubatch = 256
        params.verbosity = -1
        params.hostnames = [f"{self._folder.name}/llama.sock"]
        params.cache_ram_mib = 0
        params.n_parallel = 1
        params.n_threads_http = 1
        params.ui = False
        params.n_gpu_layers = self._settings.gpu_layers
        params.cpuparams.n_threads = cpu_threads(self._settings.threads)
        params.cpuparams_batch.n_threads = cpu_threads(self._settings.threads)
        self._server = xllamacpp.Server(params)

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | BaseException | None] = asyncio.Queue()
        stopped = False

        def take(chunk: dict[str, Any]) -> bool:
            if "error" in chunk:
                loop.call_soon_threadsafe(pieces.put_nowait, ChatRejected(chunk["error"]["message"], kind="too-long"))
            elif text := chunk["choices"][0]["delta"].get("content"):
                loop.call_soon_threadsafe(pieces.put_nowait, text)
            return stopped

        def generate() -> None:
            if stopped:
                return
            request = {
                "messages": [{"role": m.role, "content": m.content} for m in messages],
                "stream": True,
                "max_tokens": self._chat.max_tokens,
                "temperature": self._chat.temperature,
            }
            self._server.handle_chat_completions(request, take)

        async def run() -> None:
            try:
                await self._worker.run(generate)
            except ChatError as error:
                pieces.put_nowait(error)
            else:
                pieces.put_nowait(None)

        task = asyncio.create_task(run(), name="llama")
        try:
            while (piece := await pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield ChatDelta(piece, self.provider)
        finally:
            stopped = True
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Release the model."""
        self._server = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
