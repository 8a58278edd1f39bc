"""What the keep-alive timer makes of what can be wrong with a model: it is named, logged once, and cured.

What keeps Ollama from answering at all is in `test_chat_faults_ollama`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import CoroutineType
from typing import Any

import pytest

from satellite.config.chat import ChatSettings, KeepAliveSettings, OllamaSettings
from satellite.engines.chat.keepalive import model
from satellite.engines.chat.keepalive.keep_alive_timer import KeepAliveTimer
from satellite.engines.chat.keepalive.loaded_models import LoadedModel, ModelState
from satellite.engines.chat.ollama_client import OllamaApi
from satellite.engines.protocols import Message
from satellite.errors import ChatUnavailable
from tests.doubles.ollama import Fault
from tests.keeping import INTERVAL_SECONDS, SYSTEM, KeptModel, keeping
from tests.waiting import meanwhile, until

pytestmark = [pytest.mark.slow, pytest.mark.virtual_clock]

DECADE = timedelta(days=3650)
NAMES = {"smollm2": "x", "alba": "x", "cat": "y"}
"""Two names of one file, and another model."""


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "satellite")


def logged(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    """Return the levels at which people could read something with these words."""
    return [r.levelname for r in caplog.records if words in r.getMessage() and r.levelno >= logging.INFO]


@pytest.mark.parametrize(
    ("body", "state", "loads", "level", "words"),
    [
        ({"keep_alive": 0.001}, ModelState.NOT_LOADED, 4, "INFO", "was not loaded"),
        ({"keep_alive": "10m"}, ModelState.FOREIGN_KEEP_ALIVE, 1, "WARNING", "another client had set smollm2"),
    ],
)
async def test_what_another_client_does_is_corrected_each_time_and_logged_once(
    body: dict[str, Any], state: ModelState, loads: int, level: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with keeping() as house:
        await house.warm()
        for seen in range(house.seen.get(state, 0), house.seen.get(state, 0) + 3):
            await house.other.chat(options={"num_ctx": 4096}, **body)
            await until(lambda seen=seen: house.seen.get(state, 0) > seen)  # type: ignore[misc]  # bound now
            await house.ticks()
            await house.becomes(ModelState.WARM)
            assert await house.other.left() > DECADE
            assert await house.is_primed()
        assert house.server.counts.loads == loads
        assert logged(caplog, words) == [level]
        assert len(logged(caplog, "is loaded and ready")) == 1


@pytest.mark.parametrize("names", [["alba"], ["alba", "cat"]])
async def test_a_model_that_runs_under_another_name_is_left_alone_until_it_is_unloaded(
    names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def loaded_by_others(house: KeptModel) -> None:
        for name in names:
            await house.other.chat(model=name, keep_alive=-1, options={"num_ctx": 4096})

    async with keeping(before=loaded_by_others, overhead_seconds=0.05, models=dict(NAMES)) as house:
        await house.chat.warm_up()
        await house.ticks(12)
        assert (house.chat.health.state, house.chat.health.up) == (ModelState.OTHER_NAME, True)
        assert house.server.counts.loads == len(names)
        assert len(house.sent("ping")) <= 4
        assert house.seen[ModelState.OTHER_NAME] == 1
        assert logged(caplog, "under another name") == ["INFO"]
        assert await house.is_primed()
        await house.other.chat(model="alba", keep_alive=0)
        await house.becomes(ModelState.WARM)
        assert "smollm2:latest" in await house.other.names()
        assert house.seen[ModelState.NOT_LOADED] == 1


@pytest.mark.parametrize("loaded_before", [True, False])
async def test_a_context_longer_than_the_model_allows_is_nobodys_fault(loaded_before: bool) -> None:
    async def loaded_by_others(house: KeptModel) -> None:
        await house.other.chat(keep_alive=-1, options={"num_ctx": 16_384})

    async with keeping(before=loaded_by_others if loaded_before else None, num_ctx=16_384) as house:
        await house.warm()
        await house.ticks()
        assert house.chat.keepalive.status.context_tokens == 8192
        assert house.server.counts.loads == 1
        assert ModelState.OTHER_CONTEXT not in house.seen


@pytest.mark.parametrize(
    ("share", "state", "words"),
    [(0.5, ModelState.PARTLY_ON_CPU, "(50% on the GPU"), (0.0, ModelState.ON_CPU, "the CPU")],
)
async def test_what_has_left_the_gpu_is_loaded_again_once(
    share: float, state: ModelState, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with keeping() as house:
        await house.warm()
        house.server.vram_share = share
        await until(lambda: house.server.counts.loads == 2)
        await house.becomes(state)
        await house.ticks()
        assert await house.is_primed()
        assert house.server.counts.loads == 2
        assert house.seen[state] == 1
        assert logged(caplog, words) == ["WARNING"]
        assert house.chat.health.up
        house.server.vram_share = 1.0
        await house.becomes(ModelState.WARM)
        assert len(logged(caplog, "is loaded and ready")) == 2
        house.server.vram_share = share
        await until(lambda: house.server.counts.loads == 3)


@pytest.mark.parametrize(
    ("gpus", "state", "words"),
    [
        ([{"name": "a GPU"}], ModelState.ON_CPU, "although there is a GPU: restart Ollama"),
        ([], ModelState.WARM, "loaded and ready (on the CPU, context 4096)"),
    ],
)
async def test_what_never_was_on_the_gpu_is_not_loaded_again(
    gpus: list[dict[str, str]], state: ModelState, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "gpus", lambda: gpus)

    async def without_gpu(house: KeptModel) -> None:
        house.server.vram_share = 0.0

    async with keeping(before=without_gpu) as house:
        await house.chat.warm_up()
        await house.ticks()
        assert (house.chat.health.state, house.chat.health.up) == (state, True)
        assert words in house.chat.health.message
        assert house.server.counts.loads == 1
        assert house.chat.keepalive.status.gpu_share == 0


@pytest.mark.parametrize("found_by", ["ping", "question"])
async def test_a_runner_that_died_idle_is_found(found_by: str, caplog: pytest.LogCaptureFixture) -> None:
    async with keeping(overhead_seconds=0.1) as house:
        await house.warm()
        house.server.load_seconds = 1
        house.server.kill_runner()
        if found_by == "question":
            assert await house.asked() == "Paris it is."
        await until(lambda: ModelState.RUNNER_DIED in house.seen)
        assert (house.chat.keepalive.status.load_seconds or 0) >= 1
        while await house.other.left() < DECADE:  # the test has a time limit
            await house.ticks(1)
        await house.becomes(ModelState.WARM)
        await house.ticks()
        assert await house.is_primed()
        assert (house.server.counts.reloads, house.seen[ModelState.RUNNER_DIED]) == (1, 1)
        assert ModelState.FOREIGN_KEEP_ALIVE not in house.seen  # nobody else has said anything
        assert logged(caplog, "smollm2 had died though Ollama at http://127.0.0.1") == ["WARNING"]


@pytest.mark.parametrize("during", ["ping", "prime"])
async def test_a_silent_server_is_named_and_found_again(during: str, caplog: pytest.LogCaptureFixture) -> None:
    async with keeping() as house:
        await house.chat.warm_up()
        if during == "ping":
            house.server.overhead_seconds = 60
        else:
            house.server.prefill_seconds_per_token = 60
            house.chat.prepare([SYSTEM, Message("user", "Hello")])
        await house.sends(during)
        house.server.freeze()
        house.server.overhead_seconds = house.server.prefill_seconds_per_token = 0
        await house.becomes(ModelState.SILENT)
        assert not house.chat.health.up
        house.server.thaw()
        await house.becomes(ModelState.WARM)
        assert house.server.counts.loads == 1
        assert logged(caplog, "if this lasts, restart Ollama") == ["WARNING"]


async def test_a_server_that_goes_away_while_it_loads_is_unreachable() -> None:
    async with keeping(load_seconds=60) as house:
        await house.sends("ping")
        assert house.chat.health.state == ModelState.LOADING
        await house.server.stop()
        await house.becomes(ModelState.UNREACHABLE)
        house.server.load_seconds = 0
        await house.server.start()
        await house.becomes(ModelState.WARM)


async def test_a_question_that_fails_makes_the_model_prove_itself() -> None:
    async with keeping() as house:
        await house.warm()
        house.server.faults = [Fault.CRASH, Fault.CRASH]
        with pytest.raises(ChatUnavailable, match="500"):
            await house.asked()
        assert (house.chat.health.state, house.chat.health.up) == (ModelState.FAILING, False)
        assert "500" in house.chat.health.message
        await until(lambda: house.chat.health.up)
        assert [len(house.sent(kind)) for kind in ("chat", "prime")] == [1, 3]
        assert await house.asked() == "Paris it is."


class _Stumbling(OllamaApi):
    """Has a bug that shows once."""

    stumbles = 1

    async def loaded(self, seconds: float) -> list[LoadedModel]:
        if self.stumbles:
            self.stumbles -= 1
            raise ZeroDivisionError("a bug")
        return await super().loaded(seconds)


class _Forgetful(OllamaApi):
    """Talks to an Ollama that heeds no keep-alive."""

    async def loaded(self, seconds: float) -> list[LoadedModel]:
        soon = datetime.now(UTC) + timedelta(minutes=5)
        return [replace(entry, expires_at=soon) for entry in await super().loaded(seconds)]


@asynccontextmanager
async def kept(api_type: type[OllamaApi], house: KeptModel) -> AsyncIterator[KeepAliveTimer]:
    """Run a timer of its own over this kind of connection."""
    api = api_type(OllamaSettings(type="ollama", url=house.server.url, model="smollm2"), ChatSettings())
    settings = KeepAliveSettings(interval_seconds=INTERVAL_SECONDS)
    timer = KeepAliveTimer(api, settings, [Message("system", "Be brief.")], patience_seconds=1)
    try:
        async with meanwhile(timer.run()):
            yield timer
    finally:
        await api.close()


async def test_a_bug_does_not_end_the_timer(caplog: pytest.LogCaptureFixture) -> None:
    async with keeping(watched=False) as house:
        async with kept(_Stumbling, house) as timer:
            with pytest.raises(ChatUnavailable, match="a bug"):
                await timer.settled()
            await until(lambda: timer.states.state is ModelState.WARM)
            assert timer.health.up
        (traceback,) = [r for r in caplog.records if r.exc_info and r.levelno >= logging.ERROR]
        assert "the keep-alive of smollm2 failed" in traceback.getMessage()


async def test_a_server_that_heeds_no_keep_alive_is_not_told_again_and_again() -> None:
    async with keeping(watched=False, overhead_seconds=0.1) as house, kept(_Forgetful, house) as timer:
        await until(lambda: timer.status.requests.get("look", 0) > 20)
        assert timer.status.requests["ping"] <= 3
        assert (timer.states.state, timer.health.up) == (ModelState.FOREIGN_KEEP_ALIVE, True)
        assert timer.states.seen[ModelState.FOREIGN_KEEP_ALIVE] == 1


def of_the_product(task: asyncio.Task[Any]) -> bool:
    """Tell whether a task runs code of the package, and not of a stand-in."""
    coroutine = task.get_coro()
    return isinstance(coroutine, CoroutineType) and "/satellite/" in coroutine.cr_code.co_filename


async def test_the_end_of_the_timer_leaves_nothing_behind() -> None:
    async with keeping(watched=False, prefill_seconds_per_token=0.02) as house:
        before_any = asyncio.all_tasks()
        for kind in ("look", "ping", "prime"):
            house.server.overhead_seconds = 0.3 if kind == "ping" else 0.0
            async with kept(OllamaApi, house):
                await house.sends(kind)
            await until(lambda: not any(map(of_the_product, asyncio.all_tasks() - before_any)))
        await until(house.server.abandoned.is_set)  # the prime that was being read
