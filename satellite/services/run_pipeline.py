"""A whole run for a client that dials in: `run-pipeline`, its audio, and every step back as it happens."""

import asyncio

from wyoming.audio import AudioStart, AudioStop
from wyoming.pipeline import RunPipeline

from satellite.errors import STAGE_ERRORS, Stage
from satellite.events import RunBus, RunEvent, RunFailed, SttVadEnd, TtsEnd, TtsStart
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import RunRequest, Speech
from satellite.pipeline.run import Run
from satellite.pipeline.stages import Stages
from satellite.services.peer import Listener, Peer
from satellite.tasks import begin_task, end_tasks
from satellite.wire.run_events import STAGES, audio_chunks, wyoming_events


class RunListener(Listener):
    """`run-pipeline`: one run after the other while `restart_on_end`, over this connection."""

    def __init__(self, peer: Peer, stages: Stages, bus: RunBus, request: RunPipeline) -> None:
        self._peer = peer
        self._stages = stages
        self._bus = bus
        self._request = request
        self._inbox = AudioInbox()
        self._needs_audio = True
        """Whether the current run still needs audio of the room."""

        self._sounding = False
        start = STAGES[request.start_stage]
        limit = stages.config.wyoming.max_text_characters
        if len(request.announce_text or "") > limit:
            raise STAGE_ERRORS[start](f"a text of more than {limit} characters is too long", kind="too-long")
        self._task = begin_task(self._run(), f"run {peer.name}")

    async def start(self) -> None:
        """Audio may come with or without `audio-start`."""

    async def feed(self, pcm: bytes, timestamp_ms: int | None) -> None:
        """Queue the room's audio for the run."""
        await self._inbox.put(pcm)

    async def stop(self) -> None:
        """The room's audio is over; the run goes on with what it has."""
        self._needs_audio = False
        self._inbox.end()

    async def finish(self) -> None:
        """Complete a run that has all of its audio; one in the middle of a command would act on half of it."""
        if not self._needs_audio:
            # Without an end, a run that restarts would wait for audio for ever.
            self._inbox.end()
            await asyncio.wait((self._task,))

    async def close(self) -> None:
        """Cancel the run, if it has not ended."""
        await end_tasks(self._task)

    async def _run(self) -> None:
        try:
            error = await self._peer.attempt(self._run_and_repeat())
        except ConnectionError:
            self._peer.abort()
            return
        if error is not None:  # a client that does not read, or gets neither an answer nor an error
            self._peer.abort()

    async def _run_and_repeat(self) -> None:
        succeeded = True
        # A run that failed is not repeated: with a broken stage this would never stop.
        while succeeded:
            request = self._run_request()
            self._needs_audio = request.start in (Stage.WAKE, Stage.STT) and not self._inbox.ended
            self._sounding = False
            run = Run(self._stages, self._bus, request, self._emit)
            succeeded = await run.execute(self._inbox)
            if not self._request.restart_on_end or self._inbox.ended:
                break
        self._inbox.end()

    async def _emit(self, step: RunEvent | Speech) -> None:
        """Send what `step` means to a Wyoming satellite; steps without a Wyoming event are not sent."""
        if isinstance(step, Speech):
            for chunk in audio_chunks(step.format, step.pcm):
                await self._peer.send(chunk)
            return
        events = wyoming_events(step)
        match step:
            case SttVadEnd():
                self._needs_audio = False
            case TtsStart():
                self._sounding = True
                events = [AudioStart(rate=step.rate, width=2, channels=1)]
            case TtsEnd():
                self._sounding = False
                events = [AudioStop()]
            # A satellite plays until `audio-stop`: after a failure in the middle of the sound it has to come first.
            case RunFailed() if self._sounding:
                events = [AudioStop(), *events]
        if events:
            await self._peer.send(*events)

    def _run_request(self) -> RunRequest:
        request = self._request
        names = request.wake_word_names
        return RunRequest(
            room=self._peer.name,
            start=STAGES[request.start_stage],
            end=STAGES[request.end_stage],
            wake_words=tuple(names) if names else None,
            text=request.announce_text or "",
        )
