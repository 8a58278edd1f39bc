"""All engines that a configuration asks for, each in its slot, with the threads that they run in.

Only this module knows concrete engines. Heavy libraries are imported where an engine is built or loaded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from satellite.config.chat import LocalSettings, OllamaSettings, OpenAISettings, ProviderSettings
from satellite.config.settings import Config, TtsSettings
from satellite.daemon.installed_voices import VoiceFolder
from satellite.daemon.systemd import WatchedEngine
from satellite.engines.chat.failover import FailoverChat
from satellite.engines.chat.provider_status import ChatProvider
from satellite.engines.protocols import Synthesizer
from satellite.engines.remote.hosts import Hosts
from satellite.engines.remote.speech import RemoteSynthesizer, RemoteTranscriber
from satellite.engines.remote.wake import RemoteWakeWords
from satellite.engines.slot import EngineInfo, Engines, Load, Slot
from satellite.engines.vad import SileroVad
from satellite.engines.worker import Worker
from satellite.errors import ModelError, SatelliteError, Stage
from satellite.models import catalogue
from satellite.models.spec import Kind, ModelSpec
from satellite.models.store import Store
from satellite.system.process import imported, return_freed_memory
from satellite.tasks import Background

if TYPE_CHECKING:
    from satellite.engines.wake.microwakeword import MicroWakeWordEngine
    from satellite.engines.wake.openwakeword import OpenWakeWordEngine

_STREAM_QUEUE = 4096
"""Calls that may wait for an engine that is fed chunk by chunk; each stream has at most one."""

_REFRESH_SECONDS = 3.0
"""How often the folders of voices and wake words are scanned."""

_TRIM_SECONDS = 2.0
"""How long engines must be idle before freed memory is returned: the next work has to allocate it again."""

_WAKE_CONNECT_SECONDS = 3.0
"""How long one server elsewhere may take to begin to listen for wake words."""

_WAKE_CHECK_SECONDS = 2.0
"""How often each of them is checked: between detections a dead server is as silent as a live one."""


class Assembly:
    """The engines. Nothing is loaded before `load`."""

    def __init__(self, config: Config, store: Store, background: Background) -> None:
        """Build the engines of `config` with the models in `store`; `background` owns the tasks that load them."""
        self._config = config
        self._background = background
        self._store = store
        self.workers = {
            "wake": Worker(Stage.WAKE, queue_size=_STREAM_QUEUE),
            "vad": Worker(Stage.STT, name="vad", queue_size=_STREAM_QUEUE),
            "stt": Worker(Stage.STT),
            "tts": Worker(Stage.TTS, queue_size=64),
        }
        """The engines' threads."""

        self.threads: dict[str, WatchedEngine] = dict(self.workers)
        """Threads and processes whose calls may hang, by name, for the watchdog."""

        self.hosts: list[Hosts] = []
        """Servers that are asked instead of a local engine."""

        voice = TtsSettings().voice if config.tts.uri else config.tts.voice
        self._voices = VoiceFolder(store, catalogue.find(Kind.TTS, voice))
        self._prepared = asyncio.Event()
        # First: starting its process delays the loop less before other threads are busy.
        self._providers = [self._built(*one) for one in _named(config.chat.providers)]
        self.chat = FailoverChat(
            [provider.engine for provider in self._providers], config.chat, config.deadlines, background
        )
        """The chat providers, with failover."""

        self.engines = Engines(
            chat=self._chat_slot(),
            wake=self._build_wake(),
            vad=self._build_vad(),
            transcriber=self._build_transcriber(),
            synthesizer=self._build_synthesizer(),
        )

    async def prepare(self) -> None:
        """Import what all engines share."""
        # Before anything else is imported in a thread: two threads that import NumPy for the first time, through
        # different modules of it, leave it broken for the life of the process.
        await imported("numpy")
        self._prepared.set()

    async def load(self) -> None:
        """Load all engines in parallel, after `prepare`; return when each is loaded or has failed once."""
        await self._prepared.wait()
        wanted = [slot for slot in self.engines.slots if not slot.on_demand]
        for slot in wanted:
            self._keep_loading(slot)
        for slot in wanted:
            await slot.until_settled()

    async def trim(self) -> None:
        """Return freed memory to the system whenever the heavy engines have become idle, until cancelled."""
        heavy = [self.workers["stt"], self.workers["tts"]]
        seen = returned = 0
        while True:
            await asyncio.sleep(_TRIM_SECONDS)
            before, seen = seen, sum(worker.completed for worker in heavy)
            # Nothing was done for a whole interval, but something since memory was last returned.
            if seen == before != returned and not any(worker.pending for worker in heavy):
                returned = seen
                await asyncio.to_thread(return_freed_memory)

    async def refresh(self) -> None:
        """Notice voices and wake words that are added to or removed from their folders, until cancelled."""
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            await asyncio.to_thread(self._voices.scan)
            for slot in self.engines.wake:
                if slot.ready:
                    await slot.engine.refresh()

    async def _blaming_files(self, spec: ModelSpec, load: Awaitable[None]) -> None:
        """Await `load`; if it fails where a file of `spec` is damaged, raise the `ModelError` that names it."""
        try:
            await load
        except SatelliteError as error:
            try:
                await asyncio.to_thread(self._store.verify, spec)
            except ModelError as damaged:
                raise damaged from error
            raise

    def _keep_loading(self, slot: Slot[Any]) -> None:
        self._background.run(f"load {slot.name}", slot.keep_loading)

    def _build_wake(self) -> tuple[Slot[Any], ...]:
        if uris := self._config.wake.uri:
            seconds = _WAKE_CONNECT_SECONDS * len(uris)
            hosts = self._elsewhere(Stage.WAKE, uris, seconds, check_seconds=_WAKE_CHECK_SECONDS)
            return (Slot(Stage.WAKE, RemoteWakeWords(hosts, self._config.wake), load=hosts.load, info=_info_of(hosts)),)
        from satellite.engines.wake.microwakeword import MicroWakeWordEngine
        from satellite.engines.wake.openwakeword import OpenWakeWordEngine

        config, worker = self._config.wake, self.workers["wake"]
        spec = catalogue.find(Kind.WAKE, "openwakeword")
        phrases = catalogue.WAKE_WORDS["openwakeword"]
        open_ = OpenWakeWordEngine(config, self._store.directory / "wake" / "openwakeword", phrases, worker)
        micro = MicroWakeWordEngine(config, worker)

        async def load_open() -> None:
            await self._prepared.wait()
            self._store.path(spec)  # the clear error when it is missing
            await self._blaming_files(spec, worker.load(open_.load))

        async def load_micro() -> None:
            await self._prepared.wait()  # it may be loaded when it is first asked for
            await worker.load(micro.load)

        engines: list[tuple[MicroWakeWordEngine | OpenWakeWordEngine, Load, Callable[[], object] | None]] = [
            (micro, load_micro, None)
        ]
        if config.engine == open_.program or self._store.present(spec):
            engines.append((open_, load_open, partial(self._store.seen, spec)))
        engines.sort(key=lambda one: one[0].program != config.engine)
        # Only a loaded engine knows the words in a folder; without one, the second engine waits until it is asked for.
        later = self._keep_loading if config.custom_directory is None else None
        return tuple(
            Slot(
                Stage.WAKE,
                engine,
                name=engine.program,
                load=load,
                seen=seen,
                info=partial(_words_of, engine),
                on_demand=later if number else None,
            )
            for number, (engine, load, seen) in enumerate(engines)
        )

    def _build_vad(self) -> Slot[Any]:
        worker = self.workers["vad"]
        vad = SileroVad(worker)
        return Slot(Stage.STT, vad, name="vad", load=lambda: worker.load(vad.load))

    def _elsewhere(self, stage: Stage, uris: Sequence[str], seconds: float, *, check_seconds: float = 10.0) -> Hosts:
        self.hosts.append(Hosts(stage, uris, seconds, check_seconds=check_seconds))
        return self.hosts[-1]

    def _build_transcriber(self) -> Slot[Any]:
        if uris := self._config.stt.uri:
            hosts = self._elsewhere(Stage.STT, uris, self._config.deadlines.stt_seconds)
            remote = RemoteTranscriber(hosts, self._config.stt, self._config.languages)
            return Slot(Stage.STT, remote, load=hosts.load, info=_info_of(hosts, lambda: remote.model))
        from satellite.engines.stt.whisper import WhisperTranscriber

        worker = self.workers["stt"]
        spec = catalogue.find(Kind.STT, self._config.stt.model)
        measured = self._store.directory / ".parts" / f"stt--{spec.name}"
        transcriber = WhisperTranscriber(
            self._config.stt,
            worker,
            languages=spec.languages,
            window_floor_seconds=spec.window_floor_seconds,
            spoken=self._config.languages,
            measured=measured,
        )

        async def load() -> None:
            folder = await asyncio.to_thread(self._store.path, spec)  # not in the worker: the error stays the store's
            await self._blaming_files(spec, worker.load(transcriber.load, folder))

        return Slot(
            Stage.STT,
            transcriber,
            load=load,
            seen=partial(self._store.seen, spec),
            info=lambda: EngineInfo(transcriber.device, transcriber.model),
        )

    def _build_synthesizer(self) -> Slot[Any]:
        if uris := self._config.tts.uri:
            hosts = self._elsewhere(Stage.TTS, uris, self._config.deadlines.tts_seconds)
            remote = RemoteSynthesizer(hosts, self._config.tts)
            info = _info_of(hosts, lambda: _default_voice(remote))
            return Slot(Stage.TTS, remote, load=hosts.load, info=info)
        from satellite.engines.tts.synthesizer import VoiceSynthesizer

        worker = self.workers["tts"]
        voices, parts = self._voices, self._store.directory / ".parts"
        synthesizer = VoiceSynthesizer(self._config.tts, voices.files, parts, worker, voices.missing, voices.fault)

        async def load() -> None:
            await asyncio.to_thread(self._voices.require_default)
            await self._blaming_files(self._voices.default, worker.load(synthesizer.load))

        return Slot(
            Stage.TTS,
            synthesizer,
            load=load,
            seen=self._voices.seen,
            info=lambda: EngineInfo(
                synthesizer.device, _default_voice(synthesizer), unusable={**voices.unusable, **synthesizer.unusable}
            ),
        )

    def _chat_slot(self) -> Slot[Any]:
        info = partial(EngineInfo, model=self.chat.model)
        if len(self._providers) == 1:
            only = self._providers[0]
            return Slot(Stage.CHAT, self.chat, load=only.load_engine, seen=only.seen, info=info)

        async def load() -> None:
            """Begin with all; one that fails is tried again, and the others answer."""
            for provider in self._providers:
                self._keep_loading(provider)
            for provider in self._providers:
                await provider.until_settled()

        return Slot(Stage.CHAT, self.chat, load=load, info=info)

    def _built(self, provider: ProviderSettings, name: str) -> Slot[ChatProvider]:
        config = self._config
        slot = f"chat {name}"
        match provider:
            case OllamaSettings():
                from satellite.engines.chat.ollama import OllamaChat

                ollama = OllamaChat(provider, config.chat, config.deadlines, config.keepalive, name=name)
                return Slot(Stage.CHAT, ollama, name=slot, load=ollama.load)
            case OpenAISettings():
                from satellite.engines.chat.openai import OpenAIChat

                hosted = OpenAIChat(provider, config.chat, config.deadlines, config.keepalive, name=name)
                return Slot(Stage.CHAT, hosted, name=slot, load=hosted.load)
            case LocalSettings():
                return self._local(provider, name)

    def _local(self, provider: LocalSettings, name: str) -> Slot[ChatProvider]:
        from satellite.engines.chat.llama_cpp import LlamaCppChat

        spec = catalogue.find(Kind.CHAT, provider.model)
        deadlines = self._config.deadlines
        model = LlamaCppChat(
            provider,
            self._config.chat,
            load_seconds=deadlines.load_seconds,
            silence_seconds=deadlines.chat_first_token_seconds,
            name=name,
        )
        self.threads[f"chat {name}"] = model

        async def load() -> None:
            try:
                file = self._store.file(spec, ".gguf")
            except ModelError as error:
                model.report_missing(str(error))
                raise
            await self._blaming_files(spec, model.load(file))

        return Slot(Stage.CHAT, model, name=f"chat {name}", load=load, seen=partial(self._store.seen, spec))


def _words_of(engine: "MicroWakeWordEngine | OpenWakeWordEngine") -> EngineInfo:
    return EngineInfo(unusable=engine.unusable)


def _info_of(hosts: Hosts, model: Callable[[], str | None] = lambda: None) -> Callable[[], EngineInfo]:
    """Return what tells of servers that are asked instead of an engine here."""
    return lambda: EngineInfo(hosts.summary, model(), hosts.trouble)


def _default_voice(synthesizer: Synthesizer) -> str | None:
    return next((voice.name for voice in synthesizer.voices), None)


def _named(providers: Sequence[ProviderSettings]) -> list[tuple[ProviderSettings, str]]:
    """Return the providers with what each is called: a second one of the same name gets a number."""
    named: dict[str, ProviderSettings] = {}
    for provider in providers:
        name, number = provider.name if isinstance(provider, OpenAISettings) else provider.type, 1
        while (numbered := name if number == 1 else f"{name}-{number}") in named:
            number += 1
        named[numbered] = provider
    return [(provider, name) for name, provider in named.items()]
