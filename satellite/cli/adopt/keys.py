"""The encryption keys of ESPHome devices, each in a file beside the configuration that names it."""

import re
from pathlib import Path

from satellite.cli.doctor import unit
from satellite.config import loader
from satellite.errors import ConfigError, ConfigUnreadable, SatelliteError
from satellite.rooms.esphome.provisioning import checked_key
from satellite.system.files import replace_file

_PREFIX = "esphome-"


class KeyFolder:
    """The files with keys in the folder of a configuration."""

    def __init__(self, config: Path) -> None:
        self._folder = config.resolve().parent
        # Of the service's configuration the service is the reader, of any other one who runs the daemon with it.
        self._of_service = config == loader.SYSTEM_CONFIG and unit.asks_as_service()

    def all(self) -> dict[str, Path]:
        """Return the files by their keys; what is no key, or cannot be read, is left out."""
        found: dict[str, Path] = {}
        for file in sorted(self._folder.glob(f"{_PREFIX}*.key")):
            try:
                found.setdefault(read_key(file), file)
            except SatelliteError:
                continue
        return found

    def store(self, device: str, key: str) -> Path:
        """Store the key of `device`, readable by the daemon alone, and return its file; raises `ConfigError`."""
        file = self._folder / f"{_PREFIX}{re.sub(r'[^A-Za-z0-9.-]', '_', device)}.key"
        number = 1
        while file.exists():  # the key of a device that was reset meanwhile, or of another one with the same name
            number += 1
            file = file.with_name(f"{_PREFIX}{re.sub(r'[^A-Za-z0-9.-]', '_', device)}-{number}.key")
        account = unit.account() if self._of_service else None
        try:
            replace_file(file, f"{key}\n", owner=account and (account.pw_uid, account.pw_gid))
        except OSError as error:
            raise ConfigError(f"the key cannot be stored in {file}: {error}; nothing was changed") from error
        return file


def read_key(file: Path) -> str:
    """Return the key in a file; raises `SatelliteError`, which does not repeat it."""
    try:
        return checked_key(file.read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        raise ConfigUnreadable(f"the key in {file} cannot be read: {error.strerror}") from error
