"""A Piper voice in memory: what it makes of a text, window by window, or sentence by sentence where it must."""

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from satellite.config.settings import TtsSettings
from satellite.engines.measurements import Remembered
from satellite.engines.tts.graph_split import CannotSplit
from satellite.engines.tts.parts_cache import digest_of, network
from satellite.engines.tts.vits import Array, Feed, Samples, VitsNetwork
from satellite.engines.tts.windows import Timeline, WindowPlanner
from satellite.errors import TextToSpeechError
from satellite.system.process import processor

_LOGGER = logging.getLogger(__name__)

CALIBRATION = "The quick brown fox jumps over the lazy dog. One, two, three, four, five."

_HELD_FRAMES = 64
"""A window while nothing is heard yet."""

_MEASURED_FRAMES = (16, 64)
"""Windows whose cost is measured."""

_REPEATS = 3

_SILENT_LEVEL = 10 ** (-50 / 20)
"""-50 dBFS: softer than the softest consonant that begins a word, louder than a voice's silence."""

_KEPT_SECONDS = 0.005
_FADE_SECONDS = 0.002
_LONGEST_SILENCE_SECONDS = 1.0
"""After so much silence it is taken for meant."""


class PiperVoice:
    """One voice with all its speakers. What it does blocks, and belongs into the engine's thread."""

    def __init__(self, file: Path, parts: Path, providers: Sequence[Any], threads: int) -> None:
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
        self._whole: Any = None
        try:
            self.config = PiperConfig.from_dict(json.loads(Path(f"{file}.json").read_text(encoding="utf-8")))
            self._piper = Piper(config=self.config, session=None, download_dir=file.parent)
            self.digest = digest_of(file)
            try:
                self._network = network(file, self.digest, parts, self._session, self._feeds_to_measure_by)
            except CannotSplit as error:
                _LOGGER.warning("voice %s is made sentence by sentence, not in windows: %s", self.name, error)
                self._whole = self._session(file)
        except Exception as error:  # onnxruntime raises classes of its own, and bad JSON a dozen others
            raise TextToSpeechError(f"voice {self.name} cannot be loaded: {error}", kind="not-ready") from error
        self.remembered = Remembered(parts / self.digest)
        """What was measured of it at an earlier start."""

        self.pace = self._pace()

    def feeds(self, text: str, settings: TtsSettings, speaker_id: int | None) -> Iterator[Feed]:
        """Yield what the network is to say, sentence by sentence."""
        scales = self.scales(settings)
        speaker = _given(speaker_id, self.config.default_speaker_id)
        for phonemes in self._piper.phonemize(text):
            if phonemes:
                yield self._feed(self._piper.phonemes_to_ids(phonemes), scales, speaker)

    def scales(self, settings: TtsSettings) -> tuple[float, float, float]:
        """Return what scales noise, length and the noise of length: as configured, else as the voice has it."""
        return (
            _given(settings.noise_scale, self.config.noise_scale),
            _given(settings.length_scale, self.config.length_scale),
            _given(settings.noise_w_scale, self.config.noise_w_scale),
        )

    def windows(self, feed: Feed, timeline: Timeline) -> Iterator[Samples]:
        """Yield the sound of a sentence, each window before the listener of `timeline` has heard the one before.

        A window without a sample gives whoever iterates the chance to leave.
        """
        if self._network is None:
            yield self._whole.run(None, feed)[0].reshape(-1)
            return
        assert self.pace is not None
        sentence = self._network.sentence(feed)
        held = 0 if timeline.begun else self.pace.held(sentence.frames)
        ready: list[Samples] = []
        at = 0
        while at < sentence.frames:
            left = sentence.frames - at
            size = min(held - at, _HELD_FRAMES) if at < held else self.pace.next(left, timeline.left_seconds)
            began = time.monotonic()
            ready.append(sentence.samples(at, at + size))
            self.pace.note(size, time.monotonic() - began)
            at += size
            if at < held:
                yield ready[0][:0]
            else:
                yield ready[0] if len(ready) == 1 else np.concatenate(ready)
                ready.clear()

    def _session(self, file: Path) -> Any:
        """Load an .onnx file with our number of threads."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # The arena keeps its peak for ever and saves a tenth of the time.
        options.enable_cpu_mem_arena = False
        # A thread that spins while it waits for work takes the core from the other parts, and from the other engines.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(file), options, self._providers)
        self.device = "cuda" if session.get_providers()[0].startswith("CUDA") else "cpu"
        return session

    def _pace(self) -> WindowPlanner | None:
        """Return what windows cost here, and how much silence the voice begins with."""
        if self._network is None:
            return None
        import onnxruntime

        circumstances = {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "threads": self._threads,
            "device": self.device,
            "onnxruntime": onnxruntime.__version__,
        }
        found = self.remembered.get("windows", circumstances, self._measured_windows)
        frame_seconds = self._network.shape.hop / self.config.sample_rate
        seconds = dict(zip(_MEASURED_FRAMES, found["seconds"], strict=True))
        return WindowPlanner.measured(seconds, frame_seconds, found["lead_frames"])

    def _measured_windows(self) -> dict[str, Any]:
        assert self._network is not None
        feed, _ = self._feeds_to_measure_by()
        seconds: dict[int, float] = {}
        for size in _MEASURED_FRAMES * _REPEATS:
            sentence = self._network.sentence(feed)
            begin = min(_HELD_FRAMES, sentence.frames // 3)
            end = min(begin + size, sentence.frames)
            began = time.monotonic()
            sentence.samples(begin, end)
            seconds[size] = min(seconds.get(size, float("inf")), time.monotonic() - began)
        beginning = np.abs(sentence.samples(0, begin))
        loud = np.flatnonzero(beginning >= beginning.max() / 100)
        lead_frames = int(loud[0]) // self._network.shape.hop if len(loud) else 0
        return {"seconds": [seconds[size] for size in _MEASURED_FRAMES], "lead_frames": lead_frames}

    def _feeds_to_measure_by(self) -> tuple[Feed, Feed]:
        config = self.config
        scales = (config.noise_scale, config.length_scale, config.noise_w_scale)
        ids = [
            name for phonemes in self._piper.phonemize(CALIBRATION) for name in self._piper.phonemes_to_ids(phonemes)
        ]
        return tuple(self._feed(part, scales, config.default_speaker_id) for part in (ids, ids[: len(ids) // 2]))  # type: ignore[return-value]  # two

    def _feed(self, ids: Sequence[int], scales: tuple[float, float, float], speaker: int) -> Feed:
        feed: dict[str, Array] = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array(scales, np.float32),
        }
        return feed | {"sid": np.array([speaker], np.int64)} if self.config.num_speakers > 1 else feed


def _given(value: Any, usual: Any) -> Any:
    return usual if value is None else value


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
        """Return what is to be heard of the next `samples`: nothing as long as they are silent."""
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
        if self._dropped:
            faded = self._kept[: round(_FADE_SECONDS * self._rate)]
            faded *= np.linspace(0.0, 1.0, len(faded), dtype=np.float32)
        return self._kept
