"""The composition root: builds everything from the configuration, starts it in order, stops it in reverse.

Start: begin to load the engines side by side -> listen, long before they are loaded, so that `describe` and `ping`
are answered from the first moment -> announce on the network. Stop: take the announcement back -> close connections,
which cancels their runs -> close the engines. Only this module knows concrete engines.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from satellite.commands.clockwork import Clockwork
from satellite.config import Config, Local, Ollama, OpenAICompatible, Tts
from satellite.engines import ChatModel, WakeWordEngine
from satellite.engines.remote import Hosts, RemoteSynthesizer, RemoteTranscriber
from satellite.engines.slot import Engines, Slot
from satellite.engines.vad import SileroVad
from satellite.engines.voices import VoiceFolder
from satellite.engines.worker import Worker
from satellite.errors import ConfigError, SatelliteError, Stage
from satellite.events import EventBus
from satellite.http.service import HttpService
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.models.store import Store
from satellite.process import allow_many_connections, return_freed_memory
from satellite.reload import merge
from satellite.responders import build_responders, tell_of_rooms, watch_over
from satellite.rooms.announcing import Announcer
from satellite.rooms.hub import Hub
from satellite.rooms.local import LocalRoom
from satellite.rooms.served import SatelliteService
from satellite.services.session import ALL_STAGES, Session
from satellite.services.status import Status
from satellite.services.words import in_one_line
from satellite.turn.stages import Stages
from satellite.turn.warmup import warm_up
from satellite.wire.connection import Connection, Timeouts
from satellite.wire.discovery import Announcement, default_name, own_addresses
from satellite.wire.server import Admission, Handler, Server

_LOGGER = logging.getLogger(__name__)

_STREAM_QUEUE = 4096
"""Waiting calls of engines that are fed chunk by chunk; each stream has at most one."""

_REFRESH_SECONDS = 3.0
"""How often folders of voices and wake words are looked at."""

_TRIM_SECONDS = 2.0
"""How long nothing must have been done before freed memory goes back to the system: the next work pays for it again."""


class Daemon:
    """The whole program. Use it as `async with`; inside, it serves."""

    def __init__(self, config: Config, *, free_ports: bool = False) -> None:
        """Build it; with `free_ports` it listens on whatever ports are free instead of the configured ones."""
        self.config = config
        self._free_ports = free_ports
        self.bus = EventBus()
        self.ports: dict[str, int] = {}
        """Where it listens, by the name of the setting; filled at start."""

        self.store = Store(config.models.directory)
        self._workers = {
            "wake": Worker(Stage.WAKE, queue_size=_STREAM_QUEUE),
            "vad": Worker(Stage.STT, name="vad", queue_size=_STREAM_QUEUE),
            "stt": Worker(Stage.STT),
            "tts": Worker(Stage.TTS, queue_size=64),
        }
        voice = Tts().voice if config.tts.uri else config.tts.voice
        self._voices = VoiceFolder(self.store, catalogue.find(Kind.TTS, voice))
        self._loads: list[tuple[Slot[Any], Callable[[], Awaitable[None]]]] = []
        self._hosts: list[Hosts] = []
        self.engines = self._build()
        self._stages = Stages(self.engines, config)
        self.clockwork = Clockwork(config.commands.state_directory) if config.commands.enabled else None
        """The timers of the house, if it may have any."""

        self._stages.responders = build_responders(config, self.clockwork, self._stages)
        self.hub = Hub(config.rooms, config.hub, self._stages, self.bus, self.clockwork)
        self.host: LocalRoom | None = None
        """The host's own room, if it has a microphone."""

        if config.microphone.given:
            self.host = LocalRoom(config, self._stages, self.bus, self.hub.arbiter, self.clockwork)
            self.hub.others.append(self.host)
        self._status = Status(self.engines, self.hub.described, self._stages.responders)
        wyoming = config.wyoming
        self._server = Server(
            Admission(wyoming.allow),
            Timeouts(wyoming.read_timeout_seconds, wyoming.write_timeout_seconds),
            max_connections=wyoming.max_connections,
        )
        self._http = HttpService(config, self._stages, self.bus, self._status, self.store, self.hub, self._workers)
        self._announcements: list[Announcement] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._loaded = asyncio.Event()

    async def __aenter__(self) -> "Daemon":
        """Begin to load and listen; raises `ConfigError` when a port cannot be had."""
        allow_many_connections()
        self._tasks = [
            asyncio.create_task(self._load_all(), name="load"),
            asyncio.create_task(self._refresh(), name="refresh"),
            asyncio.create_task(self._trim(), name="trim"),
            asyncio.create_task(self.engines.chat.engine.watch(), name="watch chat"),
            *(asyncio.create_task(hosts.watch(), name="watch servers") for hosts in self._hosts),
            *(asyncio.create_task(watch_over(one), name=f"watch {one.name}") for one in self._stages.responders),
        ]
        for _ in range(2):
            await asyncio.sleep(0)  # the loads' first steps start threads and a process: before anybody waits for us
        try:
            await self._listen()
            await self._announce()
            self.hub.start()
            if self.config.http.enabled:
                self.ports["http"] = await self._http.start(0 if self._free_ports else self.config.http.port)
        except ConfigError:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop in the reverse order of the start."""
        await self._http.stop()
        for announcement in self._announcements:
            await announcement.stop()
        await self.hub.stop()
        await self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in self.engines.slots:
            await slot.close()
        await self.engines.chat.engine.close()
        for responder in self._stages.responders:
            await responder.close()
        for worker in self._workers.values():
            worker.close()

    async def ready(self) -> list[SatelliteError]:
        """Wait until every engine is loaded and warmed up, or has failed to load; return the failures."""
        await self._loaded.wait()
        return [slot.failure for slot in self.engines.slots if slot.failure is not None]

    @property
    def words(self) -> str:
        """How it is, in one line."""
        return in_one_line(self.engines, self.hub.described(), ready=self._status.ready)

    @property
    def threads(self) -> Mapping[str, Worker]:
        """The engines' threads by name, for whoever watches whether one hangs."""
        return self._workers

    async def apply(self, config: Config) -> list[str]:
        """Take what of `config` can be had without a restart, and return the keys that need one.

        Rooms that did not change stay connected. Raises `ConfigError` when it cannot be used; all is as before then.
        """
        self.config, left = merge(self.config, config)
        self._stages.configure(self.config)
        tell_of_rooms(self._stages.responders, self.config)
        await self.hub.apply(self.config.rooms, self.config.hub)
        return left

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
                wanted = 0 if self._free_ports else port
                self.ports[name] = await self._server.listen(wyoming.host, wanted, self._handler(stages))
        if self.host is not None and self.config.home_assistant_satellite.enabled:
            wanted = 0 if self._free_ports else self.config.home_assistant_satellite.port
            service = SatelliteService(self.host, self._stages, self.config)
            self.ports["satellite_port"] = await self._server.listen(wyoming.host, wanted, service.serve)
        listening = ", ".join(f"{name.removesuffix('_port')} {port}" for name, port in self.ports.items())
        _LOGGER.info("listening at %s: %s", wyoming.host, listening)

    def _handler(self, stages: frozenset[Stage]) -> Handler:
        announcer = Announcer(self.hub, self._stages)
        commands = {"status": lambda _: self._status.described(), "announce": announcer.announce}

        async def serve(connection: Connection) -> None:
            await Session(connection, self._stages, self.bus, stages, commands).serve()

        return serve

    async def _announce(self) -> None:
        settings = self.config.zeroconf
        if not settings.enabled:
            return
        addresses = [settings.address] if settings.address else own_addresses(self.config.wyoming.host)
        names = {"port": settings.name or default_name(self.config.wyoming.port)}
        names["satellite_port"] = default_name(self.config.home_assistant_satellite.port)
        for port, name in names.items():
            if port in self.ports:
                self._announcements.append(Announcement(name, self.ports[port], addresses))
                await self._announcements[-1].start()

    def _build(self) -> Engines:
        """Make every engine, unloaded, each in its slot."""
        return Engines(
            chat=self._build_chat(),  # first: starting its process delays the loop less before other threads are busy
            wake=self._build_wake(),
            vad=self._build_vad(),
            transcriber=self._build_transcriber(),
            synthesizer=self._build_synthesizer(),
        )

    def _slot(self, stage: Stage, engine: Any, load: Callable[[], Awaitable[None]], *, name: str = "") -> Slot[Any]:
        slot: Slot[Any] = Slot(stage, engine, name=name)
        self._loads.append((slot, load))
        return slot

    def _build_wake(self) -> tuple[Slot[Any], ...]:
        from satellite.engines.microwakeword import MicroWakeWordEngine
        from satellite.engines.openwakeword import OpenWakeWordEngine

        worker = self._workers["wake"]
        spec = catalogue.find(Kind.WAKE, "openwakeword")
        open_ = OpenWakeWordEngine(self.config.wake, self.store.directory / "wake" / "openwakeword", worker)
        micro = MicroWakeWordEngine(self.config.wake, worker)

        async def load_open() -> None:
            self.store.path(spec)  # the clear error when it is missing
            await worker.run(open_.load)

        loads: dict[WakeWordEngine, Callable[[], Awaitable[None]]] = {micro: lambda: worker.run(micro.load)}
        if self.config.wake.engine == open_.program or self.store.present(spec):
            loads[open_] = load_open
        first, *others = sorted(loads, key=lambda engine: engine.program != self.config.wake.engine)
        slots = [self._slot(Stage.WAKE, first, loads[first], name=first.program)]
        for engine in others:
            if self.config.wake.custom_directory is None:
                slots.append(Slot(Stage.WAKE, engine, name=engine.program, load=loads[engine]))
            else:  # only a loaded engine knows the words in the folder
                slots.append(self._slot(Stage.WAKE, engine, loads[engine], name=engine.program))
        return tuple(slots)

    def _build_vad(self) -> Slot[Any]:
        worker = self._workers["vad"]
        vad = SileroVad(worker)
        return self._slot(Stage.STT, vad, lambda: worker.run(vad.load), name="vad")

    def _elsewhere(self, stage: Stage, uris: Sequence[str], seconds: float) -> Hosts:
        self._hosts.append(Hosts(stage, uris, seconds))
        return self._hosts[-1]

    def _build_transcriber(self) -> Slot[Any]:
        if uris := self.config.stt.uri:
            hosts = self._elsewhere(Stage.STT, uris, self.config.deadlines.stt_seconds)
            return self._slot(Stage.STT, RemoteTranscriber(hosts, self.config.stt), hosts.load)
        from satellite.engines.stt import WhisperTranscriber

        worker = self._workers["stt"]
        spec = catalogue.find(Kind.STT, self.config.stt.model)
        transcriber = WhisperTranscriber(self.config.stt, spec, worker)
        return self._slot(Stage.STT, transcriber, lambda: worker.run(lambda: transcriber.load(self.store.path(spec))))

    def _build_synthesizer(self) -> Slot[Any]:
        if uris := self.config.tts.uri:
            hosts = self._elsewhere(Stage.TTS, uris, self.config.deadlines.tts_seconds)
            return self._slot(Stage.TTS, RemoteSynthesizer(hosts, voice=self.config.tts.voice), hosts.load)
        from satellite.engines.tts import PiperSynthesizer

        worker = self._workers["tts"]
        synthesizer = PiperSynthesizer(self.config.tts, self._voices.files, worker)

        async def load() -> None:
            await worker.run(self._voices.require_default)
            await worker.run(synthesizer.load)

        return self._slot(Stage.TTS, synthesizer, load)

    def _build_chat(self) -> Slot[Any]:
        from satellite.engines.chat.route import RouteChat

        config = self.config
        models: list[ChatModel] = []
        loads: list[Callable[[], Awaitable[None]]] = []
        for provider in config.chat.providers:
            match provider:
                case Ollama():
                    from satellite.engines.chat.ollama import OllamaChat

                    models.append(OllamaChat(provider, config.chat, config.deadlines, config.keepalive))
                case OpenAICompatible():
                    from satellite.engines.chat.openai import OpenAIChat

                    models.append(OpenAIChat(provider, config.chat, config.deadlines, config.keepalive))
                case Local():
                    model, load = self._build_local(provider)
                    models.append(model)
                    loads.append(load)

        async def load_all() -> None:
            for load in loads:
                try:
                    await load()
                except SatelliteError as error:
                    if len(models) == 1:
                        raise
                    _LOGGER.error("chat: [%s] %s; the other providers answer", error.code, error)

        return self._slot(Stage.CHAT, RouteChat(models, config.chat, config.deadlines), load_all)

    def _build_local(self, provider: Local) -> tuple[ChatModel, Callable[[], Awaitable[None]]]:
        from satellite.engines.llamacpp import LlamaCppChat

        spec = catalogue.find(Kind.CHAT, provider.model)
        model = LlamaCppChat(provider, self.config.chat, load_seconds=self.config.deadlines.load_seconds)

        async def load() -> None:
            await model.load(self.store.file(spec, ".gguf"))

        return model, load

    async def _load_all(self) -> None:
        await asyncio.gather(*(slot.load(load) for slot, load in self._loads))
        self._status.cold = await warm_up(self._stages)
        self._status.ready = True
        self._loaded.set()
        failed = [slot.stage for slot in self.engines.slots if slot.failure is not None]
        if failed:
            _LOGGER.error("serving without: %s", ", ".join(dict.fromkeys(failed)))
        else:
            _LOGGER.info("ready")

    async def _trim(self) -> None:
        """Return the memory of work that is done, once nothing is under way."""
        heavy = [self._workers["stt"], self._workers["tts"]]
        seen = returned = 0
        while True:
            await asyncio.sleep(_TRIM_SECONDS)
            before, seen = seen, sum(worker.completed for worker in heavy)
            if seen == before != returned and not any(worker.pending for worker in heavy):
                returned = seen
                await asyncio.to_thread(return_freed_memory)

    async def _refresh(self) -> None:
        """Follow what administrators put into the folders of voices and wake words."""
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            await asyncio.to_thread(self._voices.scan)
            for slot in self.engines.wake:
                if slot.ready:
                    await slot.engine.refresh()
