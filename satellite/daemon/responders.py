"""The responders, which are asked before the chat model: the commands of the house, then Home Assistant."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.host import HomeAssistantSatelliteSettings, HostRoomSettings
from satellite.config.rooms import RoomSettings
from satellite.config.settings import Config
from satellite.engines.slot import Engines
from satellite.languages import closest, family
from satellite.pipeline.dialogue import Dialogue
from satellite.pipeline.responder import Responder
from satellite.skills.home_assistant.api import RoomQuery
from satellite.skills.house_commands import House
from satellite.skills.timers.scheduler import TimerScheduler

if TYPE_CHECKING:
    from satellite.skills import commands
    from satellite.skills.home_assistant import agent


@dataclass(frozen=True, slots=True)
class Places:
    """The rooms of the house."""

    satellites: Sequence[RoomSettings]
    host: HostRoomSettings | None
    """The host's own room, if it has a microphone."""

    host_device: HomeAssistantSatelliteSettings
    """How Home Assistant knows the host's room."""

    @classmethod
    def of(cls, config: Config, browsers: Sequence[RoomSettings] = ()) -> "Places":
        """Return the rooms of a whole configuration, and those of `browsers` that are not configured."""
        host = config.host_room if config.microphone.given else None
        known = {room.name for room in config.rooms}
        others = [room for room in browsers if room.name not in known]
        return cls([*config.rooms, *others], host, config.home_assistant_satellite)

    @property
    def all(self) -> list[RoomSettings]:
        """The satellites' rooms, then the host's."""
        return [*self.satellites, *([] if self.host is None else [self.host])]

    def by_spoken_name(self) -> dict[str, str]:
        """Return the names of rooms by the names that people use: their own, and those of their areas."""
        areas = {place.area: place.name for place in self.all if place.area}
        return areas | {place.name: place.name for place in self.all}

    def queries(self) -> dict[str, RoomQuery]:
        """Return where Home Assistant may know our rooms, by their names."""
        queries = {room.name: RoomQuery(room.area or room.name) for room in self.satellites}
        if self.host is not None:
            room, there = self.host, self.host_device
            device = (there.name or room.name) if there.enabled else ""
            queries[room.name] = RoomQuery(there.area or room.area or room.name, device)
        return queries


class Responders:
    """Builds the responders, and passes changes of the rooms on to them."""

    def __init__(
        self,
        languages: Sequence[str],
        home_assistant: HomeAssistantSettings,
        places: Places,
        scheduler: TimerScheduler | None,
        engines: Engines,
        dialogue: Dialogue,
        house: Callable[[], House],
    ) -> None:
        """Build them for a house that speaks `languages`, the usual first; without `scheduler`, no commands.

        `house` returns the rooms, once there are any.
        """
        in_rooms = [place.language for place in places.all if place.language]
        spoken = list(dict.fromkeys([*(languages or ("en",)), *in_rooms]))
        likely = partial(_likely_languages, [*languages, *in_rooms], engines)
        self.commands: commands.CommandResponder | None = None
        self._home_assistant: agent.HomeAssistantResponder | None = None
        if scheduler is not None:
            from satellite.skills.commands import CommandResponder

            self.commands = CommandResponder(
                scheduler,
                languages=spoken,
                likely_languages=likely,
                home_assistant=home_assistant.url is not None,
                last_answer=dialogue.last_answer,
                house=house,
            )
        if home_assistant.url is not None:
            from satellite.skills.home_assistant.agent import HomeAssistantResponder

            self._home_assistant = HomeAssistantResponder(home_assistant, languages=likely)
        self.configure(places)

    @property
    def all(self) -> Sequence[Responder]:
        """The responders, in the order in which they are asked."""
        return [one for one in (self.commands, self._home_assistant) if one is not None]

    def configure(self, places: Places) -> None:
        """Use these rooms from now on."""
        if self.commands is not None:
            self.commands.configure(places.by_spoken_name())
        if self._home_assistant is not None:
            self._home_assistant.targets.configure(places.queries())


def _likely_languages(configured: Sequence[str], engines: Engines) -> list[str]:
    """Return the languages that are likely to be spoken: the configured ones, and those of the voices."""
    voices = [family(language) for voice in engines.synthesizer.engine.voices for language in voice.languages]
    return list(dict.fromkeys([*configured, *(code for code in voices if closest(code, configured) is None)]))
