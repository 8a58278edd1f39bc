"""The run's queue, working ahead, and the event bus: bounded, cancellable, nothing lost."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.events import ChatChunk, RunBus, RunEnd, RunIdentity
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.prefetch import ahead
from tests.waiting import PATIENCE_SECONDS

SECOND = bytes(BYTES_PER_SECOND)


async def drain(inbox: AudioInbox) -> int:
    """Return the bytes that still come."""
    return sum([len(pcm) async for pcm in inbox])


async def test_a_full_inbox_holds_the_sender_back() -> None:
    """During a command no audio is lost: the sender waits."""
    inbox = AudioInbox(max_seconds=2)
    await inbox.put(SECOND)
    await inbox.put(SECOND)
    waiting = asyncio.create_task(inbox.put(SECOND))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert len(await anext(aiter(inbox))) == 2 * BYTES_PER_SECOND
    async with asyncio.timeout(PATIENCE_SECONDS):
        await waiting
    inbox.end()
    assert await drain(inbox) == BYTES_PER_SECOND
    assert inbox.dropped_seconds == 0


async def test_a_lossy_inbox_drops_the_oldest() -> None:
    """While nobody needs the audio, the queue keeps the latest and counts what went."""
    inbox = AudioInbox(max_seconds=2)
    inbox.lossy = True
    for number in range(5):
        await inbox.put(bytes([number]) * BYTES_PER_SECOND)
    inbox.end()
    assert [pcm[0] for pcm in [b async for b in inbox]] == [3]
    assert inbox.dropped_seconds == 3


async def test_a_lossy_inbox_holds_five_seconds_at_most() -> None:
    """However long a command may be: an engine that cannot keep up hears what is new."""
    inbox = AudioInbox(max_seconds=20)
    for _ in range(8):
        await inbox.put(SECOND)
    assert inbox.queued_seconds == 8
    inbox.lossy = True
    await inbox.put(SECOND)
    assert inbox.queued_seconds == 5
    assert inbox.dropped_seconds == 4


async def test_a_waiting_sender_is_freed() -> None:
    """The end of the audio, or of the need for it, lets a waiting sender go."""
    for how in ("end", "lossy"):
        inbox = AudioInbox(max_seconds=1)
        await inbox.put(SECOND)
        waiting = asyncio.create_task(inbox.put(SECOND))
        await asyncio.sleep(0)
        if how == "end":
            inbox.end()
        else:
            inbox.lossy = True
        async with asyncio.timeout(PATIENCE_SECONDS):
            await waiting


async def numbers(count: int, closed: list[bool], fail_at: int | None = None) -> AsyncGenerator[int, None]:
    """Yield 0..count and note the closing."""
    try:
        for number in range(count):
            if number == fail_at:
                raise ValueError("broken")
            yield number
    finally:
        closed.append(True)


async def test_ahead_yields_everything_in_order() -> None:
    """Working ahead changes nothing in what is yielded."""
    closed: list[bool] = []
    assert [item async for item in ahead(numbers(50, closed), size=3)] == list(range(50))
    assert closed == [True]


async def test_ahead_works_ahead_but_not_further() -> None:
    """While the consumer is busy, the source produces up to the bound."""
    produced: list[int] = []

    async def source() -> AsyncGenerator[int, None]:
        for number in range(10):
            produced.append(number)
            yield number

    items = ahead(source(), size=2)
    assert await anext(items) == 0
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(produced) == 4  # one taken, two queued, one in hand
    await items.aclose()


async def test_closing_ahead_closes_its_source() -> None:
    """A consumer that leaves early leaves no task and no open generator behind."""
    closed: list[bool] = []
    items = ahead(numbers(1000, closed), size=2)
    await anext(items)
    await items.aclose()
    assert closed == [True]
    assert len(asyncio.all_tasks()) == 1


async def test_an_error_comes_after_what_was_produced() -> None:
    """The source's failure reaches the consumer, behind the items before it."""
    got = []
    with pytest.raises(ValueError, match="broken"):
        async for item in ahead(numbers(9, [], fail_at=5), size=2):
            got.append(item)  # noqa: PERF401 - the items before the failure matter
    assert got == [0, 1, 2, 3, 4]


async def test_the_bus_reaches_every_watcher_and_drops_the_slow_one() -> None:
    """A watcher that does not read loses its subscription; the others lose nothing."""
    bus, run = RunBus(), RunIdentity("run", "kitchen")
    with bus.subscribe(size=2) as slow, bus.subscribe(size=100) as quick:
        for number in range(10):
            bus.publish(ChatChunk(run, str(number)))
        assert slow.overflowed
        assert [event.text async for event in slow if isinstance(event, ChatChunk)] == ["1"]
        got = [await anext(aiter(quick)) for _ in range(10)]
        assert [event.text for event in got if isinstance(event, ChatChunk)] == [str(number) for number in range(10)]
    bus.publish(RunEnd(run))
