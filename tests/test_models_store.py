"""The store and its pulls: what counts as present, damage, a good hub and every bad one that we could think of."""

import hashlib
import json
import os
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
from satellite.models.spec import Kind, ModelSpec
from satellite.models.store import Store, default_directory
from tests.hub_server import COMMIT, WHISPER, Fault, HubServer
from tests.waiting import PATIENCE_SECONDS

SPEC = catalogue.find(Kind.STT, "org/whisper")
MODEL_BYTES = len(WHISPER["model.bin"])
NOBODY = "http://127.0.0.1:9"


def failure(store: Store, spec: ModelSpec = SPEC) -> ModelError:
    """Return the error of a pull that must fail, after which the model must not be there."""
    with pytest.raises(ModelError) as caught:
        store.pull(spec)
    assert not store.present(spec)
    return caught.value


def leftovers(store: Store) -> list[str]:
    """Return every file in the store but its locks."""
    files = (path.relative_to(store.directory) for path in store.directory.rglob("*") if path.is_file())
    return sorted(str(path) for path in files if path.parts[0] != ".locks")


def test_pull_brings_a_complete_verified_model_once(
    hub: HubServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress: list[tuple[int, int]] = []
    folder = store.pull(SPEC, lambda spec, done, total: progress.append((done, total)))
    assert progress == sorted(progress)
    assert {total for _, total in progress} == {progress[-1][0]}
    assert folder == store.directory / "stt" / "org--whisper"
    wanted = {name: content for name, content in WHISPER.items() if name != "README.md"}
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"} == wanted
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source"] == f"org/whisper@{COMMIT} (hub)"
    recorded = {file["name"]: file["sha256"] for file in manifest["files"]}
    assert recorded == {name: hashlib.sha256(content).hexdigest() for name, content in wanted.items()}
    asked = len(hub.requests)
    assert store.pull(SPEC) == folder
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    again = Store(store.directory)
    assert again.pull(SPEC) == again.path(SPEC) == folder
    again.verify(SPEC)
    assert len(hub.requests) == asked


def test_a_broken_connection_is_resumed(hub: HubServer, store: Store) -> None:
    hub.faults["model.bin"] = Fault(cut_after_bytes=100_000, times=1)
    store.pull(SPEC)
    assert "bytes=100000-" in hub.ranges
    assert hub.content_bytes["model.bin"] == MODEL_BYTES


@pytest.mark.parametrize("with_ranges", [True, False])
def test_a_pull_after_a_failed_one_continues_where_the_server_supports_it(
    hub: HubServer, store: Store, with_ranges: bool
) -> None:
    hub.faults["model.bin"] = Fault(cut_after_bytes=100_000)
    assert failure(store).code == "model-download-failed"
    had = hub.content_bytes["model.bin"]
    assert 0 < had < MODEL_BYTES
    hub.faults["model.bin"] = Fault(ignore_range=not with_ranges)
    store.pull(SPEC)
    assert f"bytes={had}-" in hub.ranges
    assert hub.content_bytes["model.bin"] == MODEL_BYTES + (0 if with_ranges else had)
    store.verify(SPEC)


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        ("model.bin", b"", f"model.bin has 0 of its {MODEL_BYTES:,} bytes"),
        ("model.bin", b"cut", f"model.bin has 3 of its {MODEL_BYTES:,} bytes"),
        ("model.bin", None, "model.bin is not a file"),
        ("manifest.json", b"{", "manifest.json is missing or cannot be read"),
    ],
)
def test_a_damaged_model_is_reported_by_its_file_and_what_is_wrong_with_it(
    hub: HubServer, store: Store, file: str, content: bytes | None, fault: str
) -> None:
    damaged = store.pull(SPEC) / file
    damaged.unlink()
    damaged.mkdir() if content is None else damaged.write_bytes(content)
    with pytest.raises(ModelError, match=rf"is damaged: .*/{fault}; get it again with: satellite models pull stt/org"):
        store.path(SPEC)


def test_part_of_other_content_is_not_continued(hub: HubServer, store: Store) -> None:
    hub.faults["model.bin"] = Fault(cut_after_bytes=100_000)
    failure(store)
    hub.faults.clear()
    hub.requests.clear()
    hub.repositories = {"org/whisper": WHISPER | {"model.bin": b"\1" * MODEL_BYTES}}
    store.pull(SPEC)
    assert hub.ranges == [None] * 4
    assert store.file(SPEC, ".bin").read_bytes() == b"\1" * MODEL_BYTES


