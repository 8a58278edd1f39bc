"""The one conversation, held alike in every room, and all that can be done there beside it.

What a protocol needs beside that is the concern of the `Device`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence

from satellite.audio.pcm import CANONICAL
from satellite.config.rooms import RoomSettings
from satellite.engines.protocols import Transcription
from satellite.errors import SatelliteError, SpeechToTextError, Stage, StageError
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import RunRequest
from satellite.pipeline.run import Run
from satellite.rooms.barge_in import Interruption, WakeWordInterrupter
from satellite.rooms.call import Call, CallSide
from satellite.rooms.chimes import chime
from satellite.rooms.device import Device, RoomContext, RoomModes
from satellite.rooms.echo_gate import EchoGate
from satellite.rooms.elsewhere import HeardRoom
from satellite.rooms.expectation import Expectation
from satellite.rooms.playback import SharedSound, Sounding
from satellite.rooms.run_chain import RunChain
from satellite.rooms.run_steps import RunOutcome
from satellite.rooms.stop_words import StopListener
from satellite.tasks import begin_task, first_of

_LOGGER = logging.getLogger(__name__)

_OPENING_SECONDS = 5.0
"""How long a device may take to open its microphone."""

_WAKE_WORD_SECONDS = 2.0
"""How long after a wake word of its own a device may take to begin."""


class Conversation(RunChain):
    """What happens in one room while its device is connected."""

    def __init__(
        self, device: Device, room: RoomSettings, context: RoomContext, modes: RoomModes | None = None
    ) -> None:
        """Hold conversations with `device`, in the `modes` that were set for the room."""
        super().__init__(device, room, context, modes or RoomModes())
        # While somebody speaks with the room the run itself listens for it.
        self._stop_listener = StopListener(
            context.stages, room, lambda: not self.engaged and self.sounding is not None, self.stop
        )
        self._side: CallSide | None = None
        """The room's side of the call that it is in."""

        self._echo_gate: EchoGate | None = None
        """Holds back the echo of a call where the device does not."""

        self._opens_until = 0.0
        """Until when the device may open its microphone because it was told to, by `time.monotonic`."""

        if context.speakers is not None:
            context.speakers.add(self)

    @property
    def sounding(self) -> Sounding | None:
        """What sounds in the room, or in others at its speaker; a timer does so also between one ring and the next."""
        return next((one for room in (self, *self._beside) if (one := room.own_sounding) is not None), None)

    @property
    def own_sounding(self) -> Sounding | None:
        """What the room itself has begun that sounds."""
        if self._side is not None and self._side.call.began_at is not None:
            return Sounding.CALL
        rings = Sounding.TIMER if self.ringing is not None and self.ringing.active else None
        return self._sound.sounding or rings

    async def hear(self, pcm: bytes) -> None:
        """Take canonical audio of the microphone; without a run under way, and a sound, it only counts as loudness."""
        await super().hear(pcm)
        if not self.modes.muted:
            if self._side is not None:
                self._side.say(pcm if self._echo_gate is None else self._echo_gate.hear(pcm))
            await self._stop_listener.hear(pcm)

    async def close(self) -> None:
        """End all that is under way, since the device has gone; may be called twice."""
        self._end_call(f"{self.room.name} has gone")
        self._expected.put(None)  # who has asked need not wait for an answer
        if self._context.speakers is not None:
            self._context.speakers.remove(self)
        await self._stop_listener.close()
        await super().close()

    async def end(self) -> None:
        """End the call and the runs that are under way, and silence the answer: nobody hears the microphone now."""
        self._end_call(f"{self.room.name} no longer listens")
        await super().end()

    @property
    def in_call(self) -> bool:
        """Whether the room is in a call with another."""
        return self._side is not None and not self._side.call.over

    async def begin(self, request: RunRequest, *, restart: bool = False, wake_word: str | None = None) -> None:
        """Begin a chain of runs, see `RunChain.begin`; in a call the device is heard by the other room instead."""
        told_to, self._opens_until = time.monotonic() < self._opens_until, 0.0
        if self._side is None or self._side.call.over or restart:
            if told_to and wake_word is None and request.start is Stage.STT and not self.expects_command:
                await self._device.stop_listening()  # what it was to open its microphone for was stopped meanwhile
            else:
                await super().begin(request, restart=restart, wake_word=wake_word)
        elif wake_word is not None or (self._task is not None and request.start is Stage.STT):
            self._end_call(f"somebody has called {self.room.name}")  # by the wake word, or by a button
            await self._device.stop_listening()
        else:
            await self._end_chain()
            self._inbox = AudioInbox()
            self._inbox.lossy = True
            self._task = begin_task(self._hear_call(self._side.call), f"call in {self.room.name}")
            self._task.add_done_callback(self._ended_unexpectedly)

    def await_command(self, seconds: float = _WAKE_WORD_SECONDS) -> None:
        """Let no announcement sound into a command that follows, for it may take `seconds` to begin or to end."""
        if not self.engaged:
            self._sound.release(seconds)

    async def ended(self, seconds: float) -> None:
        """Wait until the chain of runs that is under way has ended, for `seconds` at most."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)

    # What a program, or somebody in another room, has the room do.

    async def announce(self, sound: SharedSound) -> None:
        """Play a sound while nobody speaks with the room; returns when it was heard, or somebody has silenced it.

        Cancelling or failing silences it. Raises `SatelliteError` where it cannot be heard.
        """
        await self._sound.announce(sound, Sounding.ANNOUNCEMENT)

    async def play(self, media: SharedSound) -> None:
        """Play media, such as music or a radio, in place of other media; returns when it is over or was stopped.

        It is quieter while somebody speaks with the room, or something is said there. Cancelling stops it. Raises
        `SatelliteError` where it cannot be heard, and what `media` ends with.
        """
        await self._sound.play(media)

    @property
    def plays_media(self) -> bool:
        """Whether media is played."""
        return self._sound.plays_media

    def stop_media(self) -> bool:
        """Stop media, as `stop` does with all that sounds; return whether there was any."""
        return self._sound.stop_media()

    async def ring(self, sound: SharedSound) -> None:
        """Play the sound of a timer that has ended, as an announcement."""
        await self._sound.ring(sound)

    async def ask(self, question: SharedSound | None, *, language: str | None = None) -> Transcription:
        """Play a question while nobody speaks with the room, listen without a wake word, and return what was said.

        Without a `question` it only listens. Raises `SatelliteError`: a run's codes, such as `stt-no-speech`;
        `room-cannot-start`; `room-busy` if somebody has begun to speak with the room instead.
        """
        await self._prepare_to_listen()
        if question is None:
            await self._sound.take_turn(quiet=True)
        elif not await self._sound.announce(question, Sounding.ANNOUNCEMENT, hold=True):
            raise SatelliteError(f"somebody in {self.room.name} has stopped the question", code="room-busy")
        hub = self._context.stages.config.hub
        heard: asyncio.Future[Transcription] = asyncio.get_running_loop().create_future()
        command = Expectation(time.monotonic() + hub.follow_up_seconds, heard=heard, language=language)
        try:
            if self.engaged:
                raise SatelliteError(f"somebody speaks with {self.room.name}", code="room-busy")
            await self._listen(command)
            try:
                async with asyncio.timeout(command.until - time.monotonic()):
                    await command.begun.wait()
            except TimeoutError:
                raise SpeechToTextError("nobody spoke", kind="no-speech") from None
            return await heard
        finally:
            heard.cancel()
            if self._expected.command is command:
                self._expected.put(None)
                self._rest()
            elif self._present is command and self._run is not None and not self._run.done():
                await self._interrupt(self._run, Interruption(command_follows=False))

    async def start(self) -> None:
        """Listen to a command now, without a wake word, in place of what is under way; returns at once.

        Raises `SatelliteError` (`room-cannot-start`) where that is impossible.
        """
        await self._prepare_to_listen()
        self._sound.hold()
        self._sound.end_announcement()
        self.silence_ringing()
        await self._listen(Expectation(time.monotonic() + _OPENING_SECONDS, follows=False))

    async def stop(self) -> bool:
        """Silence all that sounds, and end a command or an answer; return whether there was anything.

        Of rooms at the same speaker it silences what sounds. The room goes on waiting for the wake word.
        """
        stopped = [await room.silence() for room in (self, *self._beside)]
        return await self._end_command() or any(stopped)

    async def silence(self) -> bool:
        """End all that the room has begun that sounds, its answer as well; return whether there was anything."""
        stopped = self._end_call(f"it was stopped in {self.room.name}")
        stopped = self._sound.end_announcement(stopped=True) or stopped
        stopped = self._sound.stop_media() or stopped
        stopped = super().silence_ringing() or stopped
        if self._sound.sounding is Sounding.ANSWER and self._run is not None:
            stopped = await self._interrupt(self._run, Interruption(command_follows=False)) or stopped
        return stopped

    def silence_ringing(self) -> bool:
        """Silence what rings, as `RunChain.silence_ringing`, and what rings or is said at the same speaker."""
        for other in self._beside:
            other.give_way()
        return super().silence_ringing()

    def give_way(self) -> None:
        """Somebody speaks with another room at the same speaker: end what a wake word ends."""
        self._end_call(f"somebody near the speaker of {self.room.name} has spoken to another room")
        self._sound.end_announcement()
        if self.ringing is not None and self.ringing.active:
            self.ringing.silence()

    async def join(self, side: CallSide) -> None:
        """Take part in a call until it is over, and end it when this returns; a chime says that it begins, and ends.

        Nothing said is a command meanwhile, but that the wake word, "stop" and the like end the call. Raises
        `SatelliteError` where the room cannot hear or play, and `ConnectionError`.
        """
        try:
            await self._leave_call()
            if not self._speaks:
                raise SatelliteError(f"{self.room.name} has no speaker", code="room-unreachable")
            self._sound.check_plays()
            await self._sound.take_turn()
            self._side = side
            if not self._device.capabilities.cancels_echo:
                self._echo_gate = EchoGate()
                self._echo_gate.play(chime(CANONICAL))  # by which it learns how loud the echo is
            if not self._hears:
                await self._open_microphone()
            await side.ready()
            if side.call.began_at is not None:
                await first_of("what a call says", self._sound.converse(self._far(side)), side.hurried())
        finally:
            side.call.end(f"{self.room.name} has left it")
            if self._side is side:
                self._side = self._echo_gate = None
                self._rest()
            side.note_left()

    async def _far(self, side: CallSide) -> AsyncIterator[bytes]:
        """Yield what the other room of a call says, as it is about to be played."""
        async for pcm in side:
            if self._echo_gate is not None:
                self._echo_gate.play(pcm)
            yield pcm

    async def restore(self) -> None:
        """Set at the device what was set for the room: it has been connected."""
        if self.modes.muted:
            await self._device.set_muted(True)
        if self.modes.volume is not None:
            await self.set_volume(self.modes.volume)

    async def set_muted(self, muted: bool) -> None:
        """Hear nothing any more, or again; a command that is being spoken ends."""
        self.modes.muted = muted
        if muted and (self.expects_command or not self._answering.is_set()):
            await self._end_command()
        await self._device.set_muted(muted)

    async def set_volume(self, volume: float) -> None:
        """Set how loud the room is, from 0 to 1."""
        self.modes.volume = volume
        sets_its_own = not self._is_heard_elsewhere and await self._device.set_volume(volume)
        self._sound.set_volume(1.0 if sets_its_own else volume)

    async def set_listen_only(self, listen_only: bool) -> None:
        """Do commands without a sound from now on, or with them again."""
        self.modes.listen_only = listen_only
        if listen_only:
            self._sound.end_announcement(stopped=True)
            self._sound.stop_media()
            await self._sound.silence_answer()

    @property
    def _beside(self) -> Sequence[HeardRoom]:
        """The other rooms that are heard at the same speaker."""
        speakers = self._context.speakers
        return () if speakers is None else speakers.beside(self)

    @property
    def _hears(self) -> bool:
        """Whether the microphone is heard already."""
        return not self.modes.muted and self._task is not None and self._streams and not self._inbox.ended

    async def _open_microphone(self, command: Expectation | None = None) -> None:
        """Have the device begin to stream, for a `command`."""
        self._check_not_muted()
        self._expected.put(command)
        await self._end_chain()
        await self._sound.silence_answer()
        if command is not None:
            if self._expected.command is not command:
                return  # it was stopped
            self._rest()  # until it begins announcements wait
        self._opens_until = time.monotonic() + _OPENING_SECONDS
        await self._device.open_microphone()

    async def _end_command(self) -> bool:
        """End a command that is spoken or about to be, and what answers it; return whether there was one."""
        expected = self.expects_command
        if expected:
            self._expected.put(None)
            if self._task is None:
                self._opens_until = time.monotonic() + _OPENING_SECONDS
                self._rest()
        if self._interruption is not None:  # the next command was to follow at once
            self._interruption = Interruption(command_follows=False)
        if self._run is None or not (self.engaged or self._present is not None):
            return expected
        return await self._interrupt(self._run, Interruption(command_follows=False)) or expected

    async def _hear_call(self, call: Call) -> None:
        """Listen for what ends a call, where no run does, until it is over."""
        self.engaged = True
        interrupter = WakeWordInterrupter(self._context.stages, self.room, self._inbox)
        try:
            await first_of(f"call in {self.room.name}", interrupter.wait(), call.ended())
        except StageError as error:
            name = self.room.name
            _LOGGER.warning("room %s: only a button ends the call: %s", name, error, extra={"room": name})
            await call.ended()
        finally:
            self.engaged = False
            self.ended_at = time.monotonic()
            if self._task is asyncio.current_task():
                self._task = None
        call.end(f"somebody in {self.room.name} has ended it")
        await self._device.stop_listening()

    async def _heard_wake_word(self, name: str) -> None:
        if self._end_call(f"somebody in {self.room.name} has said the wake word"):
            await self._drop_run()
        await super()._heard_wake_word(name)

    def _end_call(self, reason: str) -> bool:
        """End the call that the room is in; return whether there was one."""
        if self._side is None or self._side.call.over:
            return False
        self._side.call.end(reason)
        return True

    async def _prepare_to_listen(self) -> None:
        await self._leave_call()
        self._check_not_muted()

    async def _leave_call(self) -> None:
        """Leave a call that is over, whose end may still be heard. Raises `SatelliteError` in one that is not."""
        if self._side is not None:
            if not self._side.call.over:
                raise SatelliteError(f"{self.room.name} is in a call", code="room-busy")
            await self._side.hurry()

    def _check_not_muted(self) -> None:
        if self.modes.muted:
            raise SatelliteError(f"{self.room.name} is muted", code="room-cannot-start")

    async def _run_once(self, request: RunRequest) -> tuple[RunOutcome, Run]:
        """Run, and end media if all that was said was "stop"."""
        outcome, run = await super()._run_once(request)
        playing = [room for room in (self, *self._beside) if room.plays_media]
        if outcome is RunOutcome.DONE and playing:
            said = self._transcript
            if await self._context.stages.means_stop(said.text, said.language or None):
                for room in playing:
                    room.stop_media()
        return outcome, run

    async def _listen(self, command: Expectation) -> None:
        """Have the device hear a command now; an answer that is under way ends."""
        try:
            if not self._hears:
                await self._open_microphone(command)
                return
            self._expected.put(command)
            interrupted = self._run is not None and await self._interrupt(self._run, Interruption())
            if interrupted and command in (self._expected.command, self._present):
                await self._device.interrupted(None)
        except (SatelliteError, asyncio.CancelledError):
            if self._expected.command is command:
                self._expected.put(None)
            self._rest()
            raise
