"""What programs and people do with rooms: ask, listen, stop, mute, volume, play, broadcast and call."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from satellite.audio.recorded_words import recorded_words
from satellite.config.rooms import HubSettings
from satellite.engines.protocols import VoiceChoice
from satellite.errors import SatelliteError
from satellite.pipeline.dialogue import Question
from satellite.rooms.announcements import Announcer
from satellite.rooms.hub import Hub
from satellite.rooms.intercom import Intercom
from satellite.rooms.media_sources import MediaReference, MediaSources
from satellite.rooms.playback import SharedSound
from satellite.rooms.room import LinkState, Room, is_heard, why_silent
from satellite.skills.choices import Choice, closest
from satellite.tasks import begin_task, end_tasks, failure_of

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RoomAnswer:
    """What was said to a question in a room."""

    text: str
    language: str
    choice: str | None
    """The choice that was meant, None for none."""


class RoomControls:
    """Operates rooms by their names. Every method raises `SatelliteError` for one that is unknown or not connected."""

    def __init__(
        self,
        hub: Hub,
        announcer: Announcer,
        sources: MediaSources,
        intercom: Intercom,
        settings: Callable[[], HubSettings],
    ) -> None:
        """Operate the rooms of `hub` by `settings()`; `sources` open what they play."""
        self._settings = settings
        self._hub = hub
        self._intercom = intercom
        self._announcer = announcer
        self._sources = sources
        self._under_way: set[asyncio.Task[Any]] = set()

    async def ask(
        self, room: str, text: str, choices: Sequence[Choice] = (), *, language: str | None = None, seconds: float
    ) -> RoomAnswer:
        """Say `text` in a room, and return what is said there within `seconds`, which include the question.

        Raises `SatelliteError` where nobody speaks (`stt-no-speech`), or nothing was understood.
        """
        asked = self._hub.room(room)
        voice = VoiceChoice(asked.settings.voice, language or asked.settings.language)
        self._announcer.check_length(text)
        try:
            async with (
                asyncio.timeout(seconds),
                self._announcer.spoken(text, first=False, voice=voice) as question,
            ):
                heard = await asked.ask(question, language=language)
        except TimeoutError as error:
            raise SatelliteError(f"nobody answered in {room} within {seconds:g} s", code="ask-timeout") from error
        chosen = await asyncio.to_thread(closest, heard.text, choices)
        return RoomAnswer(heard.text, heard.language, chosen)

    async def start(self, room: str) -> None:
        """Listen now, without a wake word."""
        await self._hub.room(room).start()

    async def stop(self, room: str) -> bool:
        """End all that sounds or is under way in a room; return whether there was anything."""
        return await self._hub.room(room).stop()

    async def set_muted(self, room: str, muted: bool) -> None:
        """Hear nothing in a room, or again."""
        await self._hub.room(room).set_muted(muted)

    async def set_volume(self, room: str, volume: float) -> None:
        """Set the loudness of a room, from 0 to 1."""
        await self._hub.room(room).set_volume(volume)

    async def set_listen_only(self, room: str, listen_only: bool) -> None:
        """Do what is said in a room, but let nothing sound there, or again."""
        await self._hub.room(room).set_listen_only(listen_only)

    async def play(self, rooms: Sequence[str], reference: MediaReference, *, announce: bool = False) -> None:
        """Play something in rooms; returns once it has begun, with `announce` once it was heard, as announcements are.

        What a room played before ends there.
        """
        wanted = [self._sounding(name) if announce else self._heard_in(name) for name in rooms]
        stack = AsyncExitStack()
        sound = await stack.enter_async_context(self._sources.opened(reference))
        if announce:
            async with stack:
                await asyncio.gather(*(room.announce(sound) for room in wanted))
            return
        self._begin(_play(stack, wanted, sound), f"play in {', '.join(rooms)}")

    async def broadcast(self, origin: str, text: str) -> dict[str, list[str] | dict[str, str]]:
        """Say `text` in every other room that is connected; return as `Announcer.announce` does."""
        return await self._announcer.say(text, self.others(origin))

    def others(self, origin: str) -> list[str]:
        """Return every room but `origin` that can be spoken in now. Raises `SatelliteError` where there is none."""
        rooms = [room.settings.name for room in self._hub.rooms if _can_sound(room)]
        if not (found := [name for name in rooms if name != origin]):
            raise SatelliteError("there is no other room to speak in", code="announce-failed")
        return found

    async def call(self, caller: str, callee: str) -> None:
        """Let two rooms talk with each other; returns once they hear each other."""
        await self._intercom.call(caller, callee)

    def media(self) -> dict[str, str]:
        """Return the stations, and the files of the folder, by the names that people say; blocking."""
        return self._sources.names()

    def begin_telling(self, rooms: Sequence[str], text: str, question: Question) -> None:
        """Say `text`, the end of `question`, in rooms."""
        self._begin(self._told(rooms, text, question), f"tell {', '.join(rooms)}")

    def begin_playing(self, room: str, what: str, failed: str) -> None:
        """Play one of `media` in a room; if that is impossible, say `failed` there."""
        work = self.play([room], self._sources.named(what))
        self._begin(self._done_or_said(work, room, failed), f"play in {room}")

    def begin_call(self, caller: str, callee: str, failed: str) -> None:
        """Let two rooms talk with each other; if that is impossible, say `failed` in the first."""
        self._begin(self._done_or_said(self.call(caller, callee), caller, failed), f"call {callee} from {caller}")

    def hang_up(self, room: str) -> bool:
        """End the call of a room; return whether there was one."""
        return self._intercom.hang_up(room)

    async def change_volume(self, room: str, by: float) -> None:
        """Add `by` to the loudness of a room; one whose loudness is not known is taken for as loud as it can be."""
        volume = self._hub.room(room).status().volume
        await self.set_volume(room, min(1.0, max(0.0, (1.0 if volume is None else volume) + by)))

    async def _told(self, rooms: Sequence[str], text: str, question: Question) -> None:
        if question.recording is not None and self._settings().broadcast == "recording":
            pcm = await asyncio.to_thread(recorded_words, question.recording(), question.text, text)
            await self._announcer.say_recorded(pcm, rooms)
        else:
            await self._announcer.say(text, rooms)

    async def _done_or_said(self, work: Coroutine[Any, Any, object], room: str, failed: str) -> None:
        try:
            await work
        except SatelliteError:
            await self._announcer.say(failed, [room], first=False)
            raise

    def _begin(self, work: Coroutine[Any, Any, object], name: str) -> None:
        task = begin_task(work, name)
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def rings(self, room: str) -> bool:
        """Return whether a timer is heard in a room when it ends; a room that is not known may be one."""
        known = next((one for one in self._hub.rooms if one.settings.name == room), None)
        return known is None or known.capabilities.rings or is_heard(known)

    async def close(self) -> None:
        """End what was begun."""
        await end_tasks(*self._under_way)

    def _sounding(self, name: str) -> Room:
        room = self._hub.room(name)
        if not _can_sound(room):
            reason = f"{name} is not connected" if is_heard(room) else why_silent(room)
            raise SatelliteError(reason, code="room-unreachable")
        return room

    def _heard_in(self, name: str) -> Room:
        """Return the room in which media of a room is heard: there it is quieter while somebody speaks."""
        room = self._sounding(name)
        while room.settings.speaker is not None and room.settings.speaker.room is not None:
            room = self._sounding(room.settings.speaker.room)
        return room

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if (error := failure_of(task)) is not None:
            expected = isinstance(error, SatelliteError | ConnectionError)
            _LOGGER.warning("%s failed: %s", task.get_name(), error, exc_info=None if expected else error)


def _can_sound(room: Room) -> bool:
    return is_heard(room) and room.status().state is LinkState.CONNECTED


async def _play(stack: AsyncExitStack, rooms: Sequence[Room], sound: SharedSound) -> None:
    async with stack:
        results = await asyncio.gather(*(room.play(sound) for room in rooms), return_exceptions=True)
    for failure in results:
        if isinstance(failure, BaseException):
            raise failure
