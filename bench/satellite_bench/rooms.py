"""The rooms: their cost while nobody speaks, and how fast the daemon reacts to speech.

All times are between events that the satellites send and receive, so that the network's part is in them.
"""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from satellite.errors import SatelliteError
from satellite_bench import memory
from satellite_bench.memory import Memory, cpu_seconds
from satellite_bench.rooms_house import House
from satellite_bench.server import Server, described
from satellite_bench.stats import Compared, Summary, summarise

_DESCRIBE_REST_SECONDS = 0.02

_LONG_ANSWER = -1
"""The question whose answer lasts: the last one."""

HeardAt = Callable[[Sequence[bytes], Sequence[float]], Awaitable[float]]
"""Returns when the wake word in chunks of sound that were sent at these times can have been known first."""


@dataclass(frozen=True, slots=True)
class Sounds:
    """What is said in the rooms, as WAV files that end where the speech ends."""

    wake_word: Path
    questions: Sequence[Path]

    def request(self, what: str, rooms: Sequence[int], questions: Sequence[int]) -> dict[str, Any]:
        """Return the request to say the wake word, and one question each, in some rooms at once."""
        named = [str(self.questions[number % len(self.questions)]) for number in questions]
        return {"do": what, "rooms": list(rooms), "wake_word": str(self.wake_word), "questions": named}


@dataclass(frozen=True, slots=True)
class RestFigures:
    """A daemon that hears rooms in which nobody speaks."""

    rooms: int
    seconds: float
    cpu_percent: float
    """Of a core."""

    memory: Memory


@dataclass(frozen=True, slots=True)
class Detections:
    """The wake word, said in one room that has just been connected, while so many stream."""

    rooms: int
    after_word_ms: Summary
    """From the end of the word's sound being sent to `detection`; below 0 where it was known before."""

    after_decision_ms: Summary
    """From the last of the sound that decided it being sent to `detection`."""


@dataclass(frozen=True, slots=True)
class BargeIn:
    """The wake word in the middle of an answer."""

    after_word_ms: Summary
    """From the end of the word's sound being sent to `audio-stop`."""

    after_decision_ms: Summary
    """From the first sound that can have decided it being sent to `audio-stop`: at most so long."""

    last_chunk_ms: Summary
    """From there to the last chunk of the answer; below 0 where none came any more."""


@dataclass(frozen=True, slots=True)
class EsphomeFigures:
    """Turns of ESPHome devices whose media player fetches the answer."""

    taken_ms: Summary
    """From the device's request to begin, and with it its first audio, to the reply that takes it."""

    fetch_ms: Summary
    """From the end of the question to the device's request for the answer."""

    sound_ms: Summary
    """From the end of the question to the first byte of sound."""

    after_clause_ms: Summary
    """From the event that says that the first sound is made to its first byte at the device."""

    together: int
    """Rooms that asked at once."""

    together_ms: Summary
    """From the end of the question to the first byte of sound in these."""


@dataclass(slots=True)
class RoomsResult:
    """What was found; what could not be measured is missing, and named in `failures`."""

    DESCRIBED: ClassVar = ("costs_of_a_room",)

    rest: list[RestFigures] = field(default_factory=list)
    esphome_rest: list[RestFigures] = field(default_factory=list)
    """The same with ESPHome devices, which detect wake words themselves."""

    detections: list[Detections] = field(default_factory=list)
    reconnection_ms: Summary | None = None
    """From the cut to `detect`: the wake word is listened for again."""

    barge_in: BargeIn | None = None
    together: int = 0
    """Rooms that asked at once."""

    answers_ms: Compared | None = None
    """From the end of the question to the first sound: ours is all rooms at once, theirs one room alone."""

    esphome: EsphomeFigures | None = None
    adoption_seconds: Summary | None = None
    """From `satellite rooms adopt` to the first sound in the new room."""

    describe_ms: Compared | None = None
    """`describe` on a connection of its own: ours is while all rooms stream, theirs without a room."""

    streaming: int = 0
    """Rooms that streamed meanwhile."""

    failures: list[str] = field(default_factory=list)

    @property
    def costs_of_a_room(self) -> list[tuple[float, float] | None]:
        """What `cost_of_a_room` returns for each of `rest` and `esphome_rest`."""
        return [self.cost_of_a_room(rest) for rest in (*self.rest, *self.esphome_rest)]

    def cost_of_a_room(self, rest: RestFigures) -> tuple[float, float] | None:
        """Return percent of a core and MiB of RSS that each room adds to a daemon without any; None if unknown."""
        without = next((rests[0] for rests in (self.rest, self.esphome_rest) if rest in rests), rest)
        if without.rooms or not rest.rooms:
            return None
        more = rest.memory.rss_mib - without.memory.rss_mib
        return (rest.cpu_percent - without.cpu_percent) / rest.rooms, more / rest.rooms


