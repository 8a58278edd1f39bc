"""Where the sound of an ESPHome device goes: its media player fetches it, or a bare speaker gets it piece by piece."""

import asyncio
from contextlib import suppress
from typing import Protocol

from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL, AudioFormat
from satellite.errors import CannotListen, TextToSpeechError
from satellite.rooms.esphome.entities import Entities, PlayedFormat
from satellite.rooms.esphome.turn import Turn
from satellite.rooms.lead_in import LeadIn
from satellite.rooms.media import MediaStream

_FETCH_SECONDS = 2.5
"""How long a device may take to ask for a sound: after 2 s its firmware gives up."""

_FINISH_SECONDS = 3.0
"""How much longer than its sound lasts a device may take to say that it has played it."""

_SPEAKER_AHEAD_SECONDS = 0.35
"""The firmware has a buffer of 0.5 s for sound that is sent to it, and loses what does not fit."""

_SPEAKER_CHUNK_BYTES = 1024
_SPEAKER_DELAY_SECONDS = 0.2
"""How much later than it is sent a bare speaker plays."""


class Player(Protocol):
    """The device of an output."""

    @property
    def turn(self) -> Turn | None:
        """Return the turn that is under way, if there is one."""

    async def publish(self, played: PlayedFormat) -> MediaStream:
        """Return a new stream that the device can fetch."""

    def announce(self, url: str) -> bool:
        """Have a sound announced that belongs to no turn; return whether the assistant says when it is over."""

    def play(self, url: str, *, announcement: bool) -> None:
        """Have the media player play a sound, beside whatever the assistant does."""

    def silence(self, *, announcement: bool) -> None:
        """Stop what the media player plays."""

    def send_audio(self, pcm: bytes) -> None:
        """Send canonical sound to the speaker."""

    def end_sound(self, *, announcement: bool) -> None:
        """Have what is heard, or media, ended soon: the device does not play it, or somebody has stopped it there."""


