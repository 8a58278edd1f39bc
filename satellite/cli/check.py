"""What `satellite check` finds behind a configuration that is good: the daemon starts with it, and something lacks.

Nothing here keeps the daemon from starting; the stage, the provider or the room that it is about says the same then.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from satellite.audio.sound_files import SUFFIXES, read_sound
from satellite.config.chat import OllamaSettings, OpenAISettings
from satellite.config.secrets import SecretSource, chat_key, home_assistant_token, http_token
from satellite.config.settings import Config
from satellite.daemon.installed_voices import VoiceFolder
from satellite.errors import ConfigError, ModelError, SatelliteError
from satellite.models.spec import Kind
from satellite.models.store import Store, wanted_models


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that will not work, with its code and what it is about in the configuration."""

    code: str
    key: str
    text: str


def problems(config: Config, store: Store) -> Iterator[Problem]:
    """Yield what will not work with `config` on this machine; reads files."""
    yield from _models(config, store)
    yield from _voices_of_rooms(config, store)
    yield from _secrets(config)
    yield from _sounds(config)


def _models(config: Config, store: Store) -> Iterator[Problem]:
    keys = {Kind.WAKE: "wake.engine", Kind.STT: "stt.model", Kind.TTS: "tts.voice", Kind.CHAT: "chat.providers"}
    for spec in wanted_models(config):
        try:
            store.path(spec)
            if spec.kind is Kind.TTS:
                VoiceFolder(store, spec).require_default()
        except ModelError as error:
            yield Problem(error.code, keys[spec.kind], str(error))
        except OSError as error:
            yield Problem("model-missing", keys[spec.kind], f"{spec.reference} cannot be read: {error}")


def _voices_of_rooms(config: Config, store: Store) -> Iterator[Problem]:
    if config.tts.uri:
        return  # the servers know
    places = [(f"rooms[{index}]", room.voice) for index, room in enumerate(config.rooms)]
    places += [("host_room", config.host_room.voice)] if config.microphone.given else []
    try:
        known = {spec.name for spec in store.installed(Kind.TTS)} | {config.tts.voice}
    except OSError:
        return  # said of the default voice already
    for key, voice in places:
        if voice is not None and voice not in known:
            cure = f"get it with: satellite models pull tts/{voice}"
            yield Problem("tts-unknown-voice", f"{key}.voice", f"voice {voice!r} is not installed; {cure}")


def _secrets(config: Config) -> Iterator[Problem]:
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
            yield Problem("key-missing", key, str(error))
        else:
            if key.startswith("home_assistant") and not secret.value and not secret.elsewhere:
                yield Problem("key-missing", key, f"there is no token: {secret.source}")


def _sounds(config: Config) -> Iterator[Problem]:
    """Yield sound files that cannot be played; raw sound, pipes and devices only the daemon can try."""
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
                yield Problem(error.code, key, str(error))
