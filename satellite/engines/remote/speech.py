"""Speech to text and text to speech on other machines. Each request has its own connection."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing

from satellite.audio.pcm import RATE, AudioFormat, seconds_of
from satellite.config.settings import SttSettings, nearest, stt_patience, tts_patience
from satellite.engines.protocols import Transcription, Voice, VoiceChoice, has_speech
from satellite.engines.remote.hosts import Host, Hosts
from satellite.engines.tts.voice_choice import choose_voice
from satellite.engines.vad import WINDOW_SAMPLES
from satellite.errors import SatelliteError, TextToSpeechError
from satellite.languages import closest
from satellite.wire import client

_Sound = AsyncGenerator[tuple[AudioFormat | None, bytes], None]

_LONGEST_TRANSCRIPT = 20_000
"""Characters: more than anybody says in a recording; a broken server may send any number."""


class RemoteTranscriber:
    """A `Transcriber` on other machines."""

    model = "remote"

    def __init__(self, hosts: Hosts, settings: SttSettings, spoken: Sequence[str] = ()) -> None:
        """Transcribe by `hosts`; where no language is named and `spoken` has any, it is one of those."""
        self._hosts = hosts
        self._settings = settings
        self._spoken = spoken

    @property
    def device(self) -> str:
        """The servers and their state."""
        return self._hosts.summary

    @property
    def languages(self) -> Sequence[str]:
        """The languages of the first server that answers."""
        models = (model for program in self._hosts.info.asr for model in program.models)
        return [language for model in models for language in model.languages]

    @property
    def idle(self) -> bool:
        """Whether no request of ours is in progress; a server does not report those of other clients."""
        return self._hosts.idle

    @property
    def usual_seconds(self) -> None:
        """Not known for remote servers."""
        return None

    @property
    def counts(self) -> Mapping[str, int]:
        """Empty: the servers keep their own counts."""
        return {}

    def prepare(self) -> None:
        """Do nothing; the protocol has no such request."""

    async def transcribe(
        self, pcm: bytes, *, speech: Sequence[float], language: str | None = None, vocabulary: Sequence[str] = ()
    ) -> Transcription:
        """Return the words in `pcm`; see `Transcriber`. Raises `SpeechToTextError`."""
        wanted = language or self._settings.language or (self._spoken[0] if len(self._spoken) == 1 else None)
        if not has_speech(speech, WINDOW_SAMPLES / RATE, self._settings.min_speech_seconds):
            return Transcription("", wanted or "")
        names = [*vocabulary, *self._settings.vocabulary]
        heard = await self._ask(pcm, wanted, names)
        # The protocol cannot restrict what a server detects: a language that nobody speaks here is a mistake.
        if wanted is None and heard.language and self._spoken and closest(heard.language, self._spoken) is None:
            wanted = self._spoken[0]
            heard = await self._ask(pcm, wanted, names)
        return Transcription(heard.transcript.strip()[:_LONGEST_TRANSCRIPT], heard.language or wanted or "")

    async def _ask(self, pcm: bytes, language: str | None, names: Sequence[str]) -> client.RunResult:
        return await self._hosts.first(
            lambda host: client.transcribe(host.uri, pcm, language, names), patience=stt_patience(seconds_of(pcm))
        )


class RemoteSynthesizer:
    """A `Synthesizer` on other machines."""

    def __init__(self, hosts: Hosts, *, voice: str | None) -> None:
        """Use `voice` by default; None means the first voice of the servers."""
        self._hosts = hosts
        self._voice = voice
        self._formats: dict[tuple[str, str | None], AudioFormat] = {}

    @property
    def voices(self) -> Sequence[Voice]:
        """The voices of the first server that answers, the default first."""
        found = [
            Voice(
                voice.name,
                tuple(voice.languages),
                tuple(speaker.name for speaker in voice.speakers or ()),
                voice.description or voice.name,
            )
            for program in self._hosts.info.tts
            for voice in program.voices
            if voice.installed
        ]
        return sorted(found, key=lambda voice: voice.name != self._voice)

    async def speaker(self, choice: VoiceChoice) -> "RemoteSpeaker":
        """Return the voice that matches `choice`.

        Its format is known only from sound, so that it says a word the first time.
        """
        voices = self.voices
        if not voices:
            raise TextToSpeechError(f"no server answers: {self._hosts.summary}", kind="not-ready")
        voice = choose_voice(choice, voices)
        if choice.speed != 1:
            raise TextToSpeechError("the speed of a remote voice cannot be set", kind="unsupported-speed")
        if choice.speaker and voice.speakers and choice.speaker not in voice.speakers:
            raise TextToSpeechError(
                f"voice {voice.name} has no speaker {choice.speaker!r}; {nearest(choice.speaker, set(voice.speakers))}",
                kind="unknown-speaker",
            )
        key = (voice.name, choice.speaker)
        if key not in self._formats:
            heard = await self._hosts.first(lambda host: client.say(host.uri, "Yes.", voice.name, choice.speaker))
            if heard.format is None:
                raise TextToSpeechError(f"voice {voice.name!r} is silent")
            self._formats[key] = heard.format
        return RemoteSpeaker(self._hosts, voice, self._formats[key], choice.speaker)


class RemoteSpeaker:
    """A `Speaker` on other machines."""

    def __init__(self, hosts: Hosts, voice: Voice, format_: AudioFormat, speaker: str | None) -> None:
        self.voice = voice
        self.format = format_
        self.identity = f"{voice.name}/{speaker}"
        self._hosts = hosts
        self._speaker = speaker

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """Yield `text` as PCM in `format`; see `Speaker`. Raises `TextToSpeechError`.

        If a server fails, the next one is used only before the first sound: afterwards words would be repeated.
        """
        sound, pcm = await self._hosts.first(lambda host: self._start(host, text), patience=tts_patience(len(text)))
        async with aclosing(sound):
            while pcm is not None:
                if pcm:
                    yield pcm
                try:
                    pcm = await self._next(sound)
                except (SatelliteError, OSError) as error:
                    raise TextToSpeechError(f"the sound broke off: {error}") from error

    async def _start(self, host: Host, text: str) -> tuple[_Sound, bytes | None]:
        """Return the sound from a server, and its first piece that is not empty; None if there is none."""
        async with AsyncExitStack() as stack:
            sound = await stack.enter_async_context(
                aclosing(client.sound(host.uri, text, self.voice.name, self._speaker))
            )
            while (pcm := await self._next(sound)) == b"":
                pass
            stack.pop_all()
        return sound, pcm

    async def _next(self, sound: _Sound) -> bytes | None:
        try:
            format_, pcm = await anext(sound)
        except StopAsyncIteration:  # not by a default: CPython 3.11 fails on a tuple as the default of anext
            return None
        if pcm and format_ != self.format:
            raise SatelliteError(f"sends {self.voice.name} in another format: {format_}")
        return pcm
