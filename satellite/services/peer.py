"""The client of one connection as the handlers of its requests see it, and what a handler of its audio has to do."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from wyoming.error import Error
from wyoming.event import Event, Eventable

from satellite.errors import ProtocolError, SatelliteError, StageError, in_words
from satellite.wire.connection import Connection
from satellite.wire.parsing import Faults

_LOGGER = logging.getLogger(__name__)

_QUEUED_REQUESTS = 8


class Listener(Protocol):
    """Takes the audio of a client's current request."""

    async def start(self) -> None:
        """A new stream of audio begins."""

    async def feed(self, pcm: bytes, timestamp_ms: int | None) -> None:
        """Take canonical audio; `timestamp_ms` is the client's stamp of its first sample."""

    async def stop(self) -> None:
        """The audio is over."""

    async def finish(self) -> None:
        """The client sends no more: complete what needs nothing from it, drop what does, here everything."""
        await self.close()

    async def close(self) -> None:
        """Another request or the end of the connection takes this one's place."""


class Peer:
    """Sends to a client, and answers its requests one after the other, so that two answers never mix."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._faults = Faults()
        self._answering = False
        self._complete = False
        self._requests: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue(_QUEUED_REQUESTS)

    @property
    def name(self) -> str:
        """The client's address, for the log."""
        return self._connection.peer

    @property
    def answering(self) -> bool:
        """Whether an answer is under way or waits."""
        return self._answering or not self._requests.empty()

    async def send(self, *events: Event | Eventable) -> None:
        """Send events; raises `ConnectionError` when the client has gone, `ProtocolError` when it does not read."""
        await self._connection.send(*events)

    def abort(self) -> None:
        """Close the connection without sending what waits."""
        self._connection.abort()

    def request(self, answer: Callable[[], Awaitable[None]]) -> None:
        """Queue an answer; raises `ProtocolError` when the client has too many requests open."""
        try:
            self._requests.put_nowait(answer)
        except asyncio.QueueFull:
            raise ProtocolError(
                f"more than {_QUEUED_REQUESTS} requests wait on this connection", code="protocol-overload"
            ) from None

    def complete(self) -> None:
        """No more requests follow: `answer_requests` returns after the last."""
        self._complete = True

    async def answer_requests(self) -> None:
        """Answer the requests in order, until the client has gone or got all answers."""
        while not (self._complete and self._requests.empty()):
            # Reset here and not after the answer: `answering` must not be False between two queued requests.
            self._answering = False
            answer = await self._requests.get()
            self._answering = True
            try:
                if (error := await self.attempt(answer())) is not None:
                    await self.fail(error)
            except ConnectionError:
                self.abort()  # the task that reads sees the same end
                return
            except ProtocolError:  # it does not read
                self.abort()

    async def attempt(self, work: Awaitable[object]) -> SatelliteError | None:
        """Do `work` for a request, and return why it failed; raises `ConnectionError` when the client has gone."""
        try:
            await work
        except ConnectionError:
            raise
        except SatelliteError as error:
            return error
        except Exception as error:  # the boundary of a request: a client that gets no answer would wait for ever
            _LOGGER.exception("%s: a request failed unexpectedly", self.name)
            return SatelliteError(in_words(error))
        return None

    async def fail(self, error: SatelliteError) -> None:
        """Log `error` and send it to the client."""
        self.log(error)
        await self.send(Error(text=str(error), code=error.code))

    def log(self, error: SatelliteError) -> None:
        """Log `error`; of a client's repeated mistakes, the first few at info level and the rest at debug."""
        level = logging.WARNING
        if not isinstance(error, StageError):
            level = self._faults.level(logging.INFO)
        _LOGGER.log(level, "%s: [%s] %s", self.name, error.code, error, extra={"code": error.code})
