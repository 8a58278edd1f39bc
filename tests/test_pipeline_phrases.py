"""What is said when there is no answer: in the right language, or in the words of the house."""

import pytest

from satellite.config.chat import PhraseSettings
from satellite.languages import translations
from satellite.pipeline.phrases import Phrase, phrase


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "Sorry, I can't answer right now."),
        ("en-GB", "Sorry, I can't answer right now."),
        ("fr_FR", "Désolé, je ne peux pas répondre pour le moment."),
        ("nb", "Beklager, jeg kan ikke svare akkurat nå."),
        ("de", "Tut mir leid, ich kann gerade nicht antworten."),
        ("tlh", "Sorry, I can't answer right now."),
        (None, "Sorry, I can't answer right now."),
    ],
)
def test_a_language_has_its_sentence(language: str | None, expected: str) -> None:
    assert phrase(PhraseSettings(), Phrase.UNAVAILABLE, language) == expected


def test_configured_words_come_first() -> None:
    words = PhraseSettings(unavailable="Not now.", interrupted="Oh.")
    assert [phrase(words, occasion, "fr") for occasion in Phrase] == ["Not now.", "Oh."]
    assert phrase(PhraseSettings(interrupted="Oh."), Phrase.UNAVAILABLE, "en") == "Sorry, I can't answer right now."


def test_every_language_has_two_different_sentences() -> None:
    own = {language: texts for language, texts in translations().items() if Phrase.UNAVAILABLE in texts}
    assert len(own) == 23
    for language, texts in own.items():
        assert len({phrase(PhraseSettings(), occasion, language) for occasion in Phrase}) == 2
        assert Phrase.INTERRUPTED in texts
