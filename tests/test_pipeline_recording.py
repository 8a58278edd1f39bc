"""A command's recording: what of it is kept, and when it is over."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from satellite.config.endpoint import EndpointSettings
from satellite.engines.vad import SileroVad
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.pipeline.recording import _BACKGROUND_DB, CommandRecording, Recording
from satellite.pipeline.turn_detection import TRAILING_SECONDS, TurnDetector, TurnState
from satellite.pipeline.voice_level import VoiceLevel
from tests.loudness import WINDOW_SAMPLES, LoudnessVad, silence, sound, speech
from tests.running_daemon import DATA
from tests.test_pipeline_pause_detector import noise


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
    # A VAD that hears speech in silence for longer still hears nobody who speaks to the room.
    assert {at for _, at in await record(silence(4))} == {after[0][1]}
    pauses, spoken_until = (await record(speech(1)))[-1]
    assert not pauses
    assert spoken_until > after[0][1]


@pytest.mark.parametrize("before_seconds", [0.1, 0.5, 2.0])
async def test_a_pause_in_a_room_that_echoes_is_known_as_soon_however_long_it_was_quiet_before(
    before_seconds: float,
) -> None:
    recorder = CommandRecording(LoudnessVad(), TurnDetector(EndpointSettings()), threshold=0.5, max_seconds=15)
    room, voice, echo = 20.0, 70.0, 35.0
    said = [(0.3, voice), (0.1, echo)] * 6
    await recorder.feed(b"".join(noise(seconds, level) for seconds, level in [(before_seconds, room), *said[:-1]]))
    assert recorder.state is TurnState.SPEAKING
    await recorder.feed(noise(0.06, echo))
    assert recorder.pauses


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


COMMAND_LEVEL = 8000


async def ended_after(*parts: tuple[int, int]) -> float | None:
    """Return how long after the first of parts of so many windows and such a level a command ends, seconds."""
    recorder = CommandRecording(LoudnessVad(), TurnDetector(EndpointSettings()), threshold=0.5, max_seconds=15)
    pcm = b"".join(sound(windows, level) for windows, level in parts)
    for number in range(len(pcm) // (2 * WINDOW_SAMPLES)):
        await recorder.feed(pcm[2 * WINDOW_SAMPLES * number :][: 2 * WINDOW_SAMPLES])
        if recorder.state is TurnState.ENDED:
            return (number + 1 - parts[0][0]) * LoudnessVad.window_seconds
    return None


@pytest.mark.parametrize(("softer_db", "ends"), [(6, False), (9, False), (12, True), (17, True)])
async def test_a_voice_in_the_background_does_not_keep_a_command_open(softer_db: int, ends: bool) -> None:
    television = round(COMMAND_LEVEL * 10 ** (-softer_db / 20))
    ended = await ended_after((60, COMMAND_LEVEL), (300, television))
    if ends:
        assert ended == pytest.approx(0.5 + 0.36, abs=0.1)  # the silence, and what smooths the level
    else:
        assert ended is None


async def test_the_loudest_syllables_of_a_television_do_not_keep_a_command_open() -> None:
    syllables = [(20, COMMAND_LEVEL // 4), *[(4, COMMAND_LEVEL * 4 // 10), (8, COMMAND_LEVEL // 4)] * 12]
    assert await ended_after((60, COMMAND_LEVEL), *syllables) == pytest.approx(0.9, abs=0.2)


async def test_who_goes_on_more_softly_after_a_pause_is_heard() -> None:
    softer = COMMAND_LEVEL * 36 // 100
    assert await ended_after((60, COMMAND_LEVEL), (13, 0), (40, softer), (9, 0)) is None


@pytest.mark.parametrize("seconds_of_silence", [0.2, 0.3])
async def test_what_was_said_softly_is_part_of_the_command_once_it_is_silent(seconds_of_silence: float) -> None:
    recorder = CommandRecording(LoudnessVad(), TurnDetector(EndpointSettings()), threshold=0.5, max_seconds=15)
    await recorder.feed(sound(60, COMMAND_LEVEL) + sound(26, COMMAND_LEVEL // 5))
    recorder.turn.hold()
    known_at = recorder.turn.last_speech_at
    await recorder.feed(sound(round(seconds_of_silence / 0.032), COMMAND_LEVEL // 60))
    is_included = seconds_of_silence > 0.26
    assert recorder.state is TurnState.SPEAKING
    assert (recorder.turn.last_speech_at > known_at) == is_included  # what was understood before that lacks it
    if is_included:
        assert recorder.turn.last_speech_at == pytest.approx(86 * 0.032, abs=0.07)


@pytest.mark.parametrize(("softer_db", "resumed"), [(0, 5), (9, 5), (12, 12), (17, None)])
async def test_who_goes_on_after_the_end_is_heard_at_once_and_noise_is_not(softer_db: int, resumed: int | None) -> None:
    recorder = CommandRecording(LoudnessVad(), TurnDetector(EndpointSettings()), threshold=0.5, max_seconds=15)
    await recorder.feed(sound(60, COMMAND_LEVEL) + silence(40))
    recorder.turn.listen_on()
    states = []
    for _ in range(40):
        await recorder.feed(sound(1, round(COMMAND_LEVEL * 10 ** (-softer_db / 20))))
        states.append(recorder.state)
    assert states[0] is TurnState.ENDED
    assert (TurnState.SPEAKING in states) == (resumed is not None)
    assert resumed is None or TurnState.SPEAKING in states[:resumed]


@pytest.mark.parametrize(("between_db", "resumed"), [(99, True), (28, True), (20, False)])
async def test_who_goes_on_after_silence_may_be_softer_than_where_others_may_speak(
    between_db: int, resumed: bool
) -> None:
    recorder = CommandRecording(LoudnessVad(), TurnDetector(EndpointSettings()), threshold=0.5, max_seconds=15)
    parts = [(60, 0), (12, 9.7), (40, between_db), (40, 12.5)]  # windows, and how much softer each is
    for number, (windows, softer_db) in enumerate(parts):
        if number == 3:
            assert recorder.state is TurnState.ENDED
            recorder.turn.listen_on()
        await recorder.feed(sound(windows, round(COMMAND_LEVEL * 10 ** (-softer_db / 20))))
    assert (recorder.state is TurnState.SPEAKING) == resumed


async def test_what_the_speaker_says_softly_for_a_moment_is_part_of_the_command() -> None:
    trailing = COMMAND_LEVEL // 6
    assert await ended_after((60, COMMAND_LEVEL), (12, trailing), (20, COMMAND_LEVEL), (10, 0)) is None


async def test_a_slammed_door_makes_no_background_of_the_command() -> None:
    assert await ended_after((30, 1500), (2, 32_000), (60, 1500)) is None


async def test_the_background_before_a_command_may_be_as_soft_as_it_likes() -> None:
    assert await ended_after((40, 1200), (30, COMMAND_LEVEL), (10, 1200)) is None
    assert await ended_after((70, 1200), (10, 1200)) is None


COMMANDS = sorted((DATA / "commands").glob("*.wav"))


@pytest.fixture(scope="module")
def recordings() -> dict[str, tuple[bytes, list[float]]]:
    """Return what is said in each recorded command, without the silence around it, and Silero's view of that."""
    return asyncio.run(_spoken_parts())


