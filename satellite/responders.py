"""Those who are asked before the chat model: the commands of the house, then Home Assistant."""

from collections.abc import Sequence

from satellite.commands.clockwork import Clockwork
from satellite.config import Config
from satellite.turn.responder import Responder
from satellite.turn.stages import Stages


def build_responders(config: Config, clockwork: Clockwork | None, stages: Stages) -> list[Responder]:
    """Return whom `config` wants, in the order in which they are asked; without `clockwork` there are no commands."""
    responders: list[Responder] = []
    if clockwork is not None:
        from satellite.commands.responder import CommandResponder

        commands = CommandResponder(
            clockwork, language=config.stt.language, rooms=_rooms(config), last_answer=stages.dialogue.last_answer
        )
        stages.means_stop = commands.means_stop
        stages.is_command = commands.is_command
        responders.append(commands)
    if config.home_assistant.url is not None:
        from satellite.home_assistant import HomeAssistantResponder

        responders.append(HomeAssistantResponder(config.home_assistant))
    return responders


def tell_of_rooms(responders: Sequence[Responder], config: Config) -> None:
    """Let whoever knows the rooms by name know those of `config`."""
    from satellite.commands.responder import CommandResponder

    for responder in responders:
        if isinstance(responder, CommandResponder):
            responder.rooms = _rooms(config)


def _rooms(config: Config) -> dict[str, str]:
    """Return what rooms and their areas are called, with the rooms' names."""
    places = [*config.rooms, *([config.host_room] if config.microphone.given else [])]
    areas = {place.area: place.name for place in places if place.area}
    return areas | {place.name: place.name for place in places}
