"""The Wyoming servers that are asked in place of an engine here: which of them answer, and which is asked first.

Nothing here elects or shards: the least busy server that is known to answer is asked, and the next one if it fails
before it has answered.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from wyoming.info import Info

from satellite.errors import STAGE_ERRORS, SatelliteError, Stage
from satellite.wire import client

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

_DESCRIBE_SECONDS = 3.0
_LOOK_DOWN_SECONDS = 1.0
"""How often a server that does not answer is looked at."""

_OFFERED = {Stage.WAKE: "wake", Stage.STT: "asr", Stage.TTS: "tts"}
"""What a server's `info` calls the programs of a stage."""


@dataclass(slots=True)
class _Host:
    uri: str
    trouble: str = "not asked yet"
    """Why it is not worth asking; empty while it answers."""

    asked: int = 0
    """Requests and streams under way."""

    looked_at: float = float("-inf")
    info: Info = field(default_factory=Info)


class Hosts:
    """The servers of one stage."""

    def __init__(self, stage: Stage, uris: Sequence[str], seconds: float, *, look_seconds: float = 10.0) -> None:
        """Ask the servers at `uris`; all of them together may take `seconds` for one request.

        One that answers is looked at every `look_seconds`.
        """
        self.stage = stage
        self._hosts = [_Host(uri) for uri in uris]
        self._seconds = seconds / len(self._hosts)
        self._look_seconds = look_seconds

    @property
    def count(self) -> int:
        """How many servers there are, whether they answer or not."""
        return len(self._hosts)

    @property
    def summary(self) -> str:
        """How each server is, for an administrator."""
        return "; ".join(f"{host.uri} {host.trouble or 'answers'}" for host in self._hosts)

    @property
    def trouble(self) -> str:
        """Why the stage cannot be had; empty while a server answers."""
        return "" if any(not host.trouble for host in self._hosts) else f"no server answers: {self.summary}"

    @property
    def info(self) -> Info:
        """What the first server that answers has told of itself."""
        return next((host.info for host in self._hosts if not host.trouble), self._hosts[0].info)

    @property
    def idle(self) -> bool:
        """Whether none of them has anything to do for us."""
        return not any(host.asked for host in self._hosts)

    async def load(self) -> None:
        """Look at all of them; one that does not answer yet may come later."""
        await asyncio.gather(*(self._look(host) for host in self._hosts))

    async def watch(self) -> None:
        """Look at them again and again until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_DOWN_SECONDS)
            now = time.monotonic()
            due = [host for host in self._hosts if host.trouble or now - host.looked_at >= self._look_seconds]
            await asyncio.gather(*(self._look(host) for host in due))

    async def first(self, ask: Callable[[str], Awaitable[T]], *, patience: float = 1.0) -> T:
        """Return what `ask` makes of the address of the first server that does not fail.

        Each may take `patience` times as long as usual; those in trouble come last. Raises a `StageError` that names
        each one's reason.
        """
        order = sorted(self._hosts, key=lambda host: (bool(host.trouble), host.asked))
        seconds = self._seconds * patience
        reasons: list[str] = []
        refusal = ""
        for host in order:
            host.asked += 1
            try:
                async with asyncio.timeout(seconds):
                    found = await ask(host.uri)
            except Exception as error:  # noqa: BLE001  # the engine seam: a server may send anything
                reason = _reason(error, seconds)
                reasons.append(f"{host.uri} {reason}")
                if type(error) is SatelliteError:  # it lives, and has said why it will not do this
                    refusal = refusal or error.code
                else:
                    self._note(host, reason)
            else:
                self._note(host, "")
                return found
            finally:
                host.asked -= 1
        kind = refusal.removeprefix(f"{self.stage}-") if refusal.startswith(f"{self.stage}-") else "failed"
        raise STAGE_ERRORS[self.stage](f"no server answers: {'; '.join(reasons)}", kind=kind)

    def trouble_of(self, uri: str) -> str:
        """Return why the server at `uri` is not worth asking; empty while it answers."""
        return self._at(uri).trouble

    def note(self, uri: str, trouble: str) -> None:
        """Note what somebody saw of the server at `uri`, who has a connection to it."""
        self._note(self._at(uri), trouble)

    def hold(self, uri: str, streams: int) -> None:
        """Count `streams` more (or less, negative) that the server at `uri` serves."""
        self._at(uri).asked += streams

    def _at(self, uri: str) -> _Host:
        return next(host for host in self._hosts if host.uri == uri)

    async def _look(self, host: _Host) -> None:
        host.looked_at = time.monotonic()
        try:
            async with asyncio.timeout(_DESCRIBE_SECONDS):
                host.info = await client.described(host.uri)
            if not getattr(host.info, _OFFERED[self.stage]):
                raise SatelliteError(f"offers no {self.stage}")
        except Exception as error:  # noqa: BLE001  # the engine seam: a server may send anything
            self._note(host, _reason(error, _DESCRIBE_SECONDS))
        else:
            self._note(host, "")

    def _note(self, host: _Host, trouble: str) -> None:
        """Note how a server is; told when that changes."""
        if bool(trouble) is not bool(host.trouble):
            _LOGGER.log(
                logging.WARNING if trouble else logging.INFO, "%s: %s %s", self.stage, host.uri, trouble or "answers"
            )
        host.trouble = trouble


class RemoteEngine:
    """What engines on other machines have in common."""

    def __init__(self, hosts: Hosts) -> None:
        """Ask `hosts`."""
        self._hosts = hosts

    @property
    def device(self) -> str:
        """Where it runs, and how the servers are."""
        return self._hosts.summary

    @property
    def trouble(self) -> str:
        """Why it cannot be had; empty while a server answers."""
        return self._hosts.trouble


def _reason(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"was silent for {seconds:g} s"
    return str(error) or type(error).__name__
