"""Checks of what the daemon does and whom it talks with: stages, other machines, rooms, Home Assistant, sound."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from satellite.audio.pcm import Converter, read_wav
from satellite.cli.doctor import unit
from satellite.cli.doctor.finding import Finding, State
from satellite.config.host import SoundDeviceSettings
from satellite.config.settings import Config
from satellite.engines.remote.hosts import Hosts
from satellite.errors import ConfigError, SatelliteError, Stage
from satellite.pipeline import warm_up
from satellite.wire import client

_SENTENCE = "One, two, three, four, five."
_WORKING = ("ready", "idle")


async def _stages(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    findings = []
    for stage in (state or {}).get("stages", []):
        what = f"stage {stage['stage']}"
        where = f", on {stage['device']}" if stage.get("device") else ""
        if stage["state"] in _WORKING:
            findings.append(Finding(what, State.GOOD, stage["state"] + where))
        elif stage["state"] == "loading":
            findings.append(Finding(what, State.NOTE, stage["words"], "satellite status"))
        else:
            seen = f"{stage['state']}: {stage['words']}"
            remedy = unit.log("-p warning -n 20")
            if stage.get("code") in ("model-missing", "model-corrupt"):
                remedy = unit.command("models pull configured")
            elif stage.get("code") == "model-unreadable":
                remedy = unit.readable(unit.store(config).directory)
            findings.append(Finding(what, State.BAD, seen, remedy))
    return findings


async def _work(config: Config, state: dict[str, Any] | None, uri: str) -> Sequence[Finding]:
    """Let each stage work, as a room would: speak, understand that, and hear a wake word."""
    if state is None or not all(stage["state"] in _WORKING for stage in state["stages"] if stage["stage"] != "chat"):
        return []  # it is said already why not
    began = time.monotonic()
    try:
        spoken = await client.say(uri, _SENTENCE)
        assert spoken.format is not None
        said = time.monotonic()
        converter = Converter(spoken.format)
        heard = await client.transcribe(uri, converter.convert(bytes(spoken.pcm)) + converter.flush())
        understood = time.monotonic()
        call = await asyncio.to_thread(read_wav, Path(warm_up.__file__).with_name("warm_up.wav"))
        called = await client.detects(uri, call)
    except SatelliteError as error:
        return [Finding("speech", State.BAD, f"[{error.code}] {error}", unit.log("-p warning -n 20"))]
    timing = f"spoken in {1000 * (said - began):.0f} ms, understood in {1000 * (understood - said):.0f} ms"
    if heard.transcript.strip():
        findings = [Finding("speech", State.GOOD, timing)]
    else:
        findings = [Finding("speech", State.BAD, f"{timing}, but as nothing", "another tts.voice or stt.model")]
    if called or "okay_nabu" not in config.wake.words:
        seen = "is heard in a recording" if called else "listens; none of its words is in our recording"
        return [*findings, Finding("wake word", State.GOOD, seen)]
    remedy = "a lower wake.threshold, or wake.engine: microwakeword"
    return [*findings, Finding("wake word", State.BAD, "“okay nabu” is not heard in a recording of it", remedy)]


async def _elsewhere(config: Config, _state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    """Look at the servers that are asked instead of models here."""
    findings = []
    for stage in (Stage.WAKE, Stage.STT, Stage.TTS):
        for address in getattr(config, stage.value).uri:
            hosts = Hosts(stage, [address], 1)
            await hosts.load()
            good = not hosts.trouble
            seen = "answers" if good else hosts.summary.removeprefix(f"{address} ")
            remedy = "" if good else f"satellite status --uri {address}; is the server running there?"
            findings.append(Finding(f"{stage} at {address}", State.GOOD if good else State.BAD, seen, remedy))
    return findings


async def _rooms(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    if state is None:
        return [await _dialled(room.name, room.uri) for room in config.rooms]
    return [_told(room) for room in state["rooms"]]


def _told(room: dict[str, Any]) -> Finding:
    """Tell of a room what the daemon, who drives it, knows."""
    what = f"room {room['room']}"
    if room["state"] == "connected":
        return Finding(what, State.GOOD, f"is connected, {room['doing']}" if room.get("doing") else "is connected")
    remedies = {
        "held": "in Home Assistant, Settings → Devices & services: delete the satellite; or delete the room here",
        "no-satellite": "satellite rooms discover",
        "connecting": "satellite rooms",
    }
    dial = "satellite rooms devices" if room["uri"] == "local" else "satellite rooms discover"
    return Finding(what, State.BAD, f"{room['state']}: {room['words']}", remedies.get(room["state"], dial))


async def _dialled(name: str, uri: str) -> Finding:
    """Tell of a room what it tells everybody; more would claim it."""
    what = f"room {name}"
    try:
        info = await client.described(uri)
    except SatelliteError as error:
        return Finding(what, State.BAD, str(error), "satellite rooms discover")
    if info.satellite is None:
        return Finding(what, State.BAD, f"there is no satellite at {uri}", "satellite rooms discover")
    return Finding(what, State.GOOD, f"answers as {info.satellite.name}; who drives it only the daemon can tell")


async def _responders(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    if state is None:
        return [await _home_assistant(config)] if config.home_assistant.url else []
    findings = []
    for one in state.get("responders", []):
        remedy = "" if one["up"] else f"home_assistant: in the configuration; {unit.log('-p warning -n 20')}"
        findings.append(Finding(one["responder"], State.GOOD if one["up"] else State.BAD, one["words"], remedy))
    return findings


async def _home_assistant(config: Config) -> Finding:
    from satellite.config.secrets import home_assistant_token
    from satellite.skills.home_assistant.api import Api

    what = f"home_assistant at {config.home_assistant.url}"
    put = unit.put_secret(config.home_assistant.token_file, "home_assistant.token") + f"; {unit.restart()}"
    try:
        token = unit.secret(home_assistant_token(config.home_assistant).find)
        if not token.value and token.elsewhere:
            return Finding(what, State.NOTE, "its token is for the service alone", "sudo satellite doctor")
        if not token.value:
            return Finding(what, State.BAD, f"there is no token: {token.source}; {unit.TYPE_IT}", put)
        api = Api(config.home_assistant, token)
        try:
            version = await api.look()
        finally:
            await api.close()
    except ConfigError as error:
        return Finding(what, State.BAD, str(error), put)
    except SatelliteError as error:
        return Finding(what, State.BAD, str(error), f"curl -I {config.home_assistant.url}")
    return Finding(what, State.GOOD, f"is ready for sentences, {version}")


async def _sound(config: Config, state: dict[str, Any] | None, _uri: str) -> Sequence[Finding]:
    if not config.microphone.given:
        return []
    findings = [] if config.microphone.device is None and config.speaker.device is None else [await _listed()]
    if state is not None:
        return findings  # the daemon uses them; its room tells how they are
    findings.append(await _heard(config.microphone))
    return [*findings, await _speaks(config.speaker)] if config.speaker.given else findings


async def _listed() -> Finding:
    from satellite.rooms.host import portaudio

    try:
        found = await asyncio.to_thread(portaudio.devices)
    except SatelliteError as error:
        return Finding("sound devices", State.BAD, str(error), unit.installer("--upgrade --microphone"))
    told = "; ".join(f"{len(devices)} {kind}" for kind, devices in found.items())
    if all(found.values()):
        return Finding("sound devices", State.GOOD, told)
    return Finding("sound devices", State.BAD, f"{told}; is it plugged in?", "satellite rooms devices")


async def _heard(settings: SoundDeviceSettings) -> Finding:
    """Listen for a moment."""
    from satellite.rooms.host.microphones import microphone

    what = f"microphone {settings.words}"
    try:
        sound: AsyncIterator[bytes] = microphone(settings)()
        async with aclosing(sound) as chunks:  # type: ignore[type-var]  # it is a generator
            async for pcm in chunks:
                if pcm:
                    return Finding(what, State.GOOD, "gives sound")
    except (SatelliteError, OSError) as error:
        return Finding(what, State.BAD, str(error), "satellite rooms devices; microphone: in the configuration")
    return Finding(what, State.BAD, "gives no sound", "satellite rooms devices; microphone: in the configuration")


async def _speaks(settings: SoundDeviceSettings) -> Finding:
    what = f"speaker {settings.words}"
    remedy = "satellite rooms devices; speaker: in the configuration"
    if settings.command:
        found = shutil.which(settings.command[0])
        return (
            Finding(what, State.GOOD, found) if found else Finding(what, State.BAD, "there is no such program", remedy)
        )
    if settings.file is not None:
        return _written(what, settings.file, remedy)
    from satellite.rooms.host.capture_process import opened, started

    assert settings.device is not None
    process = await started("output", settings.device)
    try:
        layout = await opened(process, 22_050)
    except SatelliteError as error:
        return Finding(what, State.BAD, str(error), remedy)
    finally:
        await process.end()
    return Finding(what, State.GOOD, f"opens, at {layout.rate} Hz")


def _written(what: str, file: Path, remedy: str) -> Finding:
    if os.access(file if file.exists() else file.parent, os.W_OK):
        return Finding(what, State.GOOD, "can be written")
    return Finding(what, State.BAD, "cannot be written", remedy)


CHECKS = {
    "stages": _stages,
    "speech": _work,
    "elsewhere": _elsewhere,
    "rooms": _rooms,
    "responders": _responders,
    "sound": _sound,
}
