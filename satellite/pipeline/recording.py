"""Recordings: audio with the VAD's view of it, and a voice command with its beginning and end."""

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.engines.protocols import HYSTERESIS, VoiceActivityDetector
from satellite.pipeline.pause_detector import PauseDetector
from satellite.pipeline.turn_detection import TRAILING_SECONDS, TurnDetector, TurnState
from satellite.pipeline.voice_level import VoiceLevel

_WAKE_WORD_TAIL_SECONDS = 0.25
"""Speech that ends so soon after a detection is the end of the wake word itself.

Most detections come 0.1 to 0.45 s after the word, some in its last syllable; "stop" lasts 0.35 s.
"""

_BACKGROUND_DB = 10.0
"""How much softer than the command's loud parts a voice is not the speaker's any more."""

_BACKGROUND_SECONDS = 0.25
"""Soft voice after which somebody else speaks: longer than the last syllable of any recorded command."""

_RESUMED_DB = 6.0
"""How much softer than the command the speaker may go on while somebody else speaks, whose loudest syllables are louder
than `_BACKGROUND_DB`."""

_LAGGING_DB = 3.0
"""The same where it has become quiet: half of what is compared was said before that."""

_NOISE_DB = 13.0
"""How much softer than the command noise is that does not resume it after its end."""

_ALONE_WINDOWS = 16
"""Silent in a row, half a second, after which it is the speaker who goes on: nobody else was there to be heard."""

_SILENT_WINDOWS = 8
"""Silent in a row, a quarter of a second, after which a softer voice was the speaker's own: a television goes on."""


class Recording:
    """Collects canonical audio, fed in order, up to `max_seconds`."""

    def __init__(self, vad: VoiceActivityDetector, *, max_seconds: float) -> None:
        self.pcm = bytearray()
        self.speech: list[float] = []
        """The VAD's probability for each window of `pcm`."""

        self.window_seconds = vad.window_seconds
        self._window_bytes = int(vad.window_seconds * BYTES_PER_SECOND)
        self._stream = vad.stream(levelled=True)
        self._max_bytes = int(max_seconds * BYTES_PER_SECOND)

    @property
    def full(self) -> bool:
        """True when no more audio is taken."""
        return len(self.pcm) >= self._max_bytes

    @property
    def room_bytes(self) -> int:
        """How much more audio is taken."""
        return max(0, self._max_bytes - len(self.pcm))

    @property
    def pauses(self) -> bool:
        """Whether the speaker pauses, as far as turns are detected."""
        return False

    async def feed(self, pcm: bytes) -> None:
        """Add as much of `pcm` as there is room for."""
        pcm = pcm[: self.room_bytes]
        self.pcm += pcm
        self.speech += await self._stream.feed(pcm)

    def take(self, windows: int) -> tuple[bytes, list[float]]:
        """Remove the first windows of the recording and return them, with the VAD's probability for each."""
        size = windows * self._window_bytes
        taken = bytes(self.pcm[:size]), self.speech[:windows]
        del self.pcm[:size], self.speech[:windows]
        return taken


