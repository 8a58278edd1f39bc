"""What is written is what is said: signs, units, times, dates and addresses, by language."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from satellite.engines.tts.espeak import phonemizer
from satellite.pipeline import text_normalisation
from satellite.pipeline.clauses import ClauseSplitter, pieces
from satellite.pipeline.text_normalisation import written_out
from tests.running_daemon import DATA

SAID = yaml.safe_load((DATA / "sentences" / "written.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("language", "written", "said"), [(code, *pair) for code, pairs in SAID.items() for pair in pairs.items()]
)
def test_signs_and_units_are_written_out(language: str, written: str, said: str) -> None:
    assert written_out(written, language) == said


@pytest.mark.parametrize("sign", ["−", "≈", "≤", "≥", "÷", "×", "±", "=", "<", ">", "+", "&"])
def test_no_sign_is_lost_on_the_way_to_the_voice(sign: str) -> None:
    splitter = ClauseSplitter("en_US")
    pieces = [*splitter.feed(f"It is {sign}5 °C here."), *splitter.flush()]
    assert pieces == [written_out(f"It is {sign}5 °C here.", "en_US")]
    assert sign not in pieces[0]


@pytest.mark.parametrize(
    ("language", "voice", "written", "word"),
    [
        ("fr", "fr", "-5 degrés", "moins"),
        ("fr", "fr", "1 heure", "une"),
        ("es", "es", "1 hora", "una"),
        ("pt", "pt-br", "2 horas", "duas"),
        ("es", "es", "-5 grados", "menos"),
        ("de", "de", "5 km/h", "Stunde"),
        ("it", "it", "3 kg", "chili"),
        ("nl", "nl", "3 kg", "kilo"),
        ("en", "en-us", "5 km/h", "kilometers"),
    ],
)
def test_a_voice_says_what_it_left_out(language: str, voice: str, written: str, word: str) -> None:
    phonemes_of = phonemizer(voice)

    def spoken(text: str) -> str:
        phonemes = (phoneme for sentence in phonemes_of(text) for phoneme in sentence)
        return "".join(phoneme for phoneme in phonemes if phoneme not in "ˈˌ")

    core = spoken(word)[:3]
    assert core not in spoken(written)
    assert core in spoken(written_out(written, language))


@pytest.mark.parametrize("language", ["xx", None])
def test_text_in_other_languages_stays_as_it_is(language: str | None) -> None:
    assert written_out("It is −5 °C at 10:30.", language) == "It is −5 °C at 10:30."


@given(st.text(alphabet="0123456789 .,:-–−/€$%°CkmhvXI@a+()", max_size=200), st.sampled_from([*SAID]))
@settings(max_examples=200)
def test_any_text_is_written_out(text: str, language: str) -> None:
    written_out(text, language)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<ul><li>Milk</li><li>Eggs</li></ul>", "Milk, Eggs"),
        ("Milk<br/>Eggs&nbsp;&amp; ham", "Milk, Eggs & ham"),
        ("Done.<|im_end|>", "Done."),
        ("<p>One.</p><p>Two.</p>", "One. Two."),
        ("See [here](https://example.org/a_(b)).", "See here."),
        ("It is $E = mc^2$ or \\(\\frac{1}{2}\\).", "It is E = mc² or 1/2."),
        ("so... maybe", "so, maybe"),
        ("https://example.org/a_(b).", "example.org."),
        ("~5 → 6 :)", "≈5, 6"),
    ],
)
def test_markup_and_the_tokens_of_chat_templates_are_not_spoken(written: str, said: str) -> None:
    assert list(pieces(written)) == [said]


def test_a_table_is_read_row_by_row() -> None:
    table = "| City | Temp |\n|---|:--|\n| Paris | 12 |\n| Rome | 18 |\n"
    assert list(pieces(table)) == ["City, Temp", "Paris, 12", "Rome, 18"]


@pytest.mark.parametrize(
    "voice", [("en", "en-us"), ("fr", "fr"), ("de", "de"), ("es", "es"), ("it", "it"), ("nl", "nl")]
)
def test_no_abbreviation_ends_a_sentence_of_the_voice(voice: tuple[str, str]) -> None:
    titles = {"en": "Mr.", "fr": "M.", "de": "Dr.", "es": "Sr.", "it": "sig.", "nl": "dhr."}
    for written in (f"{titles[voice[0]]} A. B. Rossi 12", f"J. {titles[voice[0]]} Rossi"):
        assert len(phonemizer(voice[1])(written_out(written, voice[0]))) == 1


def test_words_and_rules_are_read_once_and_for_a_spoken_language_alone() -> None:
    text_normalisation._forms.cache_clear()
    text_normalisation._spell_out_rules.cache_clear()
    for _ in range(2):
        assert written_out("le 1er et le 2e, 5 km", "fr_CA") == "le premier et le deuxième, 5 kilomètres"
    assert text_normalisation._forms.cache_info().currsize == 1
    assert text_normalisation._spell_out_rules.cache_info().misses == 1
