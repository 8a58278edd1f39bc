"""Conversations on a virtual clock: announcements give way to them, and no room waits for another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.pipeline import PipelineStage, RunPipeline

from satellite.audio.pcm import CANONICAL, RATE
from satellite.config.rooms import RoomSettings
from satellite.errors import SpeechToTextError
from satellite.events import RunBus
from satellite.pipeline.stages import Stages
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.chimes import Cue, cue_sound
from satellite.rooms.device import RoomContext
from satellite.rooms.playback import SharedSound
from satellite.rooms.wyoming_device import WyomingDevice
from tests.driven_rooms import NotedConnection
from tests.loudness import WINDOW_SAMPLES, silence, speech
from tests.scripted_engine import TWO_SENTENCES, ScriptedEngine, scripted_stages
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock


class Room:
    """A satellite that the daemon talks with; a command can be spoken to it."""

    def __init__(self, stages: Stages, *, sounds: bool = False) -> None:
        self.connection = NotedConnection()
        context = RoomContext(stages, RunBus(), Arbiter(0.0))
        self.device = WyomingDevice(self.connection, RoomSettings(name="kitchen", sounds=sounds), context)

    def announce(self, seconds: float) -> asyncio.Task[None]:
        sound = SharedSound.complete(CANONICAL, bytes(2 * int(RATE * seconds)))
        return asyncio.create_task(self.device.conversation.announce(sound))

    async def hear(self, *sounds: bytes) -> None:
        """Begin a run after a wake word of its own, and hear `sounds` until the transcript comes."""
        began = len(self.connection.sent)
        await self.device.take(RunPipeline(start_stage=PipelineStage.ASR, end_stage=PipelineStage.TTS).event())
        pcm = b"".join(sounds)
        for at in range(0, len(pcm), 2 * WINDOW_SAMPLES):
            await asyncio.sleep(WINDOW_SAMPLES / RATE)
            await self.device.take(AudioChunk(RATE, 2, 1, pcm[at : at + 2 * WINDOW_SAMPLES]).event())
            if any(Transcript.is_type(event.type) for _, event in self.connection.sent[began:]):
                break

    async def command(self) -> None:
        await self.hear(speech(60), silence(40))

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

    def spoken(self) -> list[bytes | str]:
        """Return each sound, and between them the transcripts and errors."""
        found: list[bytes | str] = []
        for _, event in self.connection.sent:
            if AudioStart.is_type(event.type):
                found.append(b"")
            elif AudioChunk.is_type(event.type):
                found[-1] += AudioChunk.from_event(event).audio  # type: ignore[operator]  # since a sound has begun
            elif event.type in ("transcript", "error"):
                found.append(event.type)
        return found

    def lengths(self) -> list[float]:
        return [length for _, _, length in self.sounds()]


@asynccontextmanager
async def in_rooms(count: int, *answer: str, sounds: bool = False) -> AsyncIterator[list[Room]]:
    stages = scripted_stages(ScriptedEngine(answer=answer))
    async with AsyncExitStack() as stack:
        rooms = [Room(stages, sounds=sounds) for _ in range(count)]
        for room in rooms:
            stack.push_async_callback(room.device.close)
        yield rooms


@pytest.fixture
async def kitchen() -> AsyncIterator[Room]:
    async with in_rooms(1, *TWO_SENTENCES) as (room,):
        yield room


async def test_an_announcement_that_waited_for_another_is_not_heard_over_a_command(kitchen: Room) -> None:
    loop = asyncio.get_running_loop()
    announcing = [kitchen.announce(4), kitchen.announce(3)]
    await asyncio.sleep(2)
    began = loop.time()
    await kitchen.command()
    ended = loop.time()
    await asyncio.gather(*announcing)
    cut, answer, waited = kitchen.sounds()
    assert began <= cut[1] <= began + 0.1
    assert cut[2] < 4
    assert answer[0] >= ended - 2 * WINDOW_SAMPLES / RATE
    assert (answer[2], waited[2]) == (9, 3)
    assert waited[0] >= answer[1]


async def test_a_room_sounds_when_it_listens_and_when_the_command_is_over() -> None:
    async with in_rooms(1, *TWO_SENTENCES, sounds=True) as (room,):
        await room.command()
        await until(lambda: not room.device.conversation.active)
        listening, transcript, done, answer = room.spoken()
        assert (listening, transcript, done) == (cue_sound(Cue.LISTENING), "transcript", cue_sound(Cue.DONE))
        assert room.lengths() == [0.2, 0.2, 9]
        assert answer not in (listening, done)


async def test_a_room_sounds_when_nothing_was_understood() -> None:
    async with in_rooms(1, *TWO_SENTENCES, sounds=True) as (room,):
        await room.hear(silence(300))
        await until(lambda: not room.device.conversation.active)
        assert [one for one in room.spoken() if one != "transcript"] == [
            cue_sound(Cue.LISTENING),
            "error",
            cue_sound(Cue.NOT_UNDERSTOOD),
        ]


async def test_an_announcement_that_was_cut_off_at_once_is_made_again(kitchen: Room) -> None:
    announcing = kitchen.announce(4)
    await asyncio.sleep(0.4)
    await kitchen.command()
    await announcing
    assert kitchen.lengths()[1:] == [9, 4]


async def test_whoever_calls_twice_silences_an_announcement_once(kitchen: Room) -> None:
    announcing = kitchen.announce(4)
    await asyncio.sleep(2)
    for turns in (0, 0, 1, 1, 1, 1):
        kitchen.device.conversation._engage()
        for _ in range(turns):
            await asyncio.sleep(0)
    await announcing
    assert [length < 4 for length in kitchen.lengths()] == [True]


@pytest.mark.parametrize("pause", [0, 3])
async def test_a_command_that_is_broken_off_is_not_answered(kitchen: Room, pause: int) -> None:
    await kitchen.hear(speech(60), silence(pause))
    await asyncio.sleep(0.1)
    sent = len(kitchen.connection.sent)
    await kitchen.device.close()
    assert kitchen.connection.sent[sent:] == []


async def test_a_run_that_fails_before_it_has_heard_all_leaves_the_reader_free(
    kitchen: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: float) -> None:
        await asyncio.sleep(30)
        raise SpeechToTextError("it does not load")

    monkeypatch.setattr(kitchen.device.conversation._context.stages.engines.vad, "get", fail)
    async with asyncio.timeout(60):
        await kitchen.hear(bytes(25 * 2 * RATE))
        await asyncio.sleep(10)
    assert not kitchen.device.conversation.active


async def test_fifty_rooms_that_speak_at_once_are_all_answered() -> None:
    async with in_rooms(50, "Yes.") as rooms:
        await asyncio.gather(*(room.hear(speech(15), silence(40)) for room in rooms))
        await asyncio.sleep(10)
        assert [room.lengths() for room in rooms] == [[1]] * 50
