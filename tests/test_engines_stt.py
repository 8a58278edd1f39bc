"""Whisper on real recordings: words are transcribed, silence and noise are not, and decoding never runs away."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soxr

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from satellite.audio.word_errors import edit_distance
from satellite.config.settings import SttSettings
from satellite.engines.protocols import Transcription
from satellite.engines.stt import whisper
from satellite.engines.stt.segments import pause_before_lost_words, segments, without_text
from satellite.engines.stt.whisper import WhisperTranscriber, _Request
from satellite.engines.stt.whisper_text import Decoded, Span, echoes, likeliest, loop_at, spans_of, text_of
from satellite.engines.vad import SileroVad
from satellite.engines.worker import Worker
from satellite.errors import SpeechToTextError, Stage
from satellite.models.demo_set import TINY_EN
from satellite.models.store import Store

DATA = Path(__file__).parent / "data"
COMMANDS = sorted((DATA / "commands").glob("*.wav"))


class Ears:
    """A loaded VAD and Whisper model."""

    def __init__(self, models: Path, settings: SttSettings) -> None:
        self.worker = Worker(Stage.STT)
        self.vad = SileroVad(self.worker)
        self.vad.load()
        self.whisper = WhisperTranscriber(
            settings, self.worker, languages=TINY_EN.languages, window_floor_seconds=TINY_EN.window_floor_seconds
        )
        self.whisper.load(Store(models).path(TINY_EN))

    async def hear(self, pcm: bytes, **options: str | tuple[str, ...]) -> Transcription:
        speech = await self.vad.stream(levelled=True).feed(pcm)
        return await self.whisper.transcribe(pcm, speech=speech, **options)  # type: ignore[arg-type]


Load = Callable[..., Ears]


@pytest.fixture(scope="module")
def load(models_directory: Path) -> Iterator[Load]:
    """Load the default model with settings of its own, in two threads."""
    loaded: list[Ears] = []

    def load(**settings: Any) -> Ears:
        loaded.append(Ears(models_directory, SttSettings(**{"threads": 2, **settings})))
        return loaded[-1]

    yield load
    for ears in loaded:
        ears.worker.close()


@pytest.fixture(scope="module")
def ears(load: Load) -> Ears:
    return load()


def recording(name: str) -> bytes:
    return read_wav(DATA / f"{name}.wav")


LIGHTS = recording("commands/turn_on_the_lights")


def words(text: str) -> list[str]:
    """Return the words of `text` without case and punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower())


def noise(seconds: float, level: float, colour: float = 0.0) -> bytes:
    """Return seeded noise; `colour` 0 is white, near 1 is brown."""
    samples = np.random.default_rng(1).normal(0, level, int(seconds * 16000))
    for at in range(1, len(samples) if colour else 0):
        samples[at] += colour * samples[at - 1]
    return bytes(np.clip(samples, -32768, 32767).astype(np.int16).tobytes())


async def test_commands_are_understood(ears: Ears) -> None:
    wrong = total = 0
    for wav in COMMANDS:
        expected = words(wav.with_suffix(".txt").read_text())
        heard = words((await ears.hear(read_wav(wav))).text)
        assert heard, f"{wav.name} came out empty"
        total += len(expected)
        wrong += len(set(expected) ^ set(heard))
    assert wrong / total < 0.3


SOFT = (np.frombuffer(LIGHTS, np.int16) * 0.1).astype(np.int16).tobytes()


@pytest.mark.parametrize(
    ("pcm", "expected"),
    [
        pytest.param(
            recording("other/turn_on_the_living_room_lamp_44k_stereo"), "turn on the living room lamp", id="44 kHz"
        ),
        pytest.param(
            bytes(4 * BYTES_PER_SECOND) + SOFT + bytes(5 * BYTES_PER_SECOND),
            "turn on the lights",
            id="soft, in silence",
        ),
        pytest.param(
            recording("commands/set_a_timer_for_1_hour") + recording("commands/set_lights_to_red"),
            "set a timer for one hour set lights to red",
            id="two sentences",
        ),
    ],
)
async def test_every_word_of_a_recording_is_transcribed_once(ears: Ears, pcm: bytes, expected: str) -> None:
    assert words((await ears.hear(pcm)).text) == words(expected)


