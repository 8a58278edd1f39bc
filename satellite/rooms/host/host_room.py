"""The host's own room: its microphone, which is heard all the time, and its speaker.

While another program controls the room, its `Controller` hears the microphone in place of the conversation.
"""

import asyncio
import logging
from contextlib import aclosing
from typing import Protocol

from satellite.audio.pcm import seconds_of
from satellite.backoff import Backoff
from satellite.config.host import SoundDeviceSettings
from satellite.config.rooms import RoomSettings
from satellite.errors import SatelliteError, Stage
from satellite.events import RunEvent
from satellite.rooms.conversation import Conversation
from satellite.rooms.device import Activity, Capabilities, RoomContext, room_request
from satellite.rooms.host.capture import capture, silence
from satellite.rooms.host.speaker import HostSpeaker, SpeakerOutput
from satellite.rooms.room import BaseRoom, LinkState
from satellite.skills.timers.timers import TimerEvent
from satellite.tasks import Supervised, end_tasks, first_of

_LOGGER = logging.getLogger(__name__)

_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 5.0
"""Somebody who has plugged the microphone in again does not want to wait for longer."""

_STEADY_SECONDS = 5.0
"""A microphone that was heard for so long is tried again soon."""


class Controller(Protocol):
    """Another program that controls the room."""

    @property
    def name(self) -> str:
        """Return what it is called in the status."""

    @property
    def muted(self) -> bool:
        """Return whether it has muted the microphone."""

    async def hear(self, pcm: bytes) -> None:
        """Take what the microphone hears; never raises."""


class HostRoom(BaseRoom):
    """The host's own room: `run` it for as long as the daemon serves."""

    def __init__(
        self,
        settings: RoomSettings,
        microphone: SoundDeviceSettings,
        speaker: SoundDeviceSettings,
        context: RoomContext,
    ) -> None:
        super().__init__(settings, "local", "being opened")
        self.speaker = HostSpeaker(speaker, settings.lead_in_seconds)
        self.capabilities = Capabilities(speaker=speaker.given)
        self._device = HostDevice(self.speaker, self.capabilities)
        self.conversation = Conversation(self._device, settings, context, self.modes)
        self.controller: Controller | None = None
        """The program that controls the room in place of the conversation."""

        self._controller_changed = asyncio.Event()
        self._background = context.stages.background
        self._microphone = microphone
        self._backoff = Backoff(_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)
        self._parts: list[Supervised] = []

    async def run(self) -> None:
        """Listen and talk until cancelled."""
        run, name = self._background.run, self.settings.name
        self._parts = [
            run(f"microphone {name}", self._hear),
            run(f"conversations {name}", self._converse),
            run(f"speaker {name}", self.speaker.run),
        ]
        if self.conversation.ringing is not None:
            self._parts.append(run(f"timers {name}", self.conversation.ringing.run))
        try:
            await asyncio.Future()
        finally:
            await end_tasks(*(part.task for part in self._parts))
            await self.conversation.close()

    @property
    def current(self) -> Conversation:
        """Return the room's conversation, by which it is announced also while another program controls it."""
        return self.conversation

    def give_control(self, controller: Controller) -> None:
        """Let `controller` have the room from now on."""
        self.controller = controller
        self._controller_changed.set()
        name = self.settings.name
        _LOGGER.info("room %s is controlled by %s", name, controller.name, extra={"room": name})

    def end_control(self, controller: Controller) -> None:
        """Hold the room's own conversation again, if `controller` has the room."""
        if self.controller is controller:
            self.controller = None
            self._controller_changed.set()
            name = self.settings.name
            _LOGGER.info("room %s: remote control ended, its own conversation goes on", name, extra={"room": name})

    def _details(self) -> str:
        details = self.summary
        if self.speaker.trouble:
            details += f"; {self.speaker.trouble}"
        return details + "".join(f"; {part.name} has failed: {part.trouble}" for part in self._parts if part.trouble)

    def _doing(self) -> str:
        if self.controller is not None:
            return f"{Activity.MUTED if self.controller.muted else 'driven'} by {self.controller.name}"
        return self.conversation.activity if self.conversation.active else ""

    # The microphone.

    async def _hear(self) -> None:
        """Hand on what the microphone hears; where there is none for a while, silence."""
        while True:
            try:
                await self._hear_once()
                self.become(LinkState.CONNECTED, "the recording is over")
                rest = float("inf")
            except (SatelliteError, OSError) as error:
                self.become(LinkState.OFF, f"it hears nothing: {error}")
                rest = self._backoff.next()
            # A command that was being spoken ends by silence, as it would if the room had fallen silent.
            async with aclosing(silence(rest)) as blocks:
                async for pcm in blocks:
                    await self._hand_on(pcm)

    async def _hear_once(self) -> None:
        heard_seconds = 0.0
        async with aclosing(capture(self._microphone)) as blocks:
            async for pcm in blocks:
                if self.state is not LinkState.CONNECTED:
                    self.reconnections += self.state is LinkState.OFF
                    self.become(LinkState.CONNECTED, "it hears")
                heard_seconds += seconds_of(pcm)
                if heard_seconds >= _STEADY_SECONDS:
                    self._backoff.reset()
                await self._hand_on(pcm)

    async def _hand_on(self, pcm: bytes) -> None:
        if self.controller is not None:
            await self.controller.hear(pcm)
        else:
            await self.conversation.hear(pcm)

    # The conversations.

    async def _converse(self) -> None:
        """Hold conversations while no other program controls the room."""
        while True:
            self._controller_changed.clear()
            if self.controller is None:
                await self._converse_until_changed()
            else:
                await self._controller_changed.wait()

    async def _converse_until_changed(self) -> None:
        """Hold conversations until another program takes the room, or one fails."""
        failed = self._device.failed
        failed.clear()
        end = Stage.TTS if self.capabilities.speaker else Stage.CHAT
        try:
            await self.conversation.begin(room_request(self.settings, Stage.WAKE, end), restart=True)
            await first_of(f"control of {self.settings.name}", self._controller_changed.wait(), failed.wait())
        finally:
            await self.conversation.end()
        if failed.is_set():  # one that fails at once must not begin again without a pause
            await asyncio.sleep(_LONGEST_BACKOFF_SECONDS)


class HostDevice:
    """The host's microphone and speaker as the device of a conversation; there is nothing to show it with."""

    media_output = None

    def __init__(self, speaker: HostSpeaker, capabilities: Capabilities) -> None:
        self.output = SpeakerOutput(speaker)
        self.capabilities = capabilities
        self.failed = asyncio.Event()
        """Set when the conversation cannot go on."""

    async def show(self, step: RunEvent, activity: Activity) -> None:
        """Do nothing: the host has no light."""

    async def show_timer(self, event: TimerEvent) -> None:
        """Do nothing: the host has no display."""

    async def interrupted(self, wake_word: str | None) -> None:
        """Do nothing: the microphone is heard all the time."""

    async def stop_listening(self) -> None:
        """Do nothing: the microphone is heard all the time."""

    async def open_microphone(self) -> None:
        """Refuse: the microphone is heard all the time, unless another program has it."""
        raise SatelliteError("another program controls the room", code="room-cannot-start")

    async def set_muted(self, muted: bool) -> None:
        """Do nothing: the host has no light."""

    async def set_volume(self, volume: float) -> bool:
        """Return False: the host's own volume is for all that it plays."""
        return False

    def fail(self) -> None:
        """Let another conversation begin."""
        self.failed.set()
