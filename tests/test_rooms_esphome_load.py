"""Many ESPHome rooms, long conversations, and devices that misbehave; real sockets, on a virtual clock."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from satellite.engines.protocols import AS_CONFIGURED, ChatDelta, Sampling
from satellite.rooms.room import LinkState
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_assistant import State
from tests.esphome_rooms import KEY, LoudEngine, events, house, key_file, turn
from tests.loudness import silence, speech
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock

TURN = ["RUN_START", "STT_START", "STT_VAD_START", "STT_VAD_END", "STT_END", "INTENT_START", "INTENT_PROGRESS"]
TURN += ["INTENT_END", "TTS_START", "TTS_END", "RUN_END"]


class UnevenEngine(LoudEngine):
    """Asks on and on, now at once and now after seconds, with gaps between its words and sentences."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._random = random.Random(16)

    async def stream(self, conversation: Any, sampling: Sampling = AS_CONFIGURED) -> AsyncGenerator[ChatDelta, None]:
        self.chat_seconds = self._random.choice([0.02] * 6 + [0.3, 5.0])
        self.tts_seconds = [self._random.choice([0.02] * 6 + [0.4, 4.0]) for _ in range(5)]
        self.made = 0
        async for delta in super().stream(conversation, sampling):
            yield delta


async def converse(device: EsphomeDevice, turns: int) -> None:
    """Ask once with the wake word, and from then on whenever the device listens again by itself."""
    assert await device.wake()
    for _ in range(turns):
        await device.until("STT_START")
        await device.say(speech(20) + silence(30))
        await device.until("RUN_END")
    await device.until("ERROR")  # nobody says anything any more


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_two_hundred_turns_without_the_wake_word_and_without_hearing_an_answer() -> None:
    engine, deadlines = UnevenEngine(answer=["Done. ", "What else?"]), {"chat_first_token_seconds": 10}
    async with house(engine, arbitration_seconds=0.0, deadlines=deadlines) as home, AsyncExitStack() as stack:
        devices = [EsphomeDevice(name=f"room-{number}", chunk_samples=1024) for number in range(10)]
        for device in devices:
            await stack.enter_async_context(device)
            await stack.enter_async_context(home.room(device))
        await asyncio.gather(*(converse(device, 20) for device in devices))
        for device in devices:
            assert (device.assistant.streams, device.assistant.overheard_seconds, len(device.heard)) == (21, 0, 20)
            assert [heard for heard in device.heard if heard.trouble or heard.seconds < 3] == []


async def test_fifty_rooms_of_which_eight_ask_at_once(tmp_path: Path) -> None:
    key_file(tmp_path)
    async with house(LoudEngine(), arbitration_seconds=0.0) as home, AsyncExitStack() as stack:
        devices = [EsphomeDevice(name=f"room-{number}", key=KEY if number % 2 else None) for number in range(50)]
        rooms = []
        for device in devices:
            await stack.enter_async_context(device)
            keyed = {"key_file": tmp_path / "device.key"} if device.key else {}
            rooms.append(await stack.enter_async_context(home.room(device, **keyed)))
        await asyncio.sleep(60)
        turns = await asyncio.gather(*map(turn, devices[:8]))
        assert {each.state for each in rooms} == {LinkState.CONNECTED}
        for device, sent in zip(devices[:8], turns, strict=True):
            assert [each.type for each in sent] == TURN
            await device.until("VoiceAssistantResponse")
            await until(lambda device=device: device.state is State.IDLE)  # type: ignore[misc]
            (heard,) = device.heard
            assert (heard.trouble, device.assistant.overheard_seconds, heard.seconds >= 5) == ("", 0, True)
        assert [device.name for device in devices[8:] if device.heard or events(device)] == []


@pytest.mark.parametrize(
    ("settings", "trouble"),
    [
        ({"never_fetches": True}, "did not fetch"),
        ({"fetches_from": "127.0.0.9"}, "did not fetch"),
        ({"fetch_bytes_per_second": 20_000.0}, ""),
        ({"fetches": 2}, ""),
        ({"silent_microphone": True}, ""),
        ({"announce_success": False}, ""),
        ({"output": "none"}, ""),
        ({"output": "speaker"}, ""),
    ],
)
async def test_a_device_that_does_it_otherwise(settings: dict[str, Any], trouble: str) -> None:
    async with house() as home, EsphomeDevice(**settings) as device, home.room(device) as room:
        for _ in range(2):
            await turn(device)
            await until(lambda: device.state is State.IDLE and room.status().doing in ("idle", "error"))
            device.forget()
        assert room.state is LinkState.CONNECTED
        assert trouble in room.status().message
        assert device.assistant.overheard_seconds == 0
