"""One run of every stage on a recording, so that the first command meets nothing cold."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

from satellite.audio.pcm import read_wav
from satellite.engines.protocols import VoiceChoice, WakeWordEngine
from satellite.errors import STAGE_ERRORS, SatelliteError, Stage, in_words
from satellite.pipeline.long_recordings import PART_SECONDS
from satellite.pipeline.phrases import Phrase
from satellite.pipeline.recorder import Recorder
from satellite.pipeline.stages import Stages

_LOGGER = logging.getLogger(__name__)

_RECORDING = Path(__file__).with_name("warm_up.wav")
"""\"Okay Nabu. What time is it?\", spoken by the Piper voice en_US-joe-medium."""


async def warm_up(stages: Stages, only: Stage | None = None) -> dict[str, str]:
    """Run each loaded stage, or one, once, side by side; return why a stage is not warm, by the name of its slot.

    A stage that is not warm still serves: its next use may go well.
    """
    pcm = await asyncio.to_thread(read_wav, _RECORDING)
    engines = stages.engines
    works: dict[str, tuple[Stage, Coroutine[Any, Any, None]]] = {}
    for slot in engines.wake:
        if slot.ready:
            works[slot.name] = (Stage.WAKE, _detect(slot.engine, pcm))
    if engines.vad.ready and engines.transcriber.ready:
        works[engines.transcriber.name] = (Stage.STT, _transcribe(stages, pcm))
    if engines.synthesizer.ready:
        works[engines.synthesizer.name] = (Stage.TTS, _speak(stages))
    if engines.chat.ready:
        works[engines.chat.name] = (Stage.CHAT, engines.chat.engine.warm_up())
    for name in [name for name, (stage, _) in works.items() if only not in (None, stage)]:
        works.pop(name)[1].close()
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
            for occasion in Phrase:
                await stages.phrase(occasion, speaker)
        except SatelliteError as error:
            _LOGGER.debug("what is said when little works cannot be kept: %s", error)


async def _reason(name: str, stage: Stage, work: Coroutine[Any, Any, None], seconds: float) -> str:
    """Return why `work` failed, nothing if it did not."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        error: SatelliteError = STAGE_ERRORS[stage](f"it was not warm within {seconds:g} s", kind="timeout")
    except SatelliteError as failure:
        error = failure
    except Exception as failure:  # the engine seam: whatever broke one stage, the others serve
        _LOGGER.exception("%s has failed to be warmed up", name)
        error = STAGE_ERRORS[stage](in_words(failure), kind="failed")
    else:
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


async def _transcribe(stages: Stages, pcm: bytes) -> None:
    config = stages.config
    recorder = Recorder(stages.engines.vad.engine, threshold=config.vad.threshold, max_seconds=PART_SECONDS)
    await recorder.feed(pcm)
    await stages.transcribe(recorder)


async def _speak(stages: Stages) -> None:
    await stages.phrase(Phrase.UNAVAILABLE, await stages.speaker(VoiceChoice()))
