"""Whether somebody told the house to do something, judged by the first words.

Home Assistant answers with the same code that there is no device of that name when somebody says "turn on the moon"
and when somebody asks "what is the capital of France". Only the first is its business.
"""

import re

_BEGINNINGS = {
    "en": r"(?:please |(?:can|could|would|will) you (?:please )?)?"
    r"(?:turn|switch|open|close|shut|lock|unlock|dim|brighten|raise|lower|set|activate|deactivate|start|stop)",
    "de": r"(?:bitte )?(?:schalte?|mache?|öffne|schließe?|dimme|stelle?|fahre?|(?:ver|ent)riegle|(?:de)?aktiviere)",
    "fr": r"(?:allume|éteins|ouvre|ferme|(?:dé)?verrouille|(?:dés)?active|baisse|monte|règle|mets)",
    "es": r"(?:por favor )?(?:enciende|prende|apaga|abre|cierra|sube|baja|(?:des)?bloquea|(?:des)?activa|pon|ajusta)",
    "it": r"(?:accendi|spegni|apri|chiudi|alza|abbassa|s?blocca|(?:dis)?attiva|imposta)",
    "nl": r"(?:zet|doe|schakel|open|sluit|dim|(?:ver|ont)grendel|(?:de)?activeer)",
    "pt": r"(?:(?:des)?lig(?:a|ue)|acend[ae]|apag(?:a|ue)|abr[ae]|fech[ae]|(?:des)?tran(?:ca|que)|ajust[ae])",
}
_ORDERS = {language: re.compile(rf"{words}\b", re.IGNORECASE) for language, words in _BEGINNINGS.items()}


def is_order(text: str, language: str | None) -> bool:
    """Tell whether `text` begins as an order does, in a language such as `en` or `en_GB`, in any if it is None."""
    text = " ".join(text.replace(",", " ").split())
    if language is None:
        return any(order.match(text) for order in _ORDERS.values())
    order = _ORDERS.get(language.replace("_", "-").partition("-")[0].lower())
    return order is not None and order.match(text) is not None
