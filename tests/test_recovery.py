"""A stage that cannot be loaded stops no other, and comes back by itself once what was wrong is mended."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from satellite.daemon.daemon import Daemon
from satellite.engines.slot import Slot
from satellite.errors import Stage
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.models.store import Store
from tests.running_daemon import lonely
from tests.waiting import PATIENCE_SECONDS, until

VOICE = "en_US-joe-medium"


@pytest.fixture
def models(models_directory: Path, tmp_path: Path) -> Path:
    """A folder of models of one's own, whose files are links to the real ones."""
    folder = tmp_path / "models"
    for manifest in models_directory.glob("[a-z]*/*/manifest.json"):
        home = folder / manifest.parent.relative_to(models_directory)
        shutil.copytree(manifest.parent, home, copy_function=link)
    return folder


def link(source: str, target: str) -> None:
    """Put a link in the place of a copy, but for what is small and may be changed."""
    if source.endswith(".json"):
        shutil.copy(source, target)
    else:
        Path(target).symlink_to(source)


@asynccontextmanager
async def running(models: Path, more: str = "") -> AsyncIterator[tuple[Daemon, list[str]]]:
    """Run a daemon on free ports; with the stages that failed at first."""
    async with Daemon(lonely(models, more), free_ports=True) as daemon:
        await daemon.ready()
        yield daemon, [slot.name for slot in daemon.engines.slots if slot.failure is not None]


async def state(daemon: Daemon, stage: str) -> str:
    """Return what the status says of a stage."""
    return next(one.state for one in daemon._status.stages() if one.stage == stage)


def missing(folder: Path) -> Callable[[], None]:
    """Take the voice away; return what brings it back."""
    shutil.move(folder, folder.parent.parent / "away")

    def bring_back() -> None:
        shutil.move(folder.parent.parent / "away", folder)

    return bring_back


def broken(content: str) -> Callable[[Path], Callable[[], None]]:
    """Write something else into the voice's .json; return what does it, which returns what mends it."""

    def breaks(folder: Path) -> Callable[[], None]:
        file = folder / f"{VOICE}.onnx.json"
        good = file.read_text()
        resize(folder, file, content)
        return lambda: resize(folder, file, good)

    return breaks


def resize(folder: Path, file: Path, content: str) -> None:
    """Write a file of a model, and its size into the manifest, so that it counts as complete."""
    file.write_text(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    for one in manifest["files"]:
        if one["name"] == file.name:
            one["size_bytes"] = file.stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))


def unreadable(folder: Path) -> Callable[[], None]:
    """Let reading the voice's .onnx fail."""
    file = folder / f"{VOICE}.onnx"
    target = file.readlink()
    size = target.stat().st_size
    file.unlink()
    with file.open("wb") as damaged:
        damaged.truncate(size)

    def mend() -> None:
        file.unlink()
        file.symlink_to(target)

    return mend


BROKEN: dict[str, Callable[[Path], Callable[[], None]]] = {
    "missing, then pulled": missing,
    "no JSON": broken("{"),
    "JSON without what is needed": broken("{}"),
    "JSON of another kind": broken("[1, 2]"),
    "an .onnx of zeros": unreadable,
}


@pytest.mark.models
@pytest.mark.parametrize("breaks", BROKEN.values(), ids=BROKEN)
async def test_a_voice_that_is_mended_speaks_without_a_restart(
    breaks: Callable[[Path], Callable[[], None]], models: Path
) -> None:
    mend = breaks(models / "tts" / VOICE)
    async with running(models) as (daemon, failed):
        assert failed == ["tts"]
        failure = daemon.engines.synthesizer.failure
        assert failure is not None
        assert failure.code in ("model-missing", "model-corrupt", "tts-not-ready")
        assert await state(daemon, "tts") == "failed"
        assert await state(daemon, "stt") == "ready"
        await asyncio.sleep(2)  # it is tried, in vain
        assert not daemon.engines.synthesizer.ready
        mend()
        await until(lambda: daemon.engines.synthesizer.ready)
        assert await state(daemon, "tts") == "ready"
        assert daemon.background.status() == ()


