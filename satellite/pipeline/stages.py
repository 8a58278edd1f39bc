"""The stages of a run, each with its deadline; the services offer them one by one, the pipeline joins them."""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, fields, replace

from satellite.audio.pcm import BYTES_PER_SECOND, seconds_of
from satellite.config.chat import ChatSettings, PhraseSettings
from satellite.config.endpoint import EndpointSettings
from satellite.config.rooms import HubSettings
from satellite.config.settings import (
    Config,
    DeadlineSettings,
    SttSettings,
    TtsSettings,
    VadSettings,
    WakeSettings,
    WyomingSettings,
    stt_patience,
    tts_patience,
)
from satellite.engines.protocols import (
    AS_CONFIGURED,
    ChatDelta,
    ChatStats,
    Message,
    Sampling,
    Speaker,
    Transcription,
    VoiceChoice,
    WakeWordEngine,
)
from satellite.engines.slot import Engines
from satellite.errors import STAGE_ERRORS, ChatError, Stage
from satellite.languages import with_region
from satellite.pipeline.clauses import ClauseSplitter, is_finished
from satellite.pipeline.completeness import Completeness, completeness
from satellite.pipeline.dialogue import Dialogue, Question
from satellite.pipeline.long_recording import RecordedPart
from satellite.pipeline.pause_habits import PauseHabits
from satellite.pipeline.phrases import Phrase, phrase
from satellite.pipeline.recording import Recording
from satellite.pipeline.responder import Commands, Responder, ResponderChain
from satellite.pipeline.sound_cache import SoundCache
from satellite.pipeline.speculation import CommitBuffer
from satellite.pipeline.text_buffer import TextBuffer
from satellite.pipeline.transcripts import SpeculationCount
from satellite.pipeline.voice_pace import VoicePaces
from satellite.tasks import Background, begin_task, end_tasks, log_failure

_LOGGER = logging.getLogger(__name__)

_CACHED_PHRASES = 16


