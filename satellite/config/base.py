"""The base class of all sections of the configuration, and the types of common settings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from satellite import languages
from satellite.config import addresses

_LONGEST_PATH, _LONGEST_FILE_NAME = 4095, 255  # Linux's PATH_MAX and NAME_MAX, bytes

Port = Annotated[int, Field(ge=1, le=65535)]
ComputeDevice = Literal["auto", "cuda", "cpu"]
Probability = Annotated[float, Field(ge=0, le=1)]

Score = Annotated[float, Field(ge=0.01, le=0.99)]
"""A threshold that not everything and not nothing reaches."""

Seconds = Annotated[float, Field(ge=0.1, le=3600)]
HoursOfDay = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")]


def _hidden(value: object) -> object:
    """Wrap whatever YAML made of a secret, so that no message about a wrong type shows it."""
    return value if value is None or isinstance(value, SecretStr) else SecretStr(str(value))


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _text(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("expected a name, on one line")
    return value


def _path(path: Path) -> Path:
    if len(bytes(path)) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_FILE_NAME for part in path.parts):
        raise ValueError("expected a shorter path")
    return path


def _language(value: object) -> object:
    if not isinstance(value, str):
        return value
    code = languages.family(value)
    if code == "auto":
        return None
    # Only large-v3 knows Cantonese, which is why the table lacks it.
    if code not in (*languages.WHISPER, "yue"):
        raise ValueError("expected the code of a language that Whisper knows, such as en, de or pt-BR")
    return languages.canonical(value)


def _one_of_each(codes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple({languages.family(code): code for code in reversed(codes)}.values())[::-1]


Text = Annotated[str, AfterValidator(_text)]
"""A name in messages, logs and requests."""

Name = Annotated[Text, Field(max_length=64)]

HttpUrl = Annotated[str, AfterValidator(addresses.http_url)]
"""Address of an HTTP server, such as http://homeassistant.local:8123."""

MediaUrl = Annotated[str, AfterValidator(addresses.media_url), Field(max_length=2048)]
"""Address of sound, such as https://radio.example/jazz.mp3?id=1."""

WyomingUri = Annotated[str, AfterValidator(addresses.wyoming_uri)]
"""Address of a Wyoming server, such as tcp://gpu1:10300."""

EsphomeUri = Annotated[str, AfterValidator(addresses.esphome_uri)]
"""Address of an ESPHome device, such as esphome://192.168.1.30."""

MacAddress = Annotated[str, AfterValidator(addresses.mac)]
"""Twelve hexadecimal digits; may be given with colons or dashes between the pairs."""

Addresses = Annotated[tuple[WyomingUri, ...], BeforeValidator(_several, json_schema_input_type=str | tuple[str, ...])]
"""One address or several."""

Host = Annotated[str, AfterValidator(addresses.host)]
"""An address or a name to listen on; an IPv6 address with or without brackets."""

Hosts = Annotated[
    tuple[Host, ...], Field(min_length=1), BeforeValidator(_several, json_schema_input_type=str | tuple[str, ...])
]
"""One address to listen on, or several."""

Origin = Annotated[str, AfterValidator(addresses.origin)]
"""Origin of a web page, such as https://home.example."""

ServiceName = Annotated[str, AfterValidator(addresses.service_name)]
Network = Annotated[str, AfterValidator(addresses.network)]
IpAddress = Annotated[str, AfterValidator(addresses.ip)]
DiskPath = Annotated[Path, AfterValidator(_path)]

Language = Annotated[str | None, BeforeValidator(_language)]
"""Code of a language that Whisper knows, perhaps with a region: en_us is en-US, nb is no, and auto is null."""

Languages = Annotated[
    tuple[Annotated[str, BeforeValidator(_language)], ...],
    AfterValidator(_one_of_each),
    BeforeValidator(_several, json_schema_input_type=str | tuple[str, ...]),
]
"""Codes of languages, each once: Whisper does not tell regions apart, so the first region counts."""

SecretText = Annotated[SecretStr | None, BeforeValidator(_hidden)]
"""A token or key in the configuration itself."""


class Settings(BaseModel):
    """Base of every section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
