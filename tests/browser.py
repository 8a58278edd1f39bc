"""Chromium for tests of the dashboard: how it is found and started, and what is done with a page."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from satellite.audio.encoding import wav
from satellite.audio.pcm import CANONICAL
from tests.relay import Relay
from tests.running_daemon import RunningDaemon
from tests.waiting import PATIENCE_SECONDS

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

ELSEWHERE = "house.example"
"""A name that leads to this machine, but that a browser does not know to be this machine."""

PHONE: ViewportSize = {"width": 360, "height": 740}
DESK: ViewportSize = {"width": 1280, "height": 900}

SCRIPTED = "scripted_microphone.js"
"""Given to `opened`, makes a microphone that hears nothing but what `say` says."""

expect.set_options(timeout=1000 * PATIENCE_SECONDS)


@contextmanager
def running(microphone: Path) -> Iterator[Browser]:
    """Run a browser whose microphone hears a recording again and again, and which lets every page use it."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.fail("Chromium is not installed; on Debian or Ubuntu: sudo apt install chromium")
    arguments = [
        "--no-sandbox",  # tests may run as root, in a container
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
        "--autoplay-policy=document-user-activation-required",
        f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, url: object, *scripts: str, **settings: Any) -> Iterator[Page]:
    """Open a page in a profile of its own; nothing may be wrong with it, nor may it ask another host for anything.

    `scripts` are files of this folder that run before the page's own.

    What the page does about lost connections is up to the test, so that failed requests are no fault.
    """
    context = browser.new_context(**settings)
    for script in ("browser_probes.js", *scripts):
        context.add_init_script(path=Path(__file__).parent / script)
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_SECONDS)
    wrong: list[str] = []
    hosts: set[str] = set()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if _is_fault(line.type, line.text) else None)
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    try:
        page.goto(str(url))
        yield page
        assert not wrong, wrong
        assert hosts <= {str(url).split("/")[2]}, hosts
    finally:
        context.close()


def _is_fault(kind: str, text: str) -> bool:
    """Tell a fault of the page from a failed request, and from what the browser ignores without HTTPS or a touch."""
    harmless = (
        "Failed to load resource",
        "WebSocket connection to",
        "The Cross-Origin-Opener-Policy header",
        "The AudioContext was not allowed to start",
        "An SSL certificate error occurred when fetching the script",  # a service worker
    )
    return kind in ("error", "warning") and not text.startswith(harmless)


@contextmanager
def relayed(daemon: RunningDaemon) -> Iterator[Relay]:
    """Lead to the daemon by a network that can break."""
    relay = Relay(daemon.port("http"))
    daemon.call(relay.open())
    try:
        yield relay
    finally:
        daemon.call(relay.close())


def say(page: Page, *sounds: bytes) -> None:
    """Say canonical audio to the page's scripted microphone."""
    page.evaluate("speak", base64.b64encode(wav(b"".join(sounds), CANONICAL)).decode())


def ask(page: Page, text: str) -> str:
    """Ask by text and return the answer."""
    answers = page.locator("#log .said.house")
    before = answers.count()
    page.get_by_label("Type a message").fill(text)
    page.keyboard.press("Enter")
    answer = answers.nth(before)
    expect(answer.locator(".said-note")).to_be_visible()
    return answer.locator(".said-text").inner_text()


def become(page: Page, state: str) -> None:
    """Wait until the page says that its voice is in a state."""
    expect(page.locator("#talk-state")).to_contain_text(state)
