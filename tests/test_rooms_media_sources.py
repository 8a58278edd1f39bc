"""What rooms play: every format, and every way in which a server or a file can be at fault."""

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from satellite.audio.decoder import SoundDecoder
from satellite.config.rooms import HubSettings
from satellite.errors import SatelliteError
from satellite.rooms import media_sources
from satellite.rooms.media_sources import MediaReference, MediaSources
from satellite.rooms.playback import SharedSound
from tests.media_server import FORMATS, LOUDNESS, MediaServer, media_server, sound_file
from tests.scripted_engine import assert_no_task_is_left
from tests.waiting import until


@pytest.fixture
async def server() -> AsyncIterator[MediaServer]:
    async with media_server() as one:
        yield one


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


@pytest.fixture
async def sources(directory: Path) -> AsyncIterator[MediaSources]:
    settings = HubSettings(media_directory=directory, stations={"Jazz": "http://127.0.0.1:1/jazz"})
    one = MediaSources(lambda: settings)
    yield one
    assert_no_task_is_left()
    await one.close()


async def played(sound: SharedSound) -> tuple[float, float]:
    """Return how many seconds a sound has, and its loudness."""
    pcm = b"".join([piece async for piece in sound])
    samples = np.frombuffer(pcm, np.int16).astype(float)
    return len(samples) / sound.format.rate, float(np.sqrt(np.mean(samples**2)))


async def outcome(sources: MediaSources, **reference: str | bytes) -> str:
    """Play it all; return the code of the error."""
    try:
        async with sources.opened(MediaReference(**reference)) as sound:  # type: ignore[arg-type]
            await played(sound)
    except SatelliteError as error:
        return error.code
    return "played"


@pytest.mark.parametrize("kind", FORMATS)
async def test_every_format_is_heard_by_url_file_and_upload(
    kind: str, sources: MediaSources, server: MediaServer, directory: Path
) -> None:
    (directory / f"a.{kind}").write_bytes(data := await sound_file(kind))
    for reference in (
        MediaReference(url=f"{server.url}/file.{kind}?a=b"),
        MediaReference(file=f"a.{kind}"),
        MediaReference(data=data),
    ):
        async with sources.opened(reference) as sound:
            seconds, loudness = await played(sound)
        assert seconds == pytest.approx(1, abs=0.15)
        assert loudness == pytest.approx(LOUDNESS, rel=0.1)


@pytest.mark.parametrize("path", ["icy", "joined", "moved"])
async def test_what_radios_do_is_understood(path: str, sources: MediaSources, server: MediaServer) -> None:
    assert await outcome(sources, url=f"{server.url}/{path}") == "played"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("nothing", "media-unreachable"),
        ("page", "media-unreadable"),
        ("playlist", "media-unreadable"),
        ("loop", "media-unreachable"),
        ("cut", "media-unreachable"),
    ],
)
async def test_what_a_server_does_wrong_has_its_code(
    path: str, code: str, sources: MediaSources, server: MediaServer
) -> None:
    assert await outcome(sources, url=f"{server.url}/{path}") == code


