"""What the wake word engines share: framing, triggers, choice of words, and watched folders of models."""

import asyncio
import ctypes
import logging
import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from satellite.audio.pcm import RATE, WIDTH
from satellite.config.settings import WakeSettings, nearest
from satellite.engines.onnx_session import model_errors
from satellite.engines.protocols import Detection
from satellite.engines.worker import Worker
from satellite.errors import WakeWordError, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LOGGER = logging.getLogger(__name__)

Array: TypeAlias = "NDArray[np.generic]"
Floats: TypeAlias = "NDArray[np.float32]"
Files = tuple[Path, ...]
Model = TypeVar("Model")


@dataclass(slots=True)
class Trigger:
    """Decides from a word's scores, frame by frame, when the word was detected."""

    threshold: float
    level: int
    refractory_seconds: float
    _in_a_row: int = field(default=0, init=False)
    _fired_at: float = field(default=-math.inf, init=False)

    @property
    def fired(self) -> bool:
        """Whether there was a detection."""
        return self._fired_at > -math.inf

    def feed(self, score: float, seconds: float) -> bool:
        """Return whether the frame that ends `seconds` into the stream completes a detection.

        `level` frames in a row must reach the threshold. After a detection a new row begins, with frames that end
        `refractory_seconds` later at the earliest.
        """
        reached = score >= self.threshold  # never true for NaN, which a damaged model may return
        if not reached or seconds - self._fired_at < self.refractory_seconds:
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        if self._in_a_row < self.level:
            return False
        self._in_a_row = 0
        self._fired_at = seconds
        return True


def trigger_of(name: str, settings: WakeSettings, threshold: float) -> Trigger:
    """Return the trigger configured for the word `name`; `threshold` is its engine's default."""
    level, refractory_seconds = settings.trigger_level, settings.refractory_seconds
    own = settings.per_word.get(name)
    if own is not None:
        threshold = threshold if own.threshold is None else own.threshold
        level = level if own.trigger_level is None else own.trigger_level
        refractory_seconds = refractory_seconds if own.refractory_seconds is None else own.refractory_seconds
    return Trigger(threshold, level, refractory_seconds)


def choose(
    names: Sequence[str] | None, known: Collection[str], configured: Sequence[str], unusable: Mapping[str, str]
) -> list[str]:
    """Return the words to listen for, each once: `names`, or else the `configured` ones that are `known`.

    Raises `WakeWordError` for a name that does not exist (`wake-unknown-word`) or is `unusable`, for the reason given
    there (`wake-not-ready`), and if no word is left.
    """
    wanted = list(dict.fromkeys(names or configured))
    unknown = [name for name in wanted if name not in known]
    if unknown and (names or len(unknown) == len(wanted)):
        if unknown[0] in unusable:
            raise WakeWordError(f"wake word {unknown[0]}: {unusable[unknown[0]]}", kind="not-ready")
        raise WakeWordError(
            f"unknown wake word '{shown(unknown[0])}'; {nearest(unknown[0], set(known))}", kind="unknown-word"
        )
    if unknown:
        # Not an error: the other engine may have them.
        _LOGGER.debug("configured wake words that this engine lacks: %s", ", ".join(unknown))
    return [name for name in wanted if name in known]


class Scorer(Protocol):
    """Computes the scores of one stream's words; used in the worker's thread only."""

    first_samples: int
    """Samples of the first frame."""

    hop_samples: int
    """Samples of each further frame."""

    def scores(self, pcm: bytes) -> Floats:
        """Return a row for each frame and a column for each word of `pcm`, which must end where a frame ends.

        If audio before it was lost, frames may be late by less than one.
        """


ScorerT = TypeVar("ScorerT", bound=Scorer)


def score_separately(streams: Sequence[tuple[Scorer, bytes]]) -> Sequence[Floats]:
    """Return the scores of several streams, computed one after the other."""
    return [scorer.scores(pcm) for scorer, pcm in streams]


