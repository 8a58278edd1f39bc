"""Every setting, its unit and its default. `satellite.config.loader` reads them from a file."""

import difflib
import os
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from satellite.config.base import (
    Addresses,
    Device,
    DiskPath,
    Hosts,
    IpAddress,
    Language,
    Port,
    Probability,
    Score,
    Seconds,
    ServiceName,
    Settings,
)
from satellite.config.chat import Chat, KeepAlive, Local, Ollama, OpenAICompatible, Phrases
from satellite.config.home_assistant import HomeAssistant
from satellite.config.host import HomeAssistantSatellite, HostRoom, Sound
from satellite.config.http import Http
from satellite.config.rooms import Hub, Room

__all__ = ["Chat", "HomeAssistant", "KeepAlive", "Local", "Ollama", "OpenAICompatible", "Phrases", "Room", "Settings"]


class Wyoming(Settings):
    """The Wyoming services that Home Assistant and other clients dial."""

    host: Hosts = ("0.0.0.0",)
    """Address to listen on, one or a list; "::" is every address, also those of IPv6."""

    port: Port = 10600
    """Port with all services."""

    wake_port: Port | None = 10400
    """Port with the wake word service alone; null switches it off."""

    stt_port: Port | None = 10300
    """Port with speech to text alone; null switches it off."""

    tts_port: Port | None = 10200
    """Port with text to speech alone; null switches it off."""

    handle_port: Port | None = 10500
    """Port with the conversation service alone; null switches it off."""

    allow: tuple[str, ...] = ()
    """Addresses or networks (CIDR) that may connect besides loopback and private ranges."""

    max_connections: int = Field(2000, ge=8, le=100_000)
    """Open connections; past it the one that has been idle longest is closed."""

    read_timeout_seconds: Seconds = 10.0
    """How long the rest of an event may take once its first byte has come, seconds."""

    write_timeout_seconds: Seconds = 10.0
    """How long a client may refuse to read before it is cut off, seconds."""

    max_audio_seconds: float = Field(600.0, ge=1, le=3600)
    """Longest recording for speech to text, seconds; what is longer is transcribed up to here, and the client told."""

    max_text_characters: int = Field(20_000, ge=100, le=1_000_000)
    """Longest text to speak or to answer, characters."""


class Zeroconf(Settings):
    """Announcing the daemon on the local network, so that Home Assistant discovers it."""

    enabled: bool = True
    """Announce the port with all services."""

    name: ServiceName | None = None
    """Unique, lasting name of this daemon, at most 63 bytes; null derives one from the machine's id."""

    address: IpAddress | None = None
    """Address to announce; null announces those of the network interfaces, as they come and go."""


class Models(Settings):
    """Where models live on disk."""

    directory: DiskPath | None = None
    """Folder of the models; null is /var/lib/satellite/models, or the user's data folder without it."""


class WakeWordSettings(Settings):
    """When one wake word counts as heard; what is null falls back to the setting of all words."""

    threshold: Score | None = None
    """Score at or above which a frame counts."""

    trigger_level: int | None = Field(None, ge=1, le=50)
    """Frames in a row that must count (a frame is 80 ms with openWakeWord, 30 ms with microWakeWord)."""

    refractory_seconds: float | None = Field(None, ge=0, le=60)
    """Silence about the same word after a detection, seconds."""


class Wake(Settings):
    """Wake word detection."""

    uri: Addresses = ()
    """Wyoming servers that listen instead of an engine here, one or a list; the next one when one fails."""

    engine: Literal["openwakeword", "microwakeword"] = "openwakeword"
    """Which engine is the default; both are offered over Wyoming."""

    words: tuple[str, ...] = ("okay_nabu",)
    """Words listened for when a client names none."""

    threshold: Score = 0.5
    """Score at or above which a frame counts; microWakeWord's models carry their own cutoff instead."""

    trigger_level: int = Field(1, ge=1, le=50)
    """Frames in a row that must count."""

    refractory_seconds: float = Field(2.0, ge=0, le=60)
    """Silence about the same word after a detection, seconds."""

    per_word: dict[str, WakeWordSettings] = Field(default_factory=dict)
    """Settings of single words, by name."""

    custom_directory: DiskPath | None = None
    """Folder with wake words of one's own (.onnx, .tflite; microWakeWord: .json beside .tflite); it is watched."""


