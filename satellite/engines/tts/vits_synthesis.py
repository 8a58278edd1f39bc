"""A VITS network in memory, run in windows, or by whole sentences if its graph cannot be split."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from satellite.engines.measurements import Measurements
from satellite.engines.onnx_session import OnnxSession, Provider, load_session
from satellite.engines.tts.graph_split import CannotSplit
from satellite.engines.tts.parts_cache import Calibration, digest_of, load_network
from satellite.engines.tts.vits import Inputs, Samples, VitsNetwork
from satellite.engines.tts.windows import Timeline, WindowPlanner
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


class VitsSynthesis:
    """Turns the inputs of a sentence into sound. All methods block."""

    def __init__(
        self,
        file: Path,
        parts: Path,
        providers: Sequence[Provider],
        threads: int,
        *,
        rate: int,
        calibration: Calibration,
    ) -> None:
        """Load the .onnx `file`, of `rate` samples a second; its parts are kept in the folder `parts`.

        Raises one of `model_errors()`.
        """
        self.device = "not loaded"
        """Where it really runs: `cpu` or `cuda`."""

        self.network: VitsNetwork | None = None
        self._providers = providers
        self._threads = threads
        self._rate = rate
        self._calibration = calibration
        self._whole: OnnxSession | None = None
        self.digest = digest_of(file)
        try:
            self.network = load_network(file, self.digest, parts, self._session, calibration)
        except CannotSplit as error:
            _LOGGER.warning("voice %s is synthesised by whole sentences, not in windows: %s", file.stem, error)
            self._whole = self._session(file)
        self.measurements = Measurements(parts / self.digest)
        self.planner = self._planner()
        """Plans the windows; None for whole sentences."""

    def windows(self, inputs: Inputs, timeline: Timeline) -> Iterator[Samples]:
        """Yield the samples of a sentence, with empty ones between them (`LoadedVoice.speak`)."""
        if self.network is None:
            assert self._whole is not None
            yield self._whole.run(None, inputs)[0].reshape(-1)
            return
        assert self.planner is not None
        sentence = self.network.sentence(inputs)
        held = self.planner.held(sentence.frames, timeline.left_seconds)
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
        if self.network is None:
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
        frame_seconds = self.network.shape.hop / self._rate
        seconds = dict(zip(_MEASURED_FRAMES, costs["seconds"], strict=True))
        return WindowPlanner.measured(seconds, frame_seconds, costs["lead_frames"])

    def _measure_windows(self) -> _WindowCosts:
        assert self.network is not None
        inputs, _ = self._calibration()
        seconds: dict[int, float] = {}
        for size in _MEASURED_FRAMES * _REPEATS:
            # A new sentence each time: windows reuse what the flow has computed for the one before.
            sentence = self.network.sentence(inputs)
            begin = min(_HELD_FRAMES, sentence.frames // 3)
            end = min(begin + size, sentence.frames)
            began = time.monotonic()
            sentence.samples(begin, end)
            seconds[size] = min(seconds.get(size, float("inf")), time.monotonic() - began)
        beginning = np.abs(sentence.samples(0, begin))
        loud = np.flatnonzero(beginning >= beginning.max() / 100)
        lead_frames = int(loud[0]) // self.network.shape.hop if len(loud) else 0
        return {"seconds": [seconds[size] for size in _MEASURED_FRAMES], "lead_frames": lead_frames}
