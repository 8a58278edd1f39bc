"""The voice part from beginning to end: processes, recordings, and the order of the commands."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from satellite.audio.corpus import Clip, Corpus
from satellite.engines.chat.ollama_client import GREETING
from satellite.errors import SatelliteError
from satellite.models import demo_set
from satellite.models.spec import Kind
from satellite.models.store import Store
from satellite_bench import chat_servers, microvad, own, rivals
from satellite_bench.chat_bare import Bare
from satellite_bench.server import started
from satellite_bench.splicing import Spliced, Words, spliced
from satellite_bench.voice import Turn, VoiceFigures, VoiceResult
from satellite_bench.voice_rival import HomeAssistant
from satellite_bench.voice_room import VoiceRoom
from satellite_bench.voice_streaming import REPAIRED_MS, StreamingBench

_SEED = 20_26
_REST_SECONDS = 0.5
"""Between two commands: what the last one left running must not slow the next."""

_SYNTHETIC_LIMIT = 20

Side = Callable[[Spliced], Awaitable[Turn]]
"""Plays a recording and returns its turn."""


@dataclass(frozen=True, slots=True)
class RivalPythons:
    """Environments with the official servers, and with microVAD."""

    official: Path
    microvad: Path


@dataclass(frozen=True, slots=True)
class VoicePlan:
    """How many recordings."""

    limit: int | None = None
    """None takes all of a folder, and 20 of the synthetic ones."""

    language: str = "en"
    """What is said and answered, with its demo models; the official Piper reads it with its English voice."""

    def chosen(self, corpus: Corpus, *, synthetic: bool) -> Sequence[Clip]:
        """Return the recordings to be played, from all over the corpus; those without words are left out."""
        spoken = [clip for clip in corpus.clips if clip.words]
        limit = self.limit or (_SYNTHETIC_LIMIT if synthetic else len(spoken))
        count = min(limit, len(spoken))
        return [spoken[number * len(spoken) // count] for number in range(count)]


class VoiceBench:
    """Plays recordings to our daemon, and to the official servers as Home Assistant would."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        threads: int,
        pythons: RivalPythons | None,
        on_status: Callable[[str], None],
        wake_word: bytes,
        language: str = "en",
    ) -> None:
        """Without `pythons` ours alone is measured; `wake_word` is how somebody says "okay nabu"."""
        self._folder = folder
        self._store = store
        self._threads = threads
        self._pythons = pythons
        self._on_status = on_status
        self._language = language
        self._streaming = StreamingBench(folder, store.directory, threads, wake_word, on_status, language)
        self._asked = 0

    async def measure(self, corpus: str, clips: Sequence[Clip], words: Words) -> VoiceResult:
        """Play every clip as it is to both sides in turn, then those with pauses in them to ours.

        What goes wrong with a command belongs to its figures; what goes wrong with a server ends the measurement, and
        what was found until then is returned.
        """
        if not clips:
            raise SatelliteError("no recording has any words", code="bench-corpus")
        recordings = await self._recordings(clips, words)
        plain = [recording for recording in recordings if not recording.pauses_ms]
        paused = [recording for recording in recordings if recording.pauses_ms]
        result = VoiceResult(corpus, theirs=VoiceFigures() if self._pythons else None)
        self._on_status("voice: starting the servers")
        try:
            async with AsyncExitStack() as stack:
                url = await stack.enter_async_context(self._chat_server())
                chat = chat_servers.asking_ollama(url) | {"history_tokens": 0}  # each command by itself, on both sides
                room = await stack.enter_async_context(self._room(chat))
                sides: list[tuple[VoiceFigures, Side]] = [(result.ours, partial(room.turn, answered=True))]
                if result.theirs:
                    sides.append((result.theirs, (await stack.enter_async_context(self._rival(chat))).turn))
                await self._plain(plain, sides, url)
                await self._spliced(paused, room, result.ours)
            async with self._chat_server() as url:
                chat = chat_servers.asking_ollama(url) | {"history_tokens": 0}
                result.streaming = await self._streaming.measure(
                    chat, plain, await asyncio.to_thread(self._repaired, clips, words)
                )
            if self._pythons and result.theirs:
                self._on_status("voice: microVAD over the spliced recordings")
                await _rival_spliced(self._pythons.microvad, paused, result.theirs)
        except (SatelliteError, OSError, httpx.HTTPError) as error:
            result.failures.append(f"voice: {error}")
        return result

    def _repaired(self, clips: Sequence[Clip], words: Words) -> list[Spliced]:
        """Return recordings with a pause, of each length as many."""
        chance = np.random.default_rng(_SEED)
        found = [spliced(clip, words, chance, REPAIRED_MS) for clip in clips]
        single = [[one for one in several if len(one.pauses_ms) == 1] for several in found]
        return [several[number % len(several)] for number, several in enumerate(single) if several]

    async def _recordings(self, clips: Sequence[Clip], words: Words) -> list[Spliced]:
        chance = np.random.default_rng(_SEED)
        found: list[Spliced] = []
        for number, clip in enumerate(clips, 1):
            self._on_status(f"voice: words of {number} of {len(clips)} clips")
            found += await asyncio.to_thread(spliced, clip, words, chance)
        return [one for one in found if len(one.pauses_ms) < 2]

    def _chat_server(self) -> AbstractAsyncContextManager[str]:
        """Run a stand-in with a real model on as many threads as there are cores, as Ollama does."""
        threads = str(self._threads)
        words = ("--gguf", str(self._store.file(demo_set.SMOLLM2, ".gguf")), "--threads", threads)
        return chat_servers.stand_in("ollama", *chat_servers.like_ollama(*words))

    @asynccontextmanager
    async def _room(self, chat: dict[str, Any]) -> AsyncIterator[VoiceRoom]:
        """Run a room and the daemon that has dialled it."""
        async with VoiceRoom(name="bench") as room:
            settings: dict[str, Any] = {
                "rooms": [{"name": "bench", "uri": room.uri, "follow_up": "never"}],
                "commands": {"enabled": False},  # every command goes all the way
                "chat": chat,
            }
            command = own.daemon(
                self._folder, self._store.directory, self._threads, language=self._language, settings=settings
            )
            async with started(command) as server:
                await chat_servers.ready(server)
                await room.claimed_again()
                yield room

    @asynccontextmanager
    async def _rival(self, chat: dict[str, Any]) -> AsyncIterator[HomeAssistant]:
        assert self._pythons is not None
        model = self._store.path(own.demo_model(self._language, Kind.STT))
        whisper = rivals.speech_to_text(self._pythons.official, model, self._threads)
        piper = rivals.text_to_speech(self._pythons.official, self._store.file(demo_set.JOE, ".onnx"))
        async with (
            started(whisper) as stt,
            started(piper) as tts,
            microvad.listening(self._pythons.microvad) as vad,
            Bare(chat) as bare,
        ):
            yield HomeAssistant(stt, tts, bare, vad, self._language)

    async def _plain(self, recordings: Sequence[Spliced], sides: Sequence[tuple[VoiceFigures, Side]], url: str) -> None:
        """Play each recording to both sides, the order swapped with every recording; the first also uncounted."""
        for number, recording in enumerate([recordings[0], *recordings]):
            self._on_status(f"voice: {number} of {len(recordings)} commands")
            for figures, turn in sides[:: 1 if number % 2 else -1]:
                await asyncio.sleep(_REST_SECONDS)
                played = await turn(recording)
                asked = await self._questions(url)
                if number:
                    figures.turns.append(played)
                    figures.questions += asked

    async def _questions(self, url: str) -> int:
        """Return how many questions the chat server was asked since the last time."""
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            asked: list[str] = (await http.get("/stand-in/asked")).json()["asked"]
        questions = sum(text != GREETING.content for text in asked)
        new, self._asked = questions - self._asked, questions
        return new

    async def _spliced(self, recordings: Sequence[Spliced], room: VoiceRoom, ours: VoiceFigures) -> None:
        for number, recording in enumerate(recordings):
            self._on_status(f"voice: {number} of {len(recordings)} commands with pauses")
            await asyncio.sleep(_REST_SECONDS)
            turn = await room.turn(recording, answered=False)
            ours.spliced[recording.pauses_ms[0]].append(turn.cut)


async def _rival_spliced(python: Path, recordings: Sequence[Spliced], theirs: VoiceFigures) -> None:
    """Judge Home Assistant's cuts by the clock of the audio: its rules know no other, and nothing need be played."""
    found = await asyncio.to_thread(microvad.probabilities, python, [one.pcm for one in recordings])
    for recording, speech in zip(recordings, found, strict=True):
        end = microvad.ends_at(speech, microvad.SILENCES["default"])
        theirs.spliced[recording.pauses_ms[0]].append(end is None or end < recording.speech_end_seconds)
