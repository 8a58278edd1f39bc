"""What Home Assistant is told of where something was said, and the languages that it has compiled by then."""

import asyncio
import logging

import pytest
import yaml

from satellite.config.loader import parse
from satellite.daemon.responders import Places
from satellite.languages import translations
from satellite.pipeline.dialogue import Question
from satellite.skills.home_assistant.api import RoomQuery
from satellite.skills.home_assistant.failures import Failure, is_order, sentence
from tests.doubles.home_assistant import Device, Fault
from tests.home import SILENT, WHY, at_home, said, state, told, watched
from tests.running_daemon import DATA
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock

LIGHTS = "turn on the lights"


async def test_a_device_of_home_assistants_is_told_to_it() -> None:
    async with at_home() as (house, home):
        assert await said(home, LIGHTS) is None
        assert await said(home, LIGHTS, device="d-kitchen") == "Turned on the lights"
        assert house.executed == {"light.kitchen on": 1}
        assert await said(home, LIGHTS, satellite="light.bedroom", device="d-kitchen") == "Turned on the lights"
        assert house.executed == {"light.kitchen on": 1, "light.bedroom on": 1}
        assert await said(home, "set a timer for 5 minutes", device="d-kitchen") == "Timer set"
        assert house.timers == [("d-kitchen", "5 minutes")]
        assert "not supported" in str(await said(home, "set a timer for 5 minutes", device="d-attic"))


async def test_an_older_home_assistant_is_not_told() -> None:
    async with at_home() as (house, home):
        house.knows_places = False
        for _ in range(2):
            assert await said(home, device="d-kitchen") == "Turned on the light"
        assert ["device_id" in exchange.body for exchange in house.exchanges] == [True, False, False]
        assert house.executed == {"light.kitchen on": 2}
        assert state(home) == "ready"


async def test_a_room_of_ours_is_found_by_its_area() -> None:
    async with at_home() as (house, home):
        house.devices.append(Device("d-study", "Study speaker", "Kitchen"))
        home.targets.configure(
            {
                "cook's": RoomQuery("Kitchen"),
                "upstairs": RoomQuery("Bedroom"),
                "moon": RoomQuery("Moon {{ 1 / 0 }}"),
                "host": RoomQuery("Bedroom", "Study speaker"),
            }
        )
        async with watched(home):
            await until(lambda: home.targets.of("host").device is not None)
        for place in ("cook's", "upstairs", "host"):
            assert await said(home, LIGHTS, place=place) == "Turned on the lights"
        assert await said(home, LIGHTS, place="moon") is None
        told = [exchange.body for exchange in house.exchanges if exchange.path.endswith("process")]
        assert [(one.get("device_id"), one.get("satellite_id")) for one in told] == [
            ("d-kitchen", None),
            (None, "light.bedroom"),
            ("d-study", None),
            (None, None),
        ]
        assert house.executed == {"light.kitchen on": 2, "light.bedroom on": 1}


async def test_a_token_without_rights_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with at_home() as (house, home):
        house.is_administrators = False
        home.targets.configure({"study": RoomQuery("Study")})
        async with watched(home):
            await until(lambda: "cannot be looked up" in caplog.text)
            assert house.refused == 1
            home.targets.expire()
            assert not home.targets.due
        assert await said(home, place="study") == "Turned on the light"
        assert state(home) == "ready"
    [warning] = [line for line in told(caplog) if line.startswith("WARNING")]
    assert warning.endswith("cannot be looked up: the token is not an administrator's")


@pytest.mark.parametrize("fault", [Fault.STRANGE, Fault.GARBAGE, Fault.CRASH, Fault.FLOOD])
async def test_rooms_are_looked_for_again_whatever_came_back(fault: Fault) -> None:
    async with at_home() as (house, home), watched(home):
        await until(lambda: state(home) == "ready")
        house.fault = fault
        home.targets.configure({"study": RoomQuery("Study")})
        await until(lambda: not home.targets.due)
        assert home.targets.of("study").device is None
        assert state(home) == "ready"
        house.devices.append(Device("d-study", "Lamp", "Study"))
        assert await said(home) == SILENT
        house.fault = None
        await until(lambda: home.targets.of("study").device == "d-study")


