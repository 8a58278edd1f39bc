"""The page `/room` as people use it: in Chromium, with a microphone that hears them, before the real daemon."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from satellite import __version__
from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL, read_wav, write_wav
from satellite.net.tls_certificate import ServerCertificate
from satellite.skills.timers.timers import Duration
from tests.browser import DESK, ELSEWHERE, PHONE, SCRIPTED, opened, relayed, running, say
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import NABU, added_rooms
from tests.http_daemon import TOKEN, serving
from tests.running_daemon import DATA, RunningDaemon
from tests.waiting import eventually

pytestmark = pytest.mark.models

TIME = read_wav(DATA / "commands" / "what_time_is_it.wav")
GAP = bytes(BYTES_PER_SECOND // 4)


@pytest.fixture(scope="module")
def browser(story: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests here; somebody calls the room and asks for the time, again and again."""
    del story  # made before: Playwright runs an event loop in this thread
    path = tmp_path_factory.mktemp("microphone") / "calls.wav"
    write_wav(path, bytes(BYTES_PER_SECOND) + NABU + GAP + TIME + bytes(8 * BYTES_PER_SECOND), CANONICAL)
    with running(path) as one:
        yield one


def become(page: Page, state: str) -> None:
    """Wait until the page is in a state."""
    expect(page.locator("body")).to_have_attribute("data-state", state)


def sounds(page: Page, wanted: bool = True) -> None:
    """Wait until something sounds, or nothing any more."""
    eventually(lambda: (page.evaluate("probes.level") > 0.01) is wanted)


@contextmanager
def room(browser: Browser, url: object, name: str, *, microphone: str = SCRIPTED, **settings: Any) -> Iterator[Page]:
    """Open the page of a room that somebody has named, and touch it."""
    with opened(browser, f"{url}room", microphone, **settings) as page:
        become(page, "off")
        page.locator("#open-settings").click()
        page.locator("#name").fill(name)
        page.keyboard.press("Enter")
        page.locator("#talk").click()
        become(page, "waiting")
        expect(page.locator("h1")).to_have_text(name, ignore_case=True)
        yield page


def test_the_wake_word_is_answered_twice_offline_and_back(daemon: RunningDaemon, browser: Browser) -> None:
    with (
        relayed(daemon) as relay,
        opened(browser, f"{relay.url}/room", permissions=["microphone"]) as page,
    ):
        become(page, "waiting")  # without a touch: the browser allows it
        name = page.evaluate("JSON.parse(localStorage['satellite-room']).name")
        assert name in [one.settings.name for one in daemon.daemon.house.hub.rooms]
        expect(page.locator("#hint")).to_contain_text("Okay Nabu")

        def answered() -> None:
            heard = ""
            while "time" not in heard:  # a browser on a busy machine loses pieces of what the microphone hears
                become(page, "listening")
                page.evaluate("probes.loudest = 0")
                become(page, "speaking")
                heard = page.locator("#heard").inner_text().lower()
            expect(page.locator("#answer")).to_contain_text(re.compile(r"\d"))
            become(page, "waiting")
            assert page.evaluate("probes.loudest") > 0.05

        for _ in range(2):
            answered()
        daemon.call(relay.close())
        become(page, "offline")
        expect(page.locator("#link")).to_have_text("Not connected")
        eventually(lambda: name not in [one.settings.name for one in daemon.daemon.house.hub.rooms])
        daemon.call(relay.open())
        become(page, "waiting")
        for _ in range(2):
            answered()


def test_speech_interrupts_an_answer_at_once(browser: Browser, url: str, story: bytes) -> None:
    with room(browser, url, "den") as page:
        wanted = page.evaluate("microphoneWanted")
        assert wanted == {
            "channelCount": 1, "echoCancellation": True, "noiseSuppression": True, "autoGainControl": True,
        }  # fmt: skip
        say(page, NABU, GAP, story)
        become(page, "speaking")
        sounds(page)
        say(page, TIME, bytes(2 * BYTES_PER_SECOND))
        become(page, "listening")
        sounds(page, False)
        expect(page.locator("#heard")).to_contain_text(re.compile("time", re.IGNORECASE))
        become(page, "waiting")


def test_the_button_talks_and_stops(browser: Browser, url: str, story: bytes) -> None:
    with room(browser, url, "den") as page:
        page.locator("#talk").click()
        become(page, "listening")
        say(page, story)
        become(page, "speaking")
        sounds(page)
        page.locator("#talk").click()
        sounds(page, False)
        become(page, "waiting")
        page.keyboard.press("Escape")
        become(page, "waiting")


