"""Text to speech by Piper in process: several voices resident, loaded on demand, each at one constant gain.

Piper scales every sentence to full loudness by itself, so that a whispered sentence comes out as loud as a shout and
pieces of one answer jump in level. Here a voice's gain is measured once, when it is loaded, and never changes.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from satellite.audio.pcm import AudioFormat
from satellite.config.settings import TtsSettings, cpu_threads, nearest
from satellite.engines.cuda import load_for_onnxruntime
from satellite.engines.protocols import Voice, VoiceChoice
from satellite.engines.tts.voice_choice import choose_voice
from satellite.engines.tts.windows import Timeline
from satellite.engines.worker import Worker
from satellite.errors import TextToSpeechError, shown

if TYPE_CHECKING:
    from satellite.engines.tts.piper import PiperVoice
    from satellite.engines.tts.vits import Samples

_LOGGER = logging.getLogger(__name__)

_PEAK = 0.8
"""Where the calibration text's peak is put; the rest is headroom for louder sentences."""

_SILENT = 1e-3

VoiceFiles = Callable[[], Sequence[tuple[Voice, Path]]]
"""Returns the voices on disk with their .onnx files, the default first."""


class PiperSpeaker:
    """One loaded voice with one speaker."""

    def __init__(
        self, voice: Voice, piper: "PiperVoice", settings: TtsSettings, speaker_id: int | None, worker: Worker
    ) -> None:
        self.voice = voice
        self.format = AudioFormat(rate=piper.config.sample_rate)
        self.identity = f"{piper.digest}/{speaker_id}"
        self.gain = 1.0
        """Factor on the network's samples; the same for every text of a voice."""

        self._piper = piper
        self._settings = settings
        self._speaker_id = speaker_id
        self._worker = worker

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """Yield `text` as PCM in `format`, window by window; see `Speaker`. Raises `TextToSpeechError`.

        Every window is a call of its own in the engine's thread: whoever leaves stops the work after the present one,
        and those who speak at the same time take turns.
        """
        sound = self._sound(text)
        while (pcm := await self._worker.run(next, sound, None)) is not None:
            if pcm:
                yield pcm

    def paced(self, speed: float) -> "PiperSpeaker":
        """Return it, speaking so many times as fast as is configured from now on."""
        if speed != 1:
            length_scale = self._piper.scales(self._settings)[1] / speed
            self._settings = self._settings.model_copy(update={"length_scale": length_scale})
            self.identity += f"/{length_scale}"
        return self

    def measured_gain(self) -> float:
        """Return the gain that suits the voice; blocking."""
        circumstances = {"speaker": self._speaker_id, "scales": list(self._piper.scales(self._settings))}
        peak = self._piper.remembered.get("peak", circumstances, self._measured_peak)
        return _PEAK / peak * self._settings.volume if peak > _SILENT else self._settings.volume

    def _measured_peak(self) -> float:
        from satellite.engines.tts.piper import CALIBRATION

        return max(
            (float(abs(samples).max()) for samples, _ in self._windows(CALIBRATION) if len(samples)), default=0.0
        )

    def _sound(self, text: str) -> Iterator[bytes]:
        import numpy as np

        from satellite.engines.tts.piper import LeadingSilence

        silence = LeadingSilence(self.format.rate, self._settings.volume)
        for samples, timeline in self._windows(text):
            heard = silence.trim(np.clip(samples * self.gain, -1.0, 1.0))
            if len(heard):
                timeline.add(len(heard) / self.format.rate)
            yield (heard * 32767).astype(np.int16).tobytes()

    def _windows(self, text: str) -> Iterator[tuple["Samples", Timeline]]:
        timeline = Timeline()
        for feed in self._piper.feeds(text, self._settings, self._speaker_id):
            for samples in self._piper.windows(feed, timeline):
                yield samples, timeline


