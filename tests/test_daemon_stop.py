"""Stopping: every part is asked to, whatever becomes of the one before."""

import asyncio
from pathlib import Path

import pytest

from satellite.config.loader import parse
from satellite.daemon.daemon import Daemon
from satellite.rooms.room import LinkState
from satellite.tasks import Supervised
from tests.doubles.satellite import ScriptedSatellite
from tests.waiting import until


def daemon_of(folder: Path, more: str = "") -> Daemon:
    config = f"models: {{directory: {folder}}}\nzeroconf: {{enabled: false}}\nwyoming: {{host: 127.0.0.1}}\n{more}"
    return Daemon(parse(config), free_ports=True)


async def fails() -> None:
    raise RuntimeError("it is on fire")


async def hangs() -> None:
    await asyncio.Event().wait()


async def test_a_part_that_fails_to_stop_keeps_no_other_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satellite.daemon.daemon._STEP_SECONDS", 1.0)
    async with daemon_of(tmp_path) as daemon:
        daemon.hub.stop = fails  # type: ignore[method-assign]  # what breaks is to be a part of the daemon
        daemon.runs.stop = hangs  # type: ignore[method-assign]
    for name in ("port", "http"):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", daemon.ports[name])
    others = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert others == []
    assert "stopping the rooms has failed" in caplog.messages
    assert "stopping the record of runs takes longer than 1 s: it is abandoned" in caplog.messages


@pytest.mark.slow
async def test_a_room_that_does_not_end_holds_up_no_reload(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def deaf() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with daemon_of(tmp_path, "rooms: [{name: attic, uri: 'tcp://127.0.0.1:9'}]") as daemon:
        hub = daemon.hub
        (attic,) = hub.satellites
        await hub._tasks[attic].stop()
        hub._tasks[attic] = Supervised("room attic", deaf, daemon.background, fatal=False)
        async with ScriptedSatellite(name="kitchen", mode="wake") as kitchen:
            config = parse(f"rooms: [{{name: kitchen, uri: '{kitchen.uri}'}}]")
            await hub.apply(config.rooms)
            await until(lambda: hub.satellites[0].state is LinkState.CONNECTED)
        release.set()
    assert "room attic does not end, and is abandoned" in caplog.text


async def test_a_daemon_that_cannot_load_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    daemon = daemon_of(tmp_path)
    daemon._assembly.load = fails  # type: ignore[method-assign]
    async with daemon:
        with pytest.raises(Exception, match="its log says why"):
            await daemon.ready()
        assert daemon.background.broken.is_set()
    assert "load failed: the daemon ends" in caplog.text