def test_the_configuration_says_what_to_look_for() -> None:
    config = parse(
        "rooms: [{name: kitchen, uri: 'tcp://k:10700'}, {name: desk, uri: 'tcp://d:10700', area: Study}]\n"
        "microphone: default\nhost_room: {name: host, area: Hall}\n"
        "home_assistant_satellite: {enabled: true, name: Hall satellite}"
    )
    assert Places.of(config).queries() == {
        "kitchen": RoomQuery("kitchen"),
        "desk": RoomQuery("Study"),
        "host": RoomQuery("Hall", "Hall satellite"),
    }


async def test_languages_are_warmed_up(caplog: pytest.LogCaptureFixture) -> None:
    async with at_home(languages=("fr", "de")) as (house, home):
        house.uncompiled = {"fr", "de"}
        house.slow_seconds = 0.05
        async with watched(home):
            await until(lambda: not house.uncompiled)
            await home.respond(Question(WHY, language="it"))
            await house.stop()
            await home.respond(Question(WHY, language="it"))
            house.uncompiled = {"fr", "de", "it"}
            await house.start()
            await until(lambda: not house.uncompiled)
        sentences = [one.body for one in house.exchanges if one.path.endswith("process")]
        asked = [one for one in sentences if one["text"] != WHY]
        assert [one["language"] for one in asked] == ["fr", "de", "it", "fr", "de"]
        assert len({one["text"] for one in asked}) == 1
        assert not house.executed
        assert home.status.not_understood == 1  # the one question that was asked


async def test_the_first_sentence_in_a_language_may_take_longer() -> None:
    async with at_home(deadline_seconds=0.3) as (house, home):
        question = Question("turn on the kitchen light", language="en")
        house.uncompiled, house.slow_seconds = {"en"}, 4
        assert home.deadline_seconds(question) == 5
        assert await said(home) == "Turned on the light"
        assert home.deadline_seconds(question) == 0.3
        assert home.deadline_seconds(Question("x", language="fr")) == 5


async def test_an_agent_with_a_language_model_is_not_warmed_up() -> None:
    async with at_home(languages=("fr",), agent_id="conversation.openai", deadline_seconds=0.3) as (house, home):
        async with watched(home):
            await asyncio.sleep(5)
        assert home.deadline_seconds(Question("x", language="fr")) == 0.3
        assert house.sentences == 0


SENTENCES = yaml.safe_load((DATA / "sentences" / "orders.yaml").read_text(encoding="utf-8"))
ORDERS = SENTENCES["orders"]


async def test_an_order_is_told_in_every_language_that_nobody_carries_it_out() -> None:
    assert ORDERS.keys() == {language for language, texts in translations().items() if "answer_unavailable" in texts}
    english = {sentence(failure, "en") for failure in Failure}
    async with at_home() as (house, home):
        await house.stop()
        async with watched(home):
            await until(lambda: state(home) == "unreachable")
            for language, order in ORDERS.items():
                question = Question(order, language=language)
                assert await home.concerns(question)
                reply = await home.respond(question)
                assert reply is not None, language
                assert reply.text == sentence(Failure.UNREACHABLE, language)
                assert reply.text.startswith("Home Assistant ")
                sentences = {sentence(failure, language) for failure in Failure}
                assert len(sentences) == 4
                assert language == "en" or not sentences & english


@pytest.mark.parametrize(("text", "language", "order"), SENTENCES["forms"])
def test_an_order_is_told_from_a_question(text: str, language: str | None, order: bool) -> None:
    assert is_order(text, language) is order


def test_no_text_makes_the_judgement_slow() -> None:
    for beginning in ("licht in ", "kannst du ", "a ", "fel "):
        assert not is_order(beginning * 60 + "x", None)