class PiperSynthesizer:
    """A `Synthesizer`. At most `max_loaded_voices` are in memory; the one unused longest goes."""

    def __init__(self, settings: TtsSettings, files: VoiceFiles, parts: Path, worker: Worker) -> None:
        """Speak with the voices in `files`, whose parts are kept in the folder `parts`."""
        self.device = "not loaded"
        """Where the voices really run: `cpu` or `cuda`."""

        self._settings = settings
        self._files = files
        self._parts = parts
        self._worker = worker
        self._loaded: OrderedDict[str, tuple[Voice, PiperVoice]] = OrderedDict()
        self._lock = threading.Lock()  # of the voices in memory
        self._refused: dict[str, Voice] = {}
        self._gains: dict[str, float] = {}
        """By `Speaker.identity`: those of one voice are not equally loud."""

        self._providers: list[Any] = []

    def load(self) -> None:
        """Load the default voice; blocking. Raises `TextToSpeechError`."""
        self._providers = _providers(self._settings.device)
        self._speaker(VoiceChoice())

    @property
    def voices(self) -> Sequence[Voice]:
        """All voices that are present, the default first."""
        return [voice for voice, _ in self._files()]

    async def speaker(self, choice: VoiceChoice) -> PiperSpeaker:
        """Load, if need be, the voice that `choice` means: by name, else by language, else the default.

        Raises `TextToSpeechError` of the kind `unknown-voice`, `unknown-speaker` or `unsupported-language`.
        """
        voice, _ = self._choose(choice)
        if (piper := self._resident(voice)) is not None:
            speaker = self._made(voice, piper, choice)
            if speaker.identity in self._gains:
                speaker.gain = self._gains[speaker.identity]
                return speaker.paced(choice.speed)  # nothing to load: no need to queue behind somebody's sentence
        return await self._worker.run(self._speaker, choice)

    def _speaker(self, choice: VoiceChoice) -> PiperSpeaker:
        voice, file = self._choose(choice)
        speaker = self._made(voice, self._resident(voice) or self._load(voice, file), choice)
        if speaker.identity not in self._gains:
            self._gains[speaker.identity] = speaker.measured_gain()
        speaker.gain = self._gains[speaker.identity]
        return speaker.paced(choice.speed)

    def _made(self, voice: Voice, piper: "PiperVoice", choice: VoiceChoice) -> PiperSpeaker:
        is_configured = voice.name == self._settings.voice and piper.config.speaker_id_map
        wanted = choice.speaker or (self._settings.speaker if is_configured else None)
        return PiperSpeaker(voice, piper, self._settings, _speaker_id(voice, piper, wanted), self._worker)

    def _resident(self, voice: Voice) -> "PiperVoice | None":
        """Return a voice that is in memory as its files are now, or as they were while those cannot be used."""
        with self._lock:
            known = self._loaded.get(voice.name)
            if known is None or (known[0] is not voice and self._refused.get(voice.name) is not voice):
                return None
            self._loaded.move_to_end(voice.name)
            return known[1]

    def _choose(self, choice: VoiceChoice) -> tuple[Voice, Path]:
        files = self._files()
        if not files:
            raise TextToSpeechError("no voice is installed; run `satellite models pull demo`", kind="not-ready")
        voice = choose_voice(choice, [voice for voice, _ in files])
        return voice, next(file for other, file in files if other is voice)

    def _load(self, voice: Voice, file: Path) -> "PiperVoice":
        from satellite.engines.tts.piper import PiperVoice

        try:
            piper = PiperVoice(file, self._parts, self._providers, cpu_threads(self._settings.threads))
        except TextToSpeechError as error:
            known = self._loaded.get(voice.name)
            if known is None:
                raise
            _LOGGER.warning("voice %s was replaced by one that cannot be used: %s", voice.name, error)
            self._refused[voice.name] = voice
            return known[1]
        self.device = piper.device
        if self._settings.device == "cuda" and self.device != "cuda":
            raise TextToSpeechError("tts.device is cuda, but ONNX Runtime fell back to the CPU", kind="not-ready")
        if len(self._providers) > 1 and self.device != "cuda":
            _LOGGER.warning("text to speech runs on the CPU though there is a GPU: ONNX Runtime could not use it")
        with self._lock:
            self._loaded[voice.name] = (voice, piper)
            self._loaded.move_to_end(voice.name)
            while len(self._loaded) > self._settings.max_loaded_voices:
                gone, _ = self._loaded.popitem(last=False)
                _LOGGER.info("unloaded voice %s, unused longest", gone)
        return piper


def _providers(device: str) -> list[Any]:
    """Return ONNX Runtime's providers for `device`; raises where CUDA is demanded and absent."""
    import onnxruntime

    available = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "cuda" and not available:
        raise TextToSpeechError("tts.device is cuda, but this ONNX Runtime has no CUDA", kind="not-ready")
    if device == "auto":
        level = logging.INFO if available else logging.DEBUG
        _LOGGER.log(level, "text to speech runs on the %s", "GPU" if available else "CPU: no CUDA was found")
    if device == "cpu" or not available:
        return ["CPUExecutionProvider"]
    load_for_onnxruntime()
    return [("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}), "CPUExecutionProvider"]


def _speaker_id(voice: Voice, piper: "PiperVoice", wanted: str | None) -> int | None:
    """Return the number of the speaker that is `wanted` by name or number; None for a voice of one speaker."""
    names: dict[str, int] = piper.config.speaker_id_map
    if wanted is None:
        return None
    if wanted in names:
        return names[wanted]
    if wanted.isdecimal() and len(wanted) < 10 and int(wanted) < piper.config.num_speakers:
        return int(wanted) if names else None
    known = nearest(wanted, set(names)) if names else "it has one, who needs no name"
    raise TextToSpeechError(f"voice {voice.name} has no speaker '{shown(wanted)}'; {known}", kind="unknown-speaker")
