"""Speech to text by Whisper: faster-whisper's features and tokens, CTranslate2's encoder and decoder called directly.

`WhisperModel.transcribe` always encodes 30 s and, if the result is doubtful, decodes again at higher temperatures, for
seconds. Here the encoder gets a window just longer than the speech if the model supports that
(`window_floor_seconds`), decoding is by a small beam at temperature 0 and of limited length, and a result that repeats
itself is decoded once more greedily, and if that repeats itself too, once more over the full window.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from satellite.audio.pcm import RATE, to_float
from satellite.config.settings import SttSettings, cpu_threads
from satellite.engines.cuda import load_cublas
from satellite.engines.measurements import Measurements
from satellite.engines.protocols import SPEECH_PROBABILITY, Transcription, has_speech
from satellite.engines.stt.segments import (
    FULL_WINDOW_SECONDS,
    MARGIN_SECONDS,
    levelled,
    pause_before_lost_words,
    segments,
    without_text,
)
from satellite.engines.stt.thread_count import WhisperModel, fastest_threads
from satellite.engines.stt.whisper_text import Decoded, Span, languages_of, likeliest, spans_of, text_of
from satellite.engines.vad import IMPORTING_FASTER_WHISPER, WINDOW_SAMPLES
from satellite.engines.worker import Worker
from satellite.errors import SpeechToTextError, shown
from satellite.languages import closest, family
from satellite.system.process import processor
from satellite.tasks import begin_task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LOGGER = logging.getLogger(__name__)


_DAMAGED = (
    "model.bin is damaged, or made for a later version of CTranslate2; replace it (satellite models pull configured)"
)
"""Of a file that is none of its own CTranslate2 says only that its version is unknown."""

_FRAMES_PER_SECOND = 100
_BUCKET_FRAMES = 100
"""Windows have whole seconds, so that few shapes occur."""

_TOKENS_PER_SECOND = 12
"""People say three or four words a second, and at twice their pace ten tokens."""

_SPARE_TOKENS = 12
_MOST_TOKENS = 224
"""Half of the decoder's positions, as in OpenAI's `decoding.py`."""


_LONG_SECONDS = 10.0
"""Length above which a segment is decoded twice, with and without timestamps: of several sentences each may leave one
out, and timestamps show where."""

_TIMED_BEAM = 3
"""Hypotheses kept with timestamps, at least: of 1,322 words of long French Whisper base mishears 225 with two, 211 with
three."""

_LONGER = 1.2
"""How many times as long the text of both parts must be to count."""

_UNSURE_LOG_PROBABILITY = -0.4
"""Mean logarithm of the probability of a text's tokens below which a house's names are tried as a hint."""

_VOCABULARY_TOKENS = 200
"""Limit of vocabulary in the prompt; the decoder has 448 positions for prompt and text together."""


_RECENT = 5
"""Number of transcriptions whose slowest is the usual time."""

_MOST_NO_SPEECH = 0.35
"""Whisper's probability of no speech, above which audio without speech for the VAD has none: of tiny.en, recorded
commands over a telephone's band had at most 0.27, noise and music at least 0.46."""


