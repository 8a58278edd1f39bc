"""Where sentences end, in whole texts and in texts that arrive in pieces."""

import pytest

from satellite.pipeline.clauses import ClauseSplitter
from satellite.pipeline.sentence_ends import sentence_ends

SENTENCES = {
    "en": [
        ["The shop opens at 3 p.m. on Tuesday."],
        ["It is Jan. 5th today.", "Dress warmly."],
        ["Open the file settings.json, please."],
        ["Write to info@example.org today.", "Thanks."],
        ["Dr. Smith met Mrs. Jones at 10 a.m.", "They talked."],
        ["Use tools, e.g. a hammer.", "Then rest."],
        ["J. R. R. Tolkien wrote it.", "I read it."],
        ["Version 2.3.1 is out!", "Install it."],
        ['"Really?" he asked.', "Nobody knew."],
        ["No.", "I can't do that."],
        ["So do I.", "Good."],
        ["The light is on.", "Come with me.", "I asked Max.", "Fine."],
        ["Rep. Smith asked the rep.", "He knows."],
        ["I was there... and left.", "That is all…", "Bye."],
        ["We follow Plan B.", "It works."],
        ["She lives in the U.S.", "The rent is high."],
        ["It came from the U.S. Senate.", "Read it."],
        ["Vitamin C.", "That's healthy."],
        ["George W. Bush and K. He wrote it.", "Fine."],
    ],
    "de": [
        ["Heute ist der 29. November 2026.", "Es regnet."],
        ["Nimm Obst, z. B. Äpfel.", "Das ist gesund."],
        ["Das kostet ca. 5 Mio. Euro.", "Viel Geld."],
        ["Ich habe 20.", "Und du?"],
        ["Das ist Plan B.", "Er gefällt mir."],
        ["Lies eine Zeitung, z. B. Die Zeit.", "Dann schlaf."],
        ["Der Autor heißt E. T. A. Hoffmann.", "Lies ihn."],
    ],
    "fr": [
        ["Le magasin ouvre vers 8 h. en semaine."],
        ["Arrivée av. 8 h, départ après.", "Merci."],
        ["M. Dupont habite ici.", "Il est gentil."],
        ["Il va à l'est.", "Me. Durand aussi."],
        ["Bonjour !", "Comment ça va ?"],
        ["C'est le plan B.", "Il marche."],
        ["L'historien J. Le Goff est mort.", "Il a écrit."],
    ],
    "es": [
        ["El Sr. Pérez llegó.", "¿Qué quiere?"],
        ["Vive en EE. UU. desde 2010.", "¡Qué bien!"],
        ["Es el plan B.", "Hay tiempo."],
        ["Lee a J. De la Cruz.", "Bien."],
    ],
    "it": [
        ["Il dott. Bianchi parla.", "Ascolta."],
        ["Ecco il piano B.", "Non è male."],
        ["Parla G. La Rosa.", "Ecco."],
    ],
    "nl": [
        ["Dhr. Jansen neemt bijv. Appelsap.", "Lekker."],
        ["Dit is plan B.", "Het werkt."],
        ["Bel J. De Vries.", "Goed."],
    ],
    "pt": [
        ["A Dra. Costa falou.", "Obrigado."],
        ["Vou ao mar.", "Depois volto."],
        ["É o plano B.", "Ele serve."],
        ["Leia A. Dos Santos.", "Bom."],
    ],
}


@pytest.mark.parametrize(
    ("language", "sentences"), [(language, one) for language, several in SENTENCES.items() for one in several]
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_sentences_end_where_they_end(language: str, sentences: list[str], size: int) -> None:
    text = " ".join(["Well begun.", *sentences])
    splitter = ClauseSplitter(language)
    pieces = [piece for at in range(0, len(text), size) for piece in splitter.feed(text[at : at + size])]
    spoken = [*pieces, *splitter.flush()]
    ends = [text[:end] for end in sentence_ends(text, language)]
    assert ends == [" ".join(["Well begun.", *sentences[:count]]) for count in range(len(sentences) + 1)]
    assert len(spoken) == len(sentences) + 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Open settings.json, then go on.", ["Open settings dot json,", "then go on."]),
        ("See https://example.org/help now.", ["See example dot org now."]),
        ("Ask info@example.org.", ["Ask info at example dot org."]),
        ("Tom &amp; Jerry&#39;s house; a cat.", ["Tom and Jerry's house;", "a cat."]),
    ],
)
def test_names_and_addresses_stay_whole_token_by_token(text: str, said: list[str]) -> None:
    splitter = ClauseSplitter("en")
    pieces = [piece for character in text for piece in splitter.feed(character)]
    assert [*pieces, *splitter.flush()] == said


def test_a_mark_is_not_judged_before_what_follows_it_is_known() -> None:
    assert list(sentence_ends("It is 3 p.m. ", "en", is_all=False)) == []
    assert list(sentence_ends("It is 3 p.m. T", "en", is_all=False)) == [12]
    assert list(sentence_ends("It is 3 p.m.", "en")) == [12]
    assert list(sentence_ends("Plan B. The", "en", is_all=False)) == []
    assert list(sentence_ends("Plan B. The ", "en", is_all=False)) == [7]
    assert list(sentence_ends("Plan B. Theodore said so. ", "en", is_all=False)) == []
