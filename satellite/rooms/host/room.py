"""The host's own room: its microphone, which streams all the time, and its speaker.

While another program drives the room, a `Guest` takes the conversation's place.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Protocol

from satellite.audio.pcm import AudioFormat, seconds_of
from satellite.backoff import Backoff
from satellite.config.host import SoundDeviceSettings
from satellite.config.rooms import RoomSettings
from satellite.errors import SatelliteError, Stage, TextToSpeechError
from satellite.events import RunBus, RunEvent
from satellite.pipeline.stages import Stages
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.conversation import Conversation, room_request
from satellite.rooms.host.microphones import microphone as listening
from satellite.rooms.host.microphones import silence
from satellite.rooms.host.sound_outputs import sink
from satellite.rooms.host.speaker import Speaker, SpeakerOutput, Utterance
from satellite.rooms.playback import Making
from satellite.rooms.ringing import Ringing
from satellite.rooms.room import Activity, LinkState, Reachability, RoomStatus
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timer import TimerEvent
from satellite.tasks import Supervised, end_tasks, first_of

_LOGGER = logging.getLogger(__name__)

_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 5.0
"""Somebody who has plugged the microphone in again does not want to wait for longer."""

_STEADY_SECONDS = 5.0
"""A microphone that was heard for so long is tried again soon."""


_LEAD_SECONDS = 2.0
"""How much of an announcement waits to be heard: the rest waits where all rooms take it from."""


class Guest(Protocol):
    """Who drives the room in the place of its own conversation."""

    muted: bool
    """Whether it has switched the microphone off."""

    async def heard(self, pcm: bytes) -> None:
        """Take what the room hears; never raises."""


class LocalRoom(Reachability):
    """The host's own room: `run` it for as long as the daemon serves."""

    def __init__(
        self,
        room: RoomSettings,
        microphone: SoundDeviceSettings,
        speaker: SoundDeviceSettings,
        stages: Stages,
        bus: RunBus,
        arbiter: Arbiter,
        scheduler: TimerScheduler | None = None,
    ) -> None:
        """Prepare the room; the timers of `scheduler` that belong there ring there."""
        super().__init__(room, f"{room.name} is being opened")
        self.speaker = Speaker(sink(speaker), speaker.words) if speaker.given else None
        self._stages = stages
        self._bus = bus
        self._arbiter = arbiter
        self._ringing: Ringing | None = None
        if scheduler is not None and self.speaker is not None:
            self._ringing = Ringing(scheduler, stages, self.room, _show_no_timer, self.announce)
        self._listen = listening(microphone)
        self._backoff = Backoff(_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)
        self._conversation: Conversation | None = None
        self.guest: Guest | None = None
        self._guest_words = ""
        self._changed = asyncio.Event()
        self._parts: list[Supervised] = []

    async def run(self) -> None:
        """Listen and talk until cancelled."""
        run = self._stages.background.run
        name = self.room.name
        self._parts = [
            run(f"microphone {name}", self._hear),
            run(f"conversations {name}", self._converse),
            *([run(f"speaker {name}", self.speaker.run)] if self.speaker is not None else []),
            *([run(f"timers {name}", self._ringing.run)] if self._ringing is not None else []),
        ]
        try:
            await asyncio.Future()
        finally:
            await end_tasks(*(part.task for part in self._parts))

    async def announce(self, source: AudioFormat, pcm: bytes, more: Making | None = None) -> None:
        """Play `pcm`, and `more`; returns when it has been heard. Raises `SatelliteError` where nothing can play it."""
        if self.speaker is None:
            raise SatelliteError(f"{self.room.name} has no speaker", code="room-unreachable")
        if self._conversation is not None:
            await self._conversation.announce(source, pcm, more)
        else:
            await self.play(source, pcm, more)
        if self.speaker.trouble:
            raise SatelliteError(self.speaker.trouble, code="room-unreachable")

    async def play(self, source: AudioFormat, pcm: bytes, more: Making | None = None) -> None:
        """Play `pcm` after what is being heard, in no conversation; returns when it has been heard, or dropped."""
        if self.speaker is None:
            return
        utterance = self.speaker.begin(source)
        self.speaker.feed(utterance, pcm)
        try:
            if more is not None:
                await more.to(partial(self._feed, utterance))
            utterance.end()
            await utterance.over.wait()
        except (asyncio.CancelledError, TextToSpeechError):
            utterance.drop()
            raise

    async def _feed(self, utterance: Utterance, pcm: bytes) -> None:
        if self.speaker is not None:
            self.speaker.feed(utterance, pcm)
            await utterance.played_down_to(_LEAD_SECONDS)

    def lend(self, guest: Guest, words: str) -> None:
        """Let `guest` drive the room from now on; `words` say who that is."""
        self.guest, self._guest_words = guest, words
        self._changed.set()
        _LOGGER.info("room %s is driven by %s", self.room.name, words, extra={"room": self.room.name})

    def take_back(self, guest: Guest) -> None:
        """Drive the room by its own conversation again, if `guest` has it."""
        if self.guest is guest:
            self.guest = None
            self._changed.set()
            _LOGGER.info("room %s is its own again", self.room.name, extra={"room": self.room.name})

    def silence_rings(self) -> None:
        """Silence a timer that rings, since somebody speaks with the room."""
        if self._ringing is not None:
            self._ringing.silence()

    def status(self) -> RoomStatus:
        """Return its present state."""
        words = self.words
        if self.speaker is not None and self.speaker.trouble:
            words += f"; {self.speaker.trouble}"
        words += "".join(f"; {part.name} has failed: {part.trouble}" for part in self._parts if part.trouble)
        if self.guest is None:
            doing: str = self._conversation.activity if self._conversation else ""
        else:
            doing = f"{'muted' if self.guest.muted else 'driven'} by {self._guest_words}"
        return RoomStatus(
            room=self.room.name,
            uri="local",
            area=self.room.area,
            state=self.state,
            words=words,
            doing=doing,
            since_seconds=round(time.monotonic() - self.since, 1),
            reconnections=self.reconnections,
        )

    # The microphone.

    async def _hear(self) -> None:
        """Hand on what the microphone hears; where there is none for a while, silence."""
        while True:
            try:
                await self._hear_once()
                self.become(LinkState.CONNECTED, f"{self.room.name}: the recording is over")
                rest = float("inf")
            except (SatelliteError, OSError) as error:
                self.become(LinkState.OFF, f"{self.room.name} hears nothing: {error}")
                rest = self._backoff.next()
            async with aclosing(silence(rest)) as blocks:
                async for pcm in blocks:
                    await self._hand_on(pcm)

    async def _hear_once(self) -> None:
        heard_seconds = 0.0
        async with aclosing(self._listen()) as blocks:
            async for pcm in blocks:
                if self.state is not LinkState.CONNECTED:
                    self.reconnections += self.state is LinkState.OFF
                    self.become(LinkState.CONNECTED, f"{self.room.name} hears")
                heard_seconds += seconds_of(pcm)
                if heard_seconds >= _STEADY_SECONDS:
                    self._backoff.reset()
                await self._hand_on(pcm)

    async def _hand_on(self, pcm: bytes) -> None:
        if self.guest is not None:
            await self.guest.heard(pcm)
        elif self._conversation is not None:
            await self._conversation.hear(pcm)

    # The conversations.

    async def _converse(self) -> None:
        """Hold conversations while no guest drives the room."""
        while True:
            self._changed.clear()
            if self.guest is None:
                await self._own()
            else:
                await self._changed.wait()

    async def _own(self) -> None:
        """Hold conversations until a guest comes, or one breaks."""
        device = HostDevice(self.speaker, self.silence_rings)
        conversation = Conversation(device, self._stages, self._bus, self.room, self._stages.config.hub, self._arbiter)
        end = Stage.TTS if self.speaker is not None else Stage.CHAT
        try:
            await conversation.begin(room_request(self.room, Stage.WAKE, end), restart=True)
            self._conversation = conversation
            await first_of(f"guest or broken {self.room.name}", self._changed.wait(), device.broken.wait())
        finally:
            self._conversation = None
            device.output.drop()
            await conversation.close()
            device.output.drop()
        if device.broken.is_set():
            await asyncio.sleep(_LONGEST_BACKOFF_SECONDS)


class HostDevice:
    """The host's microphone and speaker as the device of a conversation; there is nothing to show it with."""

    interrupted_by_speech = False

    def __init__(self, speaker: Speaker | None, called: Callable[[], None]) -> None:
        """Play on `speaker`; `called` silences what rings in the room."""
        self.output = SpeakerOutput(speaker)
        self.broken = asyncio.Event()
        """Set when the conversation cannot go on."""

        self._called = called

    async def show(self, step: RunEvent, activity: Activity) -> None:
        """Do nothing: the host has no light."""

    async def interrupted(self, wake_word: str | None) -> None:
        """Do nothing: the microphone is heard all the time."""

    async def stop_listening(self) -> None:
        """Do nothing: the microphone is heard all the time."""

    def called(self) -> None:
        """Silence what rings."""
        self._called()

    def fail(self) -> None:
        """Let another conversation begin."""
        self.broken.set()


async def _show_no_timer(event: TimerEvent) -> None:
    """Do nothing: the host has no display."""
