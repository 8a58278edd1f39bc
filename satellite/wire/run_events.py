"""The events of a run and its stages, as Wyoming names them."""

from collections.abc import Iterator

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk
from wyoming.error import Error
from wyoming.event import Eventable
from wyoming.handle import Handled
from wyoming.pipeline import PipelineStage
from wyoming.vad import VoiceStarted, VoiceStopped
from wyoming.wake import Detect, Detection

from satellite.audio.pcm import AudioFormat
from satellite.errors import Stage
from satellite.events import (
    ChatEnd,
    RunEvent,
    RunFailed,
    SttEnd,
    SttStart,
    SttVadEnd,
    SttVadStart,
    WakeWordEnd,
    WakeWordStart,
)

STAGES = {
    PipelineStage.WAKE: Stage.WAKE,
    PipelineStage.ASR: Stage.STT,
    PipelineStage.INTENT: Stage.CHAT,
    PipelineStage.HANDLE: Stage.CHAT,
    PipelineStage.TTS: Stage.TTS,
}

_CHUNK_BYTES = 8192
"""Audio an event; small enough that a ping is answered between two of them."""


def wyoming_events(event: RunEvent) -> list[Eventable]:
    """Return what to send a Wyoming client for `event`, except for sound; often nothing."""
    match event:
        case WakeWordStart():
            return [Detect()]
        case WakeWordEnd():
            return [Detection(name=event.name, timestamp=round(event.seconds * 1000))]
        case SttStart():
            return [Transcribe()]
        case SttVadStart():
            return [VoiceStarted()]
        case SttVadEnd():
            return [VoiceStopped()]
        case SttEnd():
            return [Transcript(text=event.text, language=event.language or None)]
        case ChatEnd():
            return [Handled(text=event.text, context={"provider": event.provider, **event.figures})]
        case RunFailed():
            return [Error(text=event.text, code=event.code)]
        case _:
            return []


def audio_chunks(format_: AudioFormat, pcm: bytes) -> Iterator[AudioChunk]:
    """Yield `pcm` as events of a size that other events can slip between."""
    for at in range(0, len(pcm), _CHUNK_BYTES):
        part = pcm[at : at + _CHUNK_BYTES]
        yield AudioChunk(rate=format_.rate, width=format_.width, channels=format_.channels, audio=part)
