"""Speech to text and text to speech on other machines. Every request has a connection of its own."""

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TypeVar

from satellite.audio.pcm import RATE, AudioFormat, seconds_of
from satellite.config.settings import SttSettings, nearest, stt_patience, tts_patience
from satellite.engines.protocols import Transcription, Voice, VoiceChoice, has_speech
from satellite.engines.remote.hosts import Hosts, RemoteEngine
from satellite.engines.vad import WINDOW_SAMPLES
from satellite.errors import SatelliteError, TextToSpeechError, shown
from satellite.wire import client

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

_Sound = AsyncGenerator[tuple[AudioFormat | None, bytes], None]

_LONGEST_TRANSCRIPT = 20_000
"""Characters: far more than anybody says in a recording, far less than a broken server may send."""


class RemoteTranscriber(RemoteEngine):
    """A `Transcriber` on other machines."""

    def __init__(self, hosts: Hosts, settings: SttSettings) -> None:
        """Ask `hosts`."""
        self.model = "remote"
        super().__init__(hosts)
        self._settings = settings

    @property
    def languages(self) -> Sequence[str]:
        """The languages of the first server that answers."""
        return [
            language for program in self._hosts.info.asr for model in program.models for language in model.languages
        ]

    @property
    def idle(self) -> bool:
        """Whether no server has anything to do for us; what others ask of it, nobody tells."""
        return self._hosts.idle

    @property
    def usual_seconds(self) -> None:
        """Unknown: it is theirs."""
        return None

    @property
    def counts(self) -> Mapping[str, int]:
        """None: the servers count for themselves."""
        return {}

    def prepare(self) -> None:
        """Nothing to do: a server gets ready by itself."""

    async def transcribe(
        self, pcm: bytes, *, speech: Sequence[float], language: str | None = None, vocabulary: Sequence[str] = ()
    ) -> Transcription:
        """Return the words in `pcm`; see `Transcriber`. Raises `SpeechToTextError`."""
        wanted = language or self._settings.language
        if not has_speech(speech, WINDOW_SAMPLES / RATE, self._settings.min_speech_seconds):
            return Transcription("", wanted or "")
        names = [*vocabulary, *self._settings.vocabulary]
        heard = await self._hosts.first(
            lambda uri: client.transcribe(uri, pcm, wanted, names), patience=stt_patience(seconds_of(pcm))
        )
        return Transcription(heard.transcript.strip()[:_LONGEST_TRANSCRIPT], heard.language or wanted or "")


class RemoteSynthesizer(RemoteEngine):
    """A `Synthesizer` on other machines."""

    def __init__(self, hosts: Hosts, *, voice: str | None) -> None:
        """Ask `hosts`, for `voice` where a caller names none; None is the first that they have."""
        super().__init__(hosts)
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
        """Return the voice that `choice` means; the first time it has to say something, which tells its format."""
        voice = self._chosen(choice)
        if choice.speed != 1:
            raise TextToSpeechError("a voice elsewhere cannot be told how fast to speak", kind="unsupported-speed")
        if choice.speaker and voice.speakers and choice.speaker not in voice.speakers:
            raise TextToSpeechError(
                f"voice {voice.name} has no speaker {choice.speaker!r}; {nearest(choice.speaker, set(voice.speakers))}",
                kind="unknown-speaker",
            )
        key = (voice.name, choice.speaker)
        if key not in self._formats:
            heard = await self._hosts.first(lambda uri: client.say(uri, "Yes.", voice.name, choice.speaker))
            if heard.format is None:
                raise TextToSpeechError(f"voice {voice.name!r} is silent", kind="failed")
            self._formats[key] = heard.format
        return RemoteSpeaker(self._hosts, voice, self._formats[key], choice.speaker)

    def _chosen(self, choice: VoiceChoice) -> Voice:
        voices = self.voices
        if not voices:
            raise TextToSpeechError(f"no server answers: {self._hosts.summary}", kind="not-ready")
        if choice.name is not None:
            found = next((voice for voice in voices if voice.name == choice.name), None)
            if found is None:
                known = ", ".join(voice.name for voice in voices[:8])
                raise TextToSpeechError(
                    f"unknown voice '{shown(choice.name)}'; expected one of {known}", kind="unknown-voice"
                )
            return found
        code = (choice.language or "").replace("-", "_").partition("_")[0].lower()
        speaks = (voice for voice in voices if any(one.partition("_")[0].lower() == code for one in voice.languages))
        found = next(speaks, None)
        if found is None and code and choice.strict:
            raise TextToSpeechError(f"no voice speaks {shown(choice.language)}", kind="unsupported-language")
        return found or voices[0]


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

        Another server is asked only as long as nothing has been heard.
        """
        sound, pcm = await self._hosts.first(lambda uri: self._begun(uri, text), patience=tts_patience(len(text)))
        async with aclosing(sound):
            while pcm is not None:
                if pcm:
                    yield pcm
                try:
                    pcm = await self._next(sound)
                except Exception as error:  # the engine seam: a server may send anything
                    raise TextToSpeechError(f"the sound broke off: {error}", kind="failed") from error

    async def _begun(self, uri: str, text: str) -> tuple[_Sound, bytes | None]:
        """Ask a server; return its sound and the first of it that is not empty, None where there is none."""
        sound = client.sound(uri, text, self.voice.name, self._speaker)
        try:
            while (pcm := await self._next(sound)) == b"":
                pass
        except BaseException:
            await sound.aclose()
            raise
        return sound, pcm

    async def _next(self, sound: _Sound) -> bytes | None:
        try:
            format_, pcm = await anext(sound)
        except StopAsyncIteration:  # CPython 3.11 fails with a tuple as the default of anext
            return None
        if pcm and format_ != self.format:
            raise SatelliteError(f"has {self.voice.name} in another format: {format_}")
        return pcm