def test_an_announcement_is_heard(daemon: RunningDaemon, browser: Browser, url: str) -> None:
    with room(browser, url, "hall") as page:
        page.evaluate(
            "globalThis.announced = fetch('announce', {method: 'POST', headers: {'Content-Type': 'application/json'},"
            " body: JSON.stringify({text: 'Dinner is ready.', rooms: ['hall']})}).then((answer) => answer.json()); null"
        )
        become(page, "announcing")
        assert page.evaluate("announced") == {"heard": ["hall"], "failed": {}}
        assert page.evaluate("probes.loudest") > 0.05
        become(page, "waiting")
        with opened(browser, url) as dashboard:
            entry = dashboard.locator("#rooms > li").filter(has_text="hall")
            expect(entry).to_contain_text("Waiting for its wake word")


def test_two_pages_call_each_other(browser: Browser, url: str) -> None:
    with room(browser, url, "shed") as shed, room(browser, url, "loft") as loft:
        shed.evaluate(
            "fetch('rooms/shed/call', {method: 'POST', headers: {'Content-Type': 'application/json'},"
            " body: JSON.stringify({to: 'loft'})}).then((answer) => answer.status)"
        )
        become(shed, "calling")
        become(loft, "calling")
        for speaker, listener in ((shed, loft), (loft, shed)):
            sounds(listener, False)
            say(speaker, TIME, TIME)
            sounds(listener)
        loft.locator("#talk").click()
        become(loft, "waiting")
        become(shed, "waiting")


def test_a_timer_is_shown_and_its_ring_stopped(daemon: RunningDaemon, browser: Browser, url: str) -> None:
    scheduler = daemon.daemon.timer_scheduler
    assert scheduler is not None

    async def start(seconds: int, name: str) -> None:
        scheduler.timers.start(Duration(seconds=seconds), place="kitchen", name=name)

    with room(browser, url, "kitchen") as page:
        daemon.call(start(3600, "goose"))
        goose = page.locator("#timers > li")
        expect(goose).to_contain_text(re.compile(r"goose\s*59:5\d"))
        page.reload()
        become(page, "off")
        page.locator("#talk").click()
        expect(goose).to_contain_text(re.compile(r"goose\s*59:[45]\d"))
        daemon.call(start(1, "eggs"))
        become(page, "ringing")
        sounds(page)
        page.locator("#talk").click()
        sounds(page, False)
        become(page, "waiting")
        expect(page.locator("#timers > li")).to_have_count(1)

        async def cancel() -> None:
            for timer in scheduler.timers.all():
                scheduler.timers.cancel(timer)

        daemon.call(cancel())
        expect(page.locator("#timers > li")).to_have_count(0)


def test_a_room_that_is_not_configured_sets_a_timer_by_voice(daemon: RunningDaemon, browser: Browser, url: str) -> None:
    scheduler = daemon.daemon.timer_scheduler
    assert scheduler is not None
    with room(browser, url, "cellar") as page:
        say(page, NABU, GAP, read_wav(DATA / "commands" / "set_a_timer_for_1_hour.wav"), bytes(BYTES_PER_SECOND))
        expect(page.locator("#timers > li")).to_have_count(1)
        assert [timer.place for timer in scheduler.timers.all()] == ["cellar"]

        async def cancel() -> None:
            for timer in scheduler.timers.all():
                scheduler.timers.cancel(timer)

        daemon.call(cancel())


def test_mute_and_volume(daemon: RunningDaemon, browser: Browser, url: str) -> None:
    with room(browser, url, "attic") as page:
        there = daemon.daemon.house.hub.room("attic")
        page.evaluate("""() => {
          const { send } = WebSocket.prototype;
          globalThis.mutes = 0;
          WebSocket.prototype.send = function (data) {
            mutes += String(data).includes("mute");
            return send.call(this, data);
          };
        }""")
        page.get_by_role("button", name="Mute").click()
        become(page, "muted")
        eventually(lambda: there.status().muted)
        say(page, NABU, GAP, TIME, bytes(BYTES_PER_SECOND))
        page.wait_for_timeout(3000)
        become(page, "muted")
        expect(page.locator("#heard")).to_be_empty()
        daemon.call(there.set_muted(False))
        become(page, "waiting")
        assert page.evaluate("mutes") == 1, "an answer to what the daemon sets could go to and fro for ever"
        page.locator("#volume").fill("40")
        eventually(lambda: there.status().volume == 0.4)
        daemon.call(there.set_volume(0.8))
        expect(page.locator("#volume")).to_have_value("80")
        page.get_by_role("button", name="Mute").click()
        become(page, "muted")
        page.reload()  # what was set is remembered
        page.locator("#talk").click()
        become(page, "muted")
        expect(page.locator("#volume")).to_have_value("80")


