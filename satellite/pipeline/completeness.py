"""Whether a voice command is complete, judged by its words.

By language: words that more must follow, and phrases that hardly anything follows.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from satellite.languages import in_language

_LONGEST_CHARACTERS = 400
"""How much of a text is examined, from its end: some of the patterns take more than linear time."""

_BROKEN_OFF = re.compile(r"(?:\.\.+|…|[-–—,:;])\W*$")
_NO_WORD = re.compile(r"[^\w'%.:]+|(?<!\d)[.:]|[.:](?!\d)")


class Completeness(StrEnum):
    """How complete a command is, by its words."""

    UNKNOWN = "unknown"
    """The words are not known, or nothing is known of their language."""

    INCOMPLETE = "incomplete"
    """More words must follow."""

    SENTENCE = "sentence"
    """It may be complete, or go on, as "turn on the lights" does with "in the kitchen"."""

    COMPLETE = "complete"
    """Nothing can follow: a known command, or words with which sentences end."""


def completeness(text: str, language: str | None, *, is_command: bool = False) -> Completeness:
    """Return how complete `text` is; `is_command` if it is a known command to which nothing can be added."""
    text = text[-_LONGEST_CHARACTERS:]
    endings = in_language(_ENDINGS, language)
    if _BROKEN_OFF.search(text):
        return Completeness.INCOMPLETE
    words = _NO_WORD.sub(" ", text.lower().replace("’", "'")).split()
    if not words:
        return Completeness.UNKNOWN
    said = " ".join(words)
    if endings is not None and endings.whole.fullmatch(said):
        return Completeness.COMPLETE
    if is_command:  # a single word may be the verb of more: "stop" and "cancel" go on with "my timer"
        return Completeness.COMPLETE if len(words) > 1 else Completeness.SENTENCE
    if endings is None:
        return Completeness.UNKNOWN
    if len(words) == 1 or words[-1] in endings.open_words or endings.unfinished.search(said):
        return Completeness.INCOMPLETE
    if endings.closed.search(said) or _PROPER_NAME.search(text):
        return Completeness.COMPLETE
    return Completeness.SENTENCE


_PROPER_NAME = re.compile(r"\b(?:of|in|from|to|by|about|de|du|von|di) [A-Z][\w'-]*\?$")
"""The end of a question about a person or place: speech to text writes names with a capital."""


@dataclass(frozen=True, slots=True)
class _Endings:
    """Those of one language; patterns match lower-case words with one space between them."""

    open_words: frozenset[str]
    """Words that end no sentence: articles, prepositions, conjunctions, auxiliaries."""

    closed: re.Pattern[str]
    """A text that ends with this is complete: it names the room, the value, the state, or the last unit of a time."""

    unfinished: re.Pattern[str]
    """A text that matches lacks a part, whatever it ends with."""

    whole: re.Pattern[str]
    """What people say with nothing after it."""


def _any(alternatives: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{alternative})" for alternative in alternatives))


_NOTHING = re.compile(r"(?!)")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_EN_ROOMS = (
    "kitchen|office|bedroom|living room|lounge|bathroom|dining room|hall|hallway|garage|garden|attic|basement|cellar|"
    "nursery|study|laundry room|utility room|guest room|kids'? room|entrance|porch|balcony|terrace|stairs|house|home"
)
_EN_COLOURS = (
    "red|green|blue|yellow|orange|white|warm white|cold white|pink|purple|violet|turquoise|cyan|magenta|black|warm|cold"
)
_EN_THINGS = "lights?|lamps?|windows?|blinds?|curtains?|shutters?|doors?|fans?|speakers?|tv|music|heating"

_ENGLISH = _Endings(
    _words(
        """a an the my your his her its our their some any every each no and or nor but because if when while that than
        as of in to for from by with at into onto about under between through without during until is are was were am
        be been do does did can could will would should shall may might must have has had what what's who who's which
        where where's when how how's why whose please very so too also just not i you he she we they i'm it's let's"""
    ),
    _any(
        (
            rf"\b(?:in|on|of|at) (?:the |my |our |this )?(?:{_EN_ROOMS})(?: (?:{_EN_THINGS}))?$",
            rf"\b(?:{_EN_ROOMS}) (?:{_EN_THINGS})$",
            rf"\bto (?:{_EN_COLOURS}|(?:\d+|\w+) ?(?:%|percent|degrees))$",
            r"\bseconds?$|\b(?:\d+\.5|and a half) (?:hours|minutes)$",
            r"\b(?:hours?|minutes?) (?:and|in) .*\b(?:minutes?|half)$",
            r"^what(?:'s| is) the (?:\w+ ){1,3}(?:temperature|humidity|weather|time|date)$",
            r"\bweather (?:like )?in (?!the\b|new$|los$|san$|saint$)\w+(?: \w+)?$",
            r"^status of .*\btimers?$|\b(?:script|scene|mode)$",
            r"^(?:turn|switch) (?!o[nf]).+ (?:on|off)$",
            r"^(?:is|are) .+ (?:open|closed|shut|locked|unlocked|on|off|home|running|charging)$",
            r"^(?:next|previous|skip)\b.* (?:track|song|chapter|episode)$",
            r"^(?:pause|resume|stop|cancel|mute|unmute) (?:all |the |my |all the )?(?:timers?|music|tv|alarms?)$",
            r"\bright now$|\btoday$|\btomorrow$|\btonight$",
        )
    ),
    _any(
        (
            r"^(?:turn|switch) (?:it )?(?:on|off|up|down)$",
            r"^(?:turn|switch)(?!.*\b(?:on|off|up|down|to|into|over)\b)",
            r"^(?:set|change)(?!.*\b(?:to|for|on|off|at|up)\b)",
            r"^(?:set|create|start|make)(?: \w+)*? timer(?!.*\b(?:hours?|minutes?|seconds?)\b)",
            r"\b(?:for|to|at) [\d.:]+$",
            r"^(?:is|are) (?:\w+ ){0,2}\w+$",
            r"^what(?:'s| is) (?:the )?(?:\w+ )?of$",
        )
    ),
    _any(
        (
            r"never ?mind|forget (?:it|that)|(?:no )?thank(?:s| you)(?: very much)?",
            r"good (?:morning|evening|night)|what (?:time|day|date) is it|what's the (?:time|date)",
        )
    ),
)

