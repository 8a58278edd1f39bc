"""The dashboard as people use it: in Chromium, before the real daemon."""

import json
import re
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, WebSocket, expect

from satellite.audio.pcm import BYTES_PER_SECOND, RATE
from tests.browser import CONTRASTS, ELSEWHERE, NAMELESS, SMALL, opened, running
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import added_rooms
from tests.http_daemon import serving
from tests.relay import Relay
from tests.running_daemon import RunningDaemon
from tests.test_status import STATE
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.models

PATIENCE_MS = 1000 * PATIENCE_SECONDS
TOKEN = "a-token-of-the-house"
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def recording(question: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a question and just enough silence for its end to be heard."""
    path = tmp_path_factory.mktemp("microphone") / "question.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(question[: -BYTES_PER_SECOND // 2])
    return path


@pytest.fixture(scope="module")
def browser(recording: Path) -> Iterator[Browser]:
    """One browser for all tests here."""
    with running(recording) as one:
        yield one


def ask(page: Page, text: str) -> str:
    """Ask by text and return the answer."""
    answers = page.locator("#log .said.house")
    before = answers.count()
    page.get_by_label("Type a message").fill(text)
    page.keyboard.press("Enter")
    answer = answers.nth(before)
    expect(answer.locator(".said-note")).to_be_visible()
    return answer.locator(".said-text").inner_text()


def state(page: Page, words: str) -> None:
    """Wait until the page says that it is in a state."""
    expect(page.locator("#talk-state")).to_contain_text(words)


def test_the_house_at_a_glance(daemon: RunningDaemon, browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        expect(page.locator("#overall")).to_have_text("Ready")
        engines = page.get_by_role("region", name="Engines")
        expect(engines.get_by_role("listitem").filter(has_text="Speech to text")).to_contain_text("on the CPU, int8")
        expect(engines).to_contain_text("No graphics card found")
        providers = page.get_by_role("region", name="Chat model")
        model = daemon.daemon.engines.chat.engine.model
        expect(providers.locator("li").first).to_contain_text(f"local · {model}")
        expect(providers).to_contain_text("In use")
        expect(providers).to_contain_text("never switched")
        expect(page.get_by_role("region", name="Rooms")).to_contain_text("No rooms yet")
        expect(page.locator("#announce")).to_be_hidden()


def test_a_house_in_trouble(browser: Browser, url: str) -> None:
    room = {
        "room": "bath",
        "area": None,
        "state": "off",
        "message": "bath is gone",
        "doing": "",
        "since_seconds": 340.0,
    }
    told = {**STATE, "rooms": [room]}

    def tell(route: Route) -> None:
        route.fulfill(content_type="text/event-stream", body=f"event: status\ndata: {json.dumps(told)}\n\n")

    with opened(browser, url) as page:
        page.route("**/events", tell)
        page.reload()
        expect(page.locator("#engines")).to_contain_text("voice x is missing; run: satellite models pull x")
        trouble = page.locator("#troubles > li")
        expect(trouble).to_contain_text("Stage tts")
        expect(trouble).to_contain_text("Voice [x] is missing.")
        expect(trouble.locator("code")).to_have_text("satellite models pull configured")
        switch = page.locator("#last-switch")
        expect(switch).to_contain_text("groq took over from ollama. No word [after].")
        providers = page.get_by_role("region", name="Chat model")
        expect(providers.locator("li").nth(0)).to_contain_text("Kept warm: always")
        expect(providers.locator("li").nth(1)).to_contain_text("In use")
        expect(providers.locator("li").nth(1)).to_contain_text("Outside this house; 4 questions sent")
        expect(providers).to_contain_text("Home Assistant [::1] cannot be reached")
        gpu = page.locator("#gpus > li")
        expect(gpu).to_contain_text("RTX 4090 · 21 W")
        expect(gpu).to_contain_text("1.0 of 16.0 GiB")
        assert gpu.get_by_label("Busy").evaluate("meter => meter.value") == 0.5
        assert gpu.get_by_label("Memory").evaluate("meter => meter.value") == 1 / 16
        expect(page.locator("#rooms")).to_contain_text("Bath is gone (for 5 min)")
        expect(page.locator("#glance")).to_contain_text("0 of 1")


def test_talking(browser: Browser, url: str) -> None:
    sent, received = [0], [0]
    with opened(browser, url, viewport=DESK) as page:

        def count(of: list[int], payload: str | bytes) -> None:
            of[0] += len(payload) if isinstance(payload, bytes) else 0

        def watch(socket: WebSocket) -> None:
            socket.on("framesent", lambda payload: count(sent, payload))
            socket.on("framereceived", lambda payload: count(received, payload))

        page.on("websocket", watch)
        page.get_by_label("Interrupt by speaking").uncheck()
        page.get_by_role("button", name="Talk").click()
        state(page, "Listening")
        state(page, "Answering")
        state(page, "Ready")
        expect(page.locator("#log .said.you")).to_contain_text("capital of France")
        answer = page.locator("#log .said.house .said-text").inner_text()
        assert "Paris" in answer
        assert sent[0] > BYTES_PER_SECOND
        assert received[0] > BYTES_PER_SECOND / 2
        assert page.evaluate("loudest") > 0.05
        expect(page.locator("#spoken")).not_to_contain_text(answer)  # a screen reader would talk over the voice
        run = page.locator("#runs > li").first
        expect(run.locator(".run-heard")).to_contain_text("capital of France")
        expect(run.locator(".run-figure")).to_contain_text("to the first sound")
        assert run.locator(".stage").evaluate_all("bars => bars.map((bar) => bar.dataset.stage)") == [
            "listen",
            "stt",
            "chat",
            "tts",
        ]
        boxes = [bar.bounding_box() for bar in run.locator(".stage").all()]
        assert all(box is not None and box["width"] >= 3 for box in boxes)
        lefts = [box["x"] for box in boxes if box is not None]
        assert lefts == sorted(lefts)
        run.locator("summary").press("Enter")
        expect(run.locator(".facts")).to_contain_text(answer)
        expect(run.get_by_role("row").filter(has_text="Speech to text")).to_contain_text(re.compile(r"\d m?s"))


def test_speaking_interrupts_the_answer(browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        page.get_by_role("button", name="Talk").click()
        expect(page.locator("#log .said.you")).to_have_count(2)
        state(page, "Answering")
        page.get_by_role("button", name="Interrupt").click()
        state(page, "Listening")
        page.keyboard.press("Escape")
        state(page, "Ready")
        expect(page.locator("#runs > li[data-outcome=cancelled]").first).to_be_visible()


def test_words_stream_in(browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        answer = ask(page, "What is the capital of France?")
        grown = page.evaluate("texts")
        assert len(grown) > 2
        assert all(answer.startswith(text.strip()) for text in grown)
        with page.expect_request("**/chat") as second:
            ask(page, "<img src=x onerror=alert(1)><b>And of Spain?</b>")
        told = second.value.post_data_json
        assert told is not None
        ours = told["conversation_id"]
        assert ours
        assert page.locator("#log .said img, #log .said b").count() == 0
        assert "<img" in page.locator("#log .said.you").last.inner_text()
        page.get_by_role("button", name="New conversation").click()
        expect(page.locator("#log .said")).to_have_count(0)
        with page.expect_request("**/chat") as third:
            ask(page, "What time is it?")
        anew = third.value.post_data_json
        assert anew is not None
        assert anew["conversation_id"] != ours
        expect(page.locator("#runs .run-heard").first).to_have_text("What time is it?")


def test_an_announcement_is_heard(daemon: RunningDaemon, browser: Browser, url: str) -> None:
    satellite = ScriptedSatellite(name="kitchen", mode="wake")
    with added_rooms(daemon, satellite), opened(browser, url) as page:
        room = page.locator("#rooms > li").filter(has_text="kitchen")
        expect(room).to_contain_text(re.compile("Waiting for its wake word|Idle"))
        text = page.get_by_label("What to say in the rooms")
        text.fill("Dinner is ready")
        kitchen = page.get_by_role("checkbox", name="kitchen")
        kitchen.uncheck()
        text.press("Enter")
        expect(page.locator("#announce-result")).to_have_text("Choose at least one room.")
        kitchen.check()
        text.press("Enter")
        expect(page.locator("#announce-result")).to_have_text("Heard in kitchen.")
        assert len(satellite.speaker.utterances[-1].pcm) > BYTES_PER_SECOND


def test_a_connection_is_lost_and_comes_back(daemon: RunningDaemon, browser: Browser) -> None:
    relay = Relay(daemon.port("http"))
    daemon.call(relay.open())
    try:
        with opened(browser, f"{relay.url}/") as page, opened(browser, f"http://127.0.0.1:{relay.target}/") as other:
            expect(page.locator("#overall")).to_have_text("Ready")
            daemon.call(relay.close())
            expect(page.get_by_role("alert").filter(has_text="Connection lost")).to_be_visible()
            expect(page.locator("#overall")).to_have_text("Not connected")
            answer = ask(other, "What is the capital of Italy?")
            daemon.call(relay.open())
            expect(page.locator("#lost")).to_be_hidden()
            expect(page.locator("#overall")).to_have_text("Ready")
            page.locator("#runs summary").first.click()
            expect(page.locator("#runs .facts").first).to_contain_text(answer)
    finally:
        daemon.call(relay.close())


def test_signing_in(daemon: RunningDaemon, browser: Browser) -> None:
    with serving(daemon, token=TOKEN, requests_per_minute=10_000) as http, opened(browser, str(http.base_url)) as page:
        dialog = page.get_by_role("dialog", name="Sign in")
        field = dialog.get_by_label("Access token")
        expect(field).to_be_focused()
        field.fill("wrong")
        field.press("Enter")
        expect(dialog.get_by_role("alert")).to_have_text("This token is not valid.")
        field.fill(TOKEN)
        field.press("Enter")
        expect(dialog).to_be_hidden()
        expect(page.locator("#overall")).to_have_text("Ready")
        page.reload()
        expect(page.locator("#overall")).to_have_text("Ready")
        assert ask(page, "What time is it?")
        page.get_by_role("button", name="Talk").click()
        state(page, "Listening")
        page.keyboard.press("Escape")
        assert TOKEN not in page.content()


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ("NotAllowedError", "allow the microphone"),
        ("NotFoundError", "Connect one"),
        ("NotReadableError", "Another program"),
    ],
)
def test_a_refused_microphone_is_explained(browser: Browser, url: str, refusal: str, words: str) -> None:
    with opened(browser, url, forbidden=refusal) as page:
        page.get_by_role("button", name="Talk").click()
        expect(page.locator("#mic-notice")).to_contain_text(words)
        expect(page.locator("#spoken")).to_contain_text(page.locator("#mic-notice strong").inner_text())
        state(page, "Ready")


def test_a_page_over_plain_http_says_why_it_cannot_listen(daemon: RunningDaemon, browser: Browser) -> None:
    with serving(daemon, allowed_hosts=[ELSEWHERE]) as http:
        port = http.base_url.port
        with opened(browser, f"http://{ELSEWHERE}:{port}/") as page:
            notice = page.locator("#mic-notice")
            expect(notice).to_contain_text("without HTTPS")
            expect(notice).to_contain_text(f"ssh -L {port}:localhost:{port} {ELSEWHERE}")
            page.get_by_role("button", name="Talk").click()
            state(page, "Ready")
            assert ask(page, "What time is it?")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_it_can_be_read(
    daemon: RunningDaemon, browser: Browser, url: str, tmp_path: Path, colours: str, size: dict[str, int]
) -> None:
    satellite = ScriptedSatellite(name="kitchen", mode="wake")
    look: dict[str, Any] = {"color_scheme": colours, "viewport": size, "reduced_motion": "reduce"}
    with added_rooms(daemon, satellite), opened(browser, url, **look) as page:
        ask(page, "What is the capital of France?")
        page.locator("#runs summary").first.click()
        page.screenshot(path=tmp_path / f"{colours}-{size['width']}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 40
        assert [told for told in contrasts if told[1] < 4.5] == []
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate(SMALL) == []
        for landmark in ("banner", "main", "contentinfo"):
            expect(page.get_by_role(landmark)).to_have_count(1)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (colours == "dark")
        moving = "[...document.querySelectorAll('*')].filter((n) => getComputedStyle(n).animationName !== 'none')"
        assert page.evaluate(f"{moving}.length") == 0


def test_the_keyboard_suffices(browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        expect(page.locator("#overall")).to_have_text("Ready")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the conversation")).to_be_focused()
        page.keyboard.press("Enter")
        reached = []
        for _ in range(5):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id"))
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert reached == ["log", "talk", "barge", "ask-text", "ask-send"]
        page.locator("#talk").focus()
        page.keyboard.press("Enter")
        state(page, "Listening")
        expect(page.locator("#spoken")).to_have_text("Listening. Speak now")
        page.keyboard.press("Escape")
        state(page, "Ready")
        page.locator("input[name=axis]").first.focus()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("radio", name="Whole run")).to_be_checked()
