"""What all downloads share: progress, free space, hashes, and errors of the disk."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from satellite.errors import ModelError
from satellite.models.spec import File, ModelSpec

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SLACK_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024

PLAN = ".plan"
"""File in a partial download that identifies the content it belongs to."""

Report = Callable[[int, int], None]
"""Called with the number of bytes received, and the total."""


class Progress(Protocol):
    """Called with the progress of a pull, in its thread."""

    def __call__(self, spec: ModelSpec, done_bytes: int, total_bytes: int) -> None:
        """Show that `done_bytes` of `total_bytes` are here."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Complete, verified files in a folder, each with its SHA-256."""

    files: tuple[File, ...]
    origin: str
    """Where they came from, for the manifest."""


def no_progress(spec: ModelSpec, done_bytes: int, total_bytes: int) -> None:
    """Show nothing (`Progress`)."""


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise ModelError(model-disk-full) unless the disk of `folder` has space for `needed_bytes` and some more."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + _SLACK_BYTES:
        raise ModelError(
            f"the disk of {folder} has {megabytes(free)} free and {megabytes(needed_bytes)} are needed",
            code="model-disk-full",
        )


def seal(path: Path, file: File) -> File:
    """Verify `path` against the hashes of `file`, sync it to disk and return `file` with its SHA-256.

    Raises ModelError(model-corrupt).
    """
    actual = check(path, file)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return replace(file, sha256=actual.sha256, size_bytes=actual.size_bytes)


def check(path: Path, file: File) -> File:
    """Return the file that `path` really holds; raises ModelError(model-corrupt) if it contradicts `file`."""
    size = path.stat().st_size
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    sha1, blob = hashlib.sha1(usedforsecurity=False), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    needed = [sha256, *([md5] if file.md5 else []), *([sha1, blob] if file.sha1 else [])]
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            for digest in needed:
                digest.update(chunk)
    # The hub announces the SHA-1 of git's blob, but some mirrors the plain one.
    if (
        (file.sha256 not in (None, sha256.hexdigest()))
        or (file.md5 not in (None, md5.hexdigest()))
        or (file.sha1 not in (None, sha1.hexdigest(), blob.hexdigest()))
    ):
        raise ModelError(f"{file.name} does not match its hash", code="model-corrupt")
    return File(file.name, size, sha256.hexdigest())


def resumable(partial: Path) -> bool:
    """Return whether a later pull can resume from `partial`."""
    if not (partial / PLAN).is_file():
        return False
    return any(file.name != PLAN and file.stat().st_size for file in partial.iterdir())


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError into a ModelError about `folder`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _DISK_FULL:
            raise ModelError(f"cannot write to {folder}: {reason}", code="model-disk-full") from error
        raise ModelError(f"cannot use {folder}: {reason}", code="model-download-failed") from error


def megabytes(size_bytes: int) -> str:
    """Return a size for people, such as `75.5 MB`."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes < 1e9 else f"{size_bytes / 1e9:.2f} GB"
