"""The rooms part from beginning to end: how many satellites are switched on for which measurement."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from satellite.audio.pcm import CANONICAL, read_wav, write_wav
from satellite.errors import SatelliteError
from satellite_bench import own, rooms, synthetic
from satellite_bench.rooms import RoomsResult, Sounds
from satellite_bench.rooms_adopting import adoption
from satellite_bench.rooms_again import listening_again
from satellite_bench.rooms_esphome import turns
from satellite_bench.rooms_house import ESPHOME, Home, House
from satellite_bench.server import Server
from satellite_bench.splicing import speech_bounds
from satellite_bench.stats import Compared

_WAKE_PHRASE = "Okay nabu."
_QUESTIONS = (
    "What is the capital of France?",
    "Who wrote Romeo and Juliet?",
    "How far away is the moon?",
    "How do you say thank you in Italian?",
    "What is the boiling point of water?",
    "Why is the sky blue?",
    "How long should I boil an egg?",
    "What can I cook with rice and tomatoes?",
)
_TOGETHER = 8

_DETECTION_REPEATS = 10
_BARGE_IN_REPEATS = 5
_ANSWER_REPEATS = 3
_ADOPTION_REPEATS = 5
_DESCRIBE_REPEATS = 200


@dataclass(frozen=True, slots=True)
class RoomsPlan:
    """How many rooms, and for how long."""

    counts: Sequence[int] = (1, 10, 50)
    rest_seconds: float = 20.0


class RoomsBench:
    """Measures one thing after the other; what cannot be measured is noted, and the rest goes on."""

    def __init__(
        self, plan: RoomsPlan, home: Home, sounds: Sounds, *, repeats: int | None, on_status: Callable[[str], None]
    ) -> None:
        """Measure as planned; `repeats` replaces all numbers of repeats."""
        self._plan = plan
        self._home = home
        self._sounds = sounds
        self._repeats = repeats
        self._on_status = on_status
        self._result = RoomsResult()

    async def measure(self) -> RoomsResult:
        """Return what was found. One daemon hears more and more rooms, so that what grows is theirs."""
        counts = sorted(self._plan.counts)
        self._on_status("rooms: starting a daemon")
        with self._noted():
            async with self._home.running(counts[-1]) as (daemon, house):
                await self._rest(daemon, 0)
                on = 0
                for count in counts:
                    self._on_status(f"rooms: {count} streaming")
                    await house.switch_on(range(on, count))
                    on = count
                    await self._rest(daemon, count)
                    await self._with_rooms(house, count, first=count == counts[0], last=count == counts[-1])
        with self._noted():
            await self._esphome(counts)
        return self._result

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except (SatelliteError, OSError) as error:
            self._result.failures.append(f"rooms: {error}")

    def _progress(self, what: str) -> Callable[[int, int], None]:
        self._on_status(f"rooms: {what}")
        return lambda done, of: self._on_status(f"rooms: {what}: {done} of {of}")

    async def _rest(self, daemon: Server, count: int) -> None:
        """Measure the cost of silent rooms, and then how soon the daemon answers."""
        with self._noted():
            self._result.rest.append(await rooms.at_rest(daemon, count, self._plan.rest_seconds))
        with self._noted():
            found = await rooms.describes(daemon, repeats=self._repeats or _DESCRIBE_REPEATS)
            before = self._result.describe_ms
            self._result.describe_ms = Compared(found, (before.theirs or before.ours) if before else None)
            self._result.streaming = count

    async def _with_rooms(self, house: House, count: int, *, first: bool, last: bool) -> None:
        if first:
            with self._noted():
                await self._barge_in(house)
        if first or last:
            with self._noted():
                await self._detections(house, count)
        if count > 1 and not self._result.answers_ms:
            with self._noted():
                await self._answers(house, min(_TOGETHER, count))

    async def _esphome(self, counts: Sequence[int]) -> None:
        """Measure the same with ESPHome devices, as far as they differ."""
        self._on_status("rooms: starting a daemon for ESPHome devices")
        async with self._home.running(counts[-1], ESPHOME) as (daemon, house):
            await asyncio.sleep(self._plan.rest_seconds)  # some of its work begins seconds after it is ready
            for before, count in zip((0, 0, *counts), (0, *counts), strict=False):
                self._on_status(f"rooms: {count} ESPHome devices")
                if count:
                    await house.switch_on(range(before, count))
                with self._noted():
                    self._result.esphome_rest.append(await rooms.at_rest(daemon, count, self._plan.rest_seconds))
            # Afterwards, since what the daemon keeps of its answers would be taken for the rooms'.
            repeats, together = self._repeats or _ANSWER_REPEATS, min(_TOGETHER, counts[-1])
            progress = self._progress("ESPHome devices ask")
            with self._noted():
                found = await turns(house, self._sounds, together, repeats=repeats, on_progress=progress)
                self._result.esphome, failures = found
                self._result.failures += failures
            self._on_status("rooms: a new ESPHome device is adopted")
            with self._noted():
                repeats = self._repeats or _ADOPTION_REPEATS
                config = own.config_file(self._home.folder, daemon.port)
                self._result.adoption_seconds = await adoption(house, config, repeats=repeats)

    async def _detections(self, house: House, count: int) -> None:
        progress = self._progress(f"the wake word, {count} streaming")
        found, back_ms = await rooms.detections(
            house, self._sounds, count, repeats=self._repeats or _DETECTION_REPEATS, on_progress=progress
        )
        self._result.detections.append(found)
        self._result.reconnection_ms = self._result.reconnection_ms or back_ms

    async def _barge_in(self, house: House) -> None:
        progress = self._progress("the wake word during an answer")
        async with listening_again(self._home.models) as heard_at:
            self._result.barge_in = await rooms.barge_in(
                house, self._sounds, heard_at, repeats=self._repeats or _BARGE_IN_REPEATS, on_progress=progress
            )

    async def _answers(self, house: House, together: int) -> None:
        progress = self._progress(f"{together} rooms at once, and alone")
        self._result.answers_ms, failures = await rooms.answers(
            house, self._sounds, together, repeats=self._repeats or _ANSWER_REPEATS, on_progress=progress
        )
        self._result.together = together
        self._result.failures += failures


def cached_sounds(folder: Path, voice: Path) -> Sounds:
    """Return what is said, spoken by the voice in the .onnx file once, and cut where the speech ends; blocks."""
    phrases = (_WAKE_PHRASE, *_QUESTIONS)
    corpus = synthetic.cached_corpus(folder / "rooms", voice, phrases)
    cut = folder / "rooms" / f"cut-{voice.stem}-{len(phrases)}"
    cut.mkdir(exist_ok=True)
    files: list[Path] = []
    for clip in corpus.clips:
        _, end = speech_bounds(np.frombuffer(clip.pcm, np.int16))
        file = cut / f"{clip.name}.wav"
        pcm = clip.pcm[: int(end * CANONICAL.rate) * CANONICAL.width]
        if not file.is_file() or len(read_wav(file)) != len(pcm):
            write_wav(file, pcm, CANONICAL)
        files.append(file)
    return Sounds(files[0], files[1:])
