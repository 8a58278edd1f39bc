"""Announcements are heard while they are being made."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from satellite.audio.pcm import AudioFormat
from satellite.errors import TextToSpeechError
from satellite.rooms.playback import SharedSound
from tests.waiting import PATIENCE_SECONDS

FORMAT = AudioFormat(4000, 1)
SECOND = bytes(4000)


async def test_every_room_hears_it_from_the_beginning() -> None:
    """One that is there at once hears each piece as it is made, one that comes later all of it."""
    announcement = SharedSound(FORMAT)
    come: asyncio.Queue[bytes] = asyncio.Queue()
    heard: dict[str, list[bytes]] = {"early": [], "late": []}
    news = asyncio.Event()

    async def sound() -> AsyncIterator[bytes]:
        while pcm := await come.get():
            yield pcm

    async def room(name: str) -> None:
        async for pcm in announcement:
            heard[name].append(pcm)
            news.set()

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(announcement.fill(sound()))
        tasks.create_task(room("early"))
        come.put_nowait(b"one")
        await news.wait()
        assert heard["early"] == [b"one"]
        tasks.create_task(room("late"))
        come.put_nowait(b"two")
        come.put_nowait(b"")
    assert heard == {"early": [b"one", b"two"], "late": [b"one", b"two"]}


async def test_what_breaks_it_is_told_behind_what_was_made() -> None:
    """In every room."""
    announcement = SharedSound(FORMAT)
    heard: list[bytes] = []

    async def sound() -> AsyncIterator[bytes]:
        yield b"one"
        raise TextToSpeechError("the sound broke off")

    await announcement.fill(sound())
    for _ in range(2):
        with pytest.raises(TextToSpeechError, match="broke off"):
            async for pcm in announcement:
                heard += [pcm]
    assert heard == [b"one", b"one"]


async def test_it_is_made_as_far_as_it_is_heard() -> None:
    """A few seconds ahead of the room that has heard most, however long it is and however slow the rooms are."""
    announcement = SharedSound(FORMAT)
    made = 0
    turn = asyncio.Event()

    async def sound() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(10_000):
            made += 1
            yield SECOND

    async def still() -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    async def play() -> None:
        async for _ in announcement:
            await turn.wait()
            turn.clear()

    async with asyncio.TaskGroup() as tasks:
        filling = tasks.create_task(announcement.fill(sound()))
        await still()
        assert made == 11  # ten seconds, and the piece that goes beyond them
        rooms = [tasks.create_task(play()) for _ in range(2)]
        for heard in range(1, 20):
            turn.set()
            await still()
            assert made <= 11 + heard
        assert made > 11
        for task in (filling, *rooms):
            task.cancel()


async def test_a_room_that_is_minutes_late_is_told() -> None:
    """The newest two minutes are kept; who has not heard what was before them cannot, and the others go on."""
    announcement = SharedSound(FORMAT)
    heard = 0

    async def sound() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield SECOND

    async def late() -> None:
        async for _ in announcement:
            await everything_heard.wait()

    everything_heard = asyncio.Event()
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(announcement.fill(sound()))
        slow = asyncio.create_task(late())
        async for pcm in announcement:
            heard += len(pcm)
        everything_heard.set()
    assert heard == 300 * len(SECOND)
    assert sum(map(len, announcement._pieces)) <= 120 * len(SECOND)
    for room in (slow, late()):
        with pytest.raises(TextToSpeechError, match="too far ahead"):
            await room


async def test_nobody_waits_for_a_maker_that_was_stopped() -> None:
    """Its end is the end."""
    announcement = SharedSound(FORMAT)

    async def sound() -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b"never"

    async def play() -> list[bytes]:
        return [pcm async for pcm in announcement]

    filling = asyncio.create_task(announcement.fill(sound()))
    room = asyncio.create_task(play())
    await asyncio.sleep(0)
    filling.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await room == []
