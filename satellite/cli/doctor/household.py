"""Checks of the running daemon and of what it talks to: stages, other machines, rooms, Home Assistant, sound."""

import asyncio
import os
import shlex
import shutil
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from satellite.audio.pcm import Converter, read_wav
from satellite.cli.doctor import unit
from satellite.cli.doctor.findings import Finding, Target, bad, good, note
from satellite.config.host import SoundDeviceSettings
from satellite.config.rooms import DialledRoomSettings, EsphomeRoomSettings
from satellite.config.settings import Config
from satellite.engines.remote.hosts import Hosts
from satellite.errors import ConfigError, SatelliteError, Stage
from satellite.languages import closest
from satellite.pipeline import warm_up
from satellite.rooms.esphome.probe import encrypts
from satellite.system.files import exposure
from satellite.wire import client
from satellite.wire.client import JsonObject

_SENTENCE = "One, two, three, four, five."
# `idle` is a stage that is loaded when it is needed.
_WORKING = ("ready", "idle")


async def _stages(target: Target) -> Sequence[Finding]:
    findings = []
    for stage in target.stages:
        what = f"stage {stage['stage']}"
        where = f", on {stage['device']}" if stage.get("device") else ""
        if stage["state"] in _WORKING:
            findings.append(good(what, stage["state"] + where))
        elif stage["state"] == "loading":
            findings.append(note(what, stage["message"], "satellite status"))
        else:
            seen = f"{stage['state']}: {stage['message']}"
            remedy = unit.log("-p warning -n 20")
            if stage.get("code") in ("model-missing", "model-corrupt"):
                remedy = unit.command("models pull configured")
            elif stage.get("code") == "model-unreadable":
                remedy = unit.readable(unit.store(target.config).directory)
            findings.append(bad(what, seen, remedy))
        for name, reason in stage.get("unusable", {}).items():
            remedy = "copy its files there again, or remove them; they are read within seconds"
            findings.append(bad(f"{'voice' if stage['stage'] == 'tts' else 'wake word'} {name}", reason, remedy))
    return findings


async def _work(target: Target) -> Sequence[Finding]:
    """Use each stage as a room does: speak a sentence, transcribe it, and detect a wake word."""
    speech_stages = [stage["state"] for stage in target.stages if stage["stage"] != "chat"]
    if target.state is None or not all(state in _WORKING for state in speech_stages):
        return []  # other checks have reported why
    uri = target.uri
    began = time.monotonic()
    try:
        spoken = await client.say(uri, _SENTENCE)
        assert spoken.format is not None
        said = time.monotonic()
        converter = Converter(spoken.format)
        heard = await client.transcribe(uri, converter.convert(bytes(spoken.pcm)) + converter.flush())
        understood = time.monotonic()
        # The recording with which the daemon warms up: what is heard of it depends on no voice.
        call = await asyncio.to_thread(read_wav, Path(warm_up.__file__).with_name("warm_up.wav"))
        called = await client.detects(uri, call)
    except SatelliteError as error:
        return [bad("speech", f"[{error.code}] {error}", unit.log("-p warning -n 20"))]
    timing = f"spoken in {1000 * (said - began):.0f} ms, understood in {1000 * (understood - said):.0f} ms"
    if heard.transcript.strip():
        findings = [good("speech", timing)]
    else:
        findings = [bad("speech", f"{timing}, but the transcript is empty", "another tts.voice or stt.model")]
    if called or "okay_nabu" not in target.config.wake.words:
        seen = "is detected in a recording" if called else "listens; the test recording has none of its words"
        return [*findings, good("wake word", seen)]
    remedy = "a lower wake.threshold, or wake.engine: microwakeword"
    return [*findings, bad("wake word", "“okay nabu” is not detected in a recording of it", remedy)]


async def _languages(target: Target) -> Sequence[Finding]:
    """Look for a voice of each language of the house: without one, another language's voice reads the answer."""
    if target.state is None or not target.config.languages:
        return []
    info = await client.described(target.uri)
    voices = [voice for program in info.tts for voice in program.voices if voice.installed]
    codes = [code for voice in voices for code in voice.languages]
    findings = []
    for language in target.config.languages:
        what, code = f"voice for {language}", closest(language, codes)
        if code is None:
            remedy = "satellite models list --all shows them; satellite models pull tts/NAME"
            findings.append(bad(what, "there is none, so a voice of another language reads the answers", remedy))
        else:
            findings.append(good(what, next(voice.name for voice in voices if code in voice.languages)))
    return findings


