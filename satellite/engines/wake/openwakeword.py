"""openWakeWord: mel spectrogram, speech embedding and a small classifier for each word, 80 ms at a time.

Mel spectrogram and embedding are computed once for all words of a stream. All streams share all networks, which run in
the worker's thread; a stream owns only short histories.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from satellite.audio.pcm import Samples
from satellite.config.settings import WakeSettings
from satellite.engines.onnx_session import load_session
from satellite.engines.protocols import WakeStream, WakeWord
from satellite.engines.wake.common import (
    Array,
    Files,
    Floats,
    LiteRtModel,
    ModelFolder,
    ScoredWakeStream,
    choose,
    trigger_of,
    visible_files,
)
from satellite.engines.wake.mel_spectrogram import BANDS, Mels
from satellite.engines.wake.microwakeword import microwakeword_files
from satellite.engines.worker import Worker
from satellite.errors import WakeWordError

_FEATURE_FILES = ("melspectrogram.tflite", "embedding_model.tflite")

_HOP = 1280  # samples of a frame
_WINDOW = 1760  # samples of the mel spectrogram of a frame
_MELS_A_FRAME = 8
_MELS_EMBEDDED = 76  # mel frames that one embedding depends on
_LAG = 4  # mel frames by which the embeddings of the reference implementation are late
_PAST = 2  # frames of its input that each layer keeps
_BATCHES = (4, 2, 1)  # streams, with a network for each; in larger ones, cache misses cost what sharing saves
_EMBEDDING = 96  # features
_MAX_WINDOWS = 128  # embeddings that a classifier looks back on, 10 s


class Classifier(Protocol):
    """One word's network."""

    windows: int
    """Embeddings that it looks back on."""

    def score(self, embeddings: Floats) -> float:
        """Return the word's probability at the end of `embeddings`, shape [windows, 96]."""


class OpenWakeWordEngine:
    """Listens for openWakeWord's words (`WakeWordEngine`), built in or from `wake.custom_directory`."""

    program = "openwakeword"

    def __init__(self, settings: WakeSettings, models: Path, phrases: Mapping[str, str], worker: Worker) -> None:
        """Use the networks in the folder `models`, and the words in `phrases`, with what people say for each.

        Nothing is read before `load`.
        """
        self._phrases = phrases
        self._settings = settings
        self._models = models
        self._worker = worker
        self._features: _Features | None = None
        cure = "get it again with: satellite models pull wake/openwakeword"
        self._builtin = ModelFolder(models, self._builtin_files, _classifier, cure=cure)
        self._custom = ModelFolder(settings.custom_directory, openwakeword_files, _classifier)

    def load(self) -> None:
        """Load the networks and the words; blocks. Raises `WakeWordError` if a network is missing."""
        missing = [name for name in _FEATURE_FILES if not (self._models / name).is_file()]
        if missing:
            raise WakeWordError(
                f"{self._models} lacks {' and '.join(missing)}; `satellite models pull` fetches it", kind="not-ready"
            )
        self._builtin.scan()
        self._custom.scan()
        self._features = _Features(self._models)

    @property
    def words(self) -> Sequence[WakeWord]:
        """All words that are available now; before `load`, the built-in ones."""
        if self._features is None:
            return [self._word(name) for name in self._builtin_files(self._models)]
        return [self._word(name) for name in self._classifiers()]

    @property
    def unusable(self) -> Mapping[str, str]:
        """Why a word has no model, by the word: the file and what is the matter with it."""
        return {**self._builtin.unusable, **self._custom.unusable}

    async def refresh(self) -> None:
        """Look for added, changed and removed words; streams keep the words they began with."""
        if self._features is not None:
            await self._builtin.refresh()
            await self._custom.refresh()

    async def stream(self, names: Sequence[str] | None) -> WakeStream:
        """Start a stream for `names`, or for the configured words if None or empty."""
        scorer = self.scorer(names)
        triggers = {name: trigger_of(name, self._settings, self._settings.threshold) for name in scorer.words}
        return ScoredWakeStream(scorer, triggers, self._worker, scorer.features.scores)

    def scorer(self, names: Sequence[str] | None) -> "OpenWakeWordScorer":
        """Return the scorer of `names`, as in `stream`."""
        if self._features is None:
            raise WakeWordError("openWakeWord is not loaded yet", kind="not-ready")
        classifiers = self._classifiers()
        chosen = choose(names, classifiers, self._settings.words, self.unusable)
        return OpenWakeWordScorer(self._features, {name: classifiers[name] for name in chosen})

    def _classifiers(self) -> Mapping[str, Classifier]:
        return {**self._builtin.models, **self._custom.models}

    def _word(self, name: str) -> WakeWord:
        if name in self._phrases:
            return WakeWord(name, self._phrases[name], ("en",))
        return WakeWord(name, name.replace("_", " "), ())

    def _builtin_files(self, models: Path) -> dict[str, Files]:
        files = {name: models / f"{name}.tflite" for name in self._phrases}
        return {name: (file,) for name, file in files.items() if file.is_file()}


