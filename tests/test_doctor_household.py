"""The checks of `satellite doctor` on other programs: stand-ins are brought into every state that it distinguishes."""

from pathlib import Path

import httpx
import pytest

from satellite.cli.doctor import chat_providers, found_devices, household, ollama_server
from satellite.cli.doctor.findings import Finding, State, Target
from satellite.config.loader import parse
from satellite.rooms.room import LinkState
from satellite.system.files import exposure
from satellite.system.nvidia import gpus
from satellite.wire import client
from satellite.wire.browsing import DeviceKind, FoundDevice
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.home_assistant import HomeAssistantServer
from tests.doubles.http import script
from tests.doubles.ollama import OllamaServer
from tests.doubles.openai import OpenAIServer
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import rooms
from tests.esphome_rooms import KEY, house, key_file
from tests.running_daemon import RunningDaemon, on_loop_of
from tests.waiting import PATIENCE_SECONDS, until

WORDS = script("Yes", ".")
NOBODY = "tcp://127.0.0.1:9"
CHECKS = household.CHECKS | ollama_server.CHECKS | chat_providers.CHECKS


async def found(check: str, text: str, uri: str = "") -> dict[str, Finding]:
    """Return what a check finds with this configuration, by what was checked; every fault must have its remedy."""
    target = Target(parse(text), await client.status(uri) if uri else None, uri or NOBODY)
    findings = {one.what: one for one in await CHECKS[check](target)}
    assert all(one.remedy for one in findings.values() if one.state is State.BAD)
    return findings


def is_like(finding: Finding, state: State, seen: str = "", remedy: str = "") -> bool:
    return finding.state is state and seen in finding.seen and remedy in finding.remedy


async def test_a_wake_word_of_ones_own_that_cannot_be_used_is_reported() -> None:
    stage = {"stage": "openwakeword", "state": "ready", "message": "", "unusable": {"mine": "/x/mine.onnx is empty"}}
    ready, word = await CHECKS["stages"](Target(parse(""), {"stages": [stage]}, NOBODY))
    assert is_like(ready, State.GOOD)
    assert word.what == "wake word mine"
    assert is_like(word, State.BAD, "/x/mine.onnx is empty", "copy its files there again")


async def test_every_state_of_ollama_is_reported() -> None:
    async with OllamaServer(WORDS, models={"phi3:mini": "phi"}, trained_context=4096) as server:
        url = server.url

        async def check(what: str, model: str = "phi3:mini", num_ctx: int = 4096) -> Finding:
            provider = f"{{type: ollama, model: '{model}', url: '{url}', num_ctx: {num_ctx}}}"
            return (await found("ollama", f"chat: {{providers: [{provider}]}}"))[what]

        async def load(num_ctx: int, keep_alive: int) -> None:
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS) as http:
                options = {"num_ctx": num_ctx}
                body = {"model": "phi3:mini", "messages": [], "keep_alive": keep_alive, "options": options}
                assert (await http.post("/api/chat", json=body)).is_success

        assert is_like(await check(f"ollama at {url}", "llama3"), State.BAD, "without llama3", "ollama pull llama3")
        assert is_like(await check("phi3:mini in memory"), State.NOTE, "is not loaded: the next answer waits for it")
        await load(2048, -1)
        assert is_like(await check("phi3:mini in memory"), State.BAD, "context of 2048", "num_ctx 4096")
        await load(4096, 300)
        assert is_like(await check("phi3:mini in memory"), State.NOTE, "another 5 min")
        await load(4096, -1)
        assert is_like(await check("context of phi3:mini", num_ctx=8192), State.NOTE, "can read 4096")
        assert is_like(await check("phi3:mini in memory"), State.GOOD, "is loaded indefinitely")
        assert is_like(await check("phi3:mini on the GPU"), State.GOOD, "all of it")
        assert is_like(await check("context of phi3:mini"), State.GOOD)
        server.vram_share = 0.5
        assert is_like(await check("phi3:mini on the GPU"), State.BAD, "50%")
        server.vram_share = 0.0
        assert is_like(await check("phi3:mini on the GPU"), State.BAD if gpus() else State.NOTE)
    assert is_like(await check(f"ollama at {url}"), State.BAD, "does not answer")


