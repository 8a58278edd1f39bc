"""Commands about rooms: tell, broadcast, call, volume, mute and play."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from satellite.errors import SatelliteError
from satellite.pipeline.dialogue import Question
from satellite.skills.intents import Command, Intent

if TYPE_CHECKING:
    from satellite.skills.responses import Responses

_LOGGER = logging.getLogger(__name__)

_SILENCE = ""


class House(Protocol):
    """The rooms, as commands use them; what is only begun goes on by itself. Errors are `SatelliteError`s."""

    def media(self) -> Mapping[str, str]:
        """Return what can be played, by the names that people say; blocking."""

    def others(self, origin: str) -> list[str]:
        """Return every room but `origin` that can be spoken in now; raises an error where there is none."""

    def begin_telling(self, rooms: Sequence[str], text: str, question: Question) -> None:
        """Say `text`, the end of `question`, in rooms."""

    def begin_playing(self, room: str, what: str, failed: str) -> None:
        """Play one of `media` in a room; if that is impossible, say `failed` there."""

    def begin_call(self, caller: str, callee: str, failed: str) -> None:
        """Let two rooms talk with each other; if that is impossible, say `failed` in the first."""

    def hang_up(self, room: str) -> bool:
        """End the call of a room; return whether there was one."""

    def rings(self, room: str) -> bool:
        """Return whether a timer is heard in a room when it ends."""

    async def set_muted(self, room: str, muted: bool) -> None:
        """Hear nothing in a room."""

    async def set_volume(self, room: str, volume: float) -> None:
        """Set the loudness of a room, from 0 to 1."""

    async def change_volume(self, room: str, by: float) -> None:
        """Add `by` to the loudness of a room."""


class HouseCommands:
    """Does what is said about rooms."""

    def __init__(self, house: House) -> None:
        self.house = house

    async def answer(
        self, command: Command, question: Question, responses: "Responses", rooms: Mapping[str, str]
    ) -> str | None:
        """Return what to say; None for what is no command where it was said: its room is not among the places `rooms`.

        Home Assistant, if there is one, or the chat model is asked next then.
        """
        here = question.place if question.place in rooms.values() else None
        try:
            return await self._done(command, question, responses, here)
        except SatelliteError as error:
            _LOGGER.warning("a command about rooms: [%s] %s", error.code, error, extra={"code": error.code})
            return responses.error("handle_error")

    async def _done(self, command: Command, question: Question, responses: "Responses", here: str | None) -> str | None:
        place = command.place or here
        match command.intent:
            case Intent.TELL if command.place is not None:
                self.house.begin_telling([command.place], command.message, question)
                return responses.done(Intent.BROADCAST)
            case Intent.BROADCAST if here or not (question.device or question.satellite):
                self.house.begin_telling(self.house.others(question.place), command.message, question)
                return responses.done(Intent.BROADCAST)
            case Intent.CALL if here and command.place not in (None, here):
                self.house.begin_call(here, command.place or "", responses.error("handle_error"))
                return _SILENCE
            case Intent.HANG_UP if here and self.house.hang_up(here):
                return _SILENCE
            case Intent.PLAY if place:
                self.house.begin_playing(place, command.media, responses.error("handle_error"))
                return _SILENCE
            case Intent.MUTE if here:
                await self.house.set_muted(here, True)
                return responses.muted()
            case Intent.SET_VOLUME if place:
                await self.house.set_volume(place, command.volume)
                return responses.done(Intent.SET_VOLUME)
            case Intent.CHANGE_VOLUME | Intent.LOUDER | Intent.QUIETER if place:
                await self.house.change_volume(place, command.volume)
                return responses.done(Intent.CHANGE_VOLUME)
        return None
