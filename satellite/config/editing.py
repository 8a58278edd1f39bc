"""Changes the configuration's file: a backup first, and only to a content that the loader accepts."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from satellite.config import loader
from satellite.config.consistency import Problems
from satellite.config.settings import Config
from satellite.errors import ConfigError, ConfigUnreadable
from satellite.system.files import replace_file


def check_editable(file: Path) -> None:
    """Raise `ConfigError`, with the cure, where this user may not replace `file`."""
    if not file.exists():
        cure = "make one with `satellite config --example > FILE`, and name it: satellite --config FILE"
        raise ConfigError(f"{file} does not exist; {cure}")
    for path, needed in ((file.resolve(), os.R_OK | os.W_OK), (file.resolve().parent, os.W_OK | os.X_OK)):
        if not os.access(path, needed):
            own = os.geteuid() in (0, path.stat().st_uid)
            cure = f": {path} is read-only" if own else " by this user; try it with sudo"
            raise ConfigUnreadable(f"{file} cannot be changed{cure}")


Change = Callable[[str], str]
Check = Callable[[Config], Problems]


def check_edit(file: Path, change: Change, check: Check) -> None:
    """Raise `ConfigError` where `edit` would, as far as that can be known without writing."""
    check_editable(file)
    _edited(file, change, check)


def edit(file: Path, change: Change, check: Check) -> Path:
    """Replace the content of `file` by what `change` makes of it, and return the backup, FILE.bak.

    Owner and permissions stay, a symbolic link is followed. Raises `ConfigError` where the new content is not valid by
    the loader and `check`, or cannot be written; the file is as it was then.
    """
    check_editable(file)
    target = file.resolve()
    text, edited = _edited(file, change, check)
    backup = target.with_name(f"{target.name}.bak")
    try:
        status = target.stat()
        mode, owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
        replace_file(backup, text, mode=mode, owner=owner)
        replace_file(target, edited, mode=mode, owner=owner)
    except OSError as error:
        # As into a container: no other file can take its place.
        cure = "; it is mounted by itself, mount its folder in its place" if error.errno == errno.EBUSY else ""
        raise ConfigError(f"{file} cannot be changed: {error.filename}: {error.strerror}{cure}") from error
    return backup


def _edited(file: Path, change: Change, check: Check) -> tuple[str, str]:
    """Return the content of `file`, and what `change` makes of it, both valid."""
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            text = opened.read()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    loader.parse(text, name=str(file), check=check)  # a mistake that is there already is reported as such
    edited = change(text)
    loader.parse(edited, name=str(file), check=check)
    return text, edited
