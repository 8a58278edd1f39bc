"""Conversations with the real wyoming-satellite, the newest one on the package index, in its three modes."""

import asyncio
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from satellite.audio.pcm import AudioFormat
from satellite.rooms.room import LinkState
from tests.command_line import free_port
from tests.driven_rooms import NABU, PAUSE, QUESTION, rooms, spoken, transcribed
from tests.peer import wyoming_satellite
from tests.running_daemon import RunningDaemon
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.models

SPEAKER = AudioFormat(22_050)


@pytest.mark.parametrize("mode", ["always", "wake", "vad"])
def test_a_conversation_with_wyoming_satellite(daemon: RunningDaemon, tmp_path: Path, mode: str) -> None:
    port, heard = free_port(), tmp_path / "heard.raw"
    heard.touch()
    wake = ("--wake-uri", daemon.uri, "--wake-word-name", "okay_nabu")
    options = {"always": (), "wake": wake, "vad": ("--vad",)}[mode]
    question = NABU + PAUSE + asyncio.run(spoken(daemon, QUESTION))

    async def scenario() -> None:
        peer: Any = SimpleNamespace(name=f"peer {mode}", uri=f"tcp://127.0.0.1:{port}")
        async with rooms(daemon, peer) as hub:
            (link,) = hub.satellites
            await until(lambda: link.state is LinkState.CONNECTED)
            for _ in range(2):
                await asyncio.sleep(1)
                before, size = len(heard.read_bytes()), -1
                while heard.stat().st_size == before:  # said again, as people do, where the satellite was not ready
                    (tmp_path / "say.raw").write_bytes(question)
                    with suppress(TimeoutError):
                        await until(lambda before=before: heard.stat().st_size > before, 40)  # type: ignore[misc]
                while size != heard.stat().st_size:
                    size = heard.stat().st_size
                    await asyncio.sleep(2)
                assert "Paris" in await transcribed(daemon, heard.read_bytes()[before:], SPEAKER)
                await until(lambda: link.status().doing in ("idle", "waiting for the wake word"))

    with wyoming_satellite(tmp_path, port, *options):
        daemon.call(asyncio.wait_for(scenario(), PATIENCE_SECONDS))
    daemon.settle()
