"""Which models exist, and the lookup from a configured name to a `ModelSpec`; reads only the lists beside it."""

import difflib
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from satellite.errors import ModelError
from satellite.languages import WHISPER
from satellite.models.demo_set import DEMO, LISTED, MICROWAKEWORD, OPENWAKEWORD, SMOLLM2, WAKE_WORDS, in_wheels
from satellite.models.spec import File, HubSource, Kind, LocalSource, ModelSpec, PackageSource

__all__ = ["DEMO", "WAKE_WORDS", "Kind", "demo_set", "find", "lookup", "names", "piper_voice"]

_ALIASES = {"turbo": "large-v3-turbo", "large": "large-v3"}

_REPOSITORY = r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*"

_STYLE_BYTES = 522_240
_STYLES_INSTALLED = ("ff_siwis",)
"""Kokoro's voices that come with satellite, for the demo on machines that cannot reach the hub."""

_MMS_BYTES = 114_000_000
"""About as much as the network of any MMS voice has."""

_MMS_BESIDE = ("config.json", "vocab.json", "tokenizer_config.json")


def find(kind: Kind, name: str) -> ModelSpec:
    """Return the model with the configured `name`.

    Besides the catalogue's own names: a path (`/`, `./`, `../` or `~` first) to a CTranslate2 folder, an .onnx voice
    or a .gguf; `org/repository` of the hub for Whisper; `org/repository:file.gguf` for a chat model. Raises
    ModelError(model-unknown), which names the nearest valid names.
    """
    spec = _found(kind, name)
    if spec is None:
        raise ModelError(f"unknown {kind} model {name!r}; {_nearest(name, names(kind))}", code="model-unknown")
    return spec


def lookup(reference: str) -> ModelSpec:
    """Return the model of `kind/name`, or of a name that only one kind has; raises ModelError(model-unknown)."""
    kind, _, name = reference.partition("/")
    if kind in set(Kind):
        return find(Kind(kind), name)
    found = [spec for candidate in Kind if (spec := _found(candidate, reference))]
    if len(found) == 1:
        return found[0]
    if found:
        choice = " or ".join(spec.reference for spec in found)
        raise ModelError(f"{reference!r} is ambiguous; write {choice}", code="model-unknown")
    everything = {spec.name: spec.reference for kind in Kind for spec in _known(kind).values()}
    hint = _nearest(reference, list(everything))
    raise ModelError(f"unknown model {reference!r}; {hint}", code="model-unknown")


def demo_set(language: str) -> tuple[ModelSpec, ...]:
    """Return the small models for `en` or `fr`, one of every kind; raises ModelError(model-unknown)."""
    match language:
        case "en":
            return DEMO
        case "fr":
            return OPENWAKEWORD, find(Kind.STT, "base"), SMOLLM2, find(Kind.TTS, "ff_siwis")
    raise ModelError(f"there are no demo models for {language!r}; expected en or fr", code="model-unknown")


def names(kind: Kind) -> list[str]:
    """Return the catalogue's own names of one kind, the demo set first."""
    return list(_known(kind))


def piper_voice(name: str, speakers: int, onnx_bytes: int, onnx_md5: str, json_bytes: int) -> ModelSpec:
    """Return the spec of a voice of rhasspy/piper-voices from its row in voices.json.

    Only the network's hash is pinned: configurations and cards are edited there after a voice is listed, and are
    checked against what the hub announces.
    """
    language, voice, quality = name.split("-")
    folder = f"{language.partition('_')[0]}/{language}/{voice}/{quality}"
    return ModelSpec(
        Kind.TTS,
        name,
        f"Piper voice {voice}, {quality} quality" + (f", {speakers} speakers" if speakers > 1 else ""),
        "the voice's own: see MODEL_CARD",
        (language,),
        HubSource("rhasspy/piper-voices", folder=folder),
        (
            File(f"{name}.onnx", onnx_bytes, md5=onnx_md5),
            File(f"{name}.onnx.json", json_bytes),
            File("MODEL_CARD", 0, optional=True),
        ),
        speakers=speakers,
    )


def _found(kind: Kind, name: str) -> ModelSpec | None:
    return _known(kind).get(_ALIASES.get(name, name)) or _local(kind, name) or _of_hub(kind, name)


@cache
def _known(kind: Kind) -> dict[str, ModelSpec]:
    known = {spec.name: spec for spec in DEMO if spec.kind is kind}
    others: list[ModelSpec] = []
    match kind:
        case Kind.WAKE:
            others = [MICROWAKEWORD]
        case Kind.STT:
            others = [_whisper(name, *row) for name, row in LISTED["whisper"].items()]
        case Kind.TTS:
            network = in_wheels("tts/kokoro")
            others = [
                *(piper_voice(name, *row) for name, row in _voices("voices.json").items()),
                *(_kokoro_voice(name, sha256, network) for name, sha256 in _voices("kokoro_voices.json").items()),
                *(_mms_voice(code, language) for code, language in LISTED["mms"].items()),
            ]
    for spec in others:
        known.setdefault(spec.name, spec)  # en_US-joe-medium comes from its wheel first
    return known


