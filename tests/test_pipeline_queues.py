"""The queues of a run and the event bus: bounded, and nothing is lost that is needed."""

import asyncio
from contextlib import aclosing

import pytest

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.errors import ChatError, TextToSpeechError
from satellite.events import ChatChunk, RunBus, RunEnd, RunIdentity
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.text_buffer import TextBuffer
from tests.scripted_engine import TWO_SENTENCES, ScriptedEngine, scripted_stages
from tests.waiting import PATIENCE_SECONDS

SECOND = bytes(BYTES_PER_SECOND)


@pytest.mark.parametrize(("freed_by", "left_seconds"), [("read", 1), ("end", 2), ("lossy", 2)])
async def test_a_full_inbox_holds_the_sender_back(freed_by: str, left_seconds: int) -> None:
    inbox = AudioInbox(max_seconds=2)
    await inbox.put(SECOND)
    await inbox.put(SECOND)
    waiting = asyncio.create_task(inbox.put(SECOND))
    await asyncio.sleep(0)
    assert not waiting.done()
    if freed_by == "read":
        assert await anext(aiter(inbox)) == 2 * SECOND
    elif freed_by == "end":
        inbox.end()
    else:
        inbox.lossy = True
    async with asyncio.timeout(PATIENCE_SECONDS):
        await waiting
    inbox.end()
    assert b"".join([pcm async for pcm in inbox]) == left_seconds * SECOND


@pytest.mark.parametrize(("max_seconds", "kept"), [(2, 2), (20, 5)])
async def test_a_lossy_inbox_drops_the_oldest_beyond_five_seconds(max_seconds: int, kept: int) -> None:
    dropped_before = AudioInbox.dropped_in_all_seconds
    inbox = AudioInbox(max_seconds)
    for number in range(8):
        inbox.lossy = max_seconds == 2 or number == 7
        await inbox.put(bytes([number]) * BYTES_PER_SECOND)
    inbox.end()
    assert b"".join([pcm async for pcm in inbox])[::BYTES_PER_SECOND] == bytes(range(8 - kept, 8))
    assert AudioInbox.dropped_in_all_seconds - dropped_before == 8 - kept


async def test_a_text_comes_in_pieces_and_ends_with_its_error() -> None:
    text = TextBuffer(3000)
    text.add("x" * 2500)
    text.end(ChatError("broken"))
    text.add("more")
    assert [len(await anext(text)) for _ in range(3)] == [1000, 1000, 500]
    for _ in range(2):
        with pytest.raises(ChatError, match="broken"):
            await anext(text)


async def test_a_text_past_its_limit_is_dropped() -> None:
    text = TextBuffer(1_000)
    for _ in range(100_000):
        text.add("word ")
    text.end()
    assert text._pieces.qsize() == 201
    with pytest.raises(TextToSpeechError, match="too long"):
        _ = [piece async for piece in text]


@pytest.mark.virtual_clock
async def test_a_text_that_does_not_go_on_fails() -> None:
    with pytest.raises(TextToSpeechError) as caught:
        await anext(TextBuffer(10, wait_seconds=60))
    assert caught.value.code == "tts-timeout"


async def test_the_bus_reaches_every_watcher_and_drops_the_slow_one() -> None:
    bus, run = RunBus(), RunIdentity("run", "kitchen")
    with bus.subscribe(size=2) as slow, bus.subscribe(size=100) as quick:
        for number in range(10):
            bus.publish(ChatChunk(run, str(number)))
        assert slow.overflowed
        assert [event.text async for event in slow if isinstance(event, ChatChunk)] == ["1"]
        got = [await anext(aiter(quick)) for _ in range(10)]
        assert [event.text for event in got if isinstance(event, ChatChunk)] == [str(number) for number in range(10)]
    bus.publish(RunEnd(run))


@pytest.mark.virtual_clock
async def test_a_later_sentence_is_due_when_the_sound_before_it_has_been_heard() -> None:
    engine = ScriptedEngine(tts_seconds=(0.05,))
    async with aclosing(scripted_stages(engine).speak("".join(TWO_SENTENCES), engine)) as pieces:
        async for _ in pieces:
            pass
    assert engine.leads == [0, 4.8]  # five words, each a second of sound: the first begins to be heard at once


async def test_what_was_read_last_can_be_read_again_before_what_follows() -> None:
    inbox = AudioInbox(max_seconds=20)
    spoken = bytes(range(250)) * 128  # a second
    await inbox.put(spoken)
    chunks = aiter(inbox)
    assert await anext(chunks) == spoken
    inbox.unread(spoken[-8000:])
    await inbox.put(b"ab")
    inbox.reread(0.1)
    assert await anext(chunks) == spoken[-8000 - 3200 :] + b"ab"
    inbox.reread(60)
    assert await anext(chunks) == (spoken + b"ab")[-16_000:]
