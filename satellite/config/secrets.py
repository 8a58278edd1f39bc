"""Keys and tokens: where they are looked for, and how they are kept out of logs, errors and representations."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from satellite.config.chat import OllamaSettings, OpenAISettings
from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.http import HttpSettings
from satellite.config.rooms import EsphomeRoomSettings
from satellite.errors import ConfigError, ConfigUnreadable

SERVICE_FOLDER = Path("/etc/satellite/credentials")
"""Folder of the credentials that systemd loads for the service."""

_FOLDER = "satellite_"
"""Prefix of a file's name where systemd loads a whole folder (`LoadCredential=satellite:FOLDER`)."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret and where it was found; an empty `value` means that there is none."""

    value: str = field(repr=False)
    source: str
    """For people: the file, setting or variable, or all the places where none was found."""

    kind: str
    """`key` or `token`."""

    elsewhere: bool = False
    """Whether there may be one that systemd hands only to the service, so that this process cannot tell."""

    def scrub(self, text: str) -> str:
        """Return `text` without the secret, which a server or a library may have repeated."""
        return text.replace(self.value, f"[{self.kind}]") if self.value else text


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret may be, in the order in which it is looked for."""

    name: str
    """What messages call it, such as `the key`."""

    kind: Literal["key", "token"]
    file: Path | None
    variable: str
    credential: str
    """Name of systemd's credential; that of the setting `given` is the same."""

    given: SecretStr | None = None
    file_setting: str = "api_key_file"
    """What the setting of `file` is called, where there is no other setting."""

    def find(self) -> Secret:
        """Return the secret from the file, the settings, the environment, or systemd's credentials; blocks.

        Raises `ConfigUnreadable` for a file that cannot be read, `ConfigError` for content that cannot be a secret.
        """
        if self.file is not None:
            return self._checked(self._read(self.file), str(self.file))
        if self.given is not None:
            return self._checked(self.given.get_secret_value().strip(), self.credential)
        if value := os.environ.get(self.variable, "").strip():
            return self._checked(value, f"${self.variable}")
        if folder := os.environ.get("CREDENTIALS_DIRECTORY"):
            for name in (self.credential, f"{_FOLDER}{self.credential}"):
                if (file := Path(folder, name)).exists():
                    return self._checked(self._read(file), f"the credential {self.credential}")
        settings = "token_file, token" if self.kind == "token" else self.file_setting
        source = f"neither {settings}, ${self.variable} nor a credential {self.credential}"
        return Secret("", source, self.kind, self._is_kept_for_service())

    def find_or_explain(self) -> Secret:
        """Return what `find` does; instead of raising, an empty secret whose `source` says what is wrong."""
        try:
            return self.find()
        except ConfigError as error:
            return Secret("", str(error), self.kind)

    def _is_kept_for_service(self) -> bool:
        if "CREDENTIALS_DIRECTORY" in os.environ:
            return False  # this is the service
        try:
            (SERVICE_FOLDER / self.credential).stat()
        except PermissionError:  # only root may look into the folder
            return True
        except OSError:
            return False
        return True

    def _read(self, file: Path) -> str:
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigUnreadable(f"{self.name} in {file} cannot be read: {error.strerror}") from error
        except ValueError:
            pass
        # Raised outside the handler: the decoder's error, which Python would chain, carries the file's content.
        raise ConfigError(f"{self.name} in {file} cannot be read: it is not text")

    def _checked(self, value: str, source: str) -> Secret:
        """Refuse what cannot be a header value: HTTP libraries quote it in their errors."""
        if not value:
            raise ConfigError(f"{self.name} from {source} is empty")
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise ConfigError(f"{source} holds no {self.kind}: it has characters that a {self.kind} cannot have")
        return Secret(value, source, self.kind)


def http_token(settings: HttpSettings) -> SecretSource:
    """Return where the token of the HTTP server may be."""
    return SecretSource("the token", "token", settings.token_file, "SATELLITE_HTTP_TOKEN", "http.token", settings.token)


def home_assistant_token(settings: HomeAssistantSettings) -> SecretSource:
    """Return where Home Assistant's access token may be."""
    name, variable, credential = "Home Assistant's token", "HOME_ASSISTANT_TOKEN", "home_assistant.token"
    return SecretSource(name, "token", settings.token_file, variable, credential, settings.token)


def chat_key(settings: OllamaSettings | OpenAISettings) -> SecretSource:
    """Return where the key of a chat provider may be."""
    variable = re.sub(r"\W", "_", settings.name, flags=re.ASCII).upper() + "_API_KEY"
    return SecretSource("the key", "key", settings.api_key_file, variable, f"{settings.name}.key")


def esphome_key(settings: EsphomeRoomSettings) -> SecretSource:
    """Return where the encryption key of an ESPHome device may be."""
    name = re.sub(r"\W", "_", settings.name)
    variable, credential = f"ESPHOME_{name.upper()}_KEY", f"esphome.{name}.key"
    return SecretSource("the key", "key", settings.key_file, variable, credential, file_setting="key_file")
