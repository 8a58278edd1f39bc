"""The responders, which are asked before the chat model: the commands of the house, then Home Assistant."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from satellite.config.settings import Config
from satellite.engines.slot import Engines
from satellite.pipeline.dialogue import Dialogue
from satellite.pipeline.responder import Responder
from satellite.skills.home_assistant.api import RoomQuery
from satellite.skills.timers.scheduler import TimerScheduler

if TYPE_CHECKING:
    from satellite.skills.commands import CommandResponder
    from satellite.skills.home_assistant.agent import HomeAssistantResponder


class Responders:
    """Builds the responders of a configuration, and passes changes of its rooms on to them."""

    def __init__(self, config: Config, scheduler: TimerScheduler | None, engines: Engines, dialogue: Dialogue) -> None:
        """Without `scheduler` there are no commands."""
        languages = partial(_languages, config.stt.language, engines)
        self.commands = None if scheduler is None else _commands(config, scheduler, languages, dialogue)
        self._home_assistant = _home_assistant(config, languages) if config.home_assistant.url is not None else None
        self.configure(config)

    @property
    def all(self) -> Sequence[Responder]:
        """The responders, in the order in which they are asked."""
        return [one for one in (self.commands, self._home_assistant) if one is not None]

    def configure(self, config: Config) -> None:
        """Use the rooms of `config` from now on."""
        if self.commands is not None:
            self.commands.configure(_rooms(config))
        if self._home_assistant is not None:
            self._home_assistant.targets.configure(_places(config))


def _commands(
    config: Config, scheduler: TimerScheduler, languages: Callable[[], list[str]], dialogue: Dialogue
) -> "CommandResponder":
    from satellite.skills.commands import CommandResponder

    return CommandResponder(
        scheduler,
        language=config.stt.language,
        languages=languages,
        rooms=_rooms(config),
        home_assistant=config.home_assistant.url is not None,
        last_answer=dialogue.last_answer,
    )


def _home_assistant(config: Config, languages: Callable[[], list[str]]) -> "HomeAssistantResponder":
    from satellite.skills.home_assistant.agent import HomeAssistantResponder

    return HomeAssistantResponder(config.home_assistant, languages=languages)


def _rooms(config: Config) -> dict[str, str]:
    """Return the names of rooms by the names that people use: their own, and those of their areas."""
    places = [*config.rooms, *([config.host_room] if config.microphone.given else [])]
    areas = {place.area: place.name for place in places if place.area}
    return areas | {place.name: place.name for place in places}


def _places(config: Config) -> dict[str, RoomQuery]:
    """Return where Home Assistant may know our rooms, by their names."""
    places = {room.name: RoomQuery(room.area or room.name) for room in config.rooms}
    if config.microphone.given:
        room, there = config.host_room, config.home_assistant_satellite
        device = (there.name or room.name) if there.enabled else ""
        places[room.name] = RoomQuery(there.area or room.area or room.name, device)
    return places


def _languages(configured: str | None, engines: Engines) -> list[str]:
    """Return the languages that are likely to be spoken: the configured one, and those of the voices."""
    voices = engines.synthesizer.engine.voices
    spoken = (language.replace("_", "-").partition("-")[0] for voice in voices for language in voice.languages)
    return list(dict.fromkeys([*([configured] if configured else []), *spoken]))
