"""The wake words of a device: those of its firmware, and those that it is offered and downloads."""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from tests.doubles.esphome_wire import Message, pb


@dataclass(frozen=True)
class WakeWord:
    """A wake word that the device knows."""

    id: str
    phrase: str
    languages: tuple[str, ...] = ("en",)


_FIRMWARE = (WakeWord("okay_nabu", "Okay Nabu"), WakeWord("hey_jarvis", "Hey Jarvis"))


@dataclass(eq=False, kw_only=True)
class WakeWords:
    """What a device has of them; may be changed while it runs."""

    wake_words: tuple[WakeWord, ...] = _FIRMWARE
    active_wake_words: list[str] = field(default_factory=lambda: ["okay_nabu"])
    most_active_wake_words: int = 1
    takes_wake_words: bool = False
    """Downloads microWakeWord models that it is offered, as linux-voice-assistant does."""

    downloaded: dict[str, bytes] = field(default_factory=dict)
    """The models that it was offered and asked to use."""

    offered: dict[str, Message] = field(default_factory=dict)

    @property
    def active_phrase(self) -> str:
        """What somebody says to it, empty when it hears nothing."""
        phrases = {word.id: word.phrase for word in self.wake_words}
        return next((phrases[id_] for id_ in self.active_wake_words), "")

    def configuration(self, request: Message | None) -> Message:
        """Return the answer to `request`, empty when there is none, as for a server that it does not belong to."""
        if request is None:
            return pb.VoiceAssistantConfigurationResponse()
        words = list(self.wake_words)
        if self.takes_wake_words:
            self.offered = {word.id: word for word in request.external_wake_words if word.model_type == "micro"}
            words += [_known(word) for word in self.offered.values() if word.id not in self.downloaded]
        return pb.VoiceAssistantConfigurationResponse(
            available_wake_words=[
                pb.VoiceAssistantWakeWord(id=word.id, wake_word=word.phrase, trained_languages=word.languages)
                for word in words
            ],
            active_wake_words=self.active_wake_words,
            max_active_wake_words=self.most_active_wake_words if words else 0,
        )

    async def use(self, ids: list[str]) -> None:
        """Listen for these, as many as it can, after it has downloaded what it does not know."""
        for word in [self.offered[id_] for id_ in ids if id_ in self.offered and id_ not in self.downloaded]:
            if await self._download(word):
                self.wake_words += (_known(word),)
        known = {word.id for word in self.wake_words}
        self.active_wake_words = [id_ for id_ in ids if id_ in known][: self.most_active_wake_words]

    async def _download(self, word: Message) -> bool:
        with suppress(httpx.HTTPError, ValueError):
            async with httpx.AsyncClient() as client:
                json.loads((await client.get(word.url)).raise_for_status().text)
                model = (await client.get(httpx.URL(word.url).join(f"{word.id}.tflite"))).raise_for_status().content
            if len(model) == word.model_size and hashlib.sha256(model).hexdigest() == word.model_hash:
                self.downloaded[word.id] = model
        return word.id in self.downloaded


def _known(offered: Message) -> WakeWord:
    return WakeWord(offered.id, offered.wake_word, tuple(offered.trained_languages))
