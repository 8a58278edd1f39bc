"""The intercom: calls between rooms, whatever their transports."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from satellite.config.rooms import HubSettings
from satellite.errors import SatelliteError
from satellite.rooms.call import Call
from satellite.rooms.hub import Hub
from satellite.rooms.room import Room
from satellite.tasks import begin_task, end_tasks, failure_of, log_failure

_LOGGER = logging.getLogger(__name__)

_READY_SECONDS = 10.0
"""How long the rooms may take, for somebody may speak with one of them, or a device has to open its microphone."""

_GOODBYE_SECONDS = 5.0
"""How long a room may take to play that the call is over, where nothing else is to begin there."""


class Intercom:
    """All calls of the house."""

    def __init__(self, hub: Hub, settings: Callable[[], HubSettings]) -> None:
        """Connect rooms of `hub`, for `call_seconds` of `settings()` at the longest."""
        self._hub = hub
        self._settings = settings
        self._tasks: dict[Call, asyncio.Task[None]] = {}

    @property
    def calls(self) -> list[Call]:
        """Return the calls that are under way."""
        return list(self._tasks)

    async def call(self, caller: str, callee: str) -> Call:
        """Connect two rooms, and return once both hear each other.

        Raises `SatelliteError`: `unknown-room`; `room-busy` for a room that is in a call, or in which somebody speaks;
        `room-unreachable`, `room-cannot-start`, or `room-listens-only`.
        """
        rooms = self._hub.room(caller), self._hub.room(callee)
        if caller == callee:
            raise SatelliteError(f"{caller} cannot call itself", code="room-busy")
        for name in (caller, callee):
            if self._call_of(name) is not None:
                raise SatelliteError(f"{name} is in a call already", code="room-busy")
        call = Call(caller, callee)
        task = self._tasks[call] = begin_task(self._run(call, rooms), f"call {caller} to {callee}")
        task.add_done_callback(lambda _: self._ended(call, task))
        try:
            await _wait(call.begun(), _READY_SECONDS)
            if call.began_at is None:
                call.end("it did not begin")
                await asyncio.wait([task])
                raise failure_of(task) or SatelliteError(
                    f"{caller} and {callee} were not both ready within {_READY_SECONDS:g} s", code="room-busy"
                )
        except asyncio.CancelledError:
            call.end("nobody waits for it any more")
            raise
        return call

    def hang_up(self, room: str) -> bool:
        """End the call that a room is in; return whether there was one."""
        call = self._call_of(room)
        if call is not None:
            call.end(f"{room} has hung up")
        return call is not None

    async def close(self) -> None:
        """End all calls."""
        await end_tasks(*self._tasks.values())

    def _ended(self, call: Call, task: asyncio.Task[None]) -> None:
        del self._tasks[call]
        log_failure(task)

    def _call_of(self, name: str) -> Call | None:
        return next((call for call in self._tasks if not call.over and name in (call.caller, call.callee)), None)

    async def _run(self, call: Call, rooms: tuple[Room, Room]) -> None:
        sides = zip(rooms, call.sides, strict=True)
        joining = [begin_task(room.join(side), f"call in {side.room}") for room, side in sides]
        try:
            await _wait(call.begun(), _READY_SECONDS)
            if call.began_at is not None:
                await _wait(call.ended(), self._settings().call_seconds)
            call.end("it may not take longer")
            await asyncio.wait(joining, timeout=_GOODBYE_SECONDS)
        finally:
            call.end("the daemon stops")
            await end_tasks(*joining)
        fields = {"room": call.callee}
        _LOGGER.info(
            "call from %s to %s: %.0f s; %s", call.caller, call.callee, call.seconds, call.reason, extra=fields
        )
        failures = [failure for task in joining if (failure := failure_of(task)) is not None]
        if failures and call.began_at is None:
            raise failures[0]
        for failure in failures:
            _LOGGER.warning("call from %s to %s: %s", call.caller, call.callee, failure, extra=fields)


async def _wait(work: Coroutine[Any, Any, None], seconds: float) -> None:
    """Wait until `work` is done, for `seconds` at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work
