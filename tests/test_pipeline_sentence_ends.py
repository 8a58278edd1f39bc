"""Where sentences end, in whole texts and in texts that arrive in pieces."""

import pytest
import yaml

from satellite.pipeline.clauses import ClauseSplitter
from satellite.pipeline.sentence_ends import sentence_ends
from tests.running_daemon import DATA

SENTENCES = yaml.safe_load((DATA / "sentences" / "ends.yaml").read_text(encoding="utf-8"))


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
        ("See https://example.org/a?b=1 now.", ["See example dot org now."]),
        ('"Hello!", he said. So.', ['"Hello!", he said.', "So."]),
        ("Stop?! No.", ["Stop?", "No."]),
        ("Milk\n- Eggs\n- [ ] Ham", ["Milk", "Eggs", "Ham"]),
        ("Tom &amp; Jerry&#39;s house; a cat.", ["Tom and Jerry's house;", "a cat."]),
    ],
)
def test_names_and_addresses_stay_whole_token_by_token(text: str, said: list[str]) -> None:
    splitter = ClauseSplitter("en")
    pieces = [piece for character in text for piece in splitter.feed(character)]
    assert [*pieces, *splitter.flush()] == said


def test_a_mark_is_not_judged_before_what_follows_it_is_known() -> None:
    assert list(sentence_ends("It is 3 p.m. ", "en", is_all=False)) == []
    assert list(sentence_ends("It is 3 p.m. T", "en", is_all=False)) == []
    assert list(sentence_ends("It is 3 p.m. Th", "en", is_all=False)) == []
    assert list(sentence_ends("It is 3 p.m. The", "en", is_all=False)) == [12]
    assert list(sentence_ends("It is 3 p.m.", "en")) == [12]
    assert list(sentence_ends("Plan B. The", "en", is_all=False)) == []
    assert list(sentence_ends("Plan B. The ", "en", is_all=False)) == [7]
    assert list(sentence_ends("Plan B. Theodore said so. ", "en", is_all=False)) == []
