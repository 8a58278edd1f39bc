"""`python -m satellite_bench.esphome_process`: many ESPHome devices, controlled as `room_process`."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from zeroconf.asyncio import AsyncZeroconf

from satellite.audio.pcm import read_wav
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_assistant import State
from tests.doubles.esphome_wire import NO_KEY
from tests.waiting import until

_ANSWER_SECONDS = 60.0


async def ask(device: EsphomeDevice, question: bytes) -> dict[str, Any]:
    """Wake the device, ask, and hear the answer out."""
    device.forget()
    started_at, before = time.monotonic(), len(device.heard)
    await device.wake()
    taken = await device.until("VoiceAssistantResponse")
    await device.say(question)
    found: dict[str, Any] = {"started_at": started_at, "taken_at": taken.at, "asked_at": time.monotonic()}
    told = await device.until("INTENT_PROGRESS", "ERROR", "RUN_END", seconds=_ANSWER_SECONDS)
    if told.type != "INTENT_PROGRESS":
        return found | {"failed": True, "text": told.data.get("message", "the model said nothing")}
    await until(lambda: device.state is State.IDLE, _ANSWER_SECONDS)
    heard = device.heard[before]
    times = {"fetch_at": heard.asked_at, "sound_at": heard.loud_came_at}
    return found | times | {"clause_at": told.at, "failed": heard.loud_came_at is None, "text": heard.trouble}


async def switch_on(devices: Sequence[EsphomeDevice], seconds: float) -> dict[str, Any]:
    """Switch devices on, and wait until all have a server."""
    for device in devices:
        await device.start()
    await until(lambda: all(device.claimed for device in devices), seconds)
    return {"rooms": len(devices)}


class Offers:
    """A device that is nobody's yet, and announces itself on the loopback interface; one at a time."""

    def __init__(self) -> None:
        self._device = EsphomeDevice(key=NO_KEY)
        self._network = AsyncZeroconf(interfaces=["127.0.0.1"])

    async def offer(self, name: str) -> dict[str, Any]:
        """Announce a new one."""
        self._device = EsphomeDevice(name=name, friendly_name=name, key=NO_KEY)
        await self._device.start()
        await (await self._network.async_register_service(self._device.service()))
        return {"uri": self._device.uri}

    async def heard(self) -> dict[str, Any]:
        """Wait until something is heard from it."""
        await until(lambda: any(heard.loud_came_at for heard in self._device.heard), _ANSWER_SECONDS)
        return {"sound_at": self._device.heard[0].loud_came_at}

    async def withdraw(self) -> dict[str, Any]:
        """Switch it off."""
        await (await self._network.async_unregister_service(self._device.service()))
        await self._device.stop()
        return {}


async def _do(request: dict[str, Any], devices: Sequence[EsphomeDevice], offers: Offers) -> Any:
    """Carry out a request, in all of its rooms at once."""
    match request["do"]:
        case "offer":
            return await offers.offer(request["name"])
        case "heard":
            return await offers.heard()
        case "withdraw":
            return await offers.withdraw()
    meant = [devices[number] for number in request["rooms"]]
    match request["do"]:
        case "switch on":
            return await switch_on(meant, request["seconds"])
        case "ask":
            questions = [read_wav(Path(name)) for name in request["questions"]]
            return await asyncio.gather(*map(ask, meant, questions))
        case unknown:
            raise ValueError(f"unknown request: {unknown}")


async def _serve(count: int) -> None:
    async with AsyncExitStack() as stack:
        devices = [await stack.enter_async_context(EsphomeDevice(name=f"device-{i + 1}")) for i in range(count)]
        for device in devices:
            await device.stop()
        offers = Offers()
        print(json.dumps([device.uri for device in devices]), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                answer = {"done": await _do(json.loads(line), devices, offers)}
            except (TimeoutError, OSError, ValueError, KeyError) as error:
                answer = {"failed": str(error) or type(error).__name__}
            print(json.dumps(answer), flush=True)


def main() -> int:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(prog="satellite_bench.esphome_process", description="ESPHome devices")
    parser.add_argument("--rooms", type=int, default=1)
    asyncio.run(_serve(parser.parse_args().rooms))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
