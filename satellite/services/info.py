"""The answer to `describe`: which programs, models, voices and wake words there are."""

from typing import Any

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
from satellite.engines.protocols import WakeWordEngine
from satellite.engines.slot import Engines, Slot
from satellite.errors import Stage

PROGRAM = "satellite"
"""What every program is called by default: Home Assistant titles entries and entities so, beside other servers'."""

STT_ENGINE = "faster-whisper"
TTS_ENGINE = "piper"

OURS = Attribution(name=PROGRAM, url="")
_WHISPER = Attribution(name="OpenAI and SYSTRAN", url="https://github.com/SYSTRAN/faster-whisper")
_PIPER = Attribution(name="Open Home Foundation", url="https://github.com/OHF-Voice/piper1-gpl")
_WAKE = {
    "openwakeword": Attribution(name="David Scripka", url="https://github.com/dscripka/openWakeWord"),
    "microwakeword": Attribution(name="Kevin Ahrendt", url="https://github.com/kahrendt/microWakeWord"),
}


def describe(
    engines: Engines, stages: frozenset[Stage], *, own_endpoint: bool = False, controls_home: bool = False
) -> Info:
    """Return the `info` of a port that serves `stages`. It needs no loaded model, so it is right from the start."""
    return Info(
        asr=[_asr(engines, own_endpoint)] if Stage.STT in stages else [],
        tts=[_tts(engines)] if Stage.TTS in stages else [],
        wake=[_wake(slot, is_default=not at) for at, slot in enumerate(engines.wake)] if Stage.WAKE in stages else [],
        handle=[_handle(engines, controls_home)] if Stage.CHAT in stages else [],
    )


def selectable(engines: Engines) -> dict[str, dict[Stage, str]]:
    """Return what `select-program` may name, with the engine of each stage that it means: ours by any of its names."""
    wake = [slot.engine.program for slot in engines.wake]
    ours = {Stage.STT: STT_ENGINE, Stage.TTS: TTS_ENGINE, Stage.CHAT: PROGRAM, Stage.WAKE: wake[0]}
    by_engine = {engine: {stage: engine} for stage, engine in ours.items()}
    return by_engine | {name: {Stage.WAKE: name} for name in wake} | {PROGRAM: ours}


def _asr(engines: Engines, own_endpoint: bool) -> AsrProgram:
    transcriber = engines.transcriber.engine
    model = AsrModel(
        name=transcriber.model,
        description=f"Whisper {transcriber.model}",
        attribution=_WHISPER,
        languages=list(transcriber.languages),
        **_model(engines.transcriber),
    )
    return AsrProgram(
        name=PROGRAM,
        description=f"Speech to text by {STT_ENGINE}",
        models=[model],
        supports_transcript_streaming=True,
        requires_external_vad=not own_endpoint,
        **_program(engines.transcriber),
    )


def _tts(engines: Engines) -> TtsProgram:
    voices = [
        TtsVoice(
            name=voice.name,
            description=voice.description,
            attribution=_PIPER,
            languages=list(voice.languages),
            speakers=[TtsVoiceSpeaker(name=speaker) for speaker in voice.speakers] or None,
            **_model(engines.synthesizer),
        )
        for voice in engines.synthesizer.engine.voices
    ]
    return TtsProgram(
        name=PROGRAM,
        description=f"Text to speech by {TTS_ENGINE}",
        voices=voices,
        supports_synthesize_streaming=True,
        **_program(engines.synthesizer),
    )


def _wake(slot: Slot[WakeWordEngine], *, is_default: bool) -> WakeProgram:
    engine = slot.engine
    models = [
        WakeModel(
            name=word.name,
            description=word.phrase,
            attribution=_WAKE.get(engine.program, OURS),
            languages=list(word.languages),
            phrase=word.phrase,
            **_model(slot),
        )
        for word in engine.words
    ]
    return WakeProgram(
        name=PROGRAM if is_default else engine.program,
        description=f"Wake words by {engine.program}",
        models=models,
        **_program(slot),
    )


def _handle(engines: Engines, controls_home: bool) -> HandleProgram:
    chat = engines.chat.engine
    model = HandleModel(
        name=chat.model,
        description=f"{chat.model} ({chat.provider})",
        attribution=OURS,
        languages=[],  # the model decides; Home Assistant takes an empty list for all languages
        **_model(engines.chat),
    )
    return HandleProgram(
        name=PROGRAM,
        description="Commands, Home Assistant and a chat model" if controls_home else "Commands and a chat model",
        models=[model],
        supports_handled_streaming=True,
        supports_home_control=controls_home,
        **_program(engines.chat),
    )


def _program(slot: Slot[Any]) -> dict[str, Any]:
    """Return what all programs have in common."""
    return {"attribution": OURS, "installed": slot.failure is None, "version": __version__}


def _model(slot: Slot[Any]) -> dict[str, Any]:
    """Return what all models have in common."""
    return {"installed": slot.failure is None, "version": None}
