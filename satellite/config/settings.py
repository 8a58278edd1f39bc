"""Every setting, its unit and its default. `satellite.config.loader` reads them from a file."""

import difflib
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

from pydantic import Field

from satellite.config.base import (
    Addresses,
    ComputeDevice,
    DiskPath,
    Hosts,
    IpAddress,
    Language,
    Languages,
    Network,
    Port,
    Probability,
    Score,
    Seconds,
    ServiceName,
    Settings,
)
from satellite.config.chat import ChatSettings, KeepAliveSettings, PhraseSettings
from satellite.config.endpoint import EndpointSettings
from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.host import HomeAssistantSatelliteSettings, HostRoomSettings, SoundDeviceSettings
from satellite.config.http import HttpSettings
from satellite.config.rooms import HubSettings, RoomEntry


class WyomingSettings(Settings):
    """The Wyoming services that Home Assistant and other clients dial."""

    host: Hosts = ("0.0.0.0",)
    """Address to listen on, or a list of them; "::" is every IPv4 and IPv6 address."""

    port: Port = 10600
    """Port with all services."""

    wake_port: Port | None = 10400
    """Port with the wake word service alone; null disables it."""

    stt_port: Port | None = 10300
    """Port with speech to text alone; null disables it."""

    tts_port: Port | None = 10200
    """Port with text to speech alone; null disables it."""

    handle_port: Port | None = 10500
    """Port with the conversation service alone; null disables it."""

    allow: tuple[Network, ...] = ()
    """Addresses or networks (CIDR) that may connect besides loopback and private ranges."""

    max_connections: int = Field(2000, ge=8, le=100_000)
    """Most open connections; beyond it, the connection that has been idle longest is closed."""

    read_timeout_seconds: Seconds = 10.0
    """Time for the rest of an event to arrive after its first byte, in seconds."""

    write_timeout_seconds: Seconds = 10.0
    """Time after which a client that does not read is disconnected, in seconds."""

    max_audio_seconds: float = Field(600.0, ge=1, le=3600)
    """Longest recording for speech to text, in seconds; the rest of a longer one is ignored, with a message."""

    max_text_characters: int = Field(20_000, ge=100, le=1_000_000)
    """Longest text to speak or to answer, in characters."""


class ZeroconfSettings(Settings):
    """Announcement of the daemon on the local network, by which Home Assistant discovers it."""

    enabled: bool = True
    """Announce the port with all services."""

    name: ServiceName | None = None
    """Unique and permanent name of this daemon, at most 63 bytes; null derives one from the machine ID."""

    address: IpAddress | None = None
    """Address to announce; null announces the current addresses of all network interfaces."""


class ModelSettings(Settings):
    """Where models live on disk."""

    directory: DiskPath | None = None
    """Folder of the models; null is /var/lib/satellite/models if it exists, otherwise the user's data folder."""


class WakeWordSettings(Settings):
    """Detection settings of one wake word; null takes the setting for all words."""

    threshold: Score | None = None
    """Lowest score of a frame that counts as the wake word."""

    trigger_level: int | None = Field(None, ge=1, le=50)
    """Consecutive frames that must count (80 ms each with openWakeWord, 30 ms with microWakeWord)."""

    refractory_seconds: float | None = Field(None, ge=0, le=60)
    """Time after a detection during which the same wake word is ignored, in seconds."""


class WakeSettings(Settings):
    """Wake word detection."""

    uri: Addresses = ()
    """Wyoming server that detects wake words in place of an engine here, or a list, tried in order."""

    engine: Literal["openwakeword", "microwakeword"] = "openwakeword"
    """Default engine; both are offered over Wyoming."""

    words: tuple[str, ...] = ("okay_nabu",)
    """Wake words to listen for when a client names none."""

    threshold: Score = 0.5
    """Lowest score of a frame that counts as the wake word; microWakeWord models define their own threshold."""

    trigger_level: int = Field(1, ge=1, le=50)
    """Consecutive frames that must count."""

    refractory_seconds: float = Field(2.0, ge=0, le=60)
    """Time after a detection during which the same wake word is ignored, in seconds."""

    per_word: dict[str, WakeWordSettings] = Field(default_factory=dict)
    """Settings of single wake words, by name."""

    custom_directory: DiskPath | None = None
    """Folder with custom wake words (.onnx, .tflite; microWakeWord: .json beside .tflite), watched for changes."""


class VadSettings(Settings):
    """Voice activity detection (Silero)."""

    threshold: Score = 0.5
    """Lowest speech probability of a 32 ms window that counts as speech."""


