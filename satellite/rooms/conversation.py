"""The one conversation, held alike in every room, and all that can be done there beside it.

What a protocol needs beside that is the concern of the `Device`.
"""

from satellite.rooms.barge_in import Interruption
from satellite.rooms.playback import SharedSound
from satellite.rooms.room_sound import Sounding
from satellite.rooms.run_chain import RunChain


class Conversation(RunChain):
    """What happens in one room while its device is connected."""

    @property
    def sounding(self) -> Sounding | None:
        """What sounds in the room; a timer does so also between one ring and the next."""
        rings = Sounding.TIMER if self.ringing is not None and self.ringing.active else None
        return self._sound.sounding or rings

    async def stop(self) -> bool:
        """Silence all that sounds, and end a command or an answer; return whether there was anything.

        The room goes on waiting for the wake word.
        """
        stopped = self._sound.end_announcement(stopped=True)
        stopped = self.silence_ringing() or stopped
        if (self.engaged or self._sound.sounding is Sounding.ANSWER) and self._run is not None:
            stopped = await self._interrupt(self._run, Interruption(command_follows=False)) or stopped
        return stopped

    async def announce(self, sound: SharedSound) -> None:
        """Play a sound while nobody speaks with the room; returns when it was heard, or somebody has silenced it.

        Cancelling or failing silences it. Raises `SatelliteError` where it cannot be heard.
        """
        await self._sound.announce(sound, Sounding.ANNOUNCEMENT)

    async def restore(self) -> None:
        """Set at the device what was set for the room: it has been connected."""
        if self.modes.muted:
            await self._device.set_muted(True)
        if self.modes.volume is not None:
            await self.set_volume(self.modes.volume)

    async def set_muted(self, muted: bool) -> None:
        """Hear nothing any more, or again; a command that is being spoken ends."""
        self.modes.muted = muted
        if muted and self.engaged and not self._answering.is_set():
            await self.stop()
        await self._device.set_muted(muted)

    async def set_volume(self, volume: float) -> None:
        """Set how loud the room is, from 0 to 1."""
        self.modes.volume = volume
        self._sound.set_volume(1.0 if await self._device.set_volume(volume) else volume)

    async def set_listen_only(self, listen_only: bool) -> None:
        """Do commands without a sound from now on, or with them again."""
        self.modes.listen_only = listen_only
        if listen_only:
            self._sound.end_announcement(stopped=True)
            await self._sound.silence_answer()

    async def ring(self, sound: SharedSound) -> None:
        """Play the sound of a timer that has ended, as an announcement."""
        await self._sound.ring(sound)
