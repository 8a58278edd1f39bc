"""Wake word detection by Wyoming servers on other machines.

Each stream has its own connection: `detect`, then audio as long as the stream is open; detections come back at any
time. If a server fails, the next one continues, and gets the last two seconds of audio again.
"""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.wake import Detect, NotDetected
from wyoming.wake import Detection as DetectionEvent

from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL, seconds_of
from satellite.config.settings import WakeSettings
from satellite.engines.protocols import Detection, WakeStream, WakeWord
from satellite.engines.remote.hosts import Host, Hosts
from satellite.engines.wake.common import Trigger, choose
from satellite.errors import SatelliteError, WakeWordError, shown
from satellite.tasks import begin_task
from satellite.wire.connection import Connection, Timeouts, dial
from satellite.wire.parsing import parsed

_CONNECT_SECONDS = 2.0
_WRITE_SECONDS = 3.0

_REPEATED_BYTES = 2 * BYTES_PER_SECOND
"""Audio that the next server gets again: a wake word may have been under way when the first one failed."""

_STABLE_SECONDS = 2.0
"""A failure after so long starts a new series of failures."""

_MIN_WAIT_SECONDS = 0.02
_MAX_WAIT_SECONDS = 1.0
_WAIT_SHARE = 0.25
"""How long to wait for a detection after sending audio, as a share of its length. A detection that arrives with the
audio it ends in leaves the command after the word complete. openWakeWord needs less than a tenth of real time."""

_END_SECONDS = 3.0
"""How long the last detection may take after the end of the audio."""

_SHAPE = {"rate": CANONICAL.rate, "width": CANONICAL.width, "channels": CANONICAL.channels}


class RemoteWakeWords:
    """A `WakeWordEngine` on other machines, with their models, thresholds and triggers."""

    program = "remote"

    def __init__(self, hosts: Hosts, settings: WakeSettings) -> None:
        self._hosts = hosts
        self._settings = settings

    @property
    def words(self) -> Sequence[WakeWord]:
        """The words of the first server that answers; the configured ones until one has answered."""
        found = {
            model.name: WakeWord(model.name, model.phrase or model.description or model.name, tuple(model.languages))
            for program in self._hosts.info.wake
            for model in program.models
            if model.installed
        }
        return list(found.values()) or [WakeWord(name, name.replace("_", " "), ()) for name in self._settings.words]

    async def stream(self, names: Sequence[str] | None) -> WakeStream:
        """Start a stream; see `WakeWordEngine`. Raises `WakeWordError` if no server answers."""
        wanted = choose(names, [word.name for word in self.words], self._settings.words, {})
        stream = RemoteWakeStream(self._hosts, wanted, self._settings.refractory_seconds)
        await stream.open()
        return stream

    async def refresh(self) -> None:
        """Do nothing: `Hosts.watch` keeps the list of words current."""


class _Link:
    """A connection to one server, and the detections received over it."""

    def __init__(self, host: Host, connection: Connection) -> None:
        self.host = host
        self.connection = connection
        self.detections: list[DetectionEvent] = []
        self.received = asyncio.Event()
        """Set when a detection has come, or the connection has ended."""

        self.failure: SatelliteError | None = None
        """Why the connection has ended."""

        host.requests += 1
        self._reading = begin_task(self._read(), f"wake word of {host.uri}")

    @property
    def usable(self) -> bool:
        """Whether audio can still be sent."""
        return self.failure is None and not self.host.trouble

    async def _read(self) -> None:
        try:
            async for event in self.connection:
                self._handle(event)
            self.failure = SatelliteError("hung up")
        except SatelliteError as error:
            self.failure = error
        finally:
            self.received.set()

    def _handle(self, event: Event) -> None:
        if DetectionEvent.is_type(event.type):
            self.detections.append(parsed(DetectionEvent.from_event, event))
            self.received.set()
        elif NotDetected.is_type(event.type):
            self.received.set()
        elif Error.is_type(event.type):
            error = parsed(Error.from_event, event)
            raise SatelliteError(shown(error.text, 200), code=shown(error.code or "internal-error"))

    def close(self) -> None:
        """Cut the connection."""
        self.host.requests -= 1
        self._reading.cancel()
        self.connection.abort()


