"""What every way of fetching shares: progress, free space, hashes, and errors of the disk."""

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
"""File in a partial download that says which content it is part of."""

Report = Callable[[int, int], None]
"""Told how many bytes have come, and of how many."""


class Progress(Protocol):
    """Told how a pull goes on, from the thread that pulls."""

    def __call__(self, spec: ModelSpec, done_bytes: int, total_bytes: int) -> None:
        """Take note that `done_bytes` of `total_bytes` are here."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Complete, verified files in a folder, each with its SHA-256."""

    files: tuple[File, ...]
    origin: str
    """Where they came from, for the manifest."""


def quiet(spec: ModelSpec, done_bytes: int, total_bytes: int) -> None:
    """Be the `Progress` of whoever wants none."""


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise ModelError(model-disk-full) unless the disk of `folder` has room for `needed_bytes` and a little more."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + _SLACK_BYTES:
        raise ModelError(
            f"the disk of {folder} has {megabytes(free)} free and {megabytes(needed_bytes)} are needed",
            code="model-disk-full",
        )


def seal(path: Path, file: File) -> File:
    """Verify `path` against all that is known of `file`, force it to disk and return it with its SHA-256.

    Raises ModelError(model-corrupt).
    """
    actual = check(path, file)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return replace(file, sha256=actual.sha256, size_bytes=actual.size_bytes)


def check(path: Path, file: File) -> File:
    """Return what `path` really holds; raises ModelError(model-corrupt) where that contradicts `file`."""
    size = path.stat().st_size
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    sha1, blob = hashlib.sha1(usedforsecurity=False), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    needed = [sha256, *([md5] if file.md5 else []), *([sha1, blob] if file.sha1 else [])]
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            for digest in needed:
                digest.update(chunk)
    # Registries that stand in for the hub give the plain SHA-1, the hub itself that of git's blob.
    if (
        (file.sha256 not in (None, sha256.hexdigest()))
        or (file.md5 not in (None, md5.hexdigest()))
        or (file.sha1 not in (None, sha1.hexdigest(), blob.hexdigest()))
    ):
        raise ModelError(f"{file.name} does not have the content that its hash promises", code="model-corrupt")
    return File(file.name, size, sha256.hexdigest())


def resumable(partial: Path) -> bool:
    """Tell whether a later pull can go on from what lies in `partial`."""
    if not (partial / PLAN).is_file():
        return False
    return any(file.name != PLAN and file.stat().st_size for file in partial.iterdir())


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError into the ModelError that says what is the matter with `folder`."""
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
