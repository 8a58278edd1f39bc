"""`/ws`: a conversation by text or voice, with the steps as JSON and the sound as PCM as soon as they are made."""

import asyncio
import logging
from contextlib import suppress

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from satellite.http.browser_room import BrowserDevice
from satellite.http.dependencies import ClientAddress, Parts
from satellite.http.error_codes import HttpError
from satellite.tasks import begin_task

_LOGGER = logging.getLogger(__name__)


router = APIRouter()


@router.websocket("/ws")
async def websocket(socket: WebSocket, context: Parts, address: ClientAddress) -> None:
    """Hold a conversation with a browser or another client until either side ends it; docs/http.md has the messages."""
    await socket.accept()
    device = BrowserDevice(context, address)
    tasks = [
        begin_task(_send(socket, device), f"send to {address}"),
        begin_task(_read(socket, device), f"read from {address}"),
        begin_task(device.outbox.overflow(), f"watch {address}"),
        begin_task(device.wait_failed(), f"conversation of {address}"),
    ]
    # The first that ends, ends all: the client has gone or does not read, or its conversation has failed.
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await device.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    if device.outbox.overflowed:
        # Closing would wait for the frames that the client does not read.
        _LOGGER.info("%s does not read, and is cut off", address)
        socket.scope.get("state", {}).get("abort", lambda: None)()
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, ConnectionError | WebSocketDisconnect):
            raise result


@router.websocket("/{path:path}")
async def nowhere(socket: WebSocket) -> None:
    """Refuse other paths with a message; uvicorn would answer 403, which looks like a wrong token."""
    raise HttpError(f"there is no WebSocket at {socket.url.path}, only at /ws", code="http-not-found")


async def _send(socket: WebSocket, device: BrowserDevice) -> None:
    async for frame in device.outbox:
        if isinstance(frame, str):
            await socket.send_text(frame)
        else:
            await socket.send_bytes(frame)


async def _read(socket: WebSocket, device: BrowserDevice) -> None:
    with suppress(ConnectionError):
        device.greet()
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if (sound := message.get("bytes")) is not None:
                await device.hear(sound)
            else:
                await device.take(message.get("text") or "")
