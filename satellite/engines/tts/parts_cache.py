"""The parts of voices on disk, so that each voice is split and measured once.

<folder>/<SHA-256 of the voice>/    front.onnx, flow.onnx, decoder.onnx and parts.json; appears at once, complete
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from satellite.engines.onnx_session import OnnxSession, model_errors
from satellite.engines.tts.graph_split import CannotSplit, split
from satellite.engines.tts.vits import Inputs, Shape, VitsNetwork, measure

_LOGGER = logging.getLogger(__name__)

_VERSION = 2
"""Of splitting and measuring; parts of another version are replaced."""

_DESCRIPTION = "parts.json"
_UNFINISHED = ".new-"
_ABANDONED_SECONDS = 3600.0
"""Unfinished parts of this age belong to a process that was killed."""

_NAMES = ("front", "flow", "decoder")

Session = Callable[[Path], OnnxSession]
"""Loads an .onnx file."""

Calibration = Callable[[], tuple[Inputs, Inputs]]
"""Returns two texts to measure with: one of some seconds, and a shorter one."""


def load_network(voice: Path, digest: str, folder: Path, session: Session, calibration: Calibration) -> VitsNetwork:
    """Return the network of the file `voice`, whose SHA-256 is `digest`, from its parts in `folder`.

    If they are missing, damaged or of another version they are made, which takes some seconds. `folder` need not be
    writable. Raises `CannotSplit`.
    """
    home = folder / digest
    shape = _shape(home)
    if shape is not None:
        front, flow, decoder = (session(home / f"{name}.onnx") for name in _NAMES)
        return VitsNetwork(front, flow, decoder, shape)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
    except OSError as error:
        _LOGGER.warning("voice %s is split at every start: %s cannot be written: %s", voice.stem, folder, error)
        new = Path(tempfile.mkdtemp(prefix="satellite-voice-"))
    try:
        found, hashes = _split(voice, new, session, calibration)
        if new.parent == folder:
            _keep(new, home, voice, found, hashes)
        return found
    finally:
        shutil.rmtree(new, ignore_errors=True)


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _shape(home: Path) -> Shape | None:
    """Return the shape of the parts in `home`; None if there are none, or they cannot be used."""
    try:
        description = json.loads((home / _DESCRIPTION).read_text(encoding="utf-8"))
        if description["version"] != _VERSION:
            return None
        damaged = [name for name in _NAMES if digest_of(home / f"{name}.onnx") != description["sha256"][name]]
        shape = description["shape"]
        found = Shape(**(shape | {"framed": tuple(shape["framed"])}))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _LOGGER.warning("the parts of a voice in %s cannot be read, and are replaced: %s", home, error)
        return None
    if damaged:
        _LOGGER.warning("the parts of a voice in %s are damaged, and are replaced", home)
        return None
    return found


def _split(voice: Path, folder: Path, session: Session, calibration: Calibration) -> tuple[VitsNetwork, dict[str, str]]:
    """Split and measure the voice; return it with the hashes of the files in `folder`."""
    parts = split(voice.read_bytes())
    hashes = {}
    for name in _NAMES:
        model = getattr(parts, name)
        with (folder / f"{name}.onnx").open("wb") as output:
            output.write(model)
            output.flush()
            # Before the rename: after a power cut there must be no complete folder without its content.
            os.fsync(output.fileno())
        hashes[name] = hashlib.sha256(model).hexdigest()
    try:
        front, flow, decoder = (session(folder / f"{name}.onnx") for name in _NAMES)
        return measure(front, flow, decoder, parts, *calibration()), hashes
    except model_errors() as error:
        raise CannotSplit(f"its parts do not run: {error}") from error


def _keep(new: Path, home: Path, voice: Path, found: VitsNetwork, hashes: dict[str, str]) -> None:
    """Publish the parts under their name, and remove those that are no longer needed."""
    description = {"version": _VERSION, "voice": str(voice.resolve()), "sha256": hashes, "shape": asdict(found.shape)}
    try:
        (new / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(home, ignore_errors=True)
        new.rename(home)
        for other in home.parent.glob(f"*/{_DESCRIPTION}"):
            if other.parent != home and _is_stale(other, voice):
                shutil.rmtree(other.parent, ignore_errors=True)
        for left in home.parent.glob(f"{_UNFINISHED}*"):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    except OSError as error:  # another process may have been faster, or the disk is full
        _LOGGER.warning("the parts of voice %s could not be kept: %s", voice.stem, error)


def _is_stale(description: Path, voice: Path) -> bool:
    """Return whether parts belong to a voice that was removed, or to a predecessor of `voice` in the same file."""
    try:
        source = Path(json.loads(description.read_text(encoding="utf-8"))["voice"])
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return source == voice.resolve() or not source.is_file()
