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
from satellite.rooms.playback import SharedSound
from satellite.rooms.ringing import Ringing, chime
from satellite.rooms.wyoming_device import timer_event
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import LATE_SECONDS, Duration, TimerEvent
from satellite.tasks import Background
from tests.waiting import until

VOICE = AudioFormat(16_000)
CHIMES = chime(VOICE) * 2


class Voice:
    """Stages whose speech is the text itself, or cannot speak at all."""

    format = VOICE

    def __init__(self) -> None:
        self.background = Background()
        self.broken = False

    async def speaker(self, choice: VoiceChoice) -> "Voice":
        """Return the voice."""
        if self.broken:
            raise TextToSpeechError("no voice")
        return self

    async def speak(self, text: str, speaker: "Voice") -> AsyncGenerator[SpokenPiece, None]:
        """Yield the text."""
        yield SpokenPiece(text, text.encode())


class RingingRoom:
    """A room whose speaker takes what it is given at once, until it is blocked or breaks."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.voice = Voice()
        self.scheduler = TimerScheduler(folder, clock=lambda: self.now)
        self.timers = self.scheduler.timers
        self.sent: list[str] = []
        self.sounds: list[bytes] = []
        self.finished = 0
        self.free = asyncio.Event()
        self.free.set()
        self.lost = False
        self.trouble: SatelliteError | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Ringing]:
        """Connect the satellite meanwhile."""
        stages: Any = self.voice
        ringing = Ringing(self.scheduler, stages, RoomSettings(name="kitchen"), self.show, self.announce)
        task = asyncio.create_task(ringing.run())
        await asyncio.sleep(0)
        try:
            yield ringing
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def show(self, event: TimerEvent) -> None:
        """Take what a device would show of a timer."""
        if self.lost:
            raise ConnectionError("gone")
        if (sent := timer_event(event)) is not None:
            self.sent.append(sent.event().type)

    async def announce(self, sound: SharedSound) -> None:
        """Take a sound."""
        if self.lost:
            raise ConnectionError("gone")
        trouble, self.trouble = self.trouble, None
        if trouble is not None:
            raise trouble
        assert sound.format.width == 2
        self.sounds += [pcm async for pcm in sound]
        await self.free.wait()
        self.finished += 1

    def rings_in(self, seconds: int, name: str | None = None) -> None:
        """Set a timer, and let it end."""
        self.timers.start(Duration(seconds=seconds), place="kitchen", name=name, language="en")
        self.later(seconds)

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.timers.tick()

    def said(self) -> list[str]:
        """Return the words behind the chimes."""
        assert all(sound.startswith(CHIMES) for sound in self.sounds)
        return [sound.removeprefix(CHIMES).decode() for sound in self.sounds]


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RingingRoom:
    """A room, made on the event loop, that rings again soon."""
    monkeypatch.setattr("satellite.rooms.ringing.PAUSE_SECONDS", 0.2)
    monkeypatch.setattr("satellite.rooms.ringing._RETRY_SECONDS", 0.5)
    return RingingRoom(tmp_path)


async def test_it_rings_again_until_nothing_rings(house: RingingRoom) -> None:
    async with house.connected():
        house.rings_in(60, "pizza")
        await until(lambda: house.finished == 1)
        house.rings_in(1)
        await until(lambda: house.finished == 2)
        assert house.said() == ["Your pizza timer is done.", "Your pizza timer is done. Your timer is done."]
        house.timers.silence("kitchen")
        await asyncio.sleep(0.05)
        house.rings_in(60, "tea")
        await until(lambda: house.finished == 3)
        assert house.said()[-1] == "Your tea timer is done."
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


async def test_a_voice_that_fails_leaves_the_chimes(house: RingingRoom) -> None:
    house.voice.broken = True
    async with house.connected():
        house.rings_in(60)
        await until(lambda: house.finished == 1)
        assert house.sounds == [chime(AudioFormat(22_050)) * 2]


async def test_what_could_not_be_heard_to_its_end_rings_again(house: RingingRoom) -> None:
    house.free.clear()
    async with house.connected():
        house.rings_in(60)
        await until(lambda: len(house.sounds) == 1)
    house.lost = True
    async with house.connected():
        await asyncio.sleep(0.01)
    house.lost = False
    house.free.set()
    async with house.connected():
        await until(lambda: house.finished == 1)
        assert house.sent == ["timer-started", "timer-finished", "timer-finished"]


async def test_a_speaker_that_is_unplugged_is_tried_again(house: RingingRoom) -> None:
    house.trouble = SatelliteError("no speaker", code="room-unreachable")
    async with house.connected():
        house.rings_in(60)
        await until(lambda: house.trouble is None)
        await until(lambda: house.finished == 1)


async def test_a_missed_timer_is_told_once(house: RingingRoom) -> None:
    house.timers.start(Duration(seconds=60), place="kitchen", name="pizza", language="en")
    house.later(60 + LATE_SECONDS)
    for _ in range(2):
        async with house.connected():
            await until(lambda: not house.timers.all())
    assert house.said() == ["Your pizza timer ended a while ago."]
    assert house.sent == []


async def test_too_many_events_at_once_lose_no_ring(house: RingingRoom) -> None:
    async with house.connected():
        for _ in range(100):
            timer = house.timers.start(Duration(seconds=60), place="kitchen")
            house.timers.cancel(timer)
        house.rings_in(60)
        await until(lambda: house.finished == 1)
