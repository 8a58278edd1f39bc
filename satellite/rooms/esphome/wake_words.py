"""The wake words of an ESPHome device: which it has, which it listens for, and own ones that it is offered."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aioesphomeapi.client import APIClient
from aioesphomeapi.model import VoiceAssistantConfigurationResponse, VoiceAssistantExternalWakeWord

_ANSWER_SECONDS = 5.0
"""Home Assistant's figure."""

_MOST_BYTES = 4 * 1024 * 1024
"""Of one model: those of microWakeWord have 60 kB."""


@dataclass(frozen=True, slots=True)
class OfferedWakeWord:
    """A microWakeWord model of the house."""

    id: str
    phrase: str
    languages: tuple[str, ...]
    model: bytes
    manifest: bytes


def own_wake_words(directory: Path | None) -> list[OfferedWakeWord]:
    """Return the microWakeWord models of a folder, which a device may download; blocks."""
    words = []
    for file in sorted(directory.glob("*.json")) if directory is not None else ():
        model = file.with_suffix(".tflite")
        try:
            manifest = json.loads(file.read_bytes())
            if not isinstance(manifest.get("micro"), dict) or model.stat().st_size > _MOST_BYTES:
                continue
            phrase, languages = manifest.get("wake_word"), manifest.get("trained_languages")
            # The device looks for the model beside the manifest, by the word's name.
            content = json.dumps(manifest | {"model": f"{file.stem}.tflite"}).encode()
            spoken = tuple(map(str, languages)) if isinstance(languages, list) else ()
            words.append(
                OfferedWakeWord(file.stem, str(phrase or _spoken(file.stem)), spoken, model.read_bytes(), content)
            )
        except (OSError, ValueError, AttributeError, RecursionError):
            continue  # not one of them, or not whole yet; the wake word engine reports what it cannot read
    return words


def files_of(words: Sequence[OfferedWakeWord]) -> Mapping[str, bytes]:
    """Return what a device downloads of `words`, by name."""
    return {f"{word.id}.json": word.manifest for word in words} | {f"{word.id}.tflite": word.model for word in words}


async def configured(
    client: APIClient, words: Sequence[OfferedWakeWord], url: str
) -> VoiceAssistantConfigurationResponse:
    """Return what the device listens for, after offering `words`, whose files are in the folder `url`.

    It is empty where the device belongs to another server, and where it has no wake words.
    """
    offered = [
        VoiceAssistantExternalWakeWord.from_dict(
            {
                "id": word.id,
                "wake_word": word.phrase,
                "trained_languages": list(word.languages),
                "model_type": "micro",
                "model_size": len(word.model),
                "model_hash": hashlib.sha256(word.model).hexdigest(),
                "url": f"{url}/{word.id}.json",
            }
        )
        for word in words
    ]
    return await client.get_voice_assistant_configuration(_ANSWER_SECONDS, external_wake_words=offered)


def chosen(wanted: Sequence[str], known: VoiceAssistantConfigurationResponse) -> tuple[list[str], list[str]]:
    """Return the identifiers of the `wanted` words, by identifier or phrase, and those that the device cannot use."""
    ids = {_spoken(key): word.id for word in known.available_wake_words for key in (word.wake_word, word.id)}
    found = [ids[_spoken(word)] for word in wanted if _spoken(word) in ids][: known.max_active_wake_words or None]
    return found, [word for word in wanted if ids.get(_spoken(word)) not in found]


def _spoken(word: str) -> str:
    return re.sub(r"[\W_]+", " ", word).strip().lower()
