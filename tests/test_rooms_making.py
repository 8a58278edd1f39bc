"""Announcements are heard while they are being made."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from satellite.errors import TextToSpeechError
from satellite.rooms.playback import Making
from tests.waiting import PATIENCE_SECONDS


async def test_every_room_hears_it_from_the_beginning() -> None:
    """One that is there at once hears each piece as it is made, one that comes later all of it."""
    making = Making(1000)
    come: asyncio.Queue[bytes] = asyncio.Queue()
    heard: dict[str, list[bytes]] = {"early": [], "late": []}
    news = asyncio.Event()

    async def sound() -> AsyncIterator[bytes]:
        while pcm := await come.get():
            yield pcm

    async def room(name: str) -> None:
        async def play(pcm: bytes) -> None:
            heard[name].append(pcm)
            news.set()

        await making.to(play)

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(making.fill(sound()))
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
    making = Making(1000)
    heard: list[bytes] = []

    async def sound() -> AsyncIterator[bytes]:
        yield b"one"
        raise TextToSpeechError("the sound broke off")

    async def play(pcm: bytes) -> None:
        heard.append(pcm)

    await making.fill(sound())
    for _ in range(2):
        with pytest.raises(TextToSpeechError, match="broke off"):
            await making.to(play)
    assert heard == [b"one", b"one"]


async def test_it_is_made_as_far_as_it_is_heard() -> None:
    """A few seconds ahead of the room that has heard most, however long it is and however slow the rooms are."""
    making = Making(10)
    made = 0
    turn = asyncio.Event()

    async def sound() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(10_000):
            made += 10
            yield bytes(10)

    async def still() -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    async def play(pcm: bytes) -> None:
        await turn.wait()
        turn.clear()

    async with asyncio.TaskGroup() as tasks:
        filling = tasks.create_task(making.fill(sound()))
        await still()
        assert made == 110  # ten seconds, and the piece that goes beyond them
        rooms = [tasks.create_task(making.to(play)) for _ in range(2)]
        for heard in range(1, 20):
            turn.set()
            await still()
            assert made <= 110 + 10 * heard
        assert made > 110
        for task in (filling, *rooms):
            task.cancel()


async def test_a_room_that_is_minutes_late_is_told() -> None:
    """The newest two minutes are kept; who has not heard what was before them cannot, and the others go on."""
    making = Making(10)
    heard = 0

    async def sound() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield bytes(10)

    async def play(pcm: bytes) -> None:
        nonlocal heard
        heard += len(pcm)

    async def late(pcm: bytes) -> None:
        await everything_heard.wait()

    everything_heard = asyncio.Event()
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(making.fill(sound()))
        slow = asyncio.create_task(making.to(late))
        await making.to(play)
        everything_heard.set()
    assert heard == 3000
    assert sum(map(len, making._pieces)) <= 1200
    for room in (slow, making.to(late)):
        with pytest.raises(TextToSpeechError, match="too far ahead"):
            await room


async def test_nobody_waits_for_a_maker_that_was_stopped() -> None:
    """Its end is the end."""
    making = Making(1000)

    async def sound() -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b"never"

    async def play(pcm: bytes) -> None:
        raise AssertionError(pcm)

    filling = asyncio.create_task(making.fill(sound()))
    room = asyncio.create_task(making.to(play))
    await asyncio.sleep(0)
    filling.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await room
