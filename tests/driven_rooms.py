"""What tests of rooms share: things said, satellites that are driven, what was heard."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from wyoming.event import Event, Eventable

from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL, AudioFormat, Converter, read_wav
from satellite.config.rooms import WyomingRoomSettings
from satellite.daemon.daemon import Daemon
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.device import RoomContext
from satellite.rooms.hub import Hub
from satellite.rooms.room import LinkState
from satellite.wire import client
from satellite.wire.connection import Connection
from tests.doubles.satellite import ScriptedSatellite
from tests.running_daemon import DATA, RunningDaemon
from tests.waiting import until

NABU = read_wav(DATA / "wake" / "okay_nabu.wav")
PAUSE = bytes(BYTES_PER_SECOND // 2)
QUESTION = "What is the capital of France?"
"""What the fixture `question` says."""


class NotedConnection(Connection):
    """A connection to a satellite that notes what it is sent, and when."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, Event]] = []

    async def send(self, *events: Event | Eventable) -> None:
        now = asyncio.get_running_loop().time()
        self.sent += [(now, event if isinstance(event, Event) else event.event()) for event in events]

    def abort(self) -> None:
        pass


async def spoken(daemon: RunningDaemon, text: str, *, quiet_seconds: float = 2) -> bytes:
    """Return `text` as a person in a room says it, and silence, in canonical audio."""
    heard = await client.say(daemon.uri, text)
    assert heard.format is not None
    converter = Converter(heard.format)
    return converter.convert(bytes(heard.pcm)) + converter.flush() + bytes(round(quiet_seconds * BYTES_PER_SECOND))


def hub_of(daemon: Daemon, *rooms: WyomingRoomSettings, window_seconds: float = 0.3) -> Hub:
    return Hub(rooms, RoomContext(daemon._stages, daemon.bus, Arbiter(window_seconds)))


@asynccontextmanager
async def rooms(daemon: RunningDaemon, *satellites: ScriptedSatellite, **settings: Any) -> AsyncIterator[Hub]:
    """Drive `satellites`, each a room of its name."""
    configured = tuple(WyomingRoomSettings(name=one.name, uri=one.uri, **settings) for one in satellites)
    hub = hub_of(daemon.daemon, *configured)
    hub.start()
    try:
        for link in hub.satellites:
            await until(lambda link=link: link.state is not LinkState.CONNECTING)  # type: ignore[misc]
        yield hub
    finally:
        await hub.stop()


@contextmanager
def added_rooms(daemon: RunningDaemon, *satellites: ScriptedSatellite, off: tuple[str, ...] = ()) -> Iterator[None]:
    """Let the daemon itself drive `satellites`, and dial rooms called `off` in vain; for tests outside its loop."""
    stack = AsyncExitStack()

    async def begin() -> None:
        for satellite in satellites:
            await stack.enter_async_context(satellite)
        hub = await stack.enter_async_context(rooms(daemon, *satellites))
        absent = hub_of(daemon.daemon, *(WyomingRoomSettings(name=name, uri="tcp://127.0.0.1:1") for name in off))
        absent.start()
        stack.push_async_callback(absent.stop)
        daemon.daemon.house.hub._others.extend([*hub.satellites, *absent.satellites])
        stack.callback(daemon.daemon.house.hub._others.clear)

    try:
        daemon.call(begin())
        yield
    finally:
        daemon.call(stack.aclose())


async def ask(satellite: ScriptedSatellite, question: bytes) -> str:
    """Call the room and ask; return what was understood, or the code of the error."""
    if satellite.mode == "wake":
        await satellite.wake()
        await satellite.say(question)
    else:
        await satellite.say(NABU + PAUSE + question)
        await satellite.until("detection")
    outcome = (await satellite.until("transcript", "error")).data
    return str(outcome.get("code", outcome["text"]))


async def understood(daemon: RunningDaemon, satellite: ScriptedSatellite) -> str:
    utterance = satellite.speaker.utterances[-1]
    return await transcribed(daemon, bytes(utterance.pcm), utterance.formats[0])


async def transcribed(daemon: RunningDaemon, pcm: bytes, layout: AudioFormat = CANONICAL) -> str:
    converter = Converter(layout)
    canonical = converter.convert(pcm) + converter.flush()
    return (await daemon.daemon._stages.transcribe_pcm(canonical)).text
