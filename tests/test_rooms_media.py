"""Sound that devices fetch: who may fetch it and how often, what they get, and what becomes of those that do not."""

import asyncio
import errno
import gc
import io
import os
import resource
import socket
from collections.abc import AsyncIterator

import av
import httpx
import ifaddr
import numpy as np
import psutil
import pytest

from satellite.audio.pcm import AudioFormat
from satellite.errors import CannotListen
from satellite.net.link_local import on_link
from satellite.rooms import media_listener, media_stream
from satellite.rooms.media import Container
from satellite.rooms.media_listener import MediaListener, local_address
from tests.waiting import PATIENCE_SECONDS, until

HERE = "127.0.0.1"
FLAC = AudioFormat(48_000, 2, 1)
LOUD = 300
TONE = (np.sin(np.arange(48_000) / 10) * 8000).astype(np.int16)


@pytest.fixture
async def listener() -> AsyncIterator[MediaListener]:
    listener = MediaListener(0)
    yield listener
    await listener.close()


def client(**options: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False, **options)  # type: ignore[arg-type]


def decoded(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data), "r") as container:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])


@pytest.mark.parametrize(
    ("container", "layout"),
    [("flac", FLAC), ("flac", AudioFormat(48_000, 2, 2)), ("wav", AudioFormat(22_050, 2, 1))],
)
async def test_sound_is_fetched_whole_as_the_container_that_was_asked_for(
    listener: MediaListener, container: Container, layout: AudioFormat
) -> None:
    stream = await listener.publish(layout, container, HERE)
    await stream.write(TONE.tobytes())
    stream.end()
    async with client() as http:
        answer = await http.get(stream.url)
    assert answer.headers["content-type"] == f"audio/{container}"
    assert np.array_equal(decoded(answer.content), TONE)
    assert stream.fetched.is_set()


async def test_silence_flows_at_once_and_in_every_gap_and_delays_no_sound(listener: MediaListener) -> None:
    stream = await listener.publish(FLAC, "flac", HERE)
    received = bytearray()

    async def fetch() -> None:
        async with client() as http, http.stream("GET", stream.url) as answer:
            async for data in answer.aiter_raw():
                received.extend(data)

    fetching = asyncio.create_task(fetch())
    await until(lambda: len(received) > 600)  # the header has a hundred bytes, and silence compresses well
    await stream.write(TONE.tobytes())
    await until(lambda: len(received) > 20_000)
    sizes = len(received)
    await until(lambda: len(received) > sizes + 200)
    stream.end()
    await fetching
    heard = decoded(bytes(received))
    first = int(np.flatnonzero(np.abs(heard) > LOUD)[0]) - 1
    assert first > 0
    assert 0 < np.abs(heard[:first]).max() < LOUD, "zeros would be compressed to next to nothing"
    assert np.array_equal(heard[first : first + len(TONE)], TONE)
    assert len(heard) > first + len(TONE)


async def test_the_first_sound_leaves_after_one_small_frame(listener: MediaListener) -> None:
    stream = await listener.publish(FLAC, "flac", HERE)
    await stream.write(TONE[:960].tobytes())
    pieces = stream.pieces(lambda: True)
    assert np.array_equal(decoded(await anext(pieces) + await anext(pieces))[:960], TONE[:960])


async def test_only_the_device_that_it_is_for_may_fetch_it(listener: MediaListener) -> None:
    stream = await listener.publish(FLAC, "flac", HERE)
    stream.end()
    other = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with client() as http, client(transport=other) as stranger:
        assert (await stranger.get(stream.url)).status_code == 404
        assert (await http.get(stream.url.replace("flac", "x"))).status_code == 200  # the name says nothing
        assert (await http.get(stream.url)).status_code == 404, "once is enough"
        assert (await http.get(stream.url.rpartition("/")[0] + "/guessed.flac")).status_code == 404
        assert (await http.post(stream.url)).status_code == 404


