"""A command's recording: what of it is kept, and when it is over."""

import numpy as np
import pytest

from satellite.config.settings import EndpointSettings
from satellite.pipeline.recording import CommandRecording, Recording
from satellite.pipeline.turn_detection import TurnDetector, TurnState
from tests.loudness import WINDOW_SAMPLES, LoudnessVad, silence, sound, speech


async def recorded(*parts: bytes, after_wake_word: bool = True) -> tuple[CommandRecording, TurnState]:
    """Record window by window until it is over."""
    turn = TurnDetector(EndpointSettings())
    recorder = CommandRecording(LoudnessVad(), turn, threshold=0.5, max_seconds=15, after_wake_word=after_wake_word)
    pcm = b"".join(parts)
    for at in range(0, len(pcm), 2 * WINDOW_SAMPLES):
        await recorder.feed(pcm[at : at + 2 * WINDOW_SAMPLES])
        if recorder.state in (TurnState.ENDED, TurnState.NO_SPEECH):
            break
    return recorder, recorder.state


async def test_the_end_of_the_wake_word_is_no_command() -> None:
    recorder, state = await recorded(speech(5), silence(40), speech(40), silence(60))
    assert state is TurnState.ENDED
    assert np.frombuffer(recorder.pcm, np.int16)[0] == 0
    assert sum(recorder.speech) == 40


async def test_a_wake_word_alone_is_nobody_speaking() -> None:
    recorder, state = await recorded(speech(5), silence(200))
    assert state is TurnState.NO_SPEECH
    assert sum(recorder.speech) == 0


@pytest.mark.parametrize("windows", [9, 11, 60])
async def test_a_command_right_behind_the_wake_word_is_whole(windows: int) -> None:
    recorder, state = await recorded(speech(windows), silence(60))
    assert state is TurnState.ENDED
    assert sum(recorder.speech) == windows
    assert recorder.pcm[: len(speech(windows))] == speech(windows)


async def test_without_a_wake_word_nothing_is_dropped() -> None:
    recorder, state = await recorded(speech(5), silence(60), after_wake_word=False)
    assert state is TurnState.ENDED
    assert sum(recorder.speech) == 5


async def test_a_recording_is_never_longer_than_its_limit() -> None:
    turn = TurnDetector(EndpointSettings())
    command = CommandRecording(LoudnessVad(), turn, threshold=0.5, max_seconds=1.024)
    for recording in (Recording(LoudnessVad(), max_seconds=1.024), command):
        await recording.feed(speech(60))
        assert recording.full
        assert bytes(recording.pcm) == speech(32)
    assert command.state is TurnState.ENDED


class SlowVad(LoudnessVad):
    """Goes on hearing speech for some windows behind it."""

    def __init__(self, windows: int) -> None:
        self._windows = self._left = windows

    async def feed(self, pcm: bytes) -> list[float]:
        """Return 1 for each loud window and so many more."""
        heard = []
        for loud in await super().feed(pcm):
            self._left = self._windows if loud else self._left - 1
            heard.append(float(self._left >= 0))
        return heard


@pytest.mark.parametrize("slow", [0, 2, 5, 12])
async def test_a_pause_is_known_before_the_vad_knows_it(slow: int) -> None:
    recorder = CommandRecording(SlowVad(slow), TurnDetector(EndpointSettings()), threshold=0.5, max_seconds=15)
    window = 2 * WINDOW_SAMPLES

    async def record(pcm: bytes) -> list[tuple[bool, float]]:
        seen = []
        for at in range(0, len(pcm), window):
            await recorder.feed(pcm[at : at + window])
            seen.append((recorder.pauses, recorder.turn.last_speech_at))
        return seen

    pauses, spoken_until = (await record(silence(20) + speech(30)))[-1]
    assert not pauses
    assert spoken_until == pytest.approx(50 * LoudnessVad.window_seconds)
    after = await record(silence(5))
    assert all(pauses for pauses, _ in after[1:])
    assert {at for _, at in after[1:]} == {after[0][1]}
    if slow == 12:
        await record(silence(4))
        assert recorder.turn.last_speech_at > after[0][1] + 0.2
    pauses, spoken_until = (await record(speech(1)))[-1]
    assert not pauses
    assert spoken_until > after[0][1]


class UnsureVad(LoudnessVad):
    """Is as sure as the sound is loud."""

    async def feed(self, pcm: bytes) -> list[float]:
        """Return 1 for full loudness."""
        windows = np.frombuffer(pcm, np.int16).reshape(-1, WINDOW_SAMPLES)
        return (np.abs(windows).max(axis=1) / 10_000).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("levels", "state"),
    [
        ([6000, 4000, 4000], TurnState.SPEAKING),
        ([4000, 4000, 4000, 4000], TurnState.WAITING),
        ([6000, 3000, 6000, 3000], TurnState.WAITING),
    ],
)
async def test_what_begins_surely_may_go_on_less_surely(levels: list[int], state: TurnState) -> None:
    turn = TurnDetector(EndpointSettings())
    recorder = CommandRecording(UnsureVad(), turn, threshold=0.5, max_seconds=15)
    pcm = b"".join(sound(1, level) for level in levels)
    await recorder.feed(pcm)
    assert recorder.state is state
