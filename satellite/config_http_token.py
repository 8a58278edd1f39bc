"""The token of the HTTP server: where it comes from, and that nobody ever sees it."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from satellite.config_http import Http
from satellite.errors import ConfigError

_VARIABLE = "SATELLITE_HTTP_TOKEN"
_CREDENTIAL = "http.token"


@dataclass(frozen=True, slots=True)
class Token:
    """A token and where it was found; an empty one stands for none."""

    value: str = field(repr=False)
    source: str
    """For people: the file, the setting or the variable, or where it was looked for in vain."""


def find_token(settings: Http) -> Token:
    """Return the token from the file of the settings, the settings, the environment, or systemd's credentials.

    Reads files: call it at start-up. Raises `ConfigError` for a file that cannot be read and for what is no token.
    """
    if settings.token_file is not None:
        return _checked(_read(settings.token_file), str(settings.token_file))
    if settings.token is not None:
        return _checked(settings.token.get_secret_value().strip(), "http.token")
    if value := os.environ.get(_VARIABLE, "").strip():
        return _checked(value, f"${_VARIABLE}")
    if folder := os.environ.get("CREDENTIALS_DIRECTORY"):
        file = Path(folder, _CREDENTIAL)
        if file.exists():
            return _checked(_read(file), f"the credential {_CREDENTIAL}")
    return Token("", f"neither token_file, token, ${_VARIABLE} nor a credential {_CREDENTIAL}")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
    # Outside the handler: the decoder's error carries the file's content.
    raise ConfigError(f"the token in {file} cannot be read: {reason}")


def _checked(value: str, source: str) -> Token:
    """Refuse what cannot be a header."""
    if not value:
        raise ConfigError(f"the token from {source} is empty")
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ConfigError(f"what {source} holds is no token: it has characters that no token has")
    return Token(value, source)
