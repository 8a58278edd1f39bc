"""The wake word: how many rooms one core can listen to at once, beside the library that the official server wraps.

Both engines hear the same sound in a process of their own that has one core, 80 ms at a time in as many streams as
there are, for one wake word. What counts is the CPU time of the whole process: a stream needs so much of a core for
each second of sound. Ours is fed as rooms feed it, all at once, each when it has heard its last; theirs is called.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from satellite.errors import SatelliteError
from satellite_bench import own, rivals

NAME = "pyopen-wakeword"
REQUIREMENTS = (f"{NAME}==1.1.0",)

FRAME_SECONDS = 0.08
"""What openWakeWord looks at at once."""

_STREAMS = 10
_FRAMES = 250
"""In every stream: 20 s of sound each."""

_RUN_SECONDS = 600.0

_THEIRS = """
import json, os, sys, time
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
from pyopen_wakeword import Model, OpenWakeWord, OpenWakeWordFeatures
pcm, streams, frames = sys.stdin.buffer.read(), int(sys.argv[1]), int(sys.argv[2])
heard = [(OpenWakeWordFeatures.from_builtin(), OpenWakeWord.from_builtin(Model.OKAY_NABU)) for _ in range(streams)]
windows = [pcm[at : at + 2560] for at in range(0, len(pcm) - 2559, 2560)]

def feed(features, word, window):
    return sum(p >= 0.5 for found in features.process_streaming(window) for p in word.process_streaming(found))

for features, word in heard:
    feed(features, word, windows[0])
began, detections = time.process_time(), 0
for number in range(frames):
    for features, word in heard:
        detections += feed(features, word, windows[number % len(windows)])
print(json.dumps([time.process_time() - began, detections]))
"""


@dataclass(frozen=True, slots=True)
class WakeFigures:
    """One engine."""

    DESCRIBED: ClassVar = ("streams_a_core", "cpu_ms_a_frame")

    streams: int
    audio_seconds: float
    """Of all streams together."""

    cpu_seconds: float
    detections: int
    """How often it heard the wake word, in frames or in words as the engine counts; never is a broken engine."""

    @property
    def streams_a_core(self) -> float:
        """How many streams one core keeps up with."""
        return self.audio_seconds / self.cpu_seconds

    @property
    def cpu_ms_a_frame(self) -> float:
        """CPU time that a frame of one stream takes."""
        return 1000 * FRAME_SECONDS * self.cpu_seconds / self.audio_seconds


@dataclass(frozen=True, slots=True)
class WakeResult:
    """Our engine, and the other one where it was measured."""

    ours: WakeFigures
    theirs: WakeFigures | None = None


async def measure(
    models: Path,
    pcm: bytes,
    rival: Path | None,
    *,
    repeats: int,
    frames: int = _FRAMES,
    on_status: Callable[[str], None],
) -> WakeResult:
    """Let the engines hear `pcm`, which says “okay nabu”, over and over; the median of `repeats` by CPU time counts.

    `models` is the folder with openWakeWord's networks, `rival` a Python that has pyopen-wakeword.
    """
    size, audio_seconds = (str(_STREAMS), str(frames)), _STREAMS * frames * FRAME_SECONDS
    our_way = (sys.executable, "-m", "satellite_bench.wake_streams", str(models), *size)
    ours: list[WakeFigures] = []
    theirs: list[WakeFigures] = []
    for number in range(repeats):
        on_status(f"wake word: {number} of {repeats}")
        cost = await asyncio.to_thread(_heard, our_way, pcm, own.environment())
        ours.append(WakeFigures(_STREAMS, audio_seconds, *cost))
        if rival:
            their_way = (str(rival), "-c", _THEIRS, *size)
            cost = await asyncio.to_thread(_heard, their_way, pcm, rivals.environment_of(offline=True))
            theirs.append(WakeFigures(_STREAMS, audio_seconds, *cost))
    return WakeResult(_middle(ours), _middle(theirs) if rival else None)


def _middle(figures: Sequence[WakeFigures]) -> WakeFigures:
    return sorted(figures, key=lambda one: one.cpu_seconds)[len(figures) // 2]


def _heard(arguments: Sequence[str], pcm: bytes, environment: Mapping[str, str]) -> tuple[float, int]:
    """Run an engine over `pcm`; it answers with its CPU seconds and its detections. Blocks."""
    try:
        done = subprocess.run(
            arguments, input=pcm, capture_output=True, timeout=_RUN_SECONDS, env=dict(environment), check=True
        )
        cpu_seconds, detections = json.loads(done.stdout)
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace")[-500:]
        raise SatelliteError(f"the wake word engine cannot be run: {last}", code="bench-wake") from error
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SatelliteError(f"the wake word engine cannot be run: {error}", code="bench-wake") from error
    if not detections:
        raise SatelliteError("the wake word engine heard nothing", code="bench-wake")
    return float(cpu_seconds), int(detections)
