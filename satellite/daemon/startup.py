"""Loads all engines, then runs each once, so that the first command meets nothing cold."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from satellite.daemon.assembly import Assembly
from satellite.engines.protocols import VoiceChoice
from satellite.engines.slot import Slot
from satellite.pipeline.stages import Stages
from satellite.pipeline.warm_up import keep_phrases, warm_up
from satellite.tasks import Background

_LOGGER = logging.getLogger(__name__)


class Startup:
    """The loading of a daemon's engines; `run` it once, as a task."""

    def __init__(
        self, assembly: Assembly, stages: Stages, background: Background, voices: Callable[[], Sequence[VoiceChoice]]
    ) -> None:
        """Load the engines of `assembly` and warm up `stages`; what fails is tried again in `background`.

        The apologies are prepared in `voices`, those of the rooms.
        """
        self._assembly = assembly
        self._stages = stages
        self._background = background
        self._voices = voices
        self._finished = asyncio.Event()
        self._cold: dict[str, str] = {}

    @property
    def finished(self) -> bool:
        """Whether every stage has been warmed up, or has failed."""
        return self._finished.is_set()

    @property
    def cold(self) -> dict[str, str]:
        """Why a stage could not be warmed up, by the name of its slot. It serves all the same."""
        return self._cold

    async def until_finished(self) -> bool:
        """Return True once every stage has been warmed up, or has failed."""
        return await self._finished.wait()

    async def keep_phrases(self) -> None:
        """Prepare the apologies in the voices of the rooms."""
        await keep_phrases(self._stages, self._voices())

    async def run(self) -> None:
        """Load and warm up; engines that fail are warmed up once they have been loaded after all."""
        await self._assembly.load()
        self._cold = await warm_up(self._stages)
        failed = [slot for slot in self._assembly.engines.slots if slot.failure is not None]
        for slot in failed:
            self._background.run(f"warm up {slot.name}", partial(self._warm_up_later, slot))
        self._finished.set()
        if failed:
            _LOGGER.error("serving without: %s", ", ".join(dict.fromkeys(slot.stage for slot in failed)))
        else:
            _LOGGER.info("ready")
        # Last: speaking the apologies takes seconds, and they are needed only when something fails.
        await self.keep_phrases()

    async def _warm_up_later(self, slot: Slot[object]) -> None:
        await slot.until_ready()
        cold = await warm_up(self._stages, slot.stage)
        self._cold = {name: why for name, why in self._cold.items() if name != slot.name} | cold
        if slot is self._assembly.engines.synthesizer:
            await self.keep_phrases()
