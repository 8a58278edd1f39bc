"""Programs that the daemon starts: none of them is left, wherever what has started it is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path

import psutil
import pytest

from satellite.cli.doctor.unit import output
from satellite.config.host import SoundDeviceSettings
from satellite.engines.chat.llama_process import LlamaProcess
from satellite.errors import SatelliteError
from satellite.rooms.host.capture import capture
from satellite.rooms.host.speaker import HostSpeaker
from tests.test_rooms_devices import VOICE
from tests.waiting import until

pytestmark = pytest.mark.slow

LONG = "from time import sleep; sleep(1000)"


async def ask_a_program() -> None:
    await output("sleep", "1000")


async def hear(**settings: object) -> None:
    async with aclosing(capture(SoundDeviceSettings.model_validate(settings))) as blocks:
        async for _ in blocks:
            pass


async def hear_a_program() -> None:
    await hear(command=("sleep", "1000"))


async def hear_a_device() -> None:
    await hear(device="microphone")


async def speak(**settings: object) -> None:
    speaker = HostSpeaker(SoundDeviceSettings.model_validate(settings))
    speaking = asyncio.create_task(speaker.play(VOICE, bytes(10 * VOICE.rate)))
    try:
        await speaker.run()
    finally:
        await speaking


async def speak_by_a_program() -> None:
    await speak(command=("sleep", "1000"))


async def speak_by_a_device() -> None:
    await speak(device="speaker")


async def load_a_chat_model() -> None:
    server = await LlamaProcess.begin({})
    try:
        await server.ready()
    finally:
        await server.end("the test is over")


WORKS = [ask_a_program, hear_a_program, hear_a_device, speak_by_a_program, speak_by_a_device, load_a_chat_model]


def left() -> tuple[list[psutil.Process], int]:
    return psutil.Process().children(recursive=True), len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("work", WORKS)
async def test_nothing_is_left_of_a_program_wherever_it_is_cancelled(
    work: Callable[[], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satellite.engines.chat.llama_process._PROGRAM", tmp_path / "program.py")
    (tmp_path / "program.py").write_text(LONG)
    await asyncio.to_thread(bool)  # what the event loop itself keeps is there
    before = left()
    for turns in [*range(12), 100]:
        task = asyncio.ensure_future(work())
        for _ in range(turns):
            await asyncio.sleep(0 if turns < 100 else 0.01)
        task.cancel()
        with suppress(asyncio.CancelledError, SatelliteError):  # there may be no device
            await task
        await until(lambda: left() == before, 20)