class CommandRecording(Recording):
    """Collects one voice command; `turn` says where it begins and ends."""

    def __init__(
        self,
        vad: VoiceActivityDetector,
        turn: TurnDetector,
        *,
        threshold: float,
        max_seconds: float,
        after_wake_word: bool = False,
    ) -> None:
        """Record windows of which the VAD is as sure as `threshold` as speech.

        `after_wake_word` drops the end of a wake word at the beginning of the audio, if a pause follows it.
        """
        super().__init__(vad, max_seconds=max_seconds)
        self.turn = turn
        self._threshold = threshold
        self._was_speech = False
        self._loudness = PauseDetector()
        self._level = VoiceLevel()
        self._pending = bytearray()  # audio that the loudness was not measured of yet
        self._ahead_bytes = 0  # audio of the VAD's next window that it was measured of
        self._soft_seconds = 0.0  # since the speaker's own voice was heard
        self._alone = False  # whether nobody else was heard in a pause
        self._tail_left = _WAKE_WORD_TAIL_SECONDS if after_wake_word else 0.0

    @property
    def state(self) -> TurnState:
        """Where the command is; `ENDED` also when the recording is full."""
        return TurnState.ENDED if self.full else self.turn.state

    @property
    def pauses(self) -> bool:
        """Whether the command may be over, so that speculation is worth beginning; loudness shows it first."""
        return self.turn.pauses or (self.turn.state is TurnState.SPEAKING and self._loudness.paused)

    async def feed(self, pcm: bytes) -> None:
        """Add as much of `pcm` as there is room for, and advance the turn."""
        pcm = pcm[: self.room_bytes]
        self.pcm += pcm
        self._pending += pcm
        for probability in await self._stream.feed(pcm):
            # The loudness is measured up to the end of the VAD's window, no further, so that both speak of the same
            # moment; what is left of the audio follows after the last window.
            self._measure(self._window_bytes - self._ahead_bytes)
            self._ahead_bytes = 0
            at = len(self.speech) * self._window_bytes
            window = bytes(self.pcm[at : at + self._window_bytes])
            self.speech.append(probability)
            is_speech = self._is_speech(probability)
            self._advance(is_speech, self._level.feed(window, is_speech))
        self._ahead_bytes += len(self._pending)
        self._measure(len(self._pending))

    def _measure(self, size: int) -> None:
        self._loudness.feed(bytes(self._pending[:size]))
        del self._pending[:size]

    def _is_speech(self, probability: float) -> bool:
        """Return whether somebody speaks; at an onset, speech may continue with a lower probability than it began."""
        begins = self.turn.state is TurnState.WAITING
        threshold = self._threshold - HYSTERESIS if begins and self._was_speech else self._threshold
        self._was_speech = probability >= threshold
        return self._was_speech

    def _advance(self, is_speech: bool, softer_db: float) -> None:
        if self._tail_left > 0:
            self._tail_left -= self.window_seconds
            if is_speech and self._tail_left > 0:
                return
            if is_speech:  # the speaker has gone on without a pause: all of it is the command
                for _ in self.speech[:-1]:
                    self.turn.feed(self.window_seconds, is_speech=True)
            else:  # the wake word ended here, and is not part of the command
                self._tail_left = 0.0
                self.take(len(self.speech))
                self._level = VoiceLevel()
        soft = is_speech and self._is_soft(softer_db)
        # Where it is quiet altogether, it is the VAD that lags, and nobody trails off.
        trails = soft and not self._loudness.quiet
        self._soft_seconds = 0.0 if is_speech and not soft else self._soft_seconds + trails * self.window_seconds
        if self._level.silent_windows >= _ALONE_WINDOWS and self.turn.state is not TurnState.WAITING:
            self._alone = True
        waited = self.turn.state is TurnState.WAITING
        self.turn.feed(self.window_seconds, is_speech and not soft, fades=self._loudness.paused, trails=trails)
        if waited and self.turn.state is TurnState.SPEAKING:
            self._loudness.begin_voice()
        if self._soft_seconds > TRAILING_SECONDS and self._level.silent_windows >= _SILENT_WINDOWS:
            self._soft_seconds = 0.0
            self.turn.include_trail(_SILENT_WINDOWS * self.window_seconds)

    def _is_soft(self, softer_db: float) -> bool:
        """Return whether what the VAD takes for speech is somebody else, or nobody any more."""
        if self.turn.state is TurnState.WAITING:
            return False
        if self._loudness.long_quiet:
            return softer_db > _LAGGING_DB
        lately_db = self._level.lately_db
        if self.turn.state is TurnState.ENDED and (self._alone or lately_db > _NOISE_DB):
            return lately_db > _NOISE_DB
        if self._alone:
            return min(softer_db, lately_db) > _NOISE_DB
        return softer_db > (_RESUMED_DB if self._soft_seconds >= _BACKGROUND_SECONDS else _BACKGROUND_DB)
