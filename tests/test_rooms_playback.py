"""Sound on its way to rooms: paced, stopped, and shared while it is being made."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from wyoming.audio import AudioChunk, AudioStart, AudioStop

from satellite.audio.pcm import AudioFormat
from satellite.errors import TextToSpeechError
from satellite.rooms.lead_in import LeadIn
from satellite.rooms.playback import Playback, SharedSound
from satellite.rooms.wyoming_device import WyomingOutput
from tests.driven_rooms import NotedConnection
from tests.waiting import PATIENCE_SECONDS

VOICE = AudioFormat(22_050)
FORMAT = AudioFormat(4000, 1)
SECOND = bytes(4000)


def playback(
    ahead_seconds: Callable[[], float] = lambda: 0.5, lead_in_seconds: float = 0.0
) -> tuple[NotedConnection, WyomingOutput, Playback]:
    """Return a satellite's connection, its loudspeaker and what plays there."""
    connection = NotedConnection()
    output = WyomingOutput(connection, LeadIn(lead_in_seconds))
    return connection, output, Playback(output, ahead_seconds)


def ahead_seconds(connection: NotedConnection) -> float:
    """Return how far ahead of what is heard it was sent at most."""
    began, sent, most = None, 0.0, 0.0
    for at, event in connection.sent:
        if AudioChunk.is_type(event.type):
            began = at if began is None else began
            sent += AudioChunk.from_event(event).seconds
            most = max(most, sent - (at - began))
    return most


@pytest.mark.virtual_clock
async def test_sound_is_sent_no_faster_than_it_is_heard_but_for_what_is_sent_ahead() -> None:
    connection, _, playing = playback()
    loop = asyncio.get_running_loop()
    for _ in range(10):
        await playing.play(VOICE, bytes(44_100))
    assert loop.time() == pytest.approx(9.5, abs=0.06)
    assert ahead_seconds(connection) == pytest.approx(0.5, abs=0.001)
    assert playing.heard_seconds() == pytest.approx(9.5, abs=0.06)
    await asyncio.sleep(60)
    before = loop.time()
    await playing.play(VOICE, bytes(88_200))
    assert loop.time() - before == pytest.approx(1.5, abs=0.06)


@pytest.mark.virtual_clock
async def test_how_much_is_sent_ahead_can_be_changed() -> None:
    ahead = 0.5
    connection, _, playing = playback(lambda: ahead)
    await playing.play(VOICE, bytes(44_100))
    assert ahead_seconds(connection) == pytest.approx(0.5, abs=0.001)
    ahead = 2.0
    for _ in range(3):
        await playing.play(VOICE, bytes(44_100))
    assert ahead_seconds(connection) == pytest.approx(2.0, abs=0.001)


@pytest.mark.virtual_clock
async def test_the_end_waits_for_played_but_not_for_ever() -> None:
    connection, output, playing = playback()
    loop = asyncio.get_running_loop()
    await playing.play(VOICE, bytes(88_200))
    await playing.finish()
    assert loop.time() == pytest.approx(4.0, abs=0.01)
    began = loop.time()
    await playing.play(VOICE, bytes(88_200))
    loop.call_later(0.6, output.note_played)
    await playing.finish()
    assert loop.time() - began == pytest.approx(2.1, abs=0.01)
    types = [event.type for _, event in connection.sent if not AudioChunk.is_type(event.type)]
    assert types == ["audio-start", "audio-stop"] * 2


@pytest.mark.virtual_clock
async def test_silence_is_at_once() -> None:
    connection, _, playing = playback()
    task = asyncio.create_task(playing.play(VOICE, bytes(441_000)))
    await asyncio.sleep(3)
    task.cancel()
    for _ in range(2):
        await playing.silence()
    (*_, before, (at, last)) = connection.sent
    assert (AudioChunk.is_type(before[1].type), AudioStop.is_type(last.type)) == (True, True)
    assert AudioStart.is_type(connection.sent[0][1].type)
    assert at == playing.heard_seconds() == pytest.approx(3.0)


def audio_of(connection: NotedConnection) -> bytes:
    """Return all sound that was sent, and forget it."""
    chunks = [AudioChunk.from_event(event).audio for _, event in connection.sent if AudioChunk.is_type(event.type)]
    connection.sent.clear()
    return b"".join(chunks)