_FR_ROOMS = (
    "cuisine|salon|chambre|bureau|salle de bains?|salle à manger|entrée|couloir|garage|jardin|cave|grenier|maison"
)
_FR_COLOURS = "rouge|vert|bleu|jaune|orange|blanc|rose|violet|noir|chaud|froid"

_FRENCH = _Endings(
    _words(
        """le la les l un une des du de d au aux à en dans sur sous pour par avec sans chez vers et ou mais donc car que
        qu qui quoi quel quelle quels quelles où quand comment pourquoi si mon ma mes ton ta tes son sa ses notre nos
        votre vos leur leurs ce cet cette ces est es suis sont était a ai as ont il elle on je tu nous vous ils elles
        ne n pas très plus est-ce c'est qu'est-ce"""
    ),
    _any(
        (
            rf"\b(?:dans|de|du|au|à) (?:la |le |les |l')?(?:{_FR_ROOMS})$",
            rf"\ben (?:{_FR_COLOURS})$|\bà (?:\d+|\w+) ?(?:%|pour cent|degrés)$",
            r"\bsecondes?$",
            r"\b(?:heures?|minutes?) et .*\bminutes?$",
            r"\b(?:ouvert|fermé|allumé|éteint|verrouillé)e?s?$",
            r"\bmaintenant$|\baujourd'hui$|\bdemain$",
        )
    ),
    _any(
        (
            r"\b(?:pour|à|de) [\d,.:]+$",
            r"^(?:mets|règle|lance)(?: \w+)*? minuteur(?!.*\b(?:heures?|minutes?|secondes?)\b)",
        )
    ),
    _any((r"merci(?: beaucoup)?|laisse tomber|bonjour|bonsoir|bonne nuit|quelle heure est-il",)),
)

_DE_ROOMS = (
    "küche|büro|schlafzimmer|wohnzimmer|bad|badezimmer|esszimmer|flur|garage|garten|keller|dachboden|kinderzimmer|haus"
)
_DE_COLOURS = "rot|grün|blau|gelb|orange|weiß|warmweiß|rosa|lila|türkis|schwarz"

_GERMAN = _Endings(
    _words(
        """der die das den dem des ein eine einen einem einer eines mein meine meinen meinem dein deine unser unsere und
        oder aber weil wenn dass ob als wie was wer wo wann warum welche welcher welches in im ins auf für von vom zu
        zum zur mit ohne bei beim bis nach über unter zwischen durch ist sind war bin hat haben kann könnte soll wird
        ich du er sie es wir ihr nicht sehr auch bitte"""
    ),
    _any(
        (
            rf"\b(?:im|in der|in dem|in meinem|vom|von der) (?:{_DE_ROOMS})(?: (?:an|aus|ein))?$",
            rf"\bauf (?:{_DE_COLOURS}|(?:\d+|\w+) ?(?:%|prozent|grad))$",
            r"\bsekunden?$",
            r"\b(?:stunden?|minuten?) und .*\bminuten?$",
            r"^(?:mach|schalt\w*) .+ (?:an|aus|ein)$",
            r"\b(?:offen|zu|geschlossen|verriegelt|abgeschlossen)$",
            r"\b(?:heute|morgen|jetzt)$",
        )
    ),
    _any(
        (
            r"\b(?:auf|für|um) [\d,.:]+$",
            r"^(?:stell\w*|setz\w*)(?: \w+)*? timer(?!.*\b(?:stunden?|minuten?|sekunden?)\b)",
        )
    ),
    _any((r"danke(?: schön)?|vergiss es|schon gut|guten (?:morgen|abend)|gute nacht|wie spät ist es",)),
)


def _only_open(text: str) -> _Endings:
    return _Endings(_words(text), _NOTHING, _NOTHING, _NOTHING)


_ENDINGS: Mapping[str, _Endings] = {
    "en": _ENGLISH,
    "fr": _FRENCH,
    "de": _GERMAN,
    "es": _only_open(
        """el la los las un una unos unas de del a al en con sin por para sobre bajo entre hasta desde y e o u pero que
        si cuando como donde quien cual mi mis tu tus su sus este esta es son está están hay qué quién cuál dónde cómo
        cuándo no muy más"""
    ),
    "it": _only_open(
        """il lo la i gli le un uno una di del dello della dei degli delle a al allo alla ai agli alle in nel nella nei
        con senza per su sul sulla tra fra da dal dalla e o ma che se quando come dove chi quale mio mia tuo tua suo sua
        è sono era non molto più"""
    ),
    "nl": _only_open(
        """de het een mijn jouw zijn haar ons onze in op aan van voor met zonder bij tot naar over onder tussen door uit
        en of maar omdat als dat die wat wie waar wanneer hoe welke is was heeft hebben kan zou wordt ik je hij ze we
        niet heel ook"""
    ),
    "pt": _only_open(
        """o a os as um uma de do da dos das em no na nos nas ao à com sem por para sobre entre até desde e ou mas que
        se quando como onde quem qual meu minha seu sua este esta é são está estão não muito mais"""
    ),
}
