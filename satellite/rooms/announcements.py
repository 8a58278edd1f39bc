"""Spoken announcements in rooms."""

from contextlib import aclosing
from typing import Any

from satellite.engines.protocols import VoiceChoice
from satellite.errors import ProtocolError, SatelliteError, TextToSpeechError, shown
from satellite.pipeline.stages import Stages
from satellite.rooms.chimes import chime
from satellite.rooms.hub import Hub
from satellite.rooms.playback import SharedSound
from satellite.tasks import begin_task, end_tasks

_MOST_AT_ONCE = 16
"""Announcements that may be under way, or wait for a room where somebody speaks."""


class Announcer:
    """Speaks a text once, and plays it after a chime in every room that is meant, while it is still being made."""

    def __init__(self, hub: Hub, stages: Stages) -> None:
        self._hub = hub
        self._stages = stages
        self._under_way = 0

    async def announce(self, data: dict[str, Any]) -> dict[str, Any]:
        """Say `text` in `rooms`, in all without them; return `{"heard": [room], "failed": {room: reason}}` in the end.

        Raises `SatelliteError` for rooms that do not exist, for a list of none, and for a text without a word.
        """
        text, names = data.get("text") or "", data.get("rooms", [])
        longest = self._stages.config.wyoming.max_text_characters
        if not isinstance(text, str):
            raise ProtocolError("text is of a wrong type")
        if len(text) > longest:
            raise TextToSpeechError(f"a text of more than {longest} characters is too long", kind="too-long")
        # An empty list is no request for all rooms: it is what is left of a choice in which nothing matched.
        if "rooms" in data and not (names and isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise SatelliteError(
                "rooms: expected names of rooms, at least one; leave it out to speak in every room", code="unknown-room"
            )
        known = [room.settings.name for room in self._hub.rooms]
        if not known:
            raise SatelliteError(
                "there are no rooms; name them in the configuration, under rooms: (name, and uri: tcp://HOST:10700)",
                code="unknown-room",
            )
        if unknown := [name for name in names if name not in known]:
            raise SatelliteError(
                f"there is no room '{shown(unknown[0])}'; there are: {', '.join(known)}", code="unknown-room"
            )
        if self._under_way >= _MOST_AT_ONCE:
            raise TextToSpeechError(f"{_MOST_AT_ONCE} announcements are under way; try again later", kind="busy")
        self._under_way += 1
        try:
            failed = await self._announced(text, names)
        finally:
            self._under_way -= 1
        return {"heard": [name for name in known if name in (names or known) and name not in failed], "failed": failed}

    async def _announced(self, text: str, names: list[str]) -> dict[str, str]:
        """Have a text heard, and return why it was not, by room."""
        speaker = await self._stages.speaker(VoiceChoice())
        announcement = SharedSound(speaker.format)
        async with aclosing(self._stages.speak(text, speaker)) as pieces:
            sound = (piece.pcm async for piece in pieces if piece.pcm)
            # Before any room is troubled: a voice that fails at once is an error of the request, not of the rooms.
            first = await anext(sound, None)
            if first is None:
                raise TextToSpeechError("there is nothing to say", kind="empty")
            announcement.add(chime(speaker.format) + first)
            filling = begin_task(announcement.fill(sound), "make an announcement")
            try:
                return await self._hub.announce(names, announcement)
            finally:
                await end_tasks(filling)  # where every room has failed, nobody takes the rest
