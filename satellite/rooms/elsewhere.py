"""Sound of one room that is heard elsewhere: in another room, or by a media player of Home Assistant."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from satellite.audio.pcm import AudioFormat
from satellite.config.rooms import RoomSettings, SpeakerSettings
from satellite.errors import SatelliteError, TextToSpeechError
from satellite.rooms.media import MediaServer, MediaStream
from satellite.rooms.playback import SharedSound, Sounding, SoundOutput
from satellite.tasks import begin_task, end_tasks, failure_of

_PLAYER_FORMAT = AudioFormat(48_000)
"""Which players of every make take."""

_PLAYER_SECONDS = 10.0
"""How long a player may take to begin: some are groups that have to agree first, or speakers that wake up."""

_TURN_SECONDS = 30.0
"""How long a sound may wait for its turn in another room, which may be in a call."""


class MediaPlayers(Protocol):
    """The media players of Home Assistant."""

    async def address(self) -> str:
        """Return the IP address of Home Assistant, in whose network its players are; raises `SatelliteError`."""

    async def play(self, entity: str, url: str) -> None:
        """Have a player fetch and play a sound, in place of or above what it plays; raises `SatelliteError`."""

    async def stop(self, entity: str) -> None:
        """Stop what a player plays; raises `SatelliteError`."""


class HeardRoom(Protocol):
    """What sounds in a room, as others at the same speaker see it."""

    room: RoomSettings

    @property
    def own_sounding(self) -> Sounding | None:
        """Return what it has begun itself that sounds."""

    @property
    def plays_media(self) -> bool:
        """Whether it plays media."""

    def stop_media(self) -> bool:
        """Stop media; return whether there was any."""

    async def silence(self) -> bool:
        """End all that sounds, its answer as well; return whether there was anything."""

    def give_way(self) -> None:
        """End what a wake word ends: a call, an announcement, and a ringing timer."""


class Speakers:
    """Finds the speakers of rooms that have none, or do not use their own, and who else is heard there."""

    def __init__(
        self,
        announce: Callable[[str, SharedSound], Awaitable[None]],
        media: MediaServer,
        players: MediaPlayers,
    ) -> None:
        """`announce` plays a sound in the room of a name; players fetch from `media`."""
        self._announce = announce
        self._media = media
        self._players = players
        self._rooms: list[HeardRoom] = []

    def add(self, room: HeardRoom) -> None:
        """Note a room that is connected."""
        self._rooms.append(room)

    def remove(self, room: HeardRoom) -> None:
        """Forget a room; may be called twice."""
        if room in self._rooms:
            self._rooms.remove(room)

    def beside(self, room: HeardRoom) -> list[HeardRoom]:
        """Return the other rooms that are heard at the same speaker."""
        place = self._place(room.room)
        return [other for other in self._rooms if other is not room and self._place(other.room) == place]

    def _place(self, room: RoomSettings) -> str:
        """Return where a room is heard: the name of a room, or a media player."""
        speakers = {other.room.name: other.room.speaker for other in self._rooms} | {room.name: room.speaker}
        place = room.name
        # Each of them is followed once: during a reload two rooms may be heard in each other.
        while (speaker := speakers.pop(place, None)) is not None:
            place = speaker.room or speaker.entity or place
        return place

    def output(self, speaker: SpeakerSettings | None) -> SoundOutput | None:
        """Return where the sound of a room with this setting goes; None for its own speaker."""
        if speaker is None:
            return None
        if speaker.room is not None:
            room = speaker.room
            return RoomOutput(lambda sound: self._announce(room, sound))
        assert speaker.entity is not None
        return PlayerOutput(self._players, speaker.entity, self._media, speaker.media_host)


class RoomOutput:
    """Another room (`SoundOutput`), where the sound is an announcement: it waits while somebody speaks there."""

    paced = True
    format: AudioFormat | None = None
    media_format = _PLAYER_FORMAT

    def __init__(self, announce: Callable[[SharedSound], Awaitable[None]]) -> None:
        """Play by `announce`, which returns once a sound was heard."""
        self.trouble = ""
        self._announce = announce
        self._sound: SharedSound | None = None
        self._playing: asyncio.Task[None] | None = None

    async def start(self, layout: AudioFormat) -> float:
        """Begin a sound in the other room."""
        self.drop()
        self.trouble = ""
        self._sound = sound = SharedSound(layout)
        self._playing = begin_task(self._play(sound), "sound in another room")
        self._playing.add_done_callback(self._note_end)
        return 0.0

    async def write(self, pcm: bytes) -> None:
        """Add to the sound; where it is not heard, raise why."""
        if self.trouble:
            raise TextToSpeechError(self.trouble)
        if self._sound is not None:
            self._sound.add(pcm)

    async def stop(self) -> None:
        """There is no more of it."""
        if self._sound is not None:
            self._sound.end()

    async def played(self, left_seconds: float) -> None:
        """Wait until it was heard there."""
        if self._playing is not None:
            done, _ = await asyncio.wait([self._playing], timeout=left_seconds + _TURN_SECONDS)
            if not done:
                self.drop()
                self.trouble = "somebody speaks with the room where it was to be heard"

    def drop(self) -> None:
        """Silence it there."""
        self._sound = None
        if self._playing is not None:
            self._playing.cancel()

    async def _play(self, sound: SharedSound) -> None:
        await self._announce(sound)

    def _note_end(self, playing: asyncio.Task[None]) -> None:
        error = failure_of(playing)
        if playing is self._playing and error is not None:
            self.trouble = str(error)


class PlayerOutput:
    """A media player of Home Assistant (`SoundOutput`), which fetches the sound."""

    paced = True
    format: AudioFormat | None = _PLAYER_FORMAT
    media_format = _PLAYER_FORMAT

    def __init__(self, players: MediaPlayers, entity: str, media: MediaServer, host: str | None) -> None:
        """Play on `entity`, which reaches this machine at `host`, by default as Home Assistant does."""
        self.trouble = ""
        self._players = players
        self._entity = entity
        self._media = media
        self._host = host
        self._stream: MediaStream | None = None
        self._asked: asyncio.Task[None] | None = None

    async def start(self, layout: AudioFormat) -> float:
        """Have the player fetch a sound."""
        self.drop()
        self.trouble = ""
        try:
            async with asyncio.timeout(_PLAYER_SECONDS):
                near = await self._players.address()
            self._stream = stream = await self._media.publish(layout, "flac", near, host=self._host, anybody=True)
        except (SatelliteError, TimeoutError) as error:
            self.trouble = str(error) or "Home Assistant's address is not found"
            return 0.0
        # Some players answer only once they have heard something.
        self._asked = begin_task(self._play(stream), f"play on {self._entity}")
        return 0.0

    async def write(self, pcm: bytes) -> None:
        """Add to what is fetched; where it is not, raise why."""
        stream = self._stream
        if stream is not None:
            try:
                await stream.write(pcm)
            except ConnectionError:  # somebody has stopped the player
                self._stream = None
        if self.trouble:
            raise TextToSpeechError(self.trouble)

    async def stop(self) -> None:
        """There is no more of it."""
        if self._stream is not None:
            self._stream.end()

    async def played(self, left_seconds: float) -> None:
        """Wait for as long as it should take: a player does not say when it has finished."""
        await asyncio.sleep(left_seconds)
        self._stream = None

    def drop(self) -> None:
        """Stop the player."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
            self._asked = begin_task(self._stop(self._asked), f"stop {self._entity}")

    async def _play(self, stream: MediaStream) -> None:
        try:
            async with asyncio.timeout(_PLAYER_SECONDS):
                await self._players.play(self._entity, stream.url)
                await stream.fetched.wait()
        except (SatelliteError, TimeoutError) as error:
            self.trouble = str(error) or f"{self._entity} did not fetch {stream.url}"
            stream.abort()

    async def _stop(self, asked: asyncio.Task[None] | None) -> None:
        if asked is not None:
            await end_tasks(asked)
        with suppress(SatelliteError):
            await self._players.stop(self._entity)
