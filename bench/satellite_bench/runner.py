"""One run from beginning to end: servers up, parts measured, servers down."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from wyoming.asr import Transcript

from satellite.audio.corpus import Clip, Corpus, read_corpus
from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from satellite.config.settings import cpu_threads
from satellite.errors import SatelliteError
from satellite.models import demo_set
from satellite.models.spec import Kind
from satellite.models.store import Store
from satellite_bench import endpoint, hearing, http, memory, microvad, own, rivals, stt, synthetic, tts, wake
from satellite_bench.chat_run import ChatBench, ChatPlan
from satellite_bench.chat_servers import Daemons
from satellite_bench.conditions import CONDITIONS, Condition
from satellite_bench.contest import Pair
from satellite_bench.machine import this_machine
from satellite_bench.report import Report
from satellite_bench.rooms import RoomsResult
from satellite_bench.rooms_house import Home
from satellite_bench.rooms_run import RoomsBench, RoomsPlan, cached_sounds
from satellite_bench.server import Server, connected, receive, started
from satellite_bench.speaking import SpeakingBench, SpeakingResult
from satellite_bench.splicing import WhisperWords
from satellite_bench.voice import VoiceResult
from satellite_bench.voice_run import RivalPythons, VoiceBench, VoicePlan
from satellite_bench.wake import WakeResult

_BESIDE_RIVALS = ("hearing", "stt", "tts", "memory")
"""Parts that share a daemon, and the official servers beside it."""

_OVER_A_CORPUS = ("voice", *_BESIDE_RIVALS, "endpoint")

_STT_REPEATS = 3
_TTS_REPEATS = 10
_WAKE_REPEATS = 3
_WORK_ROUNDS = 3
_SHOWN_SECONDS = 30.0
"""From one line about the progress to the next, where there is no terminal."""

_QUESTION = "What is the capital of France?"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    parts: Sequence[str]
    corpus: Path | None = None
    """Folder of recordings; None is the synthetic corpus."""

    realtime: bool = False
    """Send the corpus a second time at a microphone's pace."""

    repeats: int | None = None
    """How often everything is measured; None is three times a clip, ten times a reply, and as chat needs it."""

    conditions: Sequence[Condition] = CONDITIONS
    """Under which hearing is measured."""

    rivals: bool = True
    """Measure the official servers too."""

    chat: ChatPlan = field(default_factory=ChatPlan)
    rooms: RoomsPlan = field(default_factory=RoomsPlan)
    voice: VoicePlan = field(default_factory=VoicePlan)
    answer_seconds: float = endpoint.ANSWER_SECONDS
    """How long after a pause an answer has its first sound, for which the end of a command waits."""

    def any_of(self, *parts: str) -> bool:
        """Whether any of some parts is measured."""
        return any(part in parts for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Servers:
    ours: Server
    stt: Server | None = None
    tts: Server | None = None

    async def memory(self) -> memory.MemoryState:
        """Return what all of them hold at rest."""
        held = await memory.at_rest(server for server in (self.ours, self.stt, self.tts) if server)
        return memory.MemoryState(held.pop(self.ours.name), held)


class Runner:
    """Measures as planned; what cannot be measured is noted in the report, and the rest goes on."""

    def __init__(self, plan: Plan, store: Store, cache: Path, console: Console) -> None:
        self._plan = plan
        self._store = store
        self._cache = cache
        self._console = console
        self._threads = cpu_threads(0)

    async def run(self) -> Report:
        """Return what was found; raises `SatelliteError` when nothing could be measured."""
        plan = self._plan
        official = plan.rivals and plan.any_of("voice", "speaking", *_BESIDE_RIVALS)
        python = await asyncio.to_thread(self._official) if official else None
        report = Report(
            began=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=this_machine(),
            threads=self._threads,
            load_at_start=os.getloadavg(),
            our_versions=own.versions(),
            their_versions=rivals.versions(python) if python else {},
        )
        with TemporaryDirectory(prefix="satellite-bench-") as folder:
            corpus = await self._corpus(Path(folder)) if plan.any_of(*_OVER_A_CORPUS) else None
            await self._parts(python, corpus, Path(folder), report)
        report.load_at_end = os.getloadavg()
        return report

    async def _parts(self, python: Path | None, corpus: Corpus | None, folder: Path, report: Report) -> None:
        plan = self._plan
        if corpus and "voice" in plan.parts:
            with _noted(report):
                report.voice = await self._measure_voice(corpus, python, folder)
        if corpus and plan.any_of(*_BESIDE_RIVALS):
            async with self._running(python, folder) as servers:
                first = await self._first_memory(servers, corpus)
                await self._measure(servers, corpus, first, folder, report, python)
        if "speaking" in plan.parts:
            with _noted(report):
                report.speaking = await self._measure_speaking(python, folder)
        if "wake" in plan.parts:
            with _noted(report):
                report.wake = await self._measure_wake()
        if "chat" in plan.parts:
            await self._measure_chat(folder, report)
        if corpus and "endpoint" in plan.parts:
            with _noted(report):
                report.endpoint = await self._measure_endpoint(corpus, report)
        if "rooms" in plan.parts:
            with _noted(report):
                report.rooms = await self._measure_rooms(folder)
        if "http" in plan.parts:
            with _noted(report), self._status("http"):
                models = self._store.directory
                report.http = await http.measure(folder, models, self._threads, repeats=plan.repeats)

    def _official(self) -> Path:
        with self._status("installing the official servers (once)"):
            return rivals.environment(self._cache)

    async def _corpus(self, folder: Path) -> Corpus:
        if self._plan.corpus:
            return await asyncio.to_thread(read_corpus, self._plan.corpus)
        with self._status("speaking the synthetic corpus (once)"):
            if self._language == "en":
                return await asyncio.to_thread(synthetic.cached_corpus, self._cache, self._voice(), synthetic.PHRASES)
            return await self._foreign_corpus(folder)

    async def _foreign_corpus(self, folder: Path) -> Corpus:
        """Return the corpus that the daemon's own voice says, since Piper has no other voice in a package index."""
        voice, phrases = own.demo_model(self._language, Kind.TTS).name, synthetic.FRENCH_PHRASES
        if (corpus := synthetic.kept(self._cache, voice, phrases)) is not None:
            return corpus
        models = self._store.directory
        async with started(own.daemon(folder, models, self._threads, chat=False, language=self._language)) as server:
            spoken = [(await tts.synthesize(server.port, text, streaming=False)).canonical for text in phrases]
        return await asyncio.to_thread(synthetic.keep, self._cache, voice, phrases, spoken)

    @property
    def _language(self) -> str:
        return self._plan.voice.language

    def _chosen(self, corpus: Corpus) -> Sequence[Clip]:
        return self._plan.voice.chosen(corpus, synthetic=self._plan.corpus is None)

    def _voice(self) -> Path:
        return self._store.file(demo_set.JOE, ".onnx")

    @asynccontextmanager
    async def _running(self, python: Path | None, folder: Path) -> AsyncIterator[_Servers]:
        """Keep all servers running, ours with every model loaded."""
        async with AsyncExitStack() as stack:
            with self._status("starting the servers"):
                daemon = own.daemon(folder, self._store.directory, self._threads)
                ours = await stack.enter_async_context(started(daemon))
                await ask(ours)
                if python is None:
                    servers = _Servers(ours)
                else:
                    whisper = rivals.speech_to_text(python, self._whisper(), self._threads)
                    piper = rivals.text_to_speech(python, self._voice())
                    servers = _Servers(
                        ours,
                        await stack.enter_async_context(started(whisper)),
                        await stack.enter_async_context(started(piper)),
                    )
            yield servers

    async def _first_memory(self, servers: _Servers, corpus: Corpus) -> memory.MemoryState | None:
        """Return what the servers hold after one request of every kind."""
        if "memory" not in self._plan.parts:
            return None
        await _work(servers, corpus, rounds=1)
        return await servers.memory()

    async def _measure(
        self,
        servers: _Servers,
        corpus: Corpus,
        first: memory.MemoryState | None,
        folder: Path,
        report: Report,
        python: Path | None,
    ) -> None:
        if "hearing" in self._plan.parts:
            with _noted(report):
                report.hearing = await self._measure_hearing(servers.ours, corpus, python)
        if "stt" in self._plan.parts:
            for realtime in (False, True) if self._plan.realtime else (False,):
                with _noted(report):
                    report.stt.append(await self._measure_stt(servers, corpus, realtime))
        if "tts" in self._plan.parts:
            for streaming in (False, True):
                with _noted(report):
                    report.tts.append(await self._measure_tts(servers, streaming))
        if first:
            with _noted(report):
                report.memory = await self._measure_memory(servers, corpus, first, folder)

    async def _measure_hearing(self, ours: Server, corpus: Corpus, python: Path | None) -> hearing.HearingResult:
        clips = self._chosen(corpus)
        async with AsyncExitStack() as stack:
            theirs = None
            if python is not None:
                command = rivals.speech_to_text(python, self._whisper(), self._threads, has_own_defaults=True)
                theirs = await stack.enter_async_context(started(command))
            with self._progress("hearing, conditions") as progress:
                return await hearing.measure(Pair(ours, theirs), corpus.name, clips, self._plan.conditions, progress)

    async def _measure_speaking(self, python: Path | None, folder: Path) -> SpeakingResult:
        with self._status("speaking") as status:
            bench = SpeakingBench(
                folder, self._store, self._threads, python, lambda voice: status(f"speaking: {voice}")
            )
            return await bench.measure(self._plan.voice.limit)

    async def _measure_stt(self, servers: _Servers, corpus: Corpus, realtime: bool) -> stt.SttResult:
        repeats = 1 if realtime else self._plan.repeats or _STT_REPEATS
        with self._progress("speech to text" + (" in real time" if realtime else "")) as progress:
            pair = Pair(servers.ours, servers.stt)
            return await stt.measure(pair, corpus, realtime=realtime, repeats=repeats, on_progress=progress)

    async def _measure_tts(self, servers: _Servers, streaming: bool) -> tts.TtsResult:
        repeats = self._plan.repeats or _TTS_REPEATS
        with self._progress("text to speech, " + ("streamed" if streaming else "whole text")) as progress:
            pair = Pair(servers.ours, servers.tts)
            return await tts.measure(pair, streaming=streaming, repeats=repeats, on_progress=progress)

    async def _measure_memory(
        self, servers: _Servers, corpus: Corpus, first: memory.MemoryState, folder: Path
    ) -> memory.MemoryResult:
        """Read the memory of servers that have all done the same work, whatever was measured before."""
        with self._status("memory"):
            await _work(servers, corpus, rounds=_WORK_ROUNDS)
            worked = await servers.memory()
            command = own.daemon(folder, self._store.directory, self._threads, chat=False)
            async with started(command) as without_chat:
                alone = _Servers(without_chat)
                await _work(alone, corpus, rounds=_WORK_ROUNDS)
                return memory.MemoryResult(first, worked, (await alone.memory()).ours)

    async def _measure_chat(self, folder: Path, report: Report) -> None:
        daemons = Daemons(folder, self._store.directory, self._threads)
        gguf = self._store.file(demo_set.SMOLLM2, ".gguf")
        with self._status("chat") as status:
            bench = ChatBench(self._plan.chat, daemons, gguf, repeats=self._plan.repeats, on_status=status)
            report.chat = await bench.measure()

    async def _measure_voice(self, corpus: Corpus, python: Path | None, folder: Path) -> VoiceResult:
        with self._status("voice") as status:
            pythons = None
            if python:
                status("voice: installing microVAD (once)")
                vad = await asyncio.to_thread(rivals.environment, self._cache, "microvad", microvad.REQUIREMENTS)
                pythons = RivalPythons(python, vad)
            sounds = await asyncio.to_thread(cached_sounds, self._cache, self._voice())
            wake_word = read_wav(sounds.wake_word)
            bench = VoiceBench(folder, self._store, self._threads, pythons, status, wake_word, self._language)
            model = self._store.path(own.demo_model(self._language, Kind.STT))
            words = await asyncio.to_thread(WhisperWords, model, self._threads)
            return await bench.measure(corpus.name, self._chosen(corpus), words)

    def _whisper(self) -> Path:
        return self._store.path(demo_set.TINY_EN)

    async def _measure_wake(self) -> WakeResult:
        with self._status("wake word") as status:
            rival: Path | None = None
            if self._plan.rivals:
                status("wake word: installing pyopen-wakeword (once)")
                rival = await asyncio.to_thread(rivals.environment, self._cache, "wake", wake.REQUIREMENTS)
            sounds = await asyncio.to_thread(cached_sounds, self._cache, self._voice())
            pcm = read_wav(sounds.wake_word) + bytes(BYTES_PER_SECOND)
            models = self._store.directory / "wake" / "openwakeword"
            repeats = self._plan.repeats or _WAKE_REPEATS
            return await wake.measure(models, pcm, rival, repeats=repeats, on_status=status)

    async def _measure_endpoint(self, corpus: Corpus, report: Report) -> endpoint.EndpointResult:
        rival: Path | None = None
        with self._status("endpoint") as status:
            if self._plan.rivals:
                status("endpoint: installing microVAD (once)")
                with _noted(report):
                    rival = await asyncio.to_thread(rivals.environment, self._cache, "microvad", microvad.REQUIREMENTS)
            words = await asyncio.to_thread(WhisperWords, self._whisper(), self._threads)
            understand = await asyncio.to_thread(
                endpoint.our_understanding, self._whisper(), demo_set.TINY_EN, self._threads
            )
            return await endpoint.measure(
                corpus,
                words,
                understand,
                rival,
                answer_seconds=self._plan.answer_seconds,
                on_progress=lambda what: status(f"endpoint: {what}"),
            )

    async def _measure_rooms(self, folder: Path) -> RoomsResult:
        with self._status("rooms") as status:
            sounds = await asyncio.to_thread(cached_sounds, self._cache, self._voice())
            home = Home(folder, self._store.directory, self._threads)
            bench = RoomsBench(self._plan.rooms, home, sounds, repeats=self._plan.repeats, on_status=status)
            return await bench.measure()

    @contextmanager
    def _progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        with self._status(what) as status:
            yield lambda done, of: status(f"{what}: {done} of {of}")

    @contextmanager
    def _status(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show on a terminal all that is done; elsewhere, such as in a log, how far it is, twice a minute."""
        if self._console.is_terminal:
            with self._console.status(what) as status:
                yield status.update
            return
        shown_at = 0.0

        def show(text: str) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at >= _SHOWN_SECONDS:
                shown_at = time.monotonic()
                self._console.print(text, markup=False, highlight=False)

        show(what)
        yield show


@contextmanager
def _noted(report: Report) -> Iterator[None]:
    """Turn an error of one part into a note, so that the other parts are still measured."""
    try:
        yield
    except (SatelliteError, OSError) as error:
        report.problems.append(str(error))


async def _work(servers: _Servers, corpus: Corpus, rounds: int) -> None:
    """Let every server transcribe the longest clip and speak every reply in both forms, `rounds` times."""
    for _ in range(rounds):
        for server in {servers.ours, servers.stt or servers.ours}:
            await stt.transcribe(server.port, corpus.longest.pcm)
        for server in {servers.ours, servers.tts or servers.ours}:
            for text in tts.REPLIES.values():
                for streaming in (False, True):
                    await tts.synthesize(server.port, text, streaming=streaming)


async def ask(server: Server) -> str:
    """Return the chat model's answer to a question: then all of the daemon's models are loaded."""
    async with asyncio.timeout(120), connected(server.port) as client:
        await client.write_event(Transcript(text=_QUESTION).event())
        while (event := await receive(client)).type != "handled":
            pass
    return str(event.data.get("text", ""))