@pytest.mark.virtual_clock
async def test_a_speaker_that_sleeps_is_woken_by_silence_before_the_first_sound() -> None:
    connection, _, playing = playback(lead_in_seconds=1.5)
    loop = asyncio.get_running_loop()
    tone, silence = b"\1\2" * 44_100, bytes(round(1.5 * 22_050) * 2)
    began = loop.time()
    for text, lead_in in (("first", silence), ("soon after", b""), ("after a while", silence)):
        began = loop.time()
        await playing.play(VOICE, tone)
        # Neither what was heard nor what is sent ahead counts the silence.
        assert playing.heard_seconds() == pytest.approx(1.5, abs=0.06), text
        assert loop.time() - began == pytest.approx(len(lead_in) / 44_100 + 1.5, abs=0.06), text
        await playing.finish()
        assert audio_of(connection) == lead_in + tone, text
        await asyncio.sleep(6 if text == "soon after" else 0.5)


@pytest.mark.virtual_clock
async def test_the_silence_before_a_sound_is_heard_as_none() -> None:
    _, _, playing = playback(lead_in_seconds=1.0)
    task = asyncio.create_task(playing.play(VOICE, bytes(88_200)))
    await asyncio.sleep(0.8)
    assert playing.heard_seconds() == 0
    await asyncio.sleep(0.5)
    assert playing.heard_seconds() == pytest.approx(0.3, abs=0.01)
    task.cancel()


@pytest.mark.virtual_clock
@pytest.mark.parametrize(("layout", "zero"), [(AudioFormat(4000, 1), b"\x80"), (AudioFormat(48_000, 3, 2), b"\0")])
async def test_the_silence_is_in_the_format_of_the_sound(layout: AudioFormat, zero: bytes) -> None:
    lead_in = LeadIn(0.3)
    assert lead_in.begin(layout) == zero * round(0.3 * layout.rate) * layout.frame_bytes
    assert lead_in.begin(layout) == b""  # it plays
    assert LeadIn(0.0).begin(layout) == b""


async def sound(pieces: int, failure: str = "") -> AsyncIterator[bytes]:
    for _ in range(pieces):
        yield SECOND
    if failure:
        raise TextToSpeechError(failure)


async def played(shared: SharedSound) -> list[bytes]:
    return [pcm async for pcm in shared]


async def test_every_room_hears_it_from_the_beginning() -> None:
    shared = SharedSound(FORMAT)
    early = shared.__aiter__()
    shared.add(b"one")
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await anext(early) == b"one"
        late = asyncio.create_task(played(shared))
        shared.add(b"two")
        shared.end()
        assert [pcm async for pcm in early] == [b"two"]
        assert await late == [b"one", b"two"]


async def test_what_breaks_it_is_told_after_what_was_made() -> None:
    shared = SharedSound(FORMAT)
    await shared.fill(sound(1, "the sound broke off"))
    for _ in range(2):
        rooms = shared.__aiter__()
        assert await anext(rooms) == SECOND
        with pytest.raises(TextToSpeechError, match="broke off"):
            await anext(rooms)


async def test_it_is_made_as_far_as_it_is_heard() -> None:
    shared = SharedSound(FORMAT)
    made = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal made
        async for piece in sound(10_000):
            made += 1
            yield piece

    async def still() -> int:
        for _ in range(50):
            await asyncio.sleep(0)
        return made

    filling = asyncio.create_task(shared.fill(counted()))
    assert await still() == 11  # ten seconds, and the piece that goes beyond them
    rooms = [shared.__aiter__() for _ in range(2)]
    for heard in range(20):
        for room in rooms:
            await anext(room)
        assert await still() == 11 + heard
    filling.cancel()
    await asyncio.gather(filling, return_exceptions=True)
    async with asyncio.timeout(PATIENCE_SECONDS):  # nobody waits for what will never be made
        assert len([pcm async for pcm in rooms[0]]) == made - 20


async def test_a_room_that_is_minutes_late_is_told() -> None:
    shared = SharedSound(FORMAT)
    slow = shared.__aiter__()
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(shared.fill(sound(300)))
        await anext(slow)
        assert len(await played(shared)) == 300
    assert sum(map(len, shared._pieces)) <= 120 * len(SECOND)
    for late in (slow, shared.__aiter__()):
        with pytest.raises(TextToSpeechError, match="too far ahead"):
            await anext(late)
