"""The host's microphone and speaker: devices by PortAudio's process, of which files play the part, and programs."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satellite.audio.pcm import BYTES_PER_SECOND, AudioFormat, seconds_of
from satellite.config.host import SoundDeviceSettings
from satellite.errors import SatelliteError
from satellite.pipeline.audio_queue import AudioInbox
from satellite.rooms.host.capture import capture
from satellite.rooms.host.speaker import HostSpeaker
from tests.host_room import running
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.slow

STAND_IN = Path(__file__).parent / "sound_devices"
LAYOUT = AudioFormat(48_000, 2, 2)
VOICE = AudioFormat(22_050)
SECONDS = 0.4
SECOND = bytes(2 * 22_050)
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
async def playing(**settings: Any) -> AsyncIterator[HostSpeaker]:
    speaker = HostSpeaker(SoundDeviceSettings(**settings))
    async with running(speaker.run()):
        yield speaker


async def say(speaker: HostSpeaker) -> float:
    """Play the tone; return how long it took."""
    began = time.monotonic()
    await speaker.play(VOICE, TONE)
    return time.monotonic() - began


def heard_seconds(speaker: Path) -> float:
    """Return how much of what a speaker has played is no silence."""
    samples = np.frombuffer(speaker.read_bytes(), np.int16)[::2]
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 1000)
    return 0.0 if not len(loud) else float(loud[-1] - loud[0]) / LAYOUT.rate


def listed(*arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run `satellite rooms devices`, perhaps without a package."""
    code = f"import sys; sys.modules.update(dict.fromkeys('{without}'.split())); from satellite.cli.main import main"
    command = [sys.executable, "-c", f"{code}; sys.exit(main())", "rooms", "devices", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


async def test_a_microphone_is_heard_until_it_goes(devices: Path) -> None:
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
    path = devices / "speaker"
    async with playing(device="default") as speaker:
        await say(speaker)
        assert "there is none" in speaker.trouble
        path.touch()
        for _ in range(2):
            assert await say(speaker) >= SECONDS
            assert speaker.trouble == ""
            assert SECONDS - 0.02 < heard_seconds(path) < 2 * SECONDS
            path.write_bytes(b"")
        saying = asyncio.create_task(say(speaker))
        while heard_seconds(path) < 0.2:
            await asyncio.sleep(0.01)
        path.unlink()
        await saying
        assert speaker.trouble.startswith("the speaker 'default' ")
        path.touch()
        await say(speaker)
        assert speaker.trouble == ""


async def test_a_speaker_falls_silent_at_once_and_what_waits_is_dropped(devices: Path) -> None:
    path = devices / "speaker"
    path.touch()
    played: list[str] = []

    async def note() -> None:
        played.append("played")

    async with playing(device="speaker") as speaker, asyncio.timeout(PATIENCE_SECONDS):
        utterance, waiting = speaker.begin(VOICE, note), speaker.begin(VOICE, note)
        for one in (utterance, waiting):
            speaker.feed(one, TONE * 12)
        await until(lambda: heard_seconds(path) > 0.5)
        assert speaker.drop()
        silent = heard_seconds(path)
        speaker.feed(utterance, TONE)
        await utterance.over.wait()
        await waiting.over.wait()
        await asyncio.sleep(0.5)
        assert heard_seconds(path) - silent < 0.1
        path.write_bytes(b"")
        last = speaker.begin(AudioFormat(44_100, 4, 2), note)
        speaker.feed(last, np.repeat(np.frombuffer(TONE, np.int16).astype(np.int32) << 16, 4).tobytes())
        last.end()
        await until(lambda: played == ["played"])
        assert SECONDS - 0.02 < heard_seconds(path) < 2 * SECONDS
        assert not speaker.drop()


def test_the_devices_are_listed(devices: Path) -> None:
    for name in ("microphone", "speaker"):
        (devices / name).touch()
    found = json.loads(listed("--json").stdout)
    assert found["microphones"] == [
        {"number": 0, "name": "microphone", "host_api": "files", "rate": 48_000, "channels": 2, "default": True}
    ]
    assert [one["name"] for one in found["speakers"]] == ["speaker"]
    assert "microphone" in listed().stdout


async def test_programs_stand_for_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satellite.rooms.host.capture._STALL_SECONDS", 1.0)
    raw, said = tmp_path / "heard.raw", tmp_path / "said.raw"
    raw.write_bytes(bytes(range(256)) * 100)
    began, lost_seconds = time.monotonic(), AudioInbox.dropped_in_all_seconds
    pcm = b""
    with pytest.raises(SatelliteError, match="cat gives no sound"):
        async for block in capture(SoundDeviceSettings(command=("cat", str(raw)))):
            pcm += block
    lost_seconds = AudioInbox.dropped_in_all_seconds - lost_seconds  # where the machine was too busy
    assert seconds_of(pcm) + lost_seconds == pytest.approx(seconds_of(raw.read_bytes()))
    assert lost_seconds or pcm == raw.read_bytes()
    assert time.monotonic() - began > 0.6
    for script, trouble in ((f"cat > {said}", ""), ("cat > /dev/null; exit 3", "sh ended with status 3")):
        async with playing(command=("sh", "-c", script)) as speaker:
            await speaker.play(VOICE, SECOND)
            assert speaker.trouble == trouble
    assert said.read_bytes() == SECOND


@pytest.mark.parametrize("script", ["echo no such card >&2; exit 1", "while :; do echo no such card >&2; done"])
async def test_what_a_program_says_of_its_trouble_is_told_in_short(
    script: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satellite.rooms.host.capture._STALL_SECONDS", 0.5)
    with pytest.raises(SatelliteError, match=r"gives no sound \(no such card\)$"):
        async for _ in capture(SoundDeviceSettings(command=("sh", "-c", script))):
            pass
    async with playing(command=("sh", "-c", "echo sound; echo no such card >&2; exit 3")) as speaker:
        await speaker.play(VOICE, b"")
        assert speaker.trouble.endswith("ended with status 3 (no such card)")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_without_portaudio_the_remedy_is_named(arguments: tuple[str, ...]) -> None:
    result = listed(*arguments, without="sounddevice")
    assert result.returncode == 1
    assert result.stderr.startswith("error: [no-portaudio]")
    for remedy in ("--microphone", "pip install -e '.[mic]'", "libportaudio2"):
        assert remedy in result.stderr
