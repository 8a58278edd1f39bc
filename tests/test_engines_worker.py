"""One thread an engine: order, bounds, cancellation, and foreign errors that become ours."""

import asyncio
import threading

import pytest

from satellite.engines.slot import Slot
from satellite.engines.worker import Worker
from satellite.errors import ModelError, SpeechToTextError, Stage, TextToSpeechError


def test_calls_run_one_at_a_time_in_order() -> None:
    """All calls see the same thread, first come first served, and return their own results."""

    async def scenario() -> None:
        worker = Worker(Stage.STT)
        threads: list[int] = []

        def call(number: int) -> int:
            threads.append(threading.get_ident())
            return number

        assert await asyncio.gather(*(worker.run(call, n) for n in range(10))) == list(range(10))
        assert len(set(threads)) == 1
        assert threads[0] != threading.get_ident()
        worker.close()

    asyncio.run(scenario())


def test_a_full_queue_says_so() -> None:
    """Past the bound a call fails at once with the stage's `busy`; later ones are served again."""

    async def scenario() -> None:
        worker = Worker(Stage.TTS, queue_size=2)
        release = threading.Event()
        blocked = [asyncio.create_task(worker.run(release.wait, 10)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TextToSpeechError) as caught:
            await worker.run(lambda: None)
        assert caught.value.code == "tts-busy"
        release.set()
        assert await asyncio.gather(*blocked) == [True] * 3
        await asyncio.sleep(0)
        assert await worker.run(lambda: 7) == 7
        worker.close()

    asyncio.run(scenario())


def test_a_cancelled_call_that_waits_never_runs() -> None:
    """Cancelling gives the place in the queue back; the call that is running ends by itself."""

    async def scenario() -> None:
        worker = Worker(Stage.STT, queue_size=1)
        release, ran = threading.Event(), threading.Event()
        first = asyncio.create_task(worker.run(release.wait, 10))
        second = asyncio.create_task(worker.run(ran.set))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        release.set()
        assert await worker.run(lambda: "next") == "next"
        assert not ran.is_set()
        while worker.pending:
            await asyncio.sleep(0)
        worker.close()

    asyncio.run(scenario())


def test_foreign_errors_become_the_stages_own() -> None:
    """A library's exception is mapped and kept as the cause; our own pass unchanged."""

    async def scenario() -> None:
        worker = Worker(Stage.STT)
        with pytest.raises(SpeechToTextError, match="division") as caught:
            await worker.run(lambda: 1 / 0)
        assert caught.value.code == "stt-failed"
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

        def ours() -> None:
            raise SpeechToTextError("known", kind="not-ready")

        with pytest.raises(SpeechToTextError) as caught:
            await worker.run(ours)
        assert caught.value.code == "stt-not-ready"
        worker.close()
        worker.close()
        with pytest.raises(SpeechToTextError):
            await worker.run(lambda: None)

    asyncio.run(scenario())


def test_a_running_call_is_visible_from_outside() -> None:
    """`busy_since` tells when the running call began, and nothing when there is none."""

    async def scenario() -> None:
        worker = Worker(Stage.STT)
        began, release = threading.Event(), threading.Event()

        def call() -> None:
            began.set()
            release.wait(10)

        running = asyncio.create_task(worker.run(call))
        while not began.is_set():
            await asyncio.sleep(0)
        assert worker.busy_since is not None
        release.set()
        await running
        assert worker.busy_since is None
        worker.close()

    asyncio.run(scenario())


def test_a_slot_is_waited_for() -> None:
    """Who needs an engine that is loading gets it when it is there, or an error by the deadline."""

    async def scenario() -> None:
        slot = Slot(Stage.TTS, "engine")
        assert not slot.ready
        with pytest.raises(TextToSpeechError, match="loading") as caught:
            await slot.get(0.01)
        assert caught.value.code == "tts-not-ready"
        waiting = asyncio.create_task(slot.get(10))
        await asyncio.sleep(0)
        slot.settle()
        assert await waiting == "engine"
        assert slot.ready

    asyncio.run(scenario())


def test_a_failed_slot_says_why() -> None:
    """The reason for which an engine could not load reaches everyone who asks for it."""

    async def scenario() -> None:
        slot = Slot(Stage.STT, "engine")
        slot.settle(ModelError("get it with: satellite models pull stt/tiny.en"))
        assert not slot.ready
        with pytest.raises(SpeechToTextError, match="satellite models pull"):
            await slot.get(10)

    asyncio.run(scenario())
