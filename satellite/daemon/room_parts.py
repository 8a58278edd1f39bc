"""The rooms of the house, and everything that is done in them: calls, announcements, media."""

from collections.abc import Awaitable, Callable

from satellite.config.rooms import HubSettings, RoomSettings
from satellite.config.settings import Config
from satellite.events import RunBus
from satellite.http.browser_rooms import BrowserRooms
from satellite.net.binding import EVERYWHERE
from satellite.pipeline.stages import Stages
from satellite.rooms.announcements import Announcer
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.controls import RoomControls
from satellite.rooms.device import RoomContext
from satellite.rooms.elsewhere import Speakers
from satellite.rooms.esphome.incoming import IncomingDevices
from satellite.rooms.host.host_room import HostRoom
from satellite.rooms.hub import Hub
from satellite.rooms.intercom import Intercom
from satellite.rooms.media_listener import MediaListener
from satellite.rooms.media_sources import MediaSources
from satellite.skills.home_assistant.players import HomeAssistantPlayers
from satellite.skills.timers.scheduler import TimerScheduler


class RoomParts:
    """Builds what has to do with rooms, and ends it."""

    def __init__(
        self,
        config: Config,
        host: RoomSettings | None,
        stages: Stages,
        bus: RunBus,
        scheduler: TimerScheduler | None,
        changed: Callable[[], None],
        *,
        free_ports: bool,
    ) -> None:
        """Build the rooms of `config`, and that of this machine if it has one, `host`.

        `changed` is called when a browser has become a room, or is none any more.
        """
        self._stages = stages
        self._configured = config.rooms
        self._media = MediaListener(0 if free_ports else config.hub.media_port)
        self._players = HomeAssistantPlayers(config.home_assistant)
        speakers = Speakers(lambda room, sound: self.hub.room(room).announce(sound), self._media, self._players)
        arbiter = Arbiter(config.hub.arbitration_seconds)
        context = RoomContext(stages, bus, arbiter, scheduler, self._media, speakers)
        self.host = None if host is None else HostRoom(host, config.microphone, config.speaker, context)
        """The host's own room, if it has a microphone."""

        only = config.wyoming.host[0] if not set(config.wyoming.host) & set(EVERYWHERE) else None
        incoming = IncomingDevices(0 if free_ports else config.hub.incoming_port, only)
        self.hub = Hub(config.rooms, context, [] if self.host is None else [self.host], incoming)
        self._intercom = Intercom(self.hub, self._settings)
        self._sources = MediaSources(self._settings)
        self.announcer = Announcer(self.hub, stages, self._sources)
        self.controls = RoomControls(self.hub, self.announcer, self._sources, self._intercom, self._settings)
        self.browsers = BrowserRooms(self.hub, context, lambda: self._configured, changed)

    @property
    def end_steps(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """Return what ends it, in order, each step with its name."""
        return [
            ("what rooms play", self.controls.close),
            ("calls", self._intercom.close),
            ("the rooms", self.hub.stop),
            ("the sound for rooms", self._media.close),
            ("the files for rooms", self._sources.close),
            ("the media players", self._players.close),
        ]

    async def apply(self, config: Config) -> None:
        """Take the rooms of another configuration; those that did not change stay connected."""
        self._configured = config.rooms
        await self.hub.apply(config.rooms)
        self.browsers.apply()

    def _settings(self) -> HubSettings:
        # Of the stages, which a reload gives the new configuration.
        return self._stages.config.hub