class ScoredWakeStream(Generic[ScorerT]):
    """One listener's position in its own audio (`WakeStream`); frames whose `feed` failed are lost."""

    def __init__(
        self,
        scorer: ScorerT,
        triggers: Mapping[str, Trigger],
        worker: Worker,
        score: Callable[[Sequence[tuple[ScorerT, bytes]]], Sequence[Floats]] = score_separately,
    ) -> None:
        """`score` gets the waiting frames of all streams that share it."""
        self._scorer: ScorerT | None = scorer
        self._score = score
        self._triggers = triggers
        self._worker = worker
        self._rest = bytearray()
        self._missing_samples = scorer.first_samples
        self._scored_samples = 0

    async def feed(self, pcm: bytes) -> list[Detection]:
        """Return the detections that `pcm` completes. One call at a time."""
        scorer = self._scorer
        if scorer is None:
            return []
        self._rest += pcm
        frames = self._whole_frames(scorer.hop_samples)
        if not frames:  # most chunks are shorter than a frame: no thread is involved
            return []
        scores = await self._worker.run_together(self._score, (scorer, frames))
        if self._scorer is None:  # closed meanwhile
            return []
        return self._detections(scores, scorer.hop_samples)

    async def end(self) -> list[Detection]:
        """Return nothing: `feed` has returned all detections."""
        return []

    def close(self) -> None:
        """Close the stream; audio fed afterwards is ignored."""
        self._scorer = None
        self._rest.clear()

    def _whole_frames(self, hop_samples: int) -> bytes:
        """Remove all whole frames from the waiting audio."""
        spare_samples = len(self._rest) // WIDTH - self._missing_samples
        if spare_samples < 0:
            return b""
        samples = self._missing_samples + spare_samples // hop_samples * hop_samples
        frames = bytes(self._rest[: samples * WIDTH])
        del self._rest[: samples * WIDTH]
        self._missing_samples = hop_samples
        self._scored_samples += samples
        return frames

    def _detections(self, scores: Floats, hop_samples: int) -> list[Detection]:
        end = self._scored_samples - (len(scores) - 1) * hop_samples
        return [
            Detection(name, seconds)
            for frame, row in enumerate(scores.tolist())
            for (name, trigger), score in zip(self._triggers.items(), row, strict=True)
            if trigger.feed(score, seconds := (end + frame * hop_samples) / RATE)
        ]


class ModelFolder(Generic[Model]):
    """The models in a folder that may change at any time; a file that cannot be used does not affect the others."""

    def __init__(
        self,
        directory: Path | None,
        find: Callable[[Path], dict[str, Files]],
        load: Callable[[Files], Model],
        *,
        cure: str = "",
    ) -> None:
        """Load what `find` finds; `cure` says how a file that cannot be used is had again."""
        self.models: Mapping[str, Model] = {}
        """By word. Each scan replaces the mapping, so that any thread may read it."""

        self.unusable: Mapping[str, str] = {}
        """Why a word has no model, by the word; replaced by each scan as well."""

        self._directory = directory
        self._find = find
        self._load = load
        self._cure = cure and f"; {cure}"
        self._versions: dict[str, object] = {}
        self._failures: dict[str, str] = {}
        self._readable = True
        self._loaded_level = logging.DEBUG
        self._lock = threading.Lock()

    def scan(self) -> None:
        """Load new and changed models and drop removed ones; blocking.

        A file that cannot be used is logged once and tried again when it has changed; until then the word keeps its
        previous model.
        """
        with self._lock:
            files = self._files()
            models = {name: model for name in files if (model := self._current(name, files[name])) is not None}
            for name in self.models.keys() - files.keys():
                _LOGGER.info("wake word %s was removed", name)
            self._versions = {name: self._versions[name] for name in files}
            self.unusable = {name: self._failures[name] for name in files if name not in models}
            self._loaded_level = logging.INFO  # words present from the start are not worth a line
            self.models = models

    async def refresh(self) -> None:
        """Scan in another thread: in the engine's own, streams would wait for models to load."""
        if self._directory is not None:
            await asyncio.to_thread(self.scan)

    def _files(self) -> dict[str, Files]:
        if self._directory is None:
            return {}
        try:
            files = self._find(self._directory)
        except OSError as error:
            if self._readable:
                _LOGGER.warning("the folder of wake words cannot be read: %s", error)
            self._readable = False
            return {}
        self._readable = True
        return files

    def _current(self, name: str, files: Files) -> Model | None:
        old = self.models.get(name)
        version = [_version(file) for file in files]
        if self._versions.get(name) == version:
            return old
        self._versions[name] = version
        try:
            model = self._load(files)
        except model_errors() as error:
            self._failures[name] = f"{files[-1]} cannot be used: {str(error).strip()}{self._cure}"
            _LOGGER.warning("wake word %s: %s", name, self._failures[name])
            return old
        _LOGGER.log(self._loaded_level, "wake word %s loaded from %s", name, files[-1])
        return model