async def test_dense_speech_is_decoded_with_timestamps_too(ears: Ears) -> None:
    """Commands that follow one another without a pause, of which one decode may leave out some."""
    said, expected = b"", ""
    for clip in COMMANDS:
        samples = np.frombuffer(read_wav(clip), np.int16)
        loud = np.flatnonzero(np.abs(samples.astype(int)) > 300)
        said += samples[loud[0] : loud[-1] + 1].tobytes()
        expected += f" {clip.with_suffix('.txt').read_text().strip()}"
    before = ears.whisper.counts["decoded"]
    heard = await ears.hear(said)
    assert ears.whisper.counts["decoded"] >= before + 2
    assert edit_distance(words(expected), words(heard.text)) < len(words(expected)) / 4


async def test_a_command_is_decoded_once(ears: Ears) -> None:
    before = ears.whisper.counts["decoded"]
    await ears.hear(recording("commands/is_the_garage_door_open"))
    assert ears.whisper.counts["decoded"] == before + 1


def test_what_timestamps_leave_out_is_found() -> None:
    tokens = ["<|0.00|>", "ĠTurn", "Ġon.", "<|2.00|>", "<|5.00|>", "ĠNext."]
    assert spans_of(tokens, 6.0) == [Span(0.0, 2.0, "Turn on."), Span(5.0, 6.0, "Next.")]
    second = 16000
    spoken = [True] * (6 * second // 512)
    assert list(without_text(spoken, 0, 6 * second, [(0.0, 2.0), (5.0, 6.0)])) == [(2 * second, 5 * second)]
    assert not list(without_text(spoken, 0, 6 * second, [(0.0, 2.9), (3.4, 6.0)]))
    assert not list(without_text([False] * len(spoken), 0, 6 * second, [(0.0, 1.0)]))


def resampled(pcm: bytes, *rates: int) -> bytes:
    """Return `pcm` after conversion from each of `rates` to the next."""
    samples = np.frombuffer(pcm, np.int16)
    for source, target in pairwise(rates):
        samples = soxr.resample(samples, source, target)
    return samples.astype(np.int16).tobytes()


def louder(pcm: bytes, decibels: float) -> bytes:
    samples = np.frombuffer(pcm, np.int16) * 10 ** (decibels / 20)
    return np.clip(np.round(samples), -32768, 32767).astype(np.int16).tobytes()


def shifted(pcm: bytes) -> bytes:
    return (np.frombuffer(pcm, np.int16) + 10_000).astype(np.int16).tobytes()


@pytest.mark.parametrize(
    "distort",
    [
        pytest.param(lambda pcm: louder(pcm, -45), id="-45 dB"),
        pytest.param(lambda pcm: louder(pcm, -55), id="-55 dB"),
        pytest.param(lambda pcm: louder(pcm, 20), id="clipped"),
        pytest.param(lambda pcm: shifted(louder(pcm, -40)), id="-40 dB, with an offset"),
        pytest.param(lambda pcm: resampled(pcm, 16000, 8000, 16000), id="telephone"),
        pytest.param(lambda pcm: louder(resampled(pcm, 16000, 8000, 16000), -30), id="telephone, -30 dB"),
    ],
)
async def test_quiet_and_narrow_and_clipped_voices_are_understood(
    ears: Ears, distort: Callable[[bytes], bytes]
) -> None:
    pcm = distort(recording("commands/what_time_is_it"))
    assert words((await ears.hear(pcm)).text) == words("what time is it")


async def test_fast_speech_keeps_its_end(ears: Ears) -> None:
    said = ("set_a_timer_for_1_hour", "set_lights_to_red", "turn_on_the_lights", "set_a_timer_for_1_hour")
    pcm = b"".join(recording(f"commands/{name}") for name in said)
    heard = (await ears.hear(resampled(pcm, 24000, 16000))).text
    assert words(heard)[-2:] == ["one", "hour"]


async def test_as_many_words_are_decoded_as_the_limit_says(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper, "_TOKENS_PER_SECOND", 0)
    for tokens, said in ((4, "turn on the lights"), (3, "turn on the")):
        monkeypatch.setattr(whisper, "_SPARE_TOKENS", tokens)
        assert words((await ears.hear(LIGHTS)).text) == words(said)


@pytest.mark.parametrize(
    "sound",
    [
        *(recording(f"other/{name}") for name in ("silence", "background_noise", "music")),
        *(noise(6, *one) for one in ((0, 0.0), (30, 0.0), (3000, 0.0), (300, 0.98))),
    ],
    ids=["silence", "room", "music", "digital silence", "hiss", "white", "rumble"],
)
async def test_what_is_no_speech_gives_no_words(ears: Ears, sound: bytes) -> None:
    assert (await ears.hear(sound)).text == ""


async def test_the_models_own_doubt_rejects_noise_too(ears: Ears) -> None:
    pcm = noise(6, 2000)
    assert (await ears.whisper.transcribe(pcm, speech=[1.0] * (len(pcm) // 1024))).text == ""


async def test_long_audio_is_transcribed_whole(ears: Ears) -> None:
    pcm = b"".join(read_wav(wav) + bytes(BYTES_PER_SECOND) for wav in COMMANDS * 2)
    assert len(pcm) > 45 * BYTES_PER_SECOND
    heard = words((await ears.hear(pcm)).text)
    for expected in ("lights", "garage", "timer", "office"):
        assert heard.count(expected) >= 2


async def test_regions_of_a_language_are_the_language_and_others_are_errors(ears: Ears) -> None:
    for language in ("en", "en-GB", "en_US", "EN"):
        assert (await ears.hear(LIGHTS, language=language)).language == "en"
    with pytest.raises(SpeechToTextError, check=lambda error: error.code == "stt-unsupported-language"):
        await ears.hear(LIGHTS, language="fr")


async def test_the_model_reports_its_work(load: Load) -> None:
    transcriber = (ears := load(window_floor_seconds=10)).whisper
    assert transcriber.window_floor_seconds == 10
    assert (transcriber.usual_seconds, transcriber.idle) == (None, True)
    transcriber.prepare()
    assert transcriber.idle
    await ears.hear(LIGHTS)
    assert transcriber.usual_seconds is not None
    assert transcriber.counts == {"decoded": 1, "full_window_retries": 0, "abandoned": 0}


async def test_a_cancelled_transcription_ends_after_the_current_step(load: Load) -> None:
    ears = load()
    model = ears.whisper._whisper
    entered, may_continue = threading.Event(), threading.Event()
    generated: list[None] = []

    class SlowModel:
        def encode(self, features: Any) -> Any:
            entered.set()
            assert may_continue.wait(60)
            return model.encode(features)

        def generate(self, *args: Any, **options: Any) -> Any:
            generated.append(None)
            return model.generate(*args, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

    ears.whisper._whisper = SlowModel()
    first = asyncio.create_task(ears.hear(LIGHTS))
    await asyncio.to_thread(entered.wait, 60)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    may_continue.set()
    assert "lights" in (await ears.hear(LIGHTS)).text
    assert len(generated) == 1
    assert ears.whisper.counts == {"decoded": 1, "full_window_retries": 0, "abandoned": 1}


async def test_requests_take_turns_between_the_parts_of_a_long_recording(ears: Ears) -> None:
    long = LIGHTS * 20
    assert len(list(segments([True] * (len(long) // 1024), len(long) // 2, 10))) > 1
    done: list[str] = []

    async def hear(name: str, pcm: bytes) -> None:
        await ears.hear(pcm)
        done.append(name)

    await asyncio.gather(hear("long", long), hear("short", LIGHTS))
    assert done == ["short", "long"]


async def test_a_command_waits_for_its_turn_once(ears: Ears) -> None:
    before = ears.worker.completed
    await ears.whisper.transcribe(LIGHTS, speech=[1.0] * (len(LIGHTS) // 1024))
    assert ears.worker.completed == before + 1


def test_the_usual_time_is_without_the_time_of_others(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    transcriber = load().whisper
    monkeypatch.setattr(transcriber, "_text", lambda *_: ("Lights.", "en"))
    pieces = transcriber._pieces(LIGHTS * 20, [True] * (len(LIGHTS) * 20 // 1024), "en", _Request(()))
    next(pieces)
    time.sleep(0.2)
    assert [is_last for _, is_last in pieces][-1]
    assert transcriber.usual_seconds is not None
    assert transcriber.usual_seconds < 0.2


async def test_what_repeats_itself_is_decoded_once_more(load: Load) -> None:
    ears = load(window_floor_seconds=1)
    for wav in COMMANDS:
        assert loop_at((await ears.hear(read_wav(wav))).text.split()) is None
    assert ears.whisper.counts["decoded"] == len(COMMANDS)
    assert ears.whisper.counts["full_window_retries"] <= len(COMMANDS)


async def test_what_a_beam_says_twice_is_decoded_greedily_from_the_same_encoding(load: Load) -> None:
    ears = load()
    model = ears.whisper._whisper
    beams: list[int] = []

    class Echoing:
        def generate(self, *args: Any, beam_size: int, **options: Any) -> Any:
            beams.append(beam_size)
            (heard,) = model.generate(*args, beam_size=1, **options)
            said = heard.sequences[0] * min(2, beam_size)
            return [SimpleNamespace(sequences=[said], scores=heard.scores, no_speech_prob=heard.no_speech_prob)]

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

    ears.whisper._whisper = Echoing()
    assert words((await ears.hear(recording("commands/next_track"))).text) == ["next", "track"]
    assert beams == [2, 1]
    assert ears.whisper.counts["full_window_retries"] == 0


async def test_beam_search_and_vocabulary_cost_no_word(load: Load) -> None:
    ears = load(beam_size=5, compute_type="float32")
    for vocabulary in ((), ("Ecobee", "Zigbee lamp")):
        assert words((await ears.hear(LIGHTS, vocabulary=vocabulary)).text) == words("turn on the lights")
    assert ears.whisper.device == "cpu float32"


def test_a_damaged_model_and_required_cuda_where_there_is_none_are_errors(tmp_path: Path) -> None:
    import ctranslate2

    (tmp_path / "model.bin").write_bytes(b"no model at all")
    damaged = rf"tiny\.en cannot be loaded from {re.escape(str(tmp_path))}: model\.bin is damaged.*models pull"
    no_cuda = damaged if ctranslate2.get_cuda_device_count() else "CTranslate2 sees no CUDA device"
    for device, reason in (("cpu", damaged), ("cuda", no_cuda)):
        settings = SttSettings.model_validate({"device": device})
        transcriber = WhisperTranscriber(settings, Worker(Stage.STT), languages=("en",), window_floor_seconds=12.0)
        with pytest.raises(SpeechToTextError, match=reason):
            transcriber.load(tmp_path)


@pytest.mark.parametrize(
    ("spoken", "language"),
    [((), "it"), (("fr", "en"), "fr"), (("en", "fr"), "fr"), (("en", "de"), "en"), (("ja",), "it")],
)
def test_the_likeliest_of_the_languages_of_a_house_is_heard(spoken: tuple[str, ...], language: str) -> None:
    detected = [("<|it|>", 0.4), ("<|fr|>", 0.3), ("<|en|>", 0.2), ("<|de|>", 0.1)]
    assert likeliest(detected, spoken) == language


@pytest.mark.parametrize(
    ("text", "loop", "is_echo"),
    [
        ("the light the light the light the light", (0, 2), True),
        ("and so on, on on. On", (2, 1), False),
        ("turn on turn on turn on", None, False),
        ("one two three four one two three four", None, True),
        ("no no no", None, False),
        ("", None, False),
        ("Set lights to red. Set lights to red.", None, True),
        ("Set a timer. Open the blinds in the office. Open the blinds in the office. Open the", None, True),
        ("turn on turn on the light", None, False),
        ("no no no no", (0, 1), False),
        ("Next track. Next track.", None, True),
        ("well well well done", None, False),
        ("turn on the lights in the kitchen and turn on the lights", None, False),
    ],
)
def test_loops_and_echoes_are_recognised(text: str, loop: tuple[int, int] | None, is_echo: bool) -> None:
    assert (loop_at(text.split()), echoes(text.split())) == (loop, is_echo)


@pytest.mark.parametrize("text", ["Turn on the lights.", "Ça va très bien !", "今日は 🎉", "a\tb\x00c", "ß–“”…"])
def test_tokens_are_read_as_the_tokenizer_reads_them(models_directory: Path, text: str) -> None:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(Store(models_directory).path(TINY_EN) / "tokenizer.json"))
    assert text_of(["<|startoftranscript|>", *tokenizer.encode(text, add_special_tokens=False).tokens]) == text


def test_long_speech_is_cut_in_its_pauses() -> None:
    spoken, endless = [True] * 600 + [False] * 40 + [True] * 500, [True] * 3000
    (begin, cut), last = segments(spoken, len(spoken) * 512, 10)
    assert begin == 0
    assert 600 * 512 < cut < 640 * 512
    cuts = [(begin, cut), last, *segments(endless, len(endless) * 512, 10)]
    assert all(end - start <= 30 * 16000 for start, end in cuts)
    assert all(end == start for (_, end), (start, _) in pairwise(cuts[2:]))


async def test_a_vocabulary_changes_a_text_only_to_a_name_in_it(ears: Ears) -> None:
    names = ("Ecobee", "Sliding Door", "Bed Light", "Party Time", "Mood Lighting")
    for wav in COMMANDS:
        plain = (await ears.hear(read_wav(wav))).text
        hinted = (await ears.hear(read_wav(wav), vocabulary=names)).text
        assert hinted == plain or any(name.lower() in hinted.lower() for name in names)


def test_names_are_found_whatever_their_case_and_punctuation() -> None:
    decoded = Decoded("Open the sliding door, please.", "en", -0.1, 0.0, capped=False)
    assert decoded.names(("Sliding Door", "Bed Light", "door")) == 2
    assert decoded.names(("lid", "slid")) == 0


def test_a_pause_longer_than_a_window_is_in_no_segment() -> None:
    spoken = [True] * 100 + [False] * 4000 + [True] * 100
    first, second = segments(spoken, len(spoken) * 512, 10)
    assert first[0] == 0
    assert 100 * 512 < first[1] < 130 * 512
    assert 4080 * 512 < second[0] < 4100 * 512
    assert second[1] == len(spoken) * 512


def test_words_are_missing_where_a_pause_is_followed_by_speech_without_text() -> None:
    spoken = [True] * 40 + [False] * 20 + [True] * 40
    assert pause_before_lost_words(spoken, 0, 512 * 100, "Set a timer for twenty-five minutes.") is None
    assert pause_before_lost_words(spoken, 0, 512 * 100, "Set a timer.") == 50 * 512
    assert pause_before_lost_words(spoken, 0, 512 * 100, "请把客厅里的灯打开好吗？") is None
    assert pause_before_lost_words([True] * 100, 0, 512 * 100, "Set a timer.") is None  # perhaps a slow speaker
    assert pause_before_lost_words([*spoken[30:60], *spoken[90:]], 0, 512 * 50, "") is None  # too short to tell
