"""An announcement and those who speak with the room: it waits for them, and gives way to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event, Eventable
from wyoming.pipeline import PipelineStage, RunPipeline

from satellite.audio.pcm import RATE, AudioFormat
from satellite.config.rooms import RoomSettings
from satellite.events import RunBus
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import RoomContext
from satellite.rooms.wyoming_device import WyomingDevice
from tests.loudness import WINDOW_SAMPLES, silence, speech
from tests.scripted_engine import TWO_SENTENCES, ScriptedEngine, scripted_stages

MONO = AudioFormat(RATE, 2, 1)
COMMAND = speech(60) + silence(40)


class Satellite:
    """Notes what it is sent, and when; a command can be spoken to it."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, Event]] = []
        self.device: WyomingDevice | None = None
        self.commands: list[tuple[float, float]] = []
        """From when to when somebody spoke, or waited for the end of the command."""

    async def send(self, *events: Event | Eventable) -> None:
        """Take events."""
        for event in events:
            told = event if isinstance(event, Event) else event.event()
            self.sent.append((asyncio.get_running_loop().time(), told))

    def abort(self) -> None:
        """Hang up."""

    async def command(self) -> None:
        """Speak a command after a wake word of its own, until the transcript comes."""
        assert self.device is not None
        began = asyncio.get_running_loop().time()
        await self.device.take(RunPipeline(start_stage=PipelineStage.ASR, end_stage=PipelineStage.TTS).event())
        for at in range(0, len(COMMAND), 2 * WINDOW_SAMPLES):
            if any(Transcript.is_type(event.type) for when, event in self.sent if when >= began):
                break
            await asyncio.sleep(WINDOW_SAMPLES / RATE)
            chunk = AudioChunk(RATE, 2, 1, COMMAND[at : at + 2 * WINDOW_SAMPLES])
            await self.device.take(chunk.event())
        self.commands.append((began, asyncio.get_running_loop().time()))

    def sounds(self) -> list[tuple[float, float, float]]:
        """Return when each sound began and was over, and its seconds."""
        found: list[tuple[float, float, float]] = []
        began = seconds = 0.0
        for at, event in self.sent:
            if AudioStart.is_type(event.type):
                began, seconds = at, 0.0
            elif AudioChunk.is_type(event.type):
                seconds += len(AudioChunk.from_event(event).audio) / (2 * RATE)
            elif AudioStop.is_type(event.type):
                found.append((began, at, round(seconds, 1)))
        return found


@asynccontextmanager
async def room() -> AsyncIterator[Satellite]:
    """Yield a satellite that the daemon talks with."""
    satellite = Satellite()
    device = satellite.device = WyomingDevice(
        satellite,
        RoomSettings(name="kitchen"),
        RoomContext(scripted_stages(ScriptedEngine(answer=TWO_SENTENCES)), RunBus(), Arbiter(0.0)),
    )
    try:
        yield satellite
    finally:
        await device.close()


def sound(seconds: float) -> SharedSound:
    """Return a sound."""
    return SharedSound.complete(MONO, bytes(2 * int(RATE * seconds)))


@pytest.mark.virtual_clock
async def test_one_that_waited_for_another_is_not_heard_over_a_command() -> None:
    """Nor over the answer; it comes when all of that is over."""
    async with room() as satellite:
        assert satellite.device is not None
        announce = satellite.device.conversation.announce
        first = asyncio.create_task(announce(sound(4)))
        second = asyncio.create_task(announce(sound(3)))
        await asyncio.sleep(2)
        await satellite.command()
        await asyncio.gather(first, second)
        cut, answer, waited = satellite.sounds()
        (begun, ended) = satellite.commands[0]
        assert begun <= cut[1] <= begun + 0.1
        assert cut[2] < 4
        assert answer[0] >= ended - 2 * WINDOW_SAMPLES / RATE
        assert (answer[2], waited[2]) == (9, 3)
        assert waited[0] >= answer[1]


@pytest.mark.virtual_clock
async def test_one_that_was_cut_off_at_once_is_made_again() -> None:
    """Nobody has heard what it was about."""
    async with room() as satellite:
        assert satellite.device is not None
        announcing = asyncio.create_task(satellite.device.conversation.announce(sound(4)))
        await asyncio.sleep(0.4)
        await satellite.command()
        await announcing
        assert [length for _, _, length in satellite.sounds()][1:] == [9, 4]


@pytest.mark.virtual_clock
async def test_whoever_calls_twice_silences_it_once() -> None:
    """The wake word and the command behind it may come in the same moment, and again while it falls silent."""
    async with room() as satellite:
        assert satellite.device is not None
        announcing = asyncio.create_task(satellite.device.conversation.announce(sound(4)))
        await asyncio.sleep(2)
        for turns in (0, 0, 1, 1, 1, 1):
            satellite.device.conversation._engage()
            for _ in range(turns):
                await asyncio.sleep(0)
        await announcing
        assert [length < 4 for _, _, length in satellite.sounds()] == [True]


@pytest.mark.virtual_clock
async def test_one_that_nobody_disturbs_is_heard_whole() -> None:
    """One after the other."""
    async with room() as satellite:
        assert satellite.device is not None
        await asyncio.gather(*(satellite.device.conversation.announce(sound(count)) for count in (1, 2)))
        assert [length for _, _, length in satellite.sounds()] == [1, 2]
