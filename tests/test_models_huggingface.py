"""Pulling from a hub, a good one and every bad one that we could think of."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from satellite.errors import ModelError
from satellite.models import catalogue
from satellite.models.spec import Kind, ModelSpec
from satellite.models.store import Store
from tests.hub_server import COMMIT, WHISPER, Fault, HubServer

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


def test_pull_brings_a_complete_verified_model(hub: HubServer, store: Store) -> None:
    folder = store.pull(SPEC)
    assert folder == store.directory / "stt" / "org--whisper"
    wanted = {name: content for name, content in WHISPER.items() if name != "README.md"}
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"} == wanted
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source"] == f"org/whisper@{COMMIT} (hub)"
    recorded = {file["name"]: file["sha256"] for file in manifest["files"]}
    assert recorded == {name: hashlib.sha256(content).hexdigest() for name, content in wanted.items()}
    store.verify(SPEC)


def test_progress_grows_to_the_total(hub: HubServer, store: Store) -> None:
    seen: list[tuple[int, int]] = []
    store.pull(SPEC, lambda spec, done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {seen[-1][0]}


def test_once_present_nothing_asks_the_network(hub: HubServer, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.pull(SPEC)
    before = len(hub.requests)
    assert store.pull(SPEC) == folder
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    again = Store(store.directory)
    assert again.pull(SPEC) == again.path(SPEC) == folder
    again.verify(SPEC)
    assert len(hub.requests) == before


def test_connection_cut_once_is_taken_up_again(hub: HubServer, store: Store) -> None:
    hub.faults["model.bin"] = Fault(cut_after_bytes=100_000, times=1)
    store.pull(SPEC)
    assert "bytes=100000-" in hub.ranges
    assert hub.content_bytes["model.bin"] == MODEL_BYTES


def test_pull_after_a_failed_one_goes_on_where_it_stopped(hub: HubServer, store: Store) -> None:
    hub.faults["model.bin"] = Fault(cut_after_bytes=100_000)
    assert failure(store).code == "model-download-failed"
    had = hub.content_bytes["model.bin"]
    assert 0 < had < MODEL_BYTES
    hub.faults.clear()
    store.pull(SPEC)
    assert f"bytes={had}-" in hub.ranges
    assert hub.content_bytes["model.bin"] == MODEL_BYTES


def test_server_without_ranges_still_works(hub: HubServer, store: Store) -> None:
    hub.faults["model.bin"] = Fault(cut_after_bytes=100_000)
    failure(store)
    hub.faults["model.bin"] = Fault(ignore_range=True)
    store.pull(SPEC)
    store.verify(SPEC)


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


class TestPiperVoice:
    """A voice made up for the test, in the shape of rhasspy/piper-voices."""

    NAME = "fr_FR-tugão-low"
    FOLDER = "fr/fr_FR/tugão/low"
    NETWORK = b"\7" * 200_000

    def spec(self, md5: str | None = None, size_bytes: int = len(NETWORK)) -> ModelSpec:
        """Return what the catalogue would say of it."""
        md5 = md5 or hashlib.md5(self.NETWORK, usedforsecurity=False).hexdigest()
        return catalogue.piper_voice(self.NAME, 1, size_bytes, md5, 2)

    @pytest.fixture(autouse=True)
    def voice(self, hub: HubServer) -> None:
        """Put the voice on the hub."""
        files = {f"{self.NAME}.onnx": self.NETWORK, f"{self.NAME}.onnx.json": b"{}", "MODEL_CARD": b"CC0"}
        content = {f"{self.FOLDER}/{name}": data for name, data in files.items()}
        hub.repositories = {"rhasspy/piper-voices": content}

    def test_voice_arrives(self, store: Store) -> None:
        folder = store.pull(self.spec())
        assert (folder / "MODEL_CARD").read_bytes() == b"CC0"
        assert store.file(self.spec(), ".onnx").read_bytes() == self.NETWORK
        assert store.file(self.spec(), ".onnx.json").read_bytes() == b"{}"

    def test_network_must_have_the_listed_md5(self, store: Store) -> None:
        assert failure(store, self.spec(md5="0" * 32)).code == "model-corrupt"
        assert leftovers(store) == []

    def test_other_size_is_refused_before_the_download(self, hub: HubServer, store: Store) -> None:
        assert failure(store, self.spec(size_bytes=5)).code == "model-corrupt"
        assert not hub.content_bytes
