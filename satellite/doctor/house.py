"""Checks of what the daemon does and whom it talks with: stages, chat, rooms, Home Assistant, the microphone."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import httpx

from satellite.audio import Converter
from satellite.config import Config, Ollama
from satellite.doctor.finding import Finding, State
from satellite.errors import SatelliteError
from satellite.wire import client

_SENTENCE = "One, two, three, four, five."
_ASK_SECONDS = 3.0
_WELL = ("ready", "warm", "idle", "connected", "released", "other-name")


async def _stages(_config: Config, state: dict[str, Any] | None, uri: str) -> Sequence[Finding]:
    """Let each stage that can be asked work, and see where it runs."""
    if state is None:
        return []
    findings = []
    for stage in state["stages"]:
        where = f", on {stage['device']}" if stage.get("device") else ""
        if stage["state"] in _WELL:
            findings.append(Finding(f"stage {stage['stage']}", State.GOOD, stage["state"] + where))
        else:
            seen = f"{stage['state']}: {stage['words']}"
            findings.append(Finding(f"stage {stage['stage']}", State.BAD, seen, "journalctl -u satellite -p warning"))
    began = time.monotonic()
    try:
        spoken = await client.say(uri, _SENTENCE)
        said = time.monotonic()
        assert spoken.format is not None
        converter = Converter(spoken.format)
        heard = await client.transcribe(uri, converter.convert(bytes(spoken.pcm)) + converter.flush())
    except SatelliteError as error:
        return [
            *findings,
            Finding("speech", State.BAD, f"[{error.code}] {error}", "journalctl -u satellite -p warning"),
        ]
    timing = f"spoken in {1000 * (said - began):.0f} ms, understood in {1000 * (time.monotonic() - said):.0f} ms"
    if heard.transcript.strip():
        return [*findings, Finding("speech", State.GOOD, timing)]
    return [*findings, Finding("speech", State.BAD, f"{timing}, but as nothing", "another tts.voice or stt.model")]


async def _chat(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    findings = [await _ollama(provider) for provider in config.chat.providers if isinstance(provider, Ollama)]
    for told in (state or {}).get("chat", {}).get("providers", []):
        good = told["up"]
        seen = f"{told['state']}: {told['words']}" if told["words"] else told["state"]
        if good and told.get("leaves_house"):
            seen += "; what people say leaves the house"
        remedy = "" if good else "satellite status; docs/chat.md"
        findings.append(Finding(f"chat {told['provider']}", State.GOOD if good else State.BAD, seen, remedy))
    return findings


async def _ollama(provider: Ollama) -> Finding:
    what = f"ollama at {provider.url}"
    try:
        async with httpx.AsyncClient(base_url=provider.url, timeout=_ASK_SECONDS) as http:
            version = (await http.get("/api/version")).raise_for_status().json()["version"]
            models = [model["name"] for model in (await http.get("/api/tags")).raise_for_status().json()["models"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return Finding(what, State.BAD, f"does not answer: {error or type(error).__name__}", "systemctl start ollama")
    if provider.model not in models and f"{provider.model}:latest" not in models:
        return Finding(what, State.BAD, f"{version}, without {provider.model}", f"ollama pull {provider.model}")
    return Finding(what, State.GOOD, f"{version}, with {provider.model}")


async def _rooms(_config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    findings = []
    for room in (state or {}).get("rooms", []):
        good = room["state"] == "connected"
        remedy = "" if good else "the words say what; `satellite rooms discover` finds satellites"
        seen = room["words"] or room["state"]
        findings.append(Finding(f"room {room['room']}", State.GOOD if good else State.BAD, seen, remedy))
    return findings


async def _responders(_config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    findings = []
    for one in (state or {}).get("responders", []):
        remedy = "" if one["up"] else "see home_assistant in the configuration; docs/commands.md"
        findings.append(Finding(one["responder"], State.GOOD if one["up"] else State.BAD, one["words"], remedy))
    return findings


async def _sound(config: Config, _state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    if config.microphone.device is None and config.speaker.device is None:
        return []
    from satellite import portaudio

    try:
        found = await asyncio.to_thread(portaudio.devices)
    except SatelliteError as error:
        return [Finding("sound devices", State.BAD, str(error), "sudo ./install.sh --upgrade --microphone")]
    told = "; ".join(f"{len(devices)} {kind}" for kind, devices in found.items())
    if all(found.values()):
        return [Finding("sound devices", State.GOOD, told)]
    return [Finding("sound devices", State.BAD, told, "plug it in; satellite rooms devices")]


CHECKS = {
    "stages": _stages,
    "chat": _chat,
    "rooms": _rooms,
    "responders": _responders,
    "sound": _sound,
}