@pytest.mark.parametrize(
    ("name", "fault", "code"),
    [
        ("model.bin", Fault(content=bytes(MODEL_BYTES)), "model-corrupt"),
        ("tokenizer.json", Fault(content=bytes(len(WHISPER["tokenizer.json"]))), "model-corrupt"),
        ("model.bin", Fault(content=bytes(MODEL_BYTES + 1_000_000)), "model-corrupt"),
        *(("config.json", Fault(status=status), "model-download-failed") for status in (403, 404, 429, 500)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_endless_or_refused_content_leaves_nothing(
    hub: HubServer, store: Store, name: str, fault: Fault, code: str
) -> None:
    hub.faults[name] = fault
    if fault.status is not None:
        hub.faults["model.bin"] = fault
    error = failure(store)
    assert error.code == code
    assert str(fault.status or "") in str(error)
    assert leftovers(store) == []


def test_unreachable_hub_is_one_clear_error(hub: HubServer, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    error = failure(store)
    assert error.code == "model-download-failed"
    assert NOBODY in str(error)
    assert leftovers(store) == []


@pytest.mark.parametrize("lacking", ["tokenizer.json", "vocabulary.json"])
def test_repository_without_a_needed_file_is_refused(hub: HubServer, store: Store, lacking: str) -> None:
    hub.repositories = {"org/whisper": {name: content for name, content in WHISPER.items() if name != lacking}}
    assert failure(store).code == "model-download-failed"
    assert hub.content_bytes["model.bin"] == 0
    assert leftovers(store) == []


def test_token_stays_with_the_hub(hub: HubServer, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    store.pull(SPEC)
    for request in hub.requests:
        to_storage = "/stored/" in request.path and "model.bin" in request.path
        assert request.authorization == (None if to_storage else "Bearer secret")


def test_offline_setting_of_the_hub_is_obeyed(hub: HubServer, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in str(failure(store))
    assert hub.requests == []


@pytest.mark.slow
def test_official_client_takes_the_test_server_for_the_hub(hub: HubServer, tmp_path: Path) -> None:
    program = f"""
from huggingface_hub import hf_hub_download
for name in ("model.bin", "config.json"):
    hf_hub_download("org/whisper", name, local_dir={str(tmp_path / "copy")!r})
"""
    settings = {"HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    subprocess.run([sys.executable, "-c", program], env=os.environ | settings, check=True, capture_output=True)
    for name in ("model.bin", "config.json"):
        assert (tmp_path / "copy" / name).read_bytes() == WHISPER[name]


def test_a_piper_voice_must_have_the_listed_size_and_md5(hub: HubServer, store: Store) -> None:
    name, network = "fr_FR-tugão-low", b"\7" * 200_000
    files = {f"{name}.onnx": network, f"{name}.onnx.json": b"{}", "MODEL_CARD": b"CC0"}
    hub.repositories = {"rhasspy/piper-voices": {f"fr/fr_FR/tugão/low/{file}": data for file, data in files.items()}}
    md5 = hashlib.md5(network, usedforsecurity=False).hexdigest()
    assert failure(store, catalogue.piper_voice(name, 1, 5, md5, 2)).code == "model-corrupt"
    assert not hub.content_bytes
    assert failure(store, catalogue.piper_voice(name, 1, len(network), "0" * 32, 2)).code == "model-corrupt"
    assert leftovers(store) == []
    folder = store.pull(catalogue.piper_voice(name, 1, len(network), md5, 2))
    assert {file: (folder / file).read_bytes() for file in files} == files


def test_missing_model_says_how_to_get_it(store: Store) -> None:
    spec = catalogue.find(Kind.TTS, "fr_FR-siwis-medium")
    with pytest.raises(ModelError, match=r"satellite models pull tts/fr_FR-siwis-medium$") as caught:
        store.path(spec)
    assert caught.value.code == "model-missing"
    assert not store.present(spec)
    assert not store.directory.exists()


@pytest.mark.parametrize(("damage", "seems_present"), [(b"cut", False), (bytes(MODEL_BYTES), True), (None, False)])
def test_a_damaged_model_is_found_and_fetched_again(
    hub: HubServer, store: Store, damage: bytes | None, seems_present: bool
) -> None:
    folder = store.pull(SPEC)
    (folder / "model.bin").unlink()
    if damage is not None:
        (folder / "model.bin").write_bytes(damage)
    assert store.present(SPEC) is seems_present
    with pytest.raises(ModelError) as caught:
        store.verify(SPEC)
    assert caught.value.code == ("model-corrupt" if seems_present else "model-missing")
    assert store.pull(SPEC) == folder
    store.verify(SPEC)
    assert list((store.directory / ".partial").iterdir()) == []


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


def test_folder_that_cannot_be_written_is_an_error(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="Not a directory", check=lambda error: error.code == "model-download-failed"):
        Store(tmp_path / "file" / "models").pull(SPEC)


def test_space_is_checked_before_the_first_byte(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="are needed", check=lambda error: error.code == "model-disk-full"):
        require_space(tmp_path, 10**18)


def test_directory_is_that_of_the_environment_or_the_systems_where_it_can_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SATELLITE_MODELS", str(tmp_path / "here"))
    assert default_directory() == Store().directory == tmp_path / "here"
    monkeypatch.delenv("SATELLITE_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(store_module, "_SYSTEM_DIRECTORY", tmp_path / "system")
    assert default_directory() == tmp_path / "data" / "satellite" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_directory() == Path.home() / ".local/share/satellite/models"
    (tmp_path / "system").mkdir()
    assert default_directory() == tmp_path / "system"


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


def start_pull(store: Store, *, limit_bytes: int = 0) -> subprocess.Popen[str]:
    """Pull SPEC in another process, which prints its progress and exits with the error's code."""
    command = [sys.executable, "-c", PULL, str(store.directory), "stt/org/whisper", str(limit_bytes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
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


@pytest.mark.slow
def test_full_disk_leaves_nothing(hub: HubServer, store: Store) -> None:
    with start_pull(store, limit_bytes=300_000) as process:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors.strip()) == (1, "model-disk-full")
    assert [path.suffix for path in store.directory.rglob("*") if path.is_file()] == [".lock"]


@pytest.mark.slow
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
