"""microWakeWord: a small streaming network for each word, 30 ms at a time.

The networks have state, so that each stream has its own. They run on LiteRT, not in `pymicro_wakeword`, which provides
the built-in words and the features: it maps model files into memory, and crashes the process if a file is damaged or
changes while it is mapped.
"""

import importlib.util
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from satellite.config.settings import WakeSettings
from satellite.engines.protocols import WakeStream, WakeWord
from satellite.engines.wake.common import (
    Files,
    Floats,
    LiteRtModel,
    ModelFolder,
    ScoredWakeStream,
    choose,
    trigger_of,
    visible_files,
)
from satellite.engines.worker import Worker
from satellite.errors import WakeWordError

if TYPE_CHECKING:
    import numpy as np

Feature: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

_BANDS = 40
_FEATURE_WINDOW = 480  # samples of one feature
_FEATURE_HOP = 160  # samples from one feature to the next, 10 ms
_STRIDE = 3  # features that a network takes at once
_MAX_AVERAGED = 1000  # scores in a mean, 30 s


class MicroWakeWordEngine:
    """Listens for microWakeWord's words (`WakeWordEngine`), built in or from `wake.custom_directory`."""

    program = "microwakeword"

    def __init__(self, settings: WakeSettings, worker: Worker) -> None:
        self._settings = settings
        self._worker = worker
        directory = _builtin_directory()
        self._builtin = ModelFolder(directory, microwakeword_files, load_model)
        self._shipped = [_word(_manifest(files), files) for files in microwakeword_files(directory).values()]
        self._custom = ModelFolder(settings.custom_directory, microwakeword_files, load_model)
        self._loaded = False

    def load(self) -> None:
        """Load the words; blocks."""
        import pymicro_wakeword  # noqa: F401 - or the first stream would wait for it

        self._builtin.scan()
        self._custom.scan()
        self._loaded = True

    @property
    def words(self) -> Sequence[WakeWord]:
        """All words that are available now; before `load`, the built-in ones."""
        if not self._loaded:
            return self._shipped
        return [model.word for model in self._models().values()]

    @property
    def unusable(self) -> Mapping[str, str]:
        """Why a word has no model, by the word: the file and what is the matter with it."""
        return {**self._builtin.unusable, **self._custom.unusable}

    async def refresh(self) -> None:
        """Look for added, changed and removed words; streams keep the words they began with."""
        if self._loaded:
            await self._custom.refresh()

    async def stream(self, names: Sequence[str] | None) -> WakeStream:
        """Start a stream for `names`, or for the configured words if None or empty."""
        scorer = await self._worker.run(self.scorer, names)
        triggers = {
            model.word.name: trigger_of(model.word.name, self._settings, model.cutoff) for model in scorer.models
        }
        return ScoredWakeStream(scorer, triggers, self._worker)

    def scorer(self, names: Sequence[str] | None) -> "MicroWakeWordScorer":
        """Return the scorer of `names`, as in `stream`; blocking."""
        if not self._loaded:
            raise WakeWordError("microWakeWord is not loaded yet", kind="not-ready")
        models = self._models()
        return MicroWakeWordScorer(
            [models[name] for name in choose(names, models, self._settings.words, self.unusable)]
        )

    def _models(self) -> Mapping[str, "MicroModel"]:
        return {**self._builtin.models, **self._custom.models}


def microwakeword_files(directory: Path) -> dict[str, Files]:
    """Return the microWakeWord models of a folder, by word: the manifest (.json) and the .tflite it names."""
    files = visible_files(directory)
    pairs: dict[str, Files] = {}
    for manifest in (file for file in files if file.suffix == ".json"):
        model = _model_of(manifest)
        if model is not None and model in files:
            pairs.setdefault(model.stem, (manifest, model))
    return pairs


def _model_of(manifest: Path) -> Path | None:
    """Return the model named by a manifest of microWakeWord, always in the same folder; None for other JSON files."""
    namesake = manifest.with_suffix(".tflite")
    try:
        content = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return namesake  # perhaps half written: its model must not be taken for one of openWakeWord meanwhile
    if not isinstance(content, dict) or not isinstance(content.get("micro"), dict):
        return None
    named = Path(str(content.get("model") or namesake)).name
    return manifest.with_name(named) if named.endswith(".tflite") else namesake


