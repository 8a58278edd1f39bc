"""Those who are asked before the chat model: the commands of the house, then Home Assistant."""

from collections.abc import Sequence

from satellite.config.settings import Config
from satellite.pipeline.responder import Responder
from satellite.pipeline.stages import Stages
from satellite.skills.home_assistant.areas import Wanted
from satellite.skills.timers.clock import Clockwork


def build_responders(config: Config, clockwork: Clockwork | None, stages: Stages) -> list[Responder]:
    """Return whom `config` wants, in the order in which they are asked; without `clockwork` there are no commands."""
    responders: list[Responder] = []
    if clockwork is not None:
        from satellite.skills.commands import CommandResponder

        commands = CommandResponder(
            clockwork,
            language=config.stt.language,
            languages=lambda: _languages(stages),
            rooms=_rooms(config),
            home_assistant=config.home_assistant.url is not None,
            last_answer=stages.dialogue.last_answer,
        )
        stages.means_stop = commands.means_stop
        stages.is_command = commands.is_command
        responders.append(commands)
    if config.home_assistant.url is not None:
        from satellite.skills.home_assistant.agent import HomeAssistantResponder

        home = HomeAssistantResponder(config.home_assistant, languages=lambda: _languages(stages))
        home.places.want(_places(config))
        responders.append(home)
    return responders


def tell_of_rooms(responders: Sequence[Responder], config: Config) -> None:
    """Let whoever knows the rooms by name know those of `config`."""
    from satellite.skills.commands import CommandResponder
    from satellite.skills.home_assistant.agent import HomeAssistantResponder

    for responder in responders:
        if isinstance(responder, CommandResponder):
            responder.rooms = _rooms(config)
        elif isinstance(responder, HomeAssistantResponder):
            responder.places.want(_places(config))


def _rooms(config: Config) -> dict[str, str]:
    """Return what rooms and their areas are called, with the rooms' names."""
    places = [*config.rooms, *([config.host_room] if config.microphone.given else [])]
    areas = {place.area: place.name for place in places if place.area}
    return areas | {place.name: place.name for place in places}


def _places(config: Config) -> dict[str, Wanted]:
    """Return where Home Assistant may know our rooms, by their names."""
    places = {room.name: Wanted(room.area or room.name) for room in config.rooms}
    if config.microphone.given:
        room, there = config.host_room, config.home_assistant_satellite
        device = (there.name or room.name) if there.enabled else ""
        places[room.name] = Wanted(there.area or room.area or room.name, device)
    return places


def _languages(stages: Stages) -> list[str]:
    """Return the languages that are likely to be spoken: the configured one, and those of the voices."""
    voices = stages.engines.synthesizer.engine.voices
    spoken = (language.replace("_", "-").partition("-")[0] for voice in voices for language in voice.languages)
    return list(dict.fromkeys([*([stages.config.stt.language] if stages.config.stt.language else []), *spoken]))