async def _elsewhere(target: Target) -> Sequence[Finding]:
    """Connect to the servers that are used in place of local models."""
    findings = []
    for stage in (Stage.WAKE, Stage.STT, Stage.TTS):
        for address in getattr(target.config, stage.value).uri:
            # One by one: a list of hosts works as long as one of them does.
            hosts = Hosts(stage, [address], 1)
            await hosts.load()
            what = f"{stage} at {address}"
            if hosts.trouble:
                remedy = f"satellite status --uri {address}; is the server running there?"
                findings.append(bad(what, hosts.summary.removeprefix(f"{address} "), remedy))
            else:
                findings.append(good(what, "answers"))
    return findings


async def _rooms(target: Target) -> Sequence[Finding]:
    if target.state is None:
        return [await _seen(room) for room in target.config.rooms if isinstance(room, DialledRoomSettings)]
    return [_driven(room) for room in target.state["rooms"]]


def _driven(room: JsonObject) -> Finding:
    """Report a room's state in the daemon that drives it."""
    what = f"room {room['room']}"
    if room["state"] == "connected":
        return good(what, f"is connected, {room['doing']}" if room.get("doing") else "is connected")
    esphome = str(room["uri"]).startswith("esphome:")
    device = "disable the device's Assist satellite entity" if esphome else "delete the satellite"
    remedies = {
        "held": f"in Home Assistant, Settings → Devices & services: {device}; or delete the room here",
        "no-satellite": "satellite rooms discover",
        "no-key": "key_file: in the room's entry, with the key of the device; docs/esphome.md says where it is found",
        "connecting": "satellite rooms",
    }
    dial = "satellite rooms devices" if room["uri"] == "local" else "satellite rooms discover"
    return bad(what, f"{room['state']}: {room['message']}", remedies.get(room["state"], dial))


async def _seen(room: DialledRoomSettings) -> Finding:
    """Report whether a satellite is there, without claiming it."""
    if not isinstance(room, EsphomeRoomSettings):
        return await _described(room.name, room.uri)
    what, remedy = f"room {room.name}", "is it switched on? satellite rooms discover"
    try:
        encrypted = await encrypts(*room.address)
    except (SatelliteError, OSError) as error:
        return bad(what, str(error), remedy)
    form = "encrypted" if encrypted else "not encrypted"
    return good(what, f"answers, {form}; start the daemon to see whether it is free")


async def _keys(target: Target) -> Sequence[Finding]:
    """Report key files of ESPHome devices that others than the daemon can read."""
    account = unit.account()
    findings = []
    for room in target.config.rooms:
        file = room.key_file if isinstance(room, EsphomeRoomSettings) else None
        if file is None or not (seen := exposure(file, os.geteuid() if account is None else account.pw_uid)):
            continue
        path = shlex.quote(str(file))
        own = f"chmod 600 {path}"
        remedy = own if account is None else f"sudo chown {account.pw_name} {path} && sudo {own}"
        findings.append(bad(f"key of {room.name}", f"{file}: {seen}", remedy))
    return findings


async def _described(name: str, uri: str) -> Finding:
    """Report what a satellite says to `describe`: any other request would claim it."""
    what = f"room {name}"
    try:
        info = await client.described(uri)
    except SatelliteError as error:
        return bad(what, str(error), "satellite rooms discover")
    if info.satellite is None:
        return bad(what, f"there is no satellite at {uri}", "satellite rooms discover")
    return good(what, f"answers as {info.satellite.name}; start the daemon to see whether it is free")


async def _certificate(target: Target) -> Sequence[Finding]:
    found = (target.state or {}).get("certificate")
    if found is None:
        return []
    if found["message"]:
        return [bad("certificate", found["message"], "http.tls in the configuration; satellite certificate")]
    kind = "self-signed, " if found["self_signed"] else ""
    return [good("certificate", f"{kind}valid until {found['ends'][:10]}, SHA-256 {found['fingerprint']}")]


