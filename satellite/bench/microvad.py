"""The end of a command as Home Assistant finds it: microVAD's probabilities, and the rules of `assist_pipeline`.

microVAD runs in an environment of its own; the rules are those of `assist_pipeline/vad.py`, release 2026.11.
"""

import json
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from satellite.errors import SatelliteError

NAME = "Home Assistant"
REQUIREMENTS = ("pymicro-vad==1.0.1",)

SILENCES = {"aggressive": 0.25, "default": 0.7, "relaxed": 1.25}
"""Its three settings of sensitivity, seconds."""

_WINDOW_SECONDS = 0.01
_BEFORE_THRESHOLD = 0.2
_IN_COMMAND_THRESHOLD = 0.5
_SPEECH_SECONDS = 0.3
_COMMAND_SECONDS = 1.0
_RESET_SECONDS = 1.0

_SCRIPT = """
import json, struct, sys
from pymicro_vad import MicroVad
while header := sys.stdin.buffer.read(4):
    pcm = sys.stdin.buffer.read(*struct.unpack("<I", header))
    vad = MicroVad()
    print(json.dumps([round(vad.Process10ms(pcm[at : at + 320]), 4) for at in range(0, len(pcm) - 319, 320)]))
"""
_RUN_SECONDS = 900.0


def probabilities(python: Path, recordings: Sequence[bytes]) -> list[list[float]]:
    """Return microVAD's probability of speech in every 10 ms of each recording; blocks. `python` has microVAD."""
    sent = b"".join(struct.pack("<I", len(pcm)) + pcm for pcm in recordings)
    try:
        done = subprocess.run([str(python), "-c", _SCRIPT], input=sent, capture_output=True, timeout=_RUN_SECONDS)
        done.check_returncode()
    except (OSError, subprocess.SubprocessError) as error:
        raise SatelliteError(f"microVAD cannot be run: {error}", code="bench-rivals") from error
    return [json.loads(line) for line in done.stdout.splitlines()]


def ends_at(speech: Sequence[float], silence_seconds: float) -> float | None:
    """Return after how many seconds Home Assistant takes the command for complete; None when it never does.

    Silence adds up over all pauses, until somebody has spoken for a second without one.
    """
    begins = _SPEECH_SECONDS
    silence, least, reset = silence_seconds, _COMMAND_SECONDS - _SPEECH_SECONDS, _RESET_SECONDS
    in_command = False
    for number, probability in enumerate(speech, 1):
        if probability < 0:  # microVAD has not heard enough yet
            continue
        speaks = probability > (_IN_COMMAND_THRESHOLD if in_command else _BEFORE_THRESHOLD)
        reset = reset - _WINDOW_SECONDS if speaks == in_command else _RESET_SECONDS
        if in_command:
            least -= _WINDOW_SECONDS
            silence -= 0.0 if speaks else _WINDOW_SECONDS
            if not speaks and silence <= 0 and least <= 0:
                return number * _WINDOW_SECONDS
        elif speaks:
            begins -= _WINDOW_SECONDS
            in_command = begins <= 0
        if reset <= 0:
            begins, silence, reset = _SPEECH_SECONDS, silence_seconds, _RESET_SECONDS
    return None