def _voices(file: str) -> dict[str, Any]:
    voices: dict[str, Any] = json.loads(Path(__file__).with_name(file).read_text(encoding="utf-8"))["voices"]
    return voices


def _kokoro_voice(name: str, sha256: str, network: ModelSpec) -> ModelSpec:
    """Return one of Kokoro's voices, a small style for the network that all share."""
    voice = ModelSpec(
        Kind.TTS,
        name,
        f"Kokoro voice {name.partition('_')[2]}, {'female' if name[1] == 'f' else 'male'}",
        network.licence,
        (LISTED["kokoro"][name[0]],),
        HubSource("onnx-community/Kokoro-82M-v1.0-ONNX", folder="voices"),
        (File(f"{name}.bin", _STYLE_BYTES, sha256),),
        network=network,
    )
    if name not in _STYLES_INSTALLED:
        return voice
    return replace(voice, packaged=replace(voice, source=PackageSource("satellite.models", "styles")))


def _mms_voice(code: str, language: str) -> ModelSpec:
    """Return one of Meta's MMS voices, in the ONNX exports of Xenova."""
    return ModelSpec(
        Kind.TTS,
        f"mms-tts-{code}",
        f"MMS voice of facebook/mms-tts-{code}",
        "CC BY-NC 4.0 (non-commercial)",
        (language,),
        HubSource(f"Xenova/mms-tts-{code}"),
        (File("model.onnx", _MMS_BYTES, in_repository="onnx/model.onnx"), *(File(name, 0) for name in _MMS_BESIDE)),
        by_characters=True,
    )


def _whisper(name: str, repository: str, megabytes: int) -> ModelSpec:
    languages = WHISPER
    if name.endswith(".en") or name.startswith("distil-"):
        languages = ("en",)
    elif name.startswith("large-v3"):
        languages = (*languages, "yue")
    return ModelSpec(
        Kind.STT,
        name,
        f"Whisper {name} for CTranslate2",
        "MIT",
        languages,
        *_whisper_files(repository, megabytes),
        packaged=in_wheels("stt/base") if name == "base" else None,
    )


def _whisper_files(repository: str, megabytes: int = 0) -> tuple[HubSource, tuple[File, ...]]:
    """Return where a repository with a Whisper model for CTranslate2 is, and its files."""
    vocabularies = ("vocabulary.json", "vocabulary.txt")
    needed = (File("model.bin", megabytes * 1_000_000), File("config.json", 0), File("tokenizer.json", 0))
    optional = (File(name, 0, optional=True) for name in (*vocabularies, "preprocessor_config.json"))
    return HubSource(repository, one_of=vocabularies), (*needed, *optional)


def _local(kind: Kind, name: str) -> ModelSpec | None:
    if not name.startswith(("/", "./", "../", "~")):
        return None
    path = Path(name).expanduser()
    needed = {
        Kind.WAKE: (),
        Kind.STT: ("model.bin", "config.json", "tokenizer.json") if path.suffix not in (".gguf", ".onnx") else (),
        Kind.CHAT: (path.name,) if path.suffix == ".gguf" else (),
        Kind.TTS: (path.name, f"{path.name}.json") if path.suffix == ".onnx" else (),
    }[kind]
    if not needed:
        return None
    folder = path if kind is Kind.STT else path.parent
    files = tuple(File(file, 0) for file in needed)
    return ModelSpec(kind, name, "your own", "your own", (), LocalSource(folder), files)


def _of_hub(kind: Kind, name: str) -> ModelSpec | None:
    if kind is Kind.STT and re.fullmatch(_REPOSITORY, name):
        languages = ("en",) if name.endswith(".en") else ()
        return ModelSpec(kind, name, "Whisper for CTranslate2", "see the repository", languages, *_whisper_files(name))
    if kind is Kind.CHAT and (match := re.fullmatch(rf"({_REPOSITORY}):([\w./-]+\.gguf)", name)):
        repository, path = match.groups()
        if ".." in path or path.startswith("/"):
            return None
        folder, _, file = path.rpartition("/")
        source = HubSource(repository, folder=folder)
        return ModelSpec(kind, name, "GGUF of the hub", "see the repository", (), source, (File(file, 0),))
    return None


def _nearest(name: str, known: list[str]) -> str:
    close = [match for match in known if name.lower() in match.lower()] if name else []
    close = (close or difflib.get_close_matches(name, known, n=3, cutoff=0.5))[:3]
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    if len(known) <= 20:
        return "expected one of " + ", ".join(known)
    return "`satellite models list --all` shows them all"
