"""Text to speech in process: several voices of any kind resident, loaded on demand, each at one constant gain.

piper-tts scales each sentence to full loudness, so that a whispered sentence becomes as loud as a shout, and the pieces
of an answer differ in level. Here the gain of a voice is measured once, when it is loaded, and never changes.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path

from satellite.audio.pcm import AudioFormat
from satellite.config.settings import TtsSettings, cpu_threads, nearest
from satellite.engines.onnx_session import CPU, Provider
from satellite.engines.protocols import Voice, VoiceChoice
from satellite.engines.tts.loaded_voice import LoadedVoice, VoiceFile, calibration_loudness
from satellite.engines.tts.voice_choice import choose_voice
from satellite.engines.tts.voice_loader import VoiceLoader
from satellite.engines.tts.windows import Timeline
from satellite.engines.worker import Worker
from satellite.errors import TextToSpeechError, shown

_LOGGER = logging.getLogger(__name__)

_EARLY_SECONDS = 0.5
"""How long before the sound of an answer runs out its next window is due: time for those of others before it."""

VoiceFiles = Callable[[], Sequence[tuple[Voice, VoiceFile]]]
"""Returns the voices on disk with their files, the default first."""


class VoiceSpeaker:
    """A loaded voice with one of its speakers (`Speaker`)."""

    def __init__(
        self,
        voice: Voice,
        loaded: LoadedVoice,
        settings: TtsSettings,
        speaker_id: int | None,
        gain: float,
        worker: Worker,
    ) -> None:
        """`gain` is the factor on the network's samples, the same for each text."""
        self.voice = voice
        self.format = AudioFormat(rate=loaded.rate)
        self.identity = f"{loaded.digest}/{speaker_id}/{settings.length_scale}"
        self.gain = gain
        self._loaded = loaded
        self._settings = settings
        self._speaker_id = speaker_id
        self._worker = worker

    async def speak(self, text: str, lead_seconds: float = 0.0) -> AsyncGenerator[bytes, None]:
        """Yield `text` as PCM in `format`, window by window; see `Speaker`. Raises `TextToSpeechError`."""
        timeline = Timeline(lead_seconds)
        sound = self._sound(text, timeline)
        is_last = False
        # A call for each window: closing the generator stops the work after the current one, and several texts take
        # turns in the engine's thread. The first sound of an answer is due at once, later ones before the one before
        # has been heard.
        while not is_last:
            pcm, is_last = await self._worker.run_due(timeline.left_seconds - _EARLY_SECONDS, next, sound)
            if pcm:
                yield pcm

    def _sound(self, text: str, timeline: Timeline) -> Iterator[tuple[bytes, bool]]:
        """Yield the sound piece by piece, and whether it is the last."""
        from satellite.engines.tts.voice_output import VoiceOutput

        output = VoiceOutput(
            self.format.rate, self.gain, self._settings.volume, of_sentences=self._loaded.speaks_sentences
        )
        for samples in self._loaded.speak(text, self._settings, self._speaker_id, timeline):
            heard = output.add(samples)
            if heard:
                timeline.add(len(heard) / (self.format.rate * self.format.frame_bytes))
            yield heard, False  # also if empty: the caller may stop between any two
        yield output.end(), True


