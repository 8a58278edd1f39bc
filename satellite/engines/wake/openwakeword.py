"""openWakeWord: mel spectrogram, speech embedding and one small classifier a word, 80 ms at a time.

Mel spectrogram and embedding are computed once for all words of a stream. All networks are shared by all streams and
run in the worker's one thread; a stream owns nothing but short histories.
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

_HOP = 1280  # samples a frame
_WINDOW = 1760  # samples that the mel spectrogram of a frame sees
_MELS_A_FRAME = 8
_MELS_EMBEDDED = 76  # mel frames that one embedding depends on
_LAG = 4  # mel frames by which the reference's embeddings trail its mel frames
_PAST = 2  # frames of its input that each layer remembers
_STREAMS_AT_ONCE = (4, 2, 1)  # a network each; with more the cache misses cost what sharing saves
_EMBEDDING = 96  # features
_MAX_WINDOWS = 128  # embeddings a classifier may look back on: 10 s


class Classifier(Protocol):
    """One word's network."""

    windows: int
    """Embeddings that it looks back on."""

    def score(self, embeddings: Floats) -> float:
        """Return the word's probability at the end of `embeddings`, an array of [windows, 96]."""


class OpenWakeWordEngine:
    """Listens for openWakeWord's words (`WakeWordEngine`), built in or from `wake.custom_directory`."""

    program = "openwakeword"

    def __init__(self, settings: WakeSettings, models: Path, phrases: Mapping[str, str], worker: Worker) -> None:
        """Listen by the networks in the folder `models`, to the words in `phrases`, which has what people say for each.

        Nothing is read before `load`.
        """
        self._phrases = phrases
        self._settings = settings
        self._models = models
        self._worker = worker
        self._features: _Features | None = None
        self._builtin = ModelFolder(models, self._builtin_files, _classifier)
        self._custom = ModelFolder(settings.custom_directory, openwakeword_files, _classifier)

    def load(self) -> None:
        """Load the networks and the words; blocks. Raises `WakeWordError` when a network is missing."""
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
        """All words that can be asked for now; before `load`, those built in."""
        if self._features is None:
            return [self._word(name) for name in self._builtin_files(self._models)]
        return [self._word(name) for name in self._classifiers()]

    async def refresh(self) -> None:
        """Take note of words that have come, changed or gone; streams keep the words they began with."""
        if self._features is not None:
            await self._builtin.refresh()
            await self._custom.refresh()

    async def stream(self, names: Sequence[str] | None) -> WakeStream:
        """Start listening for `names`, or for the configured words when None or empty."""
        scorer = self.scorer(names)
        triggers = {name: trigger_of(name, self._settings, self._settings.threshold) for name in scorer.words}
        return ScoredWakeStream(scorer, triggers, self._worker, scorer.features.scores)

    def scorer(self, names: Sequence[str] | None) -> "OpenWakeWordScorer":
        """Return what scores the words that `names` means, as in `stream`."""
        if self._features is None:
            raise WakeWordError("openWakeWord is not loaded yet", kind="not-ready")
        classifiers = self._classifiers()
        chosen = choose(names, classifiers, self._settings.words)
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
    """Return the openWakeWord classifiers of a folder, by word; where there are both kinds, .tflite wins."""
    taken = {model for _, model in microwakeword_files(directory).values()}
    free = [file for file in visible_files(directory) if file.suffix in (".onnx", ".tflite") and file not in taken]
    return {file.stem: (file,) for file in sorted(free, key=lambda file: (file.suffix, file.name))}


