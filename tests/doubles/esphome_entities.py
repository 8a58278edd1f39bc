"""The entities of a device: what it lists, their states, and what commands do to them; those of a Voice PE."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tests.doubles.esphome_player import MediaPlayer
from tests.doubles.esphome_wire import Message, pb

MEDIA_PLAYER, MUTE, WAKE_SOUND, SENSITIVITY, VOLUME_STEP, LED_RING, RESTART, START, WAKE_SENSITIVITY = range(1, 10)
"""The keys of the entities."""

_SENSITIVITIES = ("Slightly sensitive", "Moderately sensitive", "Very sensitive")


class Format(NamedTuple):
    """A format that the media player asks for."""

    container: Literal["flac", "wav", "mp3"]
    rate: int
    channels: int
    announcement: bool


VOICE_PE = (Format("flac", 48_000, 2, announcement=False), Format("flac", 48_000, 1, announcement=True))


@dataclass(eq=False)
class Entities:
    """Those of one device; `muted` and `press` do what its switch and its buttons are for."""

    player: MediaPlayer | None
    """None: it has no media player."""

    formats: tuple[Format, ...]
    mute: Callable[[bool], None]
    press: Callable[[Literal["restart", "start"]], None]
    has_start_button: bool = False
    """A button that makes it listen, as some firmwares have; stock ones do not."""

    is_lva: bool = False
    states: dict[int, float | bool | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.states |= {MUTE: False, WAKE_SOUND: True, SENSITIVITY: _SENSITIVITIES[0], VOLUME_STEP: 5.0, LED_RING: True}

    def listed(self) -> Iterator[Message]:
        if self.player is not None:
            yield pb.ListEntitiesMediaPlayerResponse(
                object_id="media_player",
                key=MEDIA_PLAYER,
                name="Media Player",
                supports_pause=True,
                feature_flags=1_200_653,  # play, pause, stop, volume, mute, play media, announce
                supported_formats=[
                    pb.MediaPlayerSupportedFormat(
                        format=each.container,
                        sample_rate=each.rate,
                        num_channels=each.channels,
                        purpose=int(each.announcement),
                        sample_bytes=2,
                    )
                    for each in self.formats
                ],
            )
        yield pb.ListEntitiesSwitchResponse(object_id="mute", key=MUTE, name="Mute")
        yield pb.ListEntitiesSwitchResponse(object_id="wake_sound", key=WAKE_SOUND, name="Wake sound")
        yield pb.ListEntitiesSelectResponse(
            object_id="wake_word_sensitivity", key=SENSITIVITY, name="Wake word sensitivity", options=_SENSITIVITIES
        )
        yield pb.ListEntitiesNumberResponse(
            object_id="volume_step", key=VOLUME_STEP, name="Volume step", min_value=1, max_value=10, step=1
        )
        if self.is_lva:
            yield pb.ListEntitiesNumberResponse(
                object_id="wake_word_1_sensitivity", key=WAKE_SENSITIVITY, name="Wake Word 1 Sensitivity", max_value=1
            )
        yield pb.ListEntitiesLightResponse(object_id="led_ring", key=LED_RING, name="LED Ring")
        yield pb.ListEntitiesButtonResponse(object_id="restart", key=RESTART, name="Restart", device_class="restart")
        if self.has_start_button:
            yield pb.ListEntitiesButtonResponse(object_id="start", key=START, name="Start conversation")
        yield pb.ListEntitiesDoneResponse()

    def current(self) -> Iterator[Message]:
        """Yield the state of each."""
        if self.player is not None:
            yield pb.MediaPlayerStateResponse(
                key=MEDIA_PLAYER,
                state=pb.MediaPlayerState.Value(f"MEDIA_PLAYER_STATE_{self._state(self.player)}"),
                volume=self.player.volume,
                muted=self.player.muted,
            )
        yield pb.SwitchStateResponse(key=MUTE, state=self.states[MUTE])
        yield pb.SwitchStateResponse(key=WAKE_SOUND, state=self.states[WAKE_SOUND])
        yield pb.SelectStateResponse(key=SENSITIVITY, state=self.states[SENSITIVITY])
        yield pb.NumberStateResponse(key=VOLUME_STEP, state=self.states[VOLUME_STEP])
        yield pb.LightStateResponse(key=LED_RING, state=self.states[LED_RING])

    def command(self, kind: str, message: Message) -> None:
        """Do what a command says."""
        match kind:
            case "SwitchCommandRequest" | "SelectCommandRequest" | "NumberCommandRequest" | "LightCommandRequest":
                self.states[message.key] = message.state
                if message.key == MUTE:
                    self.mute(message.state)
            case "ButtonCommandRequest":
                self.press("restart" if message.key == RESTART else "start")
            case "MediaPlayerCommandRequest" if self.player is not None:
                if message.has_volume:
                    self.player.volume = message.volume
                if message.has_media_url:
                    self.player.play(message.media_url, announcement=message.announcement)
                elif message.has_command:
                    name = pb.MediaPlayerCommand.Name(message.command).removeprefix("MEDIA_PLAYER_COMMAND_")
                    self.player.command(name, message.announcement and not self.is_lva)

    def _state(self, player: MediaPlayer) -> str:
        """Return what the player shows: linux-voice-assistant never that it announces."""
        announces = player.state == "ANNOUNCING"
        return ("PLAYING" if player.media.sounding else "IDLE") if announces and self.is_lva else player.state