async def at_rest(daemon: Server, rooms: int, seconds: float) -> RestFigures:
    """Measure the daemon while its rooms are silent."""
    began, before = time.monotonic(), cpu_seconds(daemon)
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    cpu_percent = 100 * (cpu_seconds(daemon) - before) / took
    return RestFigures(rooms, took, cpu_percent, await asyncio.to_thread(memory.of, daemon))


async def detections(
    house: House, sounds: Sounds, rooms: int, *, repeats: int, on_progress: Callable[[int, int], None]
) -> tuple[Detections, Summary]:
    """Cut a room off, let it come back, and call there; return the detections and what coming back took."""
    asked: list[dict[str, Any]] = []
    back_ms: list[float] = []
    for number in range(repeats):
        on_progress(number, repeats)
        room = number % rooms
        (cut,) = await house.do({"do": "cut", "rooms": [room]})
        back_ms.append(1000 * (cut["listening_at"] - cut["cut_at"]))
        asked += await house.do(sounds.request("ask", [room], [number]))
    heard = [one for one in asked if one["decided_at"] is not None]
    if not heard:
        raise SatelliteError("no wake word could be traced to its sound", code="bench-rooms")
    found = Detections(
        rooms,
        summarise([1000 * (one["detection_at"] - one["called_at"]) for one in asked]),
        summarise([1000 * (one["detection_at"] - one["decided_at"]) for one in heard]),
    )
    return found, summarise(back_ms)


async def barge_in(
    house: House, sounds: Sounds, heard_at: HeardAt, *, repeats: int, on_progress: Callable[[int, int], None]
) -> BargeIn:
    """Call in the middle of answers; `heard_at` returns when the wake word can have been known.

    An answer that is too short to be interrupted is left out; raises `SatelliteError` when all are.
    """
    done: list[dict[str, Any]] = []
    decided: list[float] = []
    for number in range(repeats):
        on_progress(number, repeats)
        try:
            (one,) = await house.do(sounds.request("interrupt", [0], [_LONG_ANSWER]))
        except SatelliteError:
            if number == repeats - 1 and not done:
                raise
            continue
        done.append(one)
        decided.append(await heard_at([base64.b64decode(sound) for sound in one["sound"]], one["sent_at"]))
    return BargeIn(
        summarise([1000 * (one["stopped_at"] - one["called_at"]) for one in done]),
        summarise([1000 * (one["stopped_at"] - at) for one, at in zip(done, decided, strict=True)]),
        summarise([1000 * (one["last_chunk_at"] - at) for one, at in zip(done, decided, strict=True)]),
    )


async def asked(
    house: House, sounds: Sounds, together: int, repeats: int, on_progress: Callable[[int, int], None]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what a house tells of the same questions in one room after the other, and in so many rooms at once."""
    everyone = range(together)
    alone: list[dict[str, Any]] = []
    at_once: list[dict[str, Any]] = []
    for number in range(repeats):
        for room in everyone:
            on_progress(number * together + room, repeats * together)
            alone += await house.do(sounds.request("ask", [room], [room]))
        at_once += await house.do(sounds.request("ask", everyone, everyone))
    return alone, at_once


async def answers(
    house: House, sounds: Sounds, together: int, *, repeats: int, on_progress: Callable[[int, int], None]
) -> tuple[Compared, list[str]]:
    """Ask the same questions in one room after the other, and in so many rooms at once; return what went wrong too."""
    alone, at_once = await asked(house, sounds, together, repeats, on_progress)
    failures = [f"rooms: no answer: {one['text']}" for one in (*alone, *at_once) if one["failed"]]
    try:
        return Compared(
            *(summarise([_waited(one) for one in side if not one["failed"]]) for side in (at_once, alone))
        ), failures
    except ValueError:
        raise SatelliteError("\n".join(failures[:4]), code="bench-rooms") from None


def _waited(asked: dict[str, Any]) -> float:
    return 1000 * float(asked["sound_at"] - asked["asked_at"])


async def describes(daemon: Server, *, repeats: int) -> Summary:
    """Ask the daemon what it is, again and again."""
    took_ms: list[float] = []
    for _ in range(repeats):
        began = time.monotonic()
        await described(daemon.port)
        took_ms.append(1000 * (time.monotonic() - began))
        await asyncio.sleep(_DESCRIBE_REST_SECONDS)
    return summarise(took_ms)