async def _spoken_parts() -> dict[str, tuple[bytes, list[float]]]:
    found = {}
    async with silero() as vad:
        for file in COMMANDS:
            pcm = read_wav(file)
            heard = await vad.stream().feed(pcm)
            spoken = [number for number, probability in enumerate(heard) if probability >= 0.5]
            begin, end = spoken[0], spoken[-1] + 1
            found[file.stem] = pcm[2 * WINDOW_SAMPLES * begin : 2 * WINDOW_SAMPLES * end], heard[begin:end]
    return found


@asynccontextmanager
async def silero() -> AsyncIterator[SileroVad]:
    worker = Worker(Stage.STT, name="vad")
    try:
        vad = SileroVad(worker)
        await worker.run(vad.load)
        yield vad
    finally:
        worker.close()


def power_of(pcm: bytes) -> float:
    return float(np.square(np.frombuffer(pcm, np.int16).astype(np.float32)).mean())


@pytest.mark.parametrize(("softer_db", "most_late", "most_resumed"), [(10, 1, 1), (15, 0, 0)])
async def test_commands_end_while_a_television_speaks_and_are_not_taken_up_again(
    recordings: dict[str, tuple[bytes, list[float]]], softer_db: int, most_late: int, most_resumed: int
) -> None:
    late, resumed = [], []
    async with silero() as vad:
        for name, (command, _) in recordings.items():
            others = b"".join(pcm for other, (pcm, _) in recordings.items() if other != name)
            seconds_before = 0.5
            before = bytes(int(seconds_before * BYTES_PER_SECOND))
            said = np.frombuffer(before + command + bytes(6 * BYTES_PER_SECOND), np.int16).astype(np.float32)
            television = np.resize(np.frombuffer(others, np.int16), len(said)).astype(np.float32)
            television *= (power_of(command) / power_of(others)) ** 0.5 * 10 ** (-softer_db / 20)
            pcm = (said + television).clip(-32768, 32767).astype(np.int16).tobytes()
            recorder = CommandRecording(vad, TurnDetector(EndpointSettings()), threshold=0.5, max_seconds=15)
            ended = math.inf
            for at in range(0, len(pcm), 2 * WINDOW_SAMPLES):
                await recorder.feed(pcm[at : at + 2 * WINDOW_SAMPLES])
                after = at / BYTES_PER_SECOND - seconds_before - len(command) / BYTES_PER_SECOND
                if recorder.state is TurnState.ENDED and ended == math.inf:
                    ended = after
                    recorder.turn.listen_on()
                if after >= ended + 1.5:
                    break
            assert ended > -0.1
            if ended > 1.5:
                late.append(name)
            elif recorder.state is not TurnState.ENDED:
                resumed.append(name)
    assert len(late) <= most_late, late
    assert len(resumed) <= most_resumed, resumed


