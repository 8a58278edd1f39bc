"""Conversations with the real wyoming-satellite, the newest one on the package index, in its three modes."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from satellite.audio.pcm import AudioFormat
from satellite.config.rooms import WyomingRoomSettings
from satellite.rooms.hub import Hub
from satellite.rooms.room import LinkState
from tests.command_line import free_port
from tests.driven_rooms import NABU, PAUSE, hub_of, spoken, transcribed
from tests.peer import wyoming_satellite
from tests.running_daemon import RunningDaemon
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.models

SPEAKER = AudioFormat(22_050)


@pytest.mark.parametrize("mode", ["always", "wake", "vad"])
def test_a_conversation_with_wyoming_satellite(daemon: RunningDaemon, tmp_path: Path, mode: str) -> None:
    port = free_port()
    options = {
        "always": (),
        "wake": ("--wake-uri", daemon.uri, "--wake-word-name", "okay_nabu"),
        "vad": ("--vad",),
    }[mode]
    question = NABU + PAUSE + asyncio.run(spoken(daemon, "What is the capital of France?"))

    async def scenario() -> None:
        room = WyomingRoomSettings(name=f"peer {mode}", uri=f"tcp://127.0.0.1:{port}")
        hub = hub_of(daemon.daemon, room)
        hub.start()
        try:
            await until(lambda: hub.satellites[0].state is LinkState.CONNECTED)
            for _ in range(2):
                await asyncio.sleep(1)
                assert "Paris" in await answer()
                await until(quiet(hub))
        finally:
            await hub.stop()

    async def answer() -> str:
        """Ask, and return what the speaker plays then."""
        heard = tmp_path / "heard.raw"
        before = heard.stat().st_size if heard.exists() else 0
        (tmp_path / "say.raw").write_bytes(question)
        await until(lambda: heard.exists() and heard.stat().st_size > before)
        size = -1
        while size != heard.stat().st_size:
            size = heard.stat().st_size
            await asyncio.sleep(2)
        return await transcribed(daemon, heard.read_bytes()[before:], SPEAKER)

    def quiet(hub: Hub) -> Callable[[], bool]:
        return lambda: hub.satellites[0].status().doing in ("idle", "waiting for the wake word")

    with wyoming_satellite(tmp_path, port, *options):
        daemon.call(asyncio.wait_for(scenario(), PATIENCE_SECONDS))
    daemon.settle()