@pytest.mark.parametrize("kept_bytes", [1_000_000, 0])
async def test_a_player_that_asks_again_misses_nothing_of_what_is_kept(
    listener: MediaListener, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(media_stream, "_KEPT_BYTES", kept_bytes)
    stream = await listener.publish(FLAC, "flac", HERE)
    await stream.write(TONE.tobytes())
    received = bytearray()
    async with client() as http:
        assert (await http.head(stream.url)).status_code == 200
        assert not stream.fetched.is_set()
        async with http.stream("GET", stream.url) as first:
            async for data in first.aiter_raw():
                received += data
                if len(received) > 20_000:
                    break
        async with http.stream("GET", stream.url) as second:
            await stream.write(TONE.tobytes())
            stream.end()
            heard = decoded(b"".join([data async for data in second.aiter_raw()]))
    assert np.array_equal(heard[:48_000] if kept_bytes else heard[-47_999:], TONE if kept_bytes else TONE[1:])
    assert (len(heard) >= 2 * len(TONE)) is bool(kept_bytes)


async def test_who_writes_waits_no_longer_for_a_player_that_is_gone(
    listener: MediaListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_listener, "_AGAIN_SECONDS", 0.01)
    stream = await listener.publish(FLAC, "flac", HERE)

    async def write() -> None:
        while True:
            await stream.write(TONE.tobytes())

    writing = asyncio.create_task(write())
    async with client() as http, http.stream("GET", stream.url):
        pass
    with pytest.raises(ConnectionError, match="stopped fetching"):
        await asyncio.wait_for(writing, PATIENCE_SECONDS)


@pytest.mark.parametrize("limit", ["_EXPIRES_SECONDS", "_MOST_PATHS"])
async def test_what_nobody_fetches_is_forgotten(
    listener: MediaListener, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(media_listener, limit, 0.01 if limit == "_EXPIRES_SECONDS" else 1)
    stream = await listener.publish(FLAC, "flac", HERE)
    await listener.publish(FLAC, "flac", HERE)
    await until(lambda: stream.over.is_set())
    async with client() as http:
        assert (await http.get(stream.url)).status_code == 404


async def test_files_are_served_by_name_until_others_take_their_place(listener: MediaListener) -> None:
    url = await listener.publish_files({"computer.json": b"{}", "computer.tflite": bytes(9)}, HERE, owner="kitchen")
    beside = await listener.publish_files({"computer.json": b"{}"}, HERE, owner="study")
    async with client() as http:
        assert (await http.get(f"{url}/computer.tflite")).content == bytes(9)
        assert (await http.get(f"{url}/../computer.json")).status_code == 404
        await listener.publish_files({"computer.json": b"{}"}, HERE, owner="kitchen")
        assert (await http.get(f"{url}/computer.json")).status_code == 404
        assert (await http.get(f"{beside}/computer.json")).status_code == 200, "another program on the same machine"


@pytest.mark.parametrize("request_", [b"nonsense\r\n\r\n", b"\0\xff" * 5000, b"GET", b"GET / HTTP/1.1\r\n\r\n"])
async def test_nonsense_costs_one_connection(
    listener: MediaListener, monkeypatch: pytest.MonkeyPatch, request_: bytes
) -> None:
    monkeypatch.setattr(media_listener, "_REQUEST_SECONDS", 0.1)
    url = await listener.publish_files({"one": b"1"}, HERE, owner="kitchen")
    port = httpx.URL(url).port
    reader, writer = await asyncio.open_connection(HERE, port)
    writer.write(request_)
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            assert (await reader.read()).startswith((b"HTTP/1.1 404", b"")[b"\r\n\r\n" not in request_])
        except ConnectionError:
            pass
    writer.close()
    monkeypatch.undo()
    async with client() as http:
        assert (await http.get(f"{url}/one")).content == b"1"


async def test_a_device_that_begins_turn_after_turn_costs_no_other_its_sound(
    listener: MediaListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_listener, "_MOST_PATHS", 4)
    stream = await listener.publish(FLAC, "flac", HERE)
    for _ in range(9):
        (await listener.publish(FLAC, "flac", "127.0.0.2")).abort()
    await stream.write(TONE.tobytes())
    stream.end()
    async with client() as http:
        assert len(decoded((await http.get(stream.url)).content)) >= len(TONE)


async def test_an_aborted_stream_leaves_no_threads_of_its_encoder(listener: MediaListener) -> None:
    before = psutil.Process().num_threads()
    for _ in range(8):
        stream = await listener.publish(FLAC, "flac", HERE)
        await stream.write(TONE.tobytes())
        assert [await anext(data) for data in [stream.pieces(lambda: True)] for _ in range(3)]
        stream.abort()
    assert psutil.Process().num_threads() < before + 8


async def test_one_machine_keeps_no_other_out(listener: MediaListener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_listener, "_MOST_CONNECTIONS", 4)
    monkeypatch.setattr(media_listener, "_MOST_OF_ONE", 2)
    url = httpx.URL(await listener.publish_files({"one": b"1"}, HERE, owner="kitchen"))
    idle = [await asyncio.open_connection(HERE, url.port, local_addr=("127.0.0.2", 0)) for _ in range(6)]
    async with client() as http:
        assert (await http.get(f"{url}/one")).content == b"1"
    for _, writer in idle:
        writer.close()


async def test_a_device_without_power_leaves_no_traceback(
    listener: MediaListener, caplog: pytest.LogCaptureFixture
) -> None:
    url = httpx.URL(await listener.publish_files({}, HERE, owner="kitchen"))
    reader, (_, writer) = asyncio.StreamReader(), await asyncio.open_connection(HERE, url.port)
    reader.set_exception(OSError(errno.EHOSTUNREACH, "No route to host"))  # what the kernel reports in the end
    listener._accept(reader, writer)
    await until(lambda: not any(task.get_name() == "media" for task in asyncio.all_tasks()))
    gc.collect()
    assert not caplog.records


def test_without_file_descriptors_there_is_no_address() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(CannotListen, match="Too many open files"):
            local_address(HERE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_the_address_is_that_by_which_the_device_is_reached(listener: MediaListener) -> None:
    assert [local_address(peer) for peer in ("127.0.0.5", "::1")] == ["127.0.0.1", "::1"]
    assert httpx.URL(await listener.publish_files({}, "::1", owner="kitchen")).host == "::1"
    named = await listener.publish_files({}, HERE, owner="kitchen", host="satellite.example")
    assert httpx.URL(named).host == "satellite.example"


def link(name: str, index: int, *addresses: str) -> ifaddr.Adapter:
    ips = [ifaddr.IP((ip, 0, index) if ":" in ip else ip, int(prefix), name) for ip, _, prefix in
           (address.partition("/") for address in addresses)]  # fmt: skip
    return ifaddr.Adapter(name, name, ips, index)


@pytest.mark.parametrize(
    ("peer", "here"),
    [
        ("fe80::5%eth0", "192.0.2.9/24"),
        ("fe80::5%2", "192.0.2.9/24"),
        ("fe80::5%wlan0", "2001:db8::9/64"),
        ("fe80::5%eth1", None),
        ("fe80::5%gone", None),
        ("fe80::5", None),  # on which of the links?
    ],
)
async def test_who_has_a_link_local_address_is_told_another_one_on_its_link(
    listener: MediaListener, monkeypatch: pytest.MonkeyPatch, peer: str, here: str | None
) -> None:
    links = [
        link("lo", 1, "127.0.0.1/8", "::1/128"),
        link("eth0", 2, "fe80::1/64", "fd00::9/64", "192.0.2.9/24"),
        link("wlan0", 3, "fe80::1/64", "2001:db8::9/128"),
        link("eth1", 4, "fe80::1/64"),
    ]
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: links)
    assert str(on_link(peer)) == str(here)
    if here is None:
        with pytest.raises(CannotListen, match=f"address {peer} reaches this machine: no other address .* media_host"):
            await listener.publish_files({}, peer, owner="kitchen")
    del links[2:]
    assert str(on_link("fe80::5")) == "192.0.2.9/24"


async def test_one_port_serves_devices_with_an_address_of_their_own_and_without() -> None:
    with socket.create_server((HERE, 0)) as free:
        port = free.getsockname()[1]
    listener = MediaListener(port)
    try:
        urls = [f"{await listener.publish_files({'one': b'1'}, f'127.0.0.{number}', owner=str(number), host=host)}/one"
                for number, host in ((1, None), (2, "localhost"), (3, None))]  # fmt: skip
        for number, url in enumerate(urls, 1):
            async with client(transport=httpx.AsyncHTTPTransport(local_address=f"127.0.0.{number}")) as http:
                assert (await http.get(httpx.URL(url, host=HERE))).content == b"1"
    finally:
        await listener.close()


async def test_a_device_on_this_machine_may_be_reached_by_the_machines_name(listener: MediaListener) -> None:
    url = await listener.publish_files({"one": b"1"}, "127.0.1.1", owner="kitchen")
    async with client() as http:
        assert (await http.get(f"{url}/one")).content == b"1"


@pytest.mark.virtual_clock
async def test_a_piece_that_is_late_by_less_than_what_is_played_is_not_torn_off(listener: MediaListener) -> None:
    stream = await listener.publish(FLAC, "flac", HERE)
    await stream.write(TONE[:4800].tobytes())
    received = bytearray()

    async def fetch() -> None:
        async for data in stream.pieces(lambda: True):
            received.extend(data)

    fetching = asyncio.create_task(fetch())
    await asyncio.sleep(0.05)
    await stream.write(TONE[4800:].tobytes())
    stream.end()
    await fetching
    assert np.array_equal(decoded(bytes(received)), TONE)
