"""The key of a hosted chat model: where it comes from, and that nobody ever sees it."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from satellite.config import OpenAICompatible
from satellite.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key and where it was found; an empty one stands for none."""

    value: str = field(repr=False)
    source: str
    """For people: the file or the variable, or where it was looked for in vain."""

    def scrub(self, text: str) -> str:
        """Return `text` without the key, should a server or a library have repeated it."""
        return text.replace(self.value, "[key]") if self.value else text


def find_key(settings: OpenAICompatible) -> ApiKey:
    """Return the key from the file of the settings, else from the environment, else from systemd's credentials.

    Reads files: call it at start-up. Raises `ConfigError` for a file that cannot be read and for what is no key.
    """
    if settings.api_key_file is not None:
        return _checked(_read(settings.api_key_file), str(settings.api_key_file))
    variable = re.sub(r"\W", "_", settings.name, flags=re.ASCII).upper() + "_API_KEY"
    if value := os.environ.get(variable, "").strip():
        return _checked(value, f"${variable}")
    credential = f"{settings.name}.key"
    if folder := os.environ.get("CREDENTIALS_DIRECTORY"):
        file = Path(folder, credential)
        if file.exists():
            return _checked(_read(file), f"the credential {credential}")
    return ApiKey("", f"neither api_key_file, ${variable} nor a credential {credential}")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
    # Outside the handler: the decoder's error carries the file's content.
    raise ConfigError(f"the key in {file} cannot be read: {reason}")


def _checked(value: str, source: str) -> ApiKey:
    """Refuse what cannot be a header, of which HTTP libraries complain by quoting it."""
    if not value:
        raise ConfigError(f"the key from {source} is empty")
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ConfigError(f"what {source} holds is no key: it has characters that no key has")
    return ApiKey(value, source)
