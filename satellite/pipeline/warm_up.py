"""One run of every stage on a recording, so that the first command does not pay for what is set up on first use."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

from satellite.audio.pcm import read_wav
from satellite.engines.protocols import VoiceChoice, WakeWordEngine
from satellite.errors import STAGE_ERRORS, SatelliteError, Stage, in_words
from satellite.pipeline.phrases import Phrase
from satellite.pipeline.stages import Stages
from satellite.pipeline.text_normalisation import written_out
from satellite.tasks import attempt

_LOGGER = logging.getLogger(__name__)

_RECORDING = Path(__file__).with_name("warm_up.wav")
"""\"Okay Nabu. What time is it?\", spoken by the Piper voice en_US-joe-medium."""


async def warm_up(stages: Stages, only: Stage | None = None) -> dict[str, str]:
    """Run each loaded stage, or one, once, side by side; return the failures, by the names of their slots.

    A stage that failed still serves: its next use may go well.
    """
    pcm = await asyncio.to_thread(read_wav, _RECORDING)
    engines = stages.engines
    works: dict[str, tuple[Stage, Coroutine[Any, Any, object]]] = {}
    for slot in engines.wake:
        if slot.ready:
            works[slot.name] = (Stage.WAKE, _detect(slot.engine, pcm))
    if engines.vad.ready and engines.transcriber.ready:
        works[engines.transcriber.name] = (Stage.STT, stages.transcribe_pcm(pcm))
    if engines.synthesizer.ready:
        works[engines.synthesizer.name] = (Stage.TTS, _speak(stages))
    if engines.chat.ready:
        works[engines.chat.name] = (Stage.CHAT, engines.chat.engine.warm_up())
    for name in [name for name, (stage, _) in works.items() if only not in (None, stage)]:
        works.pop(name)[1].close()  # a coroutine that is never awaited would be reported
    seconds = stages.config.deadlines.load_seconds
    reasons = await asyncio.gather(*(_reason(name, *work, seconds) for name, work in works.items()))
    return {name: reason for name, reason in zip(works, reasons, strict=True) if reason}


async def keep_phrases(stages: Stages, choices: Iterable[VoiceChoice]) -> None:
    """Synthesise the apologies in each voice and cache them, so that they can be played when text to speech fails.

    One that cannot be made now is made when it is needed.
    """
    if not stages.engines.synthesizer.ready:
        return
    for choice in choices:
        try:
            speaker = await stages.speaker(choice)
            # Its words and rules take milliseconds to load, which the first answer would hold the loop for.
            await asyncio.to_thread(written_out, "Louis XIV", next(iter(speaker.voice.languages), None))
            for occasion in Phrase:
                await stages.phrase(occasion, speaker)
        except SatelliteError as error:
            _LOGGER.debug("an apology cannot be prepared: %s", error)


async def _reason(name: str, stage: Stage, work: Coroutine[Any, Any, object], seconds: float) -> str:
    """Return why `work` failed, nothing if it did not."""
    error = await attempt(work, f"warm up {name}", seconds)
    match error:
        case TimeoutError():
            error = STAGE_ERRORS[stage](f"it was not warm within {seconds:g} s", kind="timeout")
        case SatelliteError():
            pass
        case Exception():
            _LOGGER.error("%s failed to warm up", name, exc_info=error)
            error = STAGE_ERRORS[stage](in_words(error), kind="failed")
        case _:
            return ""
    _LOGGER.error(
        "%s is not warm: [%s] %s; it is tried again when it is needed",
        name,
        error.code,
        error,
        extra={"code": error.code},
    )
    return str(error)


async def _detect(engine: WakeWordEngine, pcm: bytes) -> None:
    stream = await engine.stream(None)
    try:
        await stream.feed(pcm)
    finally:
        stream.close()


async def _speak(stages: Stages) -> None:
    await stages.phrase(Phrase.UNAVAILABLE, await stages.speaker(VoiceChoice()))
