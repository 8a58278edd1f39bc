"""Keys and tokens: where they come from, and that nobody ever sees them."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from satellite.errors import ConfigError, ConfigUnreadable

SERVICE_FOLDER = Path("/etc/satellite/credentials")
"""Which the unit has systemd load."""

_FOLDER = "satellite_"
"""What systemd puts before a file's name when it loads a whole folder (`LoadCredential=satellite:FOLDER`)."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret and where it was found; an empty one stands for none."""

    value: str = field(repr=False)
    source: str
    """For people: the file, the setting or the variable, or where it was looked for in vain."""

    kind: str
    """`key` or `token`."""

    elsewhere: bool = False
    """Whether systemd may hand one to the service, which it does to no other process."""

    def scrub(self, text: str) -> str:
        """Return `text` without the secret, should a server or a library have repeated it."""
        return text.replace(self.value, f"[{self.kind}]") if self.value else text


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a secret may be, in the order in which it is looked for."""

    name: str
    """What messages call it, such as `the key`."""

    kind: str
    file: Path | None
    file_setting: str
    variable: str
    credential: str
    """Of systemd."""

    given: SecretStr | None = None
    given_setting: str = ""

    def find(self) -> Secret:
        """Return the secret from the file, the settings, the environment, or systemd's credentials.

        Reads files: call it at start-up. Raises `ConfigError` for a file that cannot be read and for what is none.
        """
        if self.file is not None:
            return self._checked(self._read(self.file), str(self.file))
        if self.given is not None:
            return self._checked(self.given.get_secret_value().strip(), self.given_setting)
        if value := os.environ.get(self.variable, "").strip():
            return self._checked(value, f"${self.variable}")
        if folder := os.environ.get("CREDENTIALS_DIRECTORY"):
            for name in (self.credential, f"{_FOLDER}{self.credential}"):
                if (file := Path(folder, name)).exists():
                    return self._checked(self._read(file), f"the credential {self.credential}")
        settings = ", ".join(
            [self.file_setting, *([self.given_setting.rpartition(".")[2]] if self.given_setting else [])]
        )
        return Secret(
            "", f"neither {settings}, ${self.variable} nor a credential {self.credential}", self.kind, self._elsewhere()
        )

    def _elsewhere(self) -> bool:
        if "CREDENTIALS_DIRECTORY" in os.environ:
            return False  # this is the service
        try:
            (SERVICE_FOLDER / self.credential).stat()
        except PermissionError:  # root's alone
            return True
        except OSError:
            return False
        return True

    def sought(self) -> Secret:
        """Return what `find` does; one that cannot be had is as one that is not there, and its source says why."""
        try:
            return self.find()
        except ConfigError as error:
            return Secret("", str(error), self.kind)

    def _read(self, file: Path) -> str:
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigUnreadable(f"{self.name} in {file} cannot be read: {error.strerror}") from error
        except ValueError:
            pass
        # Outside the handler: the decoder's error carries the file's content.
        raise ConfigError(f"{self.name} in {file} cannot be read: it is no text")

    def _checked(self, value: str, source: str) -> Secret:
        """Refuse what cannot be a header, of which HTTP libraries complain by quoting it."""
        if not value:
            raise ConfigError(f"{self.name} from {source} is empty")
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise ConfigError(f"what {source} holds is no {self.kind}: it has characters that no {self.kind} has")
        return Secret(value, source, self.kind)
