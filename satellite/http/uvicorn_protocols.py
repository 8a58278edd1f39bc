"""uvicorn's protocols, with limits on what one connection costs: time of the event loop, memory, and a place."""

import asyncio
import logging
from collections.abc import Callable

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_LOGGER = logging.getLogger(__name__)

FIRST_REQUEST_SECONDS = 10.0
"""How long a new connection may take for its TLS handshake, and then to send its first request."""

_READ_BYTES = 4096
"""How much of what has arrived is read in one turn of the event loop. uvicorn parses all of a read at once: the 256 KiB
that asyncio reads otherwise may hold 40,000 frames, headers or chunks, and would take half a second."""


class _SmallReads(asyncio.BufferedProtocol):
    """Hands a protocol little at a time, also of what TLS has decrypted."""

    data_received: Callable[[bytes], None]
    """The protocol's own."""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        self._buffer = memoryview(bytearray(_READ_BYTES))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take them."""
        self.data_received(bytes(self._buffer[:nbytes]))


class WebSocketProtocol(WebSocketsSansIOProtocol, _SmallReads):
    """A WebSocket whose client may flood it, and need not read."""

    def handle_ping(self) -> None:
        """Answer, unless the client does not read answers: uvicorn would keep every one of them."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def keepalive_timeout(self) -> None:
        """End the connection at once: uvicorn would wait for its client to read what was sent."""
        super().keepalive_timeout()
        self.transport.abort()


def http_protocol(max_connections: int) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol with a limit on connections; the application can abort one by `state["abort"]`."""

    class Protocol(H11Protocol, _SmallReads):
        _expected: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
            self.app_state = {**self.app_state, "abort": transport.abort}
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                _LOGGER.debug("more than %d connections: the newest is closed", max_connections)
                transport.abort()
                return
            self._expect_request(FIRST_REQUEST_SECONDS)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._expect_request(self.timeout_keep_alive + FIRST_REQUEST_SECONDS)

        def _expect_request(self, seconds: float) -> None:
            """End the connection unless another request comes by then; uvicorn waits for the rest of one for ever."""
            if self._expected is not None:
                self._expected.cancel()
            self._expected = self.loop.call_later(seconds, self._end_without_request, self.cycle)

        def _end_without_request(self, latest: RequestResponseCycle | None) -> None:
            if self.cycle is latest and self in self.connections:
                self.transport.abort()

    return Protocol