async def test_every_state_of_a_compatible_provider_is_reported(tmp_path: Path) -> None:
    key = tmp_path / "key"
    async with OpenAIServer(WORDS, key="sk-right", model="llama") as server:
        url = f"{server.url}/openai/v1"

        async def check(secret: str, model: str = "llama") -> Finding:
            key.write_text(secret)
            provider = f"{{type: openai, name: gpu2, model: {model}, url: '{url}', api_key_file: {key}}}"
            return (await found("hosted", f"chat: {{providers: [{provider}, {{type: local}}]}}"))[f"gpu2 at {url}"]

        assert is_like(await check("sk-right"), State.GOOD, "answers, with llama")
        wrong = await check("sk-wrong")
        assert is_like(wrong, State.BAD, "refuses the key")
        assert "sk-" not in wrong.seen + wrong.remedy
        assert is_like(await check("sk-right", "gpt"), State.BAD, "has no model gpt; it has llama")
        assert is_like(await check(""), State.BAD, "is empty")
    assert is_like(await check("sk-right"), State.BAD, "cannot be reached")


async def test_a_hosted_provider_without_a_key_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    findings = await found("hosted", "chat: {providers: [{type: openai, model: llama}, {type: local}]}")
    groq = findings["groq at https://api.groq.com/openai/v1"]
    assert is_like(groq, State.NOTE, remedy="/etc/satellite/credentials/groq.key")


async def test_home_assistant_is_asked_whether_it_is_ready() -> None:
    async with HomeAssistantServer(token="right") as server:
        what = f"home_assistant at {server.url}"

        async def check(token: str) -> Finding:
            settings = f", token: {token}" if token else ""
            return (await found("responders", f"home_assistant: {{url: '{server.url}'{settings}}}"))[what]

        assert is_like(await check("right"), State.GOOD, "is ready for sentences")
        assert is_like(await check("wrong"), State.BAD, "refuses the token")
        assert is_like(await check(""), State.BAD, remedy="home_assistant.token")
        await server.stop()
        assert is_like(await check("right"), State.BAD, "cannot be reached")


async def test_rooms_are_checked_without_claiming_them() -> None:
    async with ScriptedSatellite(name="kitchen") as kitchen, OpenAIServer(WORDS) as other:
        text = (
            f"rooms:\n- {{name: kitchen, uri: '{kitchen.uri}'}}\n- {{name: attic, uri: '{NOBODY}'}}\n"
            f"- {{name: cellar, uri: '{other.url.replace('http', 'tcp')}'}}"
        )
        findings = await found("rooms", text)
        assert is_like(findings["room kitchen"], State.GOOD, "answers as kitchen")
        assert is_like(findings["room attic"], State.BAD, "nothing answers")
        assert is_like(findings["room cellar"], State.BAD)
        assert not kitchen.claimed


async def test_esphome_devices_are_checked_without_claiming_them() -> None:
    async with EsphomeDevice(key=bytes(32)) as kitchen, EsphomeDevice(name="study") as study:
        rooms = [f"{{name: {device.name}, uri: '{device.uri}'}}" for device in (kitchen, study)]
        findings = await found("rooms", f"rooms: [{', '.join(rooms)}, {{name: attic, uri: 'esphome://127.0.0.1:9'}}]")
        assert is_like(findings["room kitchen"], State.GOOD, "answers, encrypted")
        assert is_like(findings["room study"], State.GOOD, "answers, not encrypted")
        assert is_like(findings["room attic"], State.BAD, "cannot be reached", "is it switched on?")
        assert not kitchen.claimed
        assert not study.claimed


@pytest.mark.parametrize(("mode", "seen"), [(0o600, ""), (0o640, ""), (0o644, "mode 0644"), (0o660, "mode 0660")])
async def test_a_key_that_others_can_read_is_reported_and_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, seen: str
) -> None:
    file = key_file(tmp_path)
    file.chmod(mode)
    async with EsphomeDevice(key=KEY) as device, house() as home, home.room(device, key_file=file) as room:
        assert room.state is LinkState.CONNECTED
    findings = await found("keys", f"rooms: [{{name: kitchen, uri: '{device.uri}', key_file: '{file}'}}]")
    assert [one.seen for one in findings.values()] == ([f"{file}: others have access to it ({seen})"] if seen else [])
    assert all(f"chmod 600 {file}" in one.remedy for one in findings.values())
    assert ("is no secret" in caplog.text) is bool(seen)


