"""Any two things that a room is told in quick succession, and a stop: nothing hangs, sounds, listens or is held up."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from satellite.errors import SatelliteError
from satellite.rooms.call import Call
from tests.loudness import silence, speech
from tests.scripted_engine import WAKE_WORD, ScriptedEngine, scripted_stages
from tests.scripted_rooms import STREAMING, ScriptedRoom, scripted_room, tone
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock

ENDING_SECONDS = 0.7  # of sound that was sent ahead, or of a chime of a call


async def call(room: ScriptedRoom) -> None:
    one = Call("kitchen", "study")
    await asyncio.gather(room.conversation.join(one.sides[0]), one.sides[1].ready())


async def command(room: ScriptedRoom) -> None:
    room.say(WAKE_WORD, silence(10), speech(30), silence(60))


OPERATIONS: dict[str, Callable[[ScriptedRoom], Awaitable[object]]] = {
    "ask": lambda room: room.conversation.ask(tone(20)),
    "listen": lambda room: room.conversation.ask(None),
    "start": lambda room: room.conversation.start(),
    "stop": lambda room: room.conversation.stop(),
    "mute": lambda room: room.conversation.set_muted(True),
    "unmute": lambda room: room.conversation.set_muted(False),
    "listen only": lambda room: room.conversation.set_listen_only(True),
    "play": lambda room: room.conversation.play(tone(20)),
    "announce": lambda room: room.conversation.announce(tone(20)),
    "call": call,
    "command": command,
}


async def told(room: ScriptedRoom, operation: str) -> None:
    with suppress(SatelliteError):
        await OPERATIONS[operation](room)


async def stopped(room: ScriptedRoom, under_way: list[asyncio.Task[None]]) -> None:
    """Assert that a stop ends what is under way; what has waited for its turn begins then, and ends by the next one."""
    room.said = b""
    for _ in range(3):
        _, waiting = await asyncio.wait(under_way, timeout=2 * ENDING_SECONDS)
        if waiting:
            await room.conversation.stop()
    assert not waiting, "hangs"
    conversation, before = room.conversation, room.seconds()
    await asyncio.sleep(ENDING_SECONDS)
    assert room.seconds() == before, "sounds"
    assert not conversation.engaged, "listens"
    assert not conversation.expects_command, "waits for a command"
    assert (conversation.activity, conversation.sounding) in (("idle", None), ("waiting for the wake word", None))
    await conversation.set_muted(False)
    await conversation.set_listen_only(False)
    async with asyncio.timeout(1):
        await conversation.announce(tone(0.1))


@pytest.mark.parametrize("pause", [0, 0.2])
@pytest.mark.parametrize("first", OPERATIONS)
@pytest.mark.parametrize("transport", [*STREAMING, "waking", "speech"])
async def test_a_stop_ends_any_two(transport: str, first: str, pause: float, tmp_path: Path) -> None:
    heard = ScriptedEngine(answer=["One two three four five six."])
    for second in set(OPERATIONS) - ({"call"} if first == "call" else set()):  # the intercom refuses a second call
        async with scripted_room(transport, scripted_stages(heard), tmp_path, name=second) as room:
            under_way = [asyncio.create_task(told(room, first))]
            await asyncio.sleep(pause)
            under_way.append(asyncio.create_task(told(room, second)))
            await asyncio.sleep(pause)
            if second != "stop":
                await room.conversation.stop()
            await stopped(room, under_way)


@pytest.mark.parametrize("transport", STREAMING)
async def test_between_two_runs_a_stop_ends_a_start(transport: str, tmp_path: Path) -> None:
    async with scripted_room(transport, scripted_stages(ScriptedEngine(answer=["One."])), tmp_path) as room:
        await command(room)
        await until(lambda: room.conversation.sounding == "answer")
        run = room.conversation._run
        assert run is not None
        done: list[asyncio.Task[None]] = []
        run.add_done_callback(lambda _: done.extend(asyncio.create_task(told(room, one)) for one in ("start", "stop")))
        await until(lambda: bool(done))
        await stopped(room, done)
