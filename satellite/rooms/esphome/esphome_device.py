"""A connected ESPHome device as the device of a conversation: its microphone, its turns, its timers."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from aioesphomeapi.client import APIClient
from aioesphomeapi.core import APIConnectionError, TimeoutAPIError
from aioesphomeapi.model import (
    EntityInfo,
    MediaPlayerState,
    VoiceAssistantAnnounceFinished,
    VoiceAssistantAudioSettings,
    VoiceAssistantEventType,
    VoiceAssistantFeature,
)

from satellite.config.rooms import EsphomeRoomSettings
from satellite.errors import CannotListen, SatelliteError, Stage
from satellite.events import RunEvent
from satellite.rooms.conversation import Conversation
from satellite.rooms.device import Activity, RoomContext, RoomModes, room_request
from satellite.rooms.esphome.device_timers import DeviceTimers
from satellite.rooms.esphome.entities import Entities, PlayedFormat
from satellite.rooms.esphome.heard import HeardQueue
from satellite.rooms.esphome.output import outputs
from satellite.rooms.esphome.ownership import is_ours
from satellite.rooms.esphome.turn import Turn
from satellite.rooms.esphome.wake_words import chosen, configured, files_of, own_wake_words
from satellite.rooms.media import MediaStream
from satellite.rooms.run_steps import wants_more
from satellite.skills.timers.timers import TimerEvent, TimerEventKind
from satellite.tasks import begin_task, end_tasks

_LOGGER = logging.getLogger(__name__)

ERRORS = (APIConnectionError, TimeoutError)
"""What the methods of this package raise when the device is gone."""

_WAITING_SECONDS = 20.0
"""As long as the longest command."""

_LOST = "protocol-overload", "the daemon is too busy to hear the command"
_ROUND_TRIP_SECONDS = 0.5
_ENDING_SECONDS = 1.0
_SILENCE_SECONDS = 0.1
_ANNOUNCEMENT_SECONDS = 3600.0


class EsphomeDevice:
    """One device while it is connected, with the conversation that is held there."""

    def __init__(
        self,
        client: APIClient,
        address: str,
        flags: int,
        entities: Sequence[EntityInfo],
        room: EsphomeRoomSettings,
        context: RoomContext,
        modes: RoomModes,
        project: str,
    ) -> None:
        """Be the server of the device at the IP `address`, of `project`, with these `VoiceAssistantFeature` `flags`."""
        self.turn: Turn | None = None
        """The turn that is under way, or the last one."""

        self.failed = asyncio.Event()
        """Set when the conversation cannot go on."""
        self.left = False  # for a moment, which silences it

        self.wake_words: dict[str, bool] = {}
        """Whether the device listens for them, by the identifiers of those that it knows."""

        self.asked = asyncio.Event()
        """Set once the device has asked for a turn: it is ours."""

        self.entities = Entities(client, entities, self._note_modes, self._note_silence, project)
        self.capabilities = self.entities.capabilities(flags)
        self.output, self.media_output = outputs(self, self.entities, room.lead_in_seconds)
        self._client = client
        self._address = address
        self._flags = flags
        self._room = room
        self._context = context
        # The wake words of the room are the device's, and so are the sounds at the beginning and the end of a command.
        settings = room.model_copy(update={"wake_words": None, "sounds": False})
        self.conversation = Conversation(self, settings, context, modes)
        timers_of = client, self.entities, self.capabilities, self.conversation, context.scheduler
        # To be left ends the ring of linux-voice-assistant; nothing else does.
        leave = self._leave if self.entities.is_linux_voice_assistant else None
        self._timers = DeviceTimers(*timers_of, leave)
        self._heard = HeardQueue(_WAITING_SECONDS)
        self._listens_again = False
        """Whether the device opens its microphone by itself after what it plays at present."""

        self._follows = False
        self._missing = ""
        """Configured wake words that the device cannot listen for."""

        self._announcement: asyncio.Task[object] | None = None
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def trouble(self) -> str:
        """Return what is wrong with the device, though it is connected; empty if nothing is known to be."""
        missing = f"it does not know the wake word {self._missing}, or has no room for it" if self._missing else ""
        media = "" if self.media_output is None else self.media_output.trouble
        return "; ".join(filter(None, (self.output.trouble or media, missing)))

    def subscribe(self) -> None:
        """Ask the device to be its server, once more if that was done: it does not say whether it agrees."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        self._unsubscribe = self._client.subscribe_voice_assistant(
            handle_start=self._start,
            handle_stop=self._stop,
            handle_audio=self._hear,
            handle_announcement_finished=self._announcement_finished,
        )

    async def choose_wake_words(self) -> bool:
        """Offer the device the wake words of the house, and have it listen for those that are configured.

        Returns False where it says that it has none, as it does to all servers but its own.
        """
        words = await asyncio.to_thread(own_wake_words, self._context.stages.config.wake.custom_directory)
        url = ""
        if words and (media := self._context.media) is not None:
            with suppress(CannotListen):  # the answer reports it
                owner, host = self._room.name, self._room.media_host
                url = await media.publish_files(files_of(words), self._address, owner=owner, host=host)
        try:
            known = await configured(self._client, words if url else [], url)
        except TimeoutAPIError:  # firmware before 2024.10 knows no such question
            return True
        self.wake_words = {word.id: word.id in known.active_wake_words for word in known.available_wake_words}
        if wanted := self._room.wake_words:
            ids, unknown = chosen(wanted, known)
            self._missing = ", ".join(unknown)
            if ids and set(ids) != set(known.active_wake_words):
                await self._client.set_voice_assistant_configuration(ids)
                self.wake_words = {word: word in ids for word in self.wake_words}
        return bool(known.available_wake_words)

    async def is_ours(self) -> bool:
        """Return whether the device still hears us, as far as it can be told."""
        return await is_ours(self._client, self._flags, self.entities, self.conversation, self.wake_words)

    async def restore(self) -> None:
        """Set what was set for the room, where the device itself does not keep it, and show the timers."""
        if not self.entities.has_volume:
            await self.conversation.restore()
        if (scheduler := self._context.scheduler) is not None:
            for timer in scheduler.timers.pending():
                if timer.place == self._room.name:
                    left = scheduler.timers.left(timer)
                    await self.show_timer(TimerEvent(TimerEventKind.UPDATED, timer, round(left)))

    async def pump(self) -> None:
        """Hand on what the microphone hears, in order, until cancelled."""
        while True:
            heard = await self._heard.next()
            if isinstance(heard, bytes):
                await self.conversation.hear(heard)
            else:
                await self._begin(heard)

    async def close(self) -> None:
        """End the conversation, with a call and with media, and let the device go."""
        await self.conversation.close()
        await self.conversation.end()  # the device may be there yet, and sound
        with suppress(*ERRORS):
            await self.stop_listening()
            if self.turn is not None:
                await self.turn.close()
            if self._unsubscribe is not None:
                self._unsubscribe()
        if self._announcement is not None:
            await end_tasks(self._announcement)

    # What the device says.

    async def _start(
        self, _conversation_id: str, _flags: int, _settings: VoiceAssistantAudioSettings, phrase: str | None
    ) -> int:
        self.asked.set()
        self._heard.request(phrase or "")
        return 0  # over this connection

    async def _stop(self, abort: bool) -> None:
        if not abort:
            self.conversation.end_audio()
        elif self._heard.withdraw():  # the device waits for nothing, and may have asked again
            return
        elif self.turn is not None and not self.turn.ended:  # else it confirms the end that it was sent
            self._listens_again = False
            await self.conversation.stop()

    async def _hear(self, data: bytes, second: bytes | None) -> None:
        in_time = not self._heard.overfull
        self._heard.audio(second if second and self._room.microphone_channel == 2 else data)
        if in_time and self._heard.overfull:
            await self._lose_command()

    async def _announcement_finished(self, _message: VoiceAssistantAnnounceFinished) -> None:
        self.output.note_finished()  # whatever it says: linux-voice-assistant always reports a failure

    def _note_silence(self, before: MediaPlayerState) -> None:
        output = self.output if before is MediaPlayerState.ANNOUNCING else self.media_output
        if output is not None:
            output.note_finished(by_player=True)

    async def _lose_command(self) -> None:
        """Fail the turn whose audio comes faster than it can be handled: the device shows an error."""
        name = self._room.name
        _LOGGER.warning("room %s: a command could not be heard in time, and is lost", name, extra={"room": name})
        if self.turn is not None:
            self.turn.fail(*_LOST)
        await self.conversation.stop()

    def _note_modes(self) -> None:
        modes = self.conversation.modes
        modes.muted = modes.muted if self.entities.muted is None else self.entities.muted
        modes.volume = modes.volume if self.entities.volume is None else self.entities.volume

    async def _begin(self, phrase: str) -> None:
        # Somebody may have stopped the answer at the device, which does not listen again then.
        in_time = self.conversation.active or self.conversation.expects_command
        self._follows, self._listens_again = self._listens_again and in_time, False
        if self._follows:
            # It says so at the moment at which it has played the answer: the run of that ends only now.
            await self.conversation.ended(_ENDING_SECONDS)
        stream = None
        if self.entities.played is not None:
            with suppress(CannotListen):  # the answer tries again, and reports why it is not heard
                stream = await self.publish(self.entities.played)
        if self.turn is not None:
            await self.turn.close()
            if self.turn.stream is not None:
                self.turn.stream.abort()
        self.turn = Turn(self._send, self._round_trip, stream, self._room.name, self._asks_more)
        end = Stage.TTS if self.capabilities.speaker else Stage.CHAT
        if not self._heard.accept():  # taken back meanwhile
            self.turn.ended = True
            return
        if self._heard.overfull:  # meanwhile
            self.turn.fail(*_LOST)
            return
        # Firmware repeats the last wake word when it listens again.
        heard = None if self._follows or not phrase else phrase
        await self.conversation.begin(room_request(self.conversation.room, Stage.STT, end), wake_word=heard)
        if self.conversation.in_call:
            self.turn.listen()

    def _asks_more(self, answer: str) -> bool:
        self._listens_again = wants_more(answer, self._room.follow_up)
        return self._listens_again

    # What the conversation says.

    async def show(self, step: RunEvent, activity: Activity) -> None:
        """Send the step as an event of the voice assistant."""
        if self.turn is not None:
            self.turn.step(step)

    async def show_timer(self, event: TimerEvent) -> None:
        """Show the timer; a device that shows timers rings by itself, until it is stopped there or here."""
        with self._errors():
            await self._timers.show(event)

    def _leave(self) -> None:
        if self.turn is None or self.turn.ended:  # else the wake word has silenced it there
            self.left = True
            self.fail()

    async def interrupted(self, wake_word: str | None) -> None:
        """Do nothing: the microphone is closed while an answer is heard."""

    async def stop_listening(self) -> None:
        """End the turn if no event has."""
        if self.turn is not None:
            self.turn.end(nobody_spoke=self._follows)
            # What was heard elsewhere leaves the device nothing to play, after which it would listen again.
            heard = not self.turn.sounding and not self.conversation.modes.listen_only
            if heard and self.conversation.expects_command:
                with suppress(SatelliteError):
                    await self.open_microphone()

    async def open_microphone(self) -> None:
        """Press the button of the device that does it, or have it announce a short silence and listen after that."""
        if self.entities.has_start_button:
            with self._errors():
                self.entities.press_start()
        elif self._flags & VoiceAssistantFeature.START_CONVERSATION and self.entities.played is not None:
            url = await self._short_silence()
            self._listens_again = True
            self._announce(url, start_conversation=True)
        else:
            reason = "cannot be made to listen: its firmware knows no way"
            raise SatelliteError(f"{self._room.name} {reason}", code="room-cannot-start")

    async def set_muted(self, muted: bool) -> None:
        """Switch the microphone off or on, where the device has a switch for it."""
        with self._errors():
            self.entities.set_muted(muted)

    async def set_volume(self, volume: float) -> bool:
        """Set the loudness; return False where the device has none."""
        with self._errors():
            return self.entities.set_volume(volume)
        return False

    def fail(self) -> None:
        """Let the device be connected again."""
        self.failed.set()

    # What the outputs need.

    async def publish(self, played: PlayedFormat) -> MediaStream:
        """Return a new stream that the device can fetch."""
        if (media := self._context.media) is None:
            raise CannotListen("there is nothing that it could fetch sound from")
        return await media.publish(played.layout, played.container, self._address, host=self._room.media_host)

    def announce(self, url: str) -> bool:
        """Have a sound announced that belongs to no turn; return whether the assistant says when it is over."""
        if self._flags & VoiceAssistantFeature.ANNOUNCE:
            self._announce(url)
            return True
        self.play(url, announcement=True)
        return False

    def play(self, url: str, *, announcement: bool) -> None:
        """Have the media player play a sound, beside whatever the assistant does."""
        with self._errors():
            self.entities.play(url, announcement=announcement)

    def silence(self, *, announcement: bool) -> None:
        """Stop what the media player plays."""
        if not (announcement and self.entities.is_linux_voice_assistant):
            with self._errors():
                self.entities.silence(announcement=announcement)
        elif self.turn is None or self.turn.ended or self.turn.sounding:  # else the wake word has silenced it there
            # Nothing but another announcement ends what is said, of which it has fetched two seconds.
            self._announce("")

    def send_audio(self, pcm: bytes) -> None:
        """Send canonical sound to the speaker."""
        with self._errors():
            self._client.send_voice_assistant_audio(pcm)

    def end_sound(self, *, announcement: bool) -> None:
        """Have what is heard, or media, ended soon."""
        if not announcement:
            self.conversation.stop_media()
            return
        self._context.stages.background.run(f"end sound {self._room.name}", self.conversation.stop)

    async def _short_silence(self) -> str:
        if (played := self.entities.played) is None:
            raise CannotListen("it fetches nothing")
        stream = await self.publish(played)
        await stream.write(bytes(round(_SILENCE_SECONDS * played.layout.rate) * played.layout.frame_bytes))
        stream.end()
        return stream.url

    def _announce(self, url: str, *, start_conversation: bool = False) -> None:
        """Have it announced, in place of what is: where `url` is empty, a silence."""

        async def announce() -> None:
            with suppress(*ERRORS, CannotListen):
                what = url or await self._short_silence()
                await self._client.send_voice_assistant_announcement_await_response(
                    what, _ANNOUNCEMENT_SECONDS, start_conversation=start_conversation
                )

        if self._announcement is not None:
            self._announcement.cancel()
        self._announcement = begin_task(announce(), f"announce {self._room.name}")

    async def _round_trip(self) -> None:
        with suppress(*ERRORS):
            async with asyncio.timeout(_ROUND_TRIP_SECONDS):
                await self._client.device_info()

    def _send(self, event: VoiceAssistantEventType, data: Mapping[str, str]) -> None:
        with self._errors():
            self._client.send_voice_assistant_event(event, dict(data))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Make a lost connection a reason to connect again; the room finds out for itself that it is lost."""
        try:
            yield
        except APIConnectionError as error:
            _LOGGER.debug("room %s: nothing can be sent: %s", self._room.name, error, extra={"room": self._room.name})
            self.failed.set()
