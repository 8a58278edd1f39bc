"""The interface of the engines: Protocols, and the values that they exchange.

Audio is canonical PCM (`satellite.audio.pcm`), except that of voices, which have a format of their own. Methods that
compute are coroutines: they run in the engine's thread, never on the event loop. Failures are `StageError`s; on
`CancelledError` the result is dropped, and the thread is free as soon as the library allows.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from satellite.audio.pcm import AudioFormat
from satellite.net.provider_states import ProviderHealth


@dataclass(frozen=True, slots=True)
class WakeWord:
    """A phrase that can be listened for."""

    name: str
    """Its name in the configuration, in `detect` and in `detection`, such as `okay_nabu`."""

    phrase: str
    """What a person says."""

    languages: tuple[str, ...]
    """Language codes the model was trained for; empty when unknown."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A wake word was detected."""

    name: str
    seconds: float
    """End of the deciding audio, from the first sample of the stream."""


class WakeStream(Protocol):
    """Wake word detection along one stream of audio."""

    async def feed(self, pcm: bytes) -> list[Detection]:
        """Return the detections that `pcm` completes, of several words if need be; remote ones may come later."""

    async def end(self) -> list[Detection]:
        """Return the detections that `feed` has not returned yet; the audio has ended."""

    def close(self) -> None:
        """Close the stream."""


class WakeWordEngine(Protocol):
    """Wake word detection, in many streams at once."""

    program: str
    """Name in the Wyoming `info`."""

    @property
    def words(self) -> Sequence[WakeWord]:
        """All words that are available now; a watched folder may change them."""

    async def stream(self, names: Sequence[str] | None) -> WakeStream:
        """Start a stream for `names`, or for the configured words if None."""

    async def refresh(self) -> None:
        """Look for added, changed and removed words in the watched folder."""


class VadStream(Protocol):
    """Voice activity along one stream."""

    async def feed(self, pcm: bytes) -> list[float]:
        """Return the speech probability of each 32 ms window that `pcm` completes."""


class VoiceActivityDetector(Protocol):
    """Voice activity detection."""

    window_seconds: float

    def stream(self, *, levelled: bool = False) -> VadStream:
        """Start a stream; with `levelled`, quiet speech is recognised as well as loud speech."""


SPEECH_PROBABILITY = 0.3
"""Probability of the VAD at which a window is speech for a `Transcriber`, which loses more by a word that is left out
than by a little noise."""

HYSTERESIS = 0.15
"""By how much the probability of continued speech may be lower than that of its beginning.

As in Silero's own `VADIterator` (silero-vad 6): some short words have hardly two windows in a row over 0.5.
"""

AFTER_SPEECH_SECONDS = 0.2
"""Audio after the last speech that a `Transcriber` uses; what comes later changes nothing."""


@dataclass(frozen=True, slots=True)
class Transcription:
    """The words that were said; `text` is empty if there was no speech."""

    text: str
    language: str


def has_speech(speech: Sequence[float], window_seconds: float, least_seconds: float) -> bool:
    """Return whether the VAD's probabilities, one for each window, contain `least_seconds` of speech."""
    seconds = window_seconds * sum(probability >= SPEECH_PROBABILITY for probability in speech)
    return seconds >= least_seconds and any(probability >= SPEECH_PROBABILITY for probability in speech)


class Transcriber(Protocol):
    """Speech to text."""

    model: str
    languages: Sequence[str]
    device: str
    """Where it runs: `cpu` or `cuda`, with the kind of arithmetic."""

    @property
    def idle(self) -> bool:
        """Whether a request would begin at once."""

    @property
    def usual_seconds(self) -> float | None:
        """How long the slowest of the last few commands took; None if unknown."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Counts of events since the start, by short names that never change."""

    def prepare(self) -> None:
        """Prepare for a command that is about to be spoken; returns at once, and never fails."""

    async def transcribe(
        self, pcm: bytes, *, speech: Sequence[float], language: str | None = None, vocabulary: Sequence[str] = ()
    ) -> Transcription:
        """Return the words in `pcm`.

        `speech` has the VAD's probability of each window of `pcm`. `language` is a code such as `en` or `en-GB`; None
        means the configured language, or detection. `vocabulary` has names and terms that are likely to be said.
        """


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str
    aside: str = ""
    """Context of a question for the model, such as the time at which it was asked."""

    @property
    def whole(self) -> str:
        """Content, after the aside: that is known before the words are, so that a model can read it before them."""
        return f"[{self.aside}]\n{self.content}" if self.aside else self.content

    def sent(self, *, with_aside: bool) -> dict[str, str]:
        """Return the entry as chat APIs take it."""
        return {"role": self.role, "content": self.whole if with_aside else self.content}