class SttSettings(Settings):
    """Speech to text (Whisper)."""

    uri: Addresses = ()
    """Wyoming server that transcribes in place of a model here, or a list, tried in order."""

    model: str = "tiny.en"
    """Model: a name in the catalogue, a CTranslate2 repository on Hugging Face (org/name), or a folder."""

    device: ComputeDevice = "auto"
    """Where it runs; `cuda` fails without a usable GPU, `auto` falls back to the CPU and logs it."""

    compute_type: Literal[
        "default", "auto", "int8", "int8_float16", "int8_float32", "float16", "float32", "bfloat16"
    ] = "default"
    """Arithmetic; `default` is int8 on a CPU and float16 on a GPU."""

    language: Language = None
    """The one language of all that is said, such as en; null detects it, among `languages` or all of the model's."""

    beam_size: int = Field(2, ge=1, le=10)
    """Hypotheses kept while decoding; more take longer, and hear hardly more than 2 do."""

    threads: int = Field(0, ge=0, le=64)
    """CPU threads; 0 measures once how many are fastest on this host, at most four."""

    window_floor_seconds: float | None = Field(None, ge=1, le=30)
    """Least length of audio passed to Whisper, in seconds; shorter commands are padded.

    null is the value measured for the model, otherwise 30. `satellite tune` measures it.
    """

    partials: Literal["auto"] | bool = "auto"
    """Partial transcripts; auto sends them with a GPU, or where they take less than a tenth of the audio's length."""

    vocabulary: tuple[str, ...] = ()
    """Names of the house, such as those of devices; they are tried where a transcript is doubtful."""

    own_endpoint: bool = True
    """Detect the end of a live command in the daemon, so that clients need no VAD."""

    min_speech_seconds: float = Field(0.1, ge=0, le=2)
    """Least speech in a recording, in seconds; with less, only words count of which Whisper itself is sure."""

    no_speech_threshold: Probability = 0.6
    """No-speech probability above which a transcript is dropped if its log probability is low as well."""

    log_probability_threshold: float = Field(-1.0, ge=-20, le=0)
    """Average log probability below which such a transcript is dropped."""


class TtsSettings(Settings):
    """Text to speech (Piper, Kokoro, MMS)."""

    uri: Addresses = ()
    """Wyoming server that speaks in place of a voice here, or a list, tried in order."""

    voice: str = "en_US-joe-medium"
    """Default voice: a name in the catalogue, or the path of an .onnx file."""

    speaker: str | None = None
    """Speaker of a multi-speaker voice; null is the voice's default."""

    device: ComputeDevice = "auto"
    """Where it runs; `cuda` fails without a usable GPU, `auto` falls back to the CPU and logs it."""

    threads: int = Field(0, ge=0, le=64)
    """CPU threads; 0 is one per core, at most four."""

    length_scale: float | None = Field(None, ge=0.1, le=5)
    """Pace, above 1 is slower; null is the voice's default."""

    noise_scale: float | None = Field(None, ge=0, le=2)
    """Variation of the sound; null is the voice's default."""

    noise_w_scale: float | None = Field(None, ge=0, le=2)
    """Variation of the rhythm; null is the voice's default."""

    volume: float = Field(1.0, ge=0.05, le=4)
    """Gain; at 1, every voice has a loudness of -20 LUFS."""

    max_loaded_voices: int = Field(3, ge=1, le=64)
    """Most voices in memory; beyond it, the least recently used is unloaded."""

    reply_cache_mib: float = Field(4.0, ge=0, le=1024)
    """Memory for the sound of frequent short replies, in MiB; 0 keeps none."""


class CommandSettings(Settings):
    """Commands understood by a grammar, without a model: timers, the time, the date, stop, repeat."""

    enabled: bool = True
    """Handle them before Home Assistant and the chat model are asked."""

    state_directory: DiskPath | None = None
    """Folder in which timers are stored; null is /var/lib/satellite if it exists, otherwise the user's state folder."""


class DeadlineSettings(Settings):
    """Time limits of the stages, after which a run ends with an error."""

    load_seconds: Seconds = 60.0
    """Waiting for an engine that is still loading, in seconds; the engine goes on loading.

    A load of the local chat model is given up when its process neither computes nor reads for so long, or after 20
    times as long.
    """

    stt_seconds: Seconds = 15.0
    """Transcription of up to 10 s of audio, in seconds; longer recordings get proportionally more."""

    chat_first_token_seconds: Seconds = 10.0
    """Waiting for the first word of the answer from any provider, in seconds."""

    chat_seconds: Seconds = 60.0
    """The whole text of the answer, in seconds; speaking it does not count."""

    chat_gap_seconds: Seconds = 3.0
    """Longest gap between two parts of an answer, in seconds."""

    tts_seconds: Seconds = 15.0
    """Synthesis of up to 100 characters, in seconds; longer sentences get proportionally more.

    The duration of sound that is made but not yet played is added. A voice that is slow, as measured, gets more.
    """

    wake_seconds: float = Field(0.0, ge=0, le=86_400)
    """Waiting for the wake word, in seconds; 0 is no limit."""


