"""Audio in: `transcribe` and `detect`."""

from __future__ import annotations  # Session is only a type here; importing it would be a circle

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.wake import Detect, Detection, NotDetected

from satellite.config import nearest
from satellite.engines import Detection as HeardWord
from satellite.engines import WakeStream
from satellite.errors import SpeechToTextError
from satellite.services.info import STT_PROGRAM
from satellite.turn.endpoint import Endpoint, EndpointSettings, EndpointState
from satellite.turn.recorder import Recorder

if TYPE_CHECKING:
    from satellite.services.session import Session


class CommandListener:
    """`transcribe`: collects audio and answers with its text, at `audio-stop` or where the command ends."""

    def __init__(self, session: Session, request: Transcribe) -> None:
        self._session = session
        self._request = request
        self._recorder: Recorder | None = None
        self._answered = False
        known = {session.stages.engines.transcriber.engine.model, STT_PROGRAM}
        if request.name is not None and request.name not in known:
            raise SpeechToTextError(
                f"unknown model {request.name!r}; {nearest(request.name, known)}", kind="unknown-model"
            )

    async def start(self) -> None:
        """Begin a new recording."""
        config = self._session.stages.config
        vad = await self._session.stages.engines.vad.get(config.deadlines.load_seconds)
        endpoint = None
        if config.stt.own_endpoint:
            settings = EndpointSettings(**config.endpoint.model_dump())
            endpoint = Endpoint(settings.scaled(_text(self._request.vad_sensitivity)))
        self._answered = False
        self._session.stages.expect()
        self._recorder = Recorder(
            vad, threshold=config.vad.threshold, max_seconds=config.wyoming.max_audio_seconds, endpoint=endpoint
        )

    async def feed(self, pcm: bytes, timestamp_ms: int | None) -> None:
        """Record; past the end of the command, audio is ignored."""
        if self._recorder is None or self._answered:
            return
        state = await self._recorder.feed(pcm)
        if state in (EndpointState.ENDED, EndpointState.NO_SPEECH):
            self._answer()

    async def stop(self) -> None:
        """Answer, unless the end of the command was found before."""
        if self._recorder is not None and not self._answered:
            self._answer()
        self._recorder = None

    async def close(self) -> None:
        """Nothing to release: the recording goes with the listener."""

    def _answer(self) -> None:
        recorder = self._recorder
        assert recorder is not None
        self._answered = True
        self._session.request(lambda: self._transcribe(recorder))

    async def _transcribe(self, recorder: Recorder) -> None:
        request = self._request
        vocabulary = (*(request.transcript_names or ()), *(request.transcript_terms or ()))
        result = await self._session.stages.transcribe(recorder, request.language, [str(term) for term in vocabulary])
        language = result.language or None
        await self._session.connection.send(
            TranscriptStart(language=language, context=request.context),
            TranscriptChunk(text=result.text),
            Transcript(text=result.text, language=language, context=request.context),
            TranscriptStop(),
        )


class WakeListener:
    """`detect`: answers every wake word heard with `detection`, and silence about them with `not-detected`."""

    def __init__(self, session: Session, request: Detect, program: str | None) -> None:
        self._session = session
        self._request = request
        self._program = program
        self._stream: WakeStream | None = None
        self._detected = False
        self._first_ms = 0

    async def start(self) -> None:
        """Listen from the beginning of a new stream."""
        await self.close()
        engine = await self._session.stages.wake_engine(self._program)
        names = self._request.names
        self._stream = await engine.stream([str(name) for name in names] if names else None)
        self._detected = False
        self._first_ms = -1

    async def feed(self, pcm: bytes, timestamp_ms: int | None) -> None:
        """Listen on, and report what is heard."""
        if self._stream is None:
            return
        if self._first_ms < 0:
            self._first_ms = timestamp_ms or 0
        await self._report(await self._stream.feed(pcm))

    async def stop(self) -> None:
        """The audio is over."""
        if self._stream is not None:
            await self._report(await self._stream.end())
            if not self._detected:
                await self._session.connection.send(NotDetected(context=self._request.context))
        await self.close()

    async def close(self) -> None:
        """Forget the stream."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _report(self, detections: Sequence[HeardWord]) -> None:
        for detection in detections:
            self._detected = True
            self._session.stages.expect()
            at_ms = self._first_ms + round(detection.seconds * 1000)
            await self._session.connection.send(
                Detection(name=detection.name, timestamp=at_ms, context=self._request.context)
            )


def _text(value: object) -> str | None:
    """Return an enum's or a plain value's text."""
    return None if value is None else str(getattr(value, "value", value))
