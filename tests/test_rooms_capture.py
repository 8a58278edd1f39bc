"""A microphone that comes by itself: whoever was held up goes on with what is heard now."""

import os
import struct
import sys
import time
from pathlib import Path

import pytest

from satellite.config.host import SoundDeviceSettings
from satellite.errors import SatelliteError
from satellite.rooms.host.capture import LATE_SECONDS, Backlog, LiveSource, capture

BLOCK = 1024
"""Bytes, 32 ms."""

COUNTING = """
import struct, sys, time
told, began, count = open(sys.argv[1], "r+b", buffering=0), time.monotonic(), 0
while True:
    sys.stdout.buffer.write(struct.pack("<I", count) * 256)
    sys.stdout.flush()
    count += 1
    told.seek(0)
    told.write(struct.pack("<I", count))
    time.sleep(max(0.0, began + count * 0.032 - time.monotonic()))
"""
"""Each block holds its number; how many were written stands in a file. It records in real time, like a device."""


def test_what_is_too_old_is_dropped_oldest_first() -> None:
    now = 0.0
    backlog = Backlog(lambda: now)
    for number in range(10):
        now = number * LATE_SECONDS / 3
        backlog.put(bytes([number, 0]))
    assert [backlog.take() for _ in range(2)] == [bytes([6, 0]), bytes([7, 0])]
    assert backlog.dropped_bytes == 12
    now += LATE_SECONDS + 0.01
    assert backlog.take() is None
    assert backlog.dropped_bytes == 16


@pytest.mark.slow
async def test_a_room_that_was_held_up_hears_what_is_said_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satellite.rooms.host.capture.LATE_SECONDS", 0.5)
    told = tmp_path / "written"
    told.write_bytes(bytes(4))
    sound = capture(SoundDeviceSettings(command=(sys.executable, "-c", COUNTING, str(told))))
    held_blocks = 25

    def written() -> int:
        return int(struct.unpack("<I", told.read_bytes())[0])

    pending = b""

    async def behind() -> int:
        """Return how many blocks the next one that is heard lies behind the one that is written."""
        nonlocal pending
        while len(pending) < BLOCK:
            pending += await anext(sound)
        (number,) = struct.unpack_from("<I", pending)
        pending = pending[BLOCK:]
        return written() - int(number)

    await behind()
    for _ in range(2):
        start = written()
        while written() < start + held_blocks:
            time.sleep(0.1)  # noqa: ASYNC251  # the loop is held, as by something that blocks it
        while await behind() > held_blocks // 10:  # a paced source would stay so far behind for ever
            pass
    await sound.aclose()
    assert [record.levelname for record in caplog.records if "could not be heard in time" in record.message] == [
        "WARNING"
    ]


async def test_a_source_without_end_is_taken_in_real_time() -> None:
    source = LiveSource(os.open("/dev/zero", os.O_RDONLY), "zero", 32_000)
    began, taken = time.monotonic(), 0
    pieces = source.pieces()
    async for piece in pieces:
        taken += len(piece)
        if time.monotonic() - began > 0.4:
            break
    await pieces.aclose()
    seconds = time.monotonic() - began
    assert 0 < taken + source.backlog.dropped_bytes <= 32_000 * (1.1 * seconds + 0.1)


async def test_half_a_sample_waits_for_its_other_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satellite.rooms.host.capture._STALL_SECONDS", 1.0)
    reading, writing = os.pipe()
    source = LiveSource(reading, "odd", 32_000)
    pieces = source.pieces()
    heard = b""
    for data in (b"\x01", b"\x02\x03", b"\x04"):
        os.write(writing, data)
    while len(heard) < 4:
        piece = await anext(pieces)
        assert len(piece) % 2 == 0
        heard += piece
    assert heard == b"\x01\x02\x03\x04"
    os.close(writing)
    with pytest.raises(SatelliteError, match="odd gives no sound"):
        await anext(pieces)
