"""Collects one voice command: its audio, the VAD's view of it, and when it is over."""

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.engines.protocols import HYSTERESIS, VoiceActivityDetector
from satellite.pipeline.completeness import Completeness
from satellite.pipeline.endpoint import Endpoint, EndpointState
from satellite.pipeline.pause_detector import Quiet

_WAKE_WORD_TAIL_SECONDS = 0.25
"""Speech that ends so soon after a detection is the end of the wake word itself.

Most detections come 0.1 to 0.45 s behind the word, some in its last syllable; "stop" lasts 0.35 s.
"""


class Recorder:
    """Feed it canonical audio in order. Without an endpoint it only collects, up to `max_seconds`."""

    def __init__(
        self,
        vad: VoiceActivityDetector,
        *,
        threshold: float,
        max_seconds: float,
        endpoint: Endpoint | None = None,
        after_wake_word: bool = False,
    ) -> None:
        self.pcm = bytearray()
        self.speech: list[float] = []
        """The VAD's probability for each window of `pcm`."""

        self.heard_speech = False
        self._stream = vad.stream()
        self.window_seconds = vad.window_seconds
        self._window_bytes = int(vad.window_seconds * BYTES_PER_SECOND)
        self._threshold = threshold
        self._was_speech = False
        self._max_bytes = int(max_seconds * BYTES_PER_SECOND)
        self._endpoint = endpoint
        self._quiet = Quiet()
        self._unheard = bytearray()  # what it has not been told yet
        self._ahead_bytes = 0  # that it has been told of the VAD's next window
        self._tail_left = _WAKE_WORD_TAIL_SECONDS if after_wake_word else 0.0

    @property
    def full(self) -> bool:
        """True when no more audio is taken."""
        return len(self.pcm) >= self._max_bytes

    @property
    def room_bytes(self) -> int:
        """How much more audio is taken."""
        return max(0, self._max_bytes - len(self.pcm))

    @property
    def silence_seconds(self) -> float:
        """How much silence stands behind the last speech, as far as there is an endpoint."""
        return 0.0 if self._endpoint is None else self._endpoint.seconds - self._endpoint.last_speech_at

    @property
    def last_speech_at(self) -> float:
        """Where in the audio the latest speech ended, as far as there is an endpoint: whoever speaks on moves it."""
        return 0.0 if self._endpoint is None else self._endpoint.last_speech_at

    @property
    def pauses(self) -> bool:
        """Whether the command may be over: work may begin in case it is. Loudness tells it first."""
        endpoint = self._endpoint
        if endpoint is None:
            return False
        return endpoint.pauses or (endpoint.state is EndpointState.SPEAKING and self._quiet.has_begun)

    def note(self, words: Completeness) -> None:
        """Let the endpoint know what the words up to here say of the command's end."""
        if self._endpoint is not None:
            self._endpoint.note(words)

    def hold(self) -> None:
        """Let the endpoint wait as long as ever, until `release` or more speech."""
        if self._endpoint is not None:
            self._endpoint.hold()

    def release(self) -> None:
        """Let the endpoint wait no longer than the words ask for."""
        if self._endpoint is not None:
            self._endpoint.release()

    async def feed(self, pcm: bytes) -> EndpointState:
        """Take `pcm` and return where the command is; `ENDED` also when the recording is full."""
        room = self.room_bytes
        self.pcm += pcm[:room]
        self._unheard += pcm[:room]
        state = EndpointState.WAITING
        for probability in await self._stream.feed(pcm[:room]):
            self._hear(self._window_bytes - self._ahead_bytes)
            self._ahead_bytes = 0
            self.speech.append(probability)
            state = self._advance(self._is_speech(probability))
        self._ahead_bytes += len(self._unheard)
        self._hear(len(self._unheard))
        if self.full:
            return EndpointState.ENDED
        return state if self._endpoint is None else self._endpoint.state

    def take(self, windows: int) -> tuple[bytes, list[float]]:
        """Take the first windows of the recording out of it, with what the VAD says of each: there is room again."""
        size = windows * self._window_bytes
        taken = bytes(self.pcm[:size]), self.speech[:windows]
        del self.pcm[:size], self.speech[:windows]
        return taken

    def _hear(self, size: int) -> None:
        if self._endpoint is not None:
            self._quiet.feed(bytes(self._unheard[:size]))
        del self._unheard[:size]

    def _is_speech(self, probability: float) -> bool:
        """Tell whether somebody speaks; what has just begun need not be as likely as a beginning to go on."""
        begins = self._endpoint is not None and self._endpoint.state is EndpointState.WAITING
        threshold = self._threshold - HYSTERESIS if begins and self._was_speech else self._threshold
        self._was_speech = probability >= threshold
        return self._was_speech

    def _advance(self, is_speech: bool) -> EndpointState:
        self.heard_speech = self.heard_speech or is_speech
        if self._tail_left > 0:
            self._tail_left -= self.window_seconds
            if is_speech and self._tail_left > 0:
                return EndpointState.WAITING
            if is_speech:
                self._keep_tail()
            else:
                self._drop_tail()
        if self._endpoint is None:
            return EndpointState.SPEAKING if self.heard_speech else EndpointState.WAITING
        return self._endpoint.feed(self.window_seconds, is_speech, fades=self._quiet.has_begun)

    def _keep_tail(self) -> None:
        """Whoever spoke has gone on: all of it is the command."""
        if self._endpoint is not None:
            for _ in self.speech[:-1]:
                self._endpoint.feed(self.window_seconds, is_speech=True)

    def _drop_tail(self) -> None:
        """The wake word has ended in silence: what was recorded until now is not part of the command."""
        self._tail_left = 0.0
        self.take(len(self.speech))
        self.heard_speech = False
