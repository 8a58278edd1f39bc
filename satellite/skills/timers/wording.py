"""What is said of timers that have ended, or cannot be: Home Assistant has no words for it."""

from satellite.skills.timers.timer import Timer
from satellite.skills.timers.timers import Limit

_DONE = {
    "en": ("Your timer is done.", "Your {name} timer is done."),
    "ar": ("انتهى المؤقّت.", "انتهى مؤقّت {name}."),
    "ca": ("El temporitzador ha acabat.", "El temporitzador {name} ha acabat."),
    "cs": ("Časovač doběhl.", "Časovač {name} doběhl."),
    "da": ("Nedtællingen er færdig.", "Nedtællingen {name} er færdig."),
    "de": ("Der Timer ist abgelaufen.", "Der Timer {name} ist abgelaufen."),
    "el": ("Το χρονόμετρο τελείωσε.", "Το χρονόμετρο {name} τελείωσε."),
    "es": ("El temporizador ha terminado.", "El temporizador {name} ha terminado."),
    "fi": ("Ajastin on päättynyt.", "Ajastin {name} on päättynyt."),
    "fr": ("Le minuteur est terminé.", "Le minuteur {name} est terminé."),
    "hu": ("Lejárt az időzítő.", "Lejárt az időzítő: {name}."),
    "it": ("Il timer è scaduto.", "Il timer {name} è scaduto."),
    "nb": ("Nedtellingen er ferdig.", "Nedtellingen {name} er ferdig."),
    "nl": ("De timer is afgelopen.", "De timer {name} is afgelopen."),
    "pl": ("Minutnik zakończył odliczanie.", "Minutnik {name} zakończył odliczanie."),
    "pt": ("O temporizador terminou.", "O temporizador {name} terminou."),
    "ro": ("Temporizatorul s-a încheiat.", "Temporizatorul {name} s-a încheiat."),
    "ru": ("Таймер сработал.", "Таймер {name} сработал."),
    "sk": ("Časovač dobehol.", "Časovač {name} dobehol."),
    "sl": ("Časovnik se je iztekel.", "Časovnik {name} se je iztekel."),
    "sv": ("Timern är klar.", "Timern {name} är klar."),
    "tr": ("Zamanlayıcı doldu.", "{name} zamanlayıcısı doldu."),
    "uk": ("Таймер спрацював.", "Таймер {name} спрацював."),
    "zh": ("计时器时间到。", "{name}计时器时间到。"),
}
"""What is said of a timer that rings, without a name and with one."""

_MISSED = {
    "en": ("A timer ended a while ago.", "Your {name} timer ended a while ago."),
    "de": ("Ein Timer ist vor einer Weile abgelaufen.", "Der Timer {name} ist vor einer Weile abgelaufen."),
    "es": ("Un temporizador terminó hace un rato.", "El temporizador {name} terminó hace un rato."),
    "fr": ("Un minuteur s'est terminé il y a un moment.", "Le minuteur {name} s'est terminé il y a un moment."),
    "it": ("Un timer è scaduto da un po'.", "Il timer {name} è scaduto da un po'."),
    "nl": ("Een timer is een tijdje geleden afgelopen.", "De timer {name} is een tijdje geleden afgelopen."),
    "pt": ("Um temporizador terminou há algum tempo.", "O temporizador {name} terminou há algum tempo."),
}
"""What is said of one that ended unheard."""

_REFUSED = {
    "en": ("A timer can run for a day at most.", "There are too many timers already."),
    "de": ("Ein Timer kann höchstens einen Tag laufen.", "Es laufen schon zu viele Timer."),
    "es": ("Un temporizador puede durar un día como máximo.", "Ya hay demasiados temporizadores."),
    "fr": ("Un minuteur peut durer un jour au plus.", "Il y a déjà trop de minuteurs."),
    "it": ("Un timer può durare al massimo un giorno.", "Ci sono già troppi timer."),
    "nl": ("Een timer kan hoogstens een dag lopen.", "Er lopen al te veel timers."),
    "pt": ("Um temporizador pode durar no máximo um dia.", "Já há demasiados temporizadores."),
}


def ended(timer: Timer, *, late: bool) -> str:
    """Return what to say of a timer that rings, or ended a while ago, in the language that it was set in.

    In a language that has no words for it the name alone is said; a timer without a name has only its chime.
    """
    code = _family(timer.language)
    nameless, named = (_MISSED.get(code) if late else None) or _DONE.get(code, ("", "{name}"))
    return named.format(name=timer.name) if timer.name else nameless


def refusal(limit: Limit, language: str | None) -> str | None:
    """Return what to say of a timer that cannot be; None for a language that has no words for it."""
    found = _REFUSED.get(_family(language))
    return None if found is None else found[0] if limit is Limit.TOO_LONG else found[1]


def _family(language: str | None) -> str:
    code = (language or "en").replace("_", "-").partition("-")[0].lower()
    return "nb" if code in ("no", "nn") else code
