"""What esphome's `voice_assistant` component does, as of 2026.10: its states, its microphone, its two seconds."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Literal, TypeAlias

import numpy as np

from satellite.audio.pcm import CANONICAL, RATE
from satellite.tasks import begin_task, end_tasks
from tests.doubles.esphome_player import ApiSpeaker, Fetching, MediaPlayer, Waves, loud
from tests.doubles.esphome_wire import Message, pb

_PLAYBACK_SECONDS = 2.0
"""How long it waits, without a sound, for playback to begin or to go on before it takes it for finished."""

_RING_SECONDS = 0.512
"""How much its microphone remembers until the server is ready."""

PASS_SECONDS = 0.016
"""Between two passes of the firmware's main loop: what came since the last one is handled, and then the states are."""

_TICK_SECONDS = 0.001
"""A clock that has been set by floating point may be short of a moment by less than it can show."""

_QUIET_ERRORS = ("wake-word-timeout", "wake_word_detection_aborted", "no_wake_word")
_TONE = np.random.default_rng(0).normal(0, 8, RATE).astype(np.int16)

Output: TypeAlias = Literal["media", "speaker", "none"]


class State(Enum):
    """The firmware's, but for those that it only passes through."""

    IDLE = auto()
    STARTING_PIPELINE = auto()
    STREAMING_MICROPHONE = auto()
    STOP_MICROPHONE = auto()
    STOPPING_MICROPHONE = auto()
    AWAITING_RESPONSE = auto()
    STREAMING_RESPONSE = auto()
    RESPONSE_FINISHED = auto()


@dataclass(eq=False, kw_only=True)
class AssistantSettings(Fetching):
    """What the assistant is; may be changed while it runs."""

    output: Output = "media"
    """A media player that fetches URLs, a bare speaker that gets audio over the API, or nothing."""

    second_channel: bool = False
    """A second microphone, whose sound goes along."""

    chunk_samples: int = 512
    uses_vad: bool = True
    has_wake_words: bool = True
    announce_success: bool = True
    """False: announcements are said to have failed, as linux-voice-assistant does."""

    is_lva: bool = False
    """It is linux-voice-assistant: it belongs to the server that has connected last, only the wake word and the end of
    the connection silence its ring, and it hears no wake word during an answer."""

    silent_microphone: bool = False
    echo_cancelled: bool = False
    """Its microphone does not hear its own player."""


@dataclass(eq=False)
class Room:
    """The sound of the room, as its microphone hears it."""

    said: list[tuple[float, Waves]] = field(default_factory=list)
    """When something is said, and how it sounds at 16 kHz."""

    async def say(self, pcm: bytes) -> None:
        """Speak canonical `pcm`; returns when it is said. Cancelling it ends the speech."""
        now, waves = time.monotonic(), np.frombuffer(pcm, np.int16)
        self.said.append((now, waves))
        try:
            await asyncio.sleep(len(waves) / RATE)
        except asyncio.CancelledError:
            self.said[-1] = (now, waves[: int((time.monotonic() - now) * RATE)])
            raise

    def waves(self, at: float, samples: int) -> Waves:
        room = _TONE[:samples].copy()
        for since, waves in self.said[-4:]:
            first = round((at - since) * RATE)
            part = waves[max(0, first) : max(0, first + samples)]
            room[max(0, -first) : max(0, -first) + len(part)] = part
        return room


