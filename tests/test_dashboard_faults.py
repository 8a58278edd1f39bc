"""The dashboard when things go otherwise: nothing that was said is lost, nothing jumps, nobody is left out."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import APIResponse, Browser, Page, Route, ViewportSize, expect

from satellite.audio.encoding import wav
from satellite.audio.pcm import CANONICAL
from tests.browser import DESK, PHONE, opened, relayed, running
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import added_rooms
from tests.http_daemon import JSON, TIME, last_run, serving
from tests.relay import Relay
from tests.running_daemon import DATA, RunningDaemon
from tests.waiting import eventually

pytestmark = pytest.mark.models

COMMAND = DATA / "commands" / "what_time_is_it.wav"
STORY = "Tell me a long story about a ship, please. Do not stop before it has come to its end."


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests here; nobody speaks."""
    with running(COMMAND) as one:
        yield one


def begin(page: Page, text: str) -> None:
    """Ask, and wait for the first words."""
    page.get_by_label("Type a message").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator("#log .said.house .said-text").last).to_have_text(re.compile(r"\w"))


async def passing(relay: Relay, passes: bool) -> None:
    (relay.mend if passes else relay.cut)()


def test_the_headline_counts_what_was_asked_and_heard(daemon: RunningDaemon, browser: Browser) -> None:
    with serving(daemon) as http, opened(browser, http.base_url) as page:
        tile = page.locator("#glance .tile").filter(has_text="Time to first sound")
        expect(tile).to_contain_text("no answer yet")
        for _ in range(2):
            assert http.post("/tts", json={"text": "Dinner is ready."}).status_code == 200
        assert http.post("/chat", json=TIME).status_code == 200
        expect(page.locator("#runs > li")).to_have_count(3)
        expect(page.locator("#runs > li").nth(1).locator(".run-heard")).to_have_text("Spoken: Dinner is ready.")
        expect(tile).to_contain_text("no answer yet")
        assert http.post("/converse", content=COMMAND.read_bytes(), headers=JSON).status_code == 200
        expect(tile).to_contain_text("of the last answer")
        expect(tile.locator(".tile-value")).to_have_text(re.compile(r"^\d+(\.\d+)? m?s$"))
        assert http.post("/stt", content=wav(bytes(64_000), CANONICAL)).status_code == 200


def test_an_answer_is_stopped_by_the_button_and_by_another_question(daemon: RunningDaemon, browser: Browser) -> None:
    with relayed(daemon) as relay, opened(browser, f"{relay.url}/") as page:
        asked: list[Any] = []
        page.on("request", lambda one: asked.append(one.post_data_json) if one.url.endswith("/chat") else None)
        notes = page.locator("#log .said.house .said-note")
        begin(page, STORY)
        page.get_by_role("button", name="Stop").click()
        expect(notes).to_have_text("stopped")
        expect(page.locator("#ask-send")).to_have_text("Send")
        begin(page, STORY)
        daemon.call(passing(relay, False))  # or the answer might be complete before the question is written
        page.get_by_label("Type a message").fill("What time is it?")
        expect(page.locator("#ask-send")).to_have_text("Send")
        page.keyboard.press("Enter")
        daemon.call(passing(relay, True))
        expect(notes).to_have_text(["stopped", "stopped", re.compile("commands")])
        expect(page.get_by_label("Type a message")).to_have_value("")
        assert [one["text"] for one in asked] == [STORY, STORY, "What time is it?"]
        assert len({one["conversation_id"] for one in asked}) == 1


