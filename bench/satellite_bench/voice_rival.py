"""The other side of the voice part: the official servers, driven as Home Assistant 2026.11 drives them.

`assist_pipeline` streams what the microphone records to the speech to text, 10 ms at a time, until its own voice
activity detection takes the command for complete; asks the conversation agent; and hands the answer to the text to
speech while it is being written once it is longer than 60 characters, else when it is whole (`pipeline.py`,
`STREAM_RESPONSE_CHARS`). The events are those of the integration `wyoming` (`stt.py`, `tts.py`). A satellite between
them is left out, which can only be in their favour.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop

from satellite.audio.pcm import CANONICAL, RATE, WIDTH
from satellite.errors import SatelliteError
from satellite_bench.chat_bare import Bare
from satellite_bench.microvad import WINDOW_SECONDS, MicroVad, Segmenter
from satellite_bench.server import Server, connected, receive
from satellite_bench.splicing import Spliced
from satellite_bench.tts import Playback
from satellite_bench.voice import Turn, turn_of

_STREAM_CHARACTERS = 60
_CHUNK_BYTES = int(WINDOW_SECONDS * RATE) * WIDTH
_TURN_SECONDS = 40.0
_FORMAT = {"rate": CANONICAL.rate, "width": CANONICAL.width, "channels": CANONICAL.channels}


@dataclass(frozen=True, slots=True)
class HomeAssistant:
    """One pipeline: a microphone, two servers, and a chat server with the same requests as ours."""

    stt: Server
    tts: Server
    chat: Bare
    vad: MicroVad
    language: str = "en"

    async def turn(self, recording: Spliced) -> Turn:
        """Play the recording, and return its turn; the rest of the answer is not waited for."""
        return await _Turn(recording, self).run()


class _Turn:
    def __init__(self, recording: Spliced, pipeline: HomeAssistant) -> None:
        self._recording = recording
        self._pipeline = pipeline
        self._began = 0.0
        self._endpoint_at: float | None = None
        self._transcript_at: float | None = None
        self._answer_at: float | None = None
        self._playback = Playback()
        self._answer = ""
        self._words = ""

    async def run(self) -> Turn:
        error = ""
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                self._words = await self._transcribed()
                if self._words:
                    await self._answered()
        except TimeoutError:
            error = f"no answer within {_TURN_SECONDS:g} s"
        except SatelliteError as failed:
            error = str(failed)
        return self._told(error or ("" if self._words else "no words were understood"))

    async def _transcribed(self) -> str:
        async with connected(self._pipeline.stt.port) as client:
            await client.write_event(Transcribe(language=self._pipeline.language).event())
            await client.write_event(AudioStart(**_FORMAT).event())
            async with aclosing(self._command()) as command:
                async for window in command:
                    await client.write_event(AudioChunk(audio=window, **_FORMAT).event())
            self._endpoint_at = time.monotonic()
            await client.write_event(AudioStop().event())
            while (event := await receive(client)).type != "transcript":
                pass
        self._transcript_at = time.monotonic()
        return Transcript.from_event(event).text.strip()

    async def _command(self) -> AsyncGenerator[bytes, None]:
        """Yield what is recorded as long as the command lasts, at a microphone's pace."""
        segmenter = Segmenter()
        self._pipeline.vad.begin()
        pcm = self._recording.pcm
        tone = pcm[-(RATE * WIDTH) :]
        self._began = time.monotonic()
        number = 0
        while True:
            at = number * _CHUNK_BYTES
            window = pcm[at : at + _CHUNK_BYTES] if at + _CHUNK_BYTES <= len(pcm) else tone[:_CHUNK_BYTES]
            number += 1
            await asyncio.sleep(max(0.0, self._began + number * WINDOW_SECONDS - time.monotonic()))
            if segmenter.feed(await self._pipeline.vad.feed(window)):
                return
            yield window

    async def _answered(self) -> None:
        """Ask, and return once the answer is heard, or over."""
        async with connected(self._pipeline.tts.port) as client:
            asking = asyncio.create_task(self._ask(client))
            hearing = asyncio.create_task(self._hear(client))
            try:
                await asyncio.wait([asking, hearing], return_when=asyncio.FIRST_COMPLETED)
                if not hearing.done():
                    asking.result()
                await hearing
            finally:
                for task in (asking, hearing):
                    task.cancel()
                await asyncio.gather(asking, hearing, return_exceptions=True)

    async def _ask(self, client: AsyncTcpClient) -> None:
        """Hand the answer on, its beginning once it is long enough."""
        streaming = False
        async with aclosing(self._pipeline.chat.deltas(self._words)) as deltas:
            async for delta in deltas:
                self._answer += delta
                if streaming:
                    await client.write_event(SynthesizeChunk(text=delta).event())
                elif len(self._answer) > _STREAM_CHARACTERS:
                    streaming = True
                    await client.write_event(SynthesizeStart().event())
                    await client.write_event(SynthesizeChunk(text=self._answer).event())
        self._answer_at = time.monotonic()
        if not streaming:
            await client.write_event(SynthesizeStart().event())
            await client.write_event(SynthesizeChunk(text=self._answer).event())
        await client.write_event(Synthesize(text=self._answer).event())
        await client.write_event(SynthesizeStop().event())

    async def _hear(self, client: AsyncTcpClient) -> None:
        while (event := await receive(client)).type != "synthesize-stopped":
            if event.type == "audio-chunk":
                self._playback.take(AudioChunk.from_event(event), 1000 * time.monotonic())
                if self._playback.first_audible_ms is not None:
                    return

    def _told(self, error: str) -> Turn:
        spoken_ms = 1000 * (self._began + self._recording.speech_end_seconds)
        moments = self._endpoint_at, self._transcript_at, self._answer_at
        return turn_of(self._recording, spoken_ms, moments, self._playback, words=self._words, error=error)
