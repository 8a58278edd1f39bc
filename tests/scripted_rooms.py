"""Rooms of each transport on a virtual clock: somebody speaks there, and what sounds is measured."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from wyoming.audio import AudioChunk, AudioStop
from wyoming.event import Event, Eventable
from wyoming.pipeline import PipelineStage, RunPipeline

from satellite.audio.pcm import CANONICAL, RATE, AudioFormat
from satellite.config.rooms import BrowserRoomSettings, RoomSettings, SpeakerSettings
from satellite.events import RunBus
from satellite.http.outbox import Outbox
from satellite.http.page_device import BrowserRoom, PageOutput
from satellite.pipeline.stages import Stages
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.conversation import Conversation
from satellite.rooms.device import RoomContext, RoomModes
from satellite.rooms.elsewhere import Speakers
from satellite.rooms.playback import SharedSound
from satellite.rooms.wyoming_device import WyomingDevice
from satellite.skills.timers.scheduler import TimerScheduler
from tests.driven_rooms import NotedConnection
from tests.host_room import host_room, running
from tests.loudness import WINDOW_SAMPLES, silence, sound

WINDOW_SECONDS = WINDOW_SAMPLES / RATE
WINDOW_BYTES = 2 * WINDOW_SAMPLES


class ScriptedRoom:
    """A room in which somebody speaks as a test says, in windows of 32 ms; otherwise it is quiet."""

    conversation: Conversation
    context: RoomContext

    def __init__(self) -> None:
        self.said = b""

    def say(self, *sounds: bytes) -> None:
        self.said += b"".join(sounds)

    async def live(self) -> None:
        while True:
            await asyncio.sleep(WINDOW_SECONDS)
            window, self.said = self.said[:WINDOW_BYTES] or silence(1), self.said[WINDOW_BYTES:]
            await self.hear(window)

    async def hear(self, pcm: bytes) -> None:
        raise NotImplementedError

    def sounded(self) -> bytes:
        """Return all that was heard, as 16-bit mono at 16 kHz."""
        raise NotImplementedError

    def seconds(self) -> float:
        return len(self.sounded()) / 2 / RATE

    def announce(self, seconds: float) -> asyncio.Task[None]:
        return asyncio.create_task(self.conversation.announce(tone(seconds)))


class PlayingConnection(NotedConnection):
    """A connection to a satellite that says when it has played what is sent ahead."""

    device: WyomingDevice

    async def send(self, *events: Event | Eventable) -> None:
        await super().send(*events)
        if any(AudioStop.is_type(event.type) for _, event in self.sent[-len(events) :]):
            asyncio.get_running_loop().call_later(0.5, self.device.output.note_played)


class StreamingSatellite(ScriptedRoom):
    """A Wyoming satellite that streams all the time."""

    run = RunPipeline(start_stage=PipelineStage.WAKE, end_stage=PipelineStage.TTS, restart_on_end=True)

    def __init__(self, settings: RoomSettings, context: RoomContext) -> None:
        super().__init__()
        self.connection = PlayingConnection()
        self.device = self.connection.device = WyomingDevice(self.connection, settings, context)
        self.device.output.format = CANONICAL
        self.conversation = self.device.conversation

    async def live(self) -> None:
        await self.device.take(self.run.event())
        await super().live()

    async def hear(self, pcm: bytes) -> None:
        await self.device.take(AudioChunk(RATE, 2, 1, pcm).event())

    def types(self) -> list[str]:
        return [event.type for _, event in self.connection.sent]

    def sounded(self) -> bytes:
        events = [event for _, event in self.connection.sent if AudioChunk.is_type(event.type)]
        return b"".join(AudioChunk.from_event(event).audio for event in events)


class AskingOnceSatellite(StreamingSatellite):
    """A Wyoming satellite that asks for a run when it is connected, and streams ever after, as version 1.0.0 does."""

    run = RunPipeline(start_stage=PipelineStage.WAKE, end_stage=PipelineStage.TTS, restart_on_end=False)


class WakingSatellite(StreamingSatellite):
    """A Wyoming satellite with a wake word of its own, which streams only after it."""

    run = RunPipeline(start_stage=PipelineStage.ASR, end_stage=PipelineStage.TTS, restart_on_end=False)

    async def live(self) -> None:
        self.device.described({"active_wake_words": ["okay_nabu"]})
        await ScriptedRoom.live(self)

    async def hear(self, pcm: bytes) -> None:
        if self.conversation.active and not self.conversation.audio_ended:
            await super().hear(pcm)

    async def wake(self) -> None:
        await self.device.take(self.run.event())


class SpeechSatellite(StreamingSatellite):
    """A Wyoming satellite that streams when it hears speech, until the run is over."""

    run = RunPipeline(start_stage=PipelineStage.WAKE, end_stage=PipelineStage.TTS, restart_on_end=False)

    async def live(self) -> None:
        await ScriptedRoom.live(self)

    async def hear(self, pcm: bytes) -> None:
        if pcm != silence(1) and not self.conversation.active:
            await self.device.take(self.run.event())
        if self.conversation.active:
            await super().hear(pcm)


class Host(ScriptedRoom):
    """The host's own room, with a file for a speaker."""

    def __init__(self, settings: RoomSettings, context: RoomContext, said: Path) -> None:
        super().__init__()
        about = {"name": settings.name, "speaker": settings.speaker}
        self.room = host_room(context, {"command": ["false"]}, {"file": said, "rate": RATE}, **about)
        self.conversation = self.room.conversation
        self._said = said

    async def live(self) -> None:
        works = [self.room.speaker.run(), self.room._converse()]
        if self.conversation.ringing is not None:
            works.append(self.conversation.ringing.run())
        async with running(*works):
            await super().live()

    async def hear(self, pcm: bytes) -> None:
        await self.room._hand_on(pcm)

    def sounded(self) -> bytes:
        return self._said.read_bytes() if self._said.exists() else b""


