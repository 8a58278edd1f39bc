"""The answer to `describe`: which programs, models, voices and wake words there are."""

from collections.abc import Sequence

from wyoming.info import (
    AsrModel,
    AsrProgram,
    Attribution,
    HandleModel,
    HandleProgram,
    Info,
    TtsProgram,
    TtsVoice,
    TtsVoiceSpeaker,
    WakeModel,
    WakeProgram,
)

from satellite import __version__
from satellite.engines import WakeWordEngine
from satellite.engines.slot import Engines, Slot
from satellite.errors import Stage

STT_PROGRAM = "faster-whisper"
TTS_PROGRAM = "piper"
HANDLE_PROGRAM = "satellite"

_OURS = Attribution(name="satellite", url="https://github.com/OHF-Voice/wyoming")
_WHISPER = Attribution(name="OpenAI and SYSTRAN", url="https://github.com/SYSTRAN/faster-whisper")
_PIPER = Attribution(name="Open Home Foundation", url="https://github.com/OHF-Voice/piper1-gpl")
_WAKE = {
    "openwakeword": Attribution(name="David Scripka", url="https://github.com/dscripka/openWakeWord"),
    "microwakeword": Attribution(name="Kevin Ahrendt", url="https://github.com/kahrendt/microWakeWord"),
}


def describe(engines: Engines, stages: frozenset[Stage], *, own_endpoint: bool) -> Info:
    """Return the `info` of a port that serves `stages`. It needs no loaded model, so it is right from the start."""
    return Info(
        asr=[_asr(engines, own_endpoint)] if Stage.STT in stages else [],
        tts=[_tts(engines)] if Stage.TTS in stages else [],
        wake=[_wake(slot) for slot in engines.wake] if Stage.WAKE in stages else [],
        handle=[_handle(engines)] if Stage.CHAT in stages else [],
    )


def _asr(engines: Engines, own_endpoint: bool) -> AsrProgram:
    transcriber = engines.transcriber.engine
    installed = engines.transcriber.failure is None
    return AsrProgram(
        name=STT_PROGRAM,
        description="Whisper speech to text",
        attribution=_WHISPER,
        installed=installed,
        version=__version__,
        models=[
            AsrModel(
                name=transcriber.model,
                description=f"Whisper {transcriber.model}",
                attribution=_WHISPER,
                installed=installed,
                version=None,
                languages=list(transcriber.languages),
            )
        ],
        supports_transcript_streaming=True,
        requires_external_vad=not own_endpoint,
    )


def _tts(engines: Engines) -> TtsProgram:
    installed = engines.synthesizer.failure is None
    voices = [
        TtsVoice(
            name=voice.name,
            description=voice.description,
            attribution=_PIPER,
            installed=installed,
            version=None,
            languages=list(voice.languages),
            speakers=[TtsVoiceSpeaker(name=speaker) for speaker in voice.speakers] or None,
        )
        for voice in engines.synthesizer.engine.voices
    ]
    return TtsProgram(
        name=TTS_PROGRAM,
        description="Piper text to speech",
        attribution=_PIPER,
        installed=installed,
        version=__version__,
        voices=voices,
        supports_synthesize_streaming=True,
    )


def _wake(slot: Slot[WakeWordEngine]) -> WakeProgram:
    engine = slot.engine
    installed = slot.failure is None
    attribution = _WAKE.get(engine.program, _OURS)
    return WakeProgram(
        name=engine.program,
        description="Wake word detection",
        attribution=attribution,
        installed=installed,
        version=__version__,
        models=[
            WakeModel(
                name=word.name,
                description=word.phrase,
                attribution=attribution,
                installed=installed,
                version=None,
                languages=list(word.languages),
                phrase=word.phrase,
            )
            for word in engine.words
        ],
    )


def _handle(engines: Engines) -> HandleProgram:
    installed = engines.chat.failure is None
    languages: Sequence[str] = ()  # the model decides; Home Assistant takes an empty list for all languages
    return HandleProgram(
        name=HANDLE_PROGRAM,
        description="Chat model",
        attribution=_OURS,
        installed=installed,
        version=__version__,
        models=[
            HandleModel(
                name=engines.chat.engine.provider,
                description=f"Chat model ({engines.chat.engine.provider})",
                attribution=_OURS,
                installed=installed,
                version=None,
                languages=list(languages),
            )
        ],
        supports_handled_streaming=True,
    )
