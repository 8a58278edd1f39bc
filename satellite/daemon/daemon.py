"""The composition root: builds everything from the configuration, starts it in order, stops it in reverse.

Start: listen, before anything large is imported, so that `describe` and `ping` are answered from the first moment ->
begin to load the engines in parallel, and to dial the rooms -> HTTP -> announce on the network. Stop: withdraw the
announcement -> close connections, which cancels their runs -> close the engines.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from satellite.config.settings import Config, WyomingSettings
from satellite.daemon.assembly import Assembly
from satellite.daemon.https import server_certificate
from satellite.daemon.reload import merge
from satellite.daemon.responders import Places, Responders
from satellite.daemon.room_commands import RoomCommands
from satellite.daemon.room_parts import RoomParts
from satellite.daemon.startup import Startup
from satellite.daemon.systemd import WatchedEngine
from satellite.engines.protocols import VoiceChoice
from satellite.errors import AlreadyRunning, CannotListen, ConfigUnreadable, SatelliteError, Stage
from satellite.events import RunBus
from satellite.http.context import Context
from satellite.http.http_service import HttpService
from satellite.http.rate_limit import RateLimit, Work
from satellite.models.store import Store
from satellite.monitoring.runs import RunHistory
from satellite.monitoring.status import Status, as_json
from satellite.net.binding import PortOpener, taken
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.dialogue import Dialogue
from satellite.pipeline.stages import RunConfig, Stages
from satellite.rooms.host.satellite_server import SatelliteService
from satellite.services.session import ALL_STAGES, Command, Session
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.storage import default_directory
from satellite.system.process import affordable_connections, allow_many_connections, follow_time_zone, imported
from satellite.tasks import Background, Supervised, begin_task, end_tasks, failure_of, first_of
from satellite.wire.connection import Connection, Timeouts
from satellite.wire.server import AllowedNetworks, Handler, Server

_LOGGER = logging.getLogger(__name__)

_STOP_SECONDS = 8.0
"""How long stopping may take; a step that is late is abandoned."""

_STEP_SECONDS = 6.0
_LEAST_STEP_SECONDS = 0.5

_RUNS_SHOWN = 8
"""How many of the latest runs `satellite status` shows."""

_PROBE_SECONDS = 3.0
"""How long the program that has our port may take to identify itself as a daemon like this."""


class Daemon:
    """The whole program. Use it as `async with`; inside, it serves."""

    def __init__(
        self, config: Config, *, free_ports: bool = False, commands: Mapping[str, Command] | None = None
    ) -> None:
        """Build it; with `free_ports` it listens on whatever ports are free instead of the configured ones.

        `commands` of the process are answered over Wyoming beside its own.
        """
        self.config = config
        self._free_ports = free_ports
        self._process_commands = commands or {}
        self.background = Background()
        """All tasks that outlive a request."""

        self.bus = RunBus()
        self.ports: dict[str, int] = {}
        """The ports it listens on, by the name of the setting; filled at start."""

        self.store = Store(config.models.directory)
        self._assembly = Assembly(config, self.store, self.background)
        self._workers = self._assembly.workers
        self.engines = self._assembly.engines
        self.timer_scheduler = TimerScheduler(config.commands.state_directory) if config.commands.enabled else None
        """The timers of the house; None where commands are disabled."""

        self._responders, self._stages = self._built_stages()
        self.house = RoomParts(
            config,
            self._places.host,
            self._stages,
            self.bus,
            self.timer_scheduler,
            self._know_rooms,
            free_ports=free_ports,
        )
        self.runs = RunHistory(self.bus, kept=config.http.runs_kept, transcripts=config.http.keep_transcripts)
        self._certificate = server_certificate(config)
        self._opener = PortOpener()
        self._startup = Startup(self._assembly, self._stages, self.background, self._voices)
        self._status = Status(
            self._stages,
            self._startup,
            chat=lambda: self._assembly.chat.status,
            rooms=self.house.hub.status,
            closed_ports=lambda: self._opener.closed,
            certificate=lambda: None if self._certificate is None else self._certificate.status(),
        )
        self._server = _wyoming_server(config.wyoming)
        self._http = HttpService(self._http_context())
        self._presence: Supervised | None = None

    def _built_stages(self) -> tuple[Responders, Stages]:
        config = self.config
        dialogue = Dialogue(config.chat, self.engines.chat.engine.context_tokens)
        responders = Responders(
            config.spoken_languages,
            config.home_assistant,
            self._places,
            self.timer_scheduler,
            self.engines,
            dialogue,
            lambda: self.house.controls,
        )
        stages = Stages(
            self.engines,
            RunConfig.of(config),
            self.background,
            dialogue=dialogue,
            responders=responders.all,
            commands=responders.commands,
        )
        return responders, stages

    def _http_context(self) -> Context:
        settings = self.config.http
        return Context(
            settings=settings,
            stages=self._stages,
            bus=self.bus,
            status=self._status,
            store=self.store,
            announcer=self.house.announcer,
            controls=self.house.controls,
            browsers=self.house.browsers,
            queues=self._queues,
            runs=self.runs,
            rate=RateLimit(settings.requests_per_minute),
            work=Work(settings.max_concurrent),
            certificate=self._certificate,
        )

    async def __aenter__(self) -> "Daemon":
        """Listen and begin to load; a port that cannot be opened is retried.

        Raises `AlreadyRunning` when another daemon has the ports. Whatever is raised, everything is stopped again.
        """
        allow_many_connections()
        try:
            await self._refuse_second()  # first: else the log is full of ports that cannot be opened
            await self._listen()
            await self._assembly.prepare()
            self._begin()
            if self.config.http.enabled:
                await self._opener.open("http", self._serve_http)
            self.background.run("watch ports", self._opener.watch)
            await self._announce()
        except BaseException:  # also when the start is cancelled: `async with` calls __aexit__ only after a success
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop in the reverse order of the start; a step that fails or hangs is logged, and the next one follows."""
        # Rooms and connections before background tasks: ending them cancels runs, which need the engines' tasks to end.
        steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("http", self._http.stop),
            *([] if self._presence is None else [("the announcement", self._presence.stop)]),
            *self.house.end_steps,
            ("the connections", self._server.close),
            ("the record of runs", self.runs.stop),
            ("the background tasks", self.background.close),
            ("the chat model", self.engines.chat.engine.close),
            *((one.name, one.close) for one in self._stages.responders),
        ]
        end_at = asyncio.get_running_loop().time() + _STOP_SECONDS
        for name, stop in steps:
            left_seconds = end_at - asyncio.get_running_loop().time()
            await _stop(name, stop, max(_LEAST_STEP_SECONDS, min(left_seconds, _STEP_SECONDS)))
        for worker in self._workers.values():
            worker.close()

    async def ready(self) -> list[SatelliteError]:
        """Wait until every engine is loaded and warmed up, or has failed to load; return the failures.

        Raises `SatelliteError` when a task has failed that is essential.
        """
        await first_of("until loaded", self._startup.until_finished(), self.background.broken.wait())
        if not self._startup.finished:
            raise SatelliteError("the daemon cannot go on; its log says why")
        return [slot.failure for slot in self.engines.slots if slot.failure is not None]

    @property
    def line(self) -> str:
        """Its state in one line."""
        return self._status.line

    @property
    def threads(self) -> Mapping[str, WatchedEngine]:
        """Threads and processes whose calls may hang, by name, for the watchdog."""
        return self._assembly.threads

    async def apply(self, config: Config) -> list[str]:
        """Apply what of `config` needs no restart, and return the keys that need one.

        Rooms that did not change stay connected. Raises `ConfigError` when it cannot be used; nothing has changed then.
        """
        self.config, left = merge(self.config, config)
        self._stages.config = RunConfig.of(self.config)
        self._know_rooms()
        await self.house.apply(self.config)
        if self._certificate is not None and "http" in self.ports:
            await self._certificate.read_again()
        self.background.run("keep phrases", self._startup.keep_phrases)
        return left

    def _begin(self) -> None:
        """Start the background tasks: load the engines, watch what may fail, and connect to the rooms."""
        run = self.background.run
        run("load", self._startup.run, fatal=True)
        run("follow the time zone", follow_time_zone)
        run("refresh", self._assembly.refresh)
        run("trim", self._assembly.trim)
        run("watch chat", self.engines.chat.engine.watch)
        for hosts in self._assembly.hosts:
            run(f"watch {hosts.stage} servers", hosts.watch)
        for responder in self._stages.responders:
            run(f"watch {responder.name}", responder.watch)
        self.runs.start(self.background)
        self.house.hub.start()

    async def _listen(self) -> None:
        wyoming = self.config.wyoming
        served = {
            "port": (wyoming.port, ALL_STAGES),
            "wake_port": (wyoming.wake_port, frozenset({Stage.WAKE})),
            "stt_port": (wyoming.stt_port, frozenset({Stage.STT})),
            "tts_port": (wyoming.tts_port, frozenset({Stage.TTS})),
            "handle_port": (wyoming.handle_port, frozenset({Stage.CHAT})),
        }
        for name, (port, stages) in served.items():
            if port is not None:
                await self._opener.open(name, partial(self._serve, name, port, self._handler(stages)))
        if self.house.host is not None and self.config.home_assistant_satellite.enabled:
            service = SatelliteService(self.house.host, self._stages, self.config.home_assistant_satellite)
            port = self.config.home_assistant_satellite.port
            await self._opener.open("satellite_port", partial(self._serve, "satellite_port", port, service.serve))
        listening = ", ".join(f"{name.removesuffix('_port')} {port}" for name, port in self.ports.items())
        _LOGGER.info("listening at %s: %s", ", ".join(wyoming.host), listening or "nothing yet")

    async def _serve(self, name: str, port: int, handler: Handler) -> None:
        self.ports[name] = await self._server.listen(self.config.wyoming.host, self._wanted(port), handler)

    async def _serve_http(self) -> None:
        try:
            self.ports["http"] = await self._http.start(self._wanted(self.config.http.port))
        except ConfigUnreadable as error:  # the file of its token: only HTTP depends on it, and it may come back
            raise CannotListen(f"http: {error}") from error

    def _wanted(self, port: int) -> int:
        return 0 if self._free_ports else port

    async def _refuse_second(self) -> None:
        """Raise `AlreadyRunning` if another satellite daemon has the Wyoming port."""
        wyoming = self.config.wyoming
        addresses = [(host, wyoming.port) for host in wyoming.host]
        if self._free_ports or not await asyncio.to_thread(taken, addresses):
            return
        client = await imported("satellite.wire.client")
        uri = client.own_uri(wyoming.host, wyoming.port)
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                other = await client.status(uri)
        except (SatelliteError, ConnectionError, TimeoutError):
            return  # another program has the port: opening it fails, is reported, and is retried
        if "version" in other:
            raise AlreadyRunning(f"satellite {other['version']} runs already at {uri}: see satellite status")

    def _handler(self, stages: frozenset[Stage]) -> Handler:
        controls_home = self.config.home_assistant.url is not None
        commands: dict[str, Command] = {
            "status": self._status_with_runs,
            "metrics": self._metrics,
            "announce": self.house.announcer.announce,
        }
        rooms = RoomCommands(self.house.controls)

        async def serve(connection: Connection) -> None:
            # Without authentication, only this machine may open microphones, have addresses fetched, and reload.
            own = {"room": rooms.run, **self._process_commands} if connection.is_local else {}
            known = commands | own
            await Session(connection, self._stages, self.bus, stages, known, controls_home=controls_home).serve()

        return serve

    async def _status_with_runs(self, _request: dict[str, object]) -> dict[str, object]:
        # Without what was heard and said: Wyoming has no authentication, so any machine nearby may ask.
        runs = [run.as_json(transcripts=False) for run in self.runs.latest(_RUNS_SHOWN)]
        return as_json(await self._status.now()) | {"runs": runs}

    async def _metrics(self, _request: dict[str, object]) -> dict[str, object]:
        metrics = await imported("satellite.monitoring.metrics")
        return {"text": metrics.exposition(await self._status.now(), self._queues(), AudioInbox.dropped_in_all_seconds)}

    def _know_rooms(self) -> None:
        """Have commands know the rooms that are configured, and the browsers that are rooms now."""
        self._responders.configure(Places.of(self.config, self.house.browsers.settings))

    @property
    def _places(self) -> Places:
        return Places.of(self.config)

    def _queues(self) -> dict[str, int]:
        return {name: worker.pending for name, worker in self._workers.items()}

    async def _announce(self) -> None:
        settings, wyoming = self.config.zeroconf, self.config.wyoming
        if not settings.enabled:
            return
        discovery = await imported("satellite.wire.discovery")
        state = self.config.commands.state_directory or default_directory()
        machine = await asyncio.to_thread(discovery.identity, state)
        names = {
            "port": settings.name or discovery.default_name(wyoming.port, machine),
            "satellite_port": discovery.default_name(self.config.home_assistant_satellite.port, machine),
        }
        presence = discovery.Presence(
            lambda: {name: self.ports[port] for port, name in names.items() if port in self.ports},
            lambda: discovery.current_addresses(wyoming.host, settings.address),
        )
        self._presence = self.background.run("announce", presence.run)

    def _voices(self) -> list[VoiceChoice]:
        """Return the voices of the rooms and of the languages, as many as are in memory at a time."""
        choices = [VoiceChoice(), *(VoiceChoice(spoken=language) for language in self.config.languages)]
        choices += [VoiceChoice(place.voice, place.language) for place in self._places.all]
        return list(dict.fromkeys(choices))[: self.config.tts.max_loaded_voices]


def _wyoming_server(wyoming: WyomingSettings) -> Server:
    return Server(
        AllowedNetworks(wyoming.allow),
        Timeouts(wyoming.read_timeout_seconds, wyoming.write_timeout_seconds),
        max_connections=affordable_connections(wyoming.max_connections),
    )


async def _stop(name: str, stop: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Run one step of stopping: it may take `seconds`, and its failure is only logged."""

    async def stopping() -> None:
        await stop()

    task = begin_task(stopping(), f"stop {name}")
    done, _ = await asyncio.wait([task], timeout=seconds)
    if not done:
        _LOGGER.error("stopping %s takes longer than %.0f s: it is abandoned", name, seconds)
        await end_tasks(task, seconds=_LEAST_STEP_SECONDS)
    elif (error := failure_of(task)) is not None:
        _LOGGER.error("stopping %s has failed", name, exc_info=error)
