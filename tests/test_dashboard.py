"""The dashboard as people use it: in Chromium, before the real daemon."""

import json
import re
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, WebSocket, expect

from satellite.audio.pcm import BYTES_PER_SECOND, RATE
from satellite.config.rooms import RoomSettings, SpeakerSettings
from satellite.monitoring.status import as_json
from satellite.rooms.device import Capabilities
from tests.browser import DESK, ELSEWHERE, PHONE, SCRIPTED, ask, become, opened, running, say
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import added_rooms
from tests.house import ScriptedHouseRoom
from tests.http_daemon import QUESTION, TIME, TOKEN, last_run, serving
from tests.running_daemon import RunningDaemon
from tests.test_status import STATE
from tests.waiting import eventually

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def browser(question: bytes, story: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests here; it hears a question and just enough silence for its end to be heard."""
    del story  # made before: Playwright runs an event loop in this thread
    path = tmp_path_factory.mktemp("microphone") / "question.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(question[: -BYTES_PER_SECOND // 2])
    with running(path) as one:
        yield one


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
        expect(page.locator("#rooms code").first).to_have_text("satellite rooms discover")
        expect(page.locator("#announce")).to_be_hidden()


def test_a_house_in_trouble(browser: Browser, url: str) -> None:
    room = {
        "room": "bath",
        "area": None,
        "state": "off",
        "message": "gone",
        "doing": "",
        "since_seconds": 340.0,
    }
    event = f"event: status\ndata: {json.dumps({**STATE, 'rooms': [room]})}\n\n"
    with opened(browser, url) as page:
        page.route("**/events", lambda route: route.fulfill(content_type="text/event-stream", body=event))
        page.reload()
        expect(page.locator("#engines")).to_contain_text("voice x is missing; run: satellite models pull x")
        trouble = page.locator("#troubles > li")
        expect(trouble).to_contain_text("Stage tts")
        expect(trouble).to_contain_text("Voice [x] is missing.")
        expect(trouble.locator("code")).to_have_text("satellite models pull configured")
        expect(page.locator("#last-switch")).to_contain_text("groq took over from ollama. No word [after].")
        providers = page.get_by_role("region", name="Chat model")
        expect(providers.locator("li").nth(0)).to_contain_text("Kept warm: always")
        expect(providers.locator("li").nth(1)).to_contain_text("In use")
        expect(providers.locator("li").nth(1)).to_contain_text("Outside this house; 4 questions sent")
        expect(providers).to_contain_text("Home Assistant [::1] cannot be reached")
        gpu = page.locator("#gpus > li")
        expect(gpu).to_contain_text("RTX 4090 · 21 W")
        expect(gpu).to_contain_text("1.0 of 16.0 GiB")
        meters = [gpu.get_by_label(name).evaluate("meter => meter.value") for name in ("Busy", "Memory")]
        assert meters == [0.5, 1 / 16]
        expect(page.locator("#rooms")).to_contain_text("Gone (for 5 min)")
        expect(page.locator("#glance")).to_contain_text("0 of 1")


def test_talking(browser: Browser, url: str) -> None:
    sizes = {"framesent": 0, "framereceived": 0}

    def watch(socket: WebSocket) -> None:
        def count(name: str, payload: str | bytes) -> None:
            sizes[name] += len(payload) if isinstance(payload, bytes) else 0

        socket.on("framesent", lambda payload: count("framesent", payload))
        socket.on("framereceived", lambda payload: count("framereceived", payload))

    with opened(browser, url, viewport=DESK) as page:
        page.on("websocket", watch)
        page.get_by_label("Interrupt by speaking").uncheck()
        heard = ""
        while "capital of France" not in heard:  # a browser on a busy machine loses pieces of what the microphone hears
            page.get_by_role("button", name="Talk").click()
            become(page, "Listening")
            become(page, "Ready")
            heard = "".join(page.locator("#log .said.you").all_inner_texts()[-1:])
        answer = page.locator("#log .said.house .said-text").last.inner_text()
        assert "Paris" in answer
        assert sizes["framesent"] > BYTES_PER_SECOND
        assert sizes["framereceived"] > BYTES_PER_SECOND / 2
        assert page.evaluate("probes.loudest") > 0.05
        expect(page.locator("#spoken")).not_to_contain_text(answer)  # a screen reader would talk over the voice
        run = page.locator("#runs > li").first
        expect(run.locator(".run-heard")).to_contain_text("capital of France")
        expect(run.locator(".run-figure")).to_contain_text("to the first sound")
        stages = run.locator(".stage").evaluate_all("bars => bars.map((bar) => bar.dataset.stage)")
        assert stages == ["listen", "stt", "chat", "tts"]
        run.locator("summary").press("Enter")
        expect(run.locator(".facts")).to_contain_text(answer)
        expect(run.get_by_role("row").filter(has_text="Speech to text")).to_contain_text(re.compile(r"\d m?s"))


def test_the_stages_of_runs_share_an_axis(browser: Browser, url: str, http: httpx.Client) -> None:
    assert http.post("/chat", json=TIME).status_code == 200

    def spoken_run(number: int, wait_ms: int) -> dict[str, Any]:
        ends = {"listen": 1500, "stt": 1600, "chat": 1500 + wait_ms - 50, "tts": 1500 + wait_ms + 1000}
        starts = {"listen": 0, "stt": 1400, "chat": 1600, "tts": 1500 + wait_ms - 100}
        stages = [{"name": name, "start_ms": starts[name], "end_ms": ends[name]} for name in ends]
        marks = {"speech_end_ms": 1500, "first_audio_ms": 1500 + wait_ms}
        began = f"2026-12-01T10:00:0{number}+00:00"
        return {**last_run(http), "id": str(number), "began": began, "total_ms": 9000, "stages": stages, "marks": marks}

    runs = [spoken_run(number, wait_ms) for number, wait_ms in enumerate((400, 400, 400, 20_000), 1)]
    with opened(browser, url, viewport=DESK) as page:
        page.route("**/runs?*", lambda route: route.fulfill(json={"runs": runs}))
        page.reload()
        expect(page.locator("#runs > li")).to_have_count(len(runs))
        places = """bars => bars.filter((bar) => !bar.hidden).map((bar) => {
            const { x, width } = bar.getBoundingClientRect();
            return [x, width, bar.dataset.stage, bar.classList.contains("cut-right")];
        })"""
        slow, *usual = [run.locator(".stage").evaluate_all(places) for run in page.locator("#runs > li").all()]
        assert usual[0] == usual[1] == usual[2]
        for bars in (slow, usual[0]):
            assert all(width >= 3 for _, width, *_ in bars)
            assert bars == sorted(bars)
        assert [stage for *_, stage, _ in usual[0]] == ["listen", "stt", "chat", "tts"]
        assert not any(is_cut for *_, is_cut in usual[0][:3])
        assert [(stage, is_cut) for *_, stage, is_cut in slow] == [("listen", False), ("stt", False), ("chat", True)]


def test_speaking_interrupts_the_answer(browser: Browser, url: str, question: bytes, story: bytes) -> None:
    with opened(browser, url, SCRIPTED) as page:
        page.get_by_role("button", name="Talk").click()
        become(page, "Listening")
        say(page, story)
        become(page, "Answering")
        page.wait_for_timeout(3000)  # what is said sooner belongs to the command
        say(page, question)
        expect(page.locator("#log .said.you")).to_have_count(2)
        expect(page.locator("#log .said.you").last).to_contain_text("capital of France")
        expect(page.locator("#runs > li").nth(1)).to_have_attribute("data-outcome", "cancelled")
        become(page, "Ready")


def test_the_button_interrupts_the_answer(browser: Browser, url: str, story: bytes) -> None:
    with opened(browser, url, SCRIPTED) as page:
        page.get_by_role("button", name="Talk").click()
        become(page, "Listening")
        say(page, story)
        become(page, "Answering")
        page.get_by_role("button", name="Interrupt").click()
        become(page, "Listening")
        expect(page.locator("#runs > li").nth(1)).to_have_attribute("data-outcome", "cancelled")
        page.keyboard.press("Escape")
        become(page, "Ready")


def test_words_stream_in(browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        conversations = []

        def asked(text: str) -> str:
            with page.expect_request("**/chat") as request:
                answer = ask(page, text)
            body = request.value.post_data_json
            assert body is not None
            conversations.append(body["conversation_id"])
            return answer

        answer = asked(QUESTION)
        grown = page.evaluate("probes.texts")
        assert len(grown) > 2
        assert all(answer.startswith(text.strip()) for text in grown)
        asked("<img src=x onerror=alert(1)><b>And of Spain?</b>")
        assert page.locator("#log .said img, #log .said b").count() == 0
        assert "<img" in page.locator("#log .said.you").last.inner_text()
        page.get_by_role("button", name="New conversation").click()
        expect(page.locator("#log .said")).to_have_count(0)
        asked("What time is it?")
        assert all(conversations)
        assert conversations[0] == conversations[1] != conversations[2]
        expect(page.locator("#runs .run-heard").first).to_have_text("What time is it?")


def test_announcements(daemon: RunningDaemon, browser: Browser, url: str) -> None:
    satellite = ScriptedSatellite(name="kitchen", mode="wake")
    with added_rooms(daemon, satellite, off=("garage",)), opened(browser, url) as page:
        room = row(page, "kitchen")
        expect(room).to_contain_text(re.compile("Waiting for its wake word|Idle"))
        text, result = page.get_by_label("What to say in the rooms"), page.locator("#announce-result")
        kitchen, garage = (page.get_by_role("checkbox", name=name) for name in ("kitchen", "garage"))
        expect(kitchen).to_be_checked()
        expect(garage).not_to_be_checked()  # it cannot hear
        text.fill("Dinner is ready")
        kitchen.uncheck()
        text.press("Enter")
        expect(result).to_have_text("Choose at least one room.")
        kitchen.check()
        text.press("Enter")
        expect(result).to_have_text("Heard in kitchen.")
        assert len(satellite.speaker.utterances[-1].pcm) > BYTES_PER_SECOND
        garage.check()
        for kitchen_too in (True, False):
            kitchen.set_checked(kitchen_too)
            text.fill("Dinner is ready")
            text.press("Enter")
            failure = "Not heard in garage. Nothing answers at tcp://127.0.0.1:1: Connection refused;"
            expect(result).to_contain_text(re.compile(("^Heard in kitchen. " if kitchen_too else "^") + failure))
            expect(result).to_have_attribute("data-tone", "bad")
            assert result.inner_text().count("garage") == 1
            assert result.inner_text().endswith("the machine is on, its satellite is not running.")


def row(page: Page, room: str) -> Locator:
    return page.locator("#rooms > li").filter(has=page.locator(".row-title", has_text=room))


def test_rooms_are_operated(daemon: RunningDaemon, browser: Browser, url: str) -> None:
    satellites = [ScriptedSatellite(name=name, mode="wake") for name in ("kitchen", "office")]
    with added_rooms(daemon, *satellites, off=("garage",)), opened(browser, url) as page:
        room = row(page, "kitchen")
        state = daemon.daemon.house.hub.room("kitchen").status
        room.get_by_role("button", name="Mute (kitchen)", exact=True).click()
        room.get_by_role("button", name="Unmute (kitchen)", exact=True).click()
        expect(room.get_by_role("button", name="Mute (kitchen)", exact=True)).to_be_visible()
        assert state().muted is False
        room.get_by_role("slider").fill("40")
        eventually(lambda: state().volume == 0.4)
        room.get_by_role("button", name="Stop").click()
        expect(room.get_by_role("status")).to_have_text("Nothing sounds there.")
        room.get_by_role("button", name="Say…").click()
        expect(page.get_by_label("What to say in the rooms")).to_be_focused()
        expect(page.get_by_role("checkbox", name="kitchen")).to_be_checked()
        expect(page.get_by_role("checkbox", name="office")).not_to_be_checked()
        room.get_by_role("button", name="Listen").click()
        expect(room.locator(".result")).to_have_text("")
        expect(row(page, "garage").get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize(
    ("bare", "elsewhere", "buttons", "chip"),
    [
        (Capabilities(), False, {"Listen", "Stop", "Mute", "Say…", "Call", "Volume"}, ""),
        (Capabilities(announces=False), False, {"Listen", "Stop", "Mute", "Volume"}, "answers only"),
        (Capabilities(speaker=False), False, {"Listen", "Mute"}, "no speaker"),
        (Capabilities(speaker=False), True, {"Listen", "Stop", "Mute", "Say…", "Call", "Volume"}, ""),
        (Capabilities(announces=False), True, {"Listen", "Stop", "Mute", "Say…", "Call", "Volume"}, ""),
    ],
)
def test_a_room_is_offered_what_it_can_do(
    browser: Browser, url: str, bare: Capabilities, elsewhere: bool, buttons: set[str], chip: str
) -> None:
    kitchen = RoomSettings(name="kitchen", speaker=SpeakerSettings(room="office") if elsewhere else None)
    home = (ScriptedHouseRoom(kitchen, capabilities=bare), ScriptedHouseRoom(RoomSettings(name="office")))
    event = f"event: status\ndata: {json.dumps({**STATE, 'rooms': [as_json(room.status()) for room in home]})}\n\n"
    with opened(browser, url) as page:
        page.route("**/events", lambda route: route.fulfill(content_type="text/event-stream", body=event))
        page.reload()
        expect(row(page, "office").get_by_role("button", name="Say…")).to_be_visible()
        seen = row(page, "kitchen").locator("button:visible, select:visible, input:visible")
        names = {
            name.removesuffix(" (kitchen)") for name in seen.evaluate_all("all => all.map((one) => one.ariaLabel)")
        }
        assert names == buttons
        expect(row(page, "office").get_by_label("Call (office)")).to_be_visible(visible=not chip)
        expect(page.locator(".chip").filter(has_text="kitchen").locator(".secondary")).to_have_text(chip)
        expect(page.get_by_role("checkbox", name="kitchen")).to_be_checked(checked=not chip)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_room_calls_another_and_hangs_up(
    daemon: RunningDaemon, browser: Browser, url: str, size: ViewportSize, tmp_path: Path
) -> None:
    satellites = [ScriptedSatellite(name=name, mode="always") for name in ("kitchen", "office")]
    with added_rooms(daemon, *satellites), opened(browser, url, viewport=size) as page:
        room = row(page, "kitchen")
        room.get_by_label("Call (kitchen)").select_option("office")
        for name in ("kitchen", "office"):
            expect(page.get_by_role("button", name=f"Hang up ({name})")).to_be_visible()
        expect(room.get_by_label("Call (kitchen)")).to_be_hidden()
        page.screenshot(path=tmp_path / "call.png", full_page=True)
        room.get_by_role("button", name="Hang up").click()
        expect(room.get_by_role("button", name="Stop (kitchen)")).to_be_visible()
        expect(room.get_by_label("Call (kitchen)")).to_be_visible()
        page.screenshot(path=tmp_path / "rooms.png", full_page=True)


def test_a_daemon_with_a_token(daemon: RunningDaemon, browser: Browser) -> None:
    with serving(daemon, token=TOKEN, requests_per_minute=10_000) as http, opened(browser, http.base_url) as page:
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
        for link, text in (("Metrics", "satellite_ready 1.0"), ("API description", '"openapi"')):
            with page.context.expect_page() as found:
                page.get_by_role("link", name=link).click()
            expect(found.value.locator("body")).to_contain_text(text)
            found.value.close()
        page.get_by_role("button", name="Talk").click()
        become(page, "Listening")
        page.keyboard.press("Escape")
        assert TOKEN not in page.content()


def test_a_refused_microphone_is_explained(browser: Browser, url: str) -> None:
    refuse = "(name) => navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('refused', name))"
    advice = {
        "NotAllowedError": "allow the microphone",
        "NotFoundError": "Connect one",
        "NotReadableError": "Another program",
    }
    with opened(browser, url, viewport=PHONE) as page:
        for refusal in advice:
            page.evaluate(refuse, refusal)
            page.get_by_role("button", name="Talk").click()
            expect(page.locator("#mic-notice")).to_contain_text(advice[refusal])
            expect(page.locator("#spoken")).to_contain_text(page.locator("#mic-notice strong").inner_text())
            become(page, "Ready")
            form, card = page.locator("#ask").bounding_box(), page.locator("#conversation").bounding_box()
            assert form is not None
            assert card is not None
            assert form["y"] + form["height"] < card["y"] + card["height"]


def test_a_page_over_plain_http_says_why_it_cannot_listen(daemon: RunningDaemon, browser: Browser) -> None:
    with serving(daemon, allowed_hosts=[ELSEWHERE]) as http:
        port = http.base_url.port
        with opened(browser, f"http://{ELSEWHERE}:{port}/") as page:
            notice = page.locator("#mic-notice")
            expect(notice).to_contain_text("without HTTPS")
            expect(notice).to_contain_text(f"ssh -L {port}:localhost:{port} {ELSEWHERE}")
            page.get_by_role("button", name="Talk").click()
            become(page, "Ready")
            assert ask(page, "What time is it?")


def test_it_can_be_read(daemon: RunningDaemon, browser: Browser, url: str, tmp_path: Path) -> None:
    kitchen = ScriptedSatellite(name="kitchen", mode="wake")
    with added_rooms(daemon, kitchen), opened(browser, url, reduced_motion="reduce") as page:
        ask(page, QUESTION)
        page.locator("#runs summary").first.click()
        for landmark in ("banner", "main", "contentinfo"):
            expect(page.get_by_role(landmark)).to_have_count(1)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        assert page.evaluate("probes.nameless()") == []
        assert page.evaluate("probes.moving()") == 0
        for size in (DESK, PHONE):
            page.set_viewport_size(size)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
            assert page.evaluate("probes.small()") == []
            for colours in ("light", "dark"):
                page.emulate_media(color_scheme=colours)
                page.screenshot(path=tmp_path / f"{colours}-{size['width']}.png", full_page=True)
                contrasts = page.evaluate("probes.contrasts()")
                assert len(contrasts) > 40
                assert [found for found in contrasts if found[1] < 4.5] == []
                assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (colours == "dark")
        page.emulate_media(color_scheme="light", forced_colors="active")
        seen = "node => [getComputedStyle(node).backgroundColor, getComputedStyle(node).borderTopStyle]"
        colour, edge = page.locator("#runs .stage").first.evaluate(seen)
        assert colour not in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
        assert edge == "solid"


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
        become(page, "Listening")
        expect(page.locator("#spoken")).to_have_text("Listening. Speak now")
        page.keyboard.press("Escape")
        become(page, "Ready")
        page.locator("input[name=axis]").first.focus()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("radio", name="Whole run")).to_be_checked()
