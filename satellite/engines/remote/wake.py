"""Wake words elsewhere: one or several Wyoming servers listen in place of an engine here.

Every stream is a connection of its own: `detect`, then audio for as long as somebody listens, and detections back
whenever they come. When a server fails the next one goes on, with the last moments of audio once more.
"""

import asyncio
from collections.abc import Sequence

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.wake import Detect, NotDetected
from wyoming.wake import Detection as DetectionEvent

from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL, seconds_of
from satellite.config.settings import WakeSettings
from satellite.engines.protocols import Detection, WakeStream, WakeWord
from satellite.engines.remote.hosts import Hosts, RemoteEngine
from satellite.engines.wake.common import Trigger, choose
from satellite.errors import SatelliteError, WakeWordError, shown
from satellite.tasks import begin_task
from satellite.wire.connection import Connection, Timeouts, dial
from satellite.wire.parsing import parsed

_CONNECT_SECONDS = 2.0
_WRITE_SECONDS = 3.0

_AGAIN_BYTES = 2 * BYTES_PER_SECOND
"""Audio that the next server hears once more: a wake word that was being said when the first one failed."""

_LIVED_SECONDS = 2.0
"""How long a server must have listened for its failure to be one by itself, not one more in a row."""

_LEAST_PATIENCE_SECONDS = 0.02
_MOST_PATIENCE_SECONDS = 1.0
_PATIENCE_SHARE = 0.25
"""How long audio waits for what it completes, of its length: a detection that comes with the audio that it ends in
leaves what is said behind the word whole. openWakeWord needs less than a tenth of real time."""

_END_SECONDS = 3.0
"""How long the last detection may take once the audio is over."""

_SHAPE = {"rate": CANONICAL.rate, "width": CANONICAL.width, "channels": CANONICAL.channels}


class RemoteWakeWords(RemoteEngine):
    """A `WakeWordEngine` on other machines, with their models, thresholds and triggers."""

    program = "remote"

    def __init__(self, hosts: Hosts, settings: WakeSettings) -> None:
        """Ask `hosts`."""
        super().__init__(hosts)
        self._settings = settings

    @property
    def words(self) -> Sequence[WakeWord]:
        """The words of the first server that answers; the configured ones before any has."""
        told = {
            model.name: WakeWord(model.name, model.phrase or model.description or model.name, tuple(model.languages))
            for program in self._hosts.info.wake
            for model in program.models
            if model.installed
        }
        return list(told.values()) or [WakeWord(name, name.replace("_", " "), ()) for name in self._settings.words]

    async def stream(self, names: Sequence[str] | None) -> WakeStream:
        """Begin to listen; see `WakeWordEngine`. Raises `WakeWordError` when no server answers."""
        wanted = choose(names, [word.name for word in self.words], self._settings.words)
        stream = RemoteWakeStream(self._hosts, wanted, self._settings.refractory_seconds)
        await stream.open()
        return stream

    async def refresh(self) -> None:
        """Nothing to do: the servers are looked at anyway."""


class _Link:
    """A connection to one server, and what has come over it."""

    def __init__(self, uri: str, connection: Connection) -> None:
        self.uri = uri
        self.detections: list[DetectionEvent] = []
        self.news = asyncio.Event()
        """Set when something has come, or the connection is over."""

        self.failure: SatelliteError | None = None
        """Why nothing comes any more, if so."""

        self.connection = connection
        self._reading = begin_task(self._read(), f"wake word of {uri}")

    async def _read(self) -> None:
        try:
            async for event in self.connection:
                self._take(event)
            raise SatelliteError("hung up")
        except SatelliteError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001  # the engine seam: a server may send anything
            self.failure = SatelliteError(f"sent nonsense: {error or type(error).__name__}")
        finally:
            self.news.set()

    def _take(self, event: Event) -> None:
        if DetectionEvent.is_type(event.type):
            self.detections.append(parsed(DetectionEvent.from_event, event))
            self.news.set()
        elif NotDetected.is_type(event.type):
            self.news.set()
        elif Error.is_type(event.type):
            error = parsed(Error.from_event, event)
            raise SatelliteError(shown(error.text, 200), code=shown(error.code or "internal-error"))

    def close(self) -> None:
        """Break the connection."""
        self._reading.cancel()
        self.connection.abort()


