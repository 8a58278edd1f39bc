"""Stages elsewhere: one or several Wyoming servers, asked in place of a model; here speech to text and text to speech.

Nothing here elects or shards: the least busy server that is known to answer is asked, and the next one if it fails
before it has answered. Every request has a connection of its own, as Home Assistant's have.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

from wyoming.info import Info

from satellite.audio.pcm import RATE, AudioFormat, seconds_of
from satellite.config.settings import Stt, nearest, stt_patience, tts_patience
from satellite.engines.protocols import Transcription, Voice, VoiceChoice, has_speech
from satellite.engines.vad import WINDOW_SAMPLES
from satellite.errors import STAGE_ERRORS, SatelliteError, Stage, TextToSpeechError, shown
from satellite.wire import client

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

_Sound = AsyncGenerator[tuple[AudioFormat | None, bytes], None]

_LONGEST_TRANSCRIPT = 20_000
"""Characters: far more than anybody says in a recording, far less than a broken server may send."""

_DESCRIBE_SECONDS = 3.0
_LOOK_DOWN_SECONDS = 1.0
"""How often a server that does not answer is looked at."""

_OFFERED = {Stage.WAKE: "wake", Stage.STT: "asr", Stage.TTS: "tts"}
"""What a server's `info` calls the programs of a stage."""


@dataclass(slots=True)
class _Host:
    uri: str
    trouble: str = "not asked yet"
    """Why it is not worth asking; empty while it answers."""

    asked: int = 0
    """Requests and streams under way."""

    looked_at: float = float("-inf")
    info: Info = field(default_factory=Info)


class Hosts:
    """The servers of one stage."""

    def __init__(self, stage: Stage, uris: Sequence[str], seconds: float, *, look_seconds: float = 10.0) -> None:
        """Ask the servers at `uris`; all of them together may take `seconds` for one request.

        One that answers is looked at every `look_seconds`.
        """
        self.stage = stage
        self._hosts = [_Host(uri) for uri in uris]
        self._seconds = seconds / len(self._hosts)
        self._look_seconds = look_seconds

    @property
    def count(self) -> int:
        """How many servers there are, whether they answer or not."""
        return len(self._hosts)

    @property
    def words(self) -> str:
        """How each server is, for an administrator."""
        return "; ".join(f"{host.uri} {host.trouble or 'answers'}" for host in self._hosts)

    @property
    def trouble(self) -> str:
        """Why the stage cannot be had; empty while a server answers."""
        return "" if any(not host.trouble for host in self._hosts) else f"no server answers: {self.words}"

    @property
    def info(self) -> Info:
        """What the first server that answers has told of itself."""
        return next((host.info for host in self._hosts if not host.trouble), self._hosts[0].info)

    @property
    def idle(self) -> bool:
        """Whether none of them has anything to do for us."""
        return not any(host.asked for host in self._hosts)

    async def load(self) -> None:
        """Look at all of them; one that does not answer yet may come later."""
        await asyncio.gather(*(self._look(host) for host in self._hosts))

    async def watch(self) -> None:
        """Look at them again and again until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_DOWN_SECONDS)
            now = time.monotonic()
            due = [host for host in self._hosts if host.trouble or now - host.looked_at >= self._look_seconds]
            await asyncio.gather(*(self._look(host) for host in due))

    async def first(self, ask: Callable[[str], Awaitable[T]], *, patience: float = 1.0) -> T:
        """Return what `ask` makes of the address of the first server that does not fail.

        Each may take `patience` times as long as usual; those in trouble come last. Raises a `StageError` that names
        each one's reason.
        """
        order = sorted(self._hosts, key=lambda host: (bool(host.trouble), host.asked))
        seconds = self._seconds * patience
        reasons: list[str] = []
        refusal = ""
        for host in order:
            host.asked += 1
            try:
                async with asyncio.timeout(seconds):
                    found = await ask(host.uri)
            except Exception as error:  # noqa: BLE001  # the engine seam: a server may send anything
                reason = _reason(error, seconds)
                reasons.append(f"{host.uri} {reason}")
                if type(error) is SatelliteError:  # it lives, and has said why it will not do this
                    refusal = refusal or error.code
                else:
                    self._note(host, reason)
            else:
                self._note(host, "")
                return found
            finally:
                host.asked -= 1
        kind = refusal.removeprefix(f"{self.stage}-") if refusal.startswith(f"{self.stage}-") else "failed"
        raise STAGE_ERRORS[self.stage](f"no server answers: {'; '.join(reasons)}", kind=kind)

    def trouble_of(self, uri: str) -> str:
        """Return why the server at `uri` is not worth asking; empty while it answers."""
        return self._at(uri).trouble

    def note(self, uri: str, trouble: str) -> None:
        """Note what somebody saw of the server at `uri`, who has a connection to it."""
        self._note(self._at(uri), trouble)

    def hold(self, uri: str, streams: int) -> None:
        """Count `streams` more (or less, negative) that the server at `uri` serves."""
        self._at(uri).asked += streams

    def _at(self, uri: str) -> _Host:
        return next(host for host in self._hosts if host.uri == uri)

    async def _look(self, host: _Host) -> None:
        host.looked_at = time.monotonic()
        try:
            async with asyncio.timeout(_DESCRIBE_SECONDS):
                host.info = await client.described(host.uri)
            if not getattr(host.info, _OFFERED[self.stage]):
                raise SatelliteError(f"offers no {self.stage}")
        except Exception as error:  # noqa: BLE001  # the engine seam: a server may send anything
            self._note(host, _reason(error, _DESCRIBE_SECONDS))
        else:
            self._note(host, "")

    def _note(self, host: _Host, trouble: str) -> None:
        """Note how a server is; told when that changes."""
        if bool(trouble) is not bool(host.trouble):
            _LOGGER.log(
                logging.WARNING if trouble else logging.INFO, "%s: %s %s", self.stage, host.uri, trouble or "answers"
            )
        host.trouble = trouble


class RemoteTranscriber:
    """A `Transcriber` on other machines."""

    def __init__(self, hosts: Hosts, settings: Stt) -> None:
        """Ask `hosts`."""
        self.model = "remote"
        self._hosts = hosts
        self._settings = settings

    @property
    def device(self) -> str:
        """Where it runs, and how the servers are."""
        return self._hosts.words

    @property
    def trouble(self) -> str:
        """Why it cannot be had; empty while a server answers."""
        return self._hosts.trouble

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


class RemoteSynthesizer:
    """A `Synthesizer` on other machines."""

    def __init__(self, hosts: Hosts, *, voice: str | None) -> None:
        """Ask `hosts`, for `voice` where a caller names none; None is the first that they have."""
        self._hosts = hosts
        self._voice = voice
        self._formats: dict[tuple[str, str | None], AudioFormat] = {}

    @property
    def device(self) -> str:
        """Where it runs, and how the servers are."""
        return self._hosts.words

    @property
    def trouble(self) -> str:
        """Why it cannot be had; empty while a server answers."""
        return self._hosts.trouble

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
            raise TextToSpeechError(f"no server answers: {self._hosts.words}", kind="not-ready")
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


def _reason(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"was silent for {seconds:g} s"
    return str(error) or type(error).__name__