class FetchedOutput:
    """A media player, which is given an address (`SoundOutput`); it announces, or plays media beside that."""

    paced = True

    def __init__(self, player: Player, played: PlayedFormat, lead_in: LeadIn, *, announcement: bool = True) -> None:
        """Play in the format `played`."""
        self.format: AudioFormat | None = played.layout
        self.media_format = played.layout
        self.trouble = ""
        self._player = player
        self._format = played
        self._announcement = announcement
        self._own_end = True
        """Whether the assistant says when the sound is over; else the state of the media player does."""

        self._lead_in = lead_in
        self._turn: Turn | None = None
        self._stream: MediaStream | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._played = asyncio.Event()
        """Set while the device plays nothing of ours."""

        self._played.set()

    async def start(self, layout: AudioFormat) -> float:
        """Have the sound fetched; return how much silence goes before it."""
        self.trouble = ""
        turn = self._player.turn if self._announcement else None
        self._turn = turn if turn is not None and turn.awaits_answer else None
        try:
            stream = self._turn.stream if self._turn is not None else None
            self._stream = stream = stream or await self._player.publish(self._format)
            silence = self._lead_in.begin(layout)
            await stream.write(silence)
        except (CannotListen, ConnectionError) as error:  # the latter where its address has expired
            self._give_up(str(error))
            return 0.0
        self._played.clear()
        self._own_end = True
        if self._turn is not None and stream is self._turn.stream:
            self._turn.sound_begins(fetched=True)
        elif self._announcement:
            self._own_end = self._player.announce(stream.url)
        else:
            self._own_end = False
            self._player.play(stream.url, announcement=self._announcement)
        self._deadline = asyncio.get_running_loop().call_later(_FETCH_SECONDS, self._check_fetched, stream)
        return len(silence) / (layout.rate * layout.frame_bytes)

    async def write(self, pcm: bytes) -> None:
        """Add to what is fetched. What nobody fetches any more is dropped: somebody has stopped it at the device."""
        if self._stream is not None:
            try:
                await self._stream.write(pcm)
            except ConnectionError:
                self._stream = None
                if not self.trouble:
                    self._player.end_sound(announcement=self._announcement)
        if self.trouble and self._turn is None:
            raise TextToSpeechError(self.trouble, kind="failed")

    async def stop(self) -> None:
        """There is no more: the device is told so before it can have played it all."""
        self._lead_in.end()
        stream, self._stream = self._stream, None
        if stream is not None:
            if self._turn is not None:
                self._turn.sound_ends(fetched=True)
            stream.end()

    async def played(self, left_seconds: float) -> None:
        """Wait until the device says that it has finished, for little longer than the sound should last."""
        with suppress(TimeoutError):
            async with asyncio.timeout(left_seconds + _FINISH_SECONDS):
                await self._played.wait()
        self._note_end()

    def drop(self) -> None:
        """Stop the media player."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
        if not self._played.is_set():
            self._player.silence(announcement=self._announcement)
            self._note_end()

    def note_finished(self, *, by_player: bool = False) -> None:
        """The device says that it has played the sound, or that it was stopped there."""
        if by_player is not self._own_end and (self._stream is None or self._stream.fetched.is_set()):
            self._note_end()

    def _note_end(self) -> None:
        self._played.set()
        if self._deadline is not None:
            self._deadline.cancel()

    def _check_fetched(self, stream: MediaStream) -> None:
        if not stream.fetched.is_set() and not self._played.is_set():
            stream.abort()
            self._give_up(
                f"it did not fetch {stream.url}: does a firewall keep it from that? hub.media_port fixes the port"
            )

    def _give_up(self, trouble: str) -> None:
        self.trouble = trouble
        self._note_end()
        if self._turn is not None:
            self._player.end_sound(announcement=self._announcement)


class BareSpeakerOutput:
    """A bare speaker, which plays only what belongs to a turn (`SoundOutput`)."""

    paced = True
    format: AudioFormat | None = CANONICAL
    media_format = CANONICAL

    def __init__(self, player: Player) -> None:
        self.trouble = ""
        self._player = player
        self._turn: Turn | None = None
        self._began = self._sent_seconds = 0.0

    async def start(self, layout: AudioFormat) -> float:
        """Begin to play; raises `TextToSpeechError` outside a turn."""
        turn = self._player.turn
        if turn is None or not turn.awaits_answer:
            raise TextToSpeechError("it has no media player, and plays nothing but answers", kind="failed")
        self._turn = turn
        await turn.settled.wait()  # the speaker cannot play while the microphone is open
        self._began, self._sent_seconds = asyncio.get_running_loop().time(), 0.0
        turn.sound_begins(fetched=False)
        return 0.0

    async def write(self, pcm: bytes) -> None:
        """Send sound, no faster than the device has room for it."""
        loop = asyncio.get_running_loop()
        for at in range(0, len(pcm), _SPEAKER_CHUNK_BYTES):
            ahead = self._sent_seconds - (loop.time() - self._began)
            if ahead < 0:
                self._began -= ahead
            elif ahead > _SPEAKER_AHEAD_SECONDS:
                await asyncio.sleep(ahead - _SPEAKER_AHEAD_SECONDS)
            chunk = pcm[at : at + _SPEAKER_CHUNK_BYTES]
            self._player.send_audio(chunk)
            self._sent_seconds += len(chunk) / BYTES_PER_SECOND

    async def stop(self) -> None:
        """There is no more."""
        if self._turn is not None:
            self._turn.sound_ends(fetched=False)

    async def played(self, left_seconds: float) -> None:
        """Wait for as long as it should take: the device does not say when it has finished."""
        await asyncio.sleep(left_seconds + _SPEAKER_DELAY_SECONDS)

    def drop(self) -> None:
        """Do nothing: a third of a second is not taken back."""

    def note_finished(self, *, by_player: bool = False) -> None:
        """Do nothing."""


def outputs(
    player: Player, entities: Entities, lead_in_seconds: float
) -> tuple[FetchedOutput | BareSpeakerOutput, FetchedOutput | None]:
    """Return where a device plays what is said, and media if it mixes that itself."""
    if (played := entities.played) is None or (media := entities.media) is None:
        return BareSpeakerOutput(player), None
    lead_in = LeadIn(lead_in_seconds)
    return FetchedOutput(player, played, lead_in), FetchedOutput(player, media, lead_in, announcement=False)
