"""Whether somebody told the house to do something, judged by the first words, or the last.

Home Assistant answers with the same code that there is no device of that name when somebody says "turn on the moon"
and when somebody asks "what is the capital of France". Only the first is its business.
"""

import re

from satellite.languages import in_language

_BEGINNINGS = {
    "en": r"(?:please |(?:can|could|would|will) you (?:please )?)?"
    r"(?:turn|switch|open|close|shut|lock|unlock|dim|brighten|raise|lower|set|activate|deactivate|start|stop"
    r"|pause|unpause|resume|mute|unmute|vacuum|broadcast|(?:add|put) .{1,60} (?:to|on) .{0,40}list)",
    "ar": r"(?:من فضلك )?(?:شغّ?ل|أشعل|اشعل|أضئ|أطفئ|اطفئ|افتح|أغلق|اغلق|اقفل|اضبط|ارفع|اخفض|خفض)",
    "ca": r"(?:si us plau )?(?:encén|apaga|obre|tanca|puja|baixa|(?:des)?bloqueja|(?:des)?activa|posa|ajusta)",
    "cs": r"(?:prosím )?(?:zapni|vypni|rozsviť|zhasni|otevři|zavři|zamkni|odemkni|nastav|zvyš|sniž|ztlum|zatáhni)",
    "da": r"(?:(?:kan|vil) du )?(?:tænde?|slukk?e?|åbne?|lukk?e?|(?:op)?låse?|dæmpe?|skrue?|sæt|indstille?)",
    "de": r"(?:bitte )?(?:schalte?|mache?|öffne|schließe?|dimme|stelle?|fahre?|(?:ver|ent)riegle|(?:de)?aktiviere"
    r"|(?:setze?|schreibe?|packe?|füge?) .{1,60} (?:auf|zu|zur) .{0,40}liste)",
    "el": r"(?:παρακαλώ )?(?:άναψε|σβήσε|άνοιξε|κλείσε|κλείδωσε|ξεκλείδωσε|ρύθμισε|χαμήλωσε|ανέβασε|κατέβασε)",
    "es": r"(?:por favor )?(?:puedes )?(?:enciend[ea]|prend[ea]|apag(?:a|ue)|abr[ea]|cierr[ea]|sub[ea]|baj[ea]|pon"
    r"|ajust[ae]|(?:des)?bloquea|(?:des)?activa|encender|prender|apagar|abrir|cerrar|subir|bajar"
    r"|(?:añad[ea]|agreg(?:a|ue)) .{1,60} lista)",
    "fi": r"(?:sytytä|sammuta|avaa|sulje|lukitse|himmennä|säädä|aseta|nosta|laske|kytke|laita|käynnistä|pysäytä)",
    "fr": r"(?:s'il (?:te|vous) plaît )?(?:(?:peux|pourrais)[ -]tu |(?:pouvez|pourriez)[ -]vous |tu peux )?"
    r"(?:allume[rz]?|étein(?:s|dre)|éteignez|ouvr(?:e|ir|ez)|ferme[rz]?|(?:dé)?verrouille[rz]?|(?:dés)?active[rz]?"
    r"|baisse[rz]?|monte[rz]?|règle|régle[rz]|mets|mettre|mettez|ajoute[rz]? .{1,60} liste)",
    "hu": r"(?:kérlek )?(?:kapcsold|gyújtsd|oltsd|nyisd|csukd|zárd|húzd|engedd|állítsd|indítsd|vedd)",
    "it": r"(?:per favore )?(?:puoi )?(?:accend(?:i|ere)|spegn(?:i|ere)|apr(?:i|ire)|chiud(?:i|ere)|alza|abbassa"
    r"|s?blocca|(?:dis)?attiva|imposta|(?:aggiungi|metti) .{1,60} lista)",
    "nl": r"(?:(?:kun|wil) je )?(?:zet|doe|schakel|open|sluit|dim|(?:ver|ont)grendel|(?:de)?activeer"
    r"|voeg .{1,60}lijst)",
    "no": r"(?:(?:kan|vil) du )?(?:slå|skru|tenne?|slukke?|åpne|lukke?|låse?|dempe?|sett|still|(?:de)?aktiver)",
    "pl": r"(?:proszę )?(?:włącz|wyłącz|zapal|zgaś|otwórz|zamknij|(?:od|za)blokuj|ustaw|podnieś|opuść|przyciemnij)",
    "pt": r"(?:por favor )?(?:pode )?(?:(?:des)?lig(?:a|ue|ar)|acend(?:a|e|er)|apag(?:a|ue|ar)|abr(?:a|e|ir)"
    r"|fech(?:a|e|ar)|(?:des)?tran(?:ca|que)|ajust[ae])",
    "ro": r"(?:te rog )?(?:aprinde|stinge|pornește|oprește|deschide|închide|încuie|descuie|setează|ridică|coboară)",
    "ru": r"(?:пожалуйста )?(?:включи|выключи|зажги|погаси|потуши|открой|закрой|запри|отопри|установи|подними|опусти)"
    r"(?:те)?",
    "sk": r"(?:prosím )?(?:zapni|vypni|rozsvieť|zasvieť|zhasni|otvor|zatvor|zamkni|odomkni|nastav|zvýš|zníž|stlm)",
    "sv": r"(?:(?:kan|vill) du |snälla )?(?:tänd|släck|öppna|stäng|lås|sänk|höj|sätt|ställ|slå|(?:av)?aktivera)a?",
    "uk": r"(?:будь ласка )?(?:ввімкни|увімкни|вимкни|засвіти|погаси|відкрий|відчини|закрий|зачини|замкни)(?:ть)?",
    "zh": r"(?:请|請|帮我|幫我)?(?:打开|打開|开启|開啟|关(?!于)|關(?!於)|开灯|開燈|调|調|设置|設定|把).*",
}
_ENDINGS = {
    "en": r"(?:lights?|lamps?|fans?|tv|heating|blinds?|shutters?) (?:on|off|up|down)",
    "de": r"(?:(?:kann|könnte|würde)st du .{1,80} (?:(?:ein|aus|an)schalten|(?:an|aus|auf|zu)machen|öffnen|schließen)"
    r"|(?:\w*licht|\w*lampen?|fernseher|heizung|rollläden)(?: (?:in|im) .{1,60})? (?:an|aus|ein|hoch|runter|auf|zu))",
    "hu": r"(?:fel|le|be|ki)kapcsol(?:ni|od|nád)?",
    "tr": r"(?:aç|kapat|yak|söndür|kilitle|ayarla|başlat|durdur)(?:ar mısın|ır mısın|ür müsün|ın|in)?",
}
_NOTHING = r"(?!)"
_ORDERS = {
    language: re.compile(
        rf"(?:{_BEGINNINGS.get(language, _NOTHING)})\b|(?:.*\W)?(?:{_ENDINGS.get(language, _NOTHING)})\W*$",
        re.IGNORECASE,
    )
    for language in _BEGINNINGS | _ENDINGS
}


def is_order(text: str, language: str | None) -> bool:
    """Tell whether `text` is an order, in a language such as `en` or `en_GB`, in any if it is None."""
    text = " ".join(text.replace(",", " ").split())
    if language is None:
        return any(order.match(text) for order in _ORDERS.values())
    order = in_language(_ORDERS, language)
    return order is not None and order.match(text) is not None
