"""A house without a hurry for a model: commands, timers that ring in their room, and Home Assistant before the chat.

It takes a minute, for what is said and what rings in the rooms takes as long as it does.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from wyoming.asr import Transcript
from wyoming.event import Event

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from satellite.config.loader import parse
from satellite.skills.home_assistant.agent import HomeAssistantResponder
from satellite.skills.timers.timers import Duration, Timer, Timers
from satellite.wire import client as our_client
from tests.doubles.home_assistant import Fault, HomeAssistantServer
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import NABU, PAUSE, spoken, understood
from tests.home import SILENT
from tests.running_daemon import CLEAR_VOICE, DATA, RunningDaemon, on_loop_of
from tests.waiting import until
from tests.wyoming_client import connect

pytestmark = pytest.mark.models

T = TypeVar("T")

WHAT_TIME = read_wav(DATA / "commands" / "what_time_is_it.wav")
QUIETLY = bytes(3 * BYTES_PER_SECOND // 2)


class World:
    """Home Assistant and two satellites, in a thread of their own, and the daemon that knows them."""

    def __init__(self, state: Path, portal: BlockingPortal) -> None:
        self.state = state
        self.home = HomeAssistantServer(token="secret")
        self.kitchen = ScriptedSatellite(mode="wake", name="kitchen")
        self.bedroom = ScriptedSatellite(mode="always", name="bedroom")
        self.daemon: RunningDaemon
        self._portal = portal

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        async def awaited() -> T:
            return await coroutine

        return self._portal.call(awaited)

    def settle(self) -> None:
        self.daemon.settle()

    async def spoken(self, text: str) -> bytes:
        return PAUSE + await spoken(self.daemon, text, quiet_seconds=1.5)

    async def said(self, pcm: bytes) -> dict[str, Any]:
        self.forget()
        await self.kitchen.wake()
        await self.kitchen.say(pcm)
        answered = (await self.kitchen.until("handled", "error")).data
        if answered.get("text"):
            await self.kitchen.until("audio-stop")
        return answered

    def forget(self) -> None:
        """Wait from now on for events that are yet to come."""
        for room in (self.kitchen, self.bedroom):
            room.forget()

    async def heard(self, room: ScriptedSatellite) -> str:
        return await asyncio.to_thread(self.daemon.call, understood(self.daemon, room))

    def on_timers(self, work: Callable[[Timers], T]) -> T:
        async def done() -> T:
            assert self.daemon.daemon.timer_scheduler is not None
            return work(self.daemon.daemon.timer_scheduler.timers)

        return self.daemon.call(done())

    def timers(self) -> list[Timer]:
        return self.on_timers(lambda timers: timers.all())

    def start_timer(self, seconds: int, place: str, **details: str) -> None:
        self.on_timers(lambda timers: timers.start(Duration(seconds=seconds), place=place, **details))

    def silence(self) -> None:
        def end(timers: Timers) -> None:
            timers.silence()
            for timer in timers.pending():
                timers.cancel(timer)
            timers.heard(timers.missed(None))

        self.on_timers(end)


@pytest.fixture(scope="module")
def house(models_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with start_blocking_portal() as portal, ExitStack() as stack:
        world = World(tmp_path_factory.mktemp("timers"), portal)
        for one in (world.home, world.kitchen, world.bedroom):
            stack.enter_context(portal.wrap_async_context_manager(one))
        config = parse(
            f"models: {{directory: {models_directory}}}\nzeroconf: {{enabled: false}}\nwyoming: {{host: 127.0.0.1}}\n"
            f"{CLEAR_VOICE}endpoint: {{no_speech_seconds: 2.5}}\n"
            f"commands: {{state_directory: {world.state}}}\n"
            f"home_assistant: {{url: '{world.home.url}', token: secret, deadline_seconds: 0.5}}\n"
            f"rooms:\n  - {{name: kitchen, uri: '{world.kitchen.uri}'}}\n"
            f"  - {{name: bedroom, uri: '{world.bedroom.uri}', area: Parents}}\n"
        )
        with RunningDaemon(config) as world.daemon:
            world.call(until(lambda: world.kitchen.claimed and world.bedroom.claimed))
            yield world


@pytest.fixture
def world(house: World) -> Iterator[World]:
    house.forget()
    house.daemon.daemon._stages.dialogue._conversations.pop("room kitchen", None)
    yield house
    house.silence()
    house.home.fault, house.home.faults = None, []


@asynccontextmanager
async def asking(world: World) -> AsyncIterator[Callable[..., Coroutine[Any, Any, Event]]]:
    async with connect(world.daemon.port()) as client:

        async def asked(text: str, context: dict[str, Any] | None = None) -> Event:
            await client.send(Transcript(text=text, language="en", context=context))
            events = await client.until("handled-stop", "not-handled", "error")
            return next(event for event in events if event.type.endswith(("handled", "error")))

        yield asked


# Timers in a room.


@on_loop_of("world")
async def test_a_spoken_timer_rings_until_somebody_calls(world: World) -> None:
    command = await world.spoken("Set a timer for three seconds.")
    before = len(world.kitchen.speaker.utterances)
    answered = await world.said(command)
    assert answered["context"]["provider"] == "commands"
    assert answered["text"] == "Timer set for 3 seconds"
    assert "3 seconds" in await world.heard(world.kitchen)
    started = await world.kitchen.until("timer-started")
    assert started.data["total_seconds"] == 3
    finished = await world.kitchen.until("timer-finished")
    assert finished.data["id"] == started.data["id"]
    assert finished.at - started.at > 2.9
    await world.kitchen.until("audio-stop")
    assert "timer is done" in (await world.heard(world.kitchen)).lower()
    await until(lambda: len(world.kitchen.speaker.utterances) == before + 3)  # again
    await world.kitchen.wake()
    await world.kitchen.until("audio-stop")
    await until(lambda: not world.timers())
    assert (await world.kitchen.until("error")).data["code"] == "stt-no-speech"
    assert len(world.kitchen.speaker.utterances) == before + 3
    assert not [event for event in world.bedroom.events if event.type.startswith("timer-")]


@on_loop_of("world")
async def test_the_wake_word_ends_the_ringing_in_a_room_that_streams(world: World) -> None:
    never_mind = await world.spoken("Never mind.")
    await asyncio.to_thread(world.start_timer, 1, "bedroom", name="tea")
    await world.bedroom.until("audio-start")
    await world.bedroom.say(NABU)
    await world.bedroom.until("detection")
    await until(lambda: not world.timers())
    await world.bedroom.say(never_mind)
    assert (await world.bedroom.until("handled", "error")).data["text"] == ""
    await world.bedroom.until("detect")


@on_loop_of("world")
async def test_a_timer_waits_politely_for_a_conversation(world: World) -> None:
    question = await world.spoken("What is the capital of France?")
    before = len(world.kitchen.speaker.utterances)
    await world.kitchen.wake()
    asyncio.get_running_loop().call_later(0.5, world.start_timer, 1, "kitchen")
    await world.kitchen.say(question)
    await world.kitchen.until("timer-finished")
    await until(lambda: len(world.kitchen.speaker.utterances) == before + 2)
    assert world.kitchen.speaker.utterances[before].stopped_at is not None
    await world.kitchen.until("audio-stop")
    await world.kitchen.until("audio-stop")
    assert "timer" in (await world.heard(world.kitchen)).lower()


# What is answered, by whom.


@on_loop_of("world")
async def test_what_is_said_in_a_room_is_answered_by_whoever_understands_it(world: World) -> None:
    world.home.entities[0].area = world.home.devices[0].area = "kitchen"  # as the room is called
    await _found(world)
    texts = {
        "Never mind.": ("commands", ""),
        "Turn on the lights.": ("home_assistant", "Turned on the lights"),
        "What is the capital of France?": ("local", "Paris"),
    }
    world.home.executed.clear()
    sentences, utterances = world.home.sentences, len(world.kitchen.speaker.utterances)
    for text, (provider, expected) in texts.items():
        answered = await world.said(await world.spoken(text))
        assert answered["context"]["provider"] == provider
        assert expected in answered["text"]
        assert not world.kitchen.streaming
    assert len(world.kitchen.speaker.utterances) == utterances + 2  # "never mind" is answered without a word
    assert "paris" in (await world.heard(world.kitchen)).lower()
    assert world.home.executed == {"light.kitchen on": 1}
    assert world.home.sentences == sentences + 2
    first = await world.said(WHAT_TIME + QUIETLY)
    again = await world.said(await world.spoken("Say that again."))
    assert (again["text"], again["context"]["provider"]) == (first["text"], "commands")


@on_loop_of("world")
async def test_the_conversation_service_answers_alike(world: World) -> None:
    async with asking(world) as asked:
        context = {"conversation_id": "typed", "theirs": 1}
        answered = await asked("What time is it?", context)
        assert answered.data["context"].items() >= {**context, "provider": "commands"}.items()
        assert (await asked("Say that again.", context)).data["text"] == answered.data["text"]
        assert (await asked("Never mind.")).data["text"] == ""
        assert (await asked("Turn on the bedroom light.")).data["context"]["provider"] == "home_assistant"
        assert (await asked("What time does the sun rise?")).data["context"]["provider"] == "local"
        kitchen = {"device_id": "d-kitchen", "satellite_id": "assist_satellite.kitchen"}
        assert (await asked("Turn on the lights.", kitchen)).data["text"] == "Turned on the lights"
        assert (await asked("Set a timer for 5 minutes.", kitchen)).data["text"] == "Timer set"
        assert world.home.timers == [("d-kitchen", "5 minutes")]
        refused = await asked("Set a timer for 5 minutes.")
        assert refused.data["text"] == "Sorry, timers are not supported on this device"
        assert await asyncio.to_thread(world.timers) == []
        await asked("Set a timer for 5 minutes in the parents.", kitchen)
    assert (await world.bedroom.until("timer-started")).data["total_seconds"] == 300
    assert (await our_client.described(world.daemon.uri)).handle[0].supports_home_control
    responders = {one["responder"]: one for one in (await our_client.status(world.daemon.uri))["responders"]}
    assert responders["commands"]["message"] == "timers: 1 running"
    assert "en" in responders["commands"]["languages"]
    assert responders["home_assistant"]["state"] == "ready"
    await until((world.state / "timers.json").exists)
    metrics = (await our_client.command(world.daemon.uri, "metrics"))["text"]
    assert 'satellite_responder_up{responder="home_assistant"} 1.0' in metrics
    assert 'satellite_timers{state="running"} 1.0' in metrics
    world.home.faults = [Fault.HANG]
    async with asking(world) as asked:
        assert (await asked("Turn on the bedroom light.")).data["text"] == SILENT
        assert (await asked("What is the capital of France?")).data["context"]["provider"] == "local"


async def _found(world: World) -> None:
    async def looked() -> None:
        home = next(one for one in world.daemon.daemon._stages.responders if isinstance(one, HomeAssistantResponder))
        home.targets.expire()
        await until(lambda: home.targets.of("kitchen").device == "d-kitchen")

    await asyncio.to_thread(world.daemon.call, looked())
