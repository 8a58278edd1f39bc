"""`satellite rooms adopt` and `forget`, against doubles of devices and a daemon that reads the file that they write."""

import asyncio
import base64
import io
import json
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from satellite.cli import room_list, room_names
from satellite.cli.adopt import adoption
from satellite.cli.arguments import parse
from satellite.config import loader
from satellite.config.settings import Config
from satellite.daemon import config_check
from satellite.daemon.daemon import Daemon
from satellite.daemon.serving import Reloader, ReloadRequests
from satellite.errors import ConfigError, SatelliteError
from satellite.rooms.candidates import Candidate, CandidateState
from satellite.rooms.examination import examine
from satellite.wire.browsing import DeviceKind, FoundDevice
from tests.command_line import SATELLITE, configuration, free_port, running, wait_for
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_wake_words import WakeWord
from tests.doubles.esphome_wire import NO_KEY
from tests.doubles.satellite import ScriptedSatellite
from tests.waiting import PATIENCE_SECONDS, until

NOBODY = "tcp://127.0.0.1:9"
KEY = bytes(range(32))
CONTROL_C = "\x03"


def written(folder: Path) -> Path:
    return configuration(folder, folder / "models", 10_600, "# rooms come here\n\n# the end\n")


@asynccontextmanager
async def serving(file: Path, read: Path | None = None) -> AsyncIterator[Daemon]:
    """A daemon without models that reads `file`, but claims to read another one."""
    requests = ReloadRequests(read or file)
    commands = {"reload": requests.answer}
    async with Daemon(config_check.load(file), free_ports=True, commands=commands) as daemon:
        reloader = Reloader(daemon, file, requests)
        task = daemon.background.run("reload", lambda: reloader.run(lambda: None, lambda: None))
        yield daemon
        await task.stop()


def uri_of(daemon: Daemon) -> str:
    return f"tcp://127.0.0.1:{daemon.ports['port']}"


async def rooms(file: Path, *words: str) -> int:
    return await room_list.run(parse(["--config", str(file), "rooms", *words]))


async def test_a_satellite_becomes_a_room_once_and_is_forgotten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path)
    before = file.read_text()
    async with ScriptedSatellite(name="Pi", mode="wake") as satellite, serving(file) as daemon:
        words = ("adopt", "--address", satellite.uri, "--uri", uri_of(daemon), "--room", "Kitchen", "--json")
        assert await rooms(file, *words, "--silent") == 0
        entry = f"rooms:\n  - name: Kitchen\n    uri: {satellite.uri}\n"
        assert file.read_text() == f"{before}\n{entry}"
        told = json.loads(capsys.readouterr().out)
        backup = str(tmp_path / "config.yaml.bak")
        assert told | {"message": ""} == {
            "room": "Kitchen",
            "uri": satellite.uri,
            "config": str(file),
            "backup": backup,
            "key_file": None,
            "state": "connected",
            "message": "",
            "heard": False,
        }
        assert [room.state for room in daemon.house.hub.status()] == ["connected"]
        with pytest.raises(SatelliteError, match="is the room Kitchen already") as raised:
            await rooms(file, *words)
        assert raised.value.code == "device-ours"
        assert await rooms(file, "forget", "kitchen", "--uri", uri_of(daemon), "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"room": "kitchen", "config": str(file), "backup": backup}
        await until(lambda: not daemon.house.hub.status())
        assert file.read_text() == f"{before}\nrooms: []\n"


async def test_the_completion_knows_the_rooms_of_a_running_daemon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, other = written(tmp_path), tmp_path / "other.yaml"
    file.write_text(file.read_text() + "rooms: [{name: Kitchen, uri: 'tcp://127.0.0.1:9'}]\n")

    async def names(port: int) -> str:
        other.write_text(f"wyoming: {{host: [127.0.0.1], port: {port}}}\nrooms: [{{name: Living room}}]\n")
        assert await room_names.run(parse(["--config", str(other), "room-names"])) == 0
        return capsys.readouterr().out

    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert await names(silent.getsockname()[1]) == "Living room\n"
    monkeypatch.setattr(room_names, "_ANSWER_SECONDS", PATIENCE_SECONDS)
    async with serving(file) as daemon:
        assert await names(daemon.ports["port"]) == "Living room\nKitchen\n"


async def test_what_keeps_the_room_silent_is_said_and_it_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path)
    async with (
        ScriptedSatellite(mode="wake") as free,
        ScriptedSatellite(mode="wake", refuse=True) as held,
        serving(file) as daemon,
    ):
        words = ("adopt", "--uri", uri_of(daemon), "--yes")
        assert await rooms(file, *words, "--room", "a", "--address", free.uri) == 1
        assert "a is connected, but not heard: " in capsys.readouterr().err
        assert await rooms(file, *words, "--room", "b", "--address", held.uri) == 1
        assert "b is held: it belongs to another server" in capsys.readouterr().err
    assert [room.name for room in loader.load(file).rooms] == ["a", "b"]


