"""Chromium for tests of pages: how it is found and started, and what it is asked about a page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

ELSEWHERE = "house.example"
"""A name that leads to this machine, but that a browser does not know to be this machine."""

HEARD = """
    (() => {
        const connect = AudioNode.prototype.connect;
        globalThis.loudest = 0;
        AudioNode.prototype.connect = function (target, ...rest) {
            if (target instanceof AudioDestinationNode) {
                const meter = new AnalyserNode(this.context, { fftSize: 2048 });
                connect.call(this, meter);
                const samples = new Float32Array(meter.fftSize);
                setInterval(() => {
                    meter.getFloatTimeDomainData(samples);
                    globalThis.loudest = Math.max(globalThis.loudest, ...samples.map(Math.abs));
                }, 20);
            }
            return connect.call(this, target, ...rest);
        };
    })();
"""
"""Measures what a page plays."""

SEEN = """
    (() => {
        globalThis.texts = [];
        new MutationObserver(() => {
            const text = [...document.querySelectorAll("#log .said.house .said-text")].at(-1)?.textContent;
            if (text && text !== globalThis.texts.at(-1)) globalThis.texts.push(text);
        }).observe(document, { subtree: true, childList: true, characterData: true });
    })();
"""
"""Notes every text that the latest answer in the page has had."""

SHIFTS = """
    (() => {
        globalThis.shifts = 0;
        new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) if (!entry.hadRecentInput) globalThis.shifts += entry.value;
        }).observe({ type: "layout-shift", buffered: true });
    })();
"""
"""Adds up how far what is seen has moved by itself (Cumulative Layout Shift)."""

CONTRASTS = """
    () => {
        const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => {
            const part = (v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
        };
        const ground = (node) => {
            for (; node; node = node.parentElement) {
                const colour = parse(getComputedStyle(node).backgroundColor);
                if (colour.length === 3 || colour[3] === 1) return colour;
            }
            return [255, 255, 255];
        };
        const told = [];
        for (const node of document.querySelectorAll("body *")) {
            const written = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
            if ((!written && node.tagName !== "INPUT") || !node.checkVisibility() || node.closest(".sr-only")) continue;
            const [one, other] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
            const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
            told.push([`${node.tagName} ${node.className} ${node.textContent.slice(0, 30)}`, contrast]);
        }
        return told;
    }
"""
"""Tells the contrast of every text that is seen."""

NAMELESS = """
    () => [...document.querySelectorAll("button, input:not([hidden]), meter, section, fieldset, dialog")]
        .filter((node) => {
            const by = document.getElementById(node.getAttribute("aria-labelledby") ?? "");
            const words = [by?.textContent, node.ariaLabel, node.labels?.[0]?.textContent,
                node.querySelector(":scope > legend")?.textContent, node.tagName === "BUTTON" ? node.textContent : ""];
            return !words.some((word) => word?.trim());
        })
        .map((node) => node.outerHTML.slice(0, 80))
"""
"""Lists the controls and regions that a screen reader has no name for."""

SMALL = """
    () => [...document.querySelectorAll("button, input:not([hidden]), summary, a:not(.skip)")]
        .filter((node) => node.checkVisibility())
        .map((node) => (node.labels?.length ? node.labels[0] : node))
        .filter((node) => node.getBoundingClientRect().height < 24 && getComputedStyle(node).position !== "absolute")
        .filter((node) => !node.closest("p, .sr-only"))
        .map((node) => node.outerHTML.slice(0, 80))
"""
"""Lists what is too small for a finger (WCAG 2.2, 2.5.8: 24 px; links in text excepted)."""


def chromium() -> str:
    """Return the browser's path; a test run without one fails."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    pytest.fail("Chromium is not installed; on Debian or Ubuntu: sudo apt install chromium")


@contextmanager
def running(microphone: Path) -> Iterator[Browser]:
    """Run a browser whose microphone hears a recording again and again, and which lets every page use it."""
    arguments = [
        "--no-sandbox",  # tests may run as root, in a container
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
        "--autoplay-policy=document-user-activation-required",
        f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
    ]
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, url: str, *, forbidden: str = "", **settings: Any) -> Iterator[Page]:
    """Open a page in a profile of its own; nothing may be wrong with it, nor may it ask another host for anything.

    `forbidden` is the name of the error with which the browser refuses the microphone. What the page does about lost
    connections is up to the test, so that failed requests are no fault.
    """
    context = browser.new_context(**settings)
    context.add_init_script(HEARD)
    context.add_init_script(SEEN)
    context.add_init_script(SHIFTS)
    if forbidden:
        refuse = f"() => Promise.reject(new DOMException('refused', '{forbidden}'))"
        context.add_init_script(f"navigator.mediaDevices.getUserMedia = {refuse};")
    page = context.new_page()
    page.set_default_timeout(20_000)
    wrong: list[str] = []
    hosts: set[str] = set()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if _is_fault(line.type, line.text) else None)
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    try:
        page.goto(url)
        yield page
        assert not wrong, wrong
        assert hosts <= {url.split("/")[2]}, hosts
    finally:
        context.close()


def _is_fault(kind: str, text: str) -> bool:
    """Tell a fault of the page from a failed request, and from a header that the browser ignores without HTTPS."""
    harmless = ("Failed to load resource", "WebSocket connection to", "The Cross-Origin-Opener-Policy header")
    return kind in ("error", "warning") and not text.startswith(harmless)
