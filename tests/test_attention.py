"""The daemon's state in one word: never ready with something that does not work, and what to do about it."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from satellite.config.loader import parse
from satellite.daemon.daemon import Daemon
from satellite.engines.chat.provider_status import ProviderStatus
from satellite.monitoring.attention import Attention, StageStatus, needing_attention, overall
from satellite.monitoring.metrics import exposition
from satellite.monitoring.status import as_json
from satellite.net.provider_states import Tone
from satellite.pipeline.responder import ResponderStatus
from satellite.rooms.room import Capabilities, LinkState, RoomStatus
from tests.doubles.http import script
from tests.doubles.ollama import OllamaServer
from tests.waiting import PATIENCE_SECONDS

STAGE = StageStatus("stt", "ready", "")
PROVIDER = ProviderStatus("ollama", "m", "warm", Tone.GOOD, True, "answers", 1.0, leaves_house=False)
RESPONDER = ResponderStatus("home_assistant", "ready", True, "answers")
ROOM = RoomStatus("kitchen", "", None, LinkState.CONNECTED, "kitchen is connected", "", 1.0, 0, Capabilities())


def troubles(**changed: dict[str, Any]) -> list[Attention]:
    """Return what needs attention in a house of one of each, with what is changed in it."""
    return list(
        needing_attention(
            [replace(STAGE, **changed.get("stage", {}))],
            [replace(PROVIDER, **changed.get("provider", {}))],
            [replace(RESPONDER, **changed.get("responder", {}))],
            [replace(ROOM, **changed.get("room", {}))],
            [],
            {},
        )
    )


def test_a_house_in_which_everything_works_is_ready() -> None:
    assert troubles() == []
    assert overall(troubles(), loaded=True) == "ready"
    assert overall(troubles(), loaded=False) == "loading"


@pytest.mark.parametrize(
    ("changed", "what", "cure"),
    [
        (
            {"stage": {"state": "failed", "message": "is missing", "code": "model-missing"}},
            "stage stt",
            "satellite models pull configured",
        ),
        (
            {"stage": {"state": "failed", "message": "no CUDA", "code": "stt-not-ready"}},
            "stage stt",
            "satellite doctor",
        ),
        ({"stage": {"state": "unreachable", "message": "is silent"}}, "stage stt", "satellite doctor"),
        ({"stage": {"state": "cold", "message": "has never worked"}}, "stage stt", "satellite doctor"),
        ({"provider": {"state": "open", "up": False, "message": "is away"}}, "provider ollama", "satellite doctor"),
        ({"provider": {"state": "no-key", "up": False, "message": "no key"}}, "provider ollama", "satellite doctor"),
        ({"responder": {"state": "refused", "up": False, "message": "refused"}}, "home_assistant", "satellite doctor"),
        ({"room": {"state": "off", "message": "kitchen is off"}}, "room kitchen", "satellite doctor"),
    ],
)
def test_what_does_not_work_is_named_with_its_cure(changed: dict[str, Any], what: str, cure: str) -> None:
    (one,) = troubles(**changed)
    (values,) = changed.values()
    assert (one.what, one.text, one.cure) == (what, values["message"], cure)
    assert overall([one], loaded=True) == "degraded"


@pytest.mark.parametrize(
    "changed",
    [
        {"stage": {"state": "idle"}},
        {"stage": {"state": "loading"}},
        {"provider": {"state": "loading", "up": False}},
        {"provider": {"state": "released", "up": False}},
        {"room": {"state": "connecting"}},
    ],
)
def test_what_comes_by_itself_needs_nobody(changed: dict[str, Any]) -> None:
    assert troubles(**changed) == []


CONFIG = """
models: {{directory: {directory}}}
wyoming: {{host: 127.0.0.1}}
zeroconf: {{enabled: false}}
http: {{enabled: false}}
home_assistant: {{url: "http://127.0.0.1:9", token: x}}
chat: {{providers: [{{type: ollama, model: "phi3:mini", url: "http://127.0.0.1:9"}}]}}
rooms: [{{name: kitchen, uri: "tcp://127.0.0.1:9"}}]
"""


async def test_a_daemon_without_anything_says_so_everywhere(tmp_path: Path) -> None:
    async with Daemon(parse(CONFIG.format(directory=tmp_path)), free_ports=True) as daemon:
        await daemon.ready()
        wanted = {"stage stt", "stage tts", "stage chat", "provider ollama", "home_assistant", "room kitchen"}
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not wanted <= {one.what for one in daemon._status.attention()}:
                await asyncio.sleep(0.05)
        state = as_json(await daemon._status.now())
        assert state["state"] == "degraded"
        assert all(one["text"] and one["cure"] for one in state["attention"])
        told = {stage["stage"]: stage["state"] for stage in state["stages"]}
        assert (told["stt"], told["tts"], told["chat"]) == ("failed", "failed", "unreachable")
        cures = {one["what"]: one["cure"] for one in state["attention"]}
        assert cures["stage stt"] == cures["stage tts"] == "satellite models pull configured"
        assert daemon.line.startswith("degraded, without ")
        assert " · look at stage " in daemon.line


async def test_a_background_task_that_fails_is_told_until_it_works(tmp_path: Path) -> None:
    async with Daemon(parse(CONFIG.format(directory=tmp_path)), free_ports=True) as daemon:
        assert (await daemon._status.now()).background == ()

        async def fails() -> None:
            raise KeyError("espeak")

        daemon.background.run("refresh voices", fails)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not daemon.background.status():
                await asyncio.sleep(0.01)
        status = await daemon._status.now()
        (told,) = status.background
        assert (told.task, told.state, told.message) == ("refresh voices", "failing", "KeyError: 'espeak'")
        assert (told.since_seconds or 0) >= 0
        (needed,) = [one for one in status.attention if one.what == "task refresh voices"]
        assert "KeyError: 'espeak'" in needed.text
        metrics = exposition(status, {}, 0.0)
        assert 'satellite_task_failing{task="refresh voices"} 1.0' in metrics
        assert f'satellite_task_failures_total{{task="refresh voices"}} {told.failures:.1f}' in metrics


async def test_a_chat_stage_is_what_its_only_provider_is(tmp_path: Path) -> None:
    async with OllamaServer(script("Yes."), models={"another": "another"}) as ollama:
        text = CONFIG.format(directory=tmp_path).replace(
            '"phi3:mini", url: "http://127.0.0.1:9"', f'"phi3:mini", url: "{ollama.url}"'
        )
        assert ollama.url in text
        async with Daemon(parse(text), free_ports=True) as daemon:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (told := _chat(daemon)).state != "model-missing":
                    await asyncio.sleep(0.05)
            assert "ollama pull phi3:mini" in told.message


def _chat(daemon: Daemon) -> StageStatus:
    return next(stage for stage in daemon._status.stages() if stage.stage == "chat")
