"""Rooms that stream, in which somebody goes on after the end of a command; on a virtual clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.pipeline import PipelineStage, RunPipeline

from satellite.audio.pcm import RATE
from satellite.config.rooms import RoomSettings
from satellite.events import RunBus, RunEnd, RunFailed, SttEnd, SttResumed, WakeWordEnd
from satellite.pipeline.stages import Stages
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.device import Capabilities, RoomContext
from satellite.rooms.wyoming_device import WyomingDevice
from tests.driven_rooms import NotedConnection
from tests.loudness import WINDOW_SAMPLES, silence, speech
from tests.scripted_engine import WAKE_WORD, ScriptedEngine, scripted_stages, unread

pytestmark = pytest.mark.virtual_clock

FIRST, WHOLE, SECOND = "What's the weather?", "What's the weather like in the garden?", "Tell me a joke."
SPOKEN = 20


class EchoCancelled(WyomingDevice):
    """One that never hears itself, as a browser."""

    capabilities = Capabilities(speech_interrupts=True)


class StreamingRoom:
    """A satellite that streams all the time; its microphone may hear its own speaker."""

    def __init__(
        self, stages: Stages, bus: RunBus, *, hears_itself: bool, device: type[WyomingDevice] = WyomingDevice
    ) -> None:
        self.connection = NotedConnection()
        self.device = device(self.connection, RoomSettings(name="kitchen"), RoomContext(stages, bus, Arbiter(0.0)))
        self._hears_itself = hears_itself
        self._said = b""

    def say(self, *sounds: bytes) -> None:
        self._said += b"".join(sounds)

    @property
    def sounds(self) -> bool:
        kinds = [kind for kind in map(self._kind, self.sent) if kind is not None]
        return bool(kinds) and kinds[-1] is not AudioStop

    @property
    def sent(self) -> list[Event]:
        return [event for _, event in self.connection.sent]

    def answers(self) -> list[float]:
        """Return the length of each sound in seconds."""
        found: list[float] = []
        for event in self.sent:
            if AudioStart.is_type(event.type):
                found.append(0.0)
            elif AudioChunk.is_type(event.type):
                found[-1] += AudioChunk.from_event(event).seconds
        return [round(seconds, 1) for seconds in found]

    async def stream(self) -> None:
        await self.device.take(
            RunPipeline(start_stage=PipelineStage.WAKE, end_stage=PipelineStage.TTS, restart_on_end=True).event()
        )
        size = 2 * WINDOW_SAMPLES
        while True:
            await asyncio.sleep(WINDOW_SAMPLES / RATE)
            window, self._said = self._said[:size] or silence(1), self._said[size:]
            echo = self._hears_itself and self.sounds
            await self.device.take(AudioChunk(RATE, 2, 1, speech(1) if echo else window).event())

    @staticmethod
    def _kind(event: Event) -> type | None:
        return next((kind for kind in (AudioStart, AudioChunk, AudioStop) if kind.is_type(event.type)), None)


@asynccontextmanager
async def streaming(
    engine: ScriptedEngine, *, hears_itself: bool, device: type[WyomingDevice] = WyomingDevice
) -> AsyncIterator[tuple[StreamingRoom, Stages, RunBus]]:
    stages, bus = scripted_stages(engine), RunBus()
    room = StreamingRoom(stages, bus, hears_itself=hears_itself, device=device)
    hearing = asyncio.create_task(room.stream())
    try:
        yield room, stages, bus
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        await room.device.close()


def cut(pause: int) -> list[bytes]:
    return [WAKE_WORD, silence(20), speech(SPOKEN), silence(pause), speech(SPOKEN)]


@pytest.mark.parametrize("pause", [22, 25, 30, 36])  # 0.7 to 1.15 s
async def test_a_command_that_was_cut_is_answered_as_one(pause: int) -> None:
    engine = ScriptedEngine({0: FIRST, SPOKEN + 5: WHOLE}, answer=["One two three."])
    async with streaming(engine, hears_itself=False) as (room, stages, bus):
        room.say(WAKE_WORD, silence(20), speech(SPOKEN))  # after an answer it is known that the room does not hear it
        await asyncio.sleep(10)
        assert room.answers() == [3.0]
        before = len(stages.dialogue.beginning("room kitchen"))
        with bus.subscribe(4096, accepts=lambda event: isinstance(event, SttEnd | SttResumed | RunEnd)) as events:
            room.say(*cut(pause))
            await asyncio.sleep(12)
            kinds = [type(await events.next()) for _ in range(4)]
        assert kinds == [SttEnd, SttResumed, SttEnd, RunEnd]
        *_, broken_off, whole = room.answers()
        assert broken_off < 1.5
        assert whole == 3.0
        remembered = [message.content for message in stages.dialogue.beginning("room kitchen")]
        assert len(remembered) == before + 2
        assert remembered[-2:] == [WHOLE, "One two three."]


async def test_a_room_that_hears_its_own_answers_hears_them_to_their_end() -> None:
    engine = ScriptedEngine({0: FIRST}, answer=["One two three."])
    async with streaming(engine, hears_itself=True) as (room, _, bus):
        with bus.subscribe(4096, accepts=lambda event: isinstance(event, SttResumed)) as resumed:
            for answers in (1, 2, 3):
                room.say(WAKE_WORD, silence(20), speech(SPOKEN))
                await asyncio.sleep(10)
                assert room.answers() == [3.0] * answers
        assert not resumed._queue.qsize()


async def test_a_room_whose_speaker_is_turned_up_is_cut_off_once() -> None:
    engine = ScriptedEngine({0: FIRST}, answer=["One two three."])
    async with streaming(engine, hears_itself=False) as (room, *_):
        room.say(WAKE_WORD, silence(20), speech(SPOKEN))
        await asyncio.sleep(10)
        room._hears_itself = True
        room.say(WAKE_WORD, silence(20), speech(SPOKEN))
        await asyncio.sleep(15)
        room.say(WAKE_WORD, silence(20), speech(SPOKEN))
        await asyncio.sleep(10)
        first, broken_off, again, last = room.answers()
        assert (first, again, last) == (3.0, 3.0, 3.0)
        assert broken_off < 1.5


async def test_after_the_window_the_wake_word_silences_the_answer() -> None:
    engine = ScriptedEngine({0: FIRST}, answer=["One two three four five six seven eight."])
    async with streaming(engine, hears_itself=False) as (room, *_):
        room.say(WAKE_WORD, silence(20), speech(SPOKEN), silence(80), WAKE_WORD, silence(20), speech(SPOKEN))
        await asyncio.sleep(20)
        broken_off, whole = room.answers()
        assert broken_off < 4
        assert whole == 8.0


@pytest.mark.parametrize(("pause", "detections"), [(0, 3), (5, 3), (15, 3), (20, 3), (25, 3), (40, 3), (95, 2)])
@pytest.mark.parametrize("silent", [0, 20])
async def test_a_wake_word_in_a_command_or_after_it_begins_another(pause: int, detections: int, silent: int) -> None:
    engine = ScriptedEngine({0: FIRST, SPOKEN + 1: WHOLE}, answer=["One two three four five six seven eight."])
    async with streaming(engine, hears_itself=False) as (room, stages, bus):
        with bus.subscribe(4096, accepts=lambda event: isinstance(event, RunFailed | WakeWordEnd)) as events:
            room.say(WAKE_WORD, silence(20), speech(SPOKEN))
            await asyncio.sleep(15)
            # Wake words are said in more than one window, of which the last decides.
            called = [speech(6), WAKE_WORD, silence(silent)]
            room.say(WAKE_WORD, silence(20), speech(SPOKEN), silence(pause), *called, speech(SPOKEN))
            await asyncio.sleep(25)
            kinds = [type(event) for event in unread(events)]
        assert kinds == [WakeWordEnd] * detections
        assert room.answers()[-1] == 8.0
        remembered = [message.content for message in stages.dialogue.beginning("room kitchen")]
        assert remembered[-2:] == [FIRST, "One two three four five six seven eight."]
        assert WHOLE not in remembered


@pytest.mark.parametrize(("pause", "questions"), [(25, [WHOLE]), (36, [WHOLE]), (80, [SECOND])])
async def test_where_any_speech_interrupts_it_goes_on_with_the_command_at_first(
    pause: int, questions: list[str]
) -> None:
    texts = {0: FIRST, SPOKEN + 5: WHOLE, SPOKEN + 25: SECOND}
    engine = ScriptedEngine(texts, answer=["One two three four five six seven eight."])
    async with streaming(engine, hears_itself=False, device=EchoCancelled) as (room, stages, _):
        second = SPOKEN if questions == [WHOLE] else SPOKEN + 30
        room.say(WAKE_WORD, silence(20), speech(SPOKEN), silence(pause), speech(second))
        await asyncio.sleep(20)
        *_, whole = room.answers()
        assert whole == 8.0
        remembered = [message.content for message in stages.dialogue.beginning("room kitchen")]
        assert [text for text in remembered if text in (FIRST, WHOLE, SECOND)] == questions
