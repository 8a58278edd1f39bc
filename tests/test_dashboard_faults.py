"""The dashboard when things go otherwise: nothing that was said is lost, nothing jumps, nobody is left out."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Browser, Page, Route, expect

from satellite.audio.pcm import CANONICAL
from satellite.http.encoding import wav
from tests.browser import opened, running
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import added_rooms
from tests.http_daemon import client, serving
from tests.relay import Relay
from tests.running_daemon import DATA, RunningDaemon
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.models

TOKEN = "a-token-of-the-house"
STORY = "Tell me a long story about a ship, please. Do not stop before it has come to its end."
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 900}

expect.set_options(timeout=1000 * PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests here; nobody speaks."""
    with running(DATA / "commands" / "what_time_is_it.wav") as one:
        yield one


@contextmanager
def relayed(daemon: RunningDaemon) -> Iterator[Relay]:
    """Lead to the daemon by a network that can break."""
    relay = Relay(daemon.port("http"))
    daemon.call(relay.open())
    try:
        yield relay
    finally:
        daemon.call(relay.close())


def begin(page: Page, text: str) -> None:
    """Ask, and wait for the first words."""
    page.get_by_label("Type a message").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator("#log .said.house .said-text").last).to_have_text(re.compile(r"\w"))


def test_the_headline_counts_what_was_asked_and_heard(daemon: RunningDaemon, browser: Browser) -> None:
    tile = "Time to first sound"
    with serving(daemon) as http, opened(browser, str(http.base_url)) as page:
        expect(page.locator("#glance .tile").filter(has_text=tile)).to_contain_text("no answer yet")
        for _ in range(2):
            assert http.post("/tts", json={"text": "Dinner is ready."}).status_code == 200
        assert http.post("/chat", json={"text": "What time is it?"}).status_code == 200
        expect(page.locator("#runs > li")).to_have_count(3)
        expect(page.locator("#runs > li").nth(1).locator(".run-heard")).to_have_text("Spoken: Dinner is ready.")
        expect(page.locator("#glance .tile").filter(has_text=tile)).to_contain_text("no answer yet")
        question = (DATA / "commands" / "what_time_is_it.wav").read_bytes()
        assert http.post("/converse", content=question, headers={"Accept": "application/json"}).status_code == 200
        told = page.locator("#glance .tile").filter(has_text=tile)
        expect(told).to_contain_text("of the last answer")
        expect(told.locator(".tile-value")).to_have_text(re.compile(r"^\d+(\.\d+)? m?s$"))
        assert http.post("/stt", content=wav(bytes(64_000), CANONICAL)).status_code == 200


