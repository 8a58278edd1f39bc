"""A room whose device does over real TCP what ESPHome 2026.10 on a Voice PE does, until told to misbehave."""

import asyncio
import base64
import socket
import struct
import time
from collections import defaultdict, deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

from google.protobuf.message import DecodeError

from satellite.tasks import begin_task, end_tasks
from tests.doubles.esphome_assistant import Assistant, State
from tests.doubles.esphome_entities import VOICE_PE, WAKE_SENSITIVITY, Entities, Format
from tests.doubles.esphome_identity import Identity
from tests.doubles.esphome_player import Heard
from tests.doubles.esphome_wake_words import WakeWords
from tests.doubles.esphome_wire import NO_KEY, Channel, Message, name_of, pb

_REMEMBERED = 10_000
_GARBAGE = b"\x16\x03\x01 no frame \xff" * 8
_NEW_KEY_SECONDS = 0.1
"""After which a new key holds, and everybody is disconnected."""


class Taken(NamedTuple):
    """What the device was told, and when, by `time.monotonic`."""

    at: float
    type: str
    """The type of the message, or the name of a voice assistant's event, such as `RUN_START`."""

    data: dict[str, Any]


@dataclass(eq=False, kw_only=True)
class EsphomeDevice(Identity, WakeWords):
    """A device to be dialled at `uri`; its fields may be changed while it runs, most take effect with a connection."""

    formats: tuple[Format, ...] = VOICE_PE
    has_start_button: bool = False
    refuses_keys: bool = False
    answers_pings: bool = True
    hangs_after_connect: bool = False
    """Accepts connections, and never says a word."""

    owned: bool = False
    """Another server has its voice assistant."""

    def __post_init__(self) -> None:
        self.taken: deque[Taken] = deque(maxlen=_REMEMBERED)
        self.timers: dict[str, Message] = {}
        self.ringing = False
        """A timer has finished, and nobody has stopped its sound."""

        self._unseen: defaultdict[str, deque[Taken]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self._news = asyncio.Event()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._channels: dict[Channel, asyncio.Task[None]] = {}
        self._following: set[Channel] = set()
        self._owner: Channel | None = None
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._power_on()

    @property
    def claimed(self) -> bool:
        """Whether a server has its voice assistant."""
        return self._owner is not None

    @property
    def state(self) -> State:
        return self.assistant.state

    @property
    def streaming(self) -> bool:
        """Whether what its microphone hears goes to the server."""
        return self.assistant.streaming_since is not None

    @property
    def heard(self) -> list[Heard]:
        """Everything that it said since it was switched on, but for media."""
        speaker = self.output == "speaker"
        return list(self.assistant.speaker.heard if speaker else self.assistant.player.announcements.heard)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await end_tasks(*self._tasks)
        self._release()

    async def start(self) -> None:
        """Switch on, knowing nothing of what was before."""
        self._power_on()
        where = socket.getaddrinfo(self.host, self.port)[0][4]
        if self._reserved is None or self._reserved.getsockname() != where:
            # Kept, lest another program gets the port while it is switched off.
            self._release()
            self._reserved = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
            self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reserved.bind(where)
            self.port = self._reserved.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, self.host, self.port)

    async def stop(self) -> None:
        """Pull the plug: nobody listens, every connection is reset, the speaker falls silent."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self.thaw()
        self.vanish()
        await end_tasks(*self._channels.values())
        await self.assistant.close()

    async def reboot(self, seconds: float = 0.0) -> None:
        """Lose the power for `seconds`."""
        await self.stop()
        await asyncio.sleep(seconds)
        await self.start()

    async def say(self, pcm: bytes) -> None:
        """Say canonical `pcm` in the room; returns when it is said, whether or not anybody heard it."""
        await self.assistant.room.say(pcm)

    async def wake(self, phrase: str = "") -> bool:
        """Detect a wake word, the active one by default; False when that begins no turn.

        As on a Voice PE it ends a ringing timer, a turn, or an announcement instead, and is ignored while muted.
        """
        assistant = self.assistant
        if assistant.muted or self._owner is None or not self._thawed.is_set():
            return False
        if self.ringing and not self.is_lva:
            self.ringing = False
            self.assistant.player.command("REPEAT_OFF", announcement=True)
        elif self.assistant.deaf or (self.is_lva and self.state is not State.IDLE):
            return False
        elif self.is_lva:
            self.ringing = False
            return assistant.start(phrase or self.active_phrase)
        elif self.state is not State.IDLE:
            assistant.stop()
        elif assistant.player.state == "ANNOUNCING":
            assistant.player.command("STOP", announcement=True)
        else:
            return assistant.start(phrase or self.active_phrase)
        return False

    async def press(self) -> bool:
        """Press its button, which does what the wake word does."""
        return await self.wake() if self.ringing or self.state is not State.IDLE else self._listen()

    async def until(self, *types: str, seconds: float = 120.0) -> Taken:
        """Return the next of `types`, each once; raises `TimeoutError` with what came instead."""
        try:
            async with asyncio.timeout(seconds):
                while not (found := [self._unseen[type_][0] for type_ in types if self._unseen[type_]]):
                    await self._news.wait()
        except TimeoutError:
            came = [taken.type for taken in self.taken][-20:]
            raise TimeoutError(f"{self.name}: no {' or '.join(types)} in {seconds} s, but {came}") from None
        return self._unseen[min(found, key=lambda taken: taken.at).type].popleft()

    def forget(self) -> None:
        """Let `until` wait for what comes from now on."""
        self._unseen.clear()

    def send(self, *messages: Message) -> None:
        """Send its server messages; without a server, nobody."""
        if self._owner is not None:
            self._write(self._owner, *messages)

    def send_garbage(self) -> None:
        """Send every client what is no frame."""
        for channel in self._channels:
            channel.writer.write(_GARBAGE)

    def send_unasked_audio(self, chunks: int = 10) -> None:
        """Send its server what nobody asked for."""
        sound = self.assistant.room.waves(time.monotonic(), self.chunk_samples).tobytes()
        self.send(*[pb.VoiceAssistantAudio(data=sound)] * chunks)

    def hang(self) -> None:
        """Stop reading and writing, as a stopped process does; connections stay, and new ones are made."""
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def vanish(self) -> None:
        """Reset every connection; it goes on listening for new ones."""
        for channel in self._channels:
            with suppress(OSError):  # it was closed already
                no_linger = struct.pack("ii", 1, 0)
                channel.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
            channel.writer.transport.abort()
            self._forget(channel)

    async def dial(self, port: int, host: str = "127.0.0.1") -> None:
        """Dial a server, as `outgoing_connection:` does, and be its device until it hangs up."""
        await self._serve(*await asyncio.open_connection(host, port), dialled=True)

    def _release(self) -> None:
        if self._reserved is not None:
            self._reserved.close()

    def _power_on(self) -> None:
        self.assistant = Assistant(self, self.send, self._changed)
        player = self.assistant.player if self.output == "media" else None
        self.entities = Entities(player, self.formats, self._mute, self._press, self.has_start_button, self.is_lva)
        self.ringing = False
        self.timers.clear()

    def _mute(self, muted: bool) -> None:
        self.assistant.muted = muted

    def _press(self, button: Literal["restart", "start"]) -> None:
        if button == "restart":
            self._own(self.reboot())
        else:
            self._listen()

    def _listen(self) -> bool:
        return self._owner is not None and not self.assistant.muted and self.assistant.start()

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(task := begin_task(work, self.name))
        task.add_done_callback(self._tasks.discard)

    def _changed(self) -> None:
        for channel in self._following:
            self._write(channel, *self.entities.current())

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, dialled: bool = False
    ) -> None:
        channel = Channel(reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._channels[channel] = task
        # By `stop`; asyncio 3.11 logs it as an error when a connection's task ends cancelled.
        with suppress(OSError, EOFError, DecodeError, asyncio.CancelledError):
            if self.hangs_after_connect:
                await asyncio.Event().wait()
            await channel.open(self.key, self.name, self.mac, dialled=dialled)
            if self.is_lva:
                self._owner = channel
            while not writer.is_closing():
                message = await channel.read()
                await self._thawed.wait()
                if message is not None and not await self._take(channel, message):
                    break
        self._forget(channel)
        del self._channels[channel]
        writer.close()

    def _forget(self, channel: Channel) -> None:
        self._following.discard(channel)
        if channel is self._owner:
            self._owner = None
            self.ringing = self.ringing and not self.is_lva
            self.assistant.server_gone()

    def _write(self, channel: Channel, *messages: Message) -> None:
        if self._thawed.is_set() and not channel.writer.is_closing():
            channel.send(*messages)

    async def _take(self, channel: Channel, message: Message) -> bool:
        """Take a message; False when it ends the connection."""
        kind = name_of(message)
        if kind not in ("PingRequest", "VoiceAssistantAudio"):
            self._note(kind, message)
        match kind:
            case "HelloRequest":
                self._write(
                    channel,
                    pb.HelloResponse(
                        api_version_major=1, api_version_minor=19, server_info="2026.10.0", name=self.name
                    ),
                )
            case "AuthenticationRequest":
                self._write(channel, pb.AuthenticationResponse())
            case "DisconnectRequest":
                self._write(channel, pb.DisconnectResponse())
                return False
            case "PingRequest" if self.answers_pings:
                self._write(channel, pb.PingResponse())
            case "DeviceInfoRequest":
                self._own(self._describe(channel))
            case "ListEntitiesRequest":
                self._write(channel, *self.entities.listed())
            case "SubscribeStatesRequest":
                self._following.add(channel)
                self._write(channel, *self.entities.current())
            case "NoiseEncryptionSetKeyRequest":
                self._write(channel, pb.NoiseEncryptionSetKeyResponse(success=self._set_key(message.key)))
            case "SubscribeVoiceAssistantRequest" if self.has_assistant and not self.is_lva:
                self._subscribe(channel, message.subscribe)
            case "VoiceAssistantConfigurationRequest" if self.has_assistant:
                self._write(channel, self.configuration(message if self.is_lva or channel is self._owner else None))
            case "VoiceAssistantSetConfiguration" if self.is_lva or channel is self._owner:
                self._own(self.use(list(message.active_wake_words)))
                if self.is_lva:
                    self.send(pb.NumberStateResponse(key=WAKE_SENSITIVITY, state=0.85))
            case "VoiceAssistantTimerEventResponse" if channel is self._owner:
                self._timer(message)
            case _ if kind.startswith("VoiceAssistant") and channel is self._owner:
                self.assistant.take(kind, message)
            case _ if kind.endswith("CommandRequest"):
                self.entities.command(kind, message)
                self._changed()
        return True

    def _note(self, kind: str, message: Message) -> None:
        data = {entry.name: value for entry, value in message.ListFields()}
        if kind == "VoiceAssistantEventResponse":
            kind = pb.VoiceAssistantEvent.Name(message.event_type).removeprefix("VOICE_ASSISTANT_")
            data = {entry.name: entry.value for entry in message.data}
        taken = Taken(time.monotonic(), kind, data)
        self.taken.append(taken)
        self._unseen[kind].append(taken)
        self._news.set()
        self._news = asyncio.Event()

    def _subscribe(self, channel: Channel, subscribe: bool) -> None:
        if not subscribe:
            if channel is self._owner:
                self._owner = None
                self.assistant.server_gone()
        elif self._owner is None and not self.owned:
            self._owner = channel

    def _set_key(self, encoded: bytes) -> bool:
        with suppress(ValueError):
            key = base64.b64decode(encoded)
            if len(key) == 32 and key != NO_KEY and self.key is not None and not self.refuses_keys:
                self._own(self._use_key(key))
                return True
        return False

    async def _use_key(self, key: bytes) -> None:
        await asyncio.sleep(_NEW_KEY_SECONDS)
        self.key = key
        for channel in self._channels:
            self._write(channel, pb.DisconnectRequest())
            channel.writer.close()

    async def _describe(self, channel: Channel) -> None:
        await self.assistant.next_pass()
        self._write(channel, self.info())

    def _timer(self, event: Message) -> None:
        self.timers[event.timer_id] = event
        if event.event_type in (pb.VOICE_ASSISTANT_TIMER_CANCELLED, pb.VOICE_ASSISTANT_TIMER_FINISHED):
            del self.timers[event.timer_id]
        if event.event_type == pb.VOICE_ASSISTANT_TIMER_FINISHED and not self.ringing:
            self.ringing = True
            self.assistant.ring()
