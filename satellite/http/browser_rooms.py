"""Browsers that are rooms: which page has which name, and what the pages ask for."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress

from satellite import __version__
from satellite.audio.pcm import AudioFormat, Converter, seconds_of
from satellite.config.rooms import BrowserRoomSettings, RoomSettings
from satellite.errors import ProtocolError, SatelliteError
from satellite.http.error_codes import HttpError
from satellite.http.outbox import Outbox
from satellite.http.page_device import BrowserRoom
from satellite.http.rate_limit import RateLimit
from satellite.http.room_frames import PAGE_FRAMES, Join, Mute, PageFrame, Played, Start, Stop, Volume, timer_frame
from satellite.http.schemas import parsed_frame
from satellite.rooms.device import RoomContext, RoomModes
from satellite.rooms.hub import Hub

_MOST = 64
"""Browsers that may be rooms at once: each is listened to all the time."""

_MOST_REMEMBERED = 256
"""Names whose modes are remembered while no page has them."""

_OUTBOX_BYTES = 4 * 1024 * 1024
"""Much more than a page that reads ever lets wait: it is sent no more than `hub.send_ahead_seconds` of sound."""

_OUTBOX_FRAMES = 10_000

_AHEAD_SECONDS = 20.0
"""How much more sound than time may come from a page: a network that was gone delivers several seconds at once."""

_ALIVE_SECONDS = 5.0
"""How often a page is sent something: browsers notice very late that a connection is lost."""

TAKEN_OVER = 4001
"""Code with which a connection is closed when another browser takes its name."""

SETTINGS_CHANGED = 4002
"""Code with which a connection is closed whose room is configured otherwise now: the page opens another one."""

_TOO_MUCH = 1008


class BrowserRooms:
    """The rooms of all pages that are connected."""

    def __init__(
        self,
        hub: Hub,
        context: RoomContext,
        configured: Callable[[], Sequence[RoomSettings]],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Add rooms to `hub`, with the settings that `configured()` has for their names, if any.

        `changed` is called when a room has come or gone.
        """
        self.hub = hub
        self._changed = changed
        self._context = context
        self._configured = configured
        self._pages: dict[str, PageSession] = {}
        self._modes: dict[str, RoomModes] = {}
        self._joining = asyncio.Lock()

    async def join(self, page: "PageSession", frame: Join) -> BrowserRoom:
        """Make `page` the room that it names; a page that has the name lets it go.

        Raises `SatelliteError`: `room-name-taken` where another kind of room has the name, `http-busy` for too many.
        """
        settings = self._settings(frame.room)
        name = settings.name
        async with self._joining:
            if (earlier := self._pages.get(name)) is not None:
                earlier.end(TAKEN_OVER)
                await earlier.close()
            if len(self._pages) >= _MOST:
                raise HttpError(f"{_MOST} browsers are rooms already", code="http-busy")
            room = BrowserRoom(page, settings, self._context, self._remembered(name, frame), page.address)
            self.hub.add(room)
            self._pages[name] = page
            self._changed()
        return room

    async def leave(self, page: "PageSession", room: BrowserRoom) -> None:
        """Take a room out of the hub."""
        if self._pages.get(room.settings.name) is page:
            del self._pages[room.settings.name]
        try:
            await self.hub.remove(room)
        finally:
            self._changed()

    @property
    def settings(self) -> list[BrowserRoomSettings]:
        """Return the settings of the rooms that are there now."""
        return [room.settings for room in self.hub.rooms if isinstance(room.settings, BrowserRoomSettings)]

    def apply(self) -> None:
        """Have pages whose settings have changed, or whose name is another room's now, connect again."""
        taken = {room.name for room in self._configured() if not isinstance(room, BrowserRoomSettings)}
        for name, page in list(self._pages.items()):
            if page.room is not None and (name in taken or self._settings(name) != page.room.settings):
                page.end(SETTINGS_CHANGED)

    def _settings(self, name: str) -> BrowserRoomSettings:
        """Return what is configured for a name, or the defaults; capitals do not make another name."""
        for room in self._configured():
            if isinstance(room, BrowserRoomSettings) and room.name.casefold() == name.casefold():
                return room
        there = (room.settings.name for room in self.hub.rooms)
        return BrowserRoomSettings(name=next((one for one in there if one.casefold() == name.casefold()), name))

    def _remembered(self, name: str, frame: Join) -> RoomModes:
        """Return the modes of a name, with those that the page itself remembers."""
        modes = self._modes.pop(name, None) or RoomModes()
        while len(self._modes) >= _MOST_REMEMBERED:
            del self._modes[next(iter(self._modes))]
        self._modes[name] = modes
        modes.muted = frame.muted
        modes.volume = modes.volume if frame.volume is None else frame.volume
        return modes