class OpenWakeWordScorer:
    """Scores the words of one stream (`Scorer`); every value equals the reference implementation's.

    The reference puts silence before the stream, so the histories begin with what the networks make of silence.
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
        """Return a row a frame and a column a word for `pcm`, which ends where a frame ends."""
        (scores,) = self.features.scores([(self, pcm)])
        return scores

    def take(self, pcm: bytes) -> list[Floats]:
        """Return the windows, 1760 samples each, of the frames that `pcm` completes."""
        import numpy as np

        samples: Samples = np.frombuffer(pcm, np.int16)
        audio: Floats = np.concatenate([self._tail, samples], dtype=np.float32)
        windows = [audio[begin : begin + _WINDOW] for begin in range(0, len(audio) - _WINDOW + 1, _HOP)]
        self._tail = audio[len(windows) * _HOP :].copy()
        return windows

    def take_mels(self, mels: Floats) -> Floats:
        """Take the mel frames of the next frame, and return those to be embedded."""
        self._mels[:_LAG] = self._mels[-_LAG:]
        self._mels[_LAG:] = mels
        return self._mels[:_MELS_A_FRAME]

    def score(self, embedding: Floats) -> list[float]:
        """Take the embedding of the next frame, and return the probability of every word."""
        self._embeddings[:-1] = self._embeddings[1:]
        self._embeddings[-1] = embedding
        return [classifier.score(self._embeddings[-classifier.windows :]) for classifier in self._classifiers]


class _Features:
    """What turns sound into embeddings, for all streams."""

    def __init__(self, models: Path) -> None:
        import numpy as np

        mels, embedding = (models / name for name in _FEATURE_FILES)
        self.mels = Mels(mels)
        """Returns 8 mel frames; each window goes by itself, for it is scaled by the loudest sound in it."""

        streaming = _streaming(embedding.read_bytes())
        self._networks = {size: LiteRtModel(streaming, (size, _MELS_A_FRAME, BANDS, 1)) for size in _STREAMS_AT_ONCE}
        shapes = [source.shape[1:] for source in self._networks[1].sources[1:]]
        ends = list(itertools.accumulate(map(math.prod, shapes), initial=0))
        self._places = [(*ends, shape) for ends, shape in zip(itertools.pairwise(ends), shapes, strict=True)]
        silence = self.mels(np.zeros((1, _WINDOW), np.float32))
        self.silent_mel: Floats = silence[0, 0]
        states = np.zeros((1, ends[-1]), np.float32)
        for _ in range(0, _MELS_EMBEDDED, _MELS_A_FRAME):
            embeddings, states = self._embedded(silence, list(states))
        self.silent_embedding: Floats = embeddings[0]
        self.silent_state: Floats = states[0]

    def scores(self, asked: Sequence[tuple[OpenWakeWordScorer, bytes]]) -> Sequence[Floats]:
        """Return the scores of several streams, each the same as alone; they share most of the work."""
        import numpy as np

        streams = [
            (scorer, windows := scorer.take(pcm), np.empty((len(windows), len(scorer.words)), np.float32))
            for scorer, pcm in asked
        ]
        for frame in range(max(len(windows) for _, windows, _ in streams)):
            going_on = [stream for stream in streams if frame < len(stream[1])]
            mels = self.mels(np.stack([windows[frame] for _, windows, _ in going_on]))
            heard = [scorer.take_mels(new) for (scorer, _, _), new in zip(going_on, mels, strict=True)]
            embeddings, states = self._embedded(np.stack(heard), [scorer.state for scorer, _, _ in going_on])
            for number, (scorer, _, scores) in enumerate(going_on):
                scorer.state = states[number]
                scores[frame] = scorer.score(embeddings[number])
        return [scores for _, _, scores in streams]

    def _embedded(self, mels: Floats, states: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Return the embeddings [n, 96] of streams after 8 further mel frames each, and their states for the next 8."""
        import numpy as np

        embeddings = np.empty((len(mels), _EMBEDDING), np.float32)
        following = np.empty((len(mels), len(states[0])), np.float32)
        done = 0
        while done < len(mels):
            size = next(size for size in _STREAMS_AT_ONCE if size <= len(mels) - done)
            rows = slice(done, done + size)
            self._embed(mels[rows], np.stack(states[rows]), embeddings[rows], following[rows])
            done += size
        return embeddings, following

    def _embed(self, mels: Floats, states: Floats, embeddings: Floats, following: Floats) -> None:
        """Do so for as many streams as one of the networks takes, into the last two."""
        views = self._networks[len(mels)].peek(mels[..., None], *self._layers(states))
        embeddings[:] = next(views)[:, 0, 0]
        for layer, view in zip(self._layers(following), views, strict=True):
            layer[:] = view[:, -_PAST:]

    def _layers(self, states: Floats) -> list[Floats]:
        """Return views of `states`, a row a stream, by the layers of the network."""
        return [states[:, begin:end].reshape(len(states), *shape) for begin, end, shape in self._places]


def _streaming(content: bytes) -> bytes:
    """Return the embedding network for the 8 newest mel frames alone: the same results in a sixth of the time.

    It is a chain of convolutions and pools without padding along time. All that one of them needs of the past are the
    last frames of its input, one less than its kernel is long. These become inputs of the network, joined to the new
    frames; and what was joined becomes an output, for its last frames are needed next time.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    (graph,) = model.subgraphs
    convolutions = {
        i for i, code in enumerate(model.operatorCodes) if code.builtinCode == schema.BuiltinOperator.CONV_2D
    }
    concatenation = schema.OperatorCodeT()
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
    """Return the operator that puts earlier frames, a new input of the graph, before those that `convolution` gets."""
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
    """Load a word. Raises, with the reason, what cannot be used."""
    import numpy as np

    (file,) = files
    classifier: Classifier = (_OnnxClassifier if file.suffix == ".onnx" else _TfliteClassifier)(file.read_bytes())
    probability = classifier.score(np.zeros((classifier.windows, _EMBEDDING), np.float32))
    if not 0 <= probability <= 1:
        raise ValueError(f"it answers {probability}, which is no probability")
    return classifier


def _windows(shape: Sequence[object], is_float: bool) -> int:
    """Return how many embeddings an input of `shape` takes; `ValueError` if it is no classifier's input."""
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


def _probability(output: Floats) -> float:
    if output.size != 1:
        raise ValueError(f"it answers {output.size} numbers, not one probability")
    return float(output.item())
