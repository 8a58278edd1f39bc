"""Sound to be played in rooms: files of the house, addresses such as a radio's, and uploads, decoded as they are heard.

FFmpeg decodes in threads of its own. Only what is about to be heard is read, so that a radio takes as much memory as a
doorbell, whatever its server sends.
"""

import asyncio
import io
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from satellite.audio.decoder import Readable, SoundDecoder
from satellite.audio.pcm import AudioFormat
from satellite.audio.sound_files import SUFFIXES
from satellite.config.rooms import HubSettings
from satellite.errors import ChatError, SatelliteError, shown
from satellite.net.http_client import client_settings, is_at_home, shown_url
from satellite.rooms.playback import SharedSound
from satellite.tasks import begin_task, done_for_thread, end_tasks, failure_of

_MOST_AT_ONCE = 8
"""Sources that are decoded at once, each in a thread."""

_REDIRECTS = 5
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 10.0
"""How long a server may send nothing; a radio sends all the time."""

_FIRST_SECONDS = 15.0
"""How long a source may take until its first sound."""

_PIECE_SECONDS = 0.2
_BROKEN_PIECES = 100
"""So many broken frames in a row are skipped, some seconds: a radio that is joined in the middle begins with some."""

_MOST_SOUNDLESS_BYTES = 16 * 1024 * 1024
"""How much a server may send without a sound in it, such as pictures, which FFmpeg keeps in memory."""

_CLOSE_SECONDS = 2.0

_MOST_NAMES = 500
"""Files that can be played by voice: each name is compared with what is said."""

_STATION = "station:"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MediaReference:
    """What to play: one of these."""

    url: str | None = None
    """An http or https address."""

    file: str | None = None
    """A file below `hub.media_directory`."""

    station: str | None = None
    """A name in `hub.stations`."""

    data: bytes | None = None
    """The content of a sound file."""


class MediaSources:
    """Opens what rooms play. Codes of errors: `media-not-found`, `-unreachable`, `-unreadable`, `-timeout`, `-busy`."""

    def __init__(self, settings: Callable[[], HubSettings]) -> None:
        """Find files and stations by `settings()`, which a reload may change."""
        self._settings = settings
        self._threads = ThreadPoolExecutor(_MOST_AT_ONCE, "media")
        self._open = 0

    @asynccontextmanager
    async def opened(self, reference: MediaReference) -> AsyncGenerator[SharedSound, None]:
        """Yield the sound, whose beginning is there already; it is filled until the context ends.

        Raises `SatelliteError` where it cannot be read. What fails later ends the sound with that error.
        """
        if self._open >= _MOST_AT_ONCE:
            raise SatelliteError(f"{_MOST_AT_ONCE} sounds are played already; stop one of them", code="media-busy")
        self._open += 1
        try:
            async with AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(_FIRST_SECONDS):
                        decoding = _Decoding(self._threads, await self._file(reference, stack))
                        stack.push_async_callback(decoding.close)
                        sound = SharedSound(await decoding.open())
                        sound.add(await decoding.read())
                except TimeoutError as error:
                    raise SatelliteError(f"no sound came for {_FIRST_SECONDS:g} s", code="media-timeout") from error
                filling = begin_task(sound.fill(decoding.pieces()), "decode media")
                stack.push_async_callback(end_tasks, filling)
                yield sound
        finally:
            self._open -= 1

    def names(self) -> dict[str, str]:
        """Return what `named` takes, by the names that people say: stations, and the files of the folder; blocking."""
        settings, files = self._settings(), list[Path]()
        if settings.media_directory is not None:
            with suppress(OSError):
                files = [path for path in settings.media_directory.iterdir() if path.suffix.lower() in SUFFIXES]
        by_file = {" ".join(re.split(r"[\s_-]+", path.stem)): path.name for path in sorted(files)[:_MOST_NAMES]}
        return by_file | {name: f"{_STATION}{name}" for name in settings.stations}

    def named(self, what: str) -> MediaReference:
        """Return one of `names`."""
        if what.startswith(_STATION):
            return MediaReference(station=what.removeprefix(_STATION))
        return MediaReference(file=what)

    async def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _file(self, reference: MediaReference, stack: AsyncExitStack) -> "Readable | _Download":
        settings = self._settings()
        if reference.data is not None:
            return io.BytesIO(reference.data)
        if reference.file is not None:
            return await asyncio.to_thread(_opened_file, settings.media_directory, reference.file, stack)
        url = reference.url
        if reference.station is not None:
            url = {name.casefold(): url for name, url in settings.stations.items()}.get(reference.station.casefold())
        if url is None:
            raise SatelliteError(
                f"there is no station '{shown(reference.station)}' in hub.stations", code="media-not-found"
            )
        return _Download(await stack.enter_async_context(aclosing(_downloaded(url))))


