"""`POST /announce`: where it is heard, and what is said where it is not."""

from typing import Any

import httpx
import pytest

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.errors import SatelliteError
from satellite.wire import client as wire_client
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import added_rooms
from tests.http_daemon import problem, refusal
from tests.running_daemon import RunningDaemon

pytestmark = pytest.mark.models

DINNER = {"text": "Dinner is ready."}


def test_without_rooms_it_is_heard_everywhere(daemon: RunningDaemon, http: httpx.Client) -> None:
    kitchen, study = (ScriptedSatellite(name=name, mode="wake") for name in ("kitchen", "study"))
    with added_rooms(daemon, kitchen, study):
        answer = http.post("/announce", json=DINNER)
        assert (answer.status_code, answer.json()) == (200, {"heard": ["kitchen", "study"], "failed": {}})
        for nowhere in ([], None, "kitchen", [""]):
            assert refusal(http.post("/announce", json={**DINNER, "rooms": nowhere})) == (422, "http-invalid")
        for satellite in (kitchen, study):
            [utterance] = satellite.speaker.utterances
            assert len(utterance.pcm) > BYTES_PER_SECOND


def test_rooms_that_fail_are_named(daemon: RunningDaemon, http: httpx.Client) -> None:
    kitchen = ScriptedSatellite(name="kitchen", mode="wake")
    with added_rooms(daemon, kitchen, off=("garage",)):
        answer = http.post("/announce", json=DINNER)
        assert (answer.status_code, answer.json()["heard"], list(answer.json()["failed"])) == (
            200,
            ["kitchen"],
            ["garage"],
        )
        refused = problem(http.post("/announce", json={**DINNER, "rooms": ["garage"]}))
        assert (refused["status"], refused["code"], list(refused["failed"])) == (502, "announce-failed", ["garage"])
        assert refused["detail"].count("garage: ") == 1


@pytest.mark.parametrize("nowhere", [[], None, 5, "kitchen", [5]])
async def test_over_wyoming_as_well(daemon: RunningDaemon, nowhere: Any) -> None:
    with pytest.raises(SatelliteError, match="rooms") as caught:
        await wire_client.command(daemon.uri, "announce", text="Dinner is ready.", rooms=nowhere)
    assert caught.value.code in ("unknown-room", "protocol-error")


@pytest.mark.parametrize(
    ("voice", "speaker", "code"),
    [("nobody", None, "tts-unknown-voice"), ("en_US-joe-medium", "x", "tts-unknown-speaker")],
)
async def test_a_voice_that_there_is_not_over_wyoming(
    daemon: RunningDaemon, voice: str, speaker: str | None, code: str
) -> None:
    with pytest.raises(SatelliteError) as caught:
        await wire_client.say(daemon.uri, "Dinner is ready.", voice, speaker)
    assert caught.value.code == code
