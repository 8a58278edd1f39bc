"""A command's recording: what of it is kept, and when it is over."""

import numpy as np
import pytest

from satellite.config.settings import EndpointSettings
from satellite.pipeline.recording import CommandRecording, Recording
from satellite.pipeline.turn_detection import TurnDetector, TurnState
from tests.loudness import WINDOW_SAMPLES, LoudnessVad, silence, sound, speech


@pytest.mark.parametrize(
    ("after_wake_word", "parts", "state", "kept"),
    [
        # The end of a wake word is no part of the command, unless it follows without a pause.
        (True, [(5, 40), (40, 60)], TurnState.ENDED, 40),
        (True, [(5, 200)], TurnState.NO_SPEECH, 0),
        (True, [(9, 60)], TurnState.ENDED, 9),
        (True, [(11, 60)], TurnState.ENDED, 11),
        (True, [(60, 60)], TurnState.ENDED, 60),
        (False, [(5, 60)], TurnState.ENDED, 5),
    ],
)
async def test_the_end_of_the_wake_word_is_no_command(
    after_wake_word: bool, parts: list[tuple[int, int]], state: TurnState, kept: int
) -> None:
    turn = TurnDetector(EndpointSettings())
    recorder = CommandRecording(LoudnessVad(), turn, threshold=0.5, max_seconds=15, after_wake_word=after_wake_word)
    pcm = b"".join(speech(spoken) + silence(paused) for spoken, paused in parts)
    for at in range(0, len(pcm), 2 * WINDOW_SAMPLES):
        await recorder.feed(pcm[at : at + 2 * WINDOW_SAMPLES])
        if recorder.state in (TurnState.ENDED, TurnState.NO_SPEECH):
            break
    assert (recorder.state, sum(recorder.speech)) == (state, kept)
    assert speech(kept) in recorder.pcm
    first = parts[0][0] == kept  # else the wake word was dropped
    assert recorder.pcm.startswith(speech(kept) if first else silence(1))


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
    async def feed(self, pcm: bytes) -> list[float]:
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
