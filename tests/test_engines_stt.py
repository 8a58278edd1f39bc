"""Whisper on real recordings: words are heard, silence and noise are not, and decoding never runs away."""

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from satellite.config.settings import SttSettings
from satellite.engines.protocols import Transcription
from satellite.engines.stt.whisper import WhisperTranscriber, _segments
from satellite.engines.stt.whisper_text import echoes, loop_at, text_of
from satellite.engines.vad import SileroVad
from satellite.engines.worker import Worker
from satellite.errors import SpeechToTextError, Stage
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.models.store import Store

DATA = Path(__file__).parent / "data"
COMMANDS = sorted((DATA / "commands").glob("*.wav"))


class Ears:
    """A loaded VAD and Whisper model."""

    def __init__(self, models: Path, settings: SttSettings) -> None:
        self.worker = Worker(Stage.STT)
        self.vad = SileroVad(self.worker)
        self.vad.load()
        spec = catalogue.find(Kind.STT, settings.model)
        self.whisper = WhisperTranscriber(
            settings, self.worker, languages=spec.languages, window_floor_seconds=spec.window_floor_seconds
        )
        self.whisper.load(Store(models).path(spec))

    async def hear(self, pcm: bytes, **options: str | tuple[str, ...]) -> Transcription:
        """Return the words in `pcm`."""
        speech = await self.vad.stream().feed(pcm)
        return await self.whisper.transcribe(pcm, speech=speech, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ears(models_directory: Path) -> Iterator[Ears]:
    """The default model."""
    loaded = Ears(models_directory, SttSettings(threads=2))
    yield loaded
    loaded.worker.close()


def words(text: str) -> list[str]:
    """Return the words of `text` without case and punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower())


def noise(seconds: float, level: float, colour: float = 0.0) -> bytes:
    """Return seeded noise; `colour` 0 is white, near 1 is brown."""
    samples = np.random.default_rng(1).normal(0, level, int(seconds * 16000))
    for at in range(1, len(samples) if colour else 0):
        samples[at] += colour * samples[at - 1]
    return bytes(np.clip(samples, -32768, 32767).astype(np.int16).tobytes())


@pytest.mark.models
async def test_commands_are_understood(ears: Ears) -> None:
    """Of the words in the recorded commands, few are missed: no gate swallows a real command."""
    wrong = total = 0
    for wav in COMMANDS:
        expected = words(wav.with_suffix(".txt").read_text())
        heard = words((await ears.hear(read_wav(wav))).text)
        assert heard, f"{wav.name} came out empty"
        total += len(expected)
        wrong += len(set(expected) ^ set(heard))
    assert wrong / total < 0.3


@pytest.mark.models
@pytest.mark.parametrize("name", ["silence", "background_noise", "music"])
async def test_what_is_no_speech_gives_no_words(ears: Ears, name: str) -> None:
    """Silence, a room's noise and music are an empty text, not invented words."""
    assert (await ears.hear(read_wav(DATA / "other" / f"{name}.wav"))).text == ""


@pytest.mark.models
@pytest.mark.parametrize(("level", "colour"), [(0, 0.0), (30, 0.0), (3000, 0.0), (300, 0.98)])
async def test_synthetic_noise_gives_no_words(ears: Ears, level: float, colour: float) -> None:
    """Digital silence, hiss, loud white noise and a rumble are empty as well."""
    assert (await ears.hear(noise(6, level, colour))).text == ""


@pytest.mark.models
async def test_the_models_own_doubt_is_the_second_gate(ears: Ears) -> None:
    """Noise that the VAD lets through is dropped where the model itself sees no speech in it."""
    pcm = noise(6, 2000)
    assert (await ears.whisper.transcribe(pcm, speech=[1.0] * (len(pcm) // 1024))).text == ""


@pytest.mark.models
async def test_a_command_in_any_format_is_understood(ears: Ears) -> None:
    """44.1 kHz in stereo is as good as 16 kHz."""
    text = (await ears.hear(read_wav(DATA / "other" / "turn_on_the_living_room_lamp_44k_stereo.wav"))).text
    assert words(text) == words("turn on the living room lamp")


@pytest.mark.models
async def test_a_quiet_command_between_silences_is_found(ears: Ears) -> None:
    """Long silence around a quiet command changes nothing."""
    samples = np.frombuffer(read_wav(DATA / "commands" / "turn_on_the_lights.wav"), np.int16)
    quiet = (samples * 0.1).astype(np.int16).tobytes()
    pcm = bytes(4 * BYTES_PER_SECOND) + quiet + bytes(5 * BYTES_PER_SECOND)
    assert words((await ears.hear(pcm)).text) == words("turn on the lights")


@pytest.mark.models
async def test_long_audio_is_transcribed_whole(ears: Ears) -> None:
    """A minute of commands comes out with the words of all of them, though the model sees 30 s at once."""
    recordings = [read_wav(wav) + bytes(BYTES_PER_SECOND) for wav in COMMANDS] * 2
    pcm = b"".join(recordings)
    assert len(pcm) > 45 * BYTES_PER_SECOND
    heard = words((await ears.hear(pcm)).text)
    for expected in ("lights", "garage", "timer", "office"):
        assert heard.count(expected) >= 2


@pytest.mark.models
async def test_vocabulary_helps_with_names(ears: Ears) -> None:
    """A name that is expected is spelt as expected; a hint never costs the command."""
    pcm = read_wav(DATA / "commands" / "turn_on_the_lights.wav")
    assert words((await ears.hear(pcm, vocabulary=("Ecobee", "Zigbee lamp"))).text) == words("turn on the lights")


@pytest.mark.models
@pytest.mark.parametrize("language", ["en", "en-GB", "en_US", "EN"])
async def test_regions_of_a_language_are_the_language(ears: Ears, language: str) -> None:
    """Home Assistant's codes with a region are understood."""
    assert (await ears.hear(read_wav(COMMANDS[0]), language=language)).language == "en"


@pytest.mark.models
async def test_a_language_the_model_lacks_is_an_error(ears: Ears) -> None:
    """French for an English model is refused, not guessed at."""
    with pytest.raises(SpeechToTextError) as caught:
        await ears.hear(read_wav(COMMANDS[0]), language="fr")
    assert caught.value.code == "stt-unsupported-language"


@pytest.mark.models
async def test_the_model_tells_of_its_work(models_directory: Path) -> None:
    """How long a command takes is known from the first on; on a CPU there is nothing to warm up."""
    ears = Ears(models_directory, SttSettings(threads=2, window_floor_seconds=10))
    assert ears.whisper.window_floor_seconds == 10
    assert (ears.whisper.usual_seconds, ears.whisper.idle) == (None, True)
    ears.whisper.prepare()
    assert ears.whisper.idle
    await ears.hear(read_wav(DATA / "commands" / "turn_on_the_lights.wav"))
    assert ears.whisper.usual_seconds is not None
    assert ears.whisper.counts == {"decoded": 1, "full_window_retries": 0, "abandoned": 0}
    ears.worker.close()


class Slow:
    """A loaded Whisper model whose encoder works until it may go on."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.entered, self.may_go_on = threading.Event(), threading.Event()
        self.generated = 0

    def encode(self, features: Any) -> Any:
        """Take long."""
        self.entered.set()
        assert self.may_go_on.wait(60)
        return self._model.encode(features)

    def generate(self, *args: Any, **options: Any) -> Any:
        """Count."""
        self.generated += 1
        return self._model.generate(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@pytest.mark.models
async def test_a_transcription_that_nobody_wants_any_more_is_given_up(models_directory: Path) -> None:
    """Who speaks on after a hesitation waits for the encoder at most, not for words that nobody will read."""
    ears = Ears(models_directory, SttSettings(threads=2))
    slow = ears.whisper._whisper = Slow(ears.whisper._whisper)
    pcm = read_wav(DATA / "commands" / "turn_on_the_lights.wav")
    speech = await ears.vad.stream().feed(pcm)
    first = asyncio.create_task(ears.whisper.transcribe(pcm, speech=speech))
    await asyncio.to_thread(slow.entered.wait, 60)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    slow.may_go_on.set()
    assert "lights" in (await ears.whisper.transcribe(pcm, speech=speech)).text
    assert slow.generated == 1
    assert ears.whisper.counts == {"decoded": 1, "full_window_retries": 0, "abandoned": 1}
    ears.worker.close()


@pytest.mark.models
async def test_others_have_their_turn_between_the_parts_of_a_long_recording(ears: Ears) -> None:
    """Whoever speaks a command meanwhile does not wait for all of it."""
    command = read_wav(DATA / "commands" / "turn_on_the_lights.wav")
    long = command * 20
    assert len(list(_segments([True] * (len(long) // 1024), len(long) // 2))) > 1
    done: list[str] = []

    async def hear(name: str, pcm: bytes) -> None:
        speech = await ears.vad.stream().feed(pcm)
        await ears.whisper.transcribe(pcm, speech=speech)
        done.append(name)

    await asyncio.gather(hear("long", long), hear("short", command))
    assert done == ["short", "long"]


@pytest.mark.models
async def test_what_repeats_itself_is_decoded_once_more(models_directory: Path) -> None:
    """In a window that is far too short tiny.en repeats itself; over the full one it does not."""
    ears = Ears(models_directory, SttSettings(threads=2, window_floor_seconds=1))
    for wav in COMMANDS:
        text = (await ears.hear(read_wav(wav))).text
        assert loop_at(text.split()) is None
    assert ears.whisper.counts["decoded"] == len(COMMANDS)
    assert ears.whisper.counts["full_window_retries"] <= len(COMMANDS)
    ears.worker.close()


@pytest.mark.models
async def test_two_sentences_are_heard_once(models_directory: Path) -> None:
    """In a short window tiny.en may say the last one, or both, again; whether it does depends on the processor."""
    pcm = b"".join(
        read_wav(DATA / "commands" / f"{name}.wav") for name in ("set_a_timer_for_1_hour", "set_lights_to_red")
    )
    ears = Ears(models_directory, SttSettings(threads=2))
    assert words((await ears.hear(pcm)).text) == words("set a timer for one hour set lights to red")
    ears.worker.close()


@pytest.mark.models
async def test_beam_search_works(models_directory: Path) -> None:
    """A wider beam gives the same words on a clear command."""
    ears = Ears(models_directory, SttSettings(threads=2, beam_size=5, compute_type="float32"))
    assert words((await ears.hear(read_wav(DATA / "commands" / "turn_on_the_lights.wav"))).text) == words(
        "turn on the lights"
    )
    assert ears.whisper.device == "cpu float32"
    ears.worker.close()


@pytest.mark.models
def test_cuda_demanded_where_there_is_none_is_an_error(models_directory: Path) -> None:
    """No silent fall back: `device: cuda` fails with the reason on a machine without CUDA."""
    import ctranslate2

    if ctranslate2.get_cuda_device_count():
        assert Ears(models_directory, SttSettings(device="cuda")).whisper.device.startswith("cuda")
        return
    with pytest.raises(SpeechToTextError, match="no CUDA device") as caught:
        Ears(models_directory, SttSettings(device="cuda"))
    assert caught.value.code == "stt-not-ready"


@pytest.mark.models
def test_a_damaged_model_is_an_error(tmp_path: Path) -> None:
    """A folder that holds no model says which and why."""
    (tmp_path / "model.bin").write_bytes(b"no model")
    whisper = WhisperTranscriber(SttSettings(), Worker(Stage.STT), languages=("en",), window_floor_seconds=12.0)
    with pytest.raises(SpeechToTextError, match=r"tiny\.en cannot be loaded"):
        whisper.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        ("the light the light the light the light", (0, 2)),
        ("and so on, on on. On", (2, 1)),
        ("turn on turn on turn on", None),
        ("one two three four one two three four", None),
        ("no no no", None),
        ("", None),
    ],
)
def test_loops_are_recognised(text: str, loop: tuple[int, int] | None) -> None:
    """Four times the same phrase in a row is a loop; a list or a refrain is not."""
    assert loop_at(text.split()) == loop


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ("Set lights to red. Set lights to red.", True),
        ("Set a timer. Open the blinds in the office. Open the blinds in the office. Open the", True),
        ("turn on turn on the light", False),
        ("no no no no", False),
        ("turn on the lights in the kitchen and turn on the lights", False),
        ("", False),
    ],
)
def test_echoes_are_recognised(text: str, does: bool) -> None:
    """Three words or more twice in a row; a stutter is none, nor is what comes again later."""
    assert echoes(text.split()) is does


@pytest.mark.models
def test_tokens_spelltext_of(models_directory: Path) -> None:
    """Our reading of tokens is the tokenizer's, in any script."""
    import tokenizers

    folder = Store(models_directory).path(catalogue.find(Kind.STT, "tiny.en"))
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in ("Turn on the lights.", "Ça va très bien !", "今日は 🎉", "a\tb\x00c", "ß–“”…"):
        assert text_of(["<|startoftranscript|>", *tokenizer.encode(text, add_special_tokens=False).tokens]) == text


def test_long_speech_is_cut_in_its_pauses() -> None:
    """Every segment fits the window, covers all speech, and the cut lies in silence."""
    spoken = [True] * 600 + [False] * 40 + [True] * 500
    segments = list(_segments(spoken, len(spoken) * 512))
    assert len(segments) == 2
    assert segments[0][0] == 0
    assert 600 * 512 < segments[0][1] < 640 * 512
    assert all(end - start <= 30 * 16000 for start, end in segments)
    endless = [True] * 3000
    assert all(end - start <= 30 * 16000 for start, end in _segments(endless, len(endless) * 512))
