"""How a room rings: with words, without them where there are none, again and again, and never in vain."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from satellite.audio.pcm import AudioFormat
from satellite.config.rooms import RoomSettings
from satellite.engines.protocols import VoiceChoice
from satellite.errors import SatelliteError, TextToSpeechError
from satellite.pipeline.stages import SpokenPiece
from satellite.rooms.chimes import chime
from satellite.rooms.playback import SharedSound
from satellite.rooms.ringing import Ringing
from satellite.rooms.wyoming_device import timer_event
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import LATE_SECONDS, Duration, TimerEvent
from satellite.tasks import Background
from tests.host_room import running
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock

VOICE = AudioFormat(16_000)
CHIMES = chime(VOICE) * 2


class RingingRoom:
    """A room whose speaker takes what it is given at once, until it is blocked or breaks.

    It is the stages, too, whose speech is the text itself.
    """

    format = VOICE

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.background = Background()
        self.mute = False
        """Whether it cannot speak."""

        self.scheduler = TimerScheduler(folder, clock=lambda: self.now)
        self.timers = self.scheduler.timers
        self.sent: list[str] = []
        self.sounds: list[bytes] = []
        self.finished = 0
        self.voices: list[VoiceChoice] = []
        """What the rings were spoken by."""

        self.free = asyncio.Event()
        self.free.set()
        self.trouble: list[Exception] = []
        """What the next announcements fail with."""

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Ringing]:
        stages: Any = self
        ringing = Ringing(self.scheduler, stages, RoomSettings(name="kitchen"), self.show, self.announce)
        async with running(ringing.run()):
            await asyncio.sleep(0)
            yield ringing

    async def speaker(self, choice: VoiceChoice) -> "RingingRoom":
        if self.mute:
            raise TextToSpeechError("no voice")
        self.voices.append(choice)
        return self

    async def speak(self, text: str, speaker: "RingingRoom") -> AsyncGenerator[SpokenPiece, None]:
        yield SpokenPiece(text, text.encode())

    async def show(self, event: TimerEvent) -> None:
        if self.trouble and isinstance(self.trouble[0], ConnectionError):
            raise self.trouble.pop()
        if (sent := timer_event(event)) is not None:
            self.sent.append(sent.event().type)

    async def announce(self, sound: SharedSound) -> None:
        if self.trouble:
            raise self.trouble.pop()
        assert sound.format.width == 2
        self.sounds += [pcm async for pcm in sound]
        await self.free.wait()
        self.finished += 1

    def rings_in(self, seconds: int, name: str | None = None, late: float = 0) -> None:
        """Set a timer, and let it end, perhaps while nobody looks."""
        self.timers.start(Duration(seconds=seconds), place="kitchen", name=name, language="en")
        self.now += seconds + late
        self.timers.tick()

    def said(self) -> list[str]:
        assert all(sound.startswith(CHIMES) for sound in self.sounds)
        return [sound.removeprefix(CHIMES).decode() for sound in self.sounds]


@pytest.fixture
async def house(tmp_path: Path) -> RingingRoom:
    return RingingRoom(tmp_path)


async def test_it_rings_again_until_nothing_rings(house: RingingRoom) -> None:
    async with house.connected():
        house.rings_in(60, "pizza")
        await until(lambda: house.finished == 1)
        house.rings_in(1)
        await until(lambda: house.finished == 2)
        assert house.said() == ["Your pizza timer is done.", "Your pizza timer is done. Your timer is done."]
        assert house.voices == [VoiceChoice(spoken="en")] * 2
        house.timers.silence("kitchen")
        await asyncio.sleep(10)
        house.rings_in(60, "tea")
        await until(lambda: house.finished == 3)
        assert house.said()[2:] == ["Your tea timer is done."]
        assert house.sent == ["timer-started", "timer-finished"] * 3


async def test_whoever_calls_silences_it_and_nothing_that_comes_after(house: RingingRoom) -> None:
    async with house.connected() as ringing:
        house.free.clear()
        house.rings_in(60)
        await until(lambda: len(house.sounds) == 1)
        ringing.silence()
        assert house.timers.all() == []
        house.rings_in(60, "tea")
        await until(lambda: len(house.sounds) == 2)
        assert house.finished == 0
        house.free.set()
        await until(lambda: house.finished == 1)


async def test_a_voice_that_fails_leaves_the_chimes_and_a_speaker_that_fails_is_tried_again(house: RingingRoom) -> None:
    house.mute = True
    house.trouble.append(SatelliteError("no speaker", code="room-unreachable"))
    async with house.connected():
        house.rings_in(60)
        await until(lambda: house.finished == 1)
        assert house.sounds == [chime(AudioFormat(22_050)) * 2]


async def test_what_could_not_be_heard_to_its_end_rings_again(house: RingingRoom) -> None:
    house.free.clear()
    async with house.connected():
        house.rings_in(60)
        await until(lambda: len(house.sounds) == 1)
    house.trouble.append(ConnectionError("gone"))
    async with house.connected():
        await until(lambda: not house.trouble)
    house.free.set()
    async with house.connected():
        await until(lambda: house.finished == 1)
        assert house.sent == ["timer-started", "timer-finished", "timer-finished"]


async def test_a_missed_timer_is_announced_once(house: RingingRoom) -> None:
    house.rings_in(60, "pizza", late=LATE_SECONDS)
    for _ in range(2):
        async with house.connected():
            await until(lambda: not house.timers.all())
    assert house.said() == ["Your pizza timer ended a while ago."]
    assert house.sent == []


async def test_too_many_events_at_once_lose_no_ring(house: RingingRoom) -> None:
    async with house.connected():
        for _ in range(100):
            house.timers.cancel(house.timers.start(Duration(seconds=60), place="kitchen"))
        house.rings_in(60)
        await until(lambda: house.finished == 1)
