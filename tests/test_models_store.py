"""The store: what counts as present, damage, its directory, and pulls by several processes."""

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from satellite.errors import ModelError
from satellite.models import catalogue
from satellite.models import store as store_module
from satellite.models.downloads import require_space
from satellite.models.spec import Kind
from satellite.models.store import Store, default_directory
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


def test_missing_model_says_how_to_get_it(store: Store) -> None:
    spec = catalogue.find(Kind.TTS, "fr_FR-siwis-medium")
    with pytest.raises(ModelError, match=r"satellite models pull tts/fr_FR-siwis-medium$") as caught:
        store.path(spec)
    assert caught.value.code == "model-missing"
    assert not store.present(spec)
    assert not store.directory.exists()


def test_cut_file_is_not_present_and_is_repaired(hub: HubServer, store: Store) -> None:
    folder = store.pull(SPEC)
    (folder / "model.bin").write_bytes(b"cut")
    assert not store.present(SPEC)
    assert store.pull(SPEC) == folder
    store.verify(SPEC)
    assert list((store.directory / ".partial").iterdir()) == []


def test_verify_finds_what_sizes_do_not_show(hub: HubServer, store: Store) -> None:
    folder = store.pull(SPEC)
    (folder / "model.bin").write_bytes(bytes(len(WHISPER["model.bin"])))
    assert store.present(SPEC)
    with pytest.raises(ModelError, match=r"model\.bin") as caught:
        store.verify(SPEC)
    assert caught.value.code == "model-corrupt"


def test_damaged_manifest_is_no_model(hub: HubServer, store: Store) -> None:
    manifest = store.pull(SPEC) / "manifest.json"
    for content in ("", "[]", "{", '{"files": 5}', '{"files": []}', '{"files": [{"name": 1}]}', '{"files": [5]}'):
        manifest.write_text(content)
        assert not store.present(SPEC)
        assert store.installed() == []
    manifest.write_bytes(b"\xff")
    assert not store.present(SPEC)
    store.pull(SPEC)
    assert store.present(SPEC)


def test_installed_lists_what_is_complete(hub: HubServer, store: Store) -> None:
    chat = catalogue.find(Kind.CHAT, "org/chat:q4/tiny.gguf")
    store.pull(SPEC)
    assert store.pull(chat).name == "org--chat--q4--tiny.gguf"
    assert store.file(chat, ".gguf").read_bytes() == b"GGUF"
    assert store.installed() == [chat, SPEC]
    assert store.installed(Kind.STT) == [SPEC]
    assert store.installed(Kind.TTS) == []
    (store.path(SPEC) / "config.json").unlink()
    assert store.installed() == [chat]


def test_own_voice_needs_both_files(store: Store, tmp_path: Path) -> None:
    (tmp_path / "me.onnx").write_bytes(b"network")
    spec = catalogue.find(Kind.TTS, str(tmp_path / "me.onnx"))
    with pytest.raises(ModelError, match=r"lacks me\.onnx\.json$"):
        store.pull(spec)
    (tmp_path / "me.onnx.json").write_text("{}")
    assert store.pull(spec) == tmp_path
    assert store.file(spec, ".onnx") == tmp_path / "me.onnx"


def test_microwakeword_comes_with_its_package(store: Store) -> None:
    folder = store.pull(catalogue.find(Kind.WAKE, "microwakeword"))
    words = {path.stem for path in folder.glob("*.tflite")}
    assert words == set(catalogue.WAKE_WORDS["microwakeword"])


def test_folder_that_cannot_be_written_is_an_error(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="Not a directory") as caught:
        Store(tmp_path / "file" / "models").pull(SPEC)
    assert caught.value.code == "model-download-failed"


def test_space_is_checked_before_the_first_byte(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="are needed") as caught:
        require_space(tmp_path, 10**18)
    assert caught.value.code == "model-disk-full"


def test_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SATELLITE_MODELS", str(tmp_path / "here"))
    assert default_directory() == Store().directory == tmp_path / "here"


def test_directory_is_the_systems_where_it_can_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SATELLITE_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(store_module, "_SYSTEM_DIRECTORY", tmp_path / "system")
    assert default_directory() == tmp_path / "data" / "satellite" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_directory() == Path.home() / ".local/share/satellite/models"
    (tmp_path / "system").mkdir()
    assert default_directory() == tmp_path / "system"


def start_pull(store: Store, *, limit_bytes: int = 0) -> subprocess.Popen[str]:
    """Pull SPEC in another process, which prints its progress and exits with the error's code."""
    command = [sys.executable, "-c", PULL, str(store.directory), "stt/org/whisper", str(limit_bytes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_pull_is_resumed(hub: HubServer, store: Store) -> None:
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
    with start_pull(store, limit_bytes=300_000) as process:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors.strip()) == (1, "model-disk-full")
    assert [path.suffix for path in store.directory.rglob("*") if path.is_file()] == [".lock"]


def test_two_processes_fetch_once(hub: HubServer, store: Store) -> None:
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
