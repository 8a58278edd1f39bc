"""Home Assistant is asked first: what it does and says, what it leaves to the chat model, and how it is asked."""

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from satellite.config.home_assistant import HomeAssistantSettings
from satellite.config.settings import Config
from satellite.pipeline.dialogue import Question
from satellite.skills.home_assistant.response import ConversationResult, parsed, what_to_say
from tests.doubles.home_assistant import BUILT_IN
from tests.home import KITCHEN, TOKEN, asking, at_home, said

pytestmark = pytest.mark.virtual_clock


def real(speech: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return what Home Assistant 2024.3.3 really sent; 2026.2 adds `continue_conversation` and a name."""
    spoken = {"plain": {"speech": speech, "extra_data": None}}
    response = {"speech": spoken, "card": {}, "language": "en", "response_type": kind, "data": data}
    return {"response": response, "conversation_id": None}


LIGHTS = {"name": "Kitchen Lights", "type": "entity", "id": "light.kitchen_lights"}
DONE = real("Turned on the light", "action_done", {"targets": [], "success": [LIGHTS], "failed": []})
NO_MOON = "Sorry, I am not aware of any device called moon"
SSML = {"ssml": {"speech": "<speak>Tom &amp; Jerry<break time='1s'/> are home</speak>", "extra_data": None}}


async def test_a_request_is_what_the_api_asks_for() -> None:
    async with at_home() as (house, home):
        assert await said(home) == "Turned on the light"
        [asked] = house.exchanges
        assert (asked.method, asked.path) == ("POST", "/api/conversation/process")
        assert asked.headers["authorization"] == f"Bearer {TOKEN}"
        assert asked.headers["content-type"] == "application/json"
        assert asked.body.pop("conversation_id")
        assert asked.body == {"text": KITCHEN, "agent_id": BUILT_IN, "language": "en"}
        await home.respond(Question("hello"))
        assert "language" not in house.exchanges[-1].body
        await asyncio.gather(said(home), said(home, "turn off the bedroom light"))
        assert house.executed == {"light.kitchen on": 2, "light.bedroom off": 1}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Turn on the kitchen light.", "Turned on the light"),
        ("What is the temperature in the living room?", "21.5 °C"),
        ("Good night.", ""),
        ("Turn on the bathroom fan.", "The bathroom fan did not respond"),
        ("Run the broken script.", "An unexpected error occurred"),
        ("Add milk to my shopping list.", "Home Assistant can't do that."),
        ("Turn on the moon.", "Sorry, I am not aware of any device called moon"),
        ("What is the capital of France?", None),
        ("What is the temperature in the attic?", None),
        ("Why is the sky blue?", None),
    ],
)
async def test_what_is_said(text: str, answer: str | None) -> None:
    async with at_home() as (_, home):
        assert await said(home, text) == answer
        status = home.status
        counts = (0, 1, 0) if answer is None else (1, 0, 0)
        assert (status.answered, status.not_understood, status.failed, status.state) == (*counts, "ready")


@pytest.mark.parametrize(
    ("document", "answer"),
    [
        (DONE, ConversationResult("Turned on the light", None, None)),
        (real(NO_MOON, "error", {"code": "no_valid_targets"}), ConversationResult(NO_MOON, "no_valid_targets", None)),
        (
            {"response": {"response_type": "action_done", "speech": SSML}},
            ConversationResult("Tom & Jerry are home", None, None),
        ),
        ({"response": {"response_type": "query_answer"}, "conversation_id": "a"}, ConversationResult("", None, "a")),
        ({"response": {"response_type": "action_done", "speech": {"plain": None}}}, ConversationResult("", None, None)),
        ({"response": {"response_type": "error", "data": None}}, ConversationResult("", "unknown", None)),
        ({"response": {"response_type": "poem"}}, None),
        ({"response": []}, None),
        ({"message": "API running."}, None),
        ([], None),
        (None, None),
    ],
)
def test_what_an_answer_means(document: Any, answer: ConversationResult | None) -> None:
    assert parsed(document) == answer


def test_a_failure_without_words_is_no_answer() -> None:
    assert what_to_say(ConversationResult("", "failed_to_handle", None), KITCHEN, "en") is None
    assert what_to_say(ConversationResult("Something", "new_code", None), KITCHEN, "en") is None


async def test_a_conversation_goes_on() -> None:
    async with at_home() as (house, home):
        house.follows_up = True
        assert await said(home, KITCHEN, "room kitchen")
        for other in ("room bedroom", None):
            assert await said(home, "And the bedroom light?", other) is None
        assert await said(home, "And the bedroom light?", "room kitchen") == "Turned on the light"
        names = [exchange.body["conversation_id"] for exchange in house.exchanges]
        assert names[0] == names[3]
        assert len(set(names)) == 3


async def test_the_name_that_home_assistant_gives_is_used() -> None:
    async with at_home() as (house, home):
        house.conversation_names = ["01ARZ3NDEKTSV4RRFFQ69G5FAV", None, "x"]
        for _ in range(4):
            await said(home, KITCHEN, "room kitchen")
        first, *names = [exchange.body["conversation_id"] for exchange in house.exchanges]
        assert len(first) == 32
        assert names == ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "x"]


async def test_old_conversations_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satellite.skills.home_assistant.agent._CONVERSATIONS", 3)
    async with at_home() as (house, home):
        for number in (0, 1, 2, 3, 1, 0):
            await said(home, "hello", f"conversation {number}")
        names = [exchange.body["conversation_id"] for exchange in house.exchanges]
        assert names[4] == names[1]
        assert names[5] != names[0]


async def test_a_long_text_is_no_command() -> None:
    async with at_home() as (house, home):
        assert await said(home, "turn on the kitchen light " * 20) is None
        assert not house.exchanges
        assert home.status.up


async def test_a_circle_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async with at_home(agent_id="conversation.satellite") as (house, home):

        async def wyoming(text: str, conversation: str, language: str) -> dict[str, Any]:
            asked = await home.respond(Question(text, f"conversation {conversation}", language=language))
            assert asked is None
            return {"speech": {"plain": {"speech": "The chat model says"}}, "response_type": "action_done", "data": {}}

        house.agents["conversation.satellite"] = wyoming
        for _ in range(2):
            assert await said(home, "why?", "room kitchen") == "The chat model says"
        assert house.sentences == 2
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "asks this daemon itself; set home_assistant.agent_id" in warning


async def test_the_address_may_be_written_in_any_way() -> None:
    async with at_home() as (house, _):
        for ending in ("", "/", "/api", "/api/"):
            home = asking(house, url=f"{house.url}{ending}")
            assert await said(home)
            await home.close()


@pytest.mark.parametrize("url", ["ftp://house", "house:8123", "http://me:secret@house", "http://"])
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        HomeAssistantSettings(url=url)
    assert Config().home_assistant.url is None  # it is off by default
