"""An announcement and those who speak with the room: it waits for them, and gives way to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.pipeline import PipelineStage, RunPipeline

from satellite.audio.pcm import CANONICAL, RATE
from satellite.config.rooms import RoomSettings
from satellite.errors import SpeechToTextError
from satellite.events import RunBus
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import RoomContext
from satellite.rooms.wyoming_device import WyomingDevice
from tests.driven_rooms import NotedConnection
from tests.loudness import WINDOW_SAMPLES, silence, speech
from tests.scripted_engine import TWO_SENTENCES, ScriptedEngine, scripted_stages

COMMAND = speech(60) + silence(40)


class Room:
    """A satellite that the daemon talks with; a command can be spoken to it."""

    def __init__(self, connection: NotedConnection, device: WyomingDevice) -> None:
        self.connection = connection
        self.device = device

    def announce(self, seconds: float) -> asyncio.Task[None]:
        """Begin an announcement."""
        sound = SharedSound.complete(CANONICAL, bytes(2 * int(RATE * seconds)))
        return asyncio.create_task(self.device.conversation.announce(sound))

    async def command(self) -> tuple[float, float]:
        """Speak a command after a wake word of its own, until the transcript comes; return when that was."""
        began = asyncio.get_running_loop().time()
        await self.device.take(RunPipeline(start_stage=PipelineStage.ASR, end_stage=PipelineStage.TTS).event())
        for at in range(0, len(COMMAND), 2 * WINDOW_SAMPLES):
            if any(Transcript.is_type(event.type) for when, event in self.connection.sent if when >= began):
                break
            await asyncio.sleep(WINDOW_SAMPLES / RATE)
            await self.device.take(AudioChunk(RATE, 2, 1, COMMAND[at : at + 2 * WINDOW_SAMPLES]).event())
        return began, asyncio.get_running_loop().time()

    def sounds(self) -> list[tuple[float, float, float]]:
        """Return when each sound began and was over, and its seconds."""
        found: list[tuple[float, float, float]] = []
        began = seconds = 0.0
        for at, event in self.connection.sent:
            if AudioStart.is_type(event.type):
                began, seconds = at, 0.0
            elif AudioChunk.is_type(event.type):
                seconds += AudioChunk.from_event(event).seconds
            elif AudioStop.is_type(event.type):
                found.append((began, at, round(seconds, 1)))
        return found


@asynccontextmanager
async def room() -> AsyncIterator[Room]:
    """Yield a satellite that the daemon talks with."""
    connection = NotedConnection()
    stages = scripted_stages(ScriptedEngine(answer=TWO_SENTENCES))
    context = RoomContext(stages, RunBus(), Arbiter(0.0))
    device = WyomingDevice(connection, RoomSettings(name="kitchen"), context)
    try:
        yield Room(connection, device)
    finally:
        await device.close()


@pytest.mark.virtual_clock
async def test_one_that_waited_for_another_is_not_heard_over_a_command() -> None:
    async with room() as kitchen:
        announcing = [kitchen.announce(4), kitchen.announce(3)]
        await asyncio.sleep(2)
        begun, ended = await kitchen.command()
        await asyncio.gather(*announcing)
        cut, answer, waited = kitchen.sounds()
        assert begun <= cut[1] <= begun + 0.1
        assert cut[2] < 4
        assert answer[0] >= ended - 2 * WINDOW_SAMPLES / RATE
        assert (answer[2], waited[2]) == (9, 3)
        assert waited[0] >= answer[1]


@pytest.mark.virtual_clock
async def test_one_that_was_cut_off_at_once_is_made_again() -> None:
    async with room() as kitchen:
        announcing = kitchen.announce(4)
        await asyncio.sleep(0.4)
        await kitchen.command()
        await announcing
        assert [length for _, _, length in kitchen.sounds()][1:] == [9, 4]


@pytest.mark.virtual_clock
async def test_whoever_calls_twice_silences_it_once() -> None:
    async with room() as kitchen:
        announcing = kitchen.announce(4)
        await asyncio.sleep(2)
        for turns in (0, 0, 1, 1, 1, 1):
            kitchen.device.conversation._engage()
            for _ in range(turns):
                await asyncio.sleep(0)
        await announcing
        assert [length < 4 for _, _, length in kitchen.sounds()] == [True]


@pytest.mark.virtual_clock
async def test_one_that_nobody_disturbs_is_heard_whole() -> None:
    async with room() as kitchen:
        await asyncio.gather(kitchen.announce(1), kitchen.announce(2))
        assert [length for _, _, length in kitchen.sounds()] == [1, 2]


@pytest.mark.virtual_clock
@pytest.mark.parametrize("pause", [0, 3])
async def test_a_command_that_is_broken_off_is_not_answered(pause: int) -> None:
    async with room() as kitchen:
        await kitchen.device.take(RunPipeline(start_stage=PipelineStage.ASR, end_stage=PipelineStage.TTS).event())
        said = speech(60) + silence(pause)
        for at in range(0, len(said), 2 * WINDOW_SAMPLES):
            await asyncio.sleep(WINDOW_SAMPLES / RATE)
            await kitchen.device.take(AudioChunk(RATE, 2, 1, said[at : at + 2 * WINDOW_SAMPLES]).event())
        await asyncio.sleep(0.1)
        sent = len(kitchen.connection.sent)
        await kitchen.device.close()
        assert [event.type for _, event in kitchen.connection.sent[sent:]] == []


@pytest.mark.virtual_clock
async def test_a_run_that_fails_before_it_has_heard_all_leaves_the_reader_free(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: float) -> None:
        await asyncio.sleep(30)
        raise SpeechToTextError("it does not load")

    async with room() as kitchen:
        monkeypatch.setattr(kitchen.device.conversation._context.stages.engines.vad, "get", fail)
        async with asyncio.timeout(60):
            await kitchen.device.take(RunPipeline(start_stage=PipelineStage.ASR, end_stage=PipelineStage.TTS).event())
            for _ in range(25):
                await asyncio.sleep(1)
                await kitchen.device.take(AudioChunk(RATE, 2, 1, bytes(2 * RATE)).event())
        assert not kitchen.device.conversation.active
