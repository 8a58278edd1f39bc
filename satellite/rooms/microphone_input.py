"""What a satellite's microphone hears, made fit for a run."""

from wyoming.audio import AudioChunk

from satellite.audio.pcm import BYTES_PER_SECOND, AudioFormat, Converter
from satellite.rooms.levels import Loudness

_PRE_BUFFER_BYTES = 2 * BYTES_PER_SECOND
"""What a satellite that streams when somebody speaks sends first, emptied with zeros when it has just streamed
(wyoming-satellite 1.4.1, `vad.buffer_seconds`)."""


class Ear:
    """Takes audio in any format, also in one that changes."""

    def __init__(self) -> None:
        self._converter: Converter | None = None
        self._loudness = Loudness()
        self._zeros_left = 0

    @property
    def speech_to_noise_db(self) -> float:
        """How far the latest speech stands above the room's noise; -inf where that is not known."""
        return self._loudness.speech_to_noise_db

    def hear(self, chunk: AudioChunk) -> bytes:
        """Return the canonical audio of a chunk."""
        source = AudioFormat(chunk.rate, chunk.width, chunk.channels)
        if self._converter is None or self._converter.source != source:
            self._converter = Converter(source)
        pcm = self._without_zeros(self._converter.convert(chunk.audio))
        self._loudness.feed(pcm)
        return pcm

    def goes_on(self) -> None:
        """Expect a pre-buffer of zeros amid a command, which would end it as silence does."""
        self._zeros_left = _PRE_BUFFER_BYTES

    def _without_zeros(self, pcm: bytes) -> bytes:
        if not self._zeros_left:
            return pcm
        zeros = len(pcm) - len(pcm.lstrip(b"\0"))
        zeros = min(zeros // 2 * 2, self._zeros_left)
        self._zeros_left = self._zeros_left - zeros if zeros == len(pcm) else 0
        return pcm[zeros:]
