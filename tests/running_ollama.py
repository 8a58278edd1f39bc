"""An Ollama for tests, beside a daemon, in a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.doubles.http import Words, script
from tests.doubles.ollama import Fault, OllamaServer

T = TypeVar("T")

PARIS = script("Paris", " is the capital", " of France.")


class Ollama:
    """A stand-in that can be killed, frozen and started again, and tells what it was asked."""

    def __init__(self) -> None:
        self.server = OllamaServer(PARIS)
        self.server.counts_cached_tokens = True
        self._loop = asyncio.new_event_loop()
        self._stopped = True
        self._thread = threading.Thread(target=self._loop.run_forever, name="ollama")

    def __enter__(self) -> "Ollama":
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self.server.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def start(self) -> None:
        """Start it if it does not run; it is well."""
        self.server.words, self.server.faults, self.server.seconds_per_token = PARIS, [], 0.0
        self._loop.call_soon_threadsafe(self.server.thaw)
        if self._stopped:
            self._stopped = False
            self._call(self.server.start())

    def stop(self) -> None:
        self._stopped = True
        self._call(self.server.stop())

    def freeze(self) -> None:
        self._loop.call_soon_threadsafe(self.server.freeze)

    def say(self, words: Words, *faults: Fault) -> None:
        """Answer with `words` from now on, or go wrong with the next requests."""
        self.server.words, self.server.faults = words, list(faults)

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    @property
    def questions(self) -> list[list[dict[str, str]]]:
        """The conversations that were asked to be continued, whole; what the keep-alive timer sends is none."""
        bodies = [e.body for e in list(self.server.exchanges) if e.path == "/api/chat" and e.body]
        return [body["messages"] for body in bodies if body["stream"]]

    @property
    def primes(self) -> list[list[dict[str, str]]]:
        """The beginnings of conversations that were only to be read."""
        bodies = [e.body for e in list(self.server.exchanges) if e.path == "/api/chat" and e.body]
        return [body["messages"] for body in bodies if body["options"]["num_predict"] == 1]
