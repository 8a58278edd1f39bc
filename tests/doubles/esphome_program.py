"""`python -m tests.doubles esphome`: a device to try a server with, commanded by lines of standard input."""

import argparse
import asyncio
import base64
import signal
import sys
import time
import wave
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from zeroconf import InterfaceChoice
from zeroconf.asyncio import AsyncZeroconf

from satellite.audio.pcm import AudioFormat, Converter
from satellite.tasks import begin_task, end_tasks
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_wire import NO_KEY

_COMMANDS = """wake | press | say FILE.wav | ask FILE.wav (wake, then say) | stop | mute | unmute | reboot | vanish
| hang | thaw | garbage"""


def main(arguments: Sequence[str]) -> int:
    """Run a device until SIGTERM, or the command `quit`."""
    args = _parser().parse_args(arguments)
    asyncio.run(_run(args))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests.doubles esphome", description="an ESPHome device that stands in", epilog=f"Commands: {_COMMANDS}"
    )
    parser.add_argument("--name", default="kitchen")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one, which the first line names")
    parser.add_argument("--key", help="base64 of 32 bytes; 'none' has none yet (default: no encryption)")
    parser.add_argument("--output", choices=("media", "speaker", "none"), default="media")
    parser.add_argument("--second-channel", action="store_true", help="send the sound of two microphones")
    parser.add_argument("--owned", action="store_true", help="its voice assistant belongs to another server")
    parser.add_argument("--zeroconf", action="store_true", help="announce it as _esphomelib._tcp")
    parser.add_argument("--dial", metavar="HOST:PORT", help="dial a server too, as outgoing_connection does")
    parser.add_argument("--save", type=Path, metavar="DIRECTORY", help="write what was heard there, as WAV")
    return parser


async def _run(args: argparse.Namespace) -> None:
    key = NO_KEY if args.key == "none" else base64.b64decode(args.key) if args.key else None
    device = EsphomeDevice(
        name=args.name,
        friendly_name=args.name.capitalize(),
        host=args.host,
        port=args.port,
        key=key,
        output=args.output,
        second_channel=args.second_channel,
        owned=args.owned,
    )
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(device)
        print(f"listening at {device.uri}", flush=True)
        if args.zeroconf:
            local = args.host.startswith("127.")
            zeroconf = AsyncZeroconf(interfaces=[args.host] if local else InterfaceChoice.Default)
            stack.push_async_callback(zeroconf.async_close)
            await (await zeroconf.async_register_service(device.service()))
        tasks = [begin_task(_report(device, args.save), "report"), begin_task(_obey(device, ended), "commands")]
        if args.dial:
            host, _, port = args.dial.rpartition(":")
            tasks.append(begin_task(device.dial(int(port), host), "dial"))
        stack.push_async_callback(end_tasks, *tasks)
        await ended.wait()


async def _obey(device: EsphomeDevice, ended: asyncio.Event) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        command, _, rest = line.decode().strip().partition(" ")
        if command == "quit":
            return ended.set()
        try:
            await _do(device, command, rest)
        except (OSError, wave.Error, EOFError) as error:
            print(f"{command}: {error}", flush=True)
    return None


async def _do(device: EsphomeDevice, command: str, file: str) -> None:
    match command:
        case "wake" | "press":
            print("listening" if await (device.wake() if command == "wake" else device.press()) else "no turn begins")
        case "say" | "ask":
            if command == "ask":
                await device.wake()
            await device.say(await asyncio.to_thread(_read, file))
        case "mute" | "unmute":
            device.assistant.muted = command == "mute"
        case "reboot":
            await device.reboot(1)
        case "stop":
            device.assistant.stop()
        case "vanish" | "hang" | "thaw":
            getattr(device, command)()
        case "garbage":
            device.send_garbage()
        case _:
            print(f"commands: {_COMMANDS} | quit", flush=True)


async def _report(device: EsphomeDevice, save: Path | None) -> None:
    since, told, saved = time.monotonic(), 0, 0
    while True:
        await asyncio.sleep(0.1)
        taken = list(device.taken)
        for each in taken[told:]:
            print(f"{each.at - since:8.3f}  {each.type}  {each.data or ''}", flush=True)
        told = len(taken)
        for heard in [heard for heard in device.heard if heard.ended_at][saved:]:
            saved += 1
            at = "never" if heard.loud_at is None else f"{heard.loud_at - since:.3f}"
            print(
                f"heard {heard.seconds:.2f} s of {heard.url or 'audio'}, first sound at {at} {heard.trouble}",
                flush=True,
            )
            if save is not None:
                await asyncio.to_thread(_write, save / f"{device.name}-{saved}.wav", heard.layout, bytes(heard.pcm))


def _read(file: str) -> bytes:
    with wave.open(file) as sound:
        layout = AudioFormat(sound.getframerate(), sound.getsampwidth(), sound.getnchannels())
        converter = Converter(layout)
        return converter.convert(sound.readframes(sound.getnframes())) + converter.flush()


def _write(file: Path, layout: AudioFormat, pcm: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(layout.channels)
        sound.setsampwidth(2)
        sound.setframerate(layout.rate)
        sound.writeframes(pcm)