def test_a_connection_that_breaks_takes_no_words(daemon: RunningDaemon, browser: Browser, http: httpx.Client) -> None:
    with relayed(daemon) as relay, opened(browser, f"{relay.url}/") as page:
        expect(page.locator("#overall")).to_have_text("Ready")
        begin(page, STORY)
        daemon.call(relay.close())
        answer = page.locator("#log .said.house").first
        expect(answer.locator(".said-note")).to_have_text("The connection to the daemon was lost.")
        expect(answer.locator(".said-text")).to_have_text(re.compile(r"\w"))
        expect(page.get_by_role("alert").filter(has_text="Connection lost")).to_be_visible()
        expect(page.locator("#overall")).to_have_text("Not connected")
        field = page.get_by_label("Type a message")
        field.fill("What time is it?")
        field.press("Enter")
        expect(page.locator("#log .said.failed")).to_contain_text("cannot be reached. Your message was kept.")
        expect(field).to_have_value("What time is it?")
        expect(page.locator("#log .said.you")).to_have_count(1)
        meanwhile = http.post("/chat", json={"text": "What is the capital of Italy?"}).json()["text"]
        daemon.call(relay.open())
        expect(page.locator("#lost")).to_be_hidden()
        expect(page.locator("#overall")).to_have_text("Ready")
        page.locator("#runs summary").first.click()
        expect(page.locator("#runs .facts").first).to_contain_text(meanwhile)
        field.press("Enter")
        expect(page.locator("#log .said.house .said-note").last).to_contain_text("commands")


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_many_rooms_have_place_and_nothing_jumps(
    daemon: RunningDaemon, browser: Browser, http: httpx.Client, size: ViewportSize
) -> None:
    kitchen = ScriptedSatellite(name="kitchen", mode="wake")
    off = ("Obergeschoss Arbeitszimmer", *(f"room {number}" for number in range(29)))
    assert last_run(http) or http.post("/chat", json=TIME).status_code == 200
    with added_rooms(daemon, kitchen, off=off), relayed(daemon) as relay:
        states = Counter({"connected": 1, "off": 30})
        eventually(lambda: Counter(room["state"] for room in http.get("/rooms").json()["rooms"]) == states)
        with opened(browser, f"{relay.url}/", viewport=size) as page:
            expect(page.locator("#rooms-count")).to_have_text("1 of 31 connected")
            expect(page.locator("#rooms > li")).to_have_count(31)
            expect(page.locator("#runs > li").first).to_be_visible()
            assert page.evaluate("probes.shifts") < 0.02
            card = page.locator(".card.rooms").bounding_box()
            last = page.locator("#announce-result").bounding_box()
            assert card is not None
            assert last is not None
            assert last["y"] + last["height"] <= card["y"] + card["height"]
            assert card["height"] <= 1.2 * size["height"]
            assert page.locator("#rooms").evaluate("list => list.clientHeight") >= 240
            expect(page.locator("#troubles > li")).to_have_count(30)
            assert page.locator("#troubles").evaluate("list => list.clientHeight") <= 0.6 * size["height"]
            daemon.call(relay.close())
            expect(page.locator("#lost")).to_be_visible()
            assert page.evaluate("probes.shifts") < 0.02
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


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


def test_words_run_the_way_they_are_read(daemon: RunningDaemon, browser: Browser) -> None:
    question = "מה בירת צרפת? (2024)"
    with serving(daemon) as http, opened(browser, http.base_url) as page:
        page.get_by_label("Type a message").fill(question)
        page.keyboard.press("Enter")
        expect(page.locator("#runs .run-heard").first).to_have_text(question)
        page.get_by_label("Type a message").fill(question)
        for place in ("#ask-text", "#log .said.you .said-text", "#runs .run-heard"):
            assert page.locator(place).first.evaluate("node => getComputedStyle(node).direction") == "rtl"


def test_a_list_of_runs_that_arrives_late_removes_none(daemon: RunningDaemon, browser: Browser) -> None:
    late: list[tuple[Route, APIResponse]] = []
    with serving(daemon) as http, opened(browser, http.base_url) as page:
        expect(page.locator("#page")).not_to_have_attribute("aria-busy", "true")  # it has asked for its list
        page.route("**/runs?*", lambda route: late.append((route, route.fetch())))
        page.reload()
        expect(page.locator("#overall")).to_have_text("Ready")
        while not late:
            page.wait_for_timeout(50)
        assert http.post("/chat", json=TIME).status_code == 200
        expect(page.locator("#runs .stage").first).to_be_attached()
        assert late[0][1].json() == {"runs": []}
        for route, response in late:  # another one after each connection that a busy machine has lost
            route.fulfill(response=response)
        expect(page.locator("#page")).not_to_have_attribute("aria-busy", "true")
        expect(page.locator("#runs .stage").first).to_be_visible()
