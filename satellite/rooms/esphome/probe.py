"""Tells whether an ESPHome device encrypts, before a connection that would wait a minute for an answer in vain."""

import asyncio
import os

from satellite.errors import DaemonUnreachable, ProtocolError
from satellite.net.binding import host_and_port
from satellite.tasks import begin_task, end_tasks

LINUX_VOICE_ASSISTANT = "Open Home Foundation.Linux Voice Assistant"
"""The project that it names: some of what firmware does, it does in another way."""

_NOISE_HELLO = b"\x01\x00\x00"
"""An empty frame of the encrypted form, to which a device that encrypts answers with its name."""

_PLAIN_HELLO = b"\x00\x0b\x01\x0a\x09satellite"
"""`HelloRequest(client_info="satellite")` of the plain form."""

_MARKERS = {b"\x00": False, b"\x01": True}
"""Whether a device encrypts, by the first byte that it sends."""

_HEAD_START_SECONDS = 0.25
"""A device that encrypts answers sooner, so that most see no plain greeting, which they would log as an error."""

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 3.0


async def encrypts(host: str, port: int) -> bool:
    """Return whether the ESPHome device there encrypts.

    Firmware answers either greeting in its own form; linux-voice-assistant is silent to the encrypted one. Raises
    `DaemonUnreachable` where nothing can be reached or it hangs up at once, as one does that has no room for another
    connection; `ProtocolError` where it is no ESPHome device.
    """
    tasks = [begin_task(_answer(host, port, _NOISE_HELLO), "probe")]
    try:
        await asyncio.wait(tasks, timeout=_HEAD_START_SECONDS)
        if not tasks[0].done() or tasks[0].result() not in _MARKERS:
            tasks.append(begin_task(_answer(host, port, _PLAIN_HELLO), "probe"))
        answers = []
        for answer in asyncio.as_completed(tasks):
            if (first := await answer) in _MARKERS:
                return _MARKERS[first]
            answers.append(first)
    finally:
        await end_tasks(*tasks)
    if None in answers:
        raise DaemonUnreachable(
            f"{host_and_port(host, port)} has hung up without an answer: has it too many connections?"
        )
    raise ProtocolError(f"{host_and_port(host, port)} is no ESPHome device")


async def _answer(host: str, port: int, greeting: bytes) -> bytes | None:
    """Return the first byte of the answer; empty where none comes, None where the connection is closed instead."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "no answer"
        raise DaemonUnreachable(f"{host_and_port(host, port)} cannot be reached: {reason}") from error
    try:
        writer.write(greeting)
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await reader.read(1) or None
    except TimeoutError:
        return b""
    except OSError:
        return None
    finally:
        writer.transport.abort()
