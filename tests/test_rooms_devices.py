"""Devices by PortAudio's process, with files that vanish and return in the place of devices."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from satellite.audio.pcm import BYTES_PER_SECOND, AudioFormat
from satellite.config.host import SoundDeviceSettings
from satellite.errors import SatelliteError
from satellite.rooms.host.capture import capture
from satellite.rooms.host.speaker import HostSpeaker
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

STAND_IN = Path(__file__).parent / "sound_devices"
LAYOUT = AudioFormat(48_000, 2, 2)
VOICE = AudioFormat(22_050)
SECONDS = 0.4
TONE = (8000 * np.sin(np.arange(int(SECONDS * 22_050)) / 22_050 * 2 * np.pi * 440)).astype(np.int16).tobytes()


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the devices, of which there is none yet."""
    path = os.pathsep.join([str(STAND_IN), str(STAND_IN.parent.parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("SOUND_DEVICES", str(tmp_path))
    for module in ("capture", "sinks"):
        monkeypatch.setattr(f"satellite.rooms.host.{module}._STALL_SECONDS", 1.0)
    return tmp_path


@asynccontextmanager
async def playing(name: str) -> AsyncIterator[HostSpeaker]:
    """Keep a speaker going."""
    speaker = HostSpeaker(SoundDeviceSettings(device=name))
    task = asyncio.create_task(speaker.run())
    try:
        yield speaker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def say(speaker: HostSpeaker) -> float:
    """Play the tone; return how long it took."""
    began = time.monotonic()
    utterance = speaker.begin(VOICE)
    speaker.feed(utterance, TONE)
    utterance.end()
    await utterance.over.wait()
    return time.monotonic() - began


def heard_seconds(speaker: Path) -> float:
    """Return how much of what a speaker has played is no silence."""
    samples = np.frombuffer(speaker.read_bytes(), np.int16)[::2]
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 1000)
    return 0.0 if not len(loud) else float(loud[-1] - loud[0]) / LAYOUT.rate


async def test_a_microphone_is_heard_until_it_goes(devices: Path) -> None:
    """In its own format if it refuses ours; unplugged, it says so; plugged in again, it is seen."""
    loud = np.repeat(np.int16(5000), 2 * LAYOUT.rate).tobytes()
    with pytest.raises(SatelliteError, match="'microphone' cannot be used") as caught:
        await anext(capture(SoundDeviceSettings(device="microphone")))
    assert caught.value.code == "no-microphone"
    for _ in range(2):
        (devices / "microphone").write_bytes(loud)
        heard = b""
        with pytest.raises(SatelliteError, match="gives no sound") as caught:
            async with aclosing(capture(SoundDeviceSettings(device="micro"))) as blocks:
                async for pcm in blocks:
                    heard += pcm
                    if len(heard) > BYTES_PER_SECOND // 2:
                        (devices / "microphone").unlink(missing_ok=True)
        assert caught.value.code == "microphone-gone"
        assert np.median(np.frombuffer(heard, np.int16)) == 5000


async def test_a_speaker_is_heard_to_its_end(devices: Path) -> None:
    """All of it, in real time; one that was not there is heard once it is; an utterance of one that goes is lost."""
    path = devices / "speaker"
    async with playing("default") as speaker:
        await say(speaker)
        assert "there is none" in speaker.trouble
        path.touch()
        for _ in range(2):
            assert await say(speaker) >= SECONDS
            assert speaker.trouble == ""
            assert SECONDS - 0.02 < heard_seconds(path) < 2 * SECONDS
            path.write_bytes(b"")
        utterance = speaker.begin(VOICE)
        speaker.feed(utterance, TONE)
        utterance.end()
        while heard_seconds(path) < 0.2:
            await asyncio.sleep(0.01)
        path.unlink()
        await utterance.over.wait()
        assert speaker.trouble.startswith("the speaker 'default' ")
        path.touch()
        await say(speaker)
        assert speaker.trouble == ""


async def test_a_speaker_falls_silent_at_once(devices: Path) -> None:
    """What waits is not heard."""
    path = devices / "speaker"
    path.touch()
    async with playing("speaker") as speaker:
        utterance = speaker.begin(VOICE)
        speaker.feed(utterance, TONE * 12)
        while heard_seconds(path) < 0.5:
            await asyncio.sleep(0.01)
        speaker.drop()
        silent = heard_seconds(path)
        await asyncio.sleep(0.5)
        assert heard_seconds(path) - silent < 0.1
        path.write_bytes(b"")
        await say(speaker)
        assert SECONDS - 0.02 < heard_seconds(path) < 2 * SECONDS


def test_the_devices_are_listed(devices: Path) -> None:
    """With what they are named by in the configuration."""
    for name in ("microphone", "speaker"):
        (devices / name).touch()
    command = [sys.executable, "-m", "satellite", "rooms", "devices"]
    found = json.loads(
        subprocess.run([*command, "--json"], capture_output=True, timeout=PATIENCE_SECONDS, check=True).stdout
    )
    assert found["microphones"] == [
        {"number": 0, "name": "microphone", "host_api": "files", "rate": 48_000, "channels": 2, "default": True}
    ]
    assert [one["name"] for one in found["speakers"]] == ["speaker"]
    assert b"microphone" in subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=True).stdout