class PageSession:
    """The connection to one page, from its first frame to its last."""

    def __init__(self, rooms: BrowserRooms, rate: RateLimit, address: str) -> None:
        self.address = address
        self.outbox = Outbox(_OUTBOX_BYTES, _OUTBOX_FRAMES)
        self.room: BrowserRoom | None = None
        """The room that the page is; None before it has joined, and after it has left."""

        self.close_code: int | None = None
        """Why the connection is closed, if it is."""

        self._rooms = rooms
        self._rate = rate
        self._over = asyncio.Event()
        self._converter = Converter(AudioFormat())
        self._ahead_seconds = 0.0
        self._heard_at = 0.0

    async def wait_failed(self) -> None:
        """Wait until the connection is to be closed; meanwhile the page is told that it still stands."""
        while not self._over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_ALIVE_SECONDS):
                    await self._over.wait()
            self.send(type="alive")

    def end(self, code: int) -> None:
        """Close the connection with this code."""
        self.close_code = self.close_code or code
        self._over.set()

    def send(self, **frame: object) -> None:
        """Send a frame of JSON."""
        self.outbox.put(json.dumps(frame))

    def greet(self) -> None:
        """Send `ready`: the page may join."""
        self.send(type="ready", version=__version__)

    async def take(self, text: str) -> None:
        """Do what a text frame asks for; what is wrong with it becomes an `error` frame."""
        try:
            frame = parsed_frame(PAGE_FRAMES, text)
            if isinstance(frame, Join | Start):
                self._rate.take(self.address)
            await self._do(frame)
        except SatelliteError as error:
            self.send(type="error", code=error.code, text=str(error))

    async def hear(self, sound: bytes) -> None:
        """Take 16-bit PCM at 16 kHz, which comes all the time."""
        if self.room is None:
            return
        pcm = self._converter.convert(sound)
        now = asyncio.get_running_loop().time()
        # What was held up somewhere may still come: a page that was silent for a while may be as far behind.
        before = max(-_AHEAD_SECONDS, self._ahead_seconds - (now - self._heard_at))
        self._ahead_seconds = before + seconds_of(pcm)
        self._heard_at = now
        if self._ahead_seconds > _AHEAD_SECONDS:
            self.end(_TOO_MUCH)
        else:
            await self.room.current.hear(pcm)

    async def close(self) -> None:
        """Let the room go; may be called twice."""
        room, self.room = self.room, None
        if room is not None:
            await self._rooms.leave(self, room)

    async def _do(self, frame: PageFrame) -> None:
        if isinstance(frame, Join):
            await self.close()
            self.room = await self._rooms.join(self, frame)
            self._welcome(self.room)
        elif (room := self.room) is None:
            raise ProtocolError("expected join, which comes first")
        else:
            match frame:
                case Start():
                    await room.start()
                case Stop():
                    await room.stop()
                case Mute():
                    await room.set_muted(frame.muted)
                case Volume():
                    await room.set_volume(frame.volume)
                case Played():
                    room.device.output.note_played(frame.sound)

    def _welcome(self, room: BrowserRoom) -> None:
        """Tell the page what it is, and what it has missed."""
        modes = room.modes
        self.send(
            type="welcome",
            room=room.settings.name,
            wake_words=list(room.wake_words),
            muted=modes.muted,
            volume=modes.volume,
            timers=[timer_frame(event) for event in room.timers()],
        )
