"""The entities of an ESPHome device that matter to a room: its media player, its mute switch, its volume, a button."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aioesphomeapi.client import APIClient
from aioesphomeapi.model import (
    ButtonInfo,
    EntityInfo,
    EntityState,
    MediaPlayerCommand,
    MediaPlayerEntityState,
    MediaPlayerFormatPurpose,
    MediaPlayerInfo,
    MediaPlayerState,
    NumberInfo,
    NumberState,
    SwitchInfo,
    SwitchState,
    VoiceAssistantFeature,
)

from satellite.audio.pcm import AudioFormat
from satellite.rooms.device import Capabilities
from satellite.rooms.esphome.probe import LINUX_VOICE_ASSISTANT
from satellite.rooms.media import Container

_START_NAMES = ({"start", "conversation"}, {"start", "listening"}, {"start", "assist"}, {"start", "voice", "assistant"})


@dataclass(frozen=True, slots=True)
class PlayedFormat:
    """What a media player wants to fetch."""

    container: Container
    layout: AudioFormat


_ECHO_CANCELLING = ("voice pe", "satellite1", "respeaker")
"""In the names of projects whose boards have a processor for the echo. A microphone on the ESP32 itself has none."""

_SOUNDS = (MediaPlayerState.ANNOUNCING, MediaPlayerState.PLAYING)
_UNSAID = PlayedFormat("flac", AudioFormat(48_000, 2, 1))
"""Of a media player that names no format, such as that of linux-voice-assistant: it plays any.

