"""A Piper voice in memory: text to samples, window by window, or sentence by sentence if its graph cannot be split."""

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict, TypeVar

import numpy as np

from satellite.config.settings import TtsSettings
from satellite.engines.measurements import Measurements
from satellite.engines.onnx_session import OnnxSession, Provider, load_session, model_errors
from satellite.engines.tts.graph_split import CannotSplit
from satellite.engines.tts.parts_cache import digest_of, load_network
from satellite.engines.tts.vits import Array, Inputs, Samples, VitsNetwork
from satellite.engines.tts.windows import Timeline, WindowPlanner
from satellite.errors import TextToSpeechError
from satellite.system.process import processor

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

CALIBRATION = "The quick brown fox jumps over the lazy dog. One, two, three, four, five."

_HELD_FRAMES = 64
"""Longest window before the first sound, so that an interruption does not wait for more."""

_MEASURED_FRAMES = (16, 64)
"""Windows whose cost is measured."""

_REPEATS = 3

_SILENT_LEVEL = 10 ** (-50 / 20)
"""-50 dBFS: softer than the softest consonant that begins a word, louder than a voice's silence."""

_KEPT_SECONDS = 0.005
_FADE_SECONDS = 0.002
_LONGEST_SILENCE_SECONDS = 1.0
"""Longer silence is part of the text."""


class _WindowCosts(TypedDict):
    """What is measured of a voice."""

    seconds: list[float]
    """Of windows of `_MEASURED_FRAMES`."""

    lead_frames: int
    """Silence at the beginning of a sentence."""