class RemoteWakeStream:
    """One listener's audio, sent to a server (`WakeStream`). One call at a time."""

    def __init__(self, hosts: Hosts, names: Sequence[str], refractory_seconds: float) -> None:
        self._hosts = hosts
        self._names = list(names)
        self._triggers = {name: Trigger(0.0, 1, refractory_seconds) for name in names}
        self._link: _Link | None = None
        self._closed = False
        self._opened_at = float("-inf")
        self._failures = 0
        self._fed_seconds = 0.0
        self._tail = b""

    async def open(self) -> None:
        """Connect to the first server that answers and send it the last seconds again. Raises `WakeWordError`."""
        self._disconnect()
        link = await self._hosts.first(self._connect)
        if self._closed:  # while it was connecting
            link.close()
            return
        self._link = link
        self._opened_at = asyncio.get_running_loop().time()

    async def feed(self, pcm: bytes) -> list[Detection]:
        """Send `pcm` and return the detections received; see `WakeStream`. Raises `WakeWordError`."""
        link = self._link
        if link is None:
            return []
        began = self._fed_seconds
        self._fed_seconds += seconds_of(pcm)
        self._tail = (self._tail + pcm)[-_REPEATED_BYTES:]
        if link.usable:
            try:
                await link.connection.send(_chunk(pcm, began))
                wait_seconds = max(_MIN_WAIT_SECONDS, _WAIT_SHARE * seconds_of(pcm))
                await self._wait(link, min(wait_seconds, _MAX_WAIT_SECONDS))
            except (SatelliteError, ConnectionError) as error:
                self._hosts.note(link.host, str(error))
        if self._closed:  # while it was waiting
            return []
        detections = self._detections(link)
        if not detections and not link.usable:
            await self._switch(link)
        return detections

    async def end(self) -> list[Detection]:
        """Return the detections that are still to come; see `WakeStream`. Raises `WakeWordError`."""
        link = self._link
        if link is None:
            return []
        try:
            await link.connection.send(AudioStop())
        except (SatelliteError, ConnectionError) as error:
            raise WakeWordError(f"{link.host.uri} {error}") from error
        if not any(trigger.fired for trigger in self._triggers.values()):
            await self._wait(link, _END_SECONDS)
        detections = self._detections(link)
        if link.failure is not None and not detections:
            raise WakeWordError(f"{link.host.uri} {link.failure}")
        return detections

    def close(self) -> None:
        """Close the stream; may be called twice, and during `feed`."""
        self._closed = True
        self._disconnect()

    def _disconnect(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None

    async def _connect(self, host: Host) -> _Link:
        timeouts = Timeouts(write_seconds=_WRITE_SECONDS)
        connection = await dial(host.uri, timeouts, connect_seconds=_CONNECT_SECONDS)
        with ExitStack() as stack:
            stack.callback(connection.abort)  # also if this is cancelled, which `first` does at the end of its time
            events = [Detect(names=self._names).event(), AudioStart(**_SHAPE).event()]
            if self._tail:
                events.append(_chunk(self._tail, self._fed_seconds - seconds_of(self._tail)))
            await connection.send(*events)
            stack.pop_all()
        return _Link(host, connection)

    async def _switch(self, link: _Link) -> None:
        """Continue with another server; raises `WakeWordError` if that would not help."""
        failure = link.failure
        if failure is not None and failure.code.startswith("wake-unknown"):
            raise WakeWordError(f"{link.host.uri} {failure}", kind=failure.code.removeprefix("wake-"))
        if failure is not None:
            self._hosts.note(link.host, str(failure))
        # Servers may answer `describe` and fail on every `detect`: without a limit they would be tried for ever.
        open_seconds = asyncio.get_running_loop().time() - self._opened_at
        self._failures = self._failures + 1 if open_seconds < _STABLE_SECONDS else 1
        if self._failures > self._hosts.count:
            raise WakeWordError(f"all servers fail: {self._hosts.summary}")
        await self.open()

    async def _wait(self, link: _Link, seconds: float) -> None:
        """Wait until something is received, `seconds` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await link.received.wait()

    def _detections(self, link: _Link) -> list[Detection]:
        """Return the detections received, each at its place in the stream, each word once in its refractory time."""
        if link.failure is None:
            link.received.clear()
        found, link.detections = link.detections, []
        detections = []
        for event in found:
            name = event.name or self._names[0]
            seconds = self._fed_seconds
            # Some servers count from a start of their own. Compared undivided: no float holds a huge number.
            if event.timestamp is not None and 0 <= event.timestamp <= 1000 * self._fed_seconds:
                seconds = event.timestamp / 1000
            trigger = self._triggers.get(name)
            if trigger is not None and trigger.feed(1.0, seconds):
                detections.append(Detection(name, seconds))
        return detections


def _chunk(pcm: bytes, began_seconds: float) -> Event:
    return AudioChunk(audio=pcm, timestamp=round(1000 * began_seconds), **_SHAPE).event()