def _builtin_directory() -> Path:
    package = importlib.util.find_spec("pymicro_wakeword")
    assert package is not None  # a required dependency
    assert package.origin is not None
    return Path(package.origin).parent / "models"


@dataclass(frozen=True, slots=True)
class MicroModel:
    """A word as described by its two files."""

    word: WakeWord
    content: bytes
    cutoff: float
    """Mean score of a detection, as recommended by the model's author."""

    averaged: int
    """Scores in that mean."""


def load_model(files: Files) -> MicroModel:
    """Load a word from its manifest and its model. Raises one of `model_errors()` if it cannot be used."""
    manifest = _manifest(files)
    micro = manifest["micro"]
    step = micro.get("feature_step_size", 10)
    if step != 10:
        raise ValueError(f"its features are {step} ms apart, not 10")
    cutoff, averaged = float(micro["probability_cutoff"]), int(micro["sliding_window_size"])
    if not (0 <= cutoff <= 1 and 1 <= averaged <= _MAX_AVERAGED):
        raise ValueError(f"probability_cutoff {cutoff} or sliding_window_size {averaged} is out of range")
    import numpy as np

    model = MicroModel(_word(manifest, files), files[-1].read_bytes(), cutoff, averaged)
    # Tried once here: a network of another kind must not fail later, in a stream.
    _Track(model).score(np.zeros((1, _STRIDE, _BANDS)))
    return model


def _manifest(files: Files) -> dict[str, Any]:
    try:
        content = json.loads(files[0].read_bytes())
    except ValueError as error:
        raise ValueError(f"{files[0].name} is no JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("micro"), dict):
        raise ValueError(f"{files[0].name} is not a manifest of microWakeWord")
    return content


def _word(manifest: Mapping[str, Any], files: Files) -> WakeWord:
    name = files[-1].stem
    phrase = manifest.get("wake_word") or name.replace("_", " ")
    languages = manifest.get("trained_languages")
    return WakeWord(name, str(phrase), tuple(map(str, languages)) if isinstance(languages, list) else ())


class MicroWakeWordScorer:
    """Scores the words of one stream (`Scorer`), with the results of the reference implementation."""

    first_samples = _FEATURE_WINDOW + (_STRIDE - 1) * _FEATURE_HOP
    hop_samples = _STRIDE * _FEATURE_HOP

    def __init__(self, models: Sequence[MicroModel]) -> None:
        from pymicro_wakeword import MicroWakeWordFeatures

        self.models = models
        self._features = MicroWakeWordFeatures()
        self._waiting: list[Feature] = []
        self._tracks = [_Track(model) for model in models]

    def scores(self, pcm: bytes) -> Floats:
        """Return a row for each frame and a column for each word of `pcm`, which must end where a frame ends."""
        import numpy as np

        self._waiting += self._features.process_streaming(pcm)
        scores = np.empty((len(self._waiting) // _STRIDE, len(self._tracks)), np.float32)
        for row in scores:
            frame = np.concatenate(self._waiting[:_STRIDE], axis=1)
            del self._waiting[:_STRIDE]
            row[:] = [track.score(frame) for track in self._tracks]
        return scores


class _Track:
    """One word's network along one stream."""

    def __init__(self, model: MicroModel) -> None:
        import numpy as np

        self._network = LiteRtModel(model.content, portable=True)
        self._source, self._result = self._network.sources[0], self._network.results[0]
        if self._source.shape != (1, _STRIDE, _BANDS) or self._source.dtype not in (np.int8, np.uint8):
            raise ValueError(f"its input is {self._source}, not [1, {_STRIDE}, {_BANDS}] of 8 bits")
        self._range = np.iinfo(self._source.dtype)
        self._latest: deque[float] = deque(maxlen=model.averaged)

    def score(self, features: Feature) -> float:
        """Return the mean of the latest scores, 0 until there are enough."""
        import numpy as np

        levels = np.rint(features / self._source.scale + self._source.zero_point)
        (answer,) = self._network.run(levels.clip(self._range.min, self._range.max).astype(self._source.dtype))
        self._latest.append((answer.item() - self._result.zero_point) * self._result.scale)
        return sum(self._latest) / len(self._latest) if len(self._latest) == self._latest.maxlen else 0.0