@pytest.mark.models
async def test_a_chat_model_that_is_pulled_answers_without_a_restart(models: Path) -> None:
    async def scenario(more: str) -> None:
        (home,) = (models / "chat").iterdir()
        shutil.move(home, models / "away")
        async with running(models, more) as (daemon, failed):
            assert failed == ([] if more else ["chat"])
            local = daemon._assembly.chat.models[-1]
            assert not local.health.up
            shutil.move(models / "away", home)
            await until(lambda: local.health.up)
            assert daemon.engines.chat.ready

    await scenario("")
    other = "{type: ollama, model: m, url: 'http://127.0.0.1:9'}"
    await scenario(f"chat: {{providers: [{other}, {{type: local}}]}}\n")


@pytest.mark.models
async def test_a_voice_that_is_half_copied_is_taken_once_it_is_whole(models: Path) -> None:
    original, copy = models / "tts" / VOICE, models / "tts" / "en_US-lessac-low"
    spec = catalogue.find(Kind.TTS, "en_US-lessac-low")
    async with running(models) as (daemon, _):
        copy.mkdir()
        manifest = json.loads((original / "manifest.json").read_text()) | {"name": spec.name}
        manifest["files"] = [{**one, "name": one["name"].replace(VOICE, spec.name)} for one in manifest["files"]]
        about = (original / f"{VOICE}.onnx.json").read_text()
        (copy / f"{spec.name}.onnx").symlink_to((original / f"{VOICE}.onnx").readlink())
        (copy / "MODEL_CARD").symlink_to((original / "MODEL_CARD").readlink())
        (copy / "manifest.json").write_text(json.dumps(manifest))
        resize(copy, copy / f"{spec.name}.onnx.json", about[: len(about) // 2])
        folder = daemon._assembly._voices
        await until(lambda: spec.name in folder._troubles)
        resize(copy, copy / f"{spec.name}.onnx.json", about)
        await until(lambda: spec.name in [voice.name for voice, _ in folder.files()])
        assert daemon.background.status() == ()


async def test_loading_is_tried_again_at_once_when_a_file_has_changed() -> None:
    version, tries = 1, 0

    async def load() -> None:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0.1)
        if version == 1:
            raise KeyError("espeak")

    slot: Slot[str] = Slot(Stage.TTS, "engine", load=load, seen=lambda: version)
    loading = asyncio.create_task(slot.keep_loading())
    await slot.until_settled()
    assert slot.failure is not None
    assert slot.failure.code == "tts-not-ready"
    assert "KeyError" in str(slot.failure)
    await asyncio.sleep(0.4)
    assert tries == 1
    version = 2
    await asyncio.wait_for(slot.until_ready(), PATIENCE_SECONDS)
    assert tries == 2
    assert await slot.get(1) == "engine"
    await loading


def test_the_files_of_a_model_are_seen_to_change(tmp_path: Path) -> None:
    spec = catalogue.find(Kind.TTS, str(tmp_path / "mine" / "voice.onnx"))
    store, seen = Store(tmp_path), []
    folder = tmp_path / "mine"
    seen.append(store.seen(spec))
    folder.mkdir()
    seen.append(store.seen(spec))
    (folder / "voice.onnx").write_bytes(b"half")
    seen.append(store.seen(spec))
    assert store.seen(spec) == seen[-1]
    (folder / "voice.onnx").write_bytes(b"whole one")
    seen.append(store.seen(spec))
    (folder / "voice.onnx").chmod(0o600)
    seen.append(store.seen(spec))
    (folder / "voice.onnx").unlink()
    seen.append(store.seen(spec))
    assert len(set(map(repr, seen))) == len(seen)