def starts_with(messages: Sequence[Message], beginning: Sequence[Message]) -> bool:
    """Return whether `messages` start with `beginning`, of which the last may be a question without its words."""
    if not beginning or len(messages) < len(beginning):
        return not beginning
    last, longer = beginning[-1], messages[len(beginning) - 1]
    same = replace(longer, content="") if last.role == "user" and not last.content else longer
    return [*messages[: len(beginning) - 1], same] == list(beginning)


@dataclass(frozen=True, slots=True)
class ChatStats:
    """Figures of one answer; None if the provider does not report them."""

    first_token_seconds: float | None = None
    """From the question to the first word, including attempts of other providers."""

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
    """Parameters of one answer, requested by the client; None means the configured value."""

    max_tokens: int | None = None
    """Longest answer; a shorter configured limit applies all the same."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    """Texts before which the answer ends."""

    @property
    def may_be_empty(self) -> bool:
        """Whether an answer without a word may be what the client wants."""
        return self.max_tokens is not None or bool(self.stop)

    def options(self, max_tokens: int, temperature: float) -> dict[str, Any]:
        """Return the parameters by OpenAI's names, given the configured `max_tokens` and `temperature`."""
        requested = {"top_p": self.top_p, "seed": self.seed, "stop": list(self.stop) or None}
        return {
            "max_tokens": min(max_tokens, self.max_tokens or max_tokens),
            "temperature": temperature if self.temperature is None else self.temperature,
            **{name: value for name, value in requested.items() if value is not None},
        }


AS_CONFIGURED = Sampling()


class ChatModel(Protocol):
    """A chat model, of any provider."""

    provider: str
    model: str
    context_tokens: int | None
    """Longest conversation it reads, tokens; None when unknown."""

    leaves_house: bool
    """Whether what people say is sent outside the house."""

    @property
    def health(self) -> ProviderHealth:
        """Return whether it can be used now; takes no time."""

    def stream(
        self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the answer, generated with `sampling`; closing the generator stops the model."""

    def prepare(self, messages: Sequence[Message]) -> None:
        """Prepare for a question after `messages`, which will come soon; returns at once, and never fails."""

    async def warm_up(self) -> None:
        """Return once it answers at full speed. Raises `ChatError` if it cannot answer."""

    async def watch(self) -> None:
        """Keep it ready until cancelled."""

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
    """The voice requested by a caller; None means the default."""

    name: str | None = None
    language: str | None = None
    speaker: str | None = None
    strict: bool = False
    """Whether a language that no voice speaks is an error; otherwise the default voice is used."""

    speed: float = 1.0
    """Speed, relative to the configured one."""

    spoken: str | None = None
    """Language of the text: where the voice does not speak it, one that does takes its place, if there is one."""


class Speaker(Protocol):
    """A loaded voice, ready to speak."""

    voice: Voice
    format: AudioFormat
    identity: str
    """Equal if the same text gives the same sound: the voice's files, its speaker and its speed."""

    def speak(self, text: str, lead_seconds: float = 0.0) -> AsyncGenerator[bytes, None]:
        """Yield `text` as PCM in `format` while it is synthesised, at a constant gain.

        `lead_seconds` of sound before it are still to be heard: meanwhile texts that are needed earlier may go first.
        Text without a sound yields nothing. Synthesis is as fast as the consumer; closing the generator stops it.
        """


class Synthesizer(Protocol):
    """Text to speech."""

    @property
    def voices(self) -> Sequence[Voice]:
        """All voices that are present, the default first."""

    async def speaker(self, choice: VoiceChoice) -> Speaker:
        """Return the voice of `choice`, loaded first if need be."""


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
