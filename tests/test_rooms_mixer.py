"""Media in rooms: ducked under what is said, without a click, and stopped by voice, by programs and by other media."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from satellite.audio.pcm import CANONICAL, RATE, AudioFormat
from satellite.errors import SatelliteError
from satellite.rooms.playback import SharedSound
from tests.loudness import silence, speech
from tests.scripted_engine import WAKE_WORD, ScriptedEngine, scripted_stages
from tests.scripted_rooms import STREAMING, ScriptedRoom, WakingSatellite, scripted_room
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock

COMMAND = (WAKE_WORD, silence(10), speech(30))
HERTZ, LOUDNESS = 113, 8000
CLICK = 2 * np.pi * HERTZ / RATE * LOUDNESS * 1.1
"""More than the steepest step of the music, whose loudness changes within 50 ms."""


def music(seconds: float, layout: AudioFormat = CANONICAL, loudness: int = LOUDNESS) -> SharedSound:
    times = np.arange(int(seconds * layout.rate)) / layout.rate
    samples = (np.sin(2 * np.pi * HERTZ * times) * loudness).astype(np.int16)
    return SharedSound.complete(layout, np.repeat(samples, layout.channels).tobytes())


def played(room: ScriptedRoom) -> NDArray[np.int16]:
    return np.frombuffer(room.sounded(), np.int16)


def loudness(room: ScriptedRoom, seconds: float = 0.2) -> int:
    """Return how loud the latest sound is."""
    latest = played(room)[-int(seconds * RATE) :]
    return int(np.abs(latest).max()) if len(latest) else 0


def engine(*answer: str) -> ScriptedEngine:
    return ScriptedEngine({0: "Stop.", 25: "Tell me a story."}, answer=answer or ["One two three four five."])


def play(room: ScriptedRoom, sound: SharedSound) -> asyncio.Task[None]:
    return asyncio.create_task(room.conversation.play(sound))


@pytest.mark.parametrize("transport", STREAMING)
async def test_media_is_quieter_while_somebody_speaks_and_is_answered(transport: str, tmp_path: Path) -> None:
    async with scripted_room(transport, scripted_stages(engine()), tmp_path) as room:
        playing = play(room, music(30))
        await asyncio.sleep(3)
        assert room.conversation.sounding == "media"
        assert loudness(room) == pytest.approx(LOUDNESS, rel=0.02)
        room.say(*COMMAND)
        await until(lambda: room.conversation.activity == "listening")
        await asyncio.sleep(0.6)
        assert loudness(room) == pytest.approx(LOUDNESS / 4, rel=0.02)
        await until(lambda: room.conversation.sounding == "answer")
        await asyncio.sleep(3)
        assert loudness(room) == pytest.approx(LOUDNESS / 4, rel=0.02)  # the voice is silent
        await until(lambda: room.conversation.sounding == "media")
        await asyncio.sleep(1)
        assert loudness(room) == pytest.approx(LOUDNESS, rel=0.02)
        await playing
        assert room.seconds() == pytest.approx(30, abs=0.3)
        assert np.abs(np.diff(played(room).astype(int))).max() < CLICK


@pytest.mark.parametrize("transport", STREAMING)
async def test_what_is_said_is_mixed_into_media(transport: str, tmp_path: Path) -> None:
    async with scripted_room(transport, scripted_stages(engine()), tmp_path) as room:
        playing = play(room, music(10, loudness=0))
        await asyncio.sleep(2)
        began = asyncio.get_running_loop().time()
        await room.conversation.announce(music(3, AudioFormat(22_050), 2000))
        assert asyncio.get_running_loop().time() - began == pytest.approx(3, abs=0.4)
        await playing
        heard = np.flatnonzero(np.abs(played(room)) > 10)
        assert len(played(room)) / RATE == pytest.approx(10, abs=0.1)
        assert heard[0] / RATE == pytest.approx(2.25, abs=0.1)
        assert (heard[-1] - heard[0]) / RATE == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("transport", STREAMING)
@pytest.mark.parametrize("how", ["stop", "a program", "cancelled", "listen only"])
async def test_media_is_stopped(transport: str, how: str, tmp_path: Path) -> None:
    async with scripted_room(transport, scripted_stages(engine()), tmp_path) as room:
        playing = play(room, music(60, AudioFormat(44_100, 2, 2)))
        await asyncio.sleep(3)
        if how == "stop":
            room.say(speech(15), silence(10))
            await until(lambda: not room.said)
        elif how == "a program":
            assert await room.conversation.stop()
        elif how == "cancelled":
            playing.cancel()
        else:
            await room.conversation.set_listen_only(True)
        before = room.seconds()
        await asyncio.gather(playing, return_exceptions=True)
        await until(lambda: room.conversation.sounding is None)
        await asyncio.sleep(2)
        assert room.seconds() - before < 0.5
        assert np.abs(np.diff(played(room).astype(int))).max() < CLICK
        if how == "listen only":
            with pytest.raises(SatelliteError, match="only listens"):
                await room.conversation.play(music(1))


@pytest.mark.parametrize("transport", [*STREAMING, "waking"])
async def test_stop_as_a_command_ends_media_and_the_wake_word_alone_does_not(transport: str, tmp_path: Path) -> None:
    async with scripted_room(transport, scripted_stages(engine()), tmp_path) as room:

        async def call(*command: bytes) -> None:
            room.said = b""
            if isinstance(room, WakingSatellite):
                await room.wake()
                room.say(silence(10), *command, silence(60))
            else:
                room.say(WAKE_WORD, silence(10), *command, silence(60))
            await until(lambda: room.conversation.engaged)
            await until(lambda: not room.conversation.engaged)

        playing = play(room, music(60))
        await asyncio.sleep(1)
        await call(speech(30))
        assert room.conversation.sounding == "media"
        await call(speech(15))
        await playing
        assert room.seconds() < 30


async def test_other_media_takes_its_place_and_waits_for_what_is_said(tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine()), tmp_path) as room:
        first = play(room, music(60))
        await asyncio.sleep(2)
        second = play(room, music(3, loudness=2000))
        await asyncio.wait_for(first, 1)
        await second
        assert loudness(room, 1) == pytest.approx(2000, rel=0.02)
        announcing = room.announce(3)
        await asyncio.sleep(1)
        third = play(room, music(2, loudness=3000))
        await announcing
        await third
        assert room.seconds() == pytest.approx(2 + 0.3 + 3 + 3 + 2, abs=0.2)


async def test_of_media_that_waits_only_the_latest_is_played(tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine()), tmp_path) as room:
        first = play(room, music(60))
        await asyncio.sleep(2)
        second, third = play(room, music(60)), play(room, music(3, loudness=2000))
        await asyncio.wait_for(asyncio.gather(first, second, third), 5)
        assert loudness(room, 1) == pytest.approx(2000, rel=0.02)
        assert not await room.conversation.stop()


async def test_media_that_waits_is_stopped(tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine()), tmp_path) as room:
        room.announce(3)
        await asyncio.sleep(1)
        waiting = play(room, music(60))
        await asyncio.sleep(0)
        assert await room.conversation.stop()
        await asyncio.wait_for(waiting, 5)
        assert room.seconds() < 2
        assert room.conversation.sounding is None


async def test_what_is_said_goes_on_when_media_ends(tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine("One two three four.")), tmp_path) as room:
        playing = play(room, music(60))
        await asyncio.sleep(1)
        room.say(*COMMAND)
        await until(lambda: room.conversation.sounding == "answer")
        began = asyncio.get_running_loop().time()
        playing.cancel()
        other = play(room, music(1, loudness=3000))
        await until(lambda: room.conversation.sounding != "answer")
        assert asyncio.get_running_loop().time() - began == pytest.approx(4, abs=0.5)
        await other
        assert loudness(room, 0.5) == pytest.approx(3000, rel=0.02)


async def test_media_that_fails_or_stalls(tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine()), tmp_path) as room:
        radio = SharedSound(CANONICAL)
        radio.add(b"\1\0" * RATE)
        playing = play(room, radio)
        await asyncio.sleep(3)
        await room.conversation.announce(music(1))  # what is said does not wait for it
        assert room.seconds() == pytest.approx(2, abs=0.1)
        radio.end(SatelliteError("the radio has gone", code="media-unreachable"))
        with pytest.raises(SatelliteError, match="the radio has gone"):
            await playing
        assert room.conversation.sounding is None


async def test_media_ends_with_the_connection(tmp_path: Path) -> None:
    async with scripted_room("satellite", scripted_stages(engine()), tmp_path) as room:
        playing = play(room, music(60))
        await asyncio.sleep(2)
        await room.conversation.close()
        with pytest.raises(SatelliteError, match="gone"):
            await playing
