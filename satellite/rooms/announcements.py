"""Spoken announcements in rooms."""

import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

from satellite.audio.pcm import CANONICAL, AudioFormat, Converter
from satellite.engines.protocols import VoiceChoice
from satellite.errors import ProtocolError, SatelliteError, TextToSpeechError, shown
from satellite.pipeline.stages import Stages
from satellite.rooms.chimes import chime
from satellite.rooms.hub import Hub
from satellite.rooms.media_sources import MediaReference, MediaSources
from satellite.rooms.playback import SharedSound
from satellite.tasks import begin_task, end_tasks

_LOGGER = logging.getLogger(__name__)

_MOST_AT_ONCE = 16
"""Announcements that may be under way, or wait for a room where somebody speaks."""

_LONGEST_CHIME_SECONDS = 10.0


class Announcer:
    """Speaks a text once, and plays it after a chime in every room that is meant, while it is still being made."""

    def __init__(self, hub: Hub, stages: Stages, sources: MediaSources) -> None:
        """Announce in the rooms of `hub`; sounds in place of the chime come from `sources`."""
        self._hub = hub
        self._stages = stages
        self._sources = sources
        self._under_way = 0

    async def announce(self, data: dict[str, Any]) -> dict[str, Any]:
        """Say `text` in `rooms`, in all without them; return `{"heard": [room], "failed": {room: reason}}` in the end.

        `chime` is the name of a sound to be played first, or false for none. Raises `SatelliteError` for rooms that do
        not exist, for a list of none, and for a text without a word.
        """
        text, names, first = data.get("text") or "", data.get("rooms", []), data.get("chime", True)
        if not isinstance(text, str) or not isinstance(first, bool | str):
            raise ProtocolError("text or chime is of a wrong type")
        # An empty list is no request for all rooms: it is what is left of a choice in which nothing matched.
        if "rooms" in data and not (names and isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise SatelliteError(
                "rooms: expected names of rooms, at least one; leave it out to speak in every room", code="unknown-room"
            )
        return await self.say(text, names, first)

    async def say(self, text: str, names: Sequence[str] = (), first: bool | str = True) -> dict[str, Any]:
        """Say `text` in the rooms `names`, in all if there are none, after the sound `first`; else as `announce`."""
        self.check_length(text)
        known = self._known(names)
        with self._one():
            async with self.spoken(text, first) as announcement:
                failed = await self._hub.announce(list(names), announcement)
        return {"heard": [name for name in known if name in (names or known) and name not in failed], "failed": failed}

    async def say_recorded(self, pcm: bytes, names: Sequence[str]) -> None:
        """Play canonical audio in rooms after a chime. Raises `SatelliteError` where none of them heard it."""
        self._known(names)
        with self._one():
            first = await self._chime(True, CANONICAL)
            failed = await self._hub.announce(list(names), SharedSound.complete(CANONICAL, first + pcm))
        if len(failed) == len(names):
            raise SatelliteError("; ".join(failed.values()), code="announce-failed")

    @asynccontextmanager
    async def spoken(
        self, text: str, first: bool | str = True, voice: VoiceChoice | None = None
    ) -> AsyncGenerator[SharedSound, None]:
        """Yield `text` as sound after the sound `first`, being made for as long as the context lasts."""
        speaker = await self._stages.speaker(voice or VoiceChoice())
        announcement = SharedSound(speaker.format)
        async with aclosing(self._stages.speak(text, speaker)) as pieces:
            sound = (piece.pcm async for piece in pieces if piece.pcm)
            # Before any room is troubled: a voice that fails at once is an error of the request, not of the rooms.
            spoken = await anext(sound, None)
            if spoken is None:
                raise TextToSpeechError("there is nothing to say", kind="empty")
            announcement.add(await self._chime(first, speaker.format) + spoken)
            filling = begin_task(announcement.fill(sound), "make an announcement")
            try:
                yield announcement
            finally:
                await end_tasks(filling)  # where every room has failed, nobody takes the rest

    async def _chime(self, first: bool | str, layout: AudioFormat) -> bytes:
        """Return what is played first: the sound of that name, the configured one, or the daemon's own chime."""
        configured = self._stages.config.hub.announcement_sound
        if first is True and configured is None:
            return chime(layout)
        name = configured if first is True else first
        if not name:
            return b""
        try:
            return await self._sound(name, layout)
        except SatelliteError as error:
            if first is not True:
                raise
            # A file that is gone must not cost an announcement.
            _LOGGER.warning("hub.announcement_sound: %s", error, extra={"code": error.code})
            return chime(layout)

    async def _sound(self, name: str, layout: AudioFormat) -> bytes:
        pcm = bytearray()
        async with self._sources.opened(MediaReference(file=name)) as sound:
            converter = Converter(sound.format, layout)
            longest = _LONGEST_CHIME_SECONDS * layout.rate * layout.frame_bytes
            async for piece in sound:
                pcm += converter.convert(piece)
                if len(pcm) > longest:
                    break
        return bytes(pcm) + converter.flush()

    def check_length(self, text: str) -> None:
        """Raise `TextToSpeechError` for a text that is too long."""
        longest = self._stages.config.wyoming.max_text_characters
        if len(text) > longest:
            raise TextToSpeechError(f"a text of more than {longest} characters is too long", kind="too-long")

    def _known(self, names: Sequence[str]) -> list[str]:
        """Return the names of all rooms. Raises `SatelliteError` where one of `names` is not among them."""
        known = [room.settings.name for room in self._hub.rooms]
        if not known:
            raise SatelliteError(
                "there are no rooms; open the page /room in a browser, or name them in the configuration, under rooms: "
                "(name, and uri: tcp://HOST:10700)",
                code="unknown-room",
            )
        if unknown := [name for name in names if name not in known]:
            raise SatelliteError(
                f"there is no room '{shown(unknown[0])}'; there are: {', '.join(known)}", code="unknown-room"
            )
        return known

    @contextmanager
    def _one(self) -> Iterator[None]:
        if self._under_way >= _MOST_AT_ONCE:
            raise TextToSpeechError(f"{_MOST_AT_ONCE} announcements are under way; try again later", kind="busy")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
