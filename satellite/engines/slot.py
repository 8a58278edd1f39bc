"""A place for an engine: callers wait for it to load, with a deadline, or get the reason why it could not."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from satellite.backoff import Backoff
from satellite.engines.protocols import ChatModel, Synthesizer, Transcriber, VoiceActivityDetector, WakeWordEngine
from satellite.errors import STAGE_ERRORS, SatelliteError, Stage, in_words

_LOGGER = logging.getLogger(__name__)

_FIRST_BACKOFF_SECONDS = 1.0
_LONGEST_BACKOFF_SECONDS = 8.0
"""An engine that failed for a passing reason is back within ten seconds."""

_CHECK_SECONDS = 1.0
"""Interval at which the files of an engine that failed are checked, which costs next to nothing."""

_PAUSE_FACTOR = 20.0
"""Pause before the next attempt, as a multiple of how long one took, as long as no file has changed."""

_LONGEST_PAUSE_SECONDS = 300.0

Load = Callable[[], Awaitable[None]]

T = TypeVar("T")


async def _load_nothing() -> None:
    """Do nothing: the default of `load`."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine really runs on, and with which model."""

    device: str | None = None
    """Such as `cpu int8`, or the remote servers."""

    model: str | None = None
    """The model, or the default voice."""

    trouble: str = ""
    """Why no remote server answers; empty while one does."""

    unusable: Mapping[str, str] = field(default_factory=dict)
    """Why wake words, or voices, cannot be used, by name."""


class Slot(Generic[T]):
    """One engine: loading, ready, or failed and tried again."""

    def __init__(
        self,
        stage: Stage,
        engine: T,
        *,
        name: str = "",
        load: Load | None = None,
        seen: Callable[[], object] | None = None,
        info: Callable[[], EngineInfo] = EngineInfo,
        on_demand: Callable[["Slot[T]"], None] | None = None,
    ) -> None:
        """Hold `engine`; see the attributes.

        With `on_demand`, loading begins at the first `get`, which calls it once.
        """
        self.stage = stage
        self.name = name or stage.value
        """Unique among the daemon's slots."""

        self.engine = engine
        """The engine itself, loaded or not; before `get`, only what needs no model may be used."""

        self.failure: SatelliteError | None = None
        self.on_demand = on_demand is not None
        """Whether it is loaded at the first `get`."""

        self._settled = asyncio.Event()
        self._loaded = asyncio.Event()
        self.load_engine = load or _load_nothing
        """Loads the engine, or raises the reason why it cannot be loaded."""

        self.seen = seen or (lambda: None)
        """Returns a value that changes with the engine's files; blocking."""

        self.info = info
        """Returns the engine's state; takes no time."""

        self._begin = on_demand

    @property
    def settled(self) -> bool:
        """True once the engine is loaded or has failed."""
        return self._settled.is_set()

    @property
    def ready(self) -> bool:
        """True once the engine is loaded."""
        return self._loaded.is_set()

    async def until_settled(self) -> None:
        """Wait until the engine is loaded or has failed."""
        await self._settled.wait()

    async def until_ready(self) -> None:
        """Wait until the engine is loaded."""
        await self._loaded.wait()

    async def keep_loading(self) -> None:
        """Load until it succeeds: again when the files have changed, and every few seconds in any case.

        Attempts that take long are made less often, so that they use only a small part of the machine.
        """
        backoff = Backoff(_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)
        clock = asyncio.get_running_loop().time
        while True:
            before, began = await asyncio.to_thread(self.seen), clock()
            await self.load()
            if self.ready:
                return
            took = clock() - began
            pause, waited = max(backoff.next(), min(took * _PAUSE_FACTOR, _LONGEST_PAUSE_SECONDS)), 0.0
            # However often the files change, at most half of the time is spent on attempts.
            while waited < pause and not (waited > took and await asyncio.to_thread(self.seen) != before):
                step = min(_CHECK_SECONDS, pause - waited)
                await asyncio.sleep(step)
                waited += step

    async def load(self) -> None:
        """Try once, and record the result."""
        try:
            await self.load_engine()
        except Exception as error:  # noqa: BLE001 - a library may raise anything; the other engines must serve
            self.settle(self._logged(error))
        else:
            if self.failure is not None:
                _LOGGER.info("%s: loaded", self.name, extra={"stage": self.stage})
            self.settle()

    def _logged(self, error: Exception) -> SatelliteError:
        """Log a failure, unless it is the same as before, and return it as one of ours."""
        ours = error if isinstance(error, SatelliteError) else None
        failure = ours or STAGE_ERRORS[self.stage](f"cannot be loaded: {in_words(error)}", kind="not-ready")
        known = self.failure is not None and str(self.failure) == str(failure)
        _LOGGER.log(
            logging.DEBUG if known else logging.ERROR,
            "%s: [%s] %s",
            self.name,
            failure.code,
            failure,
            exc_info=None if ours or known else error,
            extra={"stage": self.stage, "code": failure.code},
        )
        return failure

    def settle(self, failure: SatelliteError | None = None) -> None:
        """Record that the engine is loaded, or could not be because of `failure`."""
        self.failure = failure
        self._settled.set()
        if failure is None:
            self._loaded.set()
        else:
            self._loaded.clear()

    async def get(self, timeout_seconds: float) -> T:
        """Return the loaded engine; raises the stage's error of the kind `not-ready`."""
        error = STAGE_ERRORS[self.stage]
        begin, self._begin = self._begin, None  # several callers may come before it is loaded
        if begin is not None:
            begin(self)
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._settled.wait()
        except TimeoutError as late:
            raise error(f"{self.stage} is still loading after {timeout_seconds:g} s", kind="not-ready") from late
        if self.failure is not None:
            raise error(str(self.failure), kind="not-ready") from self.failure
        return self.engine


@dataclass(frozen=True, slots=True)
class Engines:
    """All engines of a daemon."""

    wake: tuple[Slot[WakeWordEngine], ...]
    """The default engine first."""

    vad: Slot[VoiceActivityDetector]
    transcriber: Slot[Transcriber]
    chat: Slot[ChatModel]
    synthesizer: Slot[Synthesizer]

    @property
    def slots(self) -> tuple[Slot[object], ...]:
        """Every slot, in the order of the stages."""
        return (*self.wake, self.vad, self.transcriber, self.chat, self.synthesizer)  # type: ignore[arg-type]  # T is only returned
