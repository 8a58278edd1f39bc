"""The Wyoming servers that serve a stage in place of a local engine: which answer, and which gets a request.

Each request goes to the least busy server that is known to answer; if it fails before it has answered, the next one
gets it. Nothing is elected or sharded here.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from wyoming.info import Info

from satellite.errors import STAGE_ERRORS, DaemonUnreachable, ProtocolError, SatelliteError, Stage
from satellite.wire import client

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

_DESCRIBE_SECONDS = 3.0
_RETRY_SECONDS = 1.0
"""Interval at which a server that does not answer is checked."""

_PROGRAMS = {Stage.WAKE: "wake", Stage.STT: "asr", Stage.TTS: "tts"}
"""Field of a server's `info` that lists the programs of a stage."""


@dataclass(slots=True)
class Host:
    """One server."""

    uri: str
    trouble: str = "not asked yet"
    """Why requests go elsewhere; empty while it answers."""

    requests: int = 0
    """Requests and streams in progress."""

    checked_at: float = float("-inf")
    info: Info = field(default_factory=Info)


class Hosts:
    """The servers of one stage."""

    def __init__(self, stage: Stage, uris: Sequence[str], seconds: float, *, check_seconds: float = 10.0) -> None:
        """Use the servers at `uris`, which may take `seconds` together for one request.

        A server that answers is checked every `check_seconds`.
        """
        self.stage = stage
        self._hosts = [Host(uri) for uri in uris]
        self._seconds = seconds / len(self._hosts)
        self._check_seconds = check_seconds

    @property
    def count(self) -> int:
        """How many servers are configured."""
        return len(self._hosts)

    @property
    def summary(self) -> str:
        """The state of each server, for an administrator."""
        return "; ".join(f"{host.uri} {host.trouble or 'answers'}" for host in self._hosts)

    @property
    def trouble(self) -> str:
        """Why the stage is unavailable; empty while a server answers."""
        return "" if any(not host.trouble for host in self._hosts) else f"no server answers: {self.summary}"

    @property
    def info(self) -> Info:
        """The description of the first server that answers."""
        return next((host.info for host in self._hosts if not host.trouble), self._hosts[0].info)

    @property
    def idle(self) -> bool:
        """Whether no request of ours is in progress."""
        return not any(host.requests for host in self._hosts)

    async def load(self) -> None:
        """Check all servers; those that do not answer may come later."""
        await asyncio.gather(*(self._check(host) for host in self._hosts))

    async def watch(self) -> None:
        """Check them again and again until cancelled."""
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            now = time.monotonic()
            due = [host for host in self._hosts if host.trouble or now - host.checked_at >= self._check_seconds]
            await asyncio.gather(*(self._check(host) for host in due))

    async def first(self, ask: Callable[[Host], Awaitable[T]], *, patience: float = 1.0) -> T:
        """Return the result of `ask` for the first server that does not fail.

        Each may take `patience` times as long as usual. Raises a `StageError` with the reason of each server.
        """
        seconds = self._seconds * patience
        reasons: list[str] = []
        refusal = ""
        # Servers in trouble come last: their state may be old, and there may be no other.
        for host in sorted(self._hosts, key=lambda host: (bool(host.trouble), host.requests)):
            host.requests += 1
            try:
                async with asyncio.timeout(seconds):
                    found = await ask(host)
            except (SatelliteError, OSError) as error:
                reason = _reason(error, seconds)
                reasons.append(f"{host.uri} {reason}")
                if isinstance(error, DaemonUnreachable | ProtocolError | OSError):
                    self.note(host, reason)
                elif isinstance(error, SatelliteError):  # reported by the server, which is therefore in order
                    refusal = refusal or error.code
            else:
                self.note(host, "")
                return found
            finally:
                host.requests -= 1
        kind = refusal.removeprefix(f"{self.stage}-") if refusal.startswith(f"{self.stage}-") else "failed"
        raise STAGE_ERRORS[self.stage](f"no server answers: {'; '.join(reasons)}", kind=kind)

    def note(self, host: Host, trouble: str) -> None:
        """Record the state of a server; changes are logged."""
        if bool(trouble) is not bool(host.trouble):
            _LOGGER.log(
                logging.WARNING if trouble else logging.INFO, "%s: %s %s", self.stage, host.uri, trouble or "answers"
            )
        host.trouble = trouble

    async def _check(self, host: Host) -> None:
        host.checked_at = time.monotonic()
        try:
            async with asyncio.timeout(_DESCRIBE_SECONDS):
                host.info = await client.described(host.uri)
        except (SatelliteError, OSError) as error:
            self.note(host, _reason(error, _DESCRIBE_SECONDS))
        else:
            self.note(host, "" if getattr(host.info, _PROGRAMS[self.stage]) else f"offers no {self.stage}")


def _reason(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"was silent for {seconds:g} s"
    return str(error) or type(error).__name__
