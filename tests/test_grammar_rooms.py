"""Sentences about rooms, in each language that has them."""

from functools import cache

import pytest

from satellite.skills.grammar import Grammar
from satellite.skills.intents import OF_ROOMS, Command

ROOMS = {
    name: room
    for room, names in {
        "kitchen": ("kitchen", "cuisine", "Küche", "cocina", "cucina", "keuken"),
        "office": ("office", "bureau", "Büro", "despacho", "ufficio", "kantoor"),
    }.items()
    for name in names
}
MEDIA = {"jazz": "jazz", "doorbell": "doorbell.mp3"}


@cache
def grammar(language: str) -> Grammar:
    return Grammar(language)


def understood(language: str, text: str) -> Command | None:
    return grammar(language).understand(text, ROOMS, MEDIA)


SAID = {
    "en": {
        "tell": "Tell the kitchen that dinner is ready.",
        "announce": "Announce dinner is ready in the kitchen.",
        "broadcast": "Broadcast dinner is ready",
        "call": "Call the kitchen.",
        "hang up": "Hang up.",
        "mute": "Mute yourself.",
        "louder": "Volume up.",
        "quieter": "Turn the volume down.",
        "volume": "Set the volume to 30 percent.",
        "kitchen's volume": "Set the kitchen volume to 30%",
        "play": "Play jazz.",
        "play in": "Play the doorbell in the kitchen.",
    },
    "fr": {
        "tell": "Dis à la cuisine que le dîner est prêt.",
        "announce": "Annonce que le dîner est prêt dans la cuisine.",
        "broadcast": "Annonce que le dîner est prêt.",
        "call": "Appelle la cuisine.",
        "hang up": "Raccroche.",
        "mute": "Coupe ton micro.",
        "louder": "Monte le volume.",
        "quieter": "Moins fort.",
        "volume": "Règle le volume à 30 %",
        "kitchen's volume": "Règle le volume à 30 % dans la cuisine.",
        "play": "Mets la radio jazz.",
        "play in": "Joue doorbell dans la cuisine.",
    },
    "de": {
        "tell": "Sag der Küche, dass das Essen fertig ist.",
        "announce": "Sag in der Küche Bescheid, dass das Essen fertig ist.",
        "broadcast": "Sag allen, dass das Essen fertig ist.",
        "call": "Ruf die Küche an.",
        "hang up": "Leg auf.",
        "mute": "Schalte dein Mikrofon aus.",
        "louder": "Lauter.",
        "quieter": "Leiser.",
        "volume": "Stelle die Lautstärke auf 30 Prozent.",
        "kitchen's volume": "Lautstärke in der Küche auf 30 Prozent.",
        "play": "Spiel Radio Jazz.",
        "play in": "Spiele doorbell in der Küche.",
    },
    "es": {
        "tell": "Dile a la cocina que la cena está lista.",
        "announce": "Anuncia que la cena está lista en la cocina.",
        "broadcast": "Anuncia que la cena está lista.",
        "call": "Llama a la cocina.",
        "hang up": "Cuelga.",
        "mute": "Silencia el micrófono.",
        "louder": "Sube el volumen.",
        "quieter": "Un poco más bajo.",
        "volume": "Pon el volumen al 30 por ciento.",
        "kitchen's volume": "Pon el volumen de la cocina al 30 por ciento.",
        "play": "Pon la radio jazz.",
        "play in": "Reproduce doorbell en la cocina.",
    },
    "it": {
        "tell": "Di' alla cucina che la cena è pronta.",
        "announce": "Annuncia che la cena è pronta in cucina.",
        "broadcast": "Annuncia che la cena è pronta.",
        "call": "Chiama la cucina.",
        "hang up": "Riattacca.",
        "mute": "Spegni il microfono.",
        "louder": "Alza il volume.",
        "quieter": "Più piano.",
        "volume": "Imposta il volume al 30 percento.",
        "kitchen's volume": "Imposta il volume in cucina al 30 percento.",
        "play": "Metti la radio jazz.",
        "play in": "Riproduci doorbell in cucina.",
    },
    "nl": {
        "tell": "Zeg tegen de keuken dat het eten klaar is.",
        "announce": "Roep in de keuken om dat het eten klaar is.",
        "broadcast": "Zeg tegen iedereen dat het eten klaar is.",
        "call": "Bel de keuken.",
        "hang up": "Hang op.",
        "mute": "Zet je microfoon uit.",
        "louder": "Volume omhoog.",
        "quieter": "Zachter.",
        "volume": "Zet het volume op 30 procent.",
        "kitchen's volume": "Zet het volume in de keuken op 30 procent.",
        "play": "Speel radio jazz.",
        "play in": "Speel doorbell in de keuken af.",
    },
}

MESSAGES = {
    "en": "dinner is ready",
    "fr": "le dîner est prêt",
    "de": "das Essen fertig ist",
    "es": "la cena está lista",
    "it": "la cena è pronta",
    "nl": "het eten klaar is",
}

MEANT = {
    "tell": ({"SatelliteTell"}, "kitchen", True, 0, ""),
    "announce": ({"SatelliteTell"}, "kitchen", True, 0, ""),
    "broadcast": ({"HassBroadcast"}, None, True, 0, ""),
    "call": ({"SatelliteCall"}, "kitchen", False, 0, ""),
    "hang up": ({"SatelliteHangUp"}, None, False, 0, ""),
    "mute": ({"SatelliteMute"}, None, False, 0, ""),
    "louder": ({"HassSetVolumeRelative", "SatelliteLouder"}, None, False, 0.1, ""),
    "quieter": ({"HassSetVolumeRelative", "SatelliteQuieter"}, None, False, -0.1, ""),
    "volume": ({"HassSetVolume"}, None, False, 0.3, ""),
    "kitchen's volume": ({"HassSetVolume"}, "kitchen", False, 0.3, ""),
    "play": ({"SatellitePlay"}, None, False, 0, "jazz"),
    "play in": ({"SatellitePlay"}, "kitchen", False, 0, "doorbell.mp3"),
}


@pytest.mark.parametrize(("language", "what"), [(language, what) for language, said in SAID.items() for what in said])
def test_sentences_about_rooms_are_understood(language: str, what: str) -> None:
    command = understood(language, SAID[language][what])
    intents, place, has_message, volume, media = MEANT[what]
    assert command is not None
    assert command.intent in intents <= set(OF_ROOMS)
    assert (command.place, command.media) == (place, media)
    assert command.message == (MESSAGES[language] if has_message else "")
    assert command.volume == pytest.approx(volume)


@pytest.mark.parametrize(
    "text",
    [
        "Tell me a story.",
        "Tell the cellar that dinner is ready.",
        "Call the police.",
        "Play chess with me.",
        "Set the television volume to 30 percent.",
        "What is on the radio?",
    ],
)
def test_what_is_about_no_room_of_the_house_is_left_to_others(text: str) -> None:
    assert understood("en", text) is None
