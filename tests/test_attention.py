"""The daemon's state in one word: never ready with something that does not work, and what to do about it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from satellite.config.loader import parse
from satellite.daemon.daemon import Daemon
from satellite.engines.chat.provider_status import ProviderStatus
from satellite.monitoring.attention import Attention, StageStatus, needing_attention, overall
from satellite.monitoring.status import as_json
from satellite.net.provider_states import Tone
from satellite.pipeline.responder import ResponderStatus
from satellite.rooms.device import Capabilities
from satellite.rooms.room import LinkState, RoomStatus
from tests.doubles.http import script
from tests.doubles.ollama import OllamaServer
from tests.waiting import until

DOCTOR = "satellite doctor"
PULL = "satellite models pull configured"
HOUSE: dict[str, Any] = {
    "stage": StageStatus("stt", "ready", ""),
    "provider": ProviderStatus("ollama", "m", "warm", Tone.GOOD, True, "answers", 1.0, leaves_house=False),
    "responder": ResponderStatus("home_assistant", "ready", True, "answers"),
    "room": RoomStatus("kitchen", "", None, LinkState.CONNECTED, "connected", "", 1.0, 0, Capabilities()),
}


def attention(part: str, **changed: Any) -> list[Attention]:
    """Return what needs attention in a house of one of each, when a part of it is changed."""
    parts = [replace(one, **changed) if name == part else one for name, one in HOUSE.items()]
    stage, provider, responder, room = ([one] for one in parts)
    return list(needing_attention(stage, provider, responder, room, [], {}, None))


def test_a_house_in_which_everything_works_is_ready() -> None:
    assert attention("stage") == []
    assert overall([], loaded=True) == "ready"
    assert overall([], loaded=False) == "loading"


@pytest.mark.parametrize(
    ("part", "changed", "what", "cure"),
    [
        ("stage", {"state": "failed", "code": "model-missing"}, "stage stt", PULL),
        ("stage", {"state": "failed", "code": "stt-not-ready"}, "stage stt", DOCTOR),
        ("stage", {"state": "unreachable"}, "stage stt", DOCTOR),
        ("stage", {"state": "cold"}, "stage stt", DOCTOR),
        ("stage", {"unusable": {"mine": "is broken"}}, "wake word mine", DOCTOR),
        ("stage", {"stage": "tts", "unusable": {"mine": "is broken"}}, "voice mine", DOCTOR),
        ("provider", {"state": "open", "up": False}, "provider ollama", DOCTOR),
        ("provider", {"state": "no-key", "up": False}, "provider ollama", DOCTOR),
        ("responder", {"state": "refused", "up": False}, "home_assistant", DOCTOR),
        ("room", {"state": "off"}, "room kitchen", DOCTOR),
    ],
)
def test_what_does_not_work_is_named_with_its_cure(part: str, changed: dict[str, Any], what: str, cure: str) -> None:
    found = attention(part, message="is broken", **changed)
    assert found == [Attention(what, "is broken", cure)]
    assert overall(found, loaded=True) == "degraded"


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("stage", {"state": "idle"}),
        ("stage", {"state": "loading"}),
        ("provider", {"state": "loading", "up": False}),
        ("provider", {"state": "released", "up": False}),
        ("room", {"state": "connecting"}),
    ],
)
def test_what_comes_by_itself_needs_nobody(part: str, changed: dict[str, Any]) -> None:
    assert attention(part, **changed) == []


CONFIG = """
models: {{directory: {directory}}}
wyoming: {{host: 127.0.0.1}}
zeroconf: {{enabled: false}}
http: {{enabled: false}}
home_assistant: {{url: "http://127.0.0.1:9", token: x}}
chat: {{providers: [{{type: ollama, model: "phi3:mini", url: "{ollama}"}}]}}
rooms: [{{name: kitchen, uri: "tcp://127.0.0.1:9"}}]
"""


async def test_a_daemon_in_which_nothing_works_says_so_everywhere(tmp_path: Path) -> None:
    async def fails() -> None:
        raise KeyError("espeak")

    async with Daemon(parse(CONFIG.format(directory=tmp_path, ollama="http://127.0.0.1:9")), free_ports=True) as daemon:
        assert (await daemon._status.now()).background == ()
        daemon.background.run("refresh voices", fails)
        await daemon.ready()
        wanted = {"stage stt", "stage tts", "stage chat", "provider ollama", "home_assistant", "room kitchen"}
        wanted.add("task refresh voices")
        await until(lambda: wanted <= {one.what for one in daemon._status.attention()})
        state = as_json(await daemon._status.now())
        assert state["state"] == "degraded"
        assert all(one["text"] and one["cure"] for one in state["attention"])
        stages = {stage["stage"]: stage["state"] for stage in state["stages"]}
        assert (stages["stt"], stages["tts"], stages["chat"]) == ("failed", "failed", "unreachable")
        cures = {one["what"]: one["cure"] for one in state["attention"]}
        assert cures["stage stt"] == cures["stage tts"] == PULL
        [task] = state["background"]
        assert (task["task"], task["state"], task["message"]) == ("refresh voices", "failing", "KeyError: 'espeak'")
        assert task["since_seconds"] >= 0
        assert any(
            one["what"] == "task refresh voices" and task["message"] in one["text"] for one in state["attention"]
        )
        assert daemon.line.startswith("degraded, without ")
        assert " · look at stage " in daemon.line


async def test_a_chat_stage_is_what_its_only_provider_is(tmp_path: Path) -> None:
    async with OllamaServer(script("Yes."), models={"another": "another"}) as ollama:
        config = parse(CONFIG.format(directory=tmp_path, ollama=ollama.url))
        async with Daemon(config, free_ports=True) as daemon:

            def chat() -> StageStatus:
                return next(stage for stage in daemon._status.stages() if stage.stage == "chat")

            await until(lambda: chat().state == "model-missing")
            assert "ollama pull phi3:mini" in chat().message
