"""Text in, audio out: `synthesize`, whole or as a stream of text."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from wyoming.audio import AudioStart, AudioStop
from wyoming.tts import SynthesizeStopped, SynthesizeVoice

from satellite.engines.protocols import VoiceChoice
from satellite.errors import StageError, TextToSpeechError
from satellite.pipeline.stages import Stages
from satellite.services.peer import Peer
from satellite.wire.run_events import audio_chunks

_NOTHING_SECONDS = 0.1
"""Silence that is sent where there is nothing to say."""

_TEXT_WAIT_SECONDS = 60.0
"""How long a client may take for the next piece of text; a chat model on its side may be slow."""


class TextStream:
    """Text as it arrives from the client, bounded in characters."""

    def __init__(self, max_characters: int) -> None:
        self._left = max_characters
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()  # bounded by the characters
        self._ended = self._too_long = False

    def add(self, text: str) -> None:
        """Add `text`; what exceeds the limit fails the stream when it is reached, and all behind it is ignored."""
        if self._ended:
            return
        self._left -= max(len(text), 1)
        if self._left < 0:
            self._too_long = True
            self.end()
        else:
            self._pieces.put_nowait(text)

    def end(self) -> None:
        """No more text follows; may be called twice."""
        if not self._ended:
            self._ended = True
            self._pieces.put_nowait(None)

    async def texts(self) -> AsyncGenerator[str, None]:
        """Yield the text piece by piece. Raises `TextToSpeechError` when it is too long or stops coming."""
        while True:
            try:
                async with asyncio.timeout(_TEXT_WAIT_SECONDS):
                    text = await self._pieces.get()
            except TimeoutError as late:
                raise TextToSpeechError("no more text came; synthesize-stop is missing", kind="timeout") from late
            if text is None:
                break
            yield text
        if self._too_long:
            raise TextToSpeechError("the text is too long", kind="too-long")


async def speak(
    peer: Peer,
    stages: Stages,
    stream: TextStream,
    voice: SynthesizeVoice | None,
    text_format: object,
    *,
    streaming: bool,
) -> None:
    """Send the sound of `stream`: one `audio-start`, chunks as each piece is ready, one `audio-stop`.

    `text_format` needs no treatment of its own: markup is never read aloud, SSML no more than HTML. Text without a
    word is a moment of silence: a player takes sound without length for a broken file. A streaming request always ends
    with `synthesize-stopped`, also behind an `error`.
    """
    del text_format
    started = sounded = False
    try:
        speaker = await stages.speaker(_choice(voice))
        format_ = speaker.format
        async with aclosing(stages.speak(stream.texts(), speaker)) as sound:
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
