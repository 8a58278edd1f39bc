"""Sentences about rooms, in each language that has them."""

from functools import cache

import pytest
import yaml

from satellite.skills.grammar import Grammar
from satellite.skills.intents import OF_ROOMS, Command
from tests.running_daemon import DATA

_KITCHENS = ("cozinha", "kuchnia", "кухня", "kjøkkenet")
ROOMS = {
    name: room
    for room, names in {
        "kitchen": ("kitchen", "cuisine", "Küche", "cocina", "cucina", "keuken", *_KITCHENS),
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


SAID = yaml.safe_load((DATA / "sentences" / "rooms.yaml").read_text(encoding="utf-8"))
MESSAGES = {language: said.pop("message") for language, said in SAID.items()}

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


SAID_OR_NOT = yaml.safe_load((DATA / "sentences" / "rooms_or_not.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", SAID_OR_NOT)
@pytest.mark.parametrize("about", ["rooms", "others"])
def test_what_is_about_rooms_is_told_from_what_sounds_like_it(language: str, about: str) -> None:
    taken = {text: understood(language, text) for text in SAID_OR_NOT[language][about]}
    of_rooms = {text for text, command in taken.items() if command is not None and command.intent in OF_ROOMS}
    assert of_rooms == (set(taken) if about == "rooms" else set())
    assert len(taken) >= 50