def test_a_question_amid_an_answer(browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        asked: list[Any] = []
        page.on("request", lambda one: asked.append(one.post_data_json) if one.url.endswith("/chat") else None)
        begin(page, STORY)
        page.get_by_label("Type a message").fill("What time is it?")
        expect(page.locator("#ask-send")).to_have_text("Send")
        page.keyboard.press("Enter")
        expect(page.locator("#log .said.house")).to_have_count(2)
        expect(page.locator("#log .said.house .said-note").nth(0)).to_have_text("stopped")
        expect(page.locator("#log .said.house .said-note").nth(1)).to_contain_text("commands")
        expect(page.get_by_label("Type a message")).to_have_value("")
        assert [one["text"] for one in asked] == [STORY, "What time is it?"]
        assert asked[0]["conversation_id"] == asked[1]["conversation_id"]


def test_the_button_stops_an_answer(browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        begin(page, STORY)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#log .said.house .said-note")).to_have_text("stopped")
        expect(page.locator("#ask-send")).to_have_text("Send")


def test_a_connection_that_breaks_takes_no_words(daemon: RunningDaemon, browser: Browser) -> None:
    with relayed(daemon) as relay, opened(browser, f"{relay.url}/") as page:
        begin(page, STORY)
        daemon.call(relay.close())
        answer = page.locator("#log .said.house").first
        expect(answer.locator(".said-note")).to_have_text("The connection to the daemon was lost.")
        expect(answer.locator(".said-text")).to_have_text(re.compile(r"\w"))
        expect(page.locator("#lost")).to_be_visible()
        field = page.get_by_label("Type a message")
        field.fill("What time is it?")
        field.press("Enter")
        expect(page.locator("#log .said.failed")).to_contain_text("cannot be reached. Your message was kept.")
        expect(field).to_have_value("What time is it?")
        expect(page.locator("#log .said.you")).to_have_count(1)
        daemon.call(relay.open())
        expect(page.locator("#lost")).to_be_hidden()
        field.press("Enter")
        expect(page.locator("#log .said.house .said-note").last).to_contain_text("commands")


def test_links_of_a_daemon_with_a_token(daemon: RunningDaemon, browser: Browser) -> None:
    with serving(daemon, token=TOKEN, requests_per_minute=10_000) as http, opened(browser, str(http.base_url)) as page:
        page.get_by_label("Access token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#overall")).to_have_text("Ready")
        for link, words in (("Metrics", "satellite_ready 1.0"), ("API description", '"openapi"')):
            with page.context.expect_page() as found:
                page.get_by_role("link", name=link).click()
            expect(found.value.locator("body")).to_contain_text(words)
            found.value.close()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_nothing_jumps(daemon: RunningDaemon, browser: Browser, size: dict[str, int]) -> None:
    kitchen = ScriptedSatellite(name="kitchen", mode="wake")
    off = ("garage", "Obergeschoss Arbeitszimmer")
    with client(daemon) as http:
        assert http.post("/chat", json={"text": "What time is it?"}).status_code == 200
    with (
        added_rooms(daemon, kitchen, off=off),
        relayed(daemon) as relay,
        opened(browser, f"{relay.url}/", viewport=size) as page,
    ):
        expect(page.locator("#rooms-count")).to_have_text("1 of 3 connected")
        expect(page.locator("#runs > li").first).to_be_visible()
        assert page.evaluate("shifts") < 0.02
        daemon.call(relay.close())
        expect(page.locator("#lost")).to_be_visible()
        assert page.evaluate("shifts") < 0.02
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_rooms_that_cannot_hear_are_not_chosen(daemon: RunningDaemon, browser: Browser, url: str) -> None:
    kitchen = ScriptedSatellite(name="kitchen", mode="wake")
    with added_rooms(daemon, kitchen, off=("garage",)), opened(browser, url) as page:
        garage = page.get_by_role("checkbox", name="garage")
        expect(page.get_by_role("checkbox", name="kitchen")).to_be_checked()
        expect(garage).not_to_be_checked()
        text, result = page.get_by_label("What to say in the rooms"), page.locator("#announce-result")
        garage.check()
        for kitchen_too in (True, False):
            page.get_by_role("checkbox", name="kitchen").set_checked(kitchen_too)
            text.fill("Dinner is ready")
            text.press("Enter")
            expect(result).to_contain_text(
                "Not heard in garage. Nothing answers at tcp://127.0.0.1:1: Connection refused;"
            )
            expect(result).to_have_attribute("data-tone", "bad")
            told = result.inner_text()
            assert told.startswith("Heard in kitchen. ") is kitchen_too
            assert told.count("garage") == 1
            assert told.endswith("the machine is on, its satellite is not running.")


def test_what_needs_attention_is_said_first(daemon: RunningDaemon, browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        overall = page.locator("#overall")
        expect(overall).to_have_text("Ready")
        with added_rooms(daemon, off=("garage", "office")):
            expect(overall).to_have_text("2 things need attention")
            expect(overall).to_have_attribute("data-tone", "bad")
            overall.click()
            expect(page.locator("#attention")).to_be_in_viewport()
            expect(page.locator("#troubles > li").first).to_contain_text("Room garage")
            expect(page.locator("#troubles code").first).to_have_text("satellite doctor")
        expect(overall).to_have_text("Ready")
        expect(page.locator("#attention")).to_be_hidden()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_house_of_many_rooms_has_place(
    daemon: RunningDaemon, browser: Browser, url: str, size: dict[str, int]
) -> None:
    off = tuple(f"room {number}" for number in range(30))
    with added_rooms(daemon, off=off), opened(browser, url, viewport=size) as page:
        expect(page.locator("#rooms > li")).to_have_count(30)
        card = page.locator(".card.rooms").bounding_box()
        last = page.locator("#announce-result").bounding_box()
        assert card is not None
        assert last is not None
        assert last["y"] + last["height"] <= card["y"] + card["height"]
        assert card["height"] <= 1.2 * size["height"]


def test_words_run_the_way_they_are_read(daemon: RunningDaemon, browser: Browser) -> None:
    question = "מה בירת צרפת? (2024)"
    with serving(daemon) as http, opened(browser, str(http.base_url)) as page:
        page.get_by_label("Type a message").fill(question)
        assert page.locator("#ask-text").evaluate("node => getComputedStyle(node).direction") == "rtl"
        page.keyboard.press("Enter")
        expect(page.locator("#runs .run-heard").first).to_have_text(question)
        for place in ("#log .said.you .said-text", "#runs .run-heard"):
            assert page.locator(place).first.evaluate("node => getComputedStyle(node).direction") == "rtl"


def test_a_list_of_runs_that_arrives_late_removes_none(daemon: RunningDaemon, browser: Browser) -> None:
    late: list[tuple[Route, APIResponse]] = []
    with serving(daemon) as http, opened(browser, str(http.base_url)) as page:
        page.route("**/runs?*", lambda route: late.append((route, route.fetch())))
        page.reload()
        expect(page.locator("#overall")).to_have_text("Ready")
        while not late:
            page.wait_for_timeout(50)
        assert http.post("/chat", json={"text": "What time is it?"}).status_code == 200
        expect(page.locator("#runs .stage").first).to_be_attached()
        route, response = late[0]
        assert response.json() == {"runs": []}
        route.fulfill(response=response)
        expect(page.locator("#page")).not_to_have_attribute("aria-busy", "true")
        expect(page.locator("#runs .stage").first).to_be_visible()


def test_bars_are_seen_in_high_contrast(daemon: RunningDaemon, browser: Browser) -> None:
    with serving(daemon) as http, opened(browser, str(http.base_url), forced_colors="active") as page:
        assert http.post("/chat", json={"text": "What time is it?"}).status_code == 200
        bar = page.locator("#runs .stage").first
        expect(bar).to_be_visible()
        seen = "node => [getComputedStyle(node).backgroundColor, getComputedStyle(node).borderTopStyle]"
        colour, edge = bar.evaluate(seen)
        assert colour not in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
        assert edge == "solid"


def test_it_says_how_to_find_rooms(browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        expect(page.locator("#rooms code").first).to_have_text("satellite rooms discover")