def test_the_later_page_takes_over_and_the_earlier_says_so(browser: Browser, url: str) -> None:
    with room(browser, url, "bath") as first, room(browser, url, "bath") as second:
        become(first, "taken")
        expect(first.locator("#hint")).to_contain_text("Touch to use this one")
        first.locator("#talk").click()
        become(first, "waiting")
        become(second, "taken")


def test_a_page_over_plain_http_says_what_is_forbidden(daemon: RunningDaemon, browser: Browser) -> None:
    with serving(daemon, allowed_hosts=[ELSEWHERE]) as http:
        for locale, words in (("en-GB", "without HTTPS"), ("fr-FR", "Sans HTTPS")):
            port = http.base_url.port
            with opened(browser, f"http://{ELSEWHERE}:{port}/room", locale=locale) as page:
                become(page, "blocked")
                for text in (words, "tls: auto", f"http://localhost:{port}/room"):
                    expect(page.locator("#notice")).to_contain_text(text)


def test_a_refused_microphone_is_explained(browser: Browser, url: str) -> None:
    advice = {
        "NotAllowedError": "allow the microphone",
        "NotFoundError": "Connect one",
        "OtherError": "Reload the page",
    }
    with opened(browser, f"{url}room", SCRIPTED) as page:
        for refusal in advice:
            page.evaluate("(name) => globalThis.refusal = name", refusal)
            page.locator("#talk").click()
            expect(page.locator("#notice")).to_contain_text(advice[refusal])
            become(page, "blocked")


def test_another_rooms_name_is_refused(daemon: RunningDaemon, browser: Browser, url: str) -> None:
    kitchen = ScriptedSatellite(name="kitchen", mode="wake")
    with added_rooms(daemon, kitchen), opened(browser, f"{url}room", SCRIPTED) as page:
        page.locator("#open-settings").click()
        page.locator("#name").fill("Kitchen")
        page.keyboard.press("Enter")
        page.locator("#talk").click()
        dialog = page.get_by_role("dialog", name="Settings")
        expect(dialog.get_by_role("alert")).to_have_text("Another room of the house has this name.")
        dialog.get_by_label("Name of this room").fill("cellar")
        page.keyboard.press("Enter")
        become(page, "waiting")
        expect(page.locator("h1")).to_have_text("Cellar")


def test_a_token_is_asked_for_once(daemon: RunningDaemon, browser: Browser) -> None:
    with (
        serving(daemon, token=TOKEN, requests_per_minute=10_000) as http,
        opened(browser, f"{http.base_url}/room", SCRIPTED) as page,
    ):
        page.locator("#talk").click()
        dialog = page.get_by_role("dialog", name="Sign in")
        dialog.get_by_label("Access token").fill("wrong")
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_have_text("This token is not valid.")
        dialog.get_by_label("Access token").fill(TOKEN)
        page.keyboard.press("Enter")
        become(page, "waiting")
        again = page.context.new_page()
        again.goto(f"{http.base_url}/room")
        again.locator("#talk").click()
        become(again, "waiting")


