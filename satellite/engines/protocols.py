"""What an engine is to the rest of the code: five Protocols and the values that cross them.

Audio is canonical PCM (`satellite.audio.pcm`) everywhere except what a voice returns, which is in the voice's own
format. Every method that computes is a coroutine: the work happens in the engine's own thread, never on the
event loop. Failures are `StageError`s; `CancelledError` drops the result and frees the thread as soon as the
library allows.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from satellite.audio.pcm import AudioFormat
from satellite.net.provider_states import ProviderHealth


@dataclass(frozen=True, slots=True)
class WakeWord:
    """A phrase that can be listened for."""

    name: str
    """What configuration, `detect` and `detection` call it, such as `okay_nabu`."""

    phrase: str
    """What a person says."""

    languages: tuple[str, ...]
    """Language codes the model was trained for; empty when unknown."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A wake word was heard."""

    name: str
    seconds: float
    """Where in the stream the deciding audio ends, from the stream's first sample."""


class WakeStream(Protocol):
    """One listener's position in its own audio."""

    async def feed(self, pcm: bytes) -> list[Detection]:
        """Return what `pcm` completes; several words may fire. One on another machine may tell a moment later."""

    async def end(self) -> list[Detection]:
        """Return what the audio, which is over, has completed and `feed` has not returned yet."""

    def close(self) -> None:
        """Forget the stream."""


class WakeWordEngine(Protocol):
    """Listens for wake words, many streams at once."""

    program: str
    """Name in the Wyoming `info`."""

    @property
    def words(self) -> Sequence[WakeWord]:
        """All words that can be asked for now; a watched folder may change them."""

    async def stream(self, names: Sequence[str] | None) -> WakeStream:
        """Start listening for `names`, or for the configured words when None."""

    async def refresh(self) -> None:
        """Look for words that were added to, changed in or removed from the watched folder."""


class VadStream(Protocol):
    """Voice activity along one stream."""

    async def feed(self, pcm: bytes) -> list[float]:
        """Return the speech probability of each 32 ms window that `pcm` completes."""


class VoiceActivityDetector(Protocol):
    """Voice activity detection."""

    window_seconds: float

    def stream(self) -> VadStream:
        """Start a stream of its own."""


SPEECH_PROBABILITY = 0.5
"""Of the VAD; a window at or above it is speech for a `Transcriber`."""

HYSTERESIS = 0.15
"""How much less likely speech may be that goes on than speech that begins.

As in Silero's own `VADIterator` (silero-vad 6): of some short words hardly two windows in a row are over 0.5.
"""

AFTER_SPEECH_SECONDS = 0.2
"""Audio behind the last speech that a `Transcriber` looks at: what comes later changes nothing."""


@dataclass(frozen=True, slots=True)
class Transcription:
    """What was said; `text` is empty when nobody spoke."""

    text: str
    language: str


def has_speech(speech: Sequence[float], window_seconds: float, least_seconds: float) -> bool:
    """Tell whether the VAD's probabilities, one a window, are those of somebody who spoke for so long."""
    seconds = window_seconds * sum(probability >= SPEECH_PROBABILITY - HYSTERESIS for probability in speech)
    return seconds >= least_seconds and any(probability >= SPEECH_PROBABILITY for probability in speech)


class Transcriber(Protocol):
    """Speech to text."""

    model: str
    languages: Sequence[str]
    device: str
    """Where it runs: `cpu` or `cuda`, with the kind of arithmetic."""

    @property
    def idle(self) -> bool:
        """Whether a request would be begun at once."""

    @property
    def usual_seconds(self) -> float | None:
        """How long a command takes, at worst of the last few; None when unknown."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What happened how often since the beginning, by short names that never change."""

    def prepare(self) -> None:
        """Get ready for a command that is about to be spoken; returns at once, and never fails."""

    async def transcribe(
        self, pcm: bytes, *, speech: Sequence[float], language: str | None = None, vocabulary: Sequence[str] = ()
    ) -> Transcription:
        """Return the words in `pcm`.

        `speech` is the VAD's probability for each window of `pcm`. `language` is a code such as `en` or `en-GB`;
        None means the configured language, or detection. `vocabulary` are names and terms to expect.
        """


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str
    aside: str = ""
    """What the model is told of the moment in which a question was asked."""

    @property
    def whole(self) -> str:
        """Content with the aside behind it."""
        return f"{self.content}\n[{self.aside}]" if self.aside else self.content