class Vad(Settings):
    """Voice activity detection (Silero)."""

    threshold: Score = 0.5
    """Speech probability at or above which a 32 ms window counts as speech."""


class Stt(Settings):
    """Speech to text (Whisper)."""

    uri: Addresses = ()
    """Wyoming servers that are asked instead of a model here, one or a list; the next one when one fails."""

    model: str = "tiny.en"
    """Name in the catalogue, a CTranslate2 repository of the hub (org/name), or a folder."""

    device: Device = "auto"
    """Where it runs; `cuda` is an error where CUDA cannot be used, `auto` falls back and says so."""

    compute_type: Literal[
        "default", "auto", "int8", "int8_float16", "int8_float32", "float16", "float32", "bfloat16"
    ] = "default"
    """Arithmetic; default is int8 on a CPU and float16 on a GPU."""

    language: Language = None
    """Language code such as en; null lets the model detect it."""

    beam_size: int = Field(1, ge=1, le=10)
    """Hypotheses kept while decoding."""

    threads: int = Field(0, ge=0, le=64)
    """CPU threads; 0 is as many as are fastest here, which is measured once, at most four."""

    window_floor_seconds: float | None = Field(None, ge=1, le=30)
    """Shortest stretch that the model is shown, seconds; null is what was measured for it, else Whisper's own 30.

    `satellite bench stt --windows` measures it."""

    partials: Literal["auto"] | bool = "auto"
    """Words while they are spoken, on or off; auto is with a GPU, or where they take less than a tenth of the time."""

    vocabulary: tuple[str, ...] = ()
    """Names and terms to expect."""

    own_endpoint: bool = True
    """Find the end of a command here, if it comes as it is spoken: clients need no VAD of their own."""

    min_speech_seconds: float = Field(0.1, ge=0, le=2)
    """Less speech than this in a recording is an empty transcript, seconds."""

    no_speech_threshold: Probability = 0.6
    """Above it, together with a log probability below the next threshold, nobody spoke."""

    log_probability_threshold: float = Field(-1.0, ge=-20, le=0)
    """Average log probability of the words under which a doubtful recording is taken for noise."""


class Endpoint(Settings):
    """When a voice command begins and ends."""

    silence_seconds: float = Field(0.9, ge=0.1, le=5)
    """Silence that ends a command which lacks something, and the longest pause in any, seconds."""

    least_silence_seconds: float = Field(0.5, ge=0.1, le=5)
    """Silence that ends a command of more than a second whose words are not known yet, seconds."""

    sentence_silence_seconds: float = Field(0.9, ge=0.1, le=5)
    """Silence that ends a sentence which may go on, such as "turn on the lights" with "in the kitchen", seconds."""

    complete_silence_seconds: float = Field(0.3, ge=0.1, le=5)
    """Silence that ends a command whose words leave nothing open; a client's vad_sensitivity scales all four.

    As long as there is nothing to hear of the answer it is `silence_seconds`, whatever the words.
    """

    provisional_silence_seconds: float = Field(0.06, ge=0.03, le=5)
    """Silence after which the answer is prepared, in case the command is over; nothing of it leaves before that."""

    no_speech_seconds: Seconds = 5.0
    """Without speech for this long the run ends, seconds."""

    max_command_seconds: Seconds = 15.0
    """Longest command, seconds."""


class Tts(Settings):
    """Text to speech (Piper)."""

    uri: Addresses = ()
    """Wyoming servers that are asked instead of a voice here, one or a list; the next one when one fails."""

    voice: str = "en_US-joe-medium"
    """Default voice: name in the catalogue, or path of an .onnx file."""

    speaker: str | None = None
    """Speaker of a multi-speaker voice; null is the voice's default."""

    device: Device = "auto"
    """Where it runs; `cuda` is an error where CUDA cannot be used, `auto` falls back and says so."""

    threads: int = Field(0, ge=0, le=64)
    """CPU threads; 0 is one a core, at most four."""

    length_scale: float | None = Field(None, ge=0.1, le=5)
    """Pace; above 1 is slower; null is the voice's own."""

    noise_scale: float | None = Field(None, ge=0, le=2)
    """Variation of the sound; null is the voice's own."""

    noise_w_scale: float | None = Field(None, ge=0, le=2)
    """Variation of the rhythm; null is the voice's own."""

    volume: float = Field(1.0, ge=0.05, le=4)
    """Gain on top of the voice's normal loudness."""

    max_loaded_voices: int = Field(3, ge=1, le=64)
    """Voices in memory at once; the one unused longest goes."""

    reply_cache_mib: float = Field(4.0, ge=0, le=1024)
    """Memory for short replies that are said again and again, which then sound at once, MiB; 0 keeps none."""


