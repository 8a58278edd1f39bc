"""The voices on disk, scanned again every few seconds so that a voice just pulled can be used at once."""

import json
import logging
from collections.abc import Mapping, Sequence
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
        self.default = default
        """The one that speaks where no other is asked for."""

        self._known: dict[Path, tuple[object, Voice]] = {}
        self._specs: dict[str, ModelSpec] = {}
        self._troubles: dict[str, str] = {}
        self._is_default_known = False
        self._files: list[tuple[Voice, VoiceFile]] = []
        self.scan()

    def files(self) -> list[tuple[Voice, VoiceFile]]:
        """Return the voices with their files, the default first, as of the last scan.

        A voice whose files have changed since is another `Voice`, though it may be equal.
        """
        return self._files

    def require_default(self) -> None:
        """Raise `ModelError` when the default voice is not there (model-missing), or unreadable (model-corrupt)."""
        self._store.path(self.default)
        self.scan()
        if trouble := self._troubles.get(self.default.name):
            self._store.verify(self.default)
            raise ModelError(f"voice {self.default.name} cannot be read: {trouble}", code="model-corrupt")

    @property
    def unusable(self) -> Mapping[str, str]:
        """Why voices that are, or were, installed cannot be used, as of the last scan; by name."""
        return self._troubles

    def fault(self, voice: Voice) -> str:
        """Return which file of a voice is damaged, and what fetches it again; empty where none is. Blocking."""
        spec = self._specs.get(voice.name)
        try:
            if spec is not None:
                self._store.verify(spec)
        except ModelError as error:
            return str(error)
        return ""

    def missing(self) -> str:
        """Return why the default voice cannot be used, and what fetches it."""
        try:
            self.require_default()
        except ModelError as error:
            return str(error)
        return f"voice {self.default.name} is being read again"

    def seen(self) -> object:
        """Return what changes when the files of the default voice do; blocking."""
        return self._store.seen(self.default)

    def scan(self) -> None:
        """Scan the folder; blocking. A voice that is being copied is unreadable until it is complete."""
        found, troubles, specs = [], {}, {}
        for spec in self._installed():
            try:
                file = self._file(spec)
                voice = self._voice(spec, file)
                found.append((voice, file))
                specs[voice.name] = spec
            except _UNREADABLE as error:
                troubles[spec.name] = in_words(error)
        is_default_found = self.default in specs.values()
        if is_default_found:
            self._is_default_known = True
        elif self._is_default_known:  # it was there: otherwise that it is missing is the error of its engine
            troubles[self.default.name] = self._lost(troubles.get(self.default.name), found)
        for name, trouble in troubles.items():
            if self._troubles.get(name) != trouble:
                _LOGGER.warning("voice %s cannot be used: %s", name, trouble)
        for name in self._troubles.keys() & {voice.name for voice, _ in found}:
            _LOGGER.info("voice %s can be used now", name)
        self._troubles, self._files, self._specs = troubles, found, specs

    def _lost(self, trouble: str | None, others: Sequence[tuple[Voice, VoiceFile]]) -> str:
        """Return why the default voice cannot be used any more, and which speaks instead."""
        if trouble is None:
            try:
                self._store.path(self.default)
                trouble = "it is being read again"
            except ModelError as error:
                trouble = str(error)
        return f"{trouble} ({others[0][0].name} speaks instead)" if others else trouble

    def _installed(self) -> list[ModelSpec]:
        try:
            specs = [self.default] if self._store.present(self.default) else []
            return specs + [spec for spec in self._store.installed(Kind.TTS) if spec.name != self.default.name]
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
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    language = config.get("language", {}).get("code") or config["espeak"]["voice"]
    return (str(language),), tuple(map(str, config.get("speaker_id_map") or ()))
