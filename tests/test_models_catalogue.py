"""Names and what they mean: the catalogue's own, the hub's, and paths."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from satellite.errors import ModelError
from satellite.models import catalogue
from satellite.models.demo_set import JOE
from satellite.models.downloads import check
from satellite.models.spec import File, HubSource, Kind, LocalSource, PackageSource, WheelSource
from satellite.models.store import Store


def test_every_name_is_found_under_itself() -> None:
    for kind in Kind:
        for name in catalogue.names(kind):
            spec = catalogue.find(kind, name)
            assert (spec.kind, spec.name) == (kind, name)
            assert spec.licence
            assert len({file.name for file in spec.files}) == len(spec.files)


def test_demo_set_is_pinned_and_complete() -> None:
    assert sorted(spec.kind for spec in catalogue.DEMO) == sorted(Kind)
    for spec in catalogue.DEMO:
        assert isinstance(spec.source, WheelSource)
        assert all(file.sha256 is not None and len(file.sha256) == 64 for file in spec.files)
        assert spec.size_is_exact
        assert catalogue.find(spec.kind, spec.name) is spec


@pytest.mark.parametrize("language", ["en", "fr"])
def test_demo_sets_have_a_model_of_every_kind_that_need_no_hub(language: str) -> None:
    specs = catalogue.demo_set(language)
    assert sorted(spec.kind for spec in specs) == sorted(Kind)
    for spec in specs:
        for one in (spec.packaged or spec, *([spec.network] if spec.network else [])):
            assert isinstance(one.source, WheelSource | PackageSource)
            assert all(file.sha256 is not None and len(file.sha256) == 64 for file in one.files)
            assert all(bool(file.members) is isinstance(one.source, WheelSource) for file in one.files)


def test_voices_of_kokoro_have_the_language_of_their_first_letter() -> None:
    siwis, heart = [catalogue.find(Kind.TTS, name) for name in ("ff_siwis", "af_heart")]
    assert (siwis.languages, heart.languages) == (("fr_FR",), ("en_US",))
    assert siwis.network is heart.network
    assert siwis.size_bytes == 92_361_271 + 1_155 + 522_240
    assert siwis.licence == "Apache-2.0"
    with pytest.raises(ModelError, match="unknown tts model 'kokoro'"):
        catalogue.find(Kind.TTS, "kokoro")


def test_voices_for_non_commercial_use_say_so_and_are_never_a_default() -> None:
    french = catalogue.find(Kind.TTS, "mms-tts-fra")
    assert (french.licence, french.languages) == ("CC BY-NC 4.0 (non-commercial)", ("fr_FR",))
    assert french.files[0].in_repository == "onnx/model.onnx"
    assert not any(spec.by_characters for language in ("en", "fr") for spec in catalogue.demo_set(language))


def test_all_voices_are_there() -> None:
    assert len(catalogue.names(Kind.TTS)) == 176 + 41 + 11
    siwis = catalogue.find(Kind.TTS, "fr_FR-siwis-medium")
    assert siwis.source == HubSource("rhasspy/piper-voices", folder="fr/fr_FR/siwis/medium")
    assert siwis.languages == ("fr_FR",)
    network = File("fr_FR-siwis-medium.onnx", 63_201_294, md5="20e876e8c839e9b11a26085858f2300c")
    assert siwis.files[0] == network


@pytest.mark.models
def test_the_demo_voice_is_that_of_the_hub(models_directory: Path) -> None:
    row = json.loads(Path(catalogue.__file__).with_name("voices.json").read_text())["voices"][JOE.name]
    listed = catalogue.piper_voice(JOE.name, *row)
    assert isinstance(JOE.source, WheelSource)
    assert JOE.source.hub == listed.source
    assert [file.size_bytes for file in JOE.files[:2]] == [file.size_bytes for file in listed.files[:2]]
    check(Store(models_directory).file(JOE, ".onnx"), listed.files[0])


def test_names_languages_and_windows_of_whisper() -> None:
    found = [catalogue.find(Kind.STT, name) for name in ("turbo", "large", "distil-large-v3", "small", "tiny.en")]
    turbo, large, distil, small, tiny = found
    assert (turbo.name, large.name) == ("large-v3-turbo", "large-v3")
    assert (distil.languages, "fr" in small.languages, "yue" in turbo.languages) == (("en",), True, True)
    theirs = catalogue.find(Kind.STT, "Systran/faster-whisper-tiny.en")
    assert (type(tiny.source), tiny.window_floor_seconds) == (WheelSource, 12.0)
    assert (type(theirs.source), theirs.window_floor_seconds) == (HubSource, 30.0)


@pytest.mark.parametrize(
    ("kind", "name", "nearest"),
    [
        (Kind.STT, "tinny.en", "tiny.en"),
        (Kind.STT, "large-v3-trubo", "large-v3-turbo"),
        (Kind.TTS, "fr_FR-siwis-meduim", "fr_FR-siwis-medium"),
        (Kind.TTS, "siwis", "fr_FR-siwis-medium"),
        (Kind.CHAT, "llama", "smollm2-135m-instruct"),
        (Kind.WAKE, "openwakewords", "openwakeword"),
    ],
)
def test_unknown_name_suggests_the_nearest(kind: Kind, name: str, nearest: str) -> None:
    with pytest.raises(ModelError, match=rf"{name}'.*{nearest}", check=lambda error: error.code == "model-unknown"):
        catalogue.find(kind, name)


@pytest.mark.parametrize(
    "name", ["", "org/name/more", "org/..:m.gguf", "org/repo:../../m.gguf", "org/repo:/m.gguf", "org/repo:m.bin"]
)
def test_chat_name_cannot_leave_its_repository(name: str) -> None:
    with pytest.raises(ModelError, check=lambda error: error.code == "model-unknown"):
        catalogue.find(Kind.CHAT, name)


@pytest.mark.parametrize(
    ("kind", "name", "source", "files"),
    [
        (Kind.CHAT, "org/r:sub/m.Q4_K_M.gguf", HubSource("org/r", folder="sub"), ["m.Q4_K_M.gguf"]),
        (Kind.STT, "/mine", LocalSource(Path("/mine")), ["model.bin", "config.json", "tokenizer.json"]),
        (Kind.STT, "~/w", LocalSource(Path.home() / "w"), ["model.bin", "config.json", "tokenizer.json"]),
        (Kind.TTS, "./voices/me.onnx", LocalSource(Path("voices")), ["me.onnx", "me.onnx.json"]),
        (Kind.CHAT, "/models/x.gguf", LocalSource(Path("/models")), ["x.gguf"]),
    ],
)
def test_other_models(kind: Kind, name: str, source: HubSource | LocalSource, files: list[str]) -> None:
    spec = catalogue.find(kind, name)
    assert spec.source == source
    assert [file.name for file in spec.files] == files


def test_lookup_takes_references_and_names_of_one_kind() -> None:
    asked = ("stt/base", "fr_FR-siwis-medium", "stt/org/repo", "org/repo", "/voices/me.onnx")
    found = [catalogue.lookup(one).reference for one in asked]
    assert found == ["stt/base", "tts/fr_FR-siwis-medium", "stt/org/repo", "stt/org/repo", "tts//voices/me.onnx"]
    with pytest.raises(ModelError, match="did you mean 'smollm2-135m-instruct'") as caught:
        catalogue.lookup("smollm2")
    assert caught.value.code == "model-unknown"


@pytest.mark.slow
def test_importing_the_catalogue_loads_no_library() -> None:
    heavy = "{'httpx', 'filelock', 'rich', 'huggingface_hub', 'pydantic', 'numpy'}"
    program = f"import sys, satellite.models.catalogue; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