class Commands(Settings):
    """What is understood by grammar, without a model: timers, the time, the date, stop, repeat."""

    enabled: bool = True
    """Understand commands before anything else is asked."""

    state_directory: DiskPath | None = None
    """Where timers are kept; null is /var/lib/satellite, or the user's state folder without it."""


class Deadlines(Settings):
    """How long each stage may take before the run ends with an error."""

    load_seconds: Seconds = 60.0
    """Waiting for an engine that is still loading, seconds."""

    stt_seconds: Seconds = 15.0
    """Transcribing 10 s of audio, or less, seconds; a longer recording may take as many times longer."""

    chat_first_token_seconds: Seconds = 10.0
    """Waiting for the first word of the answer, whoever gives it, seconds."""

    chat_seconds: Seconds = 60.0
    """The whole answer in words, seconds; how long it takes to be spoken does not count."""

    chat_gap_seconds: Seconds = 3.0
    """Waiting for more of an answer once it has begun, seconds."""

    tts_seconds: Seconds = 15.0
    """Waiting for sound of a sentence of 100 characters, or less, seconds; a longer one may take as many times longer.

    While there is sound that was made and not heard yet, it may take that much longer as well.
    """

    wake_seconds: float = Field(0.0, ge=0, le=86_400)
    """Waiting for the wake word, seconds; 0 waits for ever."""


def stt_patience(audio_seconds: float) -> float:
    """Return how many times `Deadlines.stt_seconds` it may take to transcribe audio of this length."""
    return max(1.0, audio_seconds / 10)


def tts_patience(characters: int) -> float:
    """Return how many times `Deadlines.tts_seconds` a sentence of so many characters may take."""
    return max(1.0, characters / 100)


class Config(Settings):
    """The whole configuration."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged; transcripts appear only at debug."""

    wyoming: Wyoming = Wyoming()
    zeroconf: Zeroconf = Zeroconf()
    models: Models = Models()
    wake: Wake = Wake()
    vad: Vad = Vad()
    stt: Stt = Stt()
    endpoint: Endpoint = Endpoint()
    tts: Tts = Tts()
    home_assistant: HomeAssistant = HomeAssistant()
    chat: Chat = Chat()
    keepalive: KeepAlive = KeepAlive()
    commands: Commands = Commands()
    phrases: Phrases = Phrases()
    deadlines: Deadlines = Deadlines()

    rooms: tuple[Room, ...] = Field((), max_length=200)
    """Wyoming satellites that the daemon dials and holds conversations with."""

    hub: Hub = Hub()
    microphone: Sound = Sound()
    speaker: Sound = Sound()
    host_room: HostRoom = HostRoom()
    home_assistant_satellite: HomeAssistantSatellite = HomeAssistantSatellite()
    http: Http = Http()

    def listening(self) -> Iterator[tuple[str, int]]:
        """Yield every host and port that the daemon listens at."""
        wyoming = self.wyoming
        ports = [wyoming.port, wyoming.wake_port, wyoming.stt_port, wyoming.tts_port, wyoming.handle_port]
        if self.microphone.given and self.home_assistant_satellite.enabled:
            ports.append(self.home_assistant_satellite.port)
        for host in wyoming.host:
            yield from ((host, port) for port in ports if port is not None)
        if self.http.enabled:
            yield self.http.host, self.http.port


_LONGEST_NAME = 100
"""Characters of a name that are compared: it may come from anybody, and comparing takes more than linear time."""


def nearest(name: str, known: set[str] | list[str]) -> str:
    """Return a phrase that names the valid name closest to `name`, or all of a few."""
    close = difflib.get_close_matches(name[:_LONGEST_NAME], sorted(known), n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "expected one of " + ", ".join(sorted(known))


def cpu_threads(setting: int) -> int:
    """Return the number of threads that a `threads` setting means; 0 is one a core, at most four."""
    return setting or min(4, len(os.sched_getaffinity(0)))
