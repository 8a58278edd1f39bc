"""A Piper voice in memory: text to samples, window by window, or sentence by sentence if its graph cannot be split."""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from satellite.config.settings import TtsSettings
from satellite.engines.measurements import Measurements
from satellite.engines.onnx_session import OnnxSession, Provider, load_session, model_errors
from satellite.engines.tts.graph_split import CannotSplit
from satellite.engines.tts.loaded_voice import CALIBRATION, given
from satellite.engines.tts.parts_cache import digest_of, load_network
from satellite.engines.tts.vits import Array, Inputs, Samples, VitsNetwork
from satellite.engines.tts.windows import Timeline, WindowPlanner
from satellite.errors import TextToSpeechError
from satellite.system.process import processor

_LOGGER = logging.getLogger(__name__)

_HELD_FRAMES = 64
"""Longest window before the first sound, so that an interruption does not wait for more."""

_MEASURED_FRAMES = (16, 64)
"""Windows whose cost is measured."""

_REPEATS = 3


class _WindowCosts(TypedDict):
    """What is measured of a voice."""

    seconds: list[float]
    """Of windows of `_MEASURED_FRAMES`."""

    lead_frames: int
    """Silence at the beginning of a sentence."""


class PiperVoice:
    """One voice with all its speakers (`LoadedVoice`)."""

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
            self.rate: int = self.config.sample_rate
            self.speakers: Mapping[str, int] = self.config.speaker_id_map
            self._piper = Piper(config=self.config, session=None, download_dir=file.parent)
            self.digest = digest_of(file)
            try:
                self._network = load_network(file, self.digest, parts, self._session, self._calibration_inputs)
            except CannotSplit as error:
                _LOGGER.warning("voice %s is synthesised by whole sentences, not in windows: %s", self.name, error)
                self._whole = self._session(file)
        except model_errors() as error:
            raise TextToSpeechError(f"voice {self.name} cannot be loaded: {error}", kind="not-ready") from error
        self.measurements = Measurements(parts / self.digest)
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
        speaker = given(speaker_id, self.config.default_speaker_id)
        for phonemes in self._piper.phonemize(text):
            if phonemes:
                yield self._inputs(self._piper.phonemes_to_ids(phonemes), scales, speaker)

    def scales(self, settings: TtsSettings) -> tuple[float, float, float]:
        """Return the scales of noise, length and noise of length: configured, or the voice's own."""
        return (
            given(settings.noise_scale, self.config.noise_scale),
            given(settings.length_scale, self.config.length_scale),
            given(settings.noise_w_scale, self.config.noise_w_scale),
        )

    def length_scale(self, settings: TtsSettings) -> float:
        """Return the pace, above 1 is slower (`LoadedVoice`)."""
        return self.scales(settings)[1]

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
        costs = self.measurements.get("windows", conditions, self._measure_windows)
        frame_seconds = self._network.shape.hop / self.rate
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
