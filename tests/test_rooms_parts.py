"""What the hub is made of: paced sound, who answers a call, how well a room hears, and when to try again."""

import asyncio

import numpy as np
import pytest
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event, Eventable

from satellite.audio.pcm import AudioFormat, Converter
from satellite.backoff import Backoff
from satellite.rooms.arbitration import Arbiter, Loudness
from satellite.rooms.playback import Playback
from satellite.rooms.wyoming_device import WyomingOutput

VOICE = AudioFormat(22_050, 2, 1)


class Speaker:
    """Notes what it is sent, and when."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, Event | Eventable]] = []

    async def send(self, *events: Event | Eventable) -> None:
        """Take events."""
        self.sent += [(asyncio.get_running_loop().time(), event) for event in events]

    def abort(self) -> None:
        """Hang up."""

    def lead_seconds(self) -> float:
        """Return how far ahead of what is heard it was sent at most."""
        began, sent, lead = None, 0.0, 0.0
        for at, event in self.sent:
            if isinstance(event, AudioChunk):
                began = at if began is None else began
                sent += len(event.audio) / (event.rate * event.width * event.channels)
                lead = max(lead, sent - (at - began))
        return lead

    def pcm(self) -> bytes:
        """Return the sound."""
        return b"".join(event.audio for _, event in self.sent if isinstance(event, AudioChunk))


@pytest.mark.virtual_clock
async def test_sound_is_sent_no_faster_than_it_is_heard_but_for_the_lead() -> None:
    """Ten seconds take nine and a half, whatever the pieces are."""
    speaker = Speaker()
    playback = Playback(WyomingOutput(speaker), 0.5)
    for _ in range(10):
        await playback.play(VOICE, bytes(44_100))
    assert asyncio.get_running_loop().time() == pytest.approx(9.5, abs=0.06)
    assert speaker.lead_seconds() == pytest.approx(0.5, abs=0.001)
    assert playback.heard_seconds() == pytest.approx(9.5, abs=0.06)


@pytest.mark.virtual_clock
async def test_a_late_piece_is_not_hurried_after() -> None:
    """After a pause for thinking the lead is built up anew, not more than that."""
    speaker = Speaker()
    playback = Playback(WyomingOutput(speaker), 0.5)
    await playback.play(VOICE, bytes(44_100))
    await asyncio.sleep(60)
    before = asyncio.get_running_loop().time()
    await playback.play(VOICE, bytes(88_200))
    assert asyncio.get_running_loop().time() - before == pytest.approx(1.5, abs=0.06)


@pytest.mark.virtual_clock
async def test_the_end_waits_for_played_but_not_for_ever() -> None:
    """What the satellite says counts; without a word from it, the length of the sound and two seconds."""
    speaker = Speaker()
    output = WyomingOutput(speaker)
    playback = Playback(output, 0.5)
    loop = asyncio.get_running_loop()
    await playback.play(VOICE, bytes(88_200))
    await playback.finish()
    assert loop.time() == pytest.approx(4.0, abs=0.01)
    began = loop.time()
    await playback.play(VOICE, bytes(88_200))
    loop.call_later(0.6, output.note_played)
    await playback.finish()
    assert loop.time() - began == pytest.approx(2.1, abs=0.01)
    assert [type(event) for _, event in speaker.sent if not isinstance(event, AudioChunk)] == [
        *(AudioStart, AudioStop),
        *(AudioStart, AudioStop),
    ]


@pytest.mark.virtual_clock
async def test_silence_is_at_once() -> None:
    """What was not sent is not sent any more, and what was not heard is known."""
    speaker = Speaker()
    playback = Playback(WyomingOutput(speaker), 0.5)
    playing = asyncio.create_task(playback.play(VOICE, bytes(441_000)))
    await asyncio.sleep(3)
    playing.cancel()
    await playback.silence()
    assert isinstance(speaker.sent[-1][1], AudioStop)
    assert speaker.sent[-1][0] == pytest.approx(3.0)
    assert playback.heard_seconds() == pytest.approx(3.0)
    await playback.silence()
    assert isinstance(speaker.sent[-2][1], AudioChunk)


@pytest.mark.parametrize(
    "target",
    [
        AudioFormat(16_000, 2, 1),
        AudioFormat(44_100, 2, 2),
        AudioFormat(48_000, 4, 1),
        AudioFormat(22_050, 3, 2),
        AudioFormat(8_000, 1, 1),
    ],
)
def test_a_speaker_gets_the_format_it_wants(target: AudioFormat) -> None:
    """The sound is the same, whatever the rate, the width and the channels."""
    times = np.arange(VOICE.rate) / VOICE.rate
    tone = (np.sin(2 * np.pi * 440 * times) * 10_000).astype(np.int16)
    converter = Converter(VOICE, target)
    fitted = b"".join(
        [converter.convert(tone[:9_999].tobytes()), converter.convert(tone[9_999:].tobytes()), converter.flush()]
    )
    assert len(fitted) == pytest.approx(target.rate * target.frame_bytes, rel=0.01)
    back = np.frombuffer(Converter(target).convert(fitted), np.int16).astype(float)
    spectrum = np.abs(np.fft.rfft(back[1000:-1000]))
    heard = np.argmax(spectrum) * 16_000 / (len(back) - 2000)
    assert heard == pytest.approx(440, abs=2)
    assert np.abs(back).max() == pytest.approx(10_000, rel=0.05)


def test_the_room_that_hears_best_has_the_call() -> None:
    """Whoever is better within the window takes it; whoever is worse, or late, does not."""
    lost: list[str] = []
    now = [0.0]
    arbiter = Arbiter(0.3, now=lambda: now[0])

    def claim(room: str, quality_db: float, word: str = "okay_nabu") -> bool:
        return arbiter.claim(room, word, quality_db, lambda: lost.append(room))

    assert claim("hall", 10)
    now[0] = 0.1
    assert not claim("attic", 5)
    assert claim("kitchen", 20)
    assert lost == ["hall"]
    assert claim("bedroom", 1, "alexa")
    now[0] = 0.29
    assert not claim("hall", 20)
    now[0] = 0.31
    assert claim("attic", 5)
    assert lost == ["hall"]


def test_a_room_may_call_again() -> None:
    """Its own earlier call is no rival."""
    arbiter = Arbiter(0.3, now=lambda: 0.0)
    lost: list[str] = []
    assert arbiter.claim("hall", "okay_nabu", 10, lambda: lost.append("hall"))
    assert arbiter.claim("hall", "okay_nabu", 5, lambda: lost.append("hall"))
    assert lost == []


def test_loudness_is_speech_against_the_rooms_own_noise() -> None:
    """A quiet room with a quiet voice hears as well as a loud one with a loud voice."""
    random = np.random.default_rng(1)

    def room(noise: float, speech: float) -> float:
        loudness = Loudness()
        sound = np.concatenate([random.normal(0, noise, 80_000), random.normal(0, speech, 12_000)]).astype(np.int16)
        for at in range(0, len(sound), 1000):
            loudness.feed(sound[at : at + 1000].tobytes())
        return loudness.speech_to_noise_db

    assert room(50, 500) == pytest.approx(20, abs=1)
    assert room(500, 5000) == pytest.approx(20, abs=1)
    assert room(500, 1000) == pytest.approx(6, abs=1)
    assert Loudness().speech_to_noise_db == float("-inf")


def test_tries_grow_rarer_and_never_in_step() -> None:
    """Half of each wait is chance, and success starts over."""
    whole = [0.5, 1, 2, 4, 8, 16, 30, 30]
    exact, jittered = Backoff(0.5, 30, jitter=False), Backoff(0.5, 30)
    assert [exact.next() for _ in whole] == whole
    assert all(seconds / 2 <= jittered.next() <= seconds for seconds in whole)
    exact.reset()
    assert exact.next() == 0.5
