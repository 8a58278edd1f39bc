"""Commands about rooms, spoken by a voice and heard by Whisper."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from satellite.skills.grammar import Grammar
from tests.driven_rooms import spoken
from tests.running_daemon import RunningDaemon, lonely

pytestmark = pytest.mark.models

ENGLISH = {
    "Tell the kitchen that dinner is ready.": ("SatelliteTell", "kitchen", "dinner is ready"),
    "Call the office.": ("SatelliteCall", "office", ""),
    "Please announce that dinner is ready.": ("HassBroadcast", None, "dinner is ready"),
    "Tell everyone that dinner is ready.": ("HassBroadcast", None, "dinner is ready"),
}
FRENCH = {
    "Dis à la cuisine que le dîner est prêt.": ("SatelliteTell", "cuisine", "le dîner est prêt"),
    "Annonce que le dîner est prêt.": ("HassBroadcast", None, "le dîner est prêt"),
    "Appelle la cuisine.": ("SatelliteCall", "cuisine", ""),
}


@pytest.fixture(scope="module")
def french(french_models_directory: Path) -> Iterator[RunningDaemon]:
    with RunningDaemon(
        lonely(french_models_directory, "languages: [fr]\nstt: {model: base}\ntts: {voice: ff_siwis}")
    ) as one:
        yield one


def understood(daemon: RunningDaemon, language: str, text: str) -> tuple[str, str | None, str]:
    pcm = daemon.call(spoken(daemon, text))
    heard = daemon.call(daemon.daemon._stages.transcribe_pcm(pcm, language)).text
    command = Grammar(language).understand(heard, {name: name for name in ("kitchen", "office", "cuisine")})
    assert command is not None, heard
    return command.intent.value, command.place, command.message


@pytest.mark.parametrize("text", ENGLISH)
def test_english(daemon: RunningDaemon, text: str) -> None:
    assert understood(daemon, "en", text) == ENGLISH[text]


@pytest.mark.parametrize("text", FRENCH)
def test_french(french: RunningDaemon, text: str) -> None:
    assert understood(french, "fr", text) == FRENCH[text]
