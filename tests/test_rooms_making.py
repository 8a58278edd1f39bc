"""Announcements are heard while they are being made."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from satellite.errors import TextToSpeechError
from satellite.rooms.playback import Making


def test_every_room_hears_it_from_the_beginning() -> None:
    """One that is there at once hears each piece as it is made, one that comes later all of it."""

    async def scenario() -> None:
        making = Making()
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

        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(making.fill(sound()))
            tasks.create_task(room("early"))
            come.put_nowait(b"one")
            await news.wait()
            assert heard["early"] == [b"one"]
            tasks.create_task(room("late"))
            come.put_nowait(b"two")
            come.put_nowait(b"")
        assert heard == {"early": [b"one", b"two"], "late": [b"one", b"two"]}

    asyncio.run(scenario())


def test_what_breaks_it_is_told_behind_what_was_made() -> None:
    """In every room."""

    async def scenario() -> None:
        making = Making()
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

    asyncio.run(scenario())


def test_nobody_waits_for_a_maker_that_was_stopped() -> None:
    """Its end is the end."""

    async def scenario() -> None:
        making = Making()

        async def sound() -> AsyncIterator[bytes]:
            await asyncio.sleep(60)
            yield b"never"

        async def play(pcm: bytes) -> None:
            raise AssertionError(pcm)

        filling = asyncio.create_task(making.fill(sound()))
        room = asyncio.create_task(making.to(play))
        await asyncio.sleep(0)
        filling.cancel()
        async with asyncio.timeout(10):
            await room

    asyncio.run(scenario())