@asynccontextmanager
async def _deadline(stage: Stage, seconds: float, at: float = math.inf) -> AsyncIterator[None]:
    """Raise the stage's error of the kind `timeout` after `seconds`, or `at` a time of the event loop."""
    try:
        async with asyncio.timeout_at(min(at, _now() + seconds)):
            yield
    except TimeoutError as error:
        raise STAGE_ERRORS[stage](f"{stage} took longer than {seconds:g} s", kind="timeout") from error


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
    spoken_languages: tuple[str, ...]
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
        self.pause_habits = PauseHabits(config.chat.history_seconds)
        self._responders = ResponderChain(responders)
        self._commands = commands
        self.speculative_transcripts = SpeculationCount()
        self._phrases: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._paces = VoicePaces()
        self._sounds = SoundCache(round(config.tts.reply_cache_mib * 2**20))

    @property
    def responders(self) -> Sequence[Responder]:
        """The responders, in the order in which they are asked."""
        return self._responders.all

    @property
    def hears_wake_words(self) -> bool:
        """Whether the default wake word engine is loaded."""
        return bool(self.engines.wake) and self.engines.wake[0].ready

    async def wake_engine(self, program: str | None = None) -> WakeWordEngine:
        """Return the loaded engine called `program`, or the default one."""
        slots = [slot for slot in self.engines.wake if program in (None, slot.engine.program)]
        return await (slots or self.engines.wake)[0].get(self.config.deadlines.load_seconds)

    async def transcribe(
        self, recording: Recording | RecordedPart, language: str | None = None, vocabulary: Sequence[str] = ()
    ) -> Transcription:
        """Return what was said in the recording until now, its language with the region that is asked for or spoken."""
        pcm, speech = bytes(recording.pcm), tuple(recording.speech)
        transcriber = await self.engines.transcriber.get(self.config.deadlines.load_seconds)
        seconds = self.config.deadlines.stt_seconds * stt_patience(seconds_of(pcm))
        async with _deadline(Stage.STT, seconds):
            heard = await transcriber.transcribe(pcm, speech=speech, language=language, vocabulary=vocabulary)
        spoken = with_region(heard.language, (language, *self.config.spoken_languages))
        return replace(heard, language=spoken)

    async def transcribe_pcm(
        self, pcm: bytes, language: str | None = None, vocabulary: Sequence[str] = ()
    ) -> Transcription:
        """Return what was said in a whole recording of canonical audio."""
        vad = await self.engines.vad.get(self.config.deadlines.load_seconds)
        recording = Recording(vad, max_seconds=seconds_of(pcm) + 1)
        for at in range(0, len(pcm), BYTES_PER_SECOND):  # in pieces, between which others use the VAD
            await recording.feed(pcm[at : at + BYTES_PER_SECOND])
        return await self.transcribe(recording, language, vocabulary)

    async def completeness(self, text: str, language: str | None) -> Completeness:
        """Return how complete a command is by its words."""
        is_command = self._commands is not None and await self._commands.is_command(text, language)
        return completeness(text, language, is_command=is_command)

    async def means_stop(self, text: str, language: str | None) -> bool:
        """Return whether `text` asks for nothing but that what sounds stops, such as an answer or a call."""
        return self._commands is not None and await self._commands.means_stop(text, language)

    def expect(self, question: Question | None = None) -> None:
        """Prepare speech to text and the chat model for a `question` that is about to come, as far as it is known."""
        self.engines.transcriber.engine.prepare()
        prompt = self.dialogue.prompt(question) if question else []
        self.engines.chat.engine.prepare([message for message in prompt if message.whole])

    def remember(self, question: Question, prompt: list[Message], answer: str, whole: str = "") -> None:
        """Remember a turn, see `Dialogue.remember`."""
        # Older turns had to go, so that the model's prefix cache is of no use: it reads the rest before it is asked.
        if self.dialogue.remember(question, prompt, answer, whole):
            self.engines.chat.engine.prepare(self.dialogue.beginning(question.conversation, question.persona))

    async def answer(
        self,
        question: Question | None,
        prompt: Sequence[Message],
        output: CommitBuffer | None = None,
        sampling: Sampling = AS_CONFIGURED,
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield the first responder's answer, whole, else that of the chat model to the `prompt`.

        Without a `question` no responder is asked; while `output` is not committed, none may act. An answer longer
        than `chat.max_characters` is cut there. Raises `ChatError`, also when the model answers without a word;
        a responder may, when there is nothing to say.
        """
        left = self.config.chat.max_characters
        if question is not None and (whole := await self._responders.answer(question, output)) is not None:
            yield _cut(whole, left) if len(whole.text) > left else whole
            return
        deadlines = self.config.deadlines
        model = await self.engines.chat.get(deadlines.load_seconds)
        end = _now() + deadlines.chat_seconds
        answered = False
        async with aclosing(model.stream(prompt, sampling)) as deltas:
            while left >= 0:
                seconds = deadlines.chat_seconds if answered else deadlines.chat_first_token_seconds
                async with _deadline(Stage.CHAT, seconds, at=end):
                    delta = await anext(deltas, None)
                if delta is None:
                    break
                answered = answered or bool(delta.text.strip())
                if len(delta.text) > left:
                    delta = _cut(delta, left)
                    left = -1
                else:
                    left -= len(delta.text)
                if delta.stats is not None:
                    figures = ", ".join(f"{name} {value}" for name, value in delta.stats.described().items())
                    _LOGGER.info("chat: %s answered: %s", delta.provider, figures)
                if delta.text or delta.stats is not None:  # others would not be bounded by the characters
                    yield delta
        if not answered and not sampling.may_be_empty:
            raise ChatError("the chat model gave an empty answer", kind="empty")

    async def read_ahead(self, answer: AsyncGenerator[ChatDelta, None]) -> AsyncGenerator[ChatDelta, None]:
        """Yield an `answer` that is read at the model's own pace, however slowly it is taken from here.

        So a client that reads slowly does not keep the model busy; what it has not read is bounded by
        `chat.max_characters`. Closing this generator closes `answer`.
        """
        deltas: asyncio.Queue[ChatDelta | None] = asyncio.Queue()

        async def read() -> None:
            async with aclosing(answer):
                async for delta in answer:
                    deltas.put_nowait(delta)

        reader = begin_task(read(), "read an answer")
        reader.add_done_callback(lambda _: deltas.put_nowait(None))
        try:
            while (delta := await deltas.get()) is not None:
                yield delta
            await reader  # raises what `answer` raised
        except GeneratorExit:
            # A client that leaves does not get as far as a failure that is already there.
            if reader.done():
                log_failure(reader)
            raise
        finally:
            await end_tasks(reader)

    async def speaker(self, choice: VoiceChoice) -> Speaker:
        """Return the voice that `choice` means, loaded."""
        synthesizer = await self.engines.synthesizer.get(self.config.deadlines.load_seconds)
        seconds = self.config.deadlines.load_seconds
        async with _deadline(Stage.TTS, seconds):
            return await synthesizer.speaker(choice)

    async def speak(
        self, text: str | TextBuffer, speaker: Speaker, *, truncated: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[SpokenPiece, None]:
        """Yield `text` as sound: a clause at first, then sentence by sentence, each as it is made.

        A last sentence without an end is not spoken if the chat model broke off, nor, if others were, if it was cut.
        """
        splitter = ClauseSplitter(next(iter(speaker.voice.languages), None))
        lead = _Lead(speaker)
        source = TextBuffer.of(text) if isinstance(text, str) else text
        spoke = False
        broken: ChatError | None = None
        part: str | None = ""
        while part is not None:
            try:
                part = await anext(source, None)
            except ChatError as error:
                broken, part = error, None
            for clause in splitter.flush() if part is None else splitter.feed(part):
                if part is None and not is_finished(clause) and (broken or (spoke and truncated())):
                    continue
                spoke = True
                sound = self._sounds.get(speaker.identity, clause)
                if sound is None:
                    async with aclosing(self._sound(clause, speaker, lead)) as pieces:
                        made = bytearray()
                        began = _now()
                        async for pcm in pieces:
                            made += pcm
                            yield SpokenPiece("", pcm, _now() - began)
                            began = _now()
                    # Not reached by an interrupted clause, of which only a part was made.
                    self._sounds.offer(speaker.identity, clause, bytes(made))
                else:
                    await asyncio.sleep(0)  # a text of cached clauses alone would hold the loop
                    lead.add(sound)
                yield SpokenPiece(clause, sound or b"")
        if broken is not None:
            raise broken

    async def _sound(self, text: str, speaker: Speaker, lead: "_Lead") -> AsyncGenerator[bytes, None]:
        """Yield the sound of `text` as it is made, each piece in time."""
        usual_seconds = self.config.deadlines.tts_seconds * tts_patience(len(text))
        began = _now()
        first = True
        async with aclosing(speaker.speak(text, lead.left_seconds)) as pieces:
            while True:
                longest_seconds = max(usual_seconds, self._paces.longest_seconds(speaker.identity, text))
                # A voice keeps pace with the listener, no more: it may take as long as what was made before lasts.
                async with _deadline(Stage.TTS, longest_seconds + lead.left_seconds):
                    pcm = await anext(pieces, None)
                if pcm is None:
                    return
                if first:
                    self._paces.add(speaker.identity, text, _now() - began)
                first = False
                lead.add(pcm)
                yield pcm

    async def phrase(self, occasion: Phrase, speaker: Speaker) -> bytes:
        """Return an apology in the speaker's language and format, cached once it was made."""
        text = phrase(self.config.phrases, occasion, next(iter(speaker.voice.languages), None))
        key = (speaker.identity, text)
        if key not in self._phrases:
            async with aclosing(self._sound(text, speaker, _Lead(speaker))) as pieces:
                self._phrases[key] = b"".join([pcm async for pcm in pieces])
            if len(self._phrases) > _CACHED_PHRASES:
                self._phrases.popitem(last=False)
        self._phrases.move_to_end(key)
        return self._phrases[key]


class _Lead:
    """How much of the sound made so far a listener has not heard yet, who hears it as it is made."""

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


def _cut(delta: ChatDelta, length: int) -> ChatDelta:
    """Return `delta` with no more text than `length`, as one that the model cut."""
    stats = replace(delta.stats or ChatStats(), truncated=True)
    return ChatDelta(delta.text[:length], delta.provider, stats)
