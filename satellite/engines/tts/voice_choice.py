"""Which of several voices a caller means, wherever they are."""

import logging
from collections.abc import Sequence

from satellite.config.settings import nearest
from satellite.engines.protocols import Voice, VoiceChoice
from satellite.errors import TextToSpeechError, shown
from satellite.languages import closest

_LOGGER = logging.getLogger(__name__)


def choose_voice(choice: VoiceChoice, voices: Sequence[Voice]) -> Voice:
    """Return the voice of `choice` among `voices`, of which the first is the default: by name, else by language.

    A voice of the language's region comes before one of any other region. Raises `TextToSpeechError` of the kind
    `unknown-voice`, and with `strict` `unsupported-language`.
    """
    voice = _by_name_or_language(choice, voices)
    if choice.spoken is None or closest(choice.spoken, voice.languages) is not None:
        return voice
    return _speaking(choice.spoken, voices) or voice


def _by_name_or_language(choice: VoiceChoice, voices: Sequence[Voice]) -> Voice:
    if choice.name is not None:
        for voice in voices:
            if voice.name == choice.name:
                return voice
        known = nearest(choice.name, {voice.name for voice in voices})
        raise TextToSpeechError(f"unknown voice '{shown(choice.name)}'; {known}", kind="unknown-voice")
    if not choice.language:
        return voices[0]
    if (found := _speaking(choice.language, voices)) is not None:
        return found
    if choice.strict:
        known = ", ".join(sorted({language for voice in voices for language in voice.languages}))
        raise TextToSpeechError(
            f"no voice speaks {shown(choice.language)}; there are voices for: {known}", kind="unsupported-language"
        )
    _LOGGER.warning("no voice for the language %s; using the default voice", shown(choice.language))
    return voices[0]


def _speaking(language: str, voices: Sequence[Voice]) -> Voice | None:
    code = closest(language, [code for voice in voices for code in voice.languages])
    return next((voice for voice in voices if code in voice.languages), None)
