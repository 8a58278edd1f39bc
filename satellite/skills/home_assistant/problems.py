"""Why Home Assistant does not do what it is told, and what whoever gave the order is told of it."""

from enum import StrEnum

from satellite.errors import ChatError
from satellite.languages import in_language


class Trouble(StrEnum):
    """The causes, as the status names them."""

    NO_TOKEN = "no-token"
    REFUSED = "refused"
    """It does not accept the token, or has banned this machine."""

    STARTING = "starting"
    UNREACHABLE = "unreachable"
    SILENT = "silent"
    """It took the question and gave no answer in time."""

    FAILING = "failing"
    """It answers, but not as it should."""

    UNABLE = "unable"
    """It is well, but lacks what would do this one thing; no state of its own."""


_CAUSES = {
    "chat-refused": Trouble.REFUSED,
    "chat-not-ready": Trouble.STARTING,
    "chat-unreachable": Trouble.UNREACHABLE,
    "chat-timeout": Trouble.SILENT,
}

_SENTENCES = {
    "en": ("doesn't answer.", "is starting. Please try again in a moment.", "doesn't let me in.", "can't do that."),
    "ar": ("لا يجيب.", "قيد التشغيل. حاول مرة أخرى بعد قليل.", "لا يسمح لي بالدخول.", "لا يستطيع فعل ذلك."),
    "ca": (
        "no respon.",
        "s'està iniciant. Torna-ho a provar d'aquí a un moment.",
        "no em deixa entrar.",
        "no ho pot fer.",
    ),
    "cs": ("neodpovídá.", "se spouští. Zkus to za chvíli znovu.", "mě nechce pustit dovnitř.", "to neumí."),
    "da": ("svarer ikke.", "er ved at starte. Prøv igen om lidt.", "lukker mig ikke ind.", "kan ikke gøre det."),
    "de": (
        "antwortet nicht.",
        "startet gerade. Bitte versuche es gleich noch einmal.",
        "lässt mich nicht hinein.",
        "kann das nicht.",
    ),
    "el": (
        "δεν απαντά.",
        "ξεκινά τώρα. Δοκίμασε ξανά σε λίγο.",
        "δεν μου επιτρέπει την είσοδο.",
        "δεν μπορεί να το κάνει.",
    ),
    "es": (
        "no responde.",
        "se está iniciando. Inténtalo de nuevo en un momento.",
        "no me deja entrar.",
        "no puede hacerlo.",
    ),
    "fi": (
        "ei vastaa.",
        "käynnistyy. Yritä hetken päästä uudelleen.",
        "ei päästä minua sisään.",
        "ei osaa tehdä sitä.",
    ),
    "fr": (
        "ne répond pas.",
        "démarre. Réessayez dans un instant.",
        "ne me laisse pas entrer.",
        "ne sait pas faire cela.",
    ),
    "hu": ("nem válaszol.", "éppen indul. Próbáld újra kicsit később.", "nem enged be.", "ezt nem tudja megtenni."),
    "it": ("non risponde.", "si sta avviando. Riprova tra un momento.", "non mi lascia entrare.", "non può farlo."),
    "nl": ("antwoordt niet.", "start op. Probeer het zo nog eens.", "laat me niet binnen.", "kan dat niet."),
    "no": ("svarer ikke.", "starter. Prøv igjen om litt.", "slipper meg ikke inn.", "kan ikke gjøre det."),
    "pl": (
        "nie odpowiada.",
        "właśnie się uruchamia. Spróbuj za chwilę.",
        "nie chce mnie wpuścić.",
        "nie potrafi tego zrobić.",
    ),
    "pt": (
        "não responde.",
        "está a iniciar. Tenta de novo daqui a pouco.",
        "não me deixa entrar.",
        "não consegue fazer isso.",
    ),
    "ro": (
        "nu răspunde.",
        "pornește. Încearcă din nou peste puțin timp.",
        "nu mă lasă să intru.",
        "nu poate face asta.",
    ),
    "ru": ("не отвечает.", "запускается. Повторите чуть позже.", "не пускает меня.", "не умеет этого делать."),
    "sk": ("neodpovedá.", "sa spúšťa. Skús to o chvíľu znova.", "ma nechce pustiť dnu.", "to nedokáže."),
    "sv": (
        "svarar inte.",
        "håller på att starta. Försök igen om en stund.",
        "släpper inte in mig.",
        "kan inte göra det.",
    ),
    "tr": (
        "yanıt vermiyor.",
        "başlatılıyor. Lütfen biraz sonra tekrar deneyin.",
        "beni içeri almıyor.",
        "bunu yapamıyor.",
    ),
    "uk": ("не відповідає.", "запускається. Спробуйте трохи згодом.", "не пускає мене.", "не вміє цього робити."),
    "zh": ("没有回应。", "正在启动，请稍后再试。", "拒绝了我的访问。", "做不到这件事。"),
}


def cause(error: ChatError) -> Trouble:
    """Return what `error` means."""
    return _CAUSES.get(error.code, Trouble.FAILING)


def sentence(trouble: Trouble, language: str | None) -> str:
    """Return what is said of it in a language such as `fr` or `fr_FR`; English where there is no other."""
    silent, starting, refused, unable = in_language(_SENTENCES, language) or _SENTENCES["en"]
    match trouble:
        case Trouble.NO_TOKEN | Trouble.REFUSED:
            return f"Home Assistant {refused}"
        case Trouble.STARTING:
            return f"Home Assistant {starting}"
        case Trouble.UNABLE:
            return f"Home Assistant {unable}"
        case _:
            return f"Home Assistant {silent}"
