"""The end of a command as Home Assistant finds it: microVAD's probabilities, and the rules of `assist_pipeline`.

microVAD runs in an environment of its own; the rules are those of `assist_pipeline/vad.py`, release 2026.11.
"""

import asyncio
import json
import struct
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from satellite.errors import SatelliteError

NAME = "Home Assistant"
REQUIREMENTS = ("pymicro-vad==1.0.1",)

SILENCES = {"aggressive": 0.25, "default": 0.7, "relaxed": 1.25}
"""Its three settings of sensitivity, seconds."""

WINDOW_SECONDS = 0.01
"""What it looks at at once."""

_BEFORE_THRESHOLD = 0.2
_IN_COMMAND_THRESHOLD = 0.5
_SPEECH_SECONDS = 0.3
_COMMAND_SECONDS = 1.0
_RESET_SECONDS = 1.0
_TIMEOUT_SECONDS = 15.0

_SCRIPT = """
import json, struct, sys
from pymicro_vad import MicroVad
vad = MicroVad()
while header := sys.stdin.buffer.read(4):
    (size,) = struct.unpack("<I", header)
    if not size:
        vad = MicroVad()
        continue
    pcm = sys.stdin.buffer.read(size)
    found = [round(vad.Process10ms(pcm[at : at + 320]), 4) for at in range(0, len(pcm) - 319, 320)]
    print(json.dumps(found), flush=True)
"""
_ANEW = struct.pack("<I", 0)
_RUN_SECONDS = 900.0
_ANSWER_SECONDS = 10.0


def _sized(pcm: bytes) -> bytes:
    return struct.pack("<I", len(pcm)) + pcm


def probabilities(python: Path, recordings: Sequence[bytes]) -> list[list[float]]:
    """Return microVAD's probability of speech in every 10 ms of each recording; blocks. `python` has microVAD."""
    sent = b"".join(_ANEW + _sized(pcm) for pcm in recordings)
    try:
        done = subprocess.run([str(python), "-c", _SCRIPT], input=sent, capture_output=True, timeout=_RUN_SECONDS)
        done.check_returncode()
    except (OSError, subprocess.SubprocessError) as error:
        raise SatelliteError(f"microVAD cannot be run: {error}", code="bench-rivals") from error
    return [json.loads(line) for line in done.stdout.splitlines()]


class MicroVad:
    """microVAD in a process of its own, a window at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def begin(self) -> None:
        """Forget what was heard."""
        assert self._process.stdin is not None
        self._process.stdin.write(_ANEW)

    async def feed(self, window: bytes) -> float:
        """Return the probability of speech in the next 10 ms; below 0 while it has not heard enough."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                self._process.stdin.write(_sized(window))
                await self._process.stdin.drain()
                (found,) = json.loads(await self._process.stdout.readline())
        except (TimeoutError, OSError, ValueError) as error:
            raise SatelliteError(f"microVAD does not answer: {error}", code="bench-rivals") from error
        return float(found)


@asynccontextmanager
async def listening(python: Path) -> AsyncIterator[MicroVad]:
    """Run microVAD for the length of the `with`."""
    process = await asyncio.create_subprocess_exec(
        *(str(python), "-c", _SCRIPT), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield MicroVad(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Segmenter:
    """Tells when a command is over, as `VoiceCommandSegmenter` does.

    Silence adds up over all pauses, until there was a second of speech without one.
    """

    def __init__(self, silence_seconds: float = SILENCES["default"]) -> None:
        self._silence_seconds = silence_seconds
        self._begins = _SPEECH_SECONDS
        self._silence = silence_seconds
        self._least = _COMMAND_SECONDS - _SPEECH_SECONDS
        self._reset = _RESET_SECONDS
        self._left = _TIMEOUT_SECONDS
        self._in_command = False

    def feed(self, probability: float) -> bool:
        """Take the probability of speech in the next 10 ms, below 0 if unknown; True when the command is over."""
        self._left -= WINDOW_SECONDS
        if self._left <= 0:
            return True
        speaks = probability > (_IN_COMMAND_THRESHOLD if self._in_command else _BEFORE_THRESHOLD)
        self._reset = self._reset - WINDOW_SECONDS if speaks == self._in_command else _RESET_SECONDS
        if self._in_command:
            self._least -= WINDOW_SECONDS
            self._silence -= 0.0 if speaks else WINDOW_SECONDS
            if not speaks and self._silence <= 0 and self._least <= 0:
                return True
        elif speaks:
            self._begins -= WINDOW_SECONDS
            self._in_command = self._begins <= 0
        if self._reset <= 0:
            self._begins, self._silence, self._reset = _SPEECH_SECONDS, self._silence_seconds, _RESET_SECONDS
        return False


def ends_at(speech: Sequence[float], silence_seconds: float) -> float | None:
    """Return after how many seconds Home Assistant takes the command for complete; None when it never does."""
    segmenter = Segmenter(silence_seconds)
    for number, probability in enumerate(speech, 1):
        if segmenter.feed(probability):
            return number * WINDOW_SECONDS
    return None
