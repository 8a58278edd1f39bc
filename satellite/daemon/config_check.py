"""Whether this machine can use a configuration: names of models, languages and wake words, and the files it names."""

import os
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

from satellite.config import loader
from satellite.config.chat import LocalSettings
from satellite.config.consistency import Problems, Where, contradictions, places
from satellite.config.rooms import EsphomeRoomSettings
from satellite.config.secrets import http_token
from satellite.config.settings import Config, WakeSettings, nearest
from satellite.errors import ConfigError, ConfigUnreadable, ModelError
from satellite.languages import family
from satellite.models import catalogue
from satellite.models.catalogue import Kind
from satellite.net.tls_certificate import checked


def load(path: Path | None) -> Config:
    """Return the checked configuration of `path`; see `satellite.config.loader.load`."""
    return loader.load(path, check=check)


def check(config: Config) -> Problems:
    """Yield where and what keeps the daemon from using `config`; reads files."""
    yield from without_files(config)
    yield from _wake_words(config)
    yield from _open_http(config)
    yield from _certificate(config)
    yield from _https(config)


def without_files(config: Config) -> Problems:
    """Yield the problems that the settings and the catalogue of models alone show."""
    yield from contradictions(config)
    yield from _unknown_models(config)
    yield from _unknown_languages(config)


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
    wanted += [(("languages", index), language) for index, language in enumerate(config.languages)]
    wanted += [((*where, "language"), place.language) for where, place in places(config)]
    for where, language in wanted:
        if language is not None and languages and family(language) not in languages:
            yield (
                where,
                f"model {config.stt.model} does not know {language!r}; {nearest(family(language), set(languages))}",
            )


def _wake_words(config: Config) -> Problems:
    """Yield a folder of wake words that cannot be read, and words that no engine here knows."""
    try:
        own = _custom_wake_words(config.wake)
    except OSError as error:
        # Without the folder's words nobody can say which of the configured ones are unknown.
        reason = f"the folder cannot be read: {error.strerror}; expected one that the daemon's user may read"
        yield ("wake", "custom_directory"), reason
        return
    if config.wake.uri:
        return  # the servers know
    known = set(catalogue.WAKE_WORDS[config.wake.engine]) | own
    for where, word in _words_mentioned(config):
        if word not in known:
            yield where, f"unknown wake word {word!r}; {nearest(word, known)}"


def _custom_wake_words(wake: WakeSettings) -> set[str]:
    """Return the wake words in the custom folder, which are the files' stems; raises OSError."""
    directory = wake.custom_directory
    if directory is None or not os.path.lexists(directory):
        return set()
    return {file.stem for file in directory.iterdir() if file.suffix in (".onnx", ".tflite")}


def _words_mentioned(config: Config) -> Iterator[tuple[Where, str]]:
    lists: list[tuple[Where, Sequence[str]]] = [(("wake", "words"), config.wake.words)]
    # An ESPHome device knows its own words, which the daemon learns from it.
    ours = [(where, place) for where, place in places(config) if not isinstance(place, EsphomeRoomSettings)]
    lists += [((*where, "wake_words"), place.wake_words or ()) for where, place in ours]
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


def _https(config: Config) -> Problems:
    tls = config.http.tls
    if not config.http.enabled or tls is None or tls == "auto":
        return
    try:
        checked(tls.cert, tls.key)
    except ConfigUnreadable:
        return  # it may come back: all but HTTP starts without it
    except ConfigError as error:
        yield ("http", "tls"), str(error)