class PageConnection:
    """The connection to a page that plays what it is sent, and reports it."""

    def __init__(self) -> None:
        self.outbox = Outbox(2**24, 10_000)
        self.output: PageOutput | None = None
        self.pcm = b""

    def send(self, **frame: object) -> None:
        self.outbox.put(json.dumps(frame))

    def end(self, code: int) -> None:
        raise AssertionError("the conversation has failed")

    async def live(self) -> None:
        loop = asyncio.get_running_loop()
        ends_at = 0.0
        async for frame in self.outbox:
            if isinstance(frame, bytes):
                self.pcm += frame
                ends_at = max(ends_at, loop.time()) + len(frame) / 2 / RATE
            elif (message := json.loads(frame))["type"] == "sound-end" and self.output is not None:
                loop.call_at(ends_at, self.output.note_played, message["sound"])
            elif message["type"] == "silence":
                ends_at = loop.time()


class Browser(ScriptedRoom):
    """A page that is a room."""

    def __init__(self, settings: RoomSettings, context: RoomContext) -> None:
        super().__init__()
        self.page = PageConnection()
        wanted = BrowserRoomSettings(name=settings.name, interrupt_by="wake_word")
        self.room = BrowserRoom(self.page, wanted, context, RoomModes(), "127.0.0.1")
        self.page.output = output = self.room.device.output
        output.format = output.media_format = CANONICAL
        self.conversation = self.room.current

    async def live(self) -> None:
        async with running(self.page.live(), self.room.run()):
            await super().live()

    async def hear(self, pcm: bytes) -> None:
        await self.conversation.hear(pcm)

    def sounded(self) -> bytes:
        return self.page.pcm


SATELLITES = {
    "satellite": StreamingSatellite,
    "asking once": AskingOnceSatellite,
    "waking": WakingSatellite,
    "speech": SpeechSatellite,
}
STREAMING = ("satellite", "host", "browser")
"""The transports whose microphone is heard all the time."""


@asynccontextmanager
async def scripted_room(
    transport: str,
    stages: Stages,
    folder: Path,
    *,
    scheduler: TimerScheduler | None = None,
    name: str = "kitchen",
    speaker: SpeakerSettings | None = None,
    speakers: Speakers | None = None,
) -> AsyncIterator[ScriptedRoom]:
    context = RoomContext(stages, RunBus(), Arbiter(0.0), scheduler, speakers=speakers)
    settings = RoomSettings(name=name, speaker=speaker)
    room: ScriptedRoom
    if transport == "host":
        room = Host(settings, context, folder / f"{name}.raw")
    elif transport == "browser":
        room = Browser(settings, context)
    else:
        room = SATELLITES[transport](settings, context)
    room.context = context
    async with AsyncExitStack() as stack:
        stack.push_async_callback(room.conversation.close)
        if transport in SATELLITES and room.conversation.ringing is not None:
            await stack.enter_async_context(running(room.conversation.ringing.run()))
        await stack.enter_async_context(running(room.live()))
        await asyncio.sleep(0.1)
        yield room


def tone(seconds: float, level: int = 1000, layout: AudioFormat = CANONICAL) -> SharedSound:
    """Return a sound of one level."""
    windows = round(seconds / WINDOW_SECONDS + 0.5)
    return SharedSound.complete(layout, sound(windows, level)[: 2 * round(seconds * RATE)])