async def _responders(target: Target) -> Sequence[Finding]:
    if target.state is None:
        return [await _home_assistant(target.config)] if target.config.home_assistant.url else []
    remedy = f"home_assistant: in the configuration; {unit.log('-p warning -n 20')}"
    return [
        good(one["responder"], one["message"]) if one["up"] else bad(one["responder"], one["message"], remedy)
        for one in target.state.get("responders", [])
    ]


async def _home_assistant(config: Config) -> Finding:
    from satellite.config.secrets import home_assistant_token
    from satellite.skills.home_assistant.api import Api

    what = f"home_assistant at {config.home_assistant.url}"
    put = unit.put_secret(config.home_assistant.token_file, "home_assistant.token") + f"; {unit.restart()}"
    try:
        token = unit.secret(home_assistant_token(config.home_assistant).find)
        if not token.value and token.elsewhere:
            return note(what, "only the service can read its token", "sudo satellite doctor")
        if not token.value:
            return bad(what, f"there is no token: {token.source}; {unit.TYPE_IT}", put)
        # `probe` asks for the version and the configuration alone: a sentence could switch something.
        api = Api(config.home_assistant, token)
        try:
            version = await api.probe()
        finally:
            await api.close()
    except ConfigError as error:
        return bad(what, str(error), put)
    except SatelliteError as error:
        return bad(what, str(error), f"curl -I {config.home_assistant.url}")
    return good(what, f"is ready for sentences, {version}")


async def _sound(target: Target) -> Sequence[Finding]:
    config = target.config
    if not config.microphone.given:
        return []
    findings = [] if config.microphone.device is None and config.speaker.device is None else [await _listed()]
    if target.state is not None:
        return findings  # the daemon has opened them, and its host room reports their state
    findings.append(await _heard(config.microphone))
    return [*findings, await _speaks(config.speaker)] if config.speaker.given else findings


async def _listed() -> Finding:
    from satellite.rooms.host.devices import list_devices

    try:
        found = await asyncio.to_thread(list_devices)
    except SatelliteError as error:
        return bad("sound devices", str(error), unit.installer("--upgrade --microphone"))
    counts = "; ".join(f"{len(devices)} {kind}" for kind, devices in found.items())
    if all(found.values()):
        return good("sound devices", counts)
    return bad("sound devices", f"{counts}; is it plugged in?", "satellite rooms devices")


async def _heard(settings: SoundDeviceSettings) -> Finding:
    """Read until the first sound arrives."""
    from satellite.rooms.host.capture import capture

    what = f"microphone {settings.label}"
    try:
        async with aclosing(capture(settings)) as chunks:
            async for pcm in chunks:
                if pcm:
                    return good(what, "gives sound")
    except (SatelliteError, OSError) as error:
        return bad(what, str(error), "satellite rooms devices; microphone: in the configuration")
    return bad(what, "gives no sound", "satellite rooms devices; microphone: in the configuration")


async def _speaks(settings: SoundDeviceSettings) -> Finding:
    what = f"speaker {settings.label}"
    remedy = "satellite rooms devices; speaker: in the configuration"
    if settings.command:
        found = shutil.which(settings.command[0])
        return good(what, found) if found else bad(what, "there is no such program", remedy)
    if settings.file is not None:
        return _written(what, settings.file, remedy)
    from satellite.rooms.host.devices import open_device, start_device

    # A device is opened by a process of its own: PortAudio may hang, and a process can be killed.
    assert settings.device is not None
    process = await start_device("output", settings.device)
    try:
        layout = await open_device(process, 22_050)
    except SatelliteError as error:
        return bad(what, str(error), remedy)
    finally:
        await process.end()
    return good(what, f"opens, at {layout.rate} Hz")


def _written(what: str, file: Path, remedy: str) -> Finding:
    if os.access(file if file.exists() else file.parent, os.W_OK):
        return good(what, "can be written")
    return bad(what, "cannot be written", remedy)


CHECKS = {
    "stages": _stages,
    "speech": _work,
    "languages": _languages,
    "elsewhere": _elsewhere,
    "rooms": _rooms,
    "keys": _keys,
    "certificate": _certificate,
    "responders": _responders,
    "sound": _sound,
}
