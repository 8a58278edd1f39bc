"""The stages of a run, each with its deadline; the services offer them one by one, the pipeline joins them."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, fields
from typing import TypeVar

from satellite.audio.pcm import seconds_of
from satellite.config.chat import ChatSettings, PhraseSettings
from satellite.config.rooms import HubSettings
from satellite.config.settings import (
    Config,
    DeadlineSettings,
    EndpointSettings,
    SttSettings,
    TtsSettings,
    VadSettings,
    WakeSettings,
    WyomingSettings,
    stt_patience,
    tts_patience,
)
from satellite.engines.chat.usage import ChatStats
from satellite.engines.protocols import (
    AS_CONFIGURED,
    ChatDelta,
    Message,
    Sampling,
    Speaker,
    Transcription,
    VoiceChoice,
    WakeWordEngine,
)
from satellite.engines.slot import Engines
from satellite.errors import STAGE_ERRORS, ChatError, Stage
from satellite.pipeline.clauses import ClauseSplitter, is_finished
from satellite.pipeline.commit_gate import Gate
from satellite.pipeline.completeness import Completeness, completeness
from satellite.pipeline.dialogue import Dialogue, Question
from satellite.pipeline.long_recordings import Part
from satellite.pipeline.phrases import Phrase, phrase
from satellite.pipeline.prefetch import ahead
from satellite.pipeline.recorder import Recorder
from satellite.pipeline.responder import Commands, Reply, Responder
from satellite.pipeline.sound_cache import SoundCache
from satellite.pipeline.speculative_transcript import EarlyCount
from satellite.tasks import Background

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

_CACHED_PHRASES = 16

_PART_CHARACTERS = 1000
"""Text that is cut into pieces at a time: a few milliseconds, whatever it holds."""

_GRACE_SECONDS = 0.25
"""How much later than its own deadline a responder is given up."""


@contextmanager
def _translate_timeout(stage: Stage, seconds: float) -> Iterator[None]:
    """Turn a `TimeoutError` inside into the stage's error of the kind `timeout`."""
    try:
        yield
    except TimeoutError as late:
        raise STAGE_ERRORS[stage](f"{stage} took longer than {seconds:g} s", kind="timeout") from late


@dataclass(frozen=True, slots=True)
class SpokenPiece:
    """Some of the sound of an answer, in the speaker's format, as soon as it is made."""

    text: str
    """The clause or sentence that ends here; empty while more of its sound is to come."""

    pcm: bytes
    """May be empty where a text ends."""

    seconds: float = 0.0
    """How long it took to make the sound."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The sections of the configuration that runs, and what begins them, depend on."""

    chat: ChatSettings
    deadlines: DeadlineSettings
    endpoint: EndpointSettings
    hub: HubSettings
    phrases: PhraseSettings
    stt: SttSettings
    tts: TtsSettings
    vad: VadSettings
    wake: WakeSettings
    wyoming: WyomingSettings

    @classmethod
    def of(cls, config: Config) -> "RunConfig":
        """Return the sections of a whole configuration."""
        return cls(**{section.name: getattr(config, section.name) for section in fields(cls)})


