"""Speech to text and text to speech on other machines. Each request has its own connection."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing

from satellite.audio.pcm import AudioFormat, Converter, seconds_of, to_float
from satellite.config.settings import SttSettings, TtsSettings, nearest, stt_patience, tts_patience
from satellite.engines.protocols import Transcription, Voice, VoiceChoice
from satellite.engines.remote.hosts import Host, Hosts
from satellite.engines.stt.segments import audible
from satellite.engines.tts.loaded_voice import CALIBRATION
from satellite.engines.tts.voice_choice import choose_voice
from satellite.errors import SatelliteError, TextToSpeechError
from satellite.languages import closest, family
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
        wanted = wanted and family(wanted)  # most servers are Whisper, which knows no regions
        # What a VAD misses is sent as well: whether somebody speaks is for the server to say, as for Whisper here.
        pcm = audible(pcm)
        if not pcm:
            return Transcription("", wanted or "")
        names = [*vocabulary, *self._settings.vocabulary]
        heard = await self._ask(pcm, wanted, names)
        # The protocol cannot restrict what a server detects: a language that nobody speaks here is a mistake.
        if wanted is None and heard.language and self._spoken and closest(heard.language, self._spoken) is None:
            wanted = family(self._spoken[0])
            heard = await self._ask(pcm, wanted, names)
        return Transcription(heard.transcript.strip()[:_LONGEST_TRANSCRIPT], heard.language or wanted or "")

    async def _ask(self, pcm: bytes, language: str | None, names: Sequence[str]) -> client.RunResult:
        return await self._hosts.first(
            lambda host: client.transcribe(host.uri, pcm, language, names), patience=stt_patience(seconds_of(pcm))
        )


class RemoteSynthesizer:
    """A `Synthesizer` on other machines."""

    def __init__(self, hosts: Hosts, settings: TtsSettings) -> None:
        """Use the voice of the settings by default, where the servers have it, else their first one."""
        self._hosts = hosts
        self._settings = settings
        self._known: dict[tuple[str, str | None], tuple[AudioFormat, float]] = {}
        """Format and gain of the voices that were heard, by name and speaker."""

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
        return sorted(found, key=lambda voice: voice.name != self._settings.voice)

    async def speaker(self, choice: VoiceChoice) -> "RemoteSpeaker":
        """Return the voice that matches `choice`.

        Its format and its loudness are known only from sound, so that it says the calibration text the first time.
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
        if key not in self._known:
            patience = tts_patience(len(CALIBRATION))
            heard = await self._hosts.first(
                lambda host: client.say(host.uri, CALIBRATION, voice.name, choice.speaker), patience=patience
            )
            if heard.format is None:
                raise TextToSpeechError(f"voice {voice.name!r} is silent")
            self._known[key] = heard.format, await asyncio.to_thread(_gain, heard.format, bytes(heard.pcm))
        format_, gain = self._known[key]
        return RemoteSpeaker(self._hosts, voice, format_, choice.speaker, gain, self._settings.volume)


def _gain(format_: AudioFormat, pcm: bytes) -> float:
    """Return the factor that makes a voice as loud as all others, from its calibration text."""
    from satellite.engines.tts.level import gain_to_target, loudness

    mono = Converter(format_, AudioFormat(format_.rate)).convert(pcm)
    return gain_to_target(loudness(to_float(mono), format_.rate))


class RemoteSpeaker:
    """A `Speaker` on other machines."""

    def __init__(
        self, hosts: Hosts, voice: Voice, sent: AudioFormat, speaker: str | None, gain: float, volume: float
    ) -> None:
        """Speak with a voice that comes in the format `sent`; `gain` makes it as loud as others are at `volume` 1."""
        self.voice = voice
        self.format = AudioFormat(sent.rate)
        self.identity = f"{voice.name}/{speaker}"
        self._hosts = hosts
        self._sent = sent
        self._speaker = speaker
        self._gain = gain * volume
        self._volume = volume

    async def speak(self, text: str, lead_seconds: float = 0.0) -> AsyncGenerator[bytes, None]:
        """Yield `text` as PCM in `format`; see `Speaker`. Raises `TextToSpeechError`.

        If a server fails, the next one is used only before the first sound: afterwards words would be repeated.
        """
        from satellite.engines.tts.voice_output import VoiceOutput

        output = VoiceOutput(self.format.rate, self._gain, self._volume)
        mono = Converter(self._sent, self.format)
        sound, pcm = await self._hosts.first(lambda host: self._start(host, text), patience=tts_patience(len(text)))
        async with aclosing(sound):
            while pcm is not None:
                # A server may send all of a sentence at once.
                if heard := await asyncio.to_thread(output.add, to_float(mono.convert(pcm))):
                    yield heard
                try:
                    pcm = await self._next(sound)
                except (SatelliteError, OSError) as error:
                    raise TextToSpeechError(f"the sound broke off: {error}") from error
            yield output.end()

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
        if pcm and format_ != self._sent:
            raise SatelliteError(f"sends {self.voice.name} in another format: {format_}")
        return pcm