async def test_no_part_of_a_command_is_background(recordings: dict[str, tuple[bytes, list[float]]]) -> None:
    for name, (pcm, heard) in recordings.items():
        level, in_a_row = VoiceLevel(), 0
        for number, probability in enumerate(heard):
            window = pcm[2 * WINDOW_SAMPLES * number :][: 2 * WINDOW_SAMPLES]
            soft = level.feed(window, probability >= 0.5) > _BACKGROUND_DB and probability >= 0.5
            in_a_row = in_a_row + 1 if soft else 0
            assert in_a_row * LoudnessVad.window_seconds < TRAILING_SECONDS, name


@pytest.mark.parametrize(("soft_windows", "longest_seconds"), [(10, 0.32), (14, 0.45), (60, 0.7)])
async def test_words_that_were_understood_before_a_soft_end_do_not_stand_for_the_command(
    soft_windows: int, longest_seconds: float
) -> None:
    recorder = CommandRecording(LoudnessVad(), TurnDetector(EndpointSettings()), threshold=0.5, max_seconds=15)
    await recorder.feed(sound(60, COMMAND_LEVEL))
    spoken_until = recorder.turn.last_speech_at
    for number in range(soft_windows):
        await recorder.feed(sound(1, COMMAND_LEVEL // 6))
        if number * LoudnessVad.window_seconds < longest_seconds - 0.1:
            assert not recorder.pauses
            assert recorder.turn.last_speech_at == recorder.turn.seconds
    soft_seconds = soft_windows * LoudnessVad.window_seconds
    assert recorder.turn.last_speech_at - spoken_until == pytest.approx(min(soft_seconds, longest_seconds), abs=0.1)