async def test_without_a_daemon_the_room_is_configured_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path)
    async with ScriptedSatellite(name="Pi", mode="wake") as satellite:
        assert await rooms(file, "adopt", "--address", satellite.uri, "--uri", NOBODY, "--json") == 5
    out, err = capsys.readouterr()
    assert json.loads(out)["state"] == "written"
    assert "Pi is configured, but" in err
    assert "start it: " in err
    assert [room.name for room in loader.load(file).rooms] == ["Pi"]


async def test_of_a_device_that_is_named_only_the_rooms_name_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path)
    async with ScriptedSatellite(name="Pi", mode="wake") as satellite:
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
        assert await rooms(file, "adopt", "--address", satellite.uri, "--uri", NOBODY) == 5
    assert "Pi answers as Pi\nname of the room (Pi): " in capsys.readouterr().out
    assert [room.name for room in loader.load(file).rooms] == ["Pi"]


async def test_a_name_that_a_device_gives_itself_is_text_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path)
    async with ScriptedSatellite(name="Pi [/]\x1b[2J", mode="wake") as satellite:
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
        assert await rooms(file, "adopt", "--address", satellite.uri, "--uri", NOBODY) == 5
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert [room.name for room in loader.load(file).rooms] == ["Pi [/]\\x1b[2J"]


async def test_a_daemon_that_reads_another_file_costs_the_file_nothing(tmp_path: Path) -> None:
    file, other = written(tmp_path), tmp_path / "other.yaml"
    async with ScriptedSatellite(mode="wake") as satellite, serving(file, other) as daemon:
        with pytest.raises(ConfigError, match=f"reads {other}, not {file}.* was taken out of {file} again"):
            await rooms(file, "adopt", "--address", satellite.uri, "--uri", uri_of(daemon), "--yes")
    assert loader.load(file).rooms == ()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--address", "127.0.0.1:1"), "nothing answers.*is it switched on"),
        (("--address", "http://a"), "no address of a device"),
        (("--address", "a:x"), "no address of a device"),
        (("--key-file", "/nowhere/key", "--address", "a"), "/nowhere/key cannot be read"),
    ],
)
async def test_what_cannot_be_adopted_is_a_sentence(tmp_path: Path, words: tuple[str, ...], match: str) -> None:
    file = written(tmp_path)
    before = file.read_text()
    with pytest.raises(SatelliteError, match=match):
        await rooms(file, "adopt", "--yes", "--uri", NOBODY, *words)
    assert file.read_text() == before
    assert [one.name for one in tmp_path.iterdir()] == ["config.yaml"]


