"""`python -m satellite_bench.wake_streams MODELS STREAMS FRAMES`: our wake word engine hears what comes by its input.

The sound, canonical PCM, is heard over and over, by all streams at once and on one core; CPU seconds of this process
and the number of detections are printed as a JSON array.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.config.settings import WakeSettings
from satellite.engines.protocols import WakeStream
from satellite.engines.wake.openwakeword import OpenWakeWordEngine
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.models.catalogue import WAKE_WORDS
from satellite_bench.wake import FRAME_SECONDS

_FRAME_BYTES = int(FRAME_SECONDS * BYTES_PER_SECOND)
_WORDS = ("okay_nabu",)


async def heard(models: Path, pcm: bytes, streams: int, frames: int) -> tuple[float, int]:
    """Return CPU seconds and detections of so many frames in each of so many streams, by the daemon's own way."""
    worker = Worker(Stage.WAKE, queue_size=streams)
    try:
        engine = OpenWakeWordEngine(WakeSettings(), models, WAKE_WORDS["openwakeword"], worker)
        await worker.run(engine.load)
        listening = [await engine.stream(_WORDS) for _ in range(streams)]
        whole = range(0, len(pcm) - _FRAME_BYTES + 1, _FRAME_BYTES)
        windows = [pcm[at : at + _FRAME_BYTES] for at in whole]
        for stream in listening:
            await stream.feed(windows[0])

        async def listened(stream: WakeStream) -> int:
            return sum([len(await stream.feed(windows[number % len(windows)])) for number in range(frames)])

        began = time.process_time()
        detections = await asyncio.gather(*map(listened, listening))
        return time.process_time() - began, sum(detections)
    finally:
        worker.close()


def main() -> int:
    """Listen, and print what it took."""
    models, streams, frames = sys.argv[1:]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(json.dumps(asyncio.run(heard(Path(models), sys.stdin.buffer.read(), int(streams), int(frames)))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
