"""A stage that cannot be loaded stops no other, and comes back by itself once what was wrong is mended."""

import asyncio
import json
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from satellite.daemon.assembly import Assembly
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
    # With what was measured already, which is most of what loading a model takes.
    for pattern in ("[a-z]*/*/manifest.json", ".parts/*/measured.json"):
        for file in models_directory.glob(pattern):
            home = folder / file.parent.relative_to(models_directory)
            shutil.copytree(file.parent, home, copy_function=link)
    return folder


def link(source: str, target: str) -> None:
    """Put a link in the place of a copy, but for what is small and may be changed."""
    if source.endswith(".json"):
        shutil.copy(source, target)
    else:
        Path(target).symlink_to(source)


def resize(folder: Path, file: Path, content: str) -> None:
    """Write a file of a model, and its size into the manifest, so that it counts as complete."""
    file.write_text(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    for one in manifest["files"]:
        if one["name"] == file.name:
            one["size_bytes"] = file.stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))


def unreadable(folder: Path) -> None:
    file = folder / f"{VOICE}.onnx"
    size = file.stat().st_size
    file.unlink()
    with file.open("wb") as damaged:
        damaged.truncate(size)


async def half_copied(daemon: Daemon, models: Path) -> None:
    spec = catalogue.find(Kind.TTS, "en_US-lessac-low")
    original, copy = models / "tts" / VOICE, models / "tts" / spec.name
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


async def test_models_that_are_pulled_or_copied_are_used_without_a_restart(models: Path, tmp_path: Path) -> None:
    (chat,) = (models / "chat").iterdir()
    homes = {tmp_path / "voice": models / "tts" / VOICE, tmp_path / "chat": chat}
    for away, home in homes.items():
        shutil.move(home, away)
    async with Daemon(lonely(models), free_ports=True) as daemon:
        await daemon.ready()
        synthesizer = daemon.engines.synthesizer

        def states() -> dict[str, str]:
            return {one.stage: one.state for one in daemon._status.stages() if one.stage in ("stt", "chat", "tts")}

        assert synthesizer.failure is not None
        assert synthesizer.failure.code == "model-missing"
        assert states() == {"stt": "ready", "chat": "failed", "tts": "failed"}
        await asyncio.sleep(2)  # they are tried, in vain
        assert not synthesizer.ready
        for away, home in homes.items():
            shutil.move(away, home)
        await until(lambda: synthesizer.ready and daemon.engines.chat.ready)
        assert states() == dict.fromkeys(("stt", "chat", "tts"), "ready")
        await half_copied(daemon, models)
        assert daemon.background.status() == ()


@asynccontextmanager
async def assembled(models: Path, more: str = "") -> AsyncIterator[Assembly]:
    """Prepare the engines of a daemon, none of which is loaded."""
    daemon = Daemon(lonely(models, more), free_ports=True)
    await daemon._assembly.prepare()
    try:
        yield daemon._assembly
    finally:
        await daemon.__aexit__()


def garble(file: Path) -> None:
    """Write another content of the same size in the place of a link."""
    content = random.Random(1).randbytes(file.stat().st_size)
    file.unlink()
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("more", "file", "stage"),
    [
        ("", f"tts/{VOICE}/{VOICE}.onnx", "tts"),
        ("", f"tts/{VOICE}/{VOICE}.onnx.json", "tts"),
        ("tts: {voice: ff_siwis}", "tts/kokoro/kokoro-v1.0.int8.onnx", "tts"),
        ("tts: {voice: ff_siwis}", "tts/kokoro/vocab.json", "tts"),
        ("tts: {voice: ff_siwis}", "tts/ff_siwis/ff_siwis.bin", "tts"),
        ("", "wake/openwakeword/embedding_model.tflite", "openwakeword"),
        ("", "wake/openwakeword/okay_nabu.tflite", "openwakeword"),
        ("", "stt/tiny.en/config.json", "stt"),
        ("", "stt/tiny.en/model.bin", "stt"),
    ],
)
async def test_a_file_of_the_right_size_that_is_damaged_is_named_with_what_fetches_it(
    more: str, file: str, stage: str, models: Path
) -> None:
    garble(models / file)
    async with assembled(models, more) as assembly:
        (slot,) = (slot for slot in assembly.engines.slots if slot.name == stage)
        await slot.load()
        said = str(slot.failure) if slot.failure else " ".join(slot.info().unusable.values())
    folder, _ = file.rsplit("/", 1)
    assert str(models / file) in said
    assert f"; get it again with: satellite models pull {folder}" in said