def test_a_key_of_another_user_is_no_secret(tmp_path: Path) -> None:
    file = key_file(tmp_path)
    file.chmod(0o600)
    assert exposure(file, file.stat().st_uid) == ""
    status = file.stat()
    assert exposure(file, status.st_uid + 1) == (f"it belongs to the user {status.st_uid}" if status.st_uid else "")
    assert exposure(tmp_path / "none", 0) == ""


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        ("held", "disable the device's Assist satellite entity"),
        ("no-key", "key_file: in the room's entry"),
        ("no-satellite", "satellite rooms discover"),
        ("off", "satellite rooms discover"),
    ],
)
def test_every_state_of_an_esphome_room_has_its_remedy(state: str, remedy: str) -> None:
    room = {"room": "kitchen", "uri": "esphome://192.0.2.1", "state": state, "message": "why"}
    assert is_like(household._driven(room), State.BAD, f"{state}: why", remedy)


async def test_each_language_of_the_house_needs_a_voice(daemon: RunningDaemon) -> None:
    findings = await found("languages", "languages: [la, en]", daemon.uri)
    assert is_like(findings["voice for en"], State.GOOD, "en_US")
    assert is_like(findings["voice for la"], State.BAD, "another language", "satellite models pull")


async def test_remote_servers_are_checked_one_by_one(daemon: RunningDaemon) -> None:
    speaks = f"tcp://127.0.0.1:{daemon.port('tts_port')}"
    findings = await found(
        "elsewhere", f"stt: {{uri: ['{daemon.uri}', '{speaks}']}}\nwake: {{uri: '{NOBODY}'}}\ntts: {{uri: '{speaks}'}}"
    )
    assert findings[f"stt at {daemon.uri}"].state is State.GOOD
    assert findings[f"stt at {speaks}"].seen == "offers no stt"
    assert findings[f"wake at {NOBODY}"].state is State.BAD
    assert findings[f"tts at {speaks}"].state is State.GOOD


@pytest.mark.models
@on_loop_of("daemon")
async def test_a_room_that_another_client_holds_is_reported(daemon: RunningDaemon) -> None:
    async with (
        ScriptedSatellite(name="ours") as ours,
        ScriptedSatellite(name="theirs") as theirs,
        rooms(daemon, theirs),
        rooms(daemon, ours, theirs) as hub,
    ):
        await until(lambda: hub.status()[1].state == "held")
        daemon.daemon.house.hub._others.extend(hub.satellites)
        try:
            findings = await found("rooms", "", daemon.uri)
        finally:
            daemon.daemon.house.hub._others.clear()
    assert is_like(findings["room ours"], State.GOOD, "is connected")
    assert is_like(findings["room theirs"], State.BAD, "held: ", "delete the satellite")


async def test_files_and_programs_in_place_of_sound_devices_are_tried(tmp_path: Path) -> None:
    sound = tmp_path / "room.raw"
    sound.write_bytes(bytes(64_000))
    speaker = tmp_path / "spoken.wav"
    findings = await found("sound", f"microphone: {{file: {sound}}}\nspeaker: {{file: {speaker}}}")
    assert findings[f"microphone {sound}"].seen == "gives sound"
    assert findings[f"speaker {speaker}"].seen == "can be written"
    findings = await found("sound", "microphone: {command: [no-such]}\nspeaker: {command: [no-such]}")
    assert findings["microphone no-such"].state is State.BAD
    assert findings["speaker no-such"].seen == "there is no such program"


async def test_devices_that_no_room_names_are_mentioned() -> None:
    voice = FoundDevice(DeviceKind.ESPHOME, "voice-09f3ab", ("192.0.2.1",), 6053, friendly_name="Voice PE")
    pi = FoundDevice(DeviceKind.WYOMING, "pi", ("192.0.2.2",), 10_700)
    config = parse("rooms: [{name: a, uri: 'tcp://192.0.2.2:10700'}]\nzeroconf: {enabled: false}\n")
    (finding,) = found_devices.unnamed(config, [voice, pi])
    assert is_like(finding, State.NOTE, "Voice PE at esphome://192.0.2.1:6053: found", "rooms adopt")
    assert " pi " not in finding.seen
    assert found_devices.unnamed(config, [pi]) == []
    assert await found_devices.CHECKS["devices"](Target(config, None, NOBODY)) == []
