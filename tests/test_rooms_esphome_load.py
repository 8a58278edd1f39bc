"""Many ESPHome rooms, long conversations, and devices that misbehave; real sockets, on a virtual clock."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from satellite.engines.protocols import AS_CONFIGURED, ChatDelta, Sampling
from satellite.rooms.room import LinkState
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_assistant import State
from tests.esphome_rooms import COMMAND, KEY, LoudEngine, events, house, key_file, turn
from tests.loudness import silence, speech
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock


class UnevenEngine(LoudEngine):
    """Asks on and on, now at once and now after seconds, with gaps between its words and sentences."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._random = random.Random(16)

    async def stream(self, conversation: Any, sampling: Sampling = AS_CONFIGURED) -> AsyncGenerator[ChatDelta, None]:
        self.chat_seconds = self._random.choice([0.02] * 6 + [0.3, 3.5])
        self.tts_seconds = [self._random.choice([0.02] * 6 + [0.4, 2.8]) for _ in range(5)]
        self.made = 0
        async for delta in super().stream(conversation, sampling):
            yield delta


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_two_hundred_turns_without_the_wake_word_and_without_hearing_an_answer() -> None:
    engine = UnevenEngine(answer=["Done. ", "What else?"])
    deadlines = {"chat_first_token_seconds": 10}
    async with house(engine, deadlines=deadlines) as home, EsphomeDevice() as device, home.room(device):
        assert await device.wake()
        for _ in range(200):
            await device.until("STT_START")
            await device.say(speech(20) + silence(30))
            await device.until("RUN_END")
        await device.until("ERROR")  # nobody says anything any more
        assert device.assistant.streams == 201
    assert device.assistant.overheard_seconds == 0
    assert [heard for heard in device.heard if heard.trouble or heard.seconds < 3] == []
    assert len(device.heard) == 200
