"""One turn of an ESPHome device: the events that it is sent, in its firmware's order, to an end that never fails.

Whatever a run comes to, the last event is `RUN_END`: before it the firmware keeps its microphone open. The first is
`RUN_START`, also where nothing follows: linux-voice-assistant listens again at a `RUN_END` without one after an answer
that has asked something, and would do so for ever in a room that is muted.

Firmware closes its microphone in the pass of its main loop that follows `STT_VAD_END`, and is ready for the answer one
pass later. What sets another state before would leave the microphone open, beside which many speakers cannot play, and
a `RUN_END` would leave the device waiting for ever. So what follows is held back until the device has answered a
question that it was asked after `STT_VAD_END`, and an end without a sound until it has answered another one: it answers
in the pass in which it is asked.

While an answer is played, all events are sent before its sound ends. The firmware would take a later `TTS_END` for an
answer without a sound and wait for ever, and a later `RUN_END` for the end of the command that it has begun to listen
for.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from aioesphomeapi.model import VoiceAssistantEventType as Event

from satellite.events import ChatEnd, ChatStart, RunEvent, RunFailed, RunStart, SttEnd, SttStart, SttVadEnd, SttVadStart
from satellite.rooms.media import MediaStream
from satellite.rooms.run_steps import NOBODY_SPOKE
from satellite.tasks import begin_task, end_tasks

Send = Callable[[Event, Mapping[str, str]], None]
RoundTrip = Callable[[], Awaitable[None]]
"""Returns once the device has answered a question, or does not answer; raises nothing."""

_NOTHING_SAID = "stt-no-text-recognized"
_ELSEWHERE = "duplicate_wake_up_detected"
"""Codes at which firmware shows no error."""


class Turn:
    """The events of one turn, from the device's request on."""

    def __init__(
        self,
        send: Send,
        round_trip: RoundTrip,
        stream: MediaStream | None,
        conversation_id: str,
        asks_more: Callable[[str], bool],
    ) -> None:
        """Send by `send`; the device may fetch the answer as `stream`, and listens again where `asks_more(answer)`."""
        self.ended = False
        self.stream = stream
        self.settled = asyncio.Event()
        """Set while nothing is held back."""

        self.settled.set()
        self._send_now = send
        self._round_trip = round_trip
        self._passes = 0
        """How many questions the device has yet to answer before all can be sent."""

        self._held: deque[tuple[int, Event, Mapping[str, str]]] = deque()
        self._closing: asyncio.Task[None] | None = None
        self._url = "" if stream is None else stream.url
        self._conversation_id = conversation_id
        self._asks_more = asks_more
        self._listening = True
        self.sounding = False
        """Whether the device has been given the sound of an answer."""

        self._started = False
        self._answer: str | None = None
        self._answer_sent = False

    @property
    def awaits_answer(self) -> bool:
        """Whether the device waits for the sound of an answer."""
        return not self.ended and not self._listening and not self.sounding

    async def close(self) -> None:
        """Wait until the device has been sent all; no more follows."""
        if self._closing is not None:
            await self.settled.wait()
            await end_tasks(self._closing)

    def listen(self) -> None:
        """Show that the device listens, for what is no command."""
        self._start()
        self._send(Event.VOICE_ASSISTANT_STT_START, {})

    def step(self, step: RunEvent) -> None:
        """Send what a step of the run is to the device."""
        if self.ended:
            return
        match step:
            case RunStart():
                self._start({"url": self._url} if self._url else {})
            case SttStart():
                self._send(Event.VOICE_ASSISTANT_STT_START, {})
            case SttVadStart():
                self._send(Event.VOICE_ASSISTANT_STT_VAD_START, {})
            case SttVadEnd():
                self._close_microphone()
            case SttEnd():
                self._close_microphone()
                self._send(Event.VOICE_ASSISTANT_STT_END, {"text": step.text})
            case ChatStart():
                self._send(Event.VOICE_ASSISTANT_INTENT_START, {})
            case ChatEnd():
                self._answer = step.text
                self._send_answer()
            case RunFailed():
                self.fail(_NOTHING_SAID if step.code in NOBODY_SPOKE else step.code, step.text)

    def sound_begins(self, *, fetched: bool) -> None:
        """The first sound is there: have it fetched at the URL, or announce it on this connection."""
        self.sounding = True
        if fetched:
            self._send(Event.VOICE_ASSISTANT_INTENT_PROGRESS, {"tts_start_streaming": "1"})
        else:
            # The firmware starts its speaker at a text, and to play what comes at an address; both may be anything.
            self._send_answer()
            if not self._answer:
                self._send(Event.VOICE_ASSISTANT_TTS_START, {"text": "…"})
            self._send(Event.VOICE_ASSISTANT_TTS_STREAM_START, {})
            self._send(Event.VOICE_ASSISTANT_TTS_END, {"url": "api:"})
        self._send_answer()

    def sound_ends(self, *, fetched: bool) -> None:
        """All sound is made, and the device has not been told so yet."""
        if self.ended:
            return
        self._send_answer(complete=True)
        if fetched:
            self._send(Event.VOICE_ASSISTANT_TTS_END, {"url": self._url})
        self._end()
        if not fetched:
            self._send(Event.VOICE_ASSISTANT_TTS_STREAM_END, {})

    def fail(self, code: str, text: str) -> None:
        """End the turn with an error."""
        if not self.ended:
            if not self._started:
                self._start()
            self._send(Event.VOICE_ASSISTANT_ERROR, {"code": code, "message": text})
            self._end()

    def end(self, *, nobody_spoke: bool = False) -> None:
        """End the turn if nothing has; the device may have been listening for a command that is taken elsewhere."""
        if self._listening:
            self.fail(_NOTHING_SAID if nobody_spoke else _ELSEWHERE, "")
        elif not self.ended:
            self._send_answer(complete=True)
            self._end()

    def _start(self, data: Mapping[str, str] | None = None) -> None:
        self._started = True
        self._send(Event.VOICE_ASSISTANT_RUN_START, data or {})

    def _close_microphone(self) -> None:
        if self._listening:
            self._listening = False
            self._send(Event.VOICE_ASSISTANT_STT_VAD_END, {})
            self.settled.clear()
            self._passes = 2
            self._closing = begin_task(self._let_pass(), "close a microphone")

    async def _let_pass(self) -> None:
        try:
            while self._passes:
                await self._round_trip()
                self._passes -= 1
                while self._held and self._held[0][0] >= self._passes:
                    self._send_now(*self._held.popleft()[1:])
        finally:
            self.settled.set()

    def _send(self, event: Event, data: Mapping[str, str]) -> None:
        """Send an event, as soon as the device has made the passes that it needs."""
        passes = 0 if event is Event.VOICE_ASSISTANT_RUN_END and not self.sounding else 1
        if self._held or self._passes > passes:
            self._held.append((passes, event, data))
        else:
            self._send_now(event, data)

    def _send_answer(self, *, complete: bool = False) -> None:
        """Send the text once it is complete and its sound has begun, or there will be no more of either."""
        if self._answer_sent or not (complete or (self.sounding and self._answer is not None)):
            return
        self._answer_sent = True
        again = self.sounding and self._asks_more(self._answer or "")
        self._send(
            Event.VOICE_ASSISTANT_INTENT_END,
            {"conversation_id": self._conversation_id, "continue_conversation": str(int(again))},
        )
        if self._answer:
            self._send(Event.VOICE_ASSISTANT_TTS_START, {"text": self._answer})

    def _end(self) -> None:
        self.ended = True
        self._listening = False
        if self.stream is not None and not self.sounding:
            self.stream.abort()
        self._send(Event.VOICE_ASSISTANT_RUN_END, {})