class Assistant:
    """The component; `send` reaches its one server, and raises nothing without it."""

    def __init__(self, settings: AssistantSettings, send: Callable[[Message], None], changed: Callable[[], None]):
        self.state = State.IDLE
        self.player = MediaPlayer(settings, self._player_changed)
        self.speaker = ApiSpeaker()
        self.room = Room()
        self.muted = False
        self.deaf = False
        """Whether it waits for the end of an answer that never comes."""

        self.streaming_since: float | None = None
        """Since when the microphone goes to the server."""

        self.microphone_open = False
        """Whether the microphone is on, which may be without anybody who gets its sound."""

        self.overheard_seconds = 0.0
        """How much of what it plays itself has gone to the server as if somebody had said it."""

        self.streams = 0
        """How often the microphone was opened."""

        self._settings, self._send, self._changed = settings, send, changed
        self._url = ""
        self._phrase = ""
        self._conversation = ""
        self._continue = False
        self._streaming_answer = False
        self._url_sent_at = 0.0
        self._response: Literal["none", "sent", "playing"] = "none"
        self._stream_ended = False
        self._waits_for_stream = False
        self._microphone_since = 0.0
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, phrase: str = "") -> bool:
        """Ask the server to listen; False when it is not idle."""
        if self.state is not State.IDLE:
            return False
        self._phrase = phrase
        self._request()
        return True

    async def next_pass(self) -> None:
        """Wait until the states are handled that messages have set, which is before more messages are."""
        if self.state in (State.STOP_MICROPHONE, State.STOPPING_MICROPHONE):
            await asyncio.sleep(PASS_SECONDS)

    def stop(self) -> None:
        """Do what `voice_assistant.stop` does."""
        self._continue = False
        match self.state:
            case State.STARTING_PIPELINE | State.STREAMING_MICROPHONE:
                self._signal_stop()
                self._become(State.IDLE)
            case State.STOP_MICROPHONE | State.STOPPING_MICROPHONE:
                self._become(State.IDLE)
            case State.AWAITING_RESPONSE:
                self._signal_stop()
            case State.STREAMING_RESPONSE if self._settings.output == "media":
                if self._streaming_answer:
                    self._signal_stop()
                self.player.command("STOP", announcement=True)

    def ring(self) -> None:
        """Ring, in place of what it says."""
        self.deaf = self._settings.is_lva and self.state is State.STREAMING_RESPONSE
        self.player.command("REPEAT_ONE", announcement=True)
        self.player.command("STOP", announcement=True)

    def server_gone(self) -> None:
        """Lose the server; what plays goes on."""
        self.deaf = False
        self._end("playback")
        self._become(State.IDLE)
        self.speaker.stop()

    async def close(self) -> None:
        """Lose the power."""
        self.server_gone()
        await end_tasks(*self._tasks.values())
        await self.player.close()

    def take(self, kind: str, message: Message) -> None:
        """Do what a message from its server says."""
        match kind:
            case "VoiceAssistantResponse":
                self._ready(message.error)
            case "VoiceAssistantEventResponse":
                name = pb.VoiceAssistantEvent.Name(message.event_type).removeprefix("VOICE_ASSISTANT_")
                self._event(name, {entry.name: entry.value for entry in message.data})
            case "VoiceAssistantAudio" if self._settings.output == "speaker":
                # Its buffers are freed while idle; microphone and speaker share a bus, as on an Atom Echo.
                if self.state is State.IDLE or self.microphone_open:
                    self.speaker.lost_bytes += len(message.data)
                else:
                    self.speaker.take(message.data)
            case "VoiceAssistantAnnounceRequest" if self._settings.output == "media":
                self._announce(message)

    def _request(self) -> None:
        flags = 0 if self._continue or not self._settings.has_wake_words else pb.VOICE_ASSISTANT_REQUEST_USE_WAKE_WORD
        flags |= pb.VOICE_ASSISTANT_REQUEST_USE_VAD if self._settings.uses_vad else 0
        self._microphone_since = time.monotonic()
        self._response = "none"
        self._become(State.STARTING_PIPELINE)
        self._send(
            pb.VoiceAssistantRequest(
                start=True,
                conversation_id=self._conversation,
                flags=flags,
                audio_settings=pb.VoiceAssistantAudioSettings(noise_suppression_level=0, auto_gain=0),
                wake_word_phrase=self._phrase,
            )
        )

    def _ready(self, error: bool) -> None:
        if error:
            self._become(State.IDLE)
        elif self.state is not State.STARTING_PIPELINE:
            self._signal_stop()
        else:
            self._become(State.STREAMING_MICROPHONE)

    def _event(self, name: str, data: dict[str, str]) -> None:
        match name:
            case "RUN_START":
                self._streaming_answer = False
                self._url = data.get("url", self._url)
            case "STT_VAD_END":
                self._become(State.STOP_MICROPHONE)
            case "INTENT_PROGRESS":
                if data.get("tts_start_streaming") == "1" and self._url and self._settings.output == "media":
                    self._fetch(self._url)
                    self._streaming_answer, self._url = True, ""
                    self._become(State.STREAMING_RESPONSE)
            case "INTENT_END":
                self._conversation = data.get("conversation_id", self._conversation)
                if "continue_conversation" in data:
                    self._continue = data["continue_conversation"] == "1"
            case "TTS_END" if data.get("url"):
                self._speech_made(data["url"])
            case "TTS_STREAM_START":
                self._waits_for_stream = self._settings.output == "speaker"
            case "TTS_STREAM_END":
                self._stream_ended = self._settings.output == "speaker"
                self._speaker_changed()
            case "RUN_END":
                # Nothing happens to a response that is played: this is no end of it.
                if self.state in (State.STARTING_PIPELINE, State.STREAMING_MICROPHONE, State.AWAITING_RESPONSE):
                    self._become(State.IDLE)
            case "ERROR":
                self._error(data.get("code", ""))

    def _speech_made(self, url: str) -> None:
        if self._settings.output == "media" and not self._streaming_answer:
            self._fetch(url)
        self._streaming_answer = False
        self._become(State.IDLE if self._settings.output == "none" else State.STREAMING_RESPONSE)
        self._speaker_changed()

    def _error(self, code: str) -> None:
        if code in _QUIET_ERRORS:
            return
        if code in ("wake-provider-missing", "wake-engine-missing"):
            self.stop()
        elif self.state is not State.IDLE:
            self._signal_stop()
            self._become(State.IDLE)

    def _announce(self, message: Message) -> None:
        self._response, self._url_sent_at = "sent", time.monotonic()
        if message.preannounce_media_id:
            self.player.play(message.preannounce_media_id, announcement=True)
        # linux-voice-assistant plays it in place of what it says.
        cuts = self._settings.is_lva and not message.preannounce_media_id
        self.player.play(message.media_id, announcement=True, enqueue=not cuts)
        self._continue = message.start_conversation
        self._begin("playback", self._time_out())
        self._become(State.STREAMING_RESPONSE)

    def _fetch(self, url: str) -> None:
        self._response, self._url_sent_at = "sent", time.monotonic()
        self.player.play(url, announcement=True)
        self._begin("playback", self._time_out())

    async def _time_out(self) -> None:
        while True:
            heard = self.player.announcements.current
            since = max(self._url_sent_at, heard.until if heard and self._response == "playing" else 0.0)
            left = since + _PLAYBACK_SECONDS - time.monotonic()
            if left < _TICK_SECONDS:
                break
            await asyncio.sleep(left)
        self._finished()

    def _player_changed(self) -> None:
        if self.player.state == "ANNOUNCING":
            if self._response == "sent":
                self._response = "playing"
        elif self._response == "playing":
            self._response = "none"
            if self.state is State.STREAMING_RESPONSE:
                self._end("playback")
                self._finished()
        self._changed()

    def _speaker_changed(self) -> None:
        if self.state is State.STREAMING_RESPONSE and self._waits_for_stream and self._stream_ended:
            self._begin("playback", self._finish_speaking())

    async def _finish_speaking(self) -> None:
        self.state = State.RESPONSE_FINISHED
        await self.speaker.finish()
        self._waits_for_stream = self._stream_ended = False
        self._go_on()

    def _finished(self) -> None:
        self.state = State.RESPONSE_FINISHED
        self._send(pb.VoiceAssistantAnnounceFinished(success=self._settings.announce_success))
        self._go_on()

    def _go_on(self) -> None:
        if self._continue:
            self._request()
        else:
            self._become(State.IDLE)

    def _signal_stop(self) -> None:
        self._send(pb.VoiceAssistantRequest(start=False))

    def _become(self, state: State) -> None:
        self.state = state
        if state is State.STREAMING_MICROPHONE:
            self.streams += 1
            self.streaming_since = time.monotonic()
            self._begin("microphone", self._stream())
            self.microphone_open = True
        else:
            if self.streaming_since is not None:
                self.streaming_since = None
                self._end("microphone")
            if state is State.STOP_MICROPHONE:
                self._begin("stopping", self._stop_microphone())
            elif state is State.IDLE:
                self.microphone_open = False

    async def _stop_microphone(self) -> None:
        """Pass through the states that lead to an answer, unless a message sets another one meanwhile."""
        await asyncio.sleep(PASS_SECONDS)
        if self.state is State.STOP_MICROPHONE:
            self.microphone_open = False
            self._become(State.STOPPING_MICROPHONE)
        await asyncio.sleep(PASS_SECONDS)
        if self.state is State.STOPPING_MICROPHONE:
            self._become(State.AWAITING_RESPONSE)

    async def _stream(self) -> None:
        at = max(self._microphone_since, time.monotonic() - _RING_SECONDS)
        samples = self._settings.chunk_samples
        while True:
            await asyncio.sleep(max(0.0, at + samples / RATE - time.monotonic()))
            sound = self.hear(at, samples)
            at += samples / RATE
            if not self._settings.silent_microphone:
                self._send(pb.VoiceAssistantAudio(data=sound, data2=sound if self._settings.second_channel else b""))

    def hear(self, at: float, samples: int) -> bytes:
        """Return what the microphone hears from `at` on, and count what it plays itself."""
        if self.muted:
            return bytes(samples * CANONICAL.frame_bytes)
        room = self.room.waves(at, samples)
        if not self._settings.echo_cancelled:
            played = self.player.waves(at, samples) + self.speaker.waves(at, samples)
            self.overheard_seconds += float(loud(played).sum() / RATE)
            room = np.clip(room.astype(np.int32) + played, -32768, 32767).astype(np.int16)
        return room.tobytes()

    def _begin(self, name: str, work: Any) -> None:
        self._end(name)
        self._tasks[name] = begin_task(work, name)

    def _end(self, name: str) -> None:
        task = self._tasks.get(name)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
