"""Which models exist, and the lookup from a configured name to a `ModelSpec`; reads only voices.json."""

import difflib
import json
import re
from functools import cache
from pathlib import Path

from satellite.errors import ModelError
from satellite.languages import WHISPER
from satellite.models.demo_set import BASE_PACKAGED, DEMO, MICROWAKEWORD, OPENWAKEWORD, SMOLLM2, WAKE_WORDS
from satellite.models.kokoro_specs import kokoro_voices
from satellite.models.mms_specs import mms_voices
from satellite.models.spec import File, HubSource, Kind, LocalSource, ModelSpec

__all__ = ["DEMO", "WAKE_WORDS", "Kind", "demo_set", "find", "lookup", "names", "piper_voice"]

_WHISPER = {  # name: repository, and size of its model.bin in megabytes as shown by the hub
    "tiny": ("Systran/faster-whisper-tiny", 76),
    "base": ("Systran/faster-whisper-base", 145),
    "base.en": ("Systran/faster-whisper-base.en", 145),
    "small": ("Systran/faster-whisper-small", 484),
    "small.en": ("Systran/faster-whisper-small.en", 484),
    "medium": ("Systran/faster-whisper-medium", 1528),
    "medium.en": ("Systran/faster-whisper-medium.en", 1528),
    "large-v1": ("Systran/faster-whisper-large-v1", 3087),
    "large-v2": ("Systran/faster-whisper-large-v2", 3087),
    "large-v3": ("Systran/faster-whisper-large-v3", 3087),
    "large-v3-turbo": ("mobiuslabsgmbh/faster-whisper-large-v3-turbo", 1618),
    "distil-small.en": ("Systran/faster-distil-whisper-small.en", 332),
    "distil-medium.en": ("Systran/faster-distil-whisper-medium.en", 789),
    "distil-large-v2": ("Systran/faster-distil-whisper-large-v2", 1513),
    "distil-large-v3": ("Systran/faster-distil-whisper-large-v3", 1513),
    "distil-large-v3.5": ("distil-whisper/distil-large-v3.5-ct2", 1513),
}

_ALIASES = {"turbo": "large-v3-turbo", "large": "large-v3"}

_REPOSITORY = r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*"
_VOICES = Path(__file__).with_name("voices.json")


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
            others = [_whisper(name) for name in _WHISPER]
        case Kind.TTS:
            voices = json.loads(_VOICES.read_text(encoding="utf-8"))["voices"]
            others = [*(piper_voice(name, *row) for name, row in voices.items()), *kokoro_voices(), *mms_voices()]
    for spec in others:
        known.setdefault(spec.name, spec)  # en_US-joe-medium comes from its wheel first
    return known


def _whisper(name: str) -> ModelSpec:
    repository, megabytes = _WHISPER[name]
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
        packaged=BASE_PACKAGED if name == "base" else None,
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
