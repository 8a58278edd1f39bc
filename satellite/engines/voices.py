"""The Piper voices on disk, looked at again now and then so that a voice just pulled can be used at once."""

import json
import logging
from pathlib import Path

from satellite.engines import Voice
from satellite.errors import ModelError
from satellite.models.spec import Kind, ModelSpec
from satellite.models.store import Store

_LOGGER = logging.getLogger(__name__)


class VoiceFolder:
    """The default voice and all others that are installed."""

    def __init__(self, store: Store, default: ModelSpec) -> None:
        self._store = store
        self._default = default
        self._known: dict[Path, Voice] = {}
        self._files: list[tuple[Voice, Path]] = []
        self.scan()

    def files(self) -> list[tuple[Voice, Path]]:
        """Return the voices with their .onnx files, the default first, as of the last scan."""
        return self._files

    def require_default(self) -> None:
        """Raise `ModelError` (model-missing) when the default voice is not there."""
        self._store.path(self._default)
        self.scan()

    def scan(self) -> None:
        """Look at the folder; blocking."""
        specs = [self._default] if self._store.present(self._default) else []
        specs += [spec for spec in self._store.installed(Kind.TTS) if spec.name != self._default.name]
        found = []
        for spec in specs:
            try:
                file = self._store.file(spec, ".onnx")
                found.append((self._voice(spec, file), file))
            except (ModelError, OSError, ValueError, AttributeError) as error:
                if spec is self._default:
                    raise ModelError(f"voice {spec.name} cannot be read: {error}", code="model-corrupt") from error
                _LOGGER.debug("voice %s is left out: %s", spec.name, error)
        self._files = found

    def _voice(self, spec: ModelSpec, file: Path) -> Voice:
        if file not in self._known:
            config = json.loads(Path(f"{file}.json").read_text(encoding="utf-8"))
            languages = spec.languages or (config.get("language", {}).get("code") or config["espeak"]["voice"],)
            speakers = tuple(config.get("speaker_id_map") or ())
            self._known[file] = Voice(file.stem, languages, speakers, spec.description)
        return self._known[file]
