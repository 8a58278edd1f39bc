"""What the voices say in the speaking matrix: what is written, and what a person reads aloud."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from unicode_rbnf import RbnfEngine

from satellite.audio.word_errors import normalise
from satellite.pipeline.text_normalisation import written_out


@dataclass(frozen=True, slots=True)
class Text:
    """A reply of a home."""

    kind: str
    written: str
    said: str
    """In words, but for numbers."""


def _texts(**kinds: Mapping[str, str]) -> tuple[Text, ...]:
    return tuple(Text(kind, *pair) for kind, pairs in kinds.items() for pair in pairs.items())


def _as_written(*texts: str) -> Mapping[str, str]:
    return {text: text for text in texts}


TEXTS: Mapping[str, tuple[Text, ...]] = {
    "en": _texts(
        numbers={
            "It is −5 °C in the garden.": "It is minus 5 degrees in the garden.",
            "The humidity will be 45–50 % tonight.": "The humidity will be 45 to 50 percent tonight.",
            "The wind blows at 12 km/h.": "The wind blows at 12 kilometers per hour.",
        },
        times={
            "Your alarm is set for 6:45.": "Your alarm is set for 6 45.",
            "The bus leaves at 10:05.": "The bus leaves at 10 oh 5.",
            "We will be back on 2026-11-30.": "We will be back on November 30, 2026.",
        },
        prices={
            "The bread costs $3.50.": "The bread costs 3 dollars 50.",
            "The heating costs €20 a week.": "The heating costs 20 euros a week.",
        },
        abbreviations={
            "Dr. Smith comes at 3 p.m. on Tuesday.": "Doctor Smith comes at 3 pm on Tuesday.",
            "The USB port is behind the TV.": "The U S B port is behind the T V.",
        },
        plain=_as_written(
            "The kitchen window is still open, and it is raining.",
            "Good evening. The heating will be turned down tonight.",
        ),
    ),
    "fr": _texts(
        numbers={
            "Il fait −5 °C dans le jardin.": "Il fait moins 5 degrés dans le jardin.",
            "L'humidité sera de 45–50 % ce soir.": "L'humidité sera de 45 à 50 pour cent ce soir.",
            "Le vent souffle à 12 km/h.": "Le vent souffle à 12 kilomètres-heure.",
        },
        times={
            "Votre réveil est réglé sur 6h45.": "Votre réveil est réglé sur 6 heures 45.",
            "Le train part à 14:30.": "Le train part à 14 heures 30.",
            "Nous serons de retour le 2026-11-30.": "Nous serons de retour le 30 novembre 2026.",
        },
        prices={
            "Le pain coûte 3,50 €.": "Le pain coûte 3 euros 50.",
            "Le chauffage coûte 20 € par semaine.": "Le chauffage coûte 20 euros par semaine.",
        },
        abbreviations={
            "M. Dupont arrive mardi.": "Monsieur Dupont arrive mardi.",
            "Mme Martin habite au 2e étage.": "Madame Martin habite au deuxième étage.",
        },
        plain=_as_written("La fenêtre de la cuisine est encore ouverte.", "Bonsoir. Le chauffage sera réduit ce soir."),
    ),
    "de": _texts(
        numbers={
            "Im Garten sind es −5 °C.": "Im Garten sind es minus 5 Grad.",
            "Die Feuchte beträgt heute 45–50 %.": "Die Feuchte beträgt heute 45 bis 50 Prozent.",
        },
        times={
            "Der Wecker klingelt um 6:45.": "Der Wecker klingelt um 6 Uhr 45.",
            "Wir kommen am 29. November zurück.": "Wir kommen am neunundzwanzigsten November zurück.",
        },
        prices={"Das Brot kostet 3,50 €.": "Das Brot kostet 3 Euro 50."},
        abbreviations={"Dr. Schmidt kommt am Dienstag.": "Doktor Schmidt kommt am Dienstag."},
        plain=_as_written("Das Fenster in der Küche ist noch offen."),
    ),
    "es": _texts(
        numbers={
            "Hace −5 °C en el jardín.": "Hace menos 5 grados en el jardín.",
            "La humedad será del 45–50 %.": "La humedad será del 45 a 50 por ciento.",
        },
        times={"La alarma suena a las 6:45.": "La alarma suena a las 6 y 45."},
        prices={"El pan cuesta 3,50 €.": "El pan cuesta 3 euros 50."},
        abbreviations={"El Sr. Pérez llega el martes.": "El señor Pérez llega el martes."},
        plain=_as_written("La ventana de la cocina sigue abierta."),
    ),
}
"""By language."""

_SAME: Mapping[str, Mapping[str, str]] = {
    "en": {
        r"\s?%": " percent",
        r"\bdr\b": "doctor",
        r"\b([ap])\.?\s?m\b\.?": r"\1m",
        r"(?<=\d)(?=[ap]m\b)": " ",
        r"\b(\d{1,2})0([1-9])\b": r"\1 oh \2",
        r"\b(\d{1,2})([1-5]\d)\b": r"\1 \2",
    },
    "fr": {r"\s?%": " pour cent", r"\bm\. ": "monsieur ", r"\bmme\b": "madame"},
    "de": {r"\s?%": " Prozent", r"\bdr\b": "doktor"},
    "es": {r"\s?%": " por ciento", r"\bsr\b": "señor"},
}
"""Patterns of what is written in several ways and said in one, and one of the ways."""

_DIGITS = re.compile(r"\d{1,12}")


def same_words(text: str, language: str) -> str:
    """Return the words of `text` in the one way in which a language's words are written here: in letters."""
    text = written_out(text, language)
    for pattern, replaced in _SAME[language].items():
        text = re.sub(pattern, replaced, text, flags=re.IGNORECASE)
    return " ".join(normalise(_DIGITS.sub(lambda match: f" {_in_words(int(match[0]), language)} ", text)))


def _in_words(number: int, language: str) -> str:
    return str(RbnfEngine.for_language(language).format_number(number).text)
