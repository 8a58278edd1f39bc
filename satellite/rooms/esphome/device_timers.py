"""The timers of an ESPHome device, which it shows, and rings for by itself."""

import asyncio
from collections.abc import Callable

from aioesphomeapi.client import APIClient
from aioesphomeapi.model import VoiceAssistantTimerEventType

from satellite.rooms.conversation import Conversation
from satellite.rooms.device import Capabilities
from satellite.rooms.esphome.entities import Entities
from satellite.rooms.playback import Sounding
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import Timer, TimerEvent, TimerEventKind, TimerState

_LOOK_SECONDS = 0.1
_MOST_LOOKS = 600

_EVENTS = {
    TimerEventKind.STARTED: VoiceAssistantTimerEventType.VOICE_ASSISTANT_TIMER_STARTED,
    TimerEventKind.UPDATED: VoiceAssistantTimerEventType.VOICE_ASSISTANT_TIMER_UPDATED,
    TimerEventKind.CANCELLED: VoiceAssistantTimerEventType.VOICE_ASSISTANT_TIMER_CANCELLED,
    TimerEventKind.FINISHED: VoiceAssistantTimerEventType.VOICE_ASSISTANT_TIMER_FINISHED,
}


class DeviceTimers:
    """Those of the room whose device it is."""

    def __init__(
        self,
        client: APIClient,
        entities: Entities,
        capabilities: Capabilities,
        conversation: Conversation,
        scheduler: TimerScheduler | None,
        leave: Callable[[], None] | None,
    ) -> None:
        """Silence what rings by the media player, or by `leave`, which ends the connection for a moment."""
        self._client = client
        self._entities = entities
        self._capabilities = capabilities
        self._conversation = conversation
        self._scheduler = scheduler
        self._leave = leave

    async def show(self, event: TimerEvent) -> None:
        """Send what has happened to a timer; raises `APIConnectionError`."""
        timer, kind = event.timer, _EVENTS.get(event.kind)
        if event.kind is TimerEventKind.FINISHED and self._capabilities.rings:
            await self._nothing_said()
            if not self._is_ringing(timer):
                return
        if kind is not None and self._capabilities.timers:
            running = timer.state is TimerState.RUNNING
            self._client.send_voice_assistant_timer_event(
                kind, timer.id, timer.name, timer.total_seconds, max(0, round(event.seconds_left)), running
            )
        elif event.kind is TimerEventKind.SILENCED and self._capabilities.rings:
            (self._leave or self._entities.silence_ring)()

    async def _nothing_said(self) -> None:
        """Wait until nobody speaks, for a minute at most: the ring of a device ends what it says.

        linux-voice-assistant, moreover, hears no wake word until the end of its answer, which never comes then.
        """
        for _ in range(_MOST_LOOKS):
            if not self._says_something():
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def _says_something(self) -> bool:
        conversation = self._conversation
        said = conversation.sounding in (Sounding.ANSWER, Sounding.ANNOUNCEMENT)
        return said or conversation.active or conversation.expects_command

    def _is_ringing(self, timer: Timer) -> bool:
        place = self._conversation.room.name
        return self._scheduler is not None and timer.id in {one.id for one in self._scheduler.timers.ringing(place)}