def openwakeword_files(directory: Path) -> dict[str, Files]:
    """Return the openWakeWord classifiers of a folder, by word; .tflite takes precedence over .onnx."""
    taken = {model for _, model in microwakeword_files(directory).values()}
    free = [file for file in visible_files(directory) if file.suffix in (".onnx", ".tflite") and file not in taken]
    return {file.stem: (file,) for file in sorted(free, key=lambda file: (file.suffix, file.name))}


class OpenWakeWordScorer:
    """Scores the words of one stream (`Scorer`), with the results of the reference implementation.

    That puts silence before the stream, so that the histories begin with the networks' results for silence.
    """

    first_samples = _WINDOW - _HOP
    hop_samples = _HOP

    def __init__(self, features: "_Features", classifiers: Mapping[str, Classifier]) -> None:
        import numpy as np

        self.words = tuple(classifiers)
        self.features = features
        self._classifiers = tuple(classifiers.values())
        longest = max(classifier.windows for classifier in self._classifiers)
        self._tail: Floats = np.zeros(_HOP, np.float32)
        self._mels: Floats = np.tile(features.silent_mel, (_LAG + _MELS_A_FRAME, 1))
        self.state = features.silent_state
        self._embeddings: Floats = np.tile(features.silent_embedding, (longest, 1))

    def scores(self, pcm: bytes) -> Floats:
        """Return a row for each frame and a column for each word of `pcm`, which must end where a frame ends."""
        (scores,) = self.features.scores([(self, pcm)])
        return scores

    def windows(self, pcm: bytes) -> list[Floats]:
        """Return the windows, of 1760 samples, of the frames that `pcm` completes."""
        import numpy as np

        samples: Samples = np.frombuffer(pcm, np.int16)
        audio: Floats = np.concatenate([self._tail, samples], dtype=np.float32)
        # A window begins 480 samples before its frame: the end of the previous frame is kept for the next call.
        windows = [audio[begin : begin + _WINDOW] for begin in range(0, len(audio) - _WINDOW + 1, _HOP)]
        self._tail = audio[len(windows) * _HOP :].copy()
        return windows

    def delayed(self, mels: Floats) -> Floats:
        """Return the mel frames to be embedded now, given those of the next frame."""
        # The reference embeds only what is older than 4 mel frames; equal scores need the same delay.
        self._mels[:_LAG] = self._mels[-_LAG:]
        self._mels[_LAG:] = mels
        return self._mels[:_MELS_A_FRAME]

    def score(self, embedding: Floats) -> list[float]:
        """Return the probability of each word, given the embedding of the next frame."""
        self._embeddings[:-1] = self._embeddings[1:]
        self._embeddings[-1] = embedding
        return [classifier.score(self._embeddings[-classifier.windows :]) for classifier in self._classifiers]