def test_https_by_a_certificate_of_the_daemon(
    daemon: RunningDaemon, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = ServerCertificate(None, tmp_path / "https.pem", lambda: [ELSEWHERE])
    monkeypatch.setattr(daemon.daemon, "_certificate", certificate)  # which the status shows
    with serving(daemon, certificate=certificate, allowed_hosts=[ELSEWHERE]) as http:
        url = f"https://{ELSEWHERE}:{http.base_url.port}/"
        with room(browser, url, "lan", ignore_https_errors=True) as page:
            status = certificate.status()
            assert status is not None
            page.set_viewport_size(PHONE)
            page.locator("#open-settings").click()
            for container in ("#settings", "html"):
                if container == "html":
                    page.goto(url)
                page.locator("#certificate summary").click()
                expect(page.locator("#certificate code")).to_have_text(status.fingerprint)
                expect(page.locator("#certificate img")).to_be_visible()
                assert page.locator("#certificate img").evaluate("image => image.naturalWidth") > 20
                assert page.locator(container).evaluate("node => node.scrollWidth <= node.clientWidth")


def test_it_is_installable_and_opens_while_the_daemon_is_gone(daemon: RunningDaemon, browser: Browser) -> None:
    with relayed(daemon) as relay, opened(browser, f"{relay.url}/room", SCRIPTED) as page:
        page.evaluate("navigator.serviceWorker.ready.then(() => null)")
        address = page.locator("link[rel=manifest]").evaluate("link => link.href")
        manifest = page.evaluate("(address) => fetch(address).then((answer) => answer.json())", address)
        for icon in manifest["icons"]:
            response = page.request.get(f"{relay.url}/static/{icon['src']}")
            assert (response.status, response.headers["content-type"]) == (200, icon["type"])
        kept = "caches.open('room').then((cache) => cache.keys()).then((keys) => keys.length)"
        eventually(lambda: page.evaluate(kept) > 20)
        daemon.call(relay.close())
        page.reload()
        become(page, "off")
        page.locator("#talk").click()
        become(page, "offline")
        expect(page.locator("#state")).to_have_text("No connection")
        daemon.call(relay.open())
        become(page, "waiting")


def test_a_network_that_is_slow_is_not_lost(browser: Browser, url: str) -> None:
    held: list[Route] = []
    with opened(browser, f"{url}room", SCRIPTED) as page:
        page.route("**/rooms", lambda route: held.append(route))
        page.locator("#talk").click()
        become(page, "starting")
        expect(page.locator("#link")).to_have_text("Connecting…")
        eventually(lambda: page.title() != "" and held != [])
        held[0].continue_()
        become(page, "waiting")


def test_an_open_page_becomes_that_of_an_upgraded_daemon(
    daemon: RunningDaemon, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        relayed(daemon) as relay,
        opened(browser, f"{relay.url}/room", permissions=["microphone"]) as page,
    ):
        become(page, "waiting")
        page.evaluate("window.early = true")
        for version in (__version__, "99.0"):
            assert page.evaluate("window.early")
            monkeypatch.setattr("satellite.http.browser_rooms.__version__", version)
            daemon.call(relay.close())
            become(page, "offline")
            daemon.call(relay.open())
            become(page, "waiting")
        page.wait_for_function("!window.early")
        become(page, "waiting")


def test_the_screen_stays_on(browser: Browser, url: str) -> None:
    with room(browser, url, "desk") as page:
        expect(page.locator("body")).to_have_attribute("data-awake", "true")
        page.locator("#open-settings").click()
        page.get_by_label("Keep the screen on").uncheck()
        page.get_by_role("button", name="Done").click()
        expect(page.locator("body")).to_have_attribute("data-awake", "false")


@pytest.mark.parametrize(("locale", "text"), [("en-GB", "Nobody spoke."), ("fr-FR", "Personne n’a parlé.")])
def test_what_did_not_work_is_said_in_the_language_of_the_page(
    browser: Browser, url: str, locale: str, text: str
) -> None:
    with room(browser, url, "salon", locale=locale) as page:
        page.locator("#talk").click()
        become(page, "listening")
        answer = page.locator("#answer")
        expect(answer).to_contain_text(text)
        expect(answer.locator("small[lang=en]")).not_to_be_empty()


def test_it_can_be_read_and_speaks_french(browser: Browser, url: str) -> None:
    with room(browser, url, "salon", reduced_motion="reduce", locale="fr-FR") as page:
        expect(page.locator("html")).to_have_attribute("lang", "fr")
        say(page, NABU, GAP, TIME, bytes(BYTES_PER_SECOND))
        expect(page.locator("#answer")).not_to_be_empty()
        become(page, "waiting")
        expect(page.locator("#state")).to_have_text("Prêt")
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        for size in (DESK, PHONE):
            page.set_viewport_size(size)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
            for colours in ("light", "dark"):
                page.emulate_media(color_scheme=colours)
                for dialog in (False, True):
                    if dialog:
                        page.locator("#open-settings").click()
                    assert [one for one in page.evaluate("probes.contrasts()") if one[1] < 4.5] == []
                    assert page.evaluate("probes.nameless()") == []
                    assert page.evaluate("probes.small()") == []
                    assert page.evaluate("probes.moving()") == 0
                page.keyboard.press("Escape")
        page.locator("#open-settings").click()
        page.get_by_label("Langue").select_option("English")
        page.get_by_role("button", name="Terminé").click()
        expect(page.locator("#state")).to_have_text("Ready")


def test_the_keyboard_suffices(browser: Browser, url: str) -> None:
    with room(browser, url, "nook") as page:
        reached = []
        page.locator("#open-settings").focus()
        for _ in range(3):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id"))
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert reached == ["talk", "mute", "volume"]
        page.locator("#talk").focus()
        page.keyboard.press("Enter")
        become(page, "listening")
        expect(page.locator("#spoken")).to_have_text("Listening")
        page.keyboard.press("Escape")
        become(page, "waiting")
