"""The store: what counts as present, what damage does, and where it all lies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from satellite.errors import ModelError
from satellite.models import catalogue
from satellite.models import store as store_module
from satellite.models.catalogue import Kind
from satellite.models.downloads import require_space
from satellite.models.store import Store, default_directory
from tests.hub_server import WHISPER, HubServer

SPEC = catalogue.find(Kind.STT, "org/whisper")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one Whisper repository and one chat model."""
    with HubServer({"org/whisper": WHISPER, "org/chat": {"q4/tiny.gguf": b"GGUF"}}) as server:
        server.become_the_hub(monkeypatch)
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "models")


def test_missing_model_says_how_to_get_it(store: Store) -> None:
    """The message of a missing model ends with the command that fetches it, and asking writes nothing."""
    spec = catalogue.find(Kind.TTS, "fr_FR-siwis-medium")
    with pytest.raises(ModelError, match=r"satellite models pull tts/fr_FR-siwis-medium$") as caught:
        store.path(spec)
    assert caught.value.code == "model-missing"
    assert not store.present(spec)
    assert not store.directory.exists()


def test_cut_file_is_not_present_and_is_repaired(hub: HubServer, store: Store) -> None:
    """A file of the wrong size makes the model missing; a pull puts the whole model back."""
    folder = store.pull(SPEC)
    (folder / "model.bin").write_bytes(b"cut")
    assert not store.present(SPEC)
    assert store.pull(SPEC) == folder
    store.verify(SPEC)
    assert list((store.directory / ".partial").iterdir()) == []


def test_verify_finds_what_sizes_do_not_show(hub: HubServer, store: Store) -> None:
    """Changed bytes under the right size are found by `verify` alone."""
    folder = store.pull(SPEC)
    (folder / "model.bin").write_bytes(bytes(len(WHISPER["model.bin"])))
    assert store.present(SPEC)
    with pytest.raises(ModelError, match=r"model\.bin") as caught:
        store.verify(SPEC)
    assert caught.value.code == "model-corrupt"


def test_damaged_manifest_is_no_model(hub: HubServer, store: Store) -> None:
    """Whatever stands in a manifest, it makes the model missing, never an exception; a pull repairs it."""
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
    """`installed` finds models by their manifests, of one kind or all, and leaves out the damaged."""
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
    """A voice given by its path is used where it lies, once its configuration lies beside it."""
    (tmp_path / "me.onnx").write_bytes(b"network")
    spec = catalogue.find(Kind.TTS, str(tmp_path / "me.onnx"))
    with pytest.raises(ModelError, match=r"lacks me\.onnx\.json$"):
        store.pull(spec)
    (tmp_path / "me.onnx.json").write_text("{}")
    assert store.pull(spec) == tmp_path
    assert store.file(spec, ".onnx") == tmp_path / "me.onnx"


def test_microwakeword_comes_with_its_package(store: Store) -> None:
    """microWakeWord's models are where its package is; nothing is fetched."""
    folder = store.pull(catalogue.find(Kind.WAKE, "microwakeword"))
    words = {path.stem for path in folder.glob("*.tflite")}
    assert words == set(catalogue.WAKE_WORDS["microwakeword"])


def test_folder_that_cannot_be_written_is_an_error(hub: HubServer, tmp_path: Path) -> None:
    """Where the store's folder cannot be made, a pull says so."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="Not a directory") as caught:
        Store(tmp_path / "file" / "models").pull(SPEC)
    assert caught.value.code == "model-download-failed"


def test_space_is_checked_before_the_first_byte(tmp_path: Path) -> None:
    """More than the disk has free is an error before anything is written."""
    with pytest.raises(ModelError, match="are needed") as caught:
        require_space(tmp_path, 10**18)
    assert caught.value.code == "model-disk-full"


def test_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SATELLITE_MODELS decides where models live."""
    monkeypatch.setenv("SATELLITE_MODELS", str(tmp_path / "here"))
    assert default_directory() == Store().directory == tmp_path / "here"


def test_directory_is_the_systems_where_it_can_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The system's folder is used when it is there, the user's data folder otherwise."""
    monkeypatch.delenv("SATELLITE_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(store_module, "_SYSTEM_DIRECTORY", tmp_path / "system")
    assert default_directory() == tmp_path / "data" / "satellite" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_directory() == Path.home() / ".local/share/satellite/models"
    (tmp_path / "system").mkdir()
    assert default_directory() == tmp_path / "system"