class RemoteWakeStream:
    """One listener's audio on its way to a server (`WakeStream`). One call at a time."""

    def __init__(self, hosts: Hosts, names: Sequence[str], refractory_seconds: float) -> None:
        self._hosts = hosts
        self._names = list(names)
        self._triggers = {name: Trigger(0.0, 1, refractory_seconds) for name in names}
        self._link: _Link | None = None
        self._closed = False
        self._opened_at = float("-inf")
        self._changes = 0
        self._fed_seconds = 0.0
        self._tail = b""

    async def open(self) -> None:
        """Connect to the first server that answers, and let it hear the last moments. Raises `WakeWordError`."""
        self._let_go()
        link = await self._hosts.first(self._connect)
        if self._closed:
            link.close()
            return
        self._link = link
        self._hosts.hold(link.uri, 1)
        self._opened_at = asyncio.get_running_loop().time()

    async def feed(self, pcm: bytes) -> list[Detection]:
        """Send `pcm` on, and return what has come back; see `WakeStream`. Raises `WakeWordError`."""
        if self._link is None:
            return []
        began = self._fed_seconds
        self._fed_seconds += seconds_of(pcm)
        self._tail = (self._tail + pcm)[-_AGAIN_BYTES:]
        link = self._link
        if not (link.failure or self._hosts.trouble_of(link.uri)):
            try:
                await link.connection.send(_chunk(pcm, began))
                patience = max(_LEAST_PATIENCE_SECONDS, _PATIENCE_SHARE * seconds_of(pcm))
                await self._news(link, min(patience, _MOST_PATIENCE_SECONDS))
            except (SatelliteError, ConnectionError) as error:
                self._hosts.note(link.uri, str(error))
        if self._closed:
            return []
        detections = self._taken(link)
        if not detections and (link.failure or self._hosts.trouble_of(link.uri)):
            await self._change(link)
        return detections

    async def end(self) -> list[Detection]:
        """Return what the audio had yet to complete; see `WakeStream`."""
        link = self._link
        if link is None:
            return []
        try:
            await link.connection.send(AudioStop())
        except (SatelliteError, ConnectionError) as error:
            raise WakeWordError(f"{link.uri} {error}") from error
        if not any(trigger.fired for trigger in self._triggers.values()):
            await self._news(link, _END_SECONDS)
        detections = self._taken(link)
        if link.failure is not None and not detections:
            raise WakeWordError(f"{link.uri} {link.failure}")
        return detections

    def close(self) -> None:
        """Forget the stream; may be called twice, and while it is fed."""
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
            self._hosts.hold(link.uri, -1)

    async def _connect(self, uri: str) -> _Link:
        timeouts = Timeouts(write_seconds=_WRITE_SECONDS)
        connection = await dial(uri, timeouts, connect_seconds=_CONNECT_SECONDS)
        try:
            events = [Detect(names=self._names).event(), AudioStart(**_SHAPE).event()]
            if self._tail:
                events.append(_chunk(self._tail, self._fed_seconds - seconds_of(self._tail)))
            await connection.send(*events)
        except BaseException:
            connection.abort()
            raise
        return _Link(uri, connection)

    async def _change(self, link: _Link) -> None:
        """Go on with another server, unless the fault is not the server's."""
        failure = link.failure
        if failure is not None and failure.code.startswith("wake-unknown"):
            raise WakeWordError(f"{link.uri} {failure}", kind=failure.code.removeprefix("wake-"))
        if failure is not None:
            self._hosts.note(link.uri, str(failure))
        lived_seconds = asyncio.get_running_loop().time() - self._opened_at
        self._changes = self._changes + 1 if lived_seconds < _LIVED_SECONDS else 1
        if self._changes > self._hosts.count:
            raise WakeWordError(f"the servers fail one after the other: {self._hosts.summary}")
        await self.open()

    async def _news(self, link: _Link, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await link.news.wait()
        except TimeoutError:
            return

    def _taken(self, link: _Link) -> list[Detection]:
        """Return what has come, at its place in the stream, each word once in its refractory time."""
        if link.failure is None:
            link.news.clear()
        found, link.detections = link.detections, []
        detections = []
        for event in found:
            name = event.name or self._names[0]
            seconds = self._fed_seconds if event.timestamp is None else event.timestamp / 1000
            if not 0 <= seconds <= self._fed_seconds:  # by a clock of its own
                seconds = self._fed_seconds
            trigger = self._triggers.get(name)
            if trigger is not None and trigger.feed(1.0, seconds):
                detections.append(Detection(name, seconds))
        return detections


def _chunk(pcm: bytes, began_seconds: float) -> Event:
    return AudioChunk(audio=pcm, timestamp=round(1000 * began_seconds), **_SHAPE).event()