class VoiceSynthesizer:
    """A `Synthesizer`. At most `max_loaded_voices` are in memory; beyond, the least recently used is unloaded."""

    def __init__(
        self,
        settings: TtsSettings,
        files: VoiceFiles,
        parts: Path,
        worker: Worker,
        missing: Callable[[], str] = lambda: "no voice is installed",
        fault: Callable[[Voice], str] = lambda _: "",
    ) -> None:
        """Speak with the voices in `files`, whose parts are kept in the folder `parts`.

        `missing` returns why there are none, and `fault` what is damaged of one that cannot be loaded, or nothing.
        """
        self.unusable: dict[str, str] = {}
        """Why voices could not be loaded as they are now, by name."""

        self.device = "not loaded"
        """Where the voices really run: `cpu` or `cuda`."""

        self._settings = settings
        self._files = files
        self._missing = missing
        self._fault = fault
        self._loader = VoiceLoader(parts)
        self._worker = worker
        self._loaded: OrderedDict[str, tuple[Voice, LoadedVoice]] = OrderedDict()
        self._lock = threading.Lock()  # for the voices in memory: the event loop looks them up while the thread loads
        self._refused: dict[str, Voice] = {}
        self._gains: dict[tuple[str, int | None], float] = {}
        """By digest of the voice and speaker, whose loudness differs."""

        self._providers: Sequence[Provider] = CPU

    def load(self) -> None:
        """Load the default voice; blocking. Raises `TextToSpeechError`."""
        self._providers = _providers(self._settings.device)
        self._load_speaker(VoiceChoice())

    @property
    def voices(self) -> Sequence[Voice]:
        """All voices that are present, the default first."""
        return [voice for voice, _ in self._files()]

    async def speaker(self, choice: VoiceChoice) -> VoiceSpeaker:
        """Return the voice that matches `choice`, loaded.

        Raises `TextToSpeechError` of the kind `unknown-voice`, `unknown-speaker` or `unsupported-language`.
        """
        voice, _ = self._choose(choice)
        loaded = self._resident(voice)
        # Queueing behind somebody's sentence in the engine's thread is needed only if there is something to load.
        if loaded is not None and (loaded.digest, self._speaker_id(voice, loaded, choice)) in self._gains:
            return self._made(voice, loaded, choice)
        return await self._worker.load(self._load_speaker, choice)

    def _load_speaker(self, choice: VoiceChoice) -> VoiceSpeaker:
        voice, file = self._choose(choice)
        return self._made(voice, self._resident(voice) or self._load(voice, file), choice)

    def _made(self, voice: Voice, loaded: LoadedVoice, choice: VoiceChoice) -> VoiceSpeaker:
        speaker_id = self._speaker_id(voice, loaded, choice)
        key = (loaded.digest, speaker_id)
        if key not in self._gains:
            from satellite.engines.tts.level import gain_to_target

            measured_lufs = calibration_loudness(loaded, self._settings, speaker_id)
            self._gains[key] = self._settings.volume * gain_to_target(measured_lufs)
        settings = self._settings
        if choice.speed != 1:
            length_scale = loaded.length_scale(settings) / choice.speed
            settings = settings.model_copy(update={"length_scale": length_scale})
        return VoiceSpeaker(voice, loaded, settings, speaker_id, self._gains[key], self._worker)

    def _speaker_id(self, voice: Voice, loaded: LoadedVoice, choice: VoiceChoice) -> int | None:
        """Return the number of the chosen speaker, given by name or number; None for the only speaker of a voice."""
        numbers = loaded.speakers
        is_configured = voice.name == self._settings.voice and numbers
        wanted = choice.speaker or (self._settings.speaker if is_configured else None)
        if wanted is None:
            return None
        if wanted in numbers:
            return numbers[wanted]
        if wanted.isdecimal() and len(wanted) < 10 and int(wanted) in (numbers.values() or (0,)):
            return int(wanted) if numbers else None
        known = nearest(wanted, set(numbers)) if numbers else "it has a single speaker without a name"
        raise TextToSpeechError(f"voice {voice.name} has no speaker '{shown(wanted)}'; {known}", kind="unknown-speaker")

    def _resident(self, voice: Voice) -> LoadedVoice | None:
        """Return a voice from memory, unless its files have changed and can be used."""
        with self._lock:
            known = self._loaded.get(voice.name)
            if known is None or (known[0] is not voice and self._refused.get(voice.name) is not voice):
                return None
            self._loaded.move_to_end(voice.name)
            return known[1]

    def _choose(self, choice: VoiceChoice) -> tuple[Voice, VoiceFile]:
        files = self._files()
        if not files:
            raise TextToSpeechError(self._missing(), kind="not-ready")
        voice = choose_voice(choice, [voice for voice, _ in files])
        return voice, next(file for other, file in files if other is voice)

    def _load(self, voice: Voice, file: VoiceFile) -> LoadedVoice:
        try:
            loaded = self._loader.load(file, self._providers, cpu_threads(self._settings.threads))
        except TextToSpeechError as error:
            reason = self._fault(voice) or str(error)
            self.unusable = self.unusable | {voice.name: reason}
            known = self._loaded.get(voice.name)
            if known is None:
                raise TextToSpeechError(reason, kind="not-ready") from error
            _LOGGER.warning("voice %s was replaced by one that cannot be used: %s", voice.name, reason)
            self._refused[voice.name] = voice  # not tried again until the files change once more
            return known[1]
        self.unusable = {name: reason for name, reason in self.unusable.items() if name != voice.name}
        self.device = loaded.device
        if self._settings.device == "cuda" and self.device != "cuda":
            raise TextToSpeechError("tts.device is cuda, but ONNX Runtime fell back to the CPU", kind="not-ready")
        if len(self._providers) > 1 and self.device != "cuda":
            _LOGGER.warning("text to speech runs on the CPU although there is a GPU: ONNX Runtime could not use it")
        with self._lock:
            self._loaded[voice.name] = (voice, loaded)
            self._loaded.move_to_end(voice.name)
            while len(self._loaded) > self._settings.max_loaded_voices:
                unloaded, _ = self._loaded.popitem(last=False)
                _LOGGER.info("unloaded voice %s, the least recently used", unloaded)
        return loaded


def _providers(device: str) -> Sequence[Provider]:
    """Return ONNX Runtime's providers for `device`; raises if CUDA is required and absent."""
    import onnxruntime

    available = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "cuda" and not available:
        raise TextToSpeechError("tts.device is cuda, but this ONNX Runtime has no CUDA", kind="not-ready")
    if device == "auto":
        level = logging.INFO if available else logging.DEBUG
        _LOGGER.log(level, "text to speech runs on the %s", "GPU" if available else "CPU: no CUDA was found")
    if device == "cpu" or not available:
        return CPU
    onnxruntime.preload_dlls()  # from NVIDIA's wheels, which are on no search path of the loader
    return [("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}), *CPU]
