"""Files that are replaced as a whole: a reader, and a power cut, find the old content or the new one."""

import os
import stat
import tempfile
from pathlib import Path


def replace_file(path: Path, text: str, *, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """Write `text` to `path` in one step; raises OSError, which names `path`, and then `path` is as it was.

    The file gets the permissions `mode` and, if given, the user and group `owner`.
    """
    try:
        _replace(path, text, mode, owner)
    except OSError as error:  # it names another file, or none: such as when the disk is full
        raise OSError(error.errno, error.strerror, str(path)) from error


def _replace(path: Path, text: str, mode: int, owner: tuple[int, int] | None) -> None:
    # In the same folder: renaming is atomic only within a file system.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)  # it is left over where something failed
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or a power cut could undo the renaming
    finally:
        os.close(folder)


def exposure(secret: Path, reader: int) -> str:
    """Return who has access to a file with a secret beside the user `reader` and root; empty for nobody.

    Its group counts where it may write. OSError, such as of a file that is not there, is nobody.
    """
    try:
        status = secret.stat()
    except OSError:
        return ""
    mode = stat.S_IMODE(status.st_mode)
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        return f"others have access to it (mode {mode:04o})"
    return "" if status.st_uid in (reader, 0) else f"it belongs to the user {status.st_uid}"
