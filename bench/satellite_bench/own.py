"""Our daemon as it is measured: a process of its own, with the demo models on the CPU."""

import importlib.metadata
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import satellite
from satellite import __version__
from satellite.errors import SatelliteError
from satellite.models.catalogue import demo_set
from satellite.models.spec import Kind, ModelSpec
from satellite_bench.server import Command, free_port

NAME = "satellite"

_CODE = (Path(satellite.__file__).parents[1], Path(__file__).parents[1])
"""Where the two packages were loaded from: that is what is measured."""

_DOUBLES = Path("tests", "doubles", "__main__.py")

_SHOWN = (
    *("faster-whisper", "ctranslate2", "piper-tts", "onnxruntime", "numpy", "wyoming", "xllamacpp"),
    *("ollama", "httpx"),
)


def daemon(
    folder: Path,
    models: Path,
    threads: int,
    *,
    chat: bool = True,
    language: str = "en",
    handle_port: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Command:
    """Return how the daemon is started; its configuration is written into `folder`, `settings` in place of its own.

    Piper gets so many `threads`; Whisper as many as are fastest, which the daemon measures by itself, and keeps. It
    remembers no replies: the same ones are asked for again and again. Without `chat` its chat model is an Ollama
    that does not exist: what is left is the rest of the daemon. It hears and speaks `language` by that demo set.
    """
    port = free_port()
    whisper, voice = (demo_model(language, kind) for kind in (Kind.STT, Kind.TTS))
    config: dict[str, Any] = {
        "log_level": "warning",
        "wyoming": {"host": "127.0.0.1", "port": port}
        | dict.fromkeys(("wake_port", "stt_port", "tts_port"))
        | {"handle_port": handle_port},
        "zeroconf": {"enabled": False},
        "http": {"enabled": False},
        "models": {"directory": str(models)},
        "stt": {
            "model": whisper.name,
            "language": language,
            "device": "cpu",
            "compute_type": "int8",
            "own_endpoint": False,  # recordings are measured whole, as the others' are
        },
        "tts": {"voice": voice.name, "device": "cpu", "threads": threads, "reply_cache_mib": 0},
    }
    if not chat:
        nowhere = {"type": "ollama", "model": "none", "url": f"http://127.0.0.1:{free_port()}"}
        config["chat"] = {"providers": [nowhere]}
    file = config_file(folder, port)
    file.write_text(yaml.safe_dump(config | dict(settings or {})), encoding="utf-8")
    return Command(NAME, port, [sys.executable, "-m", "satellite", "--config", str(file), "run"], environment())


def demo_model(language: str, kind: Kind) -> ModelSpec:
    """Return the model of a kind in the demo set of a language, `en` or `fr`."""
    return next(spec for spec in demo_set(language) if spec.kind is kind)


def config_file(folder: Path, port: int) -> Path:
    """Return where `daemon` writes the configuration of one that listens at `port`."""
    return folder / f"satellite-{port}.yaml"


def environment(*folders: Path) -> dict[str, str]:
    """Return an environment in which a process finds these very packages, and those in `folders`."""
    code = os.pathsep.join(filter(None, (*map(str, (*_CODE, *folders)), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": code}


def doubles_environment() -> dict[str, str]:
    """Return an environment in which a process finds `tests.doubles`, which only a checkout of the source has.

    Raises `SatelliteError` with the code `bench-checkout` where this package was not installed from one in place, and
    the working directory is in none.
    """
    here = Path.cwd()
    for folder in (Path(__file__).parents[2], here, *here.parents):
        if (folder / _DOUBLES).is_file():
            return environment(folder)
    raise SatelliteError(
        "this part needs the test servers of the source; run it inside a checkout, or install it with "
        "pip install -e ./bench",
        code="bench-checkout",
    )


def versions() -> dict[str, str]:
    """Return our version and those of what does the work."""
    return {NAME: __version__} | {name: importlib.metadata.version(name) for name in _SHOWN}
