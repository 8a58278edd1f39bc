"""Pulls by several processes, killed processes and processes without disk: everything real but the hub."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from satellite.models import catalogue
from satellite.models.catalogue import Kind
from satellite.models.store import Store
from tests.hub_server import WHISPER, Fault, HubServer
from tests.waiting import PATIENCE_SECONDS

SPEC = catalogue.find(Kind.STT, "org/whisper")
MODEL_BYTES = len(WHISPER["model.bin"])
PULL = """
import logging, resource, sys
from pathlib import Path
from satellite.errors import ModelError
from satellite.models import catalogue
from satellite.models.store import Store
logging.basicConfig(format="%(message)s", stream=sys.stdout)
logging.getLogger("satellite").setLevel(logging.INFO)
directory, reference, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    Store(Path(directory)).pull(catalogue.lookup(reference), lambda spec, done, total: print(done, flush=True))
except ModelError as error:
    sys.exit(error.code)
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one Whisper repository."""
    with HubServer({"org/whisper": WHISPER}) as server:
        server.become_the_hub(monkeypatch)
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "models")


def start_pull(store: Store, *, limit_bytes: int = 0) -> subprocess.Popen[str]:
    """Pull SPEC in another process, which prints its progress and exits with the error's code."""
    command = [sys.executable, "-c", PULL, str(store.directory), "stt/org/whisper", str(limit_bytes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_pull_is_resumed(hub: HubServer, store: Store) -> None:
    """A process killed in the middle leaves no model, no lock that holds, and a part that the next pull uses."""
    release = threading.Event()
    hub.faults["model.bin"] = Fault(hold=release, hold_at_byte=600_000, times=1)
    with start_pull(store) as process:
        assert process.stdout is not None
        assert any(int(line) > 300_000 for line in process.stdout)
        process.kill()
    release.set()
    assert not store.present(SPEC)
    store.pull(SPEC)
    resumed = [int(match[1]) for asked in hub.ranges if asked and (match := re.fullmatch(r"bytes=(\d+)-", asked))]
    assert resumed
    assert resumed[0] > 200_000
    store.verify(SPEC)


def test_full_disk_leaves_nothing(hub: HubServer, store: Store) -> None:
    """A write that the disk refuses is an error of its own, and what was written goes."""
    with start_pull(store, limit_bytes=300_000) as process:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors.strip()) == (1, "model-disk-full")
    assert [path.suffix for path in store.directory.rglob("*") if path.is_file()] == [".lock"]


def test_two_processes_fetch_once(hub: HubServer, store: Store) -> None:
    """The second of two pulls waits for the first and finds the model there."""
    release = threading.Event()
    hub.faults["model.bin"] = Fault(hold=release)
    with start_pull(store) as first:
        assert hub.sending.wait(timeout=PATIENCE_SECONDS)
        with start_pull(store) as second:
            assert second.stdout is not None
            assert "waiting" in second.stdout.readline()
            release.set()
            assert second.communicate(timeout=PATIENCE_SECONDS)[1] == ""
        assert first.communicate(timeout=PATIENCE_SECONDS)[1] == ""
    assert (first.returncode, second.returncode) == (0, 0)
    assert hub.content_bytes["model.bin"] == MODEL_BYTES
    store.verify(SPEC)