class Stages:
    """Wake, speech to text, chat and text to speech over the daemon's engines and deadlines."""

    def __init__(
        self,
        engines: Engines,
        config: RunConfig,
        background: Background | None = None,
        *,
        dialogue: Dialogue | None = None,
        responders: Sequence[Responder] = (),
        commands: Commands | None = None,
    ) -> None:
        """Join `engines`. `responders` are asked before the chat model, in this order."""
        self.engines = engines
        self.background = background or Background()
        """The owner of tasks that outlive one run."""

        self.config = config
        """The current settings; a reload replaces them."""

        self.dialogue = dialogue or Dialogue(config.chat, engines.chat.engine.context_tokens)
        self.responders = responders
        self._commands = commands
        self.early_transcripts = EarlyCount()
        """What became of transcripts that were begun before a recording was over."""

        self._broken: set[str] = set()
        self._phrases: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._sounds = SoundCache(round(config.tts.reply_cache_mib * 2**20))

    async def wake_engine(self, program: str | None = None) -> WakeWordEngine:
        """Return the loaded engine called `program`, or the default one."""
        slots = [slot for slot in self.engines.wake if program in (None, slot.engine.program)]
        return await (slots or self.engines.wake)[0].get(self.config.deadlines.load_seconds)

    async def transcribe(
        self, recording: Recorder | Part, language: str | None = None, vocabulary: Sequence[str] = ()
    ) -> Transcription:
        """Return what was said in the recording until now."""
        pcm, speech = bytes(recording.pcm), tuple(recording.speech)
        transcriber = await self.engines.transcriber.get(self.config.deadlines.load_seconds)
        seconds = self.config.deadlines.stt_seconds * stt_patience(seconds_of(pcm))
        with _translate_timeout(Stage.STT, seconds):
            async with asyncio.timeout(seconds):
                return await transcriber.transcribe(pcm, speech=speech, language=language, vocabulary=vocabulary)

    async def completeness(self, text: str, language: str | None) -> Completeness:
        """Return what the words of a command say of its end."""
        is_command = self._commands is not None and await self._commands.is_command(text, language)
        return completeness(text, language, is_command=is_command)

    async def means_stop(self, text: str, language: str | None) -> bool:
        """Return whether `text` asks for nothing but that the answer stops."""
        return self._commands is not None and await self._commands.means_stop(text, language)

    def expect(self, conversation: str | None = None, persona: str | None = None, words: str = "") -> None:
        """Get speech to text and the chat model ready for a question that is about to be spoken; or begins so."""
        self.engines.transcriber.engine.prepare()
        known = self.dialogue.beginning(conversation, persona) if conversation else []
        if words:
            known.append(Message("user", words))
        self.engines.chat.engine.prepare(known)

    def remember(self, question: Question, prompt: list[Message], answer: str, whole: str = "") -> None:
        """Remember a turn, see `Dialogue.remember`; what is left of one that was too long is read at once."""
        if self.dialogue.remember(question, prompt, answer, whole):
            self.engines.chat.engine.prepare(self.dialogue.beginning(question.conversation, question.persona))

    async def answer(
        self,
        question: Question | None,
        prompt: Sequence[Message],
        gate: Gate | None = None,
        sampling: Sampling = AS_CONFIGURED,
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the first responder's answer, whole, else that of the chat model to the `prompt`; see `read_ahead`.

        Without a `question` no responder is asked.
        Raises `ChatError`, also for an answer of the model without a word; past `chat.max_characters` it ends as one
        that the model cut. The answer of a responder may be empty: then there is nothing to say, and nothing is wrong.
        A responder acts: behind a closed `gate` one that may be concerned is asked only once that is open.
        """
        for responder in self.responders:
            if question is None:
                break
            if gate is not None and not gate.is_open:
                if not await self._concerns(responder, question):
                    continue
                await gate.opened()
            began = _now()
            reply = await self._asked(responder, question)
            if reply is not None:
                seconds = _now() - began
                _LOGGER.info("chat: %s answered in %.0f ms", reply.provider, 1000 * seconds)
                limit = self.config.chat.max_characters
                stats = ChatStats(
                    first_token_seconds=seconds,
                    truncated=len(reply.text) > limit,
                    prompt_tokens=0,
                    answer_tokens=0,
                )
                yield ChatDelta(reply.text[:limit], reply.provider, stats)
                return
        async with aclosing(self._chat(prompt, sampling)) as deltas:
            async for delta in deltas:
                yield delta

    def read_ahead(self, answer: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Yield an `answer` that is read to its end at the model's own pace, however slowly it is taken from here.

        There is room for the longest answer, one character a piece: nobody who listens holds the model back.
        """
        return ahead(answer, size=self.config.chat.max_characters + 2)

    async def _concerns(self, responder: Responder, question: Question) -> bool:
        """Return whether a responder may answer; True also when it is broken or slow, which asking it will tell."""
        try:
            async with asyncio.timeout(responder.deadline_seconds(question)):
                return await responder.concerns(question)
        except Exception:  # whatever breaks it must not cost the answer
            _LOGGER.debug("chat: %s does not say whether it is concerned", responder.name, exc_info=True)
            return True

    async def _asked(self, responder: Responder, question: Question) -> Reply | None:
        """Return what a responder says; None also when it is broken, or too slow, which is told once."""
        name = responder.name
        try:
            async with asyncio.timeout(responder.deadline_seconds(question) + _GRACE_SECONDS):
                reply = await responder.respond(question)
        except Exception as error:  # whatever breaks it must not cost the answer
            level = logging.DEBUG if name in self._broken else logging.WARNING
            self._broken.add(name)
            if isinstance(error, TimeoutError):
                _LOGGER.log(level, "chat: %s is too slow, and passed over", name)
            else:
                _LOGGER.log(level, "chat: %s is broken, and passed over", name, exc_info=error)
            return None
        self._broken.discard(name)
        return reply

    async def _chat(
        self, prompt: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the chat model's answer to a prompt of `dialogue`, without empty pieces; see `answer`."""
        model = await self.engines.chat.get(self.config.deadlines.load_seconds)
        deadlines = self.config.deadlines
        answered = False
        left = self.config.chat.max_characters
        end = _now() + deadlines.chat_seconds
        async with aclosing(model.stream(prompt, sampling)) as deltas:
            while True:
                first = deadlines.chat_first_token_seconds if not answered else deadlines.chat_seconds
                with _translate_timeout(Stage.CHAT, first):
                    async with asyncio.timeout_at(min(end, _now() + first)):
                        delta = await anext(deltas, None)
                if delta is None:
                    break
                answered = answered or bool(delta.text.strip())
                left -= len(delta.text)
                if left < 0:
                    delta = ChatDelta(delta.text[:left], delta.provider, ChatStats(truncated=True))
                if delta.stats is not None:
                    told = ", ".join(f"{name} {value}" for name, value in delta.stats.described().items())
                    _LOGGER.info("chat: %s answered: %s", delta.provider, told)
                if delta.text or delta.stats is not None:
                    yield delta
                if left < 0:
                    return
        if not answered and not sampling.may_be_empty:
            raise ChatError("the chat model gave an empty answer", kind="empty")

    async def speaker(self, choice: VoiceChoice) -> Speaker:
        """Return the voice that `choice` means, loaded."""
        synthesizer = await self.engines.synthesizer.get(self.config.deadlines.load_seconds)
        seconds = self.config.deadlines.load_seconds
        with _translate_timeout(Stage.TTS, seconds):
            async with asyncio.timeout(seconds):
                return await synthesizer.speaker(choice)

    async def speak(
        self, texts: AsyncIterator[str], speaker: Speaker, *, truncated: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[SpokenPiece, None]:
        """Yield `texts` as sound, a clause at first, then sentence by sentence, each as it is made.

        A last sentence without an end is not spoken if the chat model broke off, nor, if others were, if it was cut.
        """
        splitter = ClauseSplitter(next(iter(speaker.voice.languages), None))
        lead = _Lead(speaker)
        spoke = False
        broke: ChatError | None = None
        try:
            async for part in _parts(texts):
                for clause in splitter.feed(part):
                    async with aclosing(self._spoken(speaker, clause, lead)) as pieces:
                        async for piece in pieces:
                            yield piece
                    spoke = True
        except ChatError as error:
            broke = error
        for clause in splitter.flush():
            if is_finished(clause) or not (broke or (spoke and truncated())):
                async with aclosing(self._spoken(speaker, clause, lead)) as pieces:
                    async for piece in pieces:
                        yield piece
        if broke is not None:
            raise broke

    async def _spoken(self, speaker: Speaker, text: str, lead: "_Lead") -> AsyncGenerator[SpokenPiece, None]:
        """Yield the sound of `text`, as it is made or as it is remembered; with the last of it, the text."""
        known = self._sounds.get(speaker.identity, text)
        if known is not None:
            await asyncio.sleep(0)  # it costs nothing: a text of such pieces alone would hold the loop
            lead.add(known)
            yield SpokenPiece(text, known)
            return
        whole = bytearray()
        async with aclosing(speaker.speak(text)) as sound:
            while True:
                began = _now()
                seconds = self.config.deadlines.tts_seconds * tts_patience(len(text)) + lead.left_seconds
                with _translate_timeout(Stage.TTS, seconds):
                    async with asyncio.timeout(seconds):
                        pcm = await anext(sound, None)
                if pcm is None:
                    break
                whole += pcm
                lead.add(pcm)
                yield SpokenPiece("", pcm, _now() - began)
        self._sounds.offer(speaker.identity, text, bytes(whole))
        yield SpokenPiece(text, b"")

    async def phrase(self, occasion: Phrase, speaker: Speaker) -> bytes:
        """Return what is said on `occasion`, in the speaker's language and format; at once if it was said before."""
        text = phrase(self.config.phrases, occasion, next(iter(speaker.voice.languages), None))
        key = (speaker.identity, text)
        if key not in self._phrases:
            self._phrases[key] = b"".join([piece.pcm async for piece in self._spoken(speaker, text, _Lead(speaker))])
            if len(self._phrases) > _CACHED_PHRASES:
                self._phrases.popitem(last=False)
        self._phrases.move_to_end(key)
        return self._phrases[key]


class _Lead:
    """How much of the sound that was made somebody has still to hear who hears it comes."""

    def __init__(self, speaker: Speaker) -> None:
        self._bytes_per_second = speaker.format.rate * speaker.format.frame_bytes
        self._ends_at = 0.0

    @property
    def left_seconds(self) -> float:
        return max(0.0, self._ends_at - _now())

    def add(self, pcm: bytes) -> None:
        self._ends_at = max(self._ends_at, _now()) + len(pcm) / self._bytes_per_second


def _now() -> float:
    return asyncio.get_running_loop().time()


async def once(text: str) -> AsyncGenerator[str, None]:
    """Yield a whole text as the stream that `Stages.speak` takes."""
    yield text


async def _parts(texts: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    """Yield `texts`, a long one in parts between which others have their turn: it may hold nothing to say."""
    async for text in texts:
        yield text[:_PART_CHARACTERS]
        for at in range(_PART_CHARACTERS, len(text), _PART_CHARACTERS):
            await asyncio.sleep(0)
            yield text[at : at + _PART_CHARACTERS]
