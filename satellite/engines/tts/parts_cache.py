"""The parts of voices on disk, so that a voice is cut and measured once.

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
from pathlib import Path
from typing import Any

from satellite.engines.tts.graph_split import CannotSplit, split
from satellite.engines.tts.vits import Feed, Shape, VitsNetwork, measured

_LOGGER = logging.getLogger(__name__)

_VERSION = 2
"""Of how voices are cut and measured; parts of another one are made anew."""

_DESCRIPTION = "parts.json"
_UNFINISHED = ".new-"
_ABANDONED_SECONDS = 3600.0
"""After this long nobody is at work on unfinished parts any more: whoever was has been killed."""

_NAMES = ("front", "flow", "decoder")

Session = Callable[[Path], Any]
"""Loads an .onnx file."""

Feeds = Callable[[], tuple[Feed, Feed]]
"""Returns two texts to measure by: a sentence of some seconds, and a shorter one."""


def network(voice: Path, digest: str, folder: Path, session: Session, feeds: Feeds) -> VitsNetwork:
    """Return the network of the file `voice`, whose SHA-256 is `digest`, from its parts in `folder`.

    They are made first where they are missing, damaged or of another version; that takes some seconds. A folder that
    cannot be written is no failure. Raises `CannotSplit`.
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
        _LOGGER.warning("voice %s is cut anew at every start: %s cannot be written: %s", voice.stem, folder, error)
        new = Path(tempfile.mkdtemp(prefix="satellite-voice-"))
    try:
        found, hashes = _made(voice, new, session, feeds)
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
    """Return what is known of parts that are there and sound, else None."""
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
        _LOGGER.warning("the parts of a voice in %s cannot be read, and are made anew: %s", home, error)
        return None
    if damaged:
        _LOGGER.warning("the parts of a voice in %s are damaged, and are made anew", home)
        return None
    return found


def _made(voice: Path, folder: Path, session: Session, feeds: Feeds) -> tuple[VitsNetwork, dict[str, str]]:
    """Cut and measure the voice; return it with the hashes of the files in `folder`."""
    parts = split(voice.read_bytes())
    hashes = {}
    for name in _NAMES:
        model = getattr(parts, name)
        with (folder / f"{name}.onnx").open("wb") as output:
            output.write(model)
            output.flush()
            os.fsync(output.fileno())
        hashes[name] = hashlib.sha256(model).hexdigest()
    try:
        front, flow, decoder = (session(folder / f"{name}.onnx") for name in _NAMES)
        return measured(front, flow, decoder, parts, *feeds()), hashes
    except CannotSplit:
        raise
    except Exception as error:  # ONNX Runtime raises classes of its own, and a graph may be anything
        raise CannotSplit(f"its parts do not run: {error}") from error


def _keep(new: Path, home: Path, voice: Path, found: VitsNetwork, hashes: dict[str, str]) -> None:
    """Let the parts appear under their name, and let those go that nobody needs any more."""
    description = {
        "version": _VERSION,
        "voice": str(voice.resolve()),
        "sha256": hashes,
        "shape": found.shape.described(),
    }
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
    except OSError as error:  # another process was faster, or the disk is full
        _LOGGER.warning("the parts of voice %s could not be kept: %s", voice.stem, error)


def _is_stale(description: Path, voice: Path) -> bool:
    """Return whether parts belong to a voice that has gone, or was at the place of `voice` before it."""
    try:
        source = Path(json.loads(description.read_text(encoding="utf-8"))["voice"])
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return source == voice.resolve() or not source.is_file()
