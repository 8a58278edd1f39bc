"""What the types of single settings cannot tell: settings that contradict each other, names that nobody knows.

`contradictions` looks at nothing but the settings; `on_disk` reads the files and folders that they name.
"""

import ipaddress
import os
import ssl
from collections.abc import Iterator, Sequence

from satellite.config.chat import LocalSettings
from satellite.config.rooms import RoomSettings
from satellite.config.secrets import http_token
from satellite.config.settings import Config, EndpointSettings, WakeSettings, WyomingSettings, nearest
from satellite.errors import ConfigError, ConfigUnreadable, ModelError
from satellite.models import catalogue
from satellite.models.catalogue import Kind

Where = tuple[str | int, ...]
"""Where a value stands in the document, such as ("chat", "providers", 0, "url")."""

Problems = Iterator[tuple[Where, str]]


def contradictions(config: Config) -> Problems:
    """Yield where and what: clashing ports, names that do not exist or are there twice, bad networks."""
    yield from _port_clashes(config)
    yield from _bad_networks(config.wyoming)
    yield from _unknown_models(config)
    yield from _unknown_languages(config)
    yield from _rooms_twice(config)
    yield from _providers_twice(config)
    yield from _host_room(config)
    yield from _pauses(config.endpoint)


def on_disk(config: Config) -> Problems:
    """Yield where and what of that which only the disk can tell; blocks."""
    yield from _wake_words(config)
    yield from _open_http(config)
    yield from _certificate(config)


def custom_wake_words(wake: WakeSettings) -> set[str]:
    """Return the names of the wake words in the custom folder, the files' stems; raises OSError."""
    directory = wake.custom_directory
    if directory is None or not os.path.lexists(directory):
        return set()
    return {file.stem for file in directory.iterdir() if file.suffix in (".onnx", ".tflite")}


def _port_clashes(config: Config) -> Problems:
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


def _bad_networks(wyoming: WyomingSettings) -> Problems:
    for index, network in enumerate(wyoming.allow):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            yield ("wyoming", "allow", index), f"{network!r} is no address or network, such as 203.0.113.0/24"


def _unknown_models(config: Config) -> Problems:
    named: list[tuple[Where, Kind, str]] = []
    if not config.stt.uri:
        named.append((("stt", "model"), Kind.STT, config.stt.model))
    if not config.tts.uri:
        named.append((("tts", "voice"), Kind.TTS, config.tts.voice))
    named += [
        (("chat", "providers", index, "model"), Kind.CHAT, provider.model)
        for index, provider in enumerate(config.chat.providers)
        if isinstance(provider, LocalSettings)
    ]
    for where, kind, name in named:
        try:
            catalogue.find(kind, name)
        except ModelError as error:
            yield where, str(error)


def _unknown_languages(config: Config) -> Problems:
    if config.stt.uri:
        return  # the servers know
    try:
        languages = catalogue.find(Kind.STT, config.stt.model).languages
    except ModelError:
        return  # already reported
    wanted: list[tuple[Where, str | None]] = [(("stt", "language"), config.stt.language)]
    wanted += [((*where, "language"), place.language) for where, place in _places(config)]
    for where, language in wanted:
        if language is not None and languages and language not in languages:
            yield where, f"model {config.stt.model} does not know {language!r}; {nearest(language, set(languages))}"


def _places(config: Config) -> Iterator[tuple[Where, RoomSettings]]:
    """Yield every room, the host's own as well, and where it stands."""
    if config.microphone.given:
        yield ("host_room",), config.host_room
    for index, room in enumerate(config.rooms):
        yield ("rooms", index), room


def _rooms_twice(config: Config) -> Problems:
    """Yield rooms that a person or the network could not tell apart."""
    names: dict[str, Where] = {}
    for where, place in _places(config):
        first = names.setdefault(place.name.strip().casefold(), where)
        if first != where:
            yield (*where, "name"), f"{place.name!r} is another room's name already, that of {_dotted(first)}"
    addresses: dict[str, int] = {}
    for index, room in enumerate(config.rooms):
        first_index = addresses.setdefault(room.uri.lower().rstrip("/"), index)
        if first_index != index:
            yield ("rooms", index, "uri"), f"{room.uri!r} is another room's uri already, that of rooms[{first_index}]"


def _providers_twice(config: Config) -> Problems:
    seen: dict[tuple[str, str, str], int] = {}
    for index, provider in enumerate(config.chat.providers):
        key = (provider.type, getattr(provider, "url", "").rstrip("/").casefold(), provider.model)
        first = seen.setdefault(key, index)
        if first != index:
            yield ("chat", "providers", index), f"the same provider as chat.providers[{first}]; expected another one"


def _host_room(config: Config) -> Problems:
    if config.speaker.given and not config.microphone.given:
        yield ("speaker",), "the host's own room needs a microphone as well; expected microphone to be given"
    if config.home_assistant_satellite.enabled and not config.microphone.given:
        yield ("home_assistant_satellite", "enabled"), "there is no microphone; expected microphone to be given"


def _pauses(endpoint: EndpointSettings) -> Problems:
    """Yield times with which no command could ever be heard whole."""
    longest = endpoint.max_command_seconds
    for key in ("silence_seconds", "least_silence_seconds", "sentence_silence_seconds", "complete_silence_seconds"):
        if getattr(endpoint, key) >= longest:
            yield ("endpoint", "max_command_seconds"), f"expected more than endpoint.{key}, found {longest:g}"
            return


def _wake_words(config: Config) -> Problems:
    """Yield a folder of wake words that cannot be read, and words that no engine here knows."""
    try:
        own = custom_wake_words(config.wake)
    except OSError as error:
        # The words in it are not known, so that nothing can be said of them.
        reason = f"the folder cannot be read: {error.strerror}; expected one that the daemon's user may read"
        yield ("wake", "custom_directory"), reason
        return
    if config.wake.uri:
        return  # the servers know
    known = set(catalogue.WAKE_WORDS[config.wake.engine]) | own
    for where, word in _words_mentioned(config):
        if word not in known:
            yield where, f"unknown wake word {word!r}; {nearest(word, known)}"


def _words_mentioned(config: Config) -> Iterator[tuple[Where, str]]:
    lists: list[tuple[Where, Sequence[str]]] = [(("wake", "words"), config.wake.words)]
    lists += [((*where, "wake_words"), place.wake_words or ()) for where, place in _places(config)]
    for where, words in lists:
        for index, word in enumerate(words):
            yield (*where, index), word
    for word in config.wake.per_word:
        yield ("wake", "per_word", word), word


def _open_http(config: Config) -> Problems:
    if not config.http.enabled:
        return
    try:
        token = http_token(config.http).find()
    except ConfigUnreadable:
        return  # it may come back: all but HTTP starts without it
    except ConfigError as error:
        yield ("http", "token" if config.http.token_file is None else "token_file"), str(error)
        return
    if not token.value and not token.elsewhere and not config.http.is_local:
        yield (
            ("http", "host"),
            f"{config.http.host} can be reached from other machines, and there is no token ({token.source})",
        )


def _certificate(config: Config) -> Problems:
    home = config.home_assistant
    if home.url is None or not home.url.startswith("https:") or home.trust in ("system", "any"):
        return
    try:
        ssl.create_default_context(cafile=home.trust)
    except (OSError, ssl.SSLError) as error:
        yield ("home_assistant", "trust"), f"the certificate in {home.trust} cannot be used: {error}"


def _dotted(where: Where) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).lstrip(".")
