"""`satellite check`: what is missing on this machine for a configuration that is valid.

None of it keeps the daemon from starting: the stage, provider or room that is concerned reports the same error then.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from satellite.audio.sound_files import SUFFIXES, read_sound
from satellite.config.chat import OllamaSettings, OpenAISettings
from satellite.config.consistency import dotted, places
from satellite.config.secrets import SecretSource, chat_key, home_assistant_token, http_token
from satellite.config.settings import Config
from satellite.daemon import config_check
from satellite.daemon.installed_voices import VoiceFolder
from satellite.errors import ConfigError, ModelError, SatelliteError
from satellite.models.spec import Kind
from satellite.models.store import Store, wanted_models
from satellite.net.tls_certificate import checked


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that will not work, with its error code and the key of the configuration that asks for it."""

    code: str
    key: str
    text: str


def run(args: argparse.Namespace) -> int:
    """Print what will not work; return 1 if there is anything, else 0."""
    config = config_check.load(args.config)
    store = Store(config.models.directory)
    found = list(examine(config, store))
    if args.json:
        problems = [asdict(one) for one in found]
        print(json.dumps({"ok": not found, "models_directory": str(store.directory), "problems": problems}))
        return 1 if found else 0
    print("configuration: good")
    for one in found:
        print(f"error: [{one.code}] {one.key}: {one.text}", file=sys.stderr)
    if found:
        print("the daemon starts, without what needs these", file=sys.stderr)
        return 1
    print(f"models: all present in {store.directory}")
    return 0


def examine(config: Config, store: Store) -> Iterator[Missing]:
    """Yield what will not work with `config` on this machine; reads files."""
    yield from _models(config, store)
    yield from _voices_of_rooms(config, store)
    yield from _secrets(config)
    yield from _sounds(config)
    yield from _https(config)


def _models(config: Config, store: Store) -> Iterator[Missing]:
    keys = {Kind.WAKE: "wake.engine", Kind.STT: "stt.model", Kind.TTS: "tts.voice", Kind.CHAT: "chat.providers"}
    for spec in wanted_models(config):
        try:
            store.path(spec)
            if spec.kind is Kind.TTS:
                VoiceFolder(store, spec).require_default()
        except ModelError as error:
            yield Missing(error.code, keys[spec.kind], str(error))
        except OSError as error:
            yield Missing("model-missing", keys[spec.kind], f"{spec.reference} cannot be read: {error}")


def _voices_of_rooms(config: Config, store: Store) -> Iterator[Missing]:
    if config.tts.uri:
        return  # only the servers know their voices
    try:
        known = {spec.name for spec in store.installed(Kind.TTS)} | {config.tts.voice}
    except OSError:
        return  # reported for the default voice already
    for where, room in places(config):
        if room.voice is not None and room.voice not in known:
            text = f"voice {room.voice!r} is not installed; get it with: satellite models pull tts/{room.voice}"
            yield Missing("tts-unknown-voice", f"{dotted(where)}.voice", text)


def _secrets(config: Config) -> Iterator[Missing]:
    sources: dict[str, SecretSource] = {
        f"chat.providers[{index}].api_key_file": chat_key(provider)
        for index, provider in enumerate(config.chat.providers)
        if isinstance(provider, OllamaSettings | OpenAISettings)
    }
    if config.http.enabled:
        sources["http.token_file"] = http_token(config.http)
    if config.home_assistant.url is not None:
        sources["home_assistant.token_file"] = home_assistant_token(config.home_assistant)
    for key, source in sources.items():
        try:
            secret = source.find()
        except ConfigError as error:
            yield Missing("key-missing", key, str(error))
        else:
            # A provider may need no key, and HTTP no token; Home Assistant always does.
            if key.startswith("home_assistant") and not secret.value and not secret.elsewhere:
                yield Missing("key-missing", key, f"there is no token: {secret.source}")


def _sounds(config: Config) -> Iterator[Missing]:
    """Yield sound files that cannot be played; only the daemon can try raw sound, pipes and devices."""
    home = config.home_assistant_satellite
    files = {
        "microphone.file": config.microphone.file,
        "home_assistant_satellite.awake_wav": home.awake_wav if home.enabled else None,
        "home_assistant_satellite.done_wav": home.done_wav if home.enabled else None,
    }
    for key, file in files.items():
        if file is not None and file.suffix.lower() in SUFFIXES:
            try:
                read_sound(file)
            except SatelliteError as error:
                yield Missing(error.code, key, str(error))


def _https(config: Config) -> Iterator[Missing]:
    tls = config.http.tls
    if config.http.enabled and tls is not None and tls != "auto":
        try:
            checked(tls.cert, tls.key)
        except ConfigError as error:
            yield Missing(error.code, "http.tls", str(error))