def stt_patience(audio_seconds: float) -> float:
    """Return the factor of `DeadlineSettings.stt_seconds` for audio of this length."""
    return max(1.0, audio_seconds / 10)


def tts_patience(characters: int) -> float:
    """Return the factor of `DeadlineSettings.tts_seconds` for a sentence of this length."""
    return max(1.0, characters / 100)


class Config(Settings):
    """The whole configuration."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest severity that is logged; transcripts are logged only at debug."""

    languages: Languages = Field((), max_length=20)
    """Languages that are spoken in the house, the usual one first, such as [fr, en]; empty is that of `stt.language`.

    Where there are several, Whisper tells for each command which one it is in, and the answer is in that language, by a
    voice that speaks it. A room or a client that names a language is heard in that one.
    """

    wyoming: WyomingSettings = WyomingSettings()
    zeroconf: ZeroconfSettings = ZeroconfSettings()
    models: ModelSettings = ModelSettings()
    wake: WakeSettings = WakeSettings()
    vad: VadSettings = VadSettings()
    stt: SttSettings = SttSettings()
    endpoint: EndpointSettings = EndpointSettings()
    tts: TtsSettings = TtsSettings()
    home_assistant: HomeAssistantSettings = HomeAssistantSettings()
    chat: ChatSettings = ChatSettings()
    keepalive: KeepAliveSettings = KeepAliveSettings()
    commands: CommandSettings = CommandSettings()
    phrases: PhraseSettings = PhraseSettings()
    deadlines: DeadlineSettings = DeadlineSettings()

    rooms: tuple[RoomEntry, ...] = Field((), max_length=200)
    """Wyoming satellites and ESPHome devices that the daemon connects to, and settings for browsers that are rooms."""

    hub: HubSettings = HubSettings()
    microphone: SoundDeviceSettings = SoundDeviceSettings()
    """The host's own microphone, which makes the host a room. A string is a device: `microphone: USB`."""

    speaker: SoundDeviceSettings = SoundDeviceSettings()
    """The host's own speaker; null is none, and the host's room then listens without answering aloud."""

    host_room: HostRoomSettings = HostRoomSettings()
    home_assistant_satellite: HomeAssistantSatelliteSettings = HomeAssistantSatelliteSettings()
    http: HttpSettings = HttpSettings()

    @property
    def spoken_languages(self) -> tuple[str, ...]:
        """Languages of what is said where no room or client names one, the usual first; empty where it may be any."""
        return self.languages or ((self.stt.language,) if self.stt.language else ())

    @property
    def ports(self) -> dict[tuple[str, str], tuple[int, Sequence[str]]]:
        """Every fixed port of the daemon, with the hosts at which it is open from the start, by section and key."""
        keys = ("port", "wake_port", "stt_port", "tts_port", "handle_port")
        ports = {("wyoming", key): (getattr(self.wyoming, key), self.wyoming.host) for key in keys}
        if self.home_assistant_satellite.enabled:
            ports["home_assistant_satellite", "port"] = (self.home_assistant_satellite.port, self.wyoming.host)
        if self.http.enabled:
            ports["http", "port"] = (self.http.port, (self.http.host,))
        ports["hub", "media_port"] = (self.hub.media_port or None, ())
        if any(getattr(room, "mac", None) for room in self.rooms):
            ports["hub", "incoming_port"] = (self.hub.incoming_port, ())
        return {where: one for where, one in ports.items() if one[0] is not None}

    def listening(self) -> Iterator[tuple[str, int]]:
        """Yield every host and port that the daemon listens on."""
        for port, hosts in self.ports.values():
            yield from ((host, port) for host in hosts)


_LONGEST_NAME = 100
"""Characters of a name that are compared: a client may have sent it, and comparing takes quadratic time."""


def nearest(name: str, known: Collection[str]) -> str:
    """Return a hint for a wrong `name`: the closest of the `known` ones, else all of them."""
    close = difflib.get_close_matches(name[:_LONGEST_NAME], sorted(known), n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "expected one of " + ", ".join(sorted(known))


def cpu_threads(setting: int) -> int:
    """Return the number of threads of a `threads` setting; 0 is one per core, at most four."""
    # Not cpu_count, which ignores the CPUs to which a container or a service is bound.
    return setting or min(4, len(os.sched_getaffinity(0)))
