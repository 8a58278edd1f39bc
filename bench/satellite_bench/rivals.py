"""The official Wyoming servers: an environment of their own, and how they are started."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from satellite.errors import SatelliteError
from satellite_bench.server import Command, free_port

STT = "wyoming-faster-whisper"
TTS = "wyoming-piper"

REQUIREMENTS = (
    f"{STT}==3.8.1",
    "av<17",  # faster-whisper 1.2.1, which it needs, breaks with later ones
    f"{TTS}==2.5.2",
)

_SHOWN = ("faster-whisper", "ctranslate2", "piper-tts", "onnxruntime", "numpy", "wyoming")
_MEDDLING = ("PYTHON", "WYO_WHISPER_", "WYOMING_PIPER_", "HF_", "OPENBLAS_")
"""Beginnings of environment variables that would change what they do."""


def cache_folder() -> Path:
    """Return where the benchmark keeps what it makes once: the environment and the synthetic corpus."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "satellite" / "bench"


def environment(folder: Path, name: str = "official", requirements: Sequence[str] = REQUIREMENTS) -> Path:
    """Return the Python of an environment in `folder` with the `requirements`, made first unless it is there.

    Raises `SatelliteError` with the code `bench-rivals` when pip cannot install them.
    """
    home = folder / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = home / "bin" / "python"
    stamp = home / "installed.json"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{home.name}.lock"):
        if not stamp.is_file() or json.loads(stamp.read_text(encoding="utf-8")) != list(requirements):
            _call([sys.executable, "-m", "venv", "--clear", str(home)])
            _call([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
            stamp.write_text(json.dumps(list(requirements)), encoding="utf-8")
    return python


def _call(arguments: list[str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment_of(offline=False), check=False)
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).splitlines()[-8:])
        raise SatelliteError(
            f"the official servers could not be installed; --no-rivals measures without them\n{last}",
            code="bench-rivals",
        )
    return done.stdout


def versions(python: Path) -> dict[str, str]:
    """Return the versions of the official servers and of what does their work."""
    script = (
        "import importlib.metadata as m, json, sys; print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
    )
    shown: dict[str, str] = json.loads(_call([str(python), "-c", script, STT, TTS, *_SHOWN]))
    return shown


def speech_to_text(python: Path, model: Path, threads: int, *, has_own_defaults: bool = False) -> Command:
    """Return how the official speech to text serves the CTranslate2 folder `model` on the CPU.

    By its own defaults it has a beam of five, in float32 for the models of the demo; else it is greedy, in int8, which
    is faster.
    """
    port = free_port()
    options = {
        "--uri": f"tcp://127.0.0.1:{port}",
        "--stt-library": "faster-whisper",
        "--model": str(model),
        "--data-dir": str(model),
        "--device": "cpu",
        "--cpu-threads": str(threads),
    }
    if not has_own_defaults:
        options |= {"--compute-type": "int8", "--beam-size": "1"}
    return _command(STT, python, port, options)


def text_to_speech(python: Path, voice: Path) -> Command:
    """Return how the official text to speech serves the .onnx file `voice`; it takes one thread a core, unasked."""
    port = free_port()
    options = {"--uri": f"tcp://127.0.0.1:{port}", "--voice": voice.stem, "--data-dir": str(voice.parent)}
    return _command(TTS, python, port, options)


def _command(name: str, python: Path, port: int, options: dict[str, str]) -> Command:
    module = name.replace("-", "_")
    words = [word for option in options.items() for word in option]
    arguments = [str(python), "-m", module, *words, "--local-files-only"]
    return Command(name, port, arguments, environment_of(offline=True))


def environment_of(*, offline: bool) -> dict[str, str]:
    """Return our environment variables without those that would reach into theirs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_MEDDLING)}
    return kept | {"HF_HUB_OFFLINE": "1"} if offline else kept
