"""`POST /announce`: where it is heard, and what is said where it is not."""

from typing import Any

import httpx
import pytest

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.errors import SatelliteError
from satellite.wire import client as wire_client
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import added_rooms
from tests.http_daemon import problem
from tests.running_daemon import RunningDaemon

pytestmark = pytest.mark.models


def test_without_rooms_it_is_heard_everywhere(daemon: RunningDaemon, http: httpx.Client) -> None:
    kitchen, study = (ScriptedSatellite(name=name, mode="wake") for name in ("kitchen", "study"))
    with added_rooms(daemon, kitchen, study):
        told = http.post("/announce", json={"text": "Dinner is ready."})
        assert told.status_code == 200
        assert told.json() == {"heard": ["kitchen", "study"], "failed": {}}
        for satellite in (kitchen, study):
            assert len(satellite.speaker.utterances[-1].pcm) > BYTES_PER_SECOND
        for nowhere in ([], None, "kitchen", [""]):
            refused = problem(http.post("/announce", json={"text": "Dinner is ready.", "rooms": nowhere}))
            assert (refused["status"], refused["code"]) == (422, "http-invalid")
        assert [len(one.speaker.utterances) for one in (kitchen, study)] == [1, 1]


def test_rooms_that_fail_are_told(daemon: RunningDaemon, http: httpx.Client) -> None:
    kitchen = ScriptedSatellite(name="kitchen", mode="wake")
    with added_rooms(daemon, kitchen, off=("garage",)):
        told = http.post("/announce", json={"text": "Dinner is ready."})
        assert told.status_code == 200
        assert told.json()["heard"] == ["kitchen"]
        assert list(told.json()["failed"]) == ["garage"]
        refused = problem(http.post("/announce", json={"text": "Dinner is ready.", "rooms": ["garage"]}))
        assert (refused["status"], refused["code"]) == (502, "announce-failed")
        assert list(refused["failed"]) == ["garage"]
        assert "garage: " in refused["detail"]
        assert "garage: garage: " not in refused["detail"]


@pytest.mark.parametrize("nowhere", [[], None, 5, "kitchen", [5]])
async def test_over_wyoming_as_well(daemon: RunningDaemon, nowhere: Any) -> None:
    with pytest.raises(SatelliteError) as caught:
        await wire_client.command(daemon.uri, "announce", text="Dinner is ready.", rooms=nowhere)
    assert caught.value.code in ("unknown-room", "protocol-error")
    assert "rooms" in str(caught.value)


async def test_a_voice_that_there_is_not_over_wyoming(daemon: RunningDaemon) -> None:
    for name, speaker, code in (
        ("nobody", None, "tts-unknown-voice"),
        ("en_US-joe-medium", "x", "tts-unknown-speaker"),
    ):
        with pytest.raises(SatelliteError) as caught:
            await wire_client.say(daemon.uri, "Dinner is ready.", name, speaker)
        assert caught.value.code == code


def test_a_text_that_is_too_long_to_be_spoken(http: httpx.Client) -> None:
    for path in ("/announce", "/tts"):
        refused = problem(http.post(path, json={"text": "x" * 20_001}))
        assert (refused["status"], refused["code"]) == (413, "tts-too-long")
    refused = problem(http.post("/v1/audio/speech", json={"input": "x" * 20_001}))
    assert refused["error"]["code"] == "tts-too-long"
