"""What an ESPHome device says and waits to be handled: requests to begin a turn, and the audio of each."""

import asyncio
from collections import deque

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.pipeline.audio_queue import AudioInbox


class HeardQueue:
    """Bounded in seconds of audio; the library hands audio on as it comes, so that nothing holds a device back.

    Where it is full, the audio of that turn ends: a command with a gap in it may be another command.
    """

    def __init__(self, max_seconds: float) -> None:
        self.overfull = False
        """Whether audio of the present turn was lost, of which no more is taken."""

        self._max_bytes = int(max_seconds * BYTES_PER_SECOND)
        self._bytes = 0
        self._waiting: deque[bytes | str] = deque()
        self._changed = asyncio.Event()
        self._taken = False
        """Whether a request has been returned that is not accepted yet."""

    def request(self, phrase: str) -> None:
        """Add a request to begin a turn, by the wake word `phrase` or none; what was not heard before is lost."""
        if self.overfull:
            self._forget()
            self.overfull = False
        self._add(phrase)

    def audio(self, pcm: bytes) -> None:
        """Add canonical audio; what does not fit makes the queue `overfull`, and is counted."""
        if not self.overfull and self._bytes + len(pcm) <= self._max_bytes:
            self._bytes += len(pcm)
            self._add(pcm)
        else:
            self.overfull = True
            self._forget()
            AudioInbox.dropped_in_all_seconds += len(pcm) / BYTES_PER_SECOND

    async def next(self) -> bytes | str:
        """Wait for audio or a request."""
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        heard = self._waiting.popleft()
        self._taken = self._taken or isinstance(heard, str)
        self._bytes -= len(heard) if isinstance(heard, bytes) else 0
        return heard

    def withdraw(self) -> bool:
        """Forget the requests that were not accepted, and the audio; return False where there is no such request."""
        if not self._taken and not any(isinstance(one, str) for one in self._waiting):
            return False
        self._taken = False
        self._waiting.clear()
        self._bytes = 0
        return True

    def accept(self) -> bool:
        """Return whether the request that was returned last still holds; it cannot be withdrawn any more."""
        holds, self._taken = self._taken, False
        return holds

    def _add(self, heard: bytes | str) -> None:
        self._waiting.append(heard)
        self._changed.set()

    def _forget(self) -> None:
        """Drop the audio, which belongs to a turn that has failed."""
        AudioInbox.dropped_in_all_seconds += self._bytes / BYTES_PER_SECOND
        self._waiting = deque(one for one in self._waiting if isinstance(one, str))
        self._bytes = 0