class WhisperTranscriber:
    """A `Transcriber`. `load` must have run before the first `transcribe`."""

    def __init__(
        self,
        settings: SttSettings,
        worker: Worker,
        *,
        languages: Sequence[str],
        window_floor_seconds: float,
        spoken: Sequence[str] = (),
        measured: Path | None = None,
    ) -> None:
        """Transcribe `languages`; measurements of the model are kept in the folder `measured`.

        Where no language is named, that of a command is the likeliest of `spoken`, if there are any.
        `window_floor_seconds` is the shortest window that the model supports, unless one is configured.
        """
        self.model = settings.model
        self.languages: Sequence[str] = languages
        self.device = "not loaded"
        """Where the model really runs: `cpu` or `cuda`, with the compute type."""

        self.window_floor_seconds = settings.window_floor_seconds or window_floor_seconds
        """Shortest window of the encoder, seconds; may change at any time."""

        self._spoken = tuple(family(language) for language in spoken)
        self._settings = settings
        self._worker = worker
        self._measurements = None if measured is None else Measurements(measured)
        self._whisper: WhisperModel = None
        self._tokenizer: Any = None
        self._folder = Path()
        self._recent_seconds: deque[float] = deque(maxlen=_RECENT)
        self._counts = {"decoded": 0, "full_window_retries": 0, "abandoned": 0}
        self._warming: asyncio.Task[None] | None = None

    def load(self, folder: Path) -> None:
        """Load the model in `folder`; blocking. Raises `SpeechToTextError`, also if `cuda` cannot be used."""
        import ctranslate2

        with IMPORTING_FASTER_WHISPER:
            from faster_whisper.feature_extractor import FeatureExtractor

        device = _device(self._settings.device, ctranslate2.get_cuda_device_count(), load_cublas)
        compute_type = self._settings.compute_type
        if compute_type == "default":  # CTranslate2's own default keeps the precision of the file
            compute_type = "float16" if device == "cuda" else "int8"

        def load(threads: int) -> WhisperModel:
            return ctranslate2.models.Whisper(
                str(folder), device=device, compute_type=compute_type, intra_threads=threads, inter_threads=1
            )

        try:
            self._whisper = load(self._threads(load, device, compute_type))
        except (RuntimeError, ValueError, OSError) as error:
            reason = _DAMAGED if "binary version" in str(error) else str(error)
            raise SpeechToTextError(f"Whisper model {self.model} cannot be loaded from {folder}: {reason}") from error
        self._folder = folder
        self._features = FeatureExtractor(feature_size=self._whisper.n_mels)
        self._storage = ctranslate2.StorageView.from_array
        self.device = f"{device} {compute_type}"
        self.languages = languages_of(folder) if self._whisper.is_multilingual else ("en",)

    def _threads(self, load: Callable[[int], WhisperModel], device: str, compute_type: str) -> int:
        """Return the number of threads: the configured one, or else the fastest on this host."""
        most = cpu_threads(self._settings.threads)
        if self._settings.threads or device != "cpu" or most == 1:
            return most
        import ctranslate2

        conditions = {
            "processor": processor(),
            "most": most,
            "compute_type": compute_type,
            "window_seconds": self.window_floor_seconds,
            "ctranslate2": ctranslate2.__version__,
        }

        def measure() -> int:
            return fastest_threads(load, most, _frames(self.window_floor_seconds))

        threads = measure() if self._measurements is None else self._measurements.get("threads", conditions, measure)
        _LOGGER.info("Whisper is fastest with %d of %d threads here", threads, most)
        return threads

    @property
    def idle(self) -> bool:
        """Whether a request would begin at once."""
        return not self._worker.pending

    @property
    def usual_seconds(self) -> float | None:
        """How long the slowest of the last few commands took; None before the first."""
        return max(self._recent_seconds, default=None)

    @property
    def counts(self) -> Mapping[str, int]:
        """How often a segment of speech was `decoded`, decoded again over 30 s, and `abandoned`."""
        return self._counts

    def prepare(self) -> None:
        """On an idle GPU, run the encoder once: its clocks drop at rest, and take a while to rise."""
        if self._whisper is not None and self.device.startswith("cuda") and self.idle:
            self._warming = begin_task(self._warm(), "warm speech to text")

    async def _warm(self) -> None:
        import numpy as np

        window = np.zeros((1, self._whisper.n_mels, _frames(self.window_floor_seconds)), np.float32)
        try:
            await self._worker.run(lambda: self._whisper.encode(self._storage(window)))
        except SpeechToTextError as error:
            _LOGGER.debug("speech to text cannot be warmed up: %s", error)

    async def transcribe(
        self, pcm: bytes, *, speech: Sequence[float], language: str | None = None, vocabulary: Sequence[str] = ()
    ) -> Transcription:
        """Return the words in `pcm`; see `Transcriber`. Raises `SpeechToTextError`."""
        wanted = self._language(language or self._settings.language)
        request = _Request((*vocabulary, *self._settings.vocabulary))
        spoken = None
        if has_speech(speech, WINDOW_SAMPLES / RATE, self._settings.min_speech_seconds):
            spoken = [probability >= SPEECH_PROBABILITY for probability in speech]
        pieces = self._pieces(pcm, spoken, wanted, request)
        texts: list[str] = []
        try:
            is_last = False
            while not is_last:
                piece, is_last = await self._worker.run(next, pieces, (Transcription("", wanted or ""), True))
                texts.append(piece.text)
                wanted = piece.language
        except asyncio.CancelledError:
            request.abandoned.set()
            raise
        return Transcription(" ".join(text for text in texts if text), wanted or "")

    def _language(self, language: str | None) -> str | None:
        """Return Whisper's code of `language`, or None to detect it; raises if the model does not know it."""
        if language is None:
            return next((known[0] for known in (self.languages, self._spoken) if len(known) == 1), None)
        code = closest(language, self.languages) if self.languages else family(language)
        if code is None:
            known = ", ".join(self.languages[:8])
            raise SpeechToTextError(
                f"model {self.model} does not know the language '{shown(language)}'; it knows {known}",
                kind="unsupported-language",
            )
        return code

    def _pieces(
        self, pcm: bytes, spoken: list[bool] | None, language: str | None, request: "_Request"
    ) -> Iterator[tuple[Transcription, bool]]:
        """Yield the words of each segment of speech, and whether it is the last; between two the thread serves others.

        Where the VAD has found no speech, `spoken` is None, and all of `pcm` is decoded: over a telephone's band and
        for very quiet voices Whisper hears what a VAD misses, and says itself how likely there is no speech.
        """
        if self._whisper is None:
            raise SpeechToTextError("the Whisper model is not loaded", kind="not-ready")
        samples = levelled(to_float(pcm))
        if samples is None:
            return
        seconds = 0.0
        parts = list(segments(spoken, len(samples), self.window_floor_seconds))
        for number, (start, end) in enumerate(parts, 1):
            began = time.monotonic()
            text, language = self._text(samples, start, end, spoken, language, request)
            seconds += time.monotonic() - began
            if number == len(parts):
                self._recent_seconds.append(seconds)
            yield Transcription(text, language), number == len(parts)

    def _text(
        self,
        samples: "NDArray[np.float32]",
        start: int,
        end: int,
        spoken: list[bool] | None,
        language: str | None,
        request: "_Request",
    ) -> tuple[str, str]:
        """Return the words of a segment and its language, which is detected once, in the first segment."""
        decoded = self._decode(samples[start:end], language, request)
        text = self._likely_text(decoded, has_speech=spoken is not None)
        if spoken is not None and end - start > _LONG_SECONDS * RATE:
            timed = self._timed_text(samples, start, end, spoken, decoded.language, request)
            text = timed if timed and (decoded.repetitive or len(timed) > len(text)) else text
        cut = None if spoken is None else pause_before_lost_words(spoken, start, end, text)
        if cut is not None:
            parts = [self._decode(samples[at:to], decoded.language, request) for at, to in ((start, cut), (cut, end))]
            joined = " ".join(words for part in parts if (words := self._likely_text(part, has_speech=True)))
            text = joined if len(joined) > _LONGER * len(text) else text
        return text, decoded.language

    def _timed_text(
        self,
        samples: "NDArray[np.float32]",
        start: int,
        end: int,
        spoken: list[bool],
        language: str,
        request: "_Request",
    ) -> str:
        """Return the words of a segment by its timestamps, with those of the speech that they leave without text.

        Empty where it is not to be trusted.
        """
        decoded = self._decode(samples[start:end], language, replace(request, has_timestamps=True))
        if self._likely_text(decoded, has_speech=True) != decoded.text:
            return ""
        spans = list(decoded.spans)
        for begin, stop in without_text(spoken, start, end, [(span.start, span.end) for span in decoded.spans]):
            part = self._decode(samples[begin:stop], decoded.language, request)
            seconds = (begin - start) / RATE
            spans.append(Span(seconds, seconds, self._likely_text(part, has_speech=True)))
        return " ".join(span.text for span in sorted(spans, key=lambda span: span.start) if span.text)

    def _likely_text(self, decoded: Decoded, *, has_speech: bool) -> str:
        return "" if self._is_noise(decoded, has_speech=has_speech) else decoded.said_once.strip()

    def _is_noise(self, decoded: Decoded, *, has_speech: bool) -> bool:
        """Return whether Whisper invented words over noise: unlikely ones, where speech is unlikely too.

        Without a VAD's word for it, either is enough.
        """
        unlikely = decoded.log_probability < self._settings.log_probability_threshold
        if has_speech:
            return unlikely and decoded.no_speech > self._settings.no_speech_threshold
        return unlikely or decoded.no_speech > _MOST_NO_SPEECH

    def _decode(self, samples: "NDArray[np.float32]", language: str | None, request: "_Request") -> Decoded:
        seconds = len(samples) / RATE
        window = max(self.window_floor_seconds, seconds + MARGIN_SECONDS)
        decoded = self._decode_window(samples, window, language, request)
        self._counts["decoded"] += 1
        if decoded.repetitive and window < FULL_WINDOW_SECONDS:
            self._counts["full_window_retries"] += 1
            decoded = self._decode_window(samples, FULL_WINDOW_SECONDS, decoded.language, request)
        return decoded

    def _decode_window(
        self, samples: "NDArray[np.float32]", window_seconds: float, language: str | None, request: "_Request"
    ) -> Decoded:
        import numpy as np

        self._stop_if_abandoned(request)
        mel = self._features(samples)[:, : int(FULL_WINDOW_SECONDS * _FRAMES_PER_SECOND)]
        frames = _frames(window_seconds)
        window = np.zeros((1, mel.shape[0], frames), np.float32)
        window[0, :, : mel.shape[1]] = mel[:, :frames]
        encoded = self._whisper.encode(self._storage(window))
        # Again between the two networks: usually the speaker has continued, and the longer command is waiting.
        self._stop_if_abandoned(request)
        if language is None:
            language = likeliest(self._whisper.detect_language(encoded)[0], self._spoken)
        # Without a limit, a loop goes on to the 448th position, for seconds.
        most_tokens = min(_MOST_TOKENS, int(_TOKENS_PER_SECOND * len(samples) / RATE) + _SPARE_TOKENS)
        decoded = self._generated(encoded, language, request, most_tokens)
        if decoded.repetitive and self._settings.beam_size > 1:
            # In a short window a beam finds a sentence said twice likelier than one that ends; greedy decoding ends it.
            decoded = self._generated(encoded, language, request, most_tokens, greedy=True)
        if request.vocabulary and decoded.log_probability < _UNSURE_LOG_PROBABILITY:
            # A hint pulls every text towards its words, so it is asked only about a doubtful one, for a name.
            hinted = self._generated(encoded, language, request, most_tokens, hinted=True)
            is_better = hinted.log_probability > decoded.log_probability and not hinted.repetitive
            if is_better and hinted.names(request.vocabulary) > decoded.names(request.vocabulary):
                return hinted
        return decoded

    def _generated(
        self,
        encoded: Any,
        language: str,
        request: "_Request",
        most_tokens: int,
        *,
        greedy: bool = False,
        hinted: bool = False,
    ) -> Decoded:
        """Return the text of what was encoded, perhaps with the vocabulary as a hint."""
        prompt = self._prompt(language, request.vocabulary if hinted else (), has_timestamps=request.has_timestamps)
        result = self._whisper.generate(
            encoded,
            [prompt],
            beam_size=1 if greedy else max(self._settings.beam_size, _TIMED_BEAM if request.has_timestamps else 1),
            # Of Whisper, CTranslate2 generates at most half of max_length, and max_length less the prompt.
            max_length=min(448, max(2 * most_tokens, len(prompt) + most_tokens)),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=[-1],
        )[0]
        tokens = result.sequences[0]
        spans = spans_of(tokens, FULL_WINDOW_SECONDS) if request.has_timestamps else ()
        capped = len(tokens) >= most_tokens
        return Decoded(text_of(tokens), language, result.scores[0], result.no_speech_prob, capped, spans)

    def _stop_if_abandoned(self, request: "_Request") -> None:
        if request.abandoned.is_set():
            self._counts["abandoned"] += 1
            raise SpeechToTextError("the transcription was cancelled")

    def _prompt(self, language: str, vocabulary: Sequence[str], *, has_timestamps: bool) -> list[str]:
        """Return the decoder's prompt: the vocabulary as previous text, language, task, perhaps no timestamps."""
        hint = ["<|startofprev|>", *self._tokens(" " + ", ".join(vocabulary))] if vocabulary else []
        task = [f"<|{language}|>", "<|transcribe|>"] if self._whisper.is_multilingual else []
        return [*hint, "<|startoftranscript|>", *task, *(() if has_timestamps else ("<|notimestamps|>",))]

    def _tokens(self, text: str) -> list[str]:
        # Loaded only if needed: that holds Python's lock for 60 ms, and most installations have no vocabulary.
        if self._tokenizer is None:
            import tokenizers

            self._tokenizer = tokenizers.Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        return list(self._tokenizer.encode(text, add_special_tokens=False).tokens[:_VOCABULARY_TOKENS])


@dataclass(frozen=True, slots=True)
class _Request:
    vocabulary: Sequence[str]
    has_timestamps: bool = False
    abandoned: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits any more: the thread cannot be cancelled, and looks at it between steps of the network."""


def _frames(window_seconds: float) -> int:
    """Return the length, in frames, of a window of `window_seconds`, the full one at most."""
    frames = min(window_seconds, FULL_WINDOW_SECONDS) * _FRAMES_PER_SECOND
    return int(-(-frames // _BUCKET_FRAMES) * _BUCKET_FRAMES)


def _device(wanted: str, cuda_devices: int, load_libraries: Callable[[], str | None]) -> str:
    """Return `cuda` or `cpu`; `load_libraries` loads CUDA's libraries, and returns what is missing."""
    if wanted == "cpu":
        return "cpu"
    missing = load_libraries() if cuda_devices else "CTranslate2 sees no CUDA device"
    if missing is None:
        return "cuda"
    if wanted == "cuda":
        raise SpeechToTextError(f"stt.device is cuda, but {missing}", kind="not-ready")
    _LOGGER.log(
        logging.WARNING if cuda_devices else logging.DEBUG, "speech to text runs on the CPU, not on a GPU: %s", missing
    )
    return "cpu"