def candidate(name: str, state: CandidateState) -> Candidate:
    return Candidate(FoundDevice(DeviceKind.ESPHOME, name, ("192.0.2.1",), 6053), state, "why")


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], "no-device"),
        ([CandidateState.FREE, CandidateState.NO_KEY], "several-devices"),
        ([CandidateState.HELD, CandidateState.LOCKED], "device-held"),
        ([CandidateState.OURS], "device-ours"),
    ],
)
async def test_programs_are_told_why_no_device_is_chosen(states: list[CandidateState], code: str) -> None:
    found = [candidate(str(number), state) for number, state in enumerate(states)]
    with pytest.raises(SatelliteError) as raised:
        await adoption._chosen(found, Config(), [], Console(), asks=False)
    assert raised.value.code == code


async def test_a_program_that_was_not_asked_is_asked_once_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    async with EsphomeDevice(is_lva=True, formats=()) as device:
        found = FoundDevice(DeviceKind.ESPHOME, "pc", ("127.0.0.1",), device.port, is_program=True)
        candidates = await examine([found], {}, [])
        with pytest.raises(SatelliteError, match="--address") as raised:
            await adoption._chosen(candidates, Config(), [], Console(), asks=False)
        assert raised.value.code == "device-unknown"
        monkeypatch.setattr(sys, "stdin", io.StringIO("1\n"))
        chosen = await adoption._chosen(candidates, Config(), [], Console(), asks=True)
        assert (chosen.state, chosen.device.port) == (CandidateState.FREE, device.port)


@pytest.mark.parametrize(
    ("device", "uri"),
    [
        (FoundDevice(DeviceKind.WYOMING, "pi", ("192.0.2.1",), 10_700), "tcp://192.0.2.1:10700"),
        (FoundDevice(DeviceKind.ESPHOME, "192.0.2.1", ("192.0.2.1",), 6053), "esphome://192.0.2.1"),
        (FoundDevice(DeviceKind.ESPHOME, "nobody-has-this-name", ("192.0.2.1",), 6054), "esphome://192.0.2.1:6054"),
    ],
)
async def test_an_address_is_written_where_no_name_can_be_resolved(device: FoundDevice, uri: str) -> None:
    assert await adoption._lasting_uri(device) == uri


async def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.write_text(file.read_text() + f"rooms: [{{name: kitchen, uri: '{NOBODY}'}}]\n")
    async with ScriptedSatellite(mode="wake") as satellite:
        with pytest.raises(ConfigError, match="a room called 'Kitchen' already"):
            await rooms(file, "adopt", "--yes", "--room", "Kitchen", "--address", satellite.uri, "--uri", NOBODY)


def keys_in(folder: Path) -> dict[str, str]:
    return {one.name: one.read_text().strip() for one in folder.glob("*.key")}


@pytest.mark.parametrize("dials", [False, True])
async def test_a_device_without_a_key_is_given_one_that_nobody_sees(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, dials: bool
) -> None:
    file = written(tmp_path)
    with caplog.at_level("DEBUG"), caplog.at_level("INFO", "aioesphomeapi"):  # as `logs.set_level` has it
        async with EsphomeDevice(key=NO_KEY, dials=dials) as device, serving(file) as daemon:
            words = ("adopt", "--address", device.uri, "--uri", uri_of(daemon), "--silent", "--room", "study")
            assert await rooms(file, *words, "--yes") == 0
            (stored,) = keys_in(tmp_path).values()
            assert base64.b64decode(stored) == device.key
            (key_file,) = tmp_path.glob("*.key")
            assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
            mac = "    mac: 20:f8:3b:00:00:01\n" if dials else ""
            assert file.read_text().endswith(f"  - name: study\n    uri: {device.uri}\n    key_file: {key_file}\n{mac}")
            assert device.claimed
            with pytest.raises(SatelliteError, match="is the room study already"):
                await rooms(file, *words, "--yes")
    out, err = capfd.readouterr()
    assert f"kept in {key_file}" in out
    assert stored not in out + err + caplog.text


