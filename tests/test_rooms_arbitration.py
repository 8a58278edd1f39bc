"""Which room answers, and how well each of them hears."""

import numpy as np
import pytest

from satellite.config.endpoint import EndpointSettings
from satellite.config.rooms import RoomSettings
from satellite.events import RunBus
from satellite.rooms.arbitration import Arbiter, Loudness
from satellite.rooms.device import RoomContext
from tests.host_room import running
from tests.loudness import silence, speech
from tests.scripted_engine import WAKE_WORD, ScriptedEngine, scripted_stages
from tests.scripted_rooms import StreamingSatellite
from tests.virtual_clock import ManualClock
from tests.waiting import until


def test_the_room_that_hears_best_has_the_call() -> None:
    lost: list[str] = []
    clock = ManualClock(0.0)
    arbiter = Arbiter(0.3, now=clock)

    def claim(room: str, quality_db: float, word: str = "okay_nabu") -> bool:
        return arbiter.claim(room, word, quality_db, lambda: lost.append(room))

    assert claim("hall", 15)
    assert claim("hall", 10)
    assert lost == []
    clock.now = 0.1
    assert not claim("attic", 5)
    assert claim("kitchen", 20)
    assert lost == ["hall"]
    assert claim("bedroom", 1, "alexa")
    clock.now = 0.29
    assert [arbiter.call_seconds(word) for word in ("okay_nabu", "alexa", "hey_jarvis")] == [0.1, 0, 0]
    assert not claim("hall", 20)
    clock.now = 0.71
    assert claim("attic", 5)
    assert lost == ["hall"]


@pytest.mark.parametrize(("noise", "speech", "db"), [(50, 500, 20), (500, 5000, 20), (500, 1000, 6)])
def test_loudness_is_speech_against_the_rooms_own_noise(noise: float, speech: float, db: float) -> None:
    random = np.random.default_rng(1)
    loudness = Loudness()
    assert loudness.speech_to_noise_db == float("-inf")
    sound = np.concatenate([random.normal(0, noise, 80_000), random.normal(0, speech, 12_000)]).astype(np.int16)
    for at in range(0, len(sound), 1000):
        loudness.feed(sound[at : at + 1000].tobytes())
    assert loudness.speech_to_noise_db == pytest.approx(db, abs=1)


@pytest.mark.parametrize(("at", "answers"), [(0.31, False), (0.69, False), (0.71, True)])
def test_a_room_that_hears_the_call_late_stands_down_however_well_it_hears(at: float, answers: bool) -> None:
    clock = ManualClock(0.0)
    arbiter = Arbiter(0.3, now=clock)
    lost: list[str] = []
    assert arbiter.claim("hall", "okay_nabu", 5, lambda: lost.append("hall"))
    clock.now = at
    assert arbiter.claim("kitchen", "okay_nabu", 50, lambda: lost.append("kitchen")) is answers
    assert arbiter.claim("hall", "okay_nabu", 5, lambda: lost.append("hall")) is not answers
    assert arbiter.claim("attic", "alexa", 5, lambda: lost.append("attic"))
    assert lost == []


def test_without_a_window_every_room_answers() -> None:
    arbiter = Arbiter(0.0, now=ManualClock(0.0))
    assert all(arbiter.claim(room, "okay_nabu", 5, lambda: None) for room in ("hall", "kitchen", "attic"))


@pytest.mark.virtual_clock
@pytest.mark.parametrize(("since", "text"), [(0.8, "The lights."), (0.2, "Turn on the lights.")])
async def test_a_room_that_takes_over_begins_with_what_it_has_heard_since_the_first_claim(
    since: float, text: str
) -> None:
    engine = ScriptedEngine({0: "The lights.", 34: "Turn on the lights."})
    clock = ManualClock()
    context = RoomContext(
        scripted_stages(engine, endpoint=EndpointSettings(repair_seconds=0)), RunBus(), Arbiter(0.3, now=clock)
    )
    room = StreamingSatellite(RoomSettings(name="kitchen"), context)
    assert context.arbiter.claim("attic", "okay_nabu", float("-inf"), lambda: None)
    clock.now += since
    room.say(speech(20), WAKE_WORD, speech(30), silence(60))
    async with running(room.live()):
        await until(lambda: engine.asked)
    await room.conversation.close()
    assert engine.asked == [text]