def _opened_file(directory: Path | None, name: str, stack: AsyncExitStack) -> Readable:
    """Return a file below `directory`, wherever `name` and links in it point."""
    if directory is None:
        raise SatelliteError("hub.media_directory is not set, in which files are looked up", code="media-not-found")
    root = directory.resolve()
    try:
        path = (root / name).resolve()
        if path.is_relative_to(root) and path.is_file():  # a pipe or a device would block for ever
            return stack.enter_context(path.open("rb"))
    except (OSError, ValueError) as error:
        raise SatelliteError(f"'{shown(name)}' cannot be read: {error}", code="media-unreadable") from error
    raise SatelliteError(f"there is no file '{shown(name)}' in hub.media_directory", code="media-not-found")


class _Download:
    """What a server sends, read by a thread while the event loop receives it: no sooner than FFmpeg asks for it."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self.soundless_bytes = 0
        """How much was read since the latest sound."""

        self._receiving: asyncio.Task[bytes] | None = None
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes; blocks the calling thread."""
        if not self._rest:
            self._rest = done_for_thread(self._receive(), self._loop, _CONNECT_SECONDS + _READ_SECONDS)
        piece, self._rest = self._rest[:size], self._rest[size:]
        self.soundless_bytes += len(piece)
        if self.soundless_bytes > _MOST_SOUNDLESS_BYTES:
            raise SatelliteError("it sends megabytes without a sound in them", code="media-unreadable")
        return piece

    async def end(self) -> None:
        """Receive no more: to a thread that reads, this is the end of the file."""
        self._ended = True
        if self._receiving is not None:
            await end_tasks(self._receiving)

    async def _receive(self) -> bytes:
        if self._ended:
            return b""
        self._receiving = begin_task(self._next(), "receive media")
        await asyncio.wait([self._receiving])
        return b"" if self._receiving.cancelled() else self._receiving.result()

    async def _next(self) -> bytes:
        return await anext(self._chunks, b"")


async def _downloaded(url: str) -> AsyncGenerator[bytes, None]:
    """Yield what is at `url`, as it comes."""
    import httpx

    from satellite.net.icy import icy_transport

    async def check(request: httpx.Request) -> None:
        # A server outside must not have the daemon ask devices of the house for something.
        if not is_at_home(url) and is_at_home(str(request.url)):
            raise SatelliteError(f"{shown_url(url)} redirects into the house", code="media-unreachable")

    try:
        settings = await asyncio.to_thread(client_settings, url)
        transport = icy_transport(settings["verify"]) if settings["proxy"] is None else None
        timeout = httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
        # Without `Icy-MetaData`, no server mixes titles into the sound.
        headers = {"User-Agent": "satellite", "Accept": "audio/*, */*;q=0.5", "Accept-Encoding": "identity"}
        async with (
            httpx.AsyncClient(
                transport=transport,
                follow_redirects=True,
                max_redirects=_REDIRECTS,
                timeout=timeout,
                headers=headers,
                event_hooks={"request": [check]},
                **settings,
            ) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise SatelliteError(f"{shown_url(url)} answered {response.status_code}", code="media-unreachable")
            async for chunk in response.aiter_raw():
                yield chunk
    except httpx.TimeoutException as error:
        raise SatelliteError(f"{shown_url(url)} is silent", code="media-timeout") from error
    except (httpx.HTTPError, httpx.InvalidURL, ChatError, OSError, ValueError) as error:
        reason = shown(error) or type(error).__name__
        raise SatelliteError(f"{shown_url(url)} cannot be reached: {reason}", code="media-unreachable") from error


class _Decoding:
    """One source, which one thread at a time decodes."""

    def __init__(self, threads: ThreadPoolExecutor, file: Readable | _Download) -> None:
        self._threads = threads
        self._file = file
        self._decoder: SoundDecoder | None = None
        self._call: Future[Any] | None = None

    async def open(self) -> AudioFormat:
        return await self._in_thread(self._open)

    async def read(self) -> bytes:
        """Return some tenths of a second; empty at the end."""
        piece = await self._in_thread(self._read)
        if isinstance(self._file, _Download):
            self._file.soundless_bytes = 0
        return piece

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        while piece := await self.read():
            yield piece

    async def close(self) -> None:
        """Stop decoding, and release the file once the thread has left it."""
        if isinstance(self._file, _Download):
            await self._file.end()
        if self._call is not None and not self._call.done():
            await asyncio.wait([call := asyncio.wrap_future(self._call)], timeout=_CLOSE_SECONDS)
            if call.done():
                failure_of(call)  # nobody waits for it any more
        if self._call is not None:
            self._call.add_done_callback(self._release)  # at once, or in a thread that hangs now

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._call = call = self._threads.submit(work)
        return await asyncio.wrap_future(call)

    def _open(self) -> AudioFormat:
        self._decoder = SoundDecoder(self._file, code="media-unreadable", tolerated=_BROKEN_PIECES)
        return self._decoder.format

    def _release(self, _: Future[Any]) -> None:
        if self._decoder is not None:
            self._decoder.close()

    def _read(self) -> bytes:
        assert self._decoder is not None
        most = _PIECE_SECONDS * self._decoder.format.rate * self._decoder.format.frame_bytes
        pcm = bytearray()
        while len(pcm) < most and (piece := self._decoder.read()):
            pcm += piece
        return bytes(pcm)
