"""A place for an engine that is still loading: those who need it wait, with a deadline, or learn why it failed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from satellite.engines import ChatModel, Synthesizer, Transcriber, Vad, WakeWordEngine
from satellite.errors import STAGE_ERRORS, SatelliteError, Stage

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")


class Slot(Generic[T]):
    """One engine: loading, ready, or failed. With `load`, it is loaded when it is first asked for."""

    def __init__(
        self, stage: Stage, engine: T, *, name: str = "", load: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.stage = stage
        self.name = name or stage.value
        """Unique among the daemon's slots."""

        self.engine = engine
        """The engine itself, loaded or not; only what needs no model may be asked of it before `get`."""

        self.failure: SatelliteError | None = None
        self._load_on_demand = load
        self._loading: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()

    @property
    def settled(self) -> bool:
        """True once the engine is loaded or has failed."""
        return self._settled.is_set()

    @property
    def on_demand(self) -> bool:
        """True for an engine that is loaded when it is first asked for."""
        return self._load_on_demand is not None

    @property
    def ready(self) -> bool:
        """True once the engine is loaded."""
        return self._settled.is_set() and self.failure is None

    async def load(self, load: Callable[[], Awaitable[None]]) -> None:
        """Run `load` and note whether it succeeded."""
        try:
            await load()
        except SatelliteError as error:
            _LOGGER.error("%s: [%s] %s", self.stage, error.code, error, extra={"stage": self.stage, "code": error.code})
            self.settle(error)
        except Exception as error:  # the loading boundary: whatever broke one engine, the others serve
            _LOGGER.exception("%s: cannot be loaded", self.stage, extra={"stage": self.stage})
            self.settle(
                STAGE_ERRORS[self.stage](f"cannot be loaded: {type(error).__name__}: {error}", kind="not-ready")
            )
        else:
            self.settle()

    async def close(self) -> None:
        """Stop loading; may be called twice."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)

    def settle(self, failure: SatelliteError | None = None) -> None:
        """The engine is loaded, or will not be because of `failure`."""
        self.failure = failure
        self._settled.set()

    async def get(self, timeout_seconds: float) -> T:
        """Return the loaded engine; raises the stage's error of the kind `not-ready`."""
        error = STAGE_ERRORS[self.stage]
        if self._load_on_demand is not None and self._loading is None:
            self._loading = asyncio.create_task(self.load(self._load_on_demand), name=f"load {self.stage}")
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

    vad: Slot[Vad]
    transcriber: Slot[Transcriber]
    chat: Slot[ChatModel]
    synthesizer: Slot[Synthesizer]

    @property
    def slots(self) -> tuple[Slot[object], ...]:
        """Every slot, in the order of the stages."""
        return (*self.wake, self.vad, self.transcriber, self.chat, self.synthesizer)  # type: ignore[arg-type]  # T is only returned