async def test_a_key_is_never_lost_where_the_configuration_cannot_be_written(tmp_path: Path) -> None:
    file = written(tmp_path)
    before = file.read_text()
    backup = tmp_path / "config.yaml.bak"
    async with EsphomeDevice(key=NO_KEY) as device:
        words = ("adopt", "--address", device.uri, "--uri", NOBODY, "--room", "study", "--yes")
        backup.mkdir()  # where no file can be written
        with pytest.raises(
            ConfigError, match=r"cannot be changed.*new key is kept in .*\.key, where the next"
        ) as raised:
            await rooms(file, *words)
        (name, key), *_ = keys_in(tmp_path).items()
        assert (name in str(raised.value), key in str(raised.value)) == (True, False)
        assert (base64.b64decode(key), file.read_text()) == (device.key, before)
        backup.rmdir()
        assert await rooms(file, *words) == 5
    assert keys_in(tmp_path) == {name: key}
    assert f"key_file: {tmp_path / name}" in file.read_text()


async def test_a_device_that_refuses_its_key_leaves_everything_as_it_was(tmp_path: Path) -> None:
    file = written(tmp_path)
    before = file.read_text()
    async with EsphomeDevice(key=NO_KEY, refuses_keys=True) as device:
        with pytest.raises(SatelliteError, match="restart the device"):
            await rooms(file, "adopt", "--address", device.uri, "--uri", NOBODY, "--yes")
    assert (keys_in(tmp_path), file.read_text()) == ({}, before)


@pytest.mark.parametrize("given", [True, False])
async def test_a_device_with_a_key_is_adopted_with_it(tmp_path: Path, given: bool) -> None:
    file, key_file = written(tmp_path), tmp_path / "mine"
    key = base64.b64encode(b"k" * 32).decode()
    key_file.write_text(f" {key} \n")
    async with EsphomeDevice(key=b"k" * 32) as device:
        words = ("adopt", "--address", device.uri, "--uri", NOBODY, "--room", "study", "--yes")
        if not given:
            with pytest.raises(SatelliteError, match="--key-file"):
                await rooms(file, *words)
            assert keys_in(tmp_path) == {}
            return
        assert await rooms(file, *words, "--key-file", str(key_file)) == 5
    assert keys_in(tmp_path) == {"esphome-kitchen.key": key}
    assert loader.load(file).rooms[0].model_dump()["key_file"] == tmp_path / "esphome-kitchen.key"


@pytest.mark.parametrize("words", [(), (WakeWord("okay_nabu", "Okay Nabu"),)])
async def test_a_device_that_does_not_encrypt_has_no_key_and_one_that_has_no_wake_words_is_ours(
    tmp_path: Path, words: tuple[WakeWord, ...]
) -> None:
    file = written(tmp_path)
    async with (
        EsphomeDevice(output="speaker", wake_words=words) as device,
        serving(file) as daemon,
    ):
        options = ("--address", device.uri, "--uri", uri_of(daemon), "--silent", "--yes", "--room", "hall")
        assert await rooms(file, "adopt", *options) == 0
    assert yaml.safe_load(file.read_text())["rooms"] == [
        {"name": "hall", "uri": device.uri} | ({} if words else {"wake_words": []})
    ]


async def test_a_real_daemon_speaks_in_the_new_room(tmp_path: Path, models_directory: Path) -> None:
    port = free_port()
    file = configuration(tmp_path, models_directory, port)
    with running(file) as process:
        await asyncio.to_thread(wait_for, port, process)
        async with ScriptedSatellite(name="Pi", mode="wake") as satellite:
            words = ["adopt", "--address", satellite.uri, "--room", "Kitchen", "--json"]
            result = await asyncio.create_subprocess_exec(
                *SATELLITE, "--config", str(file), "rooms", *words, stdout=asyncio.subprocess.PIPE
            )
            told = json.loads((await result.communicate())[0])
            assert (result.returncode, told["state"], told["heard"]) == (0, "connected", True)
            assert satellite.speaker.utterances
