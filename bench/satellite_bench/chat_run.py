"""The chat part from beginning to end: which servers and daemons are started for which measurement."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from satellite.errors import SatelliteError
from satellite_bench import chat, chat_bare, chat_servers
from satellite_bench.chat import AnswerFigures, IdleFigures
from satellite_bench.chat_bare import Bare, Overhead
from satellite_bench.chat_cost import KeepAliveCost, Rest
from satellite_bench.chat_servers import ChatDaemon, Daemons
from satellite_bench.server import free_port
from satellite_bench.stats import Compared

_ANSWER_REPEATS = 2
_MODEL_PAIRS = 2
"""Of each message."""

_SCRIPT_PAIRS = 3
_SWITCH_REPEATS = 3
_MOST_IDLE_REPEATS = 3
_IDLE_SECONDS = 20.0
"""What the repeats of one idle time may take together."""

_WARM = 5
"""Least number of warm answers beside each idle time."""

_SHORT_KEEP_ALIVE_SECONDS = 2.0

_SECONDS_PER_WORD = 0.01
"""The pace of the model, as it was seen on a CPU."""

_SCRIPT = "It is twenty one degrees in the living room and the door is locked."


@dataclass(frozen=True, slots=True)
class ChatPlan:
    """Which chat server to measure against."""

    url: str | None = None
    """A real Ollama; None starts a stand-in."""

    model: str = chat_servers.MODEL
    num_ctx: int = 4096
    idle_seconds: Sequence[float] = (5.0, 60.0)
    rest_seconds: float = 20.0
    """How long CPU time is read off at least; the kernel counts it in hundredths of a second."""


@dataclass(slots=True)
class ChatResult:
    """What was found; what could not be measured is missing, and named in `problems`."""

    DESCRIBED: ClassVar = ("failures",)

    server: str
    answers: AnswerFigures | None = None
    idle: list[IdleFigures] = field(default_factory=list)
    overhead: list[Overhead] = field(default_factory=list)
    switch_first_word_ms: Compared | None = None
    """The second provider's first word: ours is with a first provider that is down, theirs without one."""

    keep_alive: KeepAliveCost | None = None
    problems: list[str] = field(default_factory=list, repr=False)

    @property
    def failures(self) -> list[str]:
        """Everything that went wrong, single requests too."""
        of_answers = self.answers.failures if self.answers else ()
        return [*self.problems, *of_answers, *(failure for found in self.overhead for failure in found.failures)]


