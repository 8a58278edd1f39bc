"""What is written is what is said: signs, units, times, dates and addresses, by language."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from piper.phonemize_espeak import EspeakPhonemizer

from satellite.pipeline import text_normalisation
from satellite.pipeline.clauses import ClauseSplitter, pieces
from satellite.pipeline.text_normalisation import written_out

SAID = {
    "en_US": {
        "It is −5 °C, and -3 at night.": "It is minus 5 degrees, and minus 3 at night.",
        "5–10 people, 2019-2024, a 3-2 win": "5 to 10 people, 2019 to 2024, a 3 2 win",
        "10 − 5 = 5": "10 minus 5 equals 5",
        "2 × 3, 6 ÷ 2, ≈ 5, ≤ 6": "2 times 3, 6 divided by 2, about 5, at most 6",
        "at 10:30, 10:05 p.m. or 10:00": "at 10 30, 10 oh 5 p.m. or 10 o'clock",
        "on 2026-11-30 or 11/30/2026": "on November 30, 2026 or November 30, 2026",
        "$3.50, €5, £1, $5 million": "3 dollars 50, 5 euros, 1 pound, 5 million dollars",
        "1 kg, 2.5 kg, 5 km/h, 9 m²": "1 kilo, 2.5 kilos, 5 kilometers per hour, 9 square meters",
        "call 555-1234 or +1 555-123-4567": "call 5 5 5, 1 2 3 4 or plus 1, 5 5 5, 1 2 3, 4 5 6 7",
        "version v2.3.1 at 192.168.1.10": "version 2 point 3 point 1 at 192 dot 168 dot 1 dot 10",
        "Louis XIV, chapter IV": "Louis the fourteenth, chapter 4",
        "a VIP pass, a VISA card, size XXL": "a VIP pass, a VISA card, size XXL",
        "0.1234567 km, 0 - 100 km/h": "0.1234567 kilometers, 0 to 100 kilometers per hour",
        "at 10:00 AM, 12:30 PM, 10:30:45": "at 10 AM, 12 30 PM, 10:30:45",
        "TV, USB.": "T V, U S B.",
        "THE TV IS NOT ON": "The T V is not on",
        "$5bn, £5m, $1,234.56": "$5bn, £5m, 1,234 dollars 56",
        "02/2024": "02/2024",
        "(1990-2000), (100 000)": "(1990 to 2000), (100 000)",
        "0 °C, 0.5 km, 1 km": "0 degrees, 0.5 kilometers, 1 kilometer",
        "THIS IS IMPORTANT": "This is important",
        "a USB port, an IMPORTANT note": "a U S B port, an important note",
        "info@example.org, settings.json, e.g. this": "info at example dot org, settings dot json, e.g. this",
        "room 101 - 5 chairs, a well-known 3": "room 101 - 5 chairs, a well-known 3",
    },
    "fr_FR": {
        "Il fait -5 degrés, −5 °C": "Il fait moins 5 degrés, moins 5 degrés",
        "à 14h30, 8 h, 1 h, 10:05": "à 14 heures 30, 8 heures, 1 heure, 10 heures 5",
        "3,50 €, 1,5 l, 12 345 km": "3 euros 50, 1,5 litre, 12 345 kilomètres",
        "le 1er, la 1re, le 2e, la 3ème": "le premier, la première, le deuxième, la troisième",
        "1 000 000 €, 1 000 000 km": "1 000 000 euros, 1 000 000 kilomètres",
        "le 2026-11-01 et le 30/11/2026": "le premier novembre 2026 et le 30 novembre 2026",
        "01 23 45 67 89": "0 1, 23, 45, 67, 89",
        "Louis XIV, 5-10 %": "Louis 14, 5 à 10 %",
    },
    "de_DE": {
        "Es sind −5 Grad, 5–10 km/h": "Es sind minus 5 Grad, 5 bis 10 Kilometer pro Stunde",
        "um 10:30 und 8:00": "um 10 Uhr 30 und 8 Uhr",
        "um 16:00 Uhr und 16:30 Uhr": "um 16 Uhr und 16 Uhr 30",
        "1.234.567 Euro, 192.168.100.200": "1.234.567 Euro, 192 Punkt 168 Punkt 100 Punkt 200",
        "Version 1.234.567, 2.3.1": "Version 1 Punkt 234 Punkt 567, 2 Punkt 3 Punkt 1",
        "Heinrich VIII. war dick": "Heinrich der achte war dick",
        "Der 3. Oktober": "Der dritte Oktober",
        "am 29. November, der 3. Mann": "am neunundzwanzigsten November, der dritte Mann",
        "3,50 €, 5 Mio. €, USB": "3 Euro 50, 5 Mio. Euro, U S B",
    },
    "es_ES": {"-5 grados, 5–10, 2 × 3": "menos 5 grados, 5 a 10, 2 por 3", "la 1ª y el 2º": "la primera y el segundo"},
    "it_IT": {"-5, 5–10 kg": "meno 5, 5 a 10 chili", "il 1º piano, Luigi XIV": "il primo piano, Luigi quattordicesimo"},
    "nl_NL": {
        "-5, 5–10 kg, 2.3.1": "min 5, 5 tot 10 kilo, 2 punt 3 punt 1",
        "de 1e om 10:30": "de eerste om 10 uur 30",
        "om 15:00 uur": "om 15 uur",
    },
    "pt_BR": {"-5, 5–10 kg": "menos 5, 5 a 10 quilos", "a 1ª e o 2º": "a primeira e o segundo"},
}


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
        ("es", "es", "-5 grados", "menos"),
        ("de", "de", "5 km/h", "Stunde"),
        ("it", "it", "3 kg", "chili"),
        ("nl", "nl", "3 kg", "kilo"),
        ("en", "en-us", "5 km/h", "kilometers"),
    ],
)
def test_a_voice_says_what_it_left_out(language: str, voice: str, written: str, word: str) -> None:
    phonemizer = EspeakPhonemizer()

    def spoken(text: str) -> str:
        phonemes = (phoneme for sentence in phonemizer.phonemize(voice, text) for phoneme in sentence)
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
    ],
)
def test_markup_and_the_tokens_of_chat_templates_are_not_spoken(written: str, said: str) -> None:
    assert list(pieces(written)) == [said]


def test_words_and_rules_are_read_once_and_for_a_spoken_language_alone() -> None:
    text_normalisation._forms.cache_clear()
    text_normalisation._spell_out_rules.cache_clear()
    for _ in range(2):
        assert written_out("le 1er et le 2e, 5 km", "fr_CA") == "le premier et le deuxième, 5 kilomètres"
    assert text_normalisation._forms.cache_info().currsize == 1
    assert text_normalisation._spell_out_rules.cache_info().misses == 1
