"""WebSockets: `/ws`, a conversation by text or voice, and `/room/ws`, by which a browser is a room."""

import asyncio
import logging
from contextlib import suppress
from typing import Protocol

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from satellite.http.browser_rooms import PageSession
from satellite.http.dependencies import ClientAddress, Parts
from satellite.http.error_codes import HttpError
from satellite.http.outbox import Outbox
from satellite.http.socket_device import SocketDevice
from satellite.tasks import begin_task

_LOGGER = logging.getLogger(__name__)

_YIELD_FRAMES = 4
"""Frames that are handled in a row before the event loop gets to others: one read may hold thousands of tiny ones."""

router = APIRouter()


class SocketPeer(Protocol):
    """What talks to a client over a WebSocket."""

    @property
    def outbox(self) -> Outbox:
        """Return the frames that wait to be sent."""

    @property
    def close_code(self) -> int | None:
        """Return why the connection is closed, once it is closed from here."""

    def greet(self) -> None:
        """Send what comes first."""

    async def take(self, text: str) -> None:
        """Do what a text frame asks for."""

    async def hear(self, sound: bytes) -> None:
        """Take a binary frame."""

    async def wait_failed(self) -> None:
        """Wait until the connection is to be closed."""

    async def close(self) -> None:
        """End what is under way; may be called twice."""


@router.websocket("/ws")
async def conversation(socket: WebSocket, context: Parts, address: ClientAddress) -> None:
    """Hold a conversation with a browser or another client until either side ends it; docs/http.md has the messages."""
    await _serve(socket, SocketDevice(context, address), address)


@router.websocket("/room/ws")
async def room(socket: WebSocket, context: Parts, address: ClientAddress) -> None:
    """Let a browser be a room for as long as it is connected."""
    await _serve(socket, PageSession(context.browsers, context.rate, address), address)


@router.websocket("/{path:path}")
async def nowhere(socket: WebSocket) -> None:
    """Refuse other paths with a message; uvicorn would answer 403, which looks like a wrong token."""
    raise HttpError(f"there is no WebSocket at {socket.url.path}, only at /ws and /room/ws", code="http-not-found")


async def _serve(socket: WebSocket, peer: SocketPeer, address: str) -> None:
    await socket.accept()
    tasks = [
        begin_task(_send(socket, peer), f"send to {address}"),
        begin_task(_read(socket, peer), f"read from {address}"),
        begin_task(peer.outbox.overflow(), f"watch {address}"),
        begin_task(peer.wait_failed(), f"conversation of {address}"),
    ]
    # The first that ends, ends all: the client has gone or does not read, or its conversation has failed.
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await peer.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    if peer.outbox.overflowed:
        # Closing would wait for the frames that the client does not read.
        _LOGGER.info("%s does not read, and is cut off", address)
        socket.scope.get("state", {}).get("abort", lambda: None)()
    elif peer.close_code is not None:
        with suppress(ConnectionError):
            await socket.close(peer.close_code)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, ConnectionError | WebSocketDisconnect):
            raise result


async def _send(socket: WebSocket, peer: SocketPeer) -> None:
    async for frame in peer.outbox:
        if isinstance(frame, str):
            await socket.send_text(frame)
        else:
            await socket.send_bytes(frame)


async def _read(socket: WebSocket, peer: SocketPeer) -> None:
    with suppress(ConnectionError):
        peer.greet()
        frames = 0
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if (sound := message.get("bytes")) is not None:
                await peer.hear(sound)
            else:
                await peer.take(message.get("text") or "")
            frames += 1
            if frames % _YIELD_FRAMES == 0:
                await asyncio.sleep(0)
