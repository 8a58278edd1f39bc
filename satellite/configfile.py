"""Reading the configuration: YAML in, a `Config` out, or every mistake with its file, line and key."""

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from satellite.config import (
    Config,
    Local,
    Ollama,
    OpenAICompatible,
    Settings,
    Wake,
    WakeWordSettings,
    Wyoming,
    custom_wake_words,
    nearest,
)
from satellite.config_http_token import find_token
from satellite.errors import ConfigError, ModelError
from satellite.models import catalogue
from satellite.models.catalogue import Kind

SYSTEM_CONFIG = Path("/etc/satellite/config.yaml")
"""Read when `--config` is not given and the file exists."""

Path_ = tuple[str | int, ...]
"""Where a value stands in the document, such as ("chat", "providers", 0, "url")."""


def load(path: Path | None = None) -> Config:
    """Return the configuration of `path`, else of `SYSTEM_CONFIG`, else the embedded defaults.

    Raises `ConfigError` with one line a problem: file:line: key: what was found, what was expected.
    """
    if path is None:
        if not SYSTEM_CONFIG.exists():
            return Config()
        path = SYSTEM_CONFIG
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse(text, name=str(path))


def parse(text: str, *, name: str = "config") -> Config:
    """Return the configuration written in the YAML `text`; `name` stands for the file in messages."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
        lines = {} if node is None else dict(_lines(node))
        duplicates = [] if node is None else list(_duplicates(node))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if document is None:
        document = {}
    if not isinstance(document, Mapping):
        raise ConfigError(f"{name}:1: expected keys and values, found {type(document).__name__}")
    problems = [f"{name}:{line}: {key}: given twice" for line, key in duplicates]
    config = None
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        for detail in _root_causes(error):
            where_, message = _describe(detail, document)
            problems.append(f"{name}:{_line_of(where_, lines)}: {_dotted(where_)}: {message}")
    if config is not None:
        problems += [f"{name}:{_line_of(at, lines)}: {_dotted(at)}: {message}" for at, message in check(config)]
    if problems or config is None:
        raise ConfigError("\n".join(problems))
    return config


def check(config: Config) -> Iterator[tuple[Path_, str]]:
    """Yield what types alone cannot tell: clashing ports, names that do not exist, bad networks."""
    yield from _port_clashes(config)
    yield from _bad_networks(config.wyoming)
    yield from _unknown_models(config)
    yield from _unknown_language(config)
    yield from _unknown_wake_words(config.wake)
    yield from _rooms_twice(config)
    yield from _host_room(config)
    yield from _open_http(config)


def _open_http(config: Config) -> Iterator[tuple[Path_, str]]:
    if not config.http.enabled:
        return
    try:
        token = find_token(config.http)
    except ConfigError as error:
        yield ("http", "token" if config.http.token_file is None else "token_file"), str(error)
        return
    if not token.value and not config.http.is_local:
        yield (
            ("http", "host"),
            f"{config.http.host} can be reached from other machines, and there is no token ({token.source})",
        )


def _rooms_twice(config: Config) -> Iterator[tuple[Path_, str]]:
    for key in ("name", "uri"):
        seen: set[str] = {config.host_room.name} if key == "name" and config.microphone.given else set()
        for index, room in enumerate(config.rooms):
            value = getattr(room, key)
            if value in seen:
                yield ("rooms", index, key), f"{value!r} is another room's {key} already"
            seen.add(value)


def _host_room(config: Config) -> Iterator[tuple[Path_, str]]:
    if config.speaker.given and not config.microphone.given:
        yield ("speaker",), "the host's own room needs a microphone as well; expected microphone to be given"
    if config.home_assistant_satellite.enabled and not config.microphone.given:
        yield ("home_assistant_satellite", "enabled"), "there is no microphone; expected microphone to be given"


def _port_clashes(config: Config) -> Iterator[tuple[Path_, str]]:
    taken: dict[int, str] = {}
    ports: list[tuple[str, str, int | None]] = [
        ("wyoming", key, getattr(config.wyoming, key))
        for key in ("port", "wake_port", "stt_port", "tts_port", "handle_port")
    ]
    if config.home_assistant_satellite.enabled:
        ports.append(("home_assistant_satellite", "port", config.home_assistant_satellite.port))
    if config.http.enabled:
        ports.append(("http", "port", config.http.port))
    for section, key, port in ports:
        if port is None:
            continue
        if port in taken:
            yield (section, key), f"port {port} is also {taken[port]}; expected a port of its own"
        taken.setdefault(port, f"{section}.{key}")


def _bad_networks(wyoming: Wyoming) -> Iterator[tuple[Path_, str]]:
    for index, network in enumerate(wyoming.allow):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            yield ("wyoming", "allow", index), f"{network!r} is no address or network, such as 203.0.113.0/24"


def _unknown_models(config: Config) -> Iterator[tuple[Path_, str]]:
    named: list[tuple[Path_, Kind, str]] = []
    if not config.stt.uri:
        named.append((("stt", "model"), Kind.STT, config.stt.model))
    if not config.tts.uri:
        named.append((("tts", "voice"), Kind.TTS, config.tts.voice))
    named += [
        (("chat", "providers", index, "model"), Kind.CHAT, provider.model)
        for index, provider in enumerate(config.chat.providers)
        if isinstance(provider, Local)
    ]
    for where, kind, name in named:
        try:
            catalogue.find(kind, name)
        except ModelError as error:
            yield where, str(error)


def _unknown_language(config: Config) -> Iterator[tuple[Path_, str]]:
    language = config.stt.language
    if config.stt.uri:
        return  # the servers know
    try:
        languages = catalogue.find(Kind.STT, config.stt.model).languages
    except ModelError:
        return  # already reported
    if language is not None and languages and language not in languages:
        yield (
            ("stt", "language"),
            f"model {config.stt.model} does not know {language!r}; {nearest(language, set(languages))}",
        )


def _unknown_wake_words(wake: Wake) -> Iterator[tuple[Path_, str]]:
    if wake.uri:
        return  # the servers know
    known = set(catalogue.WAKE_WORDS[wake.engine]) | custom_wake_words(wake)
    mentioned: list[tuple[Path_, str]] = [(("wake", "words", index), word) for index, word in enumerate(wake.words)]
    mentioned += [(("wake", "per_word", word), word) for word in wake.per_word]
    for where, word in mentioned:
        if word not in known:
            yield where, f"unknown wake word {word!r}; {nearest(word, known)}"


def _root_causes(error: ValidationError) -> list[Any]:
    """Return the problems without those that only follow from another one further down."""
    details = error.errors()
    places = [detail["loc"] for detail in details]
    return [
        detail
        for detail in details
        if not any(len(place) > len(detail["loc"]) and place[: len(detail["loc"])] == detail["loc"] for place in places)
    ]


def _describe(detail: Any, document: Mapping[str, Any]) -> tuple[Path_, str]:
    """Return where a pydantic problem lies in the document, and what it is, for a person."""
    where = _without_tags(detail["loc"], document)
    if detail["type"] == "extra_forbidden":
        siblings = _keys_at(where[:-1], document)
        return where, f"unknown key; {nearest(str(where[-1]), siblings)}"
    found = "" if detail["type"] == "missing" else f", found {_shown(detail['input'])}"
    return where, f"{_lower(detail['msg'])}{found}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _without_tags(loc: Path_, document: Any) -> Path_:
    """Drop the union tags that pydantic puts into a location, by walking the document beside it."""
    where: list[str | int] = []
    here = document
    for index, step in enumerate(loc):
        last = index == len(loc) - 1
        if isinstance(here, Mapping) and (step in here or last):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        else:
            continue
        where.append(step)
    return tuple(where)


def _keys_at(where: Path_, document: Any) -> set[str]:
    """Return the valid keys of the section at `where`."""
    section: type[Settings] = Config
    here = document
    for step in where:
        here = here[step]
        if isinstance(step, int):
            kinds: dict[Any, type[Settings]] = {"ollama": Ollama, "openai": OpenAICompatible, "local": Local}
            section = kinds.get(here.get("type"), Local)
        elif section is Wake and step == "per_word":
            section = WakeWordSettings
        elif isinstance(kind := getattr(section.model_fields.get(step), "annotation", None), type):
            section = kind
    return set(section.model_fields)


def _dotted(where: Path_) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).lstrip(".") or "document"


def _line_of(where: Path_, lines: Mapping[Path_, int]) -> int:
    """Return the line of `where`, or of the nearest enclosing key that is written down."""
    for length in range(len(where), 0, -1):
        if where[:length] in lines:
            return lines[where[:length]]
    return 1


def _lines(node: yaml.Node, where: Path_ = ()) -> Iterator[tuple[Path_, int]]:
    """Yield every location in the document with its line, counted from 1."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*where, key.value)
            yield here, key.start_mark.line + 1
            yield from _lines(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*where, index), value.start_mark.line + 1
            yield from _lines(value, (*where, index))


def _duplicates(node: yaml.Node) -> Iterator[tuple[int, str]]:
    """Yield line and name of keys that a mapping has twice; YAML silently keeps the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, key.value
            seen.add(key.value)
            yield from _duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _duplicates(value)
