"""The voices on disk, scanned again every few seconds so that a voice just pulled can be used at once."""

import json
import logging
from pathlib import Path

from satellite.engines.protocols import Voice
from satellite.engines.tts.loaded_voice import VoiceFile
from satellite.errors import ModelError, SatelliteError, in_words
from satellite.models.spec import Kind, ModelSpec
from satellite.models.store import Store

_LOGGER = logging.getLogger(__name__)


_UNREADABLE = (OSError, SatelliteError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What a damaged description raises: it may be missing, no JSON, or JSON of another shape."""


class VoiceFolder:
    """The default voice and all others that are installed; one that cannot be read does not affect the others."""

    def __init__(self, store: Store, default: ModelSpec) -> None:
        self._store = store
        self._default = default
        self._known: dict[Path, tuple[object, Voice]] = {}
        self._troubles: dict[str, str] = {}
        self._files: list[tuple[Voice, VoiceFile]] = []
        self.scan()

    def files(self) -> list[tuple[Voice, VoiceFile]]:
        """Return the voices with their files, the default first, as of the last scan.

        A voice whose files have changed since is another `Voice`, though it may be equal.
        """
        return self._files

    def require_default(self) -> None:
        """Raise `ModelError` when the default voice is not there (model-missing), or unreadable (model-corrupt)."""
        self._store.path(self._default)
        self.scan()
        if trouble := self._troubles.get(self._default.name):
            raise ModelError(f"voice {self._default.name} cannot be read: {trouble}", code="model-corrupt")

    def missing(self) -> str:
        """Return why the default voice cannot be used, and what fetches it."""
        try:
            self.require_default()
        except ModelError as error:
            return str(error)
        return f"voice {self._default.name} is being read again"

    def seen(self) -> object:
        """Return what changes when the files of the default voice do; blocking."""
        return self._store.seen(self._default)

    def scan(self) -> None:
        """Scan the folder; blocking. A voice that is being copied is unreadable until it is complete."""
        found, troubles = [], {}
        for spec in self._specs():
            try:
                file = self._file(spec)
                found.append((self._voice(spec, file), file))
            except _UNREADABLE as error:
                troubles[spec.name] = in_words(error)
        for name, trouble in troubles.items():
            if self._troubles.get(name) != trouble:
                _LOGGER.warning("voice %s cannot be used: %s", name, trouble)
        for name in self._troubles.keys() & {voice.name for voice, _ in found}:
            _LOGGER.info("voice %s can be used now", name)
        self._troubles, self._files = troubles, found

    def _specs(self) -> list[ModelSpec]:
        try:
            specs = [self._default] if self._store.present(self._default) else []
            return specs + [spec for spec in self._store.installed(Kind.TTS) if spec.name != self._default.name]
        except OSError as error:
            _LOGGER.debug("the folder of voices cannot be read: %s", error)
            return []

    def _file(self, spec: ModelSpec) -> VoiceFile:
        if spec.by_characters:
            return VoiceFile(self._store.file(spec, ".onnx"), characters_of=spec.languages[0])
        if spec.network is None:
            return VoiceFile(self._store.file(spec, ".onnx"))
        return VoiceFile(self._store.file(spec, ".bin"), self._store.path(spec.network))

    def _voice(self, spec: ModelSpec, file: VoiceFile) -> Voice:
        about = None if file.network or file.characters_of else Path(f"{file.path}.json")
        stats = [one.stat() for one in (file.path, about) if one]
        version = [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats]
        known = self._known.get(file.path)
        if known is not None and known[0] == version:
            return known[1]
        languages, speakers = _about(about) if about else ((), ())
        voice = Voice(
            spec.name if file.characters_of else file.path.stem, spec.languages or languages, speakers, spec.description
        )
        self._known[file.path] = (version, voice)
        return voice


def _about(file: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return languages and names of speakers in a Piper voice's configuration."""
    config = json.loads(file.read_text(encoding="utf-8"))
    language = config.get("language", {}).get("code") or config["espeak"]["voice"]
    return (str(language),), tuple(map(str, config.get("speaker_id_map") or ()))