class _Features:
    """Computes the embeddings of all streams."""

    def __init__(self, models: Path) -> None:
        import numpy as np

        mels, embedding = (models / name for name in _FEATURE_FILES)
        self.mels = Mels(mels)
        """Returns 8 mel frames of each window, which is scaled by the loudest sound in it."""

        streaming = _streaming(embedding.read_bytes())
        self._networks = {size: LiteRtModel(streaming, (size, _MELS_A_FRAME, BANDS, 1)) for size in _BATCHES}
        shapes = [source.shape[1:] for source in self._networks[1].sources[1:]]
        ends = list(itertools.accumulate(map(math.prod, shapes), initial=0))
        self._places = [(*ends, shape) for ends, shape in zip(itertools.pairwise(ends), shapes, strict=True)]
        silence = self.mels(np.zeros((1, _WINDOW), np.float32))
        self.silent_mel: Floats = silence[0, 0]
        states = np.zeros((1, ends[-1]), np.float32)
        # As many frames of silence as an embedding depends on, so that nothing of the zeros is left.
        for _ in range(0, _MELS_EMBEDDED, _MELS_A_FRAME):
            embeddings, states = self._embedded(silence, list(states))
        self.silent_embedding: Floats = embeddings[0]
        self.silent_state: Floats = states[0]

    def scores(self, waiting: Sequence[tuple[OpenWakeWordScorer, bytes]]) -> Sequence[Floats]:
        """Return the scores of several streams, each the same as alone; most of the work is shared."""
        import numpy as np

        streams = [
            (scorer, windows := scorer.windows(pcm), np.empty((len(windows), len(scorer.words)), np.float32))
            for scorer, pcm in waiting
        ]
        # Frame by frame over all streams, since a frame of a stream needs the state after the one before.
        for frame in range(max(len(windows) for _, windows, _ in streams)):
            present = [stream for stream in streams if frame < len(stream[1])]
            mels = self.mels(np.stack([windows[frame] for _, windows, _ in present]))
            heard = [scorer.delayed(new) for (scorer, _, _), new in zip(present, mels, strict=True)]
            embeddings, states = self._embedded(np.stack(heard), [scorer.state for scorer, _, _ in present])
            for number, (scorer, _, scores) in enumerate(present):
                scorer.state = states[number]
                scores[frame] = scorer.score(embeddings[number])
        return [scores for _, _, scores in streams]

    def _embedded(self, mels: Floats, states: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Return the embeddings, shape [n, 96], of n streams after 8 further mel frames each, and their new states."""
        import numpy as np

        embeddings = np.empty((len(mels), _EMBEDDING), np.float32)
        following = np.empty((len(mels), len(states[0])), np.float32)
        done = 0
        while done < len(mels):
            size = next(size for size in _BATCHES if size <= len(mels) - done)
            rows = slice(done, done + size)
            self._embed(mels[rows], np.stack(states[rows]), embeddings[rows], following[rows])
            done += size
        return embeddings, following

    def _embed(self, mels: Floats, states: Floats, embeddings: Floats, following: Floats) -> None:
        """Write embeddings and new states of streams, as many as one of the networks takes, to the last two."""
        views = self._networks[len(mels)].peek(mels[..., None], *self._layers(states))
        embeddings[:] = next(views)[:, 0, 0]
        for layer, view in zip(self._layers(following), views, strict=True):
            layer[:] = view[:, -_PAST:]

    def _layers(self, states: Floats) -> list[Floats]:
        """Return views of `states`, a row for each stream, by the layers of the network."""
        return [states[:, begin:end].reshape(len(states), *shape) for begin, end, shape in self._places]


def _streaming(content: bytes) -> bytes:
    """Return the embedding network for the 8 newest mel frames alone: the same results in a sixth of the time.

    It is a chain of convolutions and pools without padding along time. Of the past, each needs only the last frames of
    its input, one less than its kernel is long. These become inputs of the network, joined to the new frames; the
    joined frames become outputs, since their last ones are needed for the next frame.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    (graph,) = model.subgraphs
    convolutions = {
        i for i, code in enumerate(model.operatorCodes) if code.builtinCode == schema.BuiltinOperator.CONV_2D
    }
    concatenation = schema.OperatorCodeT()
    # Both fields: readers take the larger of the two.
    concatenation.builtinCode = concatenation.deprecatedBuiltinCode = schema.BuiltinOperator.CONCATENATION
    model.operatorCodes.append(concatenation)
    operators = []
    for operator in graph.operators:
        if operator.opcodeIndex in convolutions and graph.tensors[operator.inputs[1]].shape[1] > 1:
            operators.append(_joined_to_the_past(operator, graph, len(model.operatorCodes) - 1))
        operators.append(operator)
    graph.operators = operators
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _joined_to_the_past(convolution: Any, graph: Any, concatenation: int) -> Any:
    """Return an operator that joins earlier frames, a new input of the graph, to the input of `convolution`."""
    from ai_edge_litert import schema_py_generated as schema

    fresh, kernel, bias = convolution.inputs
    past, joined = schema.TensorT(), schema.TensorT()
    past.shape = joined.shape = list(graph.tensors[fresh].shape)
    past.shape[1] = graph.tensors[kernel].shape[1] - 1
    graph.tensors += [past, joined]
    join = schema.OperatorT()
    join.opcodeIndex = concatenation
    join.builtinOptionsType = schema.BuiltinOptions.ConcatenationOptions
    join.builtinOptions = schema.ConcatenationOptionsT()
    join.builtinOptions.axis = 1
    join.inputs, join.outputs = [len(graph.tensors) - 2, fresh], [len(graph.tensors) - 1]
    convolution.inputs = [*join.outputs, kernel, bias]
    graph.inputs = [*graph.inputs, join.inputs[0]]
    graph.outputs = [*graph.outputs, *join.outputs]
    return join


def _classifier(files: Files) -> Classifier:
    """Load a word. Raises one of `model_errors()` if it cannot be used."""
    import numpy as np

    (file,) = files
    classifier: Classifier = (_OnnxClassifier if file.suffix == ".onnx" else _TfliteClassifier)(file.read_bytes())
    probability = classifier.score(np.zeros((classifier.windows, _EMBEDDING), np.float32))
    if not 0 <= probability <= 1:
        raise ValueError(f"it returns {probability}, which is not a probability")
    return classifier


def _windows(shape: Sequence[object], is_float: bool) -> int:
    """Return how many embeddings an input of `shape` takes; raises `ValueError` if it is not a classifier's."""
    match list(shape):
        case [_, int(windows), int(features)] if is_float and features == _EMBEDDING and 0 < windows <= _MAX_WINDOWS:
            return windows
    kind = "float32" if is_float else "other than float32"
    raise ValueError(f"its input is {list(shape)} ({kind}), not [1, 1 to {_MAX_WINDOWS}, {_EMBEDDING}] float32")


class _TfliteClassifier:
    def __init__(self, content: bytes) -> None:
        import numpy as np

        self._network = LiteRtModel(content)
        source = self._network.sources[0]
        self.windows = _windows(source.shape, source.dtype is np.float32)

    def score(self, embeddings: Floats) -> float:
        return _probability(next(self._network.peek(embeddings[None])))


class _OnnxClassifier:
    def __init__(self, content: bytes) -> None:
        self._session = load_session(content, memory_arena=True, log_errors=False)
        source = self._session.get_inputs()[0]
        self._input = source.name
        self.windows = _windows(source.shape, source.type == "tensor(float)")

    def score(self, embeddings: Floats) -> float:
        return _probability(self._session.run(None, {self._input: embeddings[None]})[0])


def _probability(output: Array) -> float:
    if output.size != 1:
        raise ValueError(f"it returns {output.size} numbers, not one probability")
    return float(output.item())
