"""Text to speech for a client: `synthesize`, whole or as a stream of text."""

from contextlib import aclosing

from wyoming.audio import AudioStart, AudioStop
from wyoming.tts import SynthesizeStopped, SynthesizeVoice

from satellite.engines.protocols import VoiceChoice
from satellite.errors import StageError
from satellite.pipeline.stages import Stages
from satellite.pipeline.text_buffer import TextBuffer
from satellite.services.peer import Peer
from satellite.wire.run_events import audio_chunks

_NOTHING_SECONDS = 0.1
"""Silence that is sent where there is nothing to say: a player takes sound without length for a broken file."""


async def speak(
    peer: Peer, stages: Stages, text: str | TextBuffer, voice: SynthesizeVoice | None, *, streaming: bool
) -> None:
    """Send the sound of `text`: one `audio-start`, chunks as each piece is ready, one `audio-stop`.

    Markup, SSML like HTML, is never read aloud. A streaming request always ends with `synthesize-stopped`, also after
    an `error`.
    """
    started = sounded = False
    try:
        speaker = await stages.speaker(_choice(voice))
        format_ = speaker.format
        async with aclosing(stages.speak(text, speaker)) as sound:
            # Sent before the first sound is made: a client prepares its player meanwhile.
            await peer.send(AudioStart(rate=format_.rate, width=format_.width, channels=format_.channels))
            started = True
            async for piece in sound:
                for chunk in audio_chunks(format_, piece.pcm):
                    await peer.send(chunk)
                    sounded = True
            if not sounded:
                for chunk in audio_chunks(format_, bytes(round(_NOTHING_SECONDS * format_.rate) * format_.frame_bytes)):
                    await peer.send(chunk)
    except StageError as error:
        await peer.fail(error)
    if started:
        await peer.send(AudioStop())
    if streaming:
        await peer.send(SynthesizeStopped())


def _choice(voice: SynthesizeVoice | None) -> VoiceChoice:
    if voice is None:
        return VoiceChoice()
    return VoiceChoice(voice.name, voice.language, voice.speaker, strict=True)