async def test_a_default_voice_that_breaks_is_in_log_and_status_while_another_speaks(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with assembled(models) as assembly:
        slot = assembly.engines.synthesizer
        file = models / "tts" / VOICE / f"{VOICE}.onnx"
        target = file.readlink()
        file.unlink()
        file.write_bytes(b"cut")
        assembly._voices.scan()
        (said,) = slot.info().unusable.values()
        assert "has 3 of its" in said
        assert f"satellite models pull tts/{VOICE}" in said
        assert f"({assembly._voices.files()[0][0].name} speaks instead)" in said
        assert f"voice {VOICE} cannot be used: {said}" in caplog.text
        file.unlink()
        file.symlink_to(target)
        assembly._voices.scan()
        assert slot.info().unusable == {}


@pytest.mark.parametrize("content", ["{", "{}", "[1, 2]", None])
async def test_a_voice_that_is_repaired_speaks(content: str | None, models: Path, tmp_path: Path) -> None:
    voice = models / "tts" / VOICE
    shutil.copytree(voice, tmp_path / "good", symlinks=True)
    if content is None:
        unreadable(voice)
    else:
        resize(voice, voice / f"{VOICE}.onnx.json", content)
    async with assembled(models) as assembly:
        slot = assembly.engines.synthesizer
        assembly._keep_loading(slot)
        await slot.until_settled()
        assert slot.failure is not None
        assert slot.failure.code in ("model-corrupt", "tts-not-ready")
        shutil.rmtree(voice)
        shutil.move(tmp_path / "good", voice)
        await until(lambda: slot.ready)


async def test_a_local_model_that_is_pulled_answers_beside_another_provider(models: Path, tmp_path: Path) -> None:
    (home,) = (models / "chat").iterdir()
    shutil.move(home, tmp_path / "away")
    other = "{type: ollama, model: m, url: 'http://127.0.0.1:9'}"
    async with assembled(models, f"chat: {{providers: [{other}, {{type: local}}]}}\n") as assembly:
        assembly._keep_loading(assembly.engines.chat)
        await assembly.engines.chat.until_ready()
        local = assembly.chat.models[-1]
        assert not local.health.up
        shutil.move(tmp_path / "away", home)
        await until(lambda: local.health.up)


async def test_loading_is_tried_again_at_once_when_a_file_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satellite.engines.slot._CHECK_SECONDS", 0.2)
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
    store, voice = Store(tmp_path), tmp_path / "mine" / "voice.onnx"
    changes: list[Callable[[], object]] = [
        voice.parent.mkdir,
        lambda: voice.write_bytes(b"half"),
        lambda: voice.write_bytes(b"whole one"),
        lambda: voice.chmod(0o600),
        voice.unlink,
    ]
    seen = [repr(store.seen(spec))]
    for change in changes:
        change()
        seen.append(repr(store.seen(spec)))
        assert repr(store.seen(spec)) == seen[-1]
    assert len(set(seen)) == len(seen)


async def test_a_damaged_file_of_the_voice_activity_detection_is_named_with_what_installs_it_again(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faster_whisper import utils

    (tmp_path / "silero_vad_v6.onnx").write_bytes(bytes(1000))
    monkeypatch.setattr(utils, "get_assets_path", lambda: str(tmp_path))
    async with assembled(models) as assembly:
        slot = assembly.engines.vad
        await slot.load()
        assert f"{tmp_path / 'silero_vad_v6.onnx'} cannot be loaded; install the package faster-whisper" in str(
            slot.failure
        )