class PiperVoice:
    """One voice with all its speakers. All methods block, and run in the engine's thread."""

    def __init__(self, file: Path, parts: Path, providers: Sequence[Provider], threads: int) -> None:
        """Load the .onnx `file` with its .json; its parts are kept in the folder `parts`.

        Raises `TextToSpeechError`.
        """
        from piper import PiperVoice as Piper
        from piper.config import PiperConfig

        self.name = file.stem
        self.device = "not loaded"
        """Where it really runs: `cpu` or `cuda`."""

        self._providers = providers
        self._threads = threads
        self._network: VitsNetwork | None = None
        self._whole: OnnxSession | None = None
        try:
            self.config = PiperConfig.from_dict(json.loads(Path(f"{file}.json").read_text(encoding="utf-8")))
            self._piper = Piper(config=self.config, session=None, download_dir=file.parent)
            self.digest = digest_of(file)
            try:
                self._network = load_network(file, self.digest, parts, self._session, self._calibration_inputs)
            except CannotSplit as error:
                _LOGGER.warning("voice %s is synthesised by whole sentences, not in windows: %s", self.name, error)
                self._whole = self._session(file)
        except model_errors() as error:
            raise TextToSpeechError(f"voice {self.name} cannot be loaded: {error}", kind="not-ready") from error
        self._measurements = Measurements(parts / self.digest)
        self.planner = self._planner()
        """Plans the windows; None for whole sentences."""

    def speak(self, text: str, settings: TtsSettings, speaker_id: int | None, timeline: Timeline) -> Iterator[Samples]:
        """Yield the samples of `text`, made before the sound in `timeline` ends, if the host is fast enough.

        Empty windows between them give the caller a chance to stop.
        """
        for inputs in self.sentences(text, settings, speaker_id):
            yield from self._windows(inputs, timeline)

    def sentences(self, text: str, settings: TtsSettings, speaker_id: int | None) -> Iterator[Inputs]:
        """Yield the network's inputs for `text`, sentence by sentence."""
        scales = self.scales(settings)
        speaker = _given(speaker_id, self.config.default_speaker_id)
        for phonemes in self._piper.phonemize(text):
            if phonemes:
                yield self._inputs(self._piper.phonemes_to_ids(phonemes), scales, speaker)

    def scales(self, settings: TtsSettings) -> tuple[float, float, float]:
        """Return the scales of noise, length and noise of length: configured, or the voice's own."""
        return (
            _given(settings.noise_scale, self.config.noise_scale),
            _given(settings.length_scale, self.config.length_scale),
            _given(settings.noise_w_scale, self.config.noise_w_scale),
        )

    def peak(self, settings: TtsSettings, speaker_id: int | None) -> float:
        """Return the largest sample of the calibration text, measured once."""

        def measure() -> float:
            windows = self.speak(CALIBRATION, settings, speaker_id, Timeline())
            return max((float(abs(samples).max()) for samples in windows if len(samples)), default=0.0)

        return self._measurements.get("peak", {"speaker": speaker_id, "scales": list(self.scales(settings))}, measure)

    def _windows(self, inputs: Inputs, timeline: Timeline) -> Iterator[Samples]:
        if self._network is None:
            assert self._whole is not None
            yield self._whole.run(None, inputs)[0].reshape(-1)
            return
        assert self.planner is not None
        sentence = self._network.sentence(inputs)
        held = 0 if timeline.begun else self.planner.held(sentence.frames)
        ready: list[Samples] = []
        at = 0
        while at < sentence.frames:
            left = sentence.frames - at
            size = min(held - at, _HELD_FRAMES) if at < held else self.planner.next(left, timeline.left_seconds)
            began = time.monotonic()
            ready.append(sentence.samples(at, at + size))
            self.planner.note(size, time.monotonic() - began)
            at += size
            if at < held:
                yield ready[0][:0]
            else:
                yield ready[0] if len(ready) == 1 else np.concatenate(ready)
                ready.clear()

    def _session(self, file: Path) -> OnnxSession:
        session = load_session(file, providers=self._providers, threads=self._threads)
        self.device = "cuda" if session.get_providers()[0].startswith("CUDA") else "cpu"
        return session

    def _planner(self) -> WindowPlanner | None:
        if self._network is None:
            return None
        import onnxruntime

        conditions = {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "threads": self._threads,
            "device": self.device,
            "onnxruntime": onnxruntime.__version__,
        }
        costs = self._measurements.get("windows", conditions, self._measure_windows)
        frame_seconds = self._network.shape.hop / self.config.sample_rate
        seconds = dict(zip(_MEASURED_FRAMES, costs["seconds"], strict=True))
        return WindowPlanner.measured(seconds, frame_seconds, costs["lead_frames"])

    def _measure_windows(self) -> _WindowCosts:
        assert self._network is not None
        inputs, _ = self._calibration_inputs()
        seconds: dict[int, float] = {}
        for size in _MEASURED_FRAMES * _REPEATS:
            # A new sentence each time: windows reuse what the flow has computed for the one before.
            sentence = self._network.sentence(inputs)
            begin = min(_HELD_FRAMES, sentence.frames // 3)
            end = min(begin + size, sentence.frames)
            began = time.monotonic()
            sentence.samples(begin, end)
            seconds[size] = min(seconds.get(size, float("inf")), time.monotonic() - began)
        beginning = np.abs(sentence.samples(0, begin))
        loud = np.flatnonzero(beginning >= beginning.max() / 100)
        lead_frames = int(loud[0]) // self._network.shape.hop if len(loud) else 0
        return {"seconds": [seconds[size] for size in _MEASURED_FRAMES], "lead_frames": lead_frames}

    def _calibration_inputs(self) -> tuple[Inputs, Inputs]:
        """Return inputs of some seconds, and of half as much."""
        config = self.config
        scales = (config.noise_scale, config.length_scale, config.noise_w_scale)
        ids = [
            number
            for phonemes in self._piper.phonemize(CALIBRATION)
            for number in self._piper.phonemes_to_ids(phonemes)
        ]
        speaker = config.default_speaker_id
        return self._inputs(ids, scales, speaker), self._inputs(ids[: len(ids) // 2], scales, speaker)

    def _inputs(self, ids: Sequence[int], scales: tuple[float, float, float], speaker: int) -> Inputs:
        inputs: dict[str, Array] = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array(scales, np.float32),
        }
        return inputs | {"sid": np.array([speaker], np.int64)} if self.config.num_speakers > 1 else inputs


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


class LeadingSilence:
    """Cuts the silence off the beginning of sound that comes in pieces."""

    def __init__(self, rate: int, volume: float = 1.0) -> None:
        """Expect `rate` samples a second, at `volume` times the usual loudness."""
        self._rate = rate
        self._silent = _SILENT_LEVEL * volume
        self._begun = False
        self._kept = np.zeros(0, np.float32)
        self._dropped = 0

    def trim(self, samples: Samples) -> Samples:
        """Return the audible part of the next `samples`: none of them while they are silent."""
        if self._begun:
            return samples
        joined = np.concatenate((self._kept, samples))
        loud = np.flatnonzero(np.abs(joined) >= self._silent)
        start = max(0, (int(loud[0]) if len(loud) else len(joined)) - round(_KEPT_SECONDS * self._rate))
        self._dropped += start
        self._kept = joined[start:].astype(np.float32)
        if not len(loud) and self._dropped < _LONGEST_SILENCE_SECONDS * self._rate:
            return np.zeros(0, np.float32)
        self._begun = True
        if self._dropped:  # fade in: a cut in the middle of a wave is heard as a click
            faded = self._kept[: round(_FADE_SECONDS * self._rate)]
            faded *= np.linspace(0.0, 1.0, len(faded), dtype=np.float32)
        return self._kept