async def test_a_server_outside_the_house_reaches_nothing_in_it(
    sources: MediaSources, server: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    with pytest.raises(SatelliteError, match="redirects into the house"):
        async with sources.opened(MediaReference(url="http://radio.example/jazz")):
            pass


async def test_pictures_without_end_are_not_kept(sources: MediaSources, server: MediaServer) -> None:
    assert await outcome(sources, url=f"{server.url}/pictures") == "media-unreadable"
    assert server.sent_bytes < 40_000_000
    await server.hung_up.wait()


async def test_a_server_that_is_not_there_is_unreachable(sources: MediaSources) -> None:
    assert await outcome(sources, url="http://127.0.0.1:1/x") == "media-unreachable"
    assert await outcome(sources, station="jazz") == "media-unreachable"
    assert await outcome(sources, station="rock") == "media-not-found"


@pytest.mark.parametrize(("limit", "path"), [("_FIRST", "silent"), ("_FIRST", "drip"), ("_READ", "silent")])
async def test_a_server_that_is_slow_is_given_up(
    limit: str, path: str, sources: MediaSources, server: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_sources, f"{limit}_SECONDS", 0.2)
    assert await outcome(sources, url=f"{server.url}/{path}") == "media-timeout"


async def test_of_an_endless_stream_only_what_is_heard_is_read(sources: MediaSources, server: MediaServer) -> None:
    async with sources.opened(MediaReference(url=f"{server.url}/radio")) as sound:
        heard = 0
        async for piece in sound:
            heard += len(piece)
            if heard > 20 * 32_000:
                break
        ahead = sound._made_bytes - heard
        # 10 s ahead of whoever hears it; the rest of what was sent is in buffers of the system.
        await until(lambda: sound._made_bytes - heard > 9 * 32_000)
        assert ahead <= 12 * 32_000
        sent = server.sent_bytes
        assert sent < 32_000_000
    await server.hung_up.wait()


@pytest.mark.parametrize(
    "name", ["../secret.wav", "/etc/passwd", "link.wav", "pipe", ".", "none.wav", "a\0b", "x" * 300]
)
async def test_no_file_outside_the_folder_is_read(name: str, sources: MediaSources, directory: Path) -> None:
    (directory.parent / "secret.wav").write_bytes(await sound_file("wav"))
    (directory / "link.wav").symlink_to("../secret.wav")
    os.mkfifo(directory / "pipe")
    assert await outcome(sources, file=name) in ("media-not-found", "media-unreadable")


async def test_without_a_folder_there_are_no_files() -> None:
    assert await outcome(MediaSources(HubSettings), file="a.wav") == "media-not-found"


async def test_a_file_without_sound_and_an_empty_one_are_unreadable(sources: MediaSources, directory: Path) -> None:
    (directory / "text.wav").write_text("no sound")
    assert await outcome(sources, file="text.wav") == "media-unreadable"
    assert await outcome(sources, data=b"") == "media-unreadable"


async def test_sounds_at_once_are_limited(sources: MediaSources, server: MediaServer) -> None:
    data = await sound_file("wav", 30)
    opened = [sources.opened(MediaReference(data=data)) for _ in range(8)]
    for one in opened:
        await one.__aenter__()
    assert await outcome(sources, data=data) == "media-busy"
    for one in opened:
        await one.__aexit__(None, None, None)
    assert await outcome(sources, data=await sound_file("wav")) == "played"


async def test_a_decoder_does_not_wait_for_the_garbage_collector(sources: MediaSources, server: MediaServer) -> None:
    data = await sound_file("flac", 30)
    gc.collect()
    gc.disable()
    try:
        for reference in (MediaReference(data=data), MediaReference(url=f"{server.url}/radio")):
            async with sources.opened(reference):
                assert any(type(each) is SoundDecoder for each in gc.get_objects())
            await until(lambda: all(type(each) is not SoundDecoder for each in gc.get_objects()), 20)
        assert await outcome(sources, data=b"no sound") == "media-unreadable"
    finally:
        gc.enable()


@pytest.mark.parametrize("path", ["silent", "radio"])
async def test_cancelling_leaves_no_thread_and_no_connection(
    path: str, sources: MediaSources, server: MediaServer
) -> None:
    opened = asyncio.Event()

    async def play() -> None:
        async with sources.opened(MediaReference(url=f"{server.url}/{path}")) as sound:
            opened.set()
            async for _ in sound:
                await asyncio.sleep(3600)

    task = asyncio.create_task(play())
    if path == "radio":
        await opened.wait()
    else:
        await until(lambda: any(thread.name.startswith("media") for thread in threading.enumerate()))
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), sources._open) == (True, 0)
    if path == "radio":
        await server.hung_up.wait()