@dataclass(frozen=True, slots=True)
class ChatStats:
    """Figures of one answer; None where the provider does not tell."""

    first_token_seconds: float | None = None
    """From the question to the first word, whoever was asked before."""

    switch_reason: str = ""
    """Why it was not the first provider that answered; empty when it was."""

    truncated: bool = False
    """Whether the answer was cut at its longest."""

    prompt_tokens: int | None = None
    """Tokens of the whole conversation that was sent."""

    cached_tokens: int | None = None
    """How many of them it still knew from an earlier request."""

    answer_tokens: int | None = None

    load_seconds: float | None = None
    """Loading the model; large when it was cold."""

    prompt_seconds: float | None = None
    answer_seconds: float | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Pace of the answer once it had begun."""
        if not self.answer_tokens or not self.answer_seconds:
            return None
        return self.answer_tokens / self.answer_seconds

    def described(self) -> dict[str, object]:
        """Return what an answer carries for those who want to know where the time went; times in milliseconds."""
        rounded = {
            "first_token_ms": _ms(self.first_token_seconds),
            "tokens_per_second": None if self.tokens_per_second is None else round(self.tokens_per_second, 1),
            "load_ms": _ms(self.load_seconds),
            "prompt_tokens": self.prompt_tokens,
            "reused_tokens": self.cached_tokens,
            "answer_tokens": self.answer_tokens,
            "switch_reason": self.switch_reason or None,
        }
        return {name: value for name, value in rounded.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of the answer as it is generated."""

    text: str
    provider: str
    """Who generates it, such as `ollama` or `local`."""

    stats: ChatStats | None = None
    """What the answer cost; always with the last delta, whose text is often empty, and only there."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one answer is to be made, where whoever asks has wishes of their own; None is as configured."""

    max_tokens: int | None = None
    """Longest answer; one that is configured to be shorter stays so."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    """Texts before which the answer ends."""

    @property
    def may_be_empty(self) -> bool:
        """Whether an answer without a word may be what was asked for."""
        return self.max_tokens is not None or bool(self.stop)

    def options(self, max_tokens: int, temperature: float) -> dict[str, Any]:
        """Return what to ask of a provider, by OpenAI's names, where `max_tokens` and `temperature` are configured."""
        wished = {"top_p": self.top_p, "seed": self.seed, "stop": list(self.stop) or None}
        return {
            "max_tokens": min(max_tokens, self.max_tokens or max_tokens),
            "temperature": temperature if self.temperature is None else self.temperature,
            **{name: value for name, value in wished.items() if value is not None},
        }


AS_CONFIGURED = Sampling()


class ChatModel(Protocol):
    """A chat model behind whatever API."""

    provider: str
    model: str
    context_tokens: int | None
    """Longest conversation it reads, tokens; None when unknown."""

    leaves_house: bool
    """Whether what people say is sent outside the house."""

    @property
    def health(self) -> ProviderHealth:
        """Return whether it is worth asking now; costs no time."""

    def stream(
        self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer, made as `sampling` says; closing the generator stops the model."""

    def prepare(self, messages: Sequence[Message]) -> None:
        """Get ready for a question behind `messages`, which is to come soon; returns at once, and never fails."""

    async def warm_up(self) -> None:
        """Return once it is ready to answer at its best. Raises `ChatError` when it cannot answer."""

    async def watch(self) -> None:
        """Look after it until cancelled."""

    async def close(self) -> None:
        """Release connections and memory; may be called twice."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that can speak."""

    name: str
    languages: tuple[str, ...]
    speakers: tuple[str, ...]
    """Names of the speakers of a multi-speaker voice; empty for one speaker."""

    description: str


@dataclass(frozen=True, slots=True)
class VoiceChoice:
    """Which voice a caller wants; None means the default."""

    name: str | None = None
    language: str | None = None
    speaker: str | None = None
    strict: bool = False
    """Whether a language that no voice speaks is an error; else the default voice speaks."""

    speed: float = 1.0
    """How many times as fast as is configured."""


class Speaker(Protocol):
    """A loaded voice, ready to speak."""

    voice: Voice
    format: AudioFormat
    identity: str
    """What says whether the same text is the same sound: the voice's files and its speaker."""

    def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """Yield `text` as PCM in `format`, as it is made, at the voice's one constant gain; nothing without a sound.

        It is made as fast as it is taken, and never much slower than it is heard. Closing the generator stops the work.
        """


class Synthesizer(Protocol):
    """Text to speech."""

    @property
    def voices(self) -> Sequence[Voice]:
        """All voices that are present, the default first."""

    async def speaker(self, choice: VoiceChoice) -> Speaker:
        """Load, if need be, the voice that `choice` means."""


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