def _version(file: Path) -> object:
    """Return a value that changes with the file's content; None if it cannot be accessed."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return file, stat.st_ino, stat.st_mtime_ns, stat.st_size


def visible_files(directory: Path) -> list[Path]:
    """Return the files of a folder by name, without hidden ones, which copying programs rename when complete."""
    return sorted(file for file in directory.iterdir() if not file.name.startswith(".") and file.is_file())


@dataclass(frozen=True, slots=True)
class Tensor:
    """A network's input or output; `scale` and `zero_point` are those of a quantised tensor."""

    index: int
    shape: tuple[int, ...]
    dtype: Any
    scale: float
    zero_point: int

    def __str__(self) -> str:
        import numpy as np

        return f"{list(self.shape)} of {np.dtype(self.dtype)}"


class LiteRtModel:
    """A TFLite model, for one thread at a time. It is held in memory, since its file may change at any time."""

    def __init__(self, content: bytes, shape: Sequence[int] | None = None, *, portable: bool = False) -> None:
        """Load `content`; `shape` is that of the first input, and its first dimension that of all.

        `portable` means without the kernels of XNNPACK.
        """
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if portable else OpResolverType.AUTO
        self._interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=kernels)
        if shape is not None:
            first, *others = self._interpreter.get_input_details()
            self._interpreter.resize_tensor_input(first["index"], shape)
            for other in others:
                self._interpreter.resize_tensor_input(other["index"], [shape[0], *other["shape"][1:]])
        with without_c_errors():  # a notice about XNNPACK, once in each process; there is no setting against it
            self._interpreter.allocate_tensors()
        self.sources = [_tensor(details) for details in self._interpreter.get_input_details()]
        self.results = [_tensor(details) for details in self._interpreter.get_output_details()]
        self._views = [self._interpreter.tensor(result.index) for result in self.results]

    def run(self, *values: Array) -> list[Array]:
        """Return all outputs for `values`, one array an input."""
        return [view.copy() for view in self.peek(*values)]

    def peek(self, *values: Array) -> Iterator[Array]:
        """Yield the outputs without copying them; the network must not run again while one of them is in use."""
        for source, value in zip(self.sources, values, strict=True):
            self._interpreter.set_tensor(source.index, value)
        self._interpreter.invoke()
        for view in self._views:
            yield view()


def _tensor(details: Mapping[str, Any]) -> Tensor:
    scale, zero_point = details["quantization"]
    return Tensor(details["index"], tuple(details["shape"].tolist()), details["dtype"], scale, zero_point)


_STDERR_LOCK = threading.Lock()


@contextmanager
def without_c_errors() -> Iterator[None]:
    """Drop what C libraries write to standard error meanwhile.

    C's `stderr` is replaced, not the file descriptor, which Python and child processes of other threads use too.
    """
    try:
        errors = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr")
    except ValueError:  # in this C library it is not a variable
        yield
        return
    with _STDERR_LOCK:
        usual, errors.value = errors.value, _nowhere()
        try:
            yield
        finally:
            errors.value = usual


@cache
def _nowhere() -> int:
    """Return a C stream to /dev/null. Never closed: a thread may have read `stderr` just before it was restored."""
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    return int(libc.fopen(b"/dev/null", b"w"))