class ChatBench:
    """Measures one thing after the other, so that nothing that is measured is disturbed by anything else."""

    def __init__(
        self, plan: ChatPlan, daemons: Daemons, gguf: Path, *, repeats: int | None, on_status: Callable[[str], None]
    ) -> None:
        """Measure as planned; `gguf` is what the stand-in thinks with, `repeats` replaces all numbers of repeats."""
        self._plan = plan
        self._daemons = daemons
        self._gguf = gguf
        self._repeats = repeats
        self._on_status = on_status
        self._result = ChatResult(f"Ollama at {plan.url}, {plan.model}" if plan.url else f"a stand-in, {gguf.stem}")

    async def measure(self) -> ChatResult:
        """Return what was found."""
        measurements = [self._with_model, self._with_short_keep_alive, self._with_script, self._switching]
        if self._plan.url:
            measurements.remove(self._with_short_keep_alive)
        for measurement in measurements:
            with self._noted():
                await measurement()
        return self._result

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Turn an error of one measurement into a note, so that the others are still made."""
        try:
            yield
        except (SatelliteError, OSError) as error:
            self._result.problems.append(f"chat: {error}")

    def _progress(self, what: str) -> Callable[[int, int], None]:
        self._on_status(f"chat: {what}")
        return lambda done, of: self._on_status(f"chat: {what}: {done} of {of}")

    @asynccontextmanager
    async def _ollama(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the settings of a chat model at the server to be measured."""
        if self._plan.url:
            yield chat_servers.asking_ollama(self._plan.url, self._plan.model, self._plan.num_ctx)
            return
        async with self._thinking(300) as url:
            yield chat_servers.asking_ollama(url, num_ctx=self._plan.num_ctx)

    def _thinking(self, keep_alive_seconds: float) -> AbstractAsyncContextManager[str]:
        """Run a stand-in with a real model, which leaves a core to the daemon."""
        threads = max(1, self._daemons.threads - 1)
        words = ("--gguf", str(self._gguf), "--threads", str(threads))
        options = chat_servers.like_ollama(*words, keep_alive_seconds=keep_alive_seconds)
        return chat_servers.stand_in("ollama", *options)

    async def _with_model(self) -> None:
        self._on_status("chat: starting a daemon")
        async with self._ollama() as settings, self._daemons.running(settings) as daemon:
            with self._noted():
                repeats = self._repeats or _ANSWER_REPEATS
                progress = self._progress("different messages")
                self._result.answers = await chat.answers(daemon.handle, repeats=repeats, on_progress=progress)
            with self._noted():
                await self._idle(settings, daemon)
            with self._noted():
                await self._overhead(settings, daemon, "the model", self._repeats or _MODEL_PAIRS)

    async def _idle(self, settings: dict[str, Any], daemon: ChatDaemon) -> None:
        """Measure the first answers after idle times, and meanwhile what it costs to be ready for them."""
        async with self._daemons.running(settings, keeps_warm=False, name="satellite, keep-alive off") as leaving:
            rest = Rest(daemon.handle, leaving.handle)
            for seconds in self._plan.idle_seconds:
                self._on_status(f"chat: first answer after {seconds:g} s")
                repeats = self._repeats or idle_repeats(seconds)
                self._result.idle.append(
                    await chat.first_after(daemon.handle, seconds, repeats=repeats, warm=_WARM, rest=rest)
                )
            if rest.seconds < self._plan.rest_seconds:
                self._on_status("chat: CPU time at rest")
                await rest(self._plan.rest_seconds - rest.seconds)
            self._result.keep_alive = rest.cost()

    async def _with_short_keep_alive(self) -> None:
        """Measure the first answer after a time in which a model without keep-alive is unloaded."""
        kept_seconds = _SHORT_KEEP_ALIVE_SECONDS
        idle_seconds = kept_seconds + 1
        self._on_status(f"chat: first answer of a server that unloads after {kept_seconds:g} s")
        async with (
            self._thinking(kept_seconds) as url,
            self._daemons.running(chat_servers.asking_ollama(url, num_ctx=self._plan.num_ctx)) as daemon,
        ):
            repeats = self._repeats or idle_repeats(idle_seconds)
            self._result.idle.append(
                await chat.first_after(
                    daemon.handle, idle_seconds, repeats=repeats, warm=_WARM, unloads_after_seconds=kept_seconds
                )
            )

    async def _with_script(self) -> None:
        self._on_status("chat: starting a daemon")
        options = chat_servers.like_ollama("--say", _SCRIPT, "--seconds-per-token", f"{_SECONDS_PER_WORD:g}")
        async with chat_servers.stand_in("ollama", *options) as url:
            settings = chat_servers.asking_ollama(url)
            async with self._daemons.running(settings) as daemon:
                await self._overhead(settings, daemon, "a script", self._repeats or _SCRIPT_PAIRS)

    async def _overhead(self, settings: dict[str, Any], daemon: ChatDaemon, words: str, repeats: int) -> None:
        progress = self._progress(f"beside bare calls, words of {words}")
        async with Bare(settings) as bare:
            self._result.overhead.append(
                await chat_bare.overhead(daemon.handle, bare, words=words, repeats=repeats, on_progress=progress)
            )

    async def _switching(self) -> None:
        self._on_status("chat: switching to the second provider")
        nowhere = chat_servers.asking_ollama(f"http://127.0.0.1:{free_port()}")["providers"]
        async with (
            chat_servers.stand_in("openai", "--say", _SCRIPT) as url,
            self._daemons.running(chat_servers.asking_second(url, *nowhere), name="satellite, first down") as down,
            self._daemons.running(chat_servers.asking_second(url), name="satellite, second alone") as alone,
        ):
            for daemon in (down, alone):
                await chat.ask(daemon.handle.port, chat.MESSAGES[0])
            self._result.switch_first_word_ms, failures = await chat.switching(
                down.handle, alone.handle, second=chat_servers.SECOND, repeats=self._repeats or _SWITCH_REPEATS
            )
            self._result.problems += failures


def idle_repeats(seconds: float) -> int:
    """Return how often an idle time is measured: often where it is short, once where it is long."""
    return max(1, min(_MOST_IDLE_REPEATS, int(_IDLE_SECONDS / max(seconds, 1.0))))
