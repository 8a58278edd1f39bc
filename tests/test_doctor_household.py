"""What `satellite doctor` sees of other programs: stand-ins are brought into every state that it tells apart."""

from pathlib import Path

import httpx
import pytest

from satellite.cli.doctor import chat_providers, household, ollama_server
from satellite.cli.doctor.findings import Finding, State, Target
from satellite.config.loader import parse
from satellite.system.nvidia import gpus
from satellite.wire import client
from tests.doubles.home_assistant import HomeAssistantServer
from tests.doubles.http import script
from tests.doubles.ollama import OllamaServer
from tests.doubles.openai import OpenAIServer
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import rooms
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


async def test_every_state_of_ollama_is_told() -> None:
    async with OllamaServer(WORDS, models={"phi3:mini": "phi"}, trained_context=4096) as server:
        url = server.url

        async def told(what: str, model: str = "phi3:mini", num_ctx: int = 4096) -> tuple[State, str, str]:
            provider = f"{{type: ollama, model: '{model}', url: '{url}', num_ctx: {num_ctx}}}"
            finding = (await found("ollama", f"chat: {{providers: [{provider}]}}"))[what]
            return finding.state, finding.seen, finding.remedy

        async def load(num_ctx: int, keep_alive: int) -> None:
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS) as http:
                options = {"num_ctx": num_ctx}
                body = {"model": "phi3:mini", "messages": [], "keep_alive": keep_alive, "options": options}
                assert (await http.post("/api/chat", json=body)).is_success

        state, _, remedy = await told(f"ollama at {url}", "llama3")
        assert (state, remedy) == (State.BAD, "ollama pull llama3")
        state, seen, _ = await told("phi3:mini in memory")
        assert (state, seen) == (State.NOTE, "is not loaded: the next answer waits for it")
        await load(2048, -1)
        state, seen, remedy = await told("phi3:mini in memory")
        assert (state, "context of 2048" in seen, "num_ctx 4096" in remedy) == (State.BAD, True, True)
        await load(4096, 300)
        state, seen, _ = await told("phi3:mini in memory")
        assert (state, "another 5 min" in seen) == (State.NOTE, True)
        await load(4096, -1)
        assert "can read 4096" in (await told("context of phi3:mini", num_ctx=8192))[1]
        assert (await told("phi3:mini in memory"))[1] == "is loaded indefinitely"
        assert (await told("phi3:mini on the GPU"))[1] == "all of it"
        assert (await told("context of phi3:mini"))[0] is State.GOOD
        server.vram_share = 0.5
        state, seen, _ = await told("phi3:mini on the GPU")
        assert (state, seen[:3]) == (State.BAD, "50%")
        server.vram_share = 0.0
        assert (await told("phi3:mini on the GPU"))[0] is (State.BAD if gpus() else State.NOTE)
    state, seen, _ = await told(f"ollama at {url}")
    assert (state, seen[:15]) == (State.BAD, "does not answer")


async def test_every_state_of_a_compatible_provider_is_told(tmp_path: Path) -> None:
    key = tmp_path / "key"
    async with OpenAIServer(WORDS, key="sk-right", model="llama") as server:
        what = f"gpu2 at {server.url}/openai/v1"

        async def told(secret: str, model: str = "llama") -> Finding:
            key.write_text(secret)
            provider = (
                f"{{type: openai, name: gpu2, model: {model}, url: '{server.url}/openai/v1', api_key_file: {key}}}"
            )
            return (await found("hosted", f"chat: {{providers: [{provider}, {{type: local}}]}}"))[what]

        assert (await told("sk-right")).seen == "answers, with llama"
        wrong = await told("sk-wrong")
        assert wrong.state is State.BAD
        assert "refuses the key" in wrong.seen
        assert "sk-" not in wrong.seen + wrong.remedy
        other = await told("sk-right", "gpt")
        assert (other.state, other.seen) == (State.BAD, "has no model gpt; it has llama")
        empty = await told("")
        assert (empty.state, "is empty" in empty.seen) == (State.BAD, True)
    gone = await told("sk-right")
    assert (gone.state, "cannot be reached" in gone.seen) == (State.BAD, True)


async def test_a_hosted_provider_without_a_key_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    findings = await found("hosted", "chat: {providers: [{type: openai, model: llama}, {type: local}]}")
    told = findings["groq at https://api.groq.com/openai/v1"]
    assert told.state is State.NOTE
    assert "/etc/satellite/credentials/groq.key" in told.remedy


async def test_home_assistant_is_asked_whether_it_is_ready() -> None:
    async with HomeAssistantServer(token="right") as server:
        what = f"home_assistant at {server.url}"

        async def told(token: str) -> Finding:
            settings = f", token: {token}" if token else ""
            return (await found("responders", f"home_assistant: {{url: '{server.url}'{settings}}}"))[what]

        assert "is ready for sentences" in (await told("right")).seen
        assert "refuses the token" in (await told("wrong")).seen
        assert "home_assistant.token" in (await told("")).remedy
    gone = await told("right")
    assert (gone.state, "cannot be reached" in gone.seen) == (State.BAD, True)


async def test_rooms_are_looked_at_without_claiming_them() -> None:
    async with ScriptedSatellite(name="kitchen") as kitchen, OpenAIServer(WORDS) as other:
        text = (
            f"rooms:\n- {{name: kitchen, uri: '{kitchen.uri}'}}\n- {{name: attic, uri: '{NOBODY}'}}\n"
            f"- {{name: cellar, uri: '{other.url.replace('http', 'tcp')}'}}"
        )
        findings = await found("rooms", text)
        assert "answers as kitchen" in findings["room kitchen"].seen
        assert "nothing answers" in findings["room attic"].seen
        assert findings["room cellar"].state is State.BAD
        assert not kitchen.claimed


async def test_servers_elsewhere_are_looked_at_one_by_one(daemon: RunningDaemon) -> None:
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
async def test_who_holds_a_room_is_told(daemon: RunningDaemon) -> None:
    async with (
        ScriptedSatellite(name="ours") as ours,
        ScriptedSatellite(name="theirs") as theirs,
        rooms(daemon, theirs),
        rooms(daemon, ours, theirs) as hub,
    ):
        await until(lambda: hub.status()[1].state == "held")
        daemon.daemon.hub._others.extend(hub.satellites)
        try:
            findings = await found("rooms", "", daemon.uri)
        finally:
            daemon.daemon.hub._others.clear()
    assert findings["room ours"].seen.startswith("is connected")
    assert findings["room theirs"].seen.startswith("held: ")
    assert "delete the satellite" in findings["room theirs"].remedy


async def test_what_stands_for_sound_devices_is_tried(tmp_path: Path) -> None:
    sound = tmp_path / "room.raw"
    sound.write_bytes(bytes(64_000))
    speaker = tmp_path / "spoken.wav"
    findings = await found("sound", f"microphone: {{file: {sound}}}\nspeaker: {{file: {speaker}}}")
    assert findings[f"microphone {sound}"].seen == "gives sound"
    assert findings[f"speaker {speaker}"].seen == "can be written"
    findings = await found("sound", "microphone: {command: [no-such]}\nspeaker: {command: [no-such]}")
    assert findings["microphone no-such"].state is State.BAD
    assert findings["speaker no-such"].seen == "there is no such program"