Its mpv looks for DTS in the first 128 KiB of a 16-bit WAV before it plays any, which is three seconds of speech.
"""


class Entities:
    """Those of one device. `changed` is called when what they show has changed, `fell_silent` with what has ended."""

    def __init__(
        self,
        client: APIClient,
        entities: Sequence[EntityInfo],
        changed: Callable[[], None],
        fell_silent: Callable[[MediaPlayerState], None],
        project: str = "",
    ) -> None:
        self.muted: bool | None = None
        """Whether the microphone is off by the device's switch; None while that is unknown."""

        self.volume: float | None = None
        """From 0 to 1; None while it is unknown."""

        self.shown_to_us = asyncio.Event()
        """Set when linux-voice-assistant shows what it shows to its owner alone."""

        self.is_linux_voice_assistant = project == LINUX_VOICE_ASSISTANT
        self._project = project
        self._client = client
        self._changed = changed
        self._fell_silent = fell_silent
        self._state = MediaPlayerState.IDLE
        self._player = next((one for one in entities if isinstance(one, MediaPlayerInfo)), None)
        self._mute = next((one for one in entities if isinstance(one, SwitchInfo) and _mutes_microphone(one)), None)
        volumes = [one for one in entities if isinstance(one, NumberInfo) and _is_volume(one)]
        self._loudness = volumes[0] if volumes and self._player is None else None
        self._start = next((one for one in entities if isinstance(one, ButtonInfo) and _starts(one)), None)
        numbers = [one for one in entities if isinstance(one, NumberInfo)]
        self._owners = next((one for one in numbers if one.object_id == "wake_word_1_sensitivity"), None)

    @property
    def played(self) -> PlayedFormat | None:
        """What the media player fetches for announcements; None without one."""
        return self._format(MediaPlayerFormatPurpose.ANNOUNCEMENT)

    @property
    def media(self) -> PlayedFormat | None:
        """What the media player fetches as media; None without one."""
        return self._format(MediaPlayerFormatPurpose.DEFAULT)

    def _format(self, purpose: MediaPlayerFormatPurpose) -> PlayedFormat | None:
        if self._player is None:
            return None
        formats = [one for one in self._player.supported_formats if one.format in ("flac", "wav")]
        formats.sort(key=lambda one: one.purpose is not purpose)
        if not formats:
            return _UNSAID
        wanted = formats[0]
        layout = AudioFormat(wanted.sample_rate or 48_000, 2, min(wanted.num_channels or 1, 2))
        return PlayedFormat("flac" if wanted.format == "flac" else "wav", layout)

    def capabilities(self, flags: int) -> Capabilities:
        """Return what a device with these `VoiceAssistantFeature` flags can do."""
        announces = self._player is not None
        speaker = bool(flags & VoiceAssistantFeature.SPEAKER) or announces
        timers = bool(flags & VoiceAssistantFeature.TIMERS)
        # Two channels are one with the echo cancelled, and one without.
        two = bool(flags & VoiceAssistantFeature.MULTI_CHANNEL_AUDIO)
        cancels = announces and (two or any(name in self._project.lower() for name in _ECHO_CANCELLING))
        return Capabilities(
            speaker, announces, timers, rings=speaker and timers, cancels_echo=cancels, listens_again=True
        )

    @property
    def has_volume(self) -> bool:
        """Whether the device has a loudness of its own."""
        return self._player is not None or self._loudness is not None

    @property
    def shows_owner(self) -> bool:
        """Whether there is something that the device shows to its owner alone."""
        return self._owners is not None

    @property
    def has_start_button(self) -> bool:
        """Whether there is a button that makes the device listen."""
        return self._start is not None

    def take(self, state: EntityState) -> None:
        """Note the state of an entity."""
        before = self.muted, self.volume
        if isinstance(state, MediaPlayerEntityState) and self._player and state.key == self._player.key:
            self.volume = 0.0 if state.muted else state.volume
            previous, self._state = self._state, state.state or MediaPlayerState.IDLE
            if previous in _SOUNDS and self._state not in (previous, MediaPlayerState.PAUSED):
                self._fell_silent(previous)
        elif isinstance(state, SwitchState) and self._mute and state.key == self._mute.key:
            self.muted = state.state
        elif isinstance(state, NumberState) and self._loudness and state.key == self._loudness.key:
            self.volume = self._share(state.state)
        elif isinstance(state, NumberState) and self._owners and state.key == self._owners.key:
            self.shown_to_us.set()
        if (self.muted, self.volume) != before:
            self._changed()

    def set_muted(self, muted: bool) -> None:
        """Switch the microphone off or on, where there is a switch for it."""
        if self._mute is not None and self.muted is not muted:
            self._client.switch_command(self._mute.key, muted)

    def set_volume(self, volume: float) -> bool:
        """Set the loudness; return False where the device has none."""
        if self._player is not None:
            self._client.media_player_command(self._player.key, volume=volume)
        elif (number := self._loudness) is not None:
            loudest, least = number.max_value, number.min_value
            self._client.number_command(number.key, least + volume * (loudest - least))
        return self.has_volume

    def silence(self, *, announcement: bool) -> None:
        """Stop what the media player announces, or plays beside that; linux-voice-assistant stops the latter alone."""
        if self._player is not None:
            stop = MediaPlayerCommand.STOP
            self._client.media_player_command(self._player.key, command=stop, announcement=announcement)

    def silence_ring(self) -> None:
        """Stop the ring of a timer: the firmware's repeats, and so would what is announced next."""
        if self._player is not None:
            for command in (MediaPlayerCommand.REPEAT_OFF, MediaPlayerCommand.STOP):
                self._client.media_player_command(self._player.key, command=command, announcement=True)

    def play(self, url: str, *, announcement: bool) -> None:
        """Have the media player play a sound, beside whatever the assistant does."""
        if self._player is not None:
            self._client.media_player_command(self._player.key, media_url=url, announcement=announcement)

    def press_start(self) -> None:
        """Press the button that makes the device listen."""
        if self._start is not None:
            self._client.button_command(self._start.key)

    def _share(self, value: float) -> float:
        assert self._loudness is not None
        loudest, least = self._loudness.max_value, self._loudness.min_value
        return (value - least) / (loudest - least) if loudest > least else 1.0


def _words(entity: EntityInfo) -> set[str]:
    return set(re.split(r"[\W_]+", f"{entity.object_id} {entity.name}".lower()))


def _mutes_microphone(switch: SwitchInfo) -> bool:
    words = _words(switch)
    return bool(words & {"mute", "muted"}) and not words & {"sound", "sounds", "speaker", "media", "player"}


def _is_volume(number: NumberInfo) -> bool:
    words = _words(number)
    return "volume" in words and not words & {"mic", "microphone", "step", "increment", "min", "max", "wake", "timer"}


def _starts(button: ButtonInfo) -> bool:
    return any(names <= _words(button) for names in _START_NAMES)
