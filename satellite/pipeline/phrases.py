"""Apologies for missing answers, in the language of the voice or the client."""

from enum import StrEnum

from satellite.config.chat import PhraseSettings
from satellite.languages import in_language


class Phrase(StrEnum):
    """The occasions for an apology."""

    UNAVAILABLE = "unavailable"
    """There is no answer."""

    INTERRUPTED = "interrupted"
    """The answer broke off."""


_BUILT_IN = {
    "en": ("Sorry, I can't answer right now.", "Sorry, I lost the rest of my answer."),
    "ar": ("عذرًا، لا أستطيع الإجابة الآن.", "عذرًا، ضاعت بقية إجابتي."),
    "ca": ("Ho sento, ara mateix no puc respondre.", "Ho sento, he perdut la resta de la resposta."),
    "cs": ("Promiňte, teď nemohu odpovědět.", "Promiňte, zbytek odpovědi se mi ztratil."),
    "da": ("Beklager, jeg kan ikke svare lige nu.", "Beklager, jeg mistede resten af mit svar."),
    "de": ("Tut mir leid, ich kann gerade nicht antworten.", "Tut mir leid, der Rest meiner Antwort fehlt."),
    "el": ("Συγγνώμη, δεν μπορώ να απαντήσω τώρα.", "Συγγνώμη, έχασα την υπόλοιπη απάντηση."),
    "es": ("Lo siento, ahora no puedo responder.", "Lo siento, se ha perdido el resto de mi respuesta."),
    "fi": ("Anteeksi, en voi vastata juuri nyt.", "Anteeksi, loput vastauksestani katosi."),
    "fr": ("Désolé, je ne peux pas répondre pour le moment.", "Désolé, j'ai perdu la suite de ma réponse."),
    "hu": ("Sajnálom, most nem tudok válaszolni.", "Sajnálom, elveszett a válaszom többi része."),
    "it": ("Mi dispiace, ora non posso rispondere.", "Mi dispiace, ho perso il resto della risposta."),
    "nl": ("Sorry, ik kan nu niet antwoorden.", "Sorry, de rest van mijn antwoord is weg."),
    "no": ("Beklager, jeg kan ikke svare akkurat nå.", "Beklager, jeg mistet resten av svaret."),
    "pl": ("Przepraszam, nie mogę teraz odpowiedzieć.", "Przepraszam, zgubiłem resztę odpowiedzi."),
    "pt": ("Desculpe, não posso responder agora.", "Desculpe, perdi o resto da minha resposta."),
    "ro": ("Îmi pare rău, nu pot răspunde acum.", "Îmi pare rău, am pierdut restul răspunsului."),
    "ru": ("Извините, сейчас я не могу ответить.", "Извините, конец ответа потерялся."),
    "sk": ("Prepáčte, teraz nemôžem odpovedať.", "Prepáčte, zvyšok odpovede sa mi stratil."),
    "sv": ("Förlåt, jag kan inte svara just nu.", "Förlåt, jag tappade resten av svaret."),
    "tr": ("Üzgünüm, şu anda cevap veremiyorum.", "Üzgünüm, cevabımın gerisini kaybettim."),
    "uk": ("Вибачте, зараз я не можу відповісти.", "Вибачте, кінець відповіді загубився."),
    "zh": ("抱歉，我现在无法回答。", "抱歉，我的回答没有说完。"),
}


def phrase(settings: PhraseSettings, occasion: Phrase, language: str | None) -> str:
    """Return the apology for `occasion`: the configured text, else that for a language such as `fr` or `fr_FR`."""
    configured = settings.unavailable if occasion is Phrase.UNAVAILABLE else settings.interrupted
    if configured is not None:
        return configured
    unavailable, interrupted = in_language(_BUILT_IN, language) or _BUILT_IN["en"]
    return unavailable if occasion is Phrase.UNAVAILABLE else interrupted
