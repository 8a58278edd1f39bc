"""The dialogue of `satellite rooms adopt`: in a terminal, without one, and where nothing can be done."""

import asyncio
import base64
import os
import pty
import select
import shlex
import signal
import sys
import termios
from collections.abc import Collection
from pathlib import Path

import pytest

from satellite.config import loader
from tests.command_line import SATELLITE
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_wire import NO_KEY
from tests.doubles.satellite import ScriptedSatellite
from tests.test_rooms_adopt import KEY, NOBODY, keys_in, written
from tests.waiting import until

CONTROL_C = "\x03"


async def in_terminal(words: list[str], *keys: tuple[str, str], unseen: Collection[str] = ()) -> tuple[int, str]:
    """Run a command in a terminal; press `keys` when the text before them was seen; return status and screen.

    The texts `unseen` are answered when the terminal no longer shows what is typed.
    """
    main, inner = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *words, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
    )
    os.close(inner)
    seen, waiting = "", list(keys)
    os.set_blocking(main, False)
    try:
        while True:
            await until(lambda: process.returncode is not None or select.select([main], [], [], 0)[0])
            try:
                piece = os.read(main, 4096)
            except OSError:  # the terminal is closed with its last process
                break
            seen += piece.decode(errors="replace")
            if waiting and waiting[0][0] in seen:
                prompt, answer = waiting.pop(0)
                if prompt in unseen:
                    await until(lambda: not termios.tcgetattr(main)[3] & termios.ECHO)
                if answer == CONTROL_C:  # which is no signal where the terminal controls no session
                    process.send_signal(signal.SIGINT)
                else:
                    os.write(main, answer.encode())
        return await process.wait(), seen
    finally:
        if process.returncode is None:
            process.kill()
        os.close(main)


async def test_control_c_changes_nothing_in_any_question(tmp_path: Path) -> None:
    file = written(tmp_path)
    before = file.read_text()
    async with EsphomeDevice(key=KEY) as device:
        words = [*SATELLITE, "--config", str(file), "rooms", "adopt", "--address", device.uri, "--uri", NOBODY]
        for keys in ((CONTROL_C,), (f"{base64.b64encode(KEY).decode()}\n", CONTROL_C)):
            asked = zip(("its key", "name of the room"), keys, strict=False)
            status, seen = await in_terminal(words, *asked, unseen=("its key",))
            assert (status, "nothing was changed" in seen, file.read_text()) == (130, True, before)


async def test_people_are_asked_in_a_terminal(tmp_path: Path) -> None:
    file = written(tmp_path)
    before = file.read_text()
    async with ScriptedSatellite(name="Kitchen Pi", mode="wake") as satellite:
        words = [*SATELLITE, "--config", str(file), "rooms", "adopt", "--address", satellite.uri, "--uri", NOBODY]
        status, seen = await in_terminal(words, ("name of the room", "\x04"))
        assert (status, "nobody answers" in seen, file.read_text()) == (1, True, before)
        status, seen = await in_terminal(words, ("name of the room", "küche\n"))
        assert "answers as Kitchen Pi" in seen
        assert (status, [room.name for room in loader.load(file).rooms]) == (5, ["küche"])
        status, seen = await in_terminal(words)
        assert (status, "is the room küche already" in seen) == (1, True)


async def test_a_key_is_typed_unseen(tmp_path: Path) -> None:
    file, key = written(tmp_path), base64.b64encode(b"k" * 32).decode()
    async with EsphomeDevice(key=b"k" * 32) as device:
        words = [*SATELLITE, "--config", str(file), "rooms", "adopt", "--address", device.uri, "--uri", NOBODY]
        unseen, other = ("its key", "44 characters", "refuses that key"), base64.b64encode(KEY).decode()
        wrong = (("its key", "wrong\n"), ("44 characters", "\n"))
        status, seen = await in_terminal(words, *wrong, unseen=unseen)
        assert (status, "device-locked" in seen, "wrong" in seen) == (1, True, False)
        answers = (("its key", f"{other}\n"), ("refuses that key", f"{key}\n"))
        status, seen = await in_terminal(words, *answers, ("name of the room", "study\n"), unseen=unseen)
        assert (status, key in seen, list(keys_in(tmp_path).values())) == (5, False, [key])


NO_NETWORK = """
import sys
from satellite.cli.main import main
from tests.half_open import leave_the_network
leave_the_network()
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("action", "status", "told"),
    [
        ("discover", 1, "[no-network] this machine has no network"),
        ("adopt", 1, "[no-network] this machine has no network"),
        (
            "adopt --address 192.0.2.1",
            1,
            "[room-unreachable] nothing answers at tcp://192.0.2.1:10700: Network is unreac",
        ),
    ],
)
async def test_without_a_network_that_is_what_is_said(tmp_path: Path, action: str, status: int, told: str) -> None:
    words = [sys.executable, "-c", NO_NETWORK, "--config", str(written(tmp_path)), "rooms", *action.split()]
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    assert ((await process.communicate())[1].decode().startswith(f"error: {told}"), process.returncode) == (
        True,
        status,
    )


@pytest.mark.parametrize("closed", [False, True])
async def test_nobody_who_answers_changes_nothing(tmp_path: Path, closed: bool) -> None:
    file = written(tmp_path)
    async with ScriptedSatellite(mode="wake") as satellite:
        words = [*SATELLITE, "--config", str(file), "rooms", "adopt", "--address", satellite.uri]
        script = f"{shlex.join(words)} {'<&-' if closed else '</dev/null'}"
        process = await asyncio.create_subprocess_shell(script, stderr=asyncio.subprocess.PIPE)
        told = (await process.communicate())[1].decode().strip()
    assert (told.startswith("error: [no-answer] nobody answers"), process.returncode) == (True, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


WITHOUT_PRIVILEGES = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, which only root has to lose
    ctypes.CDLL(None).prctl(24, capability)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, "-m", "satellite", *sys.argv[1:]])
"""


@pytest.mark.parametrize(("read_only", "mode"), [("config.yaml", 0o444), ("", 0o555)])
async def test_what_is_read_only_is_named_before_the_device_has_a_key(
    tmp_path: Path, read_only: str, mode: int
) -> None:
    file = written(tmp_path)
    (tmp_path / read_only).chmod(mode)
    async with EsphomeDevice(key=NO_KEY) as device:
        words = ("--config", str(file), "rooms", "adopt", "--yes", "--address", device.uri)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WITHOUT_PRIVILEGES, *words), stderr=asyncio.subprocess.PIPE
        )
        told = (await process.communicate())[1].decode()
        assert f"{file} cannot be changed: {tmp_path / read_only} is read-only" in told
        assert (process.returncode, device.key, list(tmp_path.iterdir())) == (2, NO_KEY, [file])
