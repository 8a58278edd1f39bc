"""Apologies for missing answers, in the language of the voice or the client."""

from enum import StrEnum

from satellite.config.chat import PhraseSettings
from satellite.languages import translated_or_english


class Phrase(StrEnum):
    """The occasions for an apology."""

    UNAVAILABLE = "answer_unavailable"
    """There is no answer."""

    INTERRUPTED = "answer_interrupted"
    """The answer broke off."""


def phrase(settings: PhraseSettings, occasion: Phrase, language: str | None) -> str:
    """Return the apology for `occasion`: the configured text, else that for a language such as `fr` or `fr_FR`."""
    configured = settings.unavailable if occasion is Phrase.UNAVAILABLE else settings.interrupted
    return translated_or_english(occasion, language) if configured is None else configured
